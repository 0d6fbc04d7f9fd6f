//! What files hold that may have drifted, as the sensor read them.

use std::collections::VecDeque;

use hashbrown::HashMap;
use monitor_ebpf::record::{DigestRecord, FileFacts, digest_flag};

/// Files remembered; the oldest is forgotten first.
const MAX_FILES: usize = 16_384;

/// Device, inode number and last change of the inode: while none of them changes, neither does the content.
type Content = (u32, u64, u64);

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Bits of [`digest_flag`].
    pub flags: u32,
    /// SHA-256.
    pub sha256: [u8; 32],
}

impl Digest {
    /// The digest, where the file was read.
    pub fn sha256(&self) -> Option<&[u8; 32]> {
        (self.flags & digest_flag::READ != 0).then_some(&self.sha256)
    }

    /// Whether a copy of an image's file has the image's content.
    pub const fn is_as_lower(&self) -> bool {
        self.flags & digest_flag::SAME_AS_LOWER != 0
    }

    /// Why there is no digest; empty where there is one.
    pub const fn missing(&self) -> &'static str {
        match self.flags {
            flags if flags & digest_flag::READ != 0 => "",
            flags if flags & digest_flag::TOO_LARGE != 0 => "the file is larger than what is read",
            _ => "the file could not be read, or had changed",
        }
    }
}

/// The table.
#[derive(Debug, Default)]
pub struct Digests {
    by_content: HashMap<Content, Digest>,
    /// Oldest first.
    order: VecDeque<Content>,
}

impl Digests {
    /// What a file holds, if it was read and has not changed since.
    pub fn get(&self, file: &FileFacts) -> Option<&Digest> {
        self.by_content.get(&(file.dev, file.ino, file.ctime_ns))
    }

    pub(super) fn insert(&mut self, record: &DigestRecord) {
        let content = (record.dev, record.ino, record.ctime_ns);
        let digest = Digest { flags: record.flags, sha256: record.sha256 };
        if self.by_content.insert(content, digest).is_none() {
            self.order.push_back(content);
        }
        if self.order.len() > MAX_FILES
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_content.remove(&oldest);
        }
    }
}
