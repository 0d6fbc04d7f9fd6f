//! Container drift: a container runs what its image does not contain.
//!
//! The evidence is the kernel's: which layer of the overlay holds the program, whether a name leads to it at all. A program
//! need not be executed to run: the dynamic loader maps whatever it is asked to, so code that is mapped counts, too. Who wrote
//! it comes from the write-opens that were seen. Whether a finding is due is for the rules to say.

use monitor_ebpf::record::{FileFacts, file_flag};

use crate::{
    event::{Body, Event, path::RawPath, schema::Code, syscall::Syscall},
    proto::v1::DriftKind,
    state::{
        State,
        writer::{FileKey, Writer},
    },
};

/// How an executed program differs from the image, and who wrote it.
#[derive(Clone, Copy, Debug)]
pub struct Drift<'a> {
    /// How.
    pub kind: DriftKind,
    /// The program, or the library.
    pub file: &'a FileFacts,
    /// Its path.
    pub path: RawPath<'a>,
    /// Who opened it for writing last, if that was seen.
    pub writer: Option<&'a Writer>,
}

/// Looks at an event; only execs and mappings of code can drift.
pub fn detect<'a>(state: &'a State, event: &'a Event<'_>) -> Option<Drift<'a>> {
    let (kind, file, path) = match &event.body {
        Body::Exec(exec) => (classify(&exec.file)?, &exec.file, exec.executable),
        Body::Call(call) if matches!(call.info.code, Code::SYSCALL_MMAP_X | Code::SYSCALL_MMAP2_X) => {
            let syscall = call.told.as_ref()?.syscall;
            (classify_mapping(syscall)?, &syscall.record.file, syscall.path)
        }
        _ => return None,
    };
    let key = FileKey { dev: file.dev, ino: file.ino };
    Some(Drift { kind, file, path, writer: state.writers.get(key) })
}

/// The kind of drift that a mapping shows, if it maps code.
fn classify_mapping(syscall: &Syscall<'_>) -> Option<DriftKind> {
    const PROTECTION: u8 = 2;
    const PROT_EXEC: u64 = 4;
    let maps_code = syscall.record.ret > 0 && syscall.number(PROTECTION) & PROT_EXEC != 0;
    match classify(&syscall.record.file).filter(|_| maps_code)? {
        DriftKind::NewExecutable => Some(DriftKind::NewLibrary),
        DriftKind::ModifiedExecutable => Some(DriftKind::ModifiedLibrary),
        // Runtimes that compile as they run map memory files: no drift.
        _ => None,
    }
}

/// The kind of drift that a program's file shows.
pub fn classify(file: &FileFacts) -> Option<DriftKind> {
    let has = |flag| file.flags & flag != 0;
    if has(file_flag::UNLINKED | file_flag::MEMFD) {
        return Some(DriftKind::Fileless);
    }
    if !has(file_flag::OVERLAY_UPPER) {
        return None;
    }
    match (has(file_flag::OVERLAY_LOWER), has(file_flag::OVERLAY_UPPER_DATA)) {
        (false, _) => Some(DriftKind::NewExecutable),
        (true, true) => Some(DriftKind::ModifiedExecutable),
        // Only the metadata was copied up (`metacopy=on`): the content is still the image's.
        (true, false) => None,
    }
}

/// The overlay layer that holds a file.
pub fn layer(file: &FileFacts) -> Option<&'static str> {
    match (file.flags & file_flag::OVERLAY != 0, file.flags & file_flag::OVERLAY_UPPER != 0) {
        (true, true) => Some("upper"),
        (true, false) => Some("lower"),
        (false, _) => None,
    }
}

/// The word for a kind in rules and output.
pub const fn kind_name(kind: DriftKind) -> &'static str {
    match kind {
        DriftKind::Unspecified => "unspecified",
        DriftKind::NewExecutable => "new_executable",
        DriftKind::ModifiedExecutable => "modified_executable",
        DriftKind::Fileless => "fileless",
        DriftKind::NewLibrary => "new_library",
        DriftKind::ModifiedLibrary => "modified_library",
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;
    use crate::{decode::decode, record::builder};

    fn kind(flags: u32) -> Option<DriftKind> {
        classify(&FileFacts { flags, ..FileFacts::new_zeroed() })
    }

    #[test]
    fn layers_tell_new_from_modified_from_untouched() {
        use file_flag::{MEMFD, OVERLAY, OVERLAY_LOWER, OVERLAY_UPPER, OVERLAY_UPPER_DATA, UNLINKED};
        assert_eq!(kind(0), None, "not on an overlay");
        assert_eq!(kind(OVERLAY | OVERLAY_LOWER), None, "an image file");
        assert_eq!(kind(OVERLAY | OVERLAY_UPPER | OVERLAY_UPPER_DATA), Some(DriftKind::NewExecutable));
        let copied_up = OVERLAY | OVERLAY_UPPER | OVERLAY_UPPER_DATA | OVERLAY_LOWER;
        assert_eq!(kind(copied_up), Some(DriftKind::ModifiedExecutable));
        assert_eq!(kind(OVERLAY | OVERLAY_UPPER | OVERLAY_LOWER), None, "only metadata copied up");
        assert_eq!(kind(MEMFD | UNLINKED), Some(DriftKind::Fileless));
        assert_eq!(kind(OVERLAY | OVERLAY_UPPER | UNLINKED), Some(DriftKind::Fileless), "deleted after it was written");
    }

    #[test]
    fn the_writer_is_found_by_the_file_not_by_its_name() {
        let file = FileFacts {
            ino: 9,
            dev: 4,
            flags: file_flag::OVERLAY | file_flag::OVERLAY_UPPER,
            ..FileFacts::new_zeroed()
        };
        let mut state = State::default();
        let written = builder::open(5, "/tmp/.x.tmp", file);
        state.apply(&decode(&builder::exec(5, 1, "/bin/cp", &["cp"])).unwrap());
        builder::apply(&mut state, &written);
        let run = builder::exec_with(6, 5, "/tmp/x", &["x"], |record| record.file = file);
        let drift = detect(&state, &decode(&run).unwrap()).map(|drift| {
            (drift.kind, drift.writer.map(|writer| String::from_utf8_lossy(writer.image.comm()).into_owned()))
        });
        assert_eq!(drift, Some((DriftKind::NewExecutable, Some("cp".into()))));
    }
}
