//! Reading a file: bounded, and only the very file that a record told of.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use monitor_ebpf::record::{FileFacts, digest_flag, file_flag};
use sha2::{Digest as _, Sha256};

use super::{
    Wanted,
    overlay::{self, MAX_MOUNTINFO_BYTES},
};
use crate::{record, sensor::ktime_ns};

/// Largest file that is read.
const MAX_BYTES: u64 = 64 << 20;
/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;
const NANOSECONDS: u64 = 1_000_000_000;

type Sum = [u8; 32];

/// What there is to say of a file, as a record.
pub(super) fn record(wanted: &Wanted, host_root: &Path) -> Vec<u8> {
    let (flags, sum) = digest(wanted, host_root);
    record::digest(ktime_ns(), &wanted.header, &wanted.file, flags, sum)
}

fn digest(wanted: &Wanted, host_root: &Path) -> (u32, Sum) {
    const COPY: u32 = file_flag::OVERLAY_UPPER | file_flag::OVERLAY_LOWER | file_flag::OVERLAY_UPPER_DATA;
    if wanted.file.size_bytes > MAX_BYTES {
        return (digest_flag::TOO_LARGE, Sum::default());
    }
    let Some(sum) = opened(wanted).and_then(|file| sum(file, wanted.file.size_bytes)) else {
        return (0, Sum::default());
    };
    if wanted.file.flags & COPY != COPY || wanted.file.flags & file_flag::UNLINKED != 0 {
        return (digest_flag::READ, sum);
    }
    let compared = match is_as_lower(wanted, host_root, &sum) {
        Some(true) => digest_flag::SAME_AS_LOWER,
        Some(false) => digest_flag::DIFFERS_FROM_LOWER,
        None => 0,
    };
    (digest_flag::READ | compared, sum)
}

/// The processes in whose view the file may be found: its own, or its parent where that has ended already.
fn processes(wanted: &Wanted) -> impl Iterator<Item = PathBuf> {
    [wanted.header.tgid, wanted.parent].into_iter().filter(|pid| *pid != 0).map(|pid| format!("/proc/{pid}").into())
}

/// The file, by the kernel's own link to it, which needs no name, or by its name.
fn opened(wanted: &Wanted) -> Option<File> {
    let of_program = || {
        let link = format!("/proc/{}/exe", wanted.header.tgid);
        File::options().read(true).custom_flags(libc::O_NONBLOCK).open(link).ok()
    };
    let by_name = || {
        let path = wanted.path.strip_prefix(b"/").unwrap_or(&wanted.path);
        let in_root = |process: PathBuf| overlay::open_in(&process.join("root"), path);
        processes(wanted).filter_map(in_root).find(|file| is(file, &wanted.file))
    };
    let program = if wanted.is_program { of_program() } else { None };
    program.filter(|file| is(file, &wanted.file)).or_else(by_name)
}

/// Whether it is the file, unchanged.
fn is(file: &File, facts: &FileFacts) -> bool {
    let Ok(metadata) = file.metadata() else { return false };
    let time = |seconds: i64, nanoseconds: i64| {
        let [seconds, nanoseconds] = [seconds, nanoseconds].map(|part| u64::try_from(part).unwrap_or(0));
        seconds.saturating_mul(NANOSECONDS).saturating_add(nanoseconds)
    };
    metadata.is_file()
        && metadata.len() == facts.size_bytes
        && time(metadata.mtime(), metadata.mtime_nsec()) == facts.mtime_ns
        && time(metadata.ctime(), metadata.ctime_nsec()) == facts.ctime_ns
}

/// SHA-256 of a file that has as many bytes as it should.
fn sum(mut file: File, size_bytes: u64) -> Option<Sum> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut left = size_bytes;
    loop {
        let read = file.read(&mut chunk).ok()?;
        if read == 0 {
            return (left == 0).then(|| hash.finalize().into());
        }
        left = left.checked_sub(u64::try_from(read).ok()?)?;
        hash.update(chunk.get(..read)?);
    }
}

/// Whether the image's file of this name has the same content; `None` where it cannot be found.
fn is_as_lower(wanted: &Wanted, host_root: &Path, sum: &Sum) -> Option<bool> {
    let mountinfo = processes(wanted).find_map(|process| {
        let mut text = Vec::new();
        let file = File::open(process.join("mountinfo")).ok()?;
        file.take(MAX_MOUNTINFO_BYTES).read_to_end(&mut text).ok()?;
        (!text.is_empty()).then_some(text)
    })?;
    let overlay = overlay::find(&mountinfo, wanted.file.dev)?;
    // Where the agent has a mount namespace of its own, the node's is that of its first process.
    let node = Path::new("/proc/1/root");
    let root = if host_root == Path::new("/") && fs::read_dir(node).is_ok() { node } else { host_root };
    let lower = overlay.lower(root, &wanted.path)?;
    let size_bytes = lower.metadata().ok()?.len();
    Some(size_bytes == wanted.file.size_bytes && self::sum(lower, size_bytes)? == *sum)
}
