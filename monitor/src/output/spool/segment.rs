//! A segment: one file of entries of one run, whose name tells what is inside.
//!
//! The name holds the index and the sequence of the first entry and the run, so that a file whose beginning is damaged still
//! has its place, and opening a spool reads nothing but names and the last segment.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use uuid::Uuid;

const SUFFIX: &str = ".seg";

/// What a segment's name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Index of its first entry.
    pub index: u64,
    /// The sequence that its first finding has at least.
    pub sequence: u64,
    /// The run that wrote it.
    pub epoch: Uuid,
}

impl Name {
    /// The file's name.
    pub fn file_name(&self) -> String {
        format!("{:020}-{}-{}{SUFFIX}", self.index, self.sequence, self.epoch.as_hyphenated())
    }

    /// Reads a file's name; `None` if it is not that of a segment.
    pub fn parse(name: &str) -> Option<Name> {
        let (index, rest) = name.strip_suffix(SUFFIX)?.split_once('-')?;
        let (sequence, epoch) = rest.split_once('-')?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        Some(Name { index: digits(index)?, sequence: digits(sequence)?, epoch: Uuid::try_parse(epoch).ok()? })
    }
}

/// A segment that readers may read.
#[derive(Debug)]
pub struct Segment {
    /// What its name tells.
    pub name: Name,
    /// Where it is.
    pub path: PathBuf,
    committed: AtomicU64,
}

impl Segment {
    /// With so many bytes that may be read.
    pub fn new(name: Name, path: PathBuf, bytes: u64) -> Self {
        Self { name, path, committed: AtomicU64::new(bytes) }
    }

    /// How many bytes may be read.
    pub fn bytes(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// So many may be read from now on.
    pub(super) fn commit(&self, bytes: u64) {
        self.committed.store(bytes, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_sort_by_index() {
        let name = |index| Name { index, sequence: 7, epoch: Uuid::from_u128(5) };
        assert_eq!(Name::parse(&name(12).file_name()), Some(name(12)));
        assert!(name(9).file_name() < name(10).file_name());
        for other in ["lock", "a.cursor", "1-2.seg", "1-2-3.seg", "+1-2-00000000-0000-0000-0000-000000000005.seg"] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }
}
