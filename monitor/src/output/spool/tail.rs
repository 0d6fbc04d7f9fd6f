//! The newest entries in memory: what is not on the disk yet, and a little of what is.

use std::collections::VecDeque;

use bytes::Bytes;
use uuid::Uuid;

use super::{
    Limits,
    cursor::Position,
    frame::{HEADER_BYTES, Kind},
    reader::{Entry, Most},
};

/// Entries in the order of their indices, which need not be without holes.
#[derive(Debug)]
pub(super) struct Tail {
    entries: VecDeque<Entry>,
    bytes: usize,
    next_index: u64,
    /// Of the newest finding.
    sequence: u64,
    /// Everything before this index is on the disk, or was dropped.
    saved: u64,
    saved_sequence: u64,
    dropped: u64,
    /// Why writing fails.
    failing: Option<String>,
    /// Whether the writer waits to be woken.
    writer_waits: bool,
    /// A loss report that stands in front of the first entry.
    first_words: Option<Vec<u8>>,
    /// Whether anything was ever added.
    begun: bool,
}

impl Tail {
    pub(super) fn new(next_index: u64) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            next_index,
            sequence: 0,
            saved: next_index,
            saved_sequence: 0,
            dropped: 0,
            failing: None,
            writer_waits: false,
            first_words: None,
            begun: false,
        }
    }

    /// A loss report to put in front of the first entry. A run that adds nothing does not write it either, so that the next
    /// one finds what this one found.
    pub(super) fn begin_with(&mut self, loss: Vec<u8>) {
        self.first_words = Some(loss);
    }

    /// Takes an entry in, and lets go of the oldest where there is no room. Whether the writer is to be woken.
    pub(super) fn add(
        &mut self,
        kind: Kind,
        epoch: Uuid,
        sequence: u64,
        payload: Vec<u8>,
        limits: &Limits,
        too_long: bool,
    ) -> bool {
        if kind == Kind::END && !self.begun {
            return false;
        }
        self.begun = true;
        let first_words = self.first_words.take();
        let wake = first_words.is_some_and(|loss| self.add(Kind::LOSS, epoch, sequence, loss, limits, false));
        if kind == Kind::FINDING {
            self.sequence = sequence;
        }
        let index = self.next_index;
        self.next_index += 1;
        if too_long {
            // Its place stays empty, which readers see.
            self.dropped += 1;
            return wake;
        }
        let entry = Entry { kind, epoch, index, sequence: self.sequence, payload: Bytes::from(payload) };
        self.bytes += cost(&entry);
        self.entries.push_back(entry);
        self.trim(limits);
        std::mem::take(&mut self.writer_waits) || wake
    }

    fn trim(&mut self, limits: &Limits) {
        while let Some(oldest) = self.entries.front() {
            let saved = oldest.index < self.saved;
            if self.bytes <= if saved { limits.cache_bytes } else { limits.memory_bytes } {
                return;
            }
            self.bytes -= cost(oldest);
            self.dropped += u64::from(!saved && oldest.kind == Kind::FINDING);
            self.saved = self.saved.max(oldest.index + 1);
            self.entries.pop_front();
        }
    }

    /// Index of the oldest entry, or of the next where there is none.
    pub(super) fn first(&self) -> u64 {
        self.entries.front().map_or(self.next_index, |entry| entry.index)
    }

    /// What readers may see ends in front of this index.
    pub(super) fn visible(&self) -> u64 {
        if self.failing.is_some() { self.next_index } else { self.saved }
    }

    pub(super) fn latest(&self, epoch: Uuid) -> Position {
        Position { index: self.next_index, epoch, sequence: self.sequence }
    }

    /// Entries from an index on that readers may see.
    pub(super) fn from(&self, index: u64, most: Most) -> Vec<Entry> {
        let start = self.entries.partition_point(|entry| entry.index < index);
        let end = self.visible();
        self.entries.range(start..).take_while(|entry| entry.index < end).take(most.entries).cloned().collect()
    }

    /// Entries that are not on the disk, up to a number of bytes; at least one if there is one.
    pub(super) fn take_unsaved(&mut self, bytes: usize) -> Vec<Entry> {
        let start = self.entries.partition_point(|entry| entry.index < self.saved);
        let mut room = bytes;
        let entries: Vec<Entry> = self
            .entries
            .range(start..)
            .take_while(|entry| {
                let fits = room > 0;
                room = room.saturating_sub(cost(entry));
                fits
            })
            .cloned()
            .collect();
        self.writer_waits = entries.is_empty();
        entries
    }

    /// Everything up to and with this entry is on the disk.
    pub(super) fn saved(&mut self, last: &Entry, limits: &Limits) {
        self.saved = self.saved.max(last.index + 1);
        self.saved_sequence = self.saved_sequence.max(last.sequence);
        self.failing = None;
        self.trim(limits);
    }

    pub(super) fn fail(&mut self, why: String) {
        self.failing = Some(why);
    }

    pub(super) fn failing(&self) -> Option<&str> {
        self.failing.as_deref()
    }

    pub(super) const fn next_index(&self) -> u64 {
        self.next_index
    }

    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) const fn saved_sequence(&self) -> u64 {
        self.saved_sequence
    }

    pub(super) fn unsaved(&self) -> usize {
        self.entries.len() - self.entries.partition_point(|entry| entry.index < self.saved)
    }
}

fn cost(entry: &Entry) -> usize {
    HEADER_BYTES + entry.payload.len() + size_of::<Entry>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_waits_is_woken_by_what_comes_first_whatever_stands_in_front_of_it() {
        for loss in [None, Some(b"crash".to_vec())] {
            let mut tail = Tail::new(0);
            if let Some(loss) = loss {
                tail.begin_with(loss);
            }
            assert!(tail.take_unsaved(1000).is_empty());
            let mut add = |kind| tail.add(kind, Uuid::nil(), 1, vec![1], &Limits::default(), false);
            assert!(add(Kind::FINDING), "woken");
            assert!(!add(Kind::FINDING), "it is awake");
        }
    }
}
