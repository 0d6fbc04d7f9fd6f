//! Files of this process stand for those of a container.
use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use monitor_ebpf::record::{FileFacts, digest_flag};
use zerocopy::FromZeros as _;

use super::*;
use crate::{drift::hexadecimal, record::builder};

/// Facts of a file as the kernel would tell them of one in an overlay's upper layer.
fn facts(path: &Path) -> FileFacts {
    let metadata = fs::metadata(path).unwrap();
    let ns = |seconds: i64, rest: i64| u64::try_from(seconds * 1_000_000_000 + rest).unwrap();
    FileFacts {
        ino: metadata.ino(),
        dev: 7,
        size_bytes: metadata.len(),
        ctime_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
        flags: file_flag::OVERLAY | file_flag::OVERLAY_UPPER,
        mode: metadata.mode(),
        ..FileFacts::new_zeroed()
    }
}

fn exec(path: &Path, file: FileFacts) -> Vec<u8> {
    builder::exec_with(std::process::id(), 1, path.to_str().unwrap(), &["x"], |record| record.file = file)
}

/// What comes in front of a record, waited for.
fn before(digests: &mut Digests, record: &[u8]) -> Vec<(u32, String)> {
    let mut records = Vec::new();
    digests.before(record, &mut |record| records.push(record.to_vec()));
    while digests.due > 0 {
        records.push(digests.answers.recv().unwrap());
        digests.due -= 1;
    }
    let digest = |record: Vec<u8>| match decode(&record).unwrap().body {
        Body::Digest(digest) => (digest.flags, hexadecimal(&digest.sha256)),
        body => panic!("{body:?}"),
    };
    records.into_iter().map(digest).collect()
}

const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

#[test]
fn a_file_is_read_once_while_it_does_not_change() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "abc").unwrap();
    let mut digests = Digests::start("/".into()).unwrap();
    let record = exec(&path, facts(&path));
    assert_eq!(before(&mut digests, &record), [(digest_flag::READ, ABC.to_owned())]);
    assert_eq!(before(&mut digests, &record), []);
    fs::write(&path, "abcd").unwrap();
    assert_eq!(before(&mut digests, &exec(&path, facts(&path))).len(), 1, "another content");
}

#[test]
fn what_is_not_the_file_that_was_told_of_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "abc").unwrap();
    let mut digests = Digests::start("/".into()).unwrap();
    let told = facts(&path);
    let empty = "0".repeat(64);
    for changed in [
        FileFacts { ctime_ns: 1, ..told },
        FileFacts { mtime_ns: 1, ino: 1, ..told },
        FileFacts { size_bytes: 2, ino: 2, ..told },
    ] {
        assert_eq!(before(&mut digests, &exec(&path, changed)), [(0, empty.clone())]);
    }
    let large = FileFacts { size_bytes: 1 << 40, ino: 3, ..told };
    assert_eq!(before(&mut digests, &exec(&path, large)), [(digest_flag::TOO_LARGE, empty)]);
    assert_eq!(before(&mut digests, &exec(&path, FileFacts { flags: file_flag::OVERLAY, ..told })), [], "the image's");
}

#[test]
fn of_calls_only_code_and_what_may_be_a_script_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "abc").unwrap();
    let mut digests = Digests::start("/".into()).unwrap();
    let (mut file, pid) = (facts(&path), std::process::id());
    let interpreter = FileFacts { flags: file_flag::OVERLAY, ..FileFacts::new_zeroed() };
    let mut call = |digests: &mut Digests, nr, args: &[i64], mode| {
        file.ctime_ns += 1;
        let record = builder::call(pid, nr, args, 3, |call| {
            (call.record.file, call.record.open_mode) = (file, mode);
            call.path = path.to_str().unwrap().as_bytes();
        });
        before(digests, &record).len()
    };
    assert_eq!(call(&mut digests, 257, &[-100, 0, 0], 1), 0, "its program did not begin lately");
    before(&mut digests, &exec(Path::new("/bin/sh"), interpreter));
    assert_eq!(call(&mut digests, 257, &[-100, 0, 0], 1), 1, "perhaps a script");
    assert_eq!(call(&mut digests, 257, &[-100, 0, 1], 2), 0, "written");
    assert_eq!(call(&mut digests, 9, &[0, 4096, 5, 2], 1), 1, "code");
    assert_eq!(call(&mut digests, 9, &[0, 4096, 1, 2], 1), 0, "data");
    let opens = (0..2 * SCRIPT_OPENS).map(|_| call(&mut digests, 257, &[-100, 0, 0], 1)).sum::<usize>();
    assert_eq!(opens, usize::from(SCRIPT_OPENS) - 1);
}
