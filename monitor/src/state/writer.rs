//! Who opened a file for writing: the answer to "where does this program come from".
//!
//! Keyed by device and inode, so a rename between writing and executing changes nothing.

use std::{collections::VecDeque, net::IpAddr, sync::Arc};

use hashbrown::HashMap;

use super::{
    descriptor::Descriptor,
    thread::{Image, Thread, ThreadKey},
    threads::Threads,
};
use crate::event::{address::Ends, path::until_nul, syscall::Syscall};

/// Files remembered; the oldest is forgotten first.
const MAX_FILES: usize = 16_384;

/// Ancestors of a writer that are remembered.
const MAX_ANCESTORS: usize = 8;
/// Connections of a writer that are remembered.
const MAX_CONNECTIONS: usize = 8;
/// Descriptors of a writer that are looked at for them.
const MAX_DESCRIPTORS: usize = 256;

/// What makes a file one file, while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileKey {
    /// Device of the superblock.
    pub dev: u32,
    /// Inode number.
    pub ino: u64,
}

/// The last opener for writing.
#[derive(Clone, Debug)]
pub struct Writer {
    /// When.
    pub ktime_ns: u64,
    /// Which process.
    pub process: ThreadKey,
    /// Its id in its own pid namespace.
    pub vpid: u32,
    /// Its user.
    pub uid: u32,
    /// Command name of the thread that opened the file, which a shell that runs a builtin `cp` sets without any exec.
    pub comm: Vec<u8>,
    /// What it ran then.
    pub image: Arc<Image>,
    /// The path that it opened.
    pub path: Vec<u8>,
    /// Its ancestors then, the nearest first: process and program.
    pub ancestors: Vec<(ThreadKey, Arc<Image>)>,
    /// Internet connections that it had then, as far as they were seen.
    pub connections: Vec<Ends<IpAddr>>,
    /// Distinguishes this write from an earlier one of the same file in [`Writers::order`].
    serial: u64,
}

/// The table.
#[derive(Debug, Default)]
pub struct Writers {
    by_file: HashMap<FileKey, Writer>,
    /// Insertions, oldest first; an entry whose serial is not the file's any more is stale.
    order: VecDeque<(u64, FileKey)>,
    serial: u64,
}

impl Writers {
    /// Who wrote a file.
    pub fn get(&self, key: FileKey) -> Option<&Writer> {
        self.by_file.get(&key)
    }

    pub(super) fn insert(&mut self, ktime_ns: u64, threads: &Threads, process: &Thread, open: &Syscall<'_>) {
        let file = &open.record.file;
        let key = FileKey { dev: file.dev, ino: file.ino };
        self.serial += 1;
        let writer = Writer {
            ktime_ns,
            process: process.key,
            vpid: process.task.vpid,
            uid: process.uid,
            comm: until_nul(&open.record.comm).to_vec(),
            image: Arc::clone(&process.image),
            path: open.path.to_absolute(),
            ancestors: ancestors(threads, process),
            connections: connections(process),
            serial: self.serial,
        };
        self.by_file.insert(key, writer);
        self.order.push_back((self.serial, key));
        while self.order.len() > MAX_FILES {
            if let Some((serial, oldest)) = self.order.pop_front()
                && self.by_file.get(&oldest).is_some_and(|writer| writer.serial == serial)
            {
                self.by_file.remove(&oldest);
            }
        }
    }
}

fn ancestors(threads: &Threads, process: &Thread) -> Vec<(ThreadKey, Arc<Image>)> {
    let ancestors = threads.ancestors(process).take(MAX_ANCESTORS);
    ancestors.map(|ancestor| (ancestor.key, Arc::clone(&ancestor.image))).collect()
}

fn connections(process: &Thread) -> Vec<Ends<IpAddr>> {
    let descriptors = process.descriptors.iter().take(MAX_DESCRIPTORS).map(|(_, descriptor)| descriptor);
    let ends = descriptors.filter_map(Descriptor::ends).filter(|ends| ends.destination_port != 0);
    ends.take(MAX_CONNECTIONS).collect()
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;
    use crate::{record::builder, state::State};
    use monitor_ebpf::record::FileFacts;

    fn file(ino: u64) -> FileFacts {
        FileFacts { ino, dev: 1, ..FileFacts::new_zeroed() }
    }

    #[test]
    fn the_last_writer_is_known_after_it_has_gone_on() {
        let mut state = State::default();
        for bytes in [
            builder::exec(5, 1, "/bin/cp", &["cp", "a", "b"]),
            builder::open(5, "/tmp/b", file(77)),
            builder::exec(5, 1, "/bin/true", &["true"]),
        ] {
            builder::apply(&mut state, &bytes);
        }
        let writer = state.writers.get(FileKey { dev: 1, ino: 77 }).unwrap();
        assert_eq!((writer.image.command_line(), &writer.path[..]), (&b"cp a b"[..], &b"/tmp/b"[..]));
    }

    #[test]
    fn the_table_is_bounded_and_keeps_the_newest() {
        let mut state = State::default();
        for ino in 0..MAX_FILES as u64 + 5 {
            builder::apply(&mut state, &builder::open(5, "/tmp/b", file(ino)));
        }
        assert!(state.writers.get(FileKey { dev: 1, ino: 4 }).is_none());
        assert!(state.writers.get(FileKey { dev: 1, ino: 5 }).is_some());
        assert_eq!(state.writers.by_file.len(), MAX_FILES);
    }
}
