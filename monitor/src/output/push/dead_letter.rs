//! Findings that a sink refused for good, as JSON lines with the reason, in a file that cannot grow without end.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use prost::Message as _;
use serde::Serialize;

use super::super::spool::reader::Entry;
use crate::{finding::write_json_line, proto::v1::Finding};

/// At this length the file becomes `NAME.1`, in the place of the one before.
const MAX_BYTES: u64 = 8 << 20;

/// The file.
#[derive(Debug)]
pub(super) struct DeadLetters {
    path: PathBuf,
}

#[derive(Serialize)]
struct Letter<'a> {
    code: i32,
    reason: &'a str,
    epoch: String,
    finding: Finding,
}

impl DeadLetters {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Keeps a finding.
    pub(super) fn keep(&self, entry: &Entry, code: i32, reason: &str) -> io::Result<()> {
        let finding = Finding::decode(entry.payload.clone()).unwrap_or_default();
        let mut line = Vec::new();
        write_json_line(&Letter { code, reason, epoch: entry.epoch.to_string(), finding }, &mut line)?;
        if fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() + line.len() as u64 > MAX_BYTES) {
            fs::rename(&self.path, older(&self.path))?;
        }
        let mut file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        file.write_all(&line)
    }
}

fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{sample, spool::frame::Kind};

    #[test]
    fn letters_are_lines_and_the_file_stays_within_its_bound() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.rejected.jsonl");
        let letters = DeadLetters::new(path.clone());
        let finding = Finding { message: "x".repeat(1 << 20), ..sample::drift(1) };
        let payload = finding.encode_to_vec().into();
        let entry = Entry { kind: Kind::FINDING, epoch: uuid::Uuid::nil(), index: 1, sequence: 1, payload };
        for _ in 0..20 {
            letters.keep(&entry, 3, "no").unwrap();
        }
        let lines = fs::read_to_string(&path).unwrap();
        let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        assert_eq!((&last["code"], &last["finding"]["rule"]), (&3.into(), &"Drift Execution".into()));
        let bytes: u64 =
            fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes <= 2 * MAX_BYTES);
    }
}
