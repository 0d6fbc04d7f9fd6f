//! Container drift: a container runs what its image does not contain.
//!
//! The evidence is the kernel's: which layer of the overlay holds the program, whether a name leads to it at all. A program
//! need not be executed to run: the dynamic loader maps whatever it is asked to, so code that is mapped counts, too, and an
//! interpreter opens its script as any other file. Who wrote it comes from the write-opens that were seen. Whether a finding is due is for the rules to say.

pub mod baseline;
pub mod explain;
pub mod policy;

use monitor_ebpf::record::{
    FileFacts,
    file_flag::{self, OVERLAY_LOWER, OVERLAY_UPPER, OVERLAY_UPPER_DATA},
};

use crate::{
    event::{Body, Event, Exec, path::RawPath, schema::Code, syscall::Syscall},
    proto::v1::DriftKind,
    state::{
        State,
        digest::Digest,
        interpreter::{self, Told},
        writer::{FileKey, Writer},
    },
};

/// How an executed program differs from the image, and who wrote it.
#[derive(Clone, Copy, Debug)]
pub struct Drift<'a> {
    /// How.
    pub kind: DriftKind,
    /// The program, the library or the script; of what an interpreter reads from its standard input, the interpreter.
    pub file: &'a FileFacts,
    /// Its path.
    pub path: RawPath<'a>,
    /// Who opened it for writing last, if that was seen.
    pub writer: Option<&'a Writer>,
    /// What the file holds, if that was read in time.
    pub digest: Option<&'a Digest>,
}

impl Drift<'_> {
    /// SHA-256 of the file, if it is known.
    pub fn sha256(&self) -> Option<&[u8; 32]> {
        self.digest.and_then(Digest::sha256)
    }

    /// Why it is not known; empty where it is, or where nothing is read: a file that is not on an overlay, and the interpreter
    /// that reads its standard input.
    pub fn sha256_missing(&self) -> &'static str {
        match self.digest {
            Some(digest) => digest.missing(),
            None if self.file.flags & READ_IF == 0 => "",
            None => "the file was not read in time",
        }
    }
}

/// Files with one of these flags are read.
const READ_IF: u32 = OVERLAY_UPPER | file_flag::UNLINKED | file_flag::MEMFD;

/// A digest as people write it.
pub fn hexadecimal(sha256: &[u8; 32]) -> String {
    use std::fmt::Write as _;
    sha256.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Text takes whatever is written.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Looks at an event; only execs, mappings of code and the opening of scripts can drift.
pub fn detect<'a>(state: &'a State, event: &'a Event<'_>) -> Option<Drift<'a>> {
    let root = || state.containers.root(event.header.cgroup_id);
    let (kind, file, path) = match &event.body {
        Body::Exec(exec) => (classify_exec(state, event.header.cgroup_id, exec, root())?, &exec.file, exec.executable),
        Body::Call(call) => {
            let syscall = call.told.as_ref()?.syscall;
            let kind = match call.info.code {
                Code::SYSCALL_MMAP_X | Code::SYSCALL_MMAP2_X | Code::SYSCALL_MPROTECT_X => {
                    classify_mapping(syscall, root())
                }
                _ if state.is_script_opened() => classify_script(&syscall.record.file, root()),
                _ => None,
            };
            (kind?, &syscall.record.file, syscall.path)
        }
        _ => return None,
    };
    let digest = state.digests.get(file);
    let kind = match kind {
        // A file that was copied up because its mode or owner was changed has the image's content still.
        DriftKind::ModifiedExecutable | DriftKind::ModifiedLibrary | DriftKind::Script
            if digest.is_some_and(Digest::is_as_lower) =>
        {
            DriftKind::MetadataOnly
        }
        kind => kind,
    };
    let key = FileKey { dev: file.dev, ino: file.ino };
    Some(Drift { kind, file, path, writer: state.writers.get(key), digest })
}

/// The kind of drift of a program that begins.
fn classify_exec(state: &State, cgroup_id: u64, exec: &Exec<'_>, root: Option<u32>) -> Option<DriftKind> {
    let is_on_host = exec.task.mnt_ns == state.session.host_mnt_ns;
    classify(&exec.file, root.filter(|_| !is_on_host)).or_else(|| {
        let is_container = state.containers.get(cgroup_id).is_some();
        (is_container && reads_its_program(state, exec)).then_some(DriftKind::InterpreterStdin)
    })
}

/// Whether an interpreter begins that was given no script, and takes one from something that is no terminal.
fn reads_its_program(state: &State, exec: &Exec<'_>) -> bool {
    const S_IFMT: u32 = 0o170_000;
    const S_IFIFO: u32 = 0o010_000;
    const S_IFREG: u32 = 0o100_000;
    const S_IFSOCK: u32 = 0o140_000;
    exec.interpreter.is_empty()
        && matches!(exec.stdin_mode & S_IFMT, S_IFIFO | S_IFREG | S_IFSOCK)
        && state.thread().is_some_and(|thread| {
            interpreter::told(&thread.image.executable, thread.image.arguments()) == Some(Told::Stdin)
        })
}

/// The kind of drift that a script shows which its interpreter opens.
fn classify_script(file: &FileFacts, root: Option<u32>) -> Option<DriftKind> {
    match classify(file, root)? {
        DriftKind::FromVolume => Some(DriftKind::FromVolume),
        _ => Some(DriftKind::Script),
    }
}

/// The kind of drift that a mapping shows, if it maps code.
fn classify_mapping(syscall: &Syscall<'_>, root: Option<u32>) -> Option<DriftKind> {
    const PROTECTION: u8 = 2;
    const PROT_EXEC: u64 = 4;
    let maps_code = syscall.record.ret >= 0 && syscall.number(PROTECTION) & PROT_EXEC != 0;
    match classify(&syscall.record.file, root).filter(|_| maps_code)? {
        DriftKind::NewExecutable => Some(DriftKind::NewLibrary),
        DriftKind::ModifiedExecutable => Some(DriftKind::ModifiedLibrary),
        // Runtimes that compile as they run map memory files: no drift.
        _ => None,
    }
}

/// The kind of drift that a program's file shows. `root` is the device of the overlay that has the container's image, as far as
/// it is known.
pub fn classify(file: &FileFacts, root: Option<u32>) -> Option<DriftKind> {
    let has = |flag| file.flags & flag != 0;
    if has(file_flag::UNLINKED | file_flag::MEMFD) {
        return Some(DriftKind::Fileless);
    }
    let is_elsewhere = root.is_some_and(|root| root != file.dev);
    if !has(file_flag::OVERLAY) {
        return is_elsewhere.then_some(DriftKind::FromVolume);
    }
    // An overlay that was mounted in the container has what its maker likes as lower layers.
    if is_elsewhere {
        return Some(DriftKind::NewExecutable);
    }
    match ([OVERLAY_UPPER, OVERLAY_LOWER, OVERLAY_UPPER_DATA]).map(has) {
        [true, false, _] => Some(DriftKind::NewExecutable),
        [true, true, true] => Some(DriftKind::ModifiedExecutable),
        // The image's, or only the metadata was copied up (`metacopy=on`) and the content is still the image's.
        [false, ..] | [true, true, false] => None,
    }
}

/// The overlay layer that holds a file.
pub fn layer(file: &FileFacts) -> Option<&'static str> {
    match (file.flags & file_flag::OVERLAY != 0, file.flags & OVERLAY_UPPER != 0) {
        (true, true) => Some("upper"),
        (true, false) => Some("lower"),
        (false, _) => None,
    }
}

/// All kinds.
pub const KINDS: &[DriftKind] = &[
    DriftKind::NewExecutable,
    DriftKind::ModifiedExecutable,
    DriftKind::Fileless,
    DriftKind::NewLibrary,
    DriftKind::ModifiedLibrary,
    DriftKind::FromVolume,
    DriftKind::Script,
    DriftKind::InterpreterStdin,
    DriftKind::MetadataOnly,
];

/// The word for a kind in rules and output.
pub const fn kind_name(kind: DriftKind) -> &'static str {
    match kind {
        DriftKind::Unspecified => "unspecified",
        DriftKind::NewExecutable => "new_executable",
        DriftKind::ModifiedExecutable => "modified_executable",
        DriftKind::Fileless => "fileless",
        DriftKind::NewLibrary => "new_library",
        DriftKind::ModifiedLibrary => "modified_library",
        DriftKind::FromVolume => "from_volume",
        DriftKind::Script => "script",
        DriftKind::InterpreterStdin => "interpreter_stdin",
        DriftKind::MetadataOnly => "metadata_only",
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;
    use crate::{
        decode::decode,
        record::{self, builder},
        syscall::tell::{Room, tell},
    };
    use monitor_ebpf::record::digest_flag;

    fn kind(flags: u32) -> Option<DriftKind> {
        classify(&FileFacts { flags, ..FileFacts::new_zeroed() }, None)
    }

    #[test]
    fn layers_tell_new_from_modified_from_untouched() {
        use file_flag::{MEMFD, OVERLAY, UNLINKED};
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
    fn what_is_not_on_the_images_own_overlay_is_from_elsewhere() {
        let on = |flags, dev| classify(&FileFacts { flags, dev, ..FileFacts::new_zeroed() }, Some(7));
        assert_eq!(on(file_flag::OVERLAY | OVERLAY_LOWER, 7), None, "the image's");
        assert_eq!(on(file_flag::OVERLAY | OVERLAY_LOWER, 8), Some(DriftKind::NewExecutable), "an overlay of its own");
        assert_eq!(on(0, 8), Some(DriftKind::FromVolume));
        assert_eq!(on(file_flag::MEMFD | file_flag::UNLINKED, 8), Some(DriftKind::Fileless));
    }

    /// Kinds of drift that these records show, in order.
    fn kinds(records: &[Vec<u8>]) -> Vec<DriftKind> {
        let mut state = State::default();
        let mut kinds = Vec::new();
        for bytes in records {
            let event = decode(bytes).unwrap();
            let mut room = Room::default();
            let event = match &event.body {
                Body::Syscall(syscall) => {
                    let call = tell(syscall, 62, 0, 1, &mut room).unwrap();
                    Event { header: event.header, body: Body::Call(call) }
                }
                _ => event,
            };
            state.apply(&event);
            kinds.extend(detect(&state, &event).map(|drift| drift.kind));
        }
        kinds
    }

    fn upper(ino: u64) -> FileFacts {
        FileFacts { ino, flags: file_flag::OVERLAY | OVERLAY_UPPER, mode: 0o100_644, ..FileFacts::new_zeroed() }
    }

    fn read(tgid: u32, path: &str, file: FileFacts) -> Vec<u8> {
        builder::call(tgid, 257, &[-100, 0, 0], 3, |call| {
            (call.record.file, call.record.open_mode) = (file, 1);
            call.texts[0] = path.as_bytes();
            call.path = path.as_bytes();
        })
    }

    #[test]
    fn a_script_is_told_once_and_so_is_no_other_file_that_its_interpreter_opens() {
        let sh = |args: &[&str]| builder::exec(5, 1, "/bin/sh", args);
        let script = || read(5, "/tmp/x", upper(9));
        assert_eq!(kinds(&[sh(&["sh", "/tmp/x"]), script(), script()]), [DriftKind::Script]);
        assert_eq!(kinds(&[sh(&["sh", "-c", "cat /tmp/x", "/tmp/x"]), script()]), []);
        assert_eq!(kinds(&[sh(&["sh", "/opt/y", "/tmp/x"]), script()]), [], "an argument of the script");
        assert_eq!(kinds(&[sh(&["sh", "/tmp/x"]), builder::open(5, "/tmp/x", upper(9))]), [], "written");
        let of_image = FileFacts { flags: file_flag::OVERLAY | OVERLAY_LOWER, ..upper(9) };
        assert_eq!(kinds(&[sh(&["sh", "/tmp/x"]), read(5, "/tmp/x", of_image)]), []);
    }

    #[test]
    fn a_copy_with_the_content_of_the_image_is_no_alarm() {
        let copy = FileFacts { flags: upper(9).flags | OVERLAY_LOWER | OVERLAY_UPPER_DATA, ctime_ns: 5, ..upper(9) };
        let run = builder::exec_with(6, 5, "/opt/x", &["x"], |record| record.file = copy);
        let header = decode(&run).unwrap().header;
        let digest = |flags, file| record::digest(1, &header, &file, digest_flag::READ | flags, [1; 32]);
        let same = digest_flag::SAME_AS_LOWER;
        assert_eq!(kinds(std::slice::from_ref(&run)), [DriftKind::ModifiedExecutable]);
        assert_eq!(kinds(&[digest(same, copy), run.clone()]), [DriftKind::MetadataOnly]);
        let differs = digest(digest_flag::DIFFERS_FROM_LOWER, copy);
        assert_eq!(kinds(&[differs, run.clone()]), [DriftKind::ModifiedExecutable]);
        let before = digest(same, FileFacts { ctime_ns: 4, ..copy });
        assert_eq!(kinds(&[before, run]), [DriftKind::ModifiedExecutable], "it changed since it was read");
    }

    #[test]
    fn the_writer_is_found_by_the_file_not_by_its_name() {
        let file = FileFacts { ino: 9, dev: 4, flags: file_flag::OVERLAY | OVERLAY_UPPER, ..FileFacts::new_zeroed() };
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
