//! Reading the spool from a position on: from memory where it is recent, else from the segments.
//!
//! A reader never holds up the writer and is never held up by it. What is not there any more it tells, with the number:
//! indices rise by one, so that a hole is seen wherever it comes from.

use std::{io, sync::Arc};

use bytes::Bytes;
use uuid::Uuid;

use super::{
    Shared,
    cursor::Position,
    files::{self, File},
    frame::{self, Kind, Parsed},
    segment::Segment,
};

/// How much is read from a segment at a time.
const READ_BYTES: usize = 256 << 10;

/// An entry of the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// The run that made it.
    pub epoch: Uuid,
    /// Its place in the spool.
    pub index: u64,
    /// Of a finding its own sequence, else that of the finding before.
    pub sequence: u64,
    /// The message.
    pub payload: Bytes,
}

/// Why entries are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// They were given up, because the spool was full.
    Evicted,
    /// They were made while the disk could not be written, and did not fit into memory.
    NotStored,
    /// They cannot be read any more.
    Damaged,
}

impl Cause {
    /// The word for it in a loss report.
    pub const fn word(self) -> &'static str {
        match self {
            Cause::Evicted => "evicted",
            Cause::NotStored => "not_stored",
            Cause::Damaged => "damaged",
        }
    }
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An entry.
    Entry(Entry),
    /// A hole in front of the entry that follows.
    Missing {
        /// How many findings, where both sides are of one run; else how many entries.
        findings: u64,
        /// Why.
        cause: Cause,
        /// The run that the reader was in.
        epoch: Uuid,
        /// First sequence that is missing; 0 where the hole begins with another run.
        first_sequence: u64,
    },
}

/// Most that one read returns.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// Entries.
    pub entries: usize,
    /// Bytes of their payloads; one that is larger comes alone.
    pub bytes: usize,
}

/// Somebody's place in the spool.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    position: Position,
    open: Option<Open>,
    /// Damage was passed over since the last entry.
    damage: bool,
    /// What is not wanted any more: everything of this run up to this sequence.
    passed: Option<(Uuid, u64)>,
}

/// A segment that is being read.
#[derive(Debug)]
struct Open {
    segment: Arc<Segment>,
    file: Arc<dyn File>,
    /// Where the buffer begins in the file.
    offset: u64,
    buffer: Vec<u8>,
    /// How far the buffer was parsed.
    parsed: usize,
}

impl Reader {
    pub(super) const fn new(shared: Arc<Shared>, position: Position) -> Self {
        Self { shared, position, open: None, damage: false, passed: None }
    }

    /// In front of what comes next.
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Passes over what is not behind a finding of a run.
    pub fn skip_to(&mut self, epoch: Uuid, sequence: u64) {
        self.passed = Some((epoch, sequence));
    }

    /// What comes next, in order; nothing if the reader has everything. May read from the disk.
    pub fn read(&mut self, most: Most) -> Vec<Item> {
        let mut items = Vec::new();
        let mut room = most;
        while room.entries > 0 {
            // Looked at before the disk: what memory has let go of by now is on the disk, or nowhere.
            let (first, end) = {
                let tail = self.shared.tail();
                (tail.first(), tail.visible())
            };
            if self.position.index >= end {
                break;
            }
            let before = self.position.index;
            if first > before {
                self.take_from_disk(&mut room, &mut items);
            }
            if self.position.index == before && room.entries > 0 && !self.take_from_memory(first, &mut room, &mut items)
            {
                break;
            }
        }
        items
    }

    /// Takes what memory has from `first` on; false if it has nothing that may be seen.
    fn take_from_memory(&mut self, first: u64, room: &mut Most, items: &mut Vec<Item>) -> bool {
        let entries = {
            let tail = self.shared.tail();
            if tail.first() != first {
                // It moved on, and what it let go of is on the disk now.
                return true;
            }
            tail.from(self.position.index, *room)
        };
        self.open = None;
        let any = !entries.is_empty();
        for entry in entries {
            if !self.push(entry, room, items) {
                break;
            }
        }
        any
    }

    /// Takes what the segments have from this position on, until one of them had something.
    fn take_from_disk(&mut self, room: &mut Most, items: &mut Vec<Item>) {
        let before = self.position.index;
        loop {
            let mut open = match self.open.take() {
                Some(open) => open,
                None => match self.shared.segment_at(self.position.index).map(|segment| self.open(segment)) {
                    Some(Some(open)) => open,
                    Some(None) => continue,
                    None => return,
                },
            };
            let name = open.segment.name;
            if let Err(error) = self.take(&mut open, room, items) {
                tracing::warn!(kind = "spool_read", "{}: {error}", open.segment.path.display());
                self.damage = true;
            }
            if self.position.index != before || room.entries == 0 {
                self.open = Some(open);
                return;
            }
            let Some(next) = self.shared.segment_after(name) else {
                self.open = Some(open);
                return;
            };
            self.open = self.open(next);
        }
    }

    /// Opens a segment. One that was given up in this moment is told as such by the next look; one that cannot be opened is
    /// passed over.
    fn open(&mut self, segment: Arc<Segment>) -> Option<Open> {
        match self.shared.files.open(&segment.path, false) {
            Ok(file) => Some(Open { segment, file, offset: 0, buffer: Vec::new(), parsed: 0 }),
            Err(error) => {
                self.damage |= error.kind() != io::ErrorKind::NotFound;
                self.shared.forget(&segment);
                None
            }
        }
    }

    /// Takes what an open segment has, as far as there is room.
    fn take(&mut self, open: &mut Open, room: &mut Most, items: &mut Vec<Item>) -> io::Result<()> {
        let epoch = open.segment.name.epoch;
        loop {
            match open.next()? {
                Next::Entry { kind, index, sequence, payload } => {
                    if index < self.position.index {
                        continue;
                    }
                    let entry = Entry { kind, epoch, index, sequence, payload: Bytes::copy_from_slice(payload) };
                    let bytes = frame::HEADER_BYTES + payload.len();
                    if !self.push(entry, room, items) {
                        open.parsed -= bytes;
                        return Ok(());
                    }
                }
                Next::Damage => self.damage = true,
                Next::End => return Ok(()),
            }
        }
    }

    /// Appends an entry, and what is missing in front of it; false if there is no room.
    fn push(&mut self, entry: Entry, room: &mut Most, items: &mut Vec<Item>) -> bool {
        if room.entries == 0 || (entry.payload.len() > room.bytes && !items.is_empty()) {
            room.entries = 0;
            return false;
        }
        if self.passed.is_some_and(|(epoch, sequence)| entry.epoch == epoch && entry.sequence <= sequence) {
            self.damage = false;
            self.position = Position { index: entry.index + 1, epoch: entry.epoch, sequence: entry.sequence };
            return true;
        }
        if entry.index > self.position.index {
            items.extend(self.missing(&entry));
        }
        self.damage = false;
        room.entries -= 1;
        room.bytes = room.bytes.saturating_sub(entry.payload.len());
        self.position = Position { index: entry.index + 1, epoch: entry.epoch, sequence: entry.sequence };
        items.push(Item::Entry(entry));
        true
    }

    /// The hole in front of an entry; none where only entries without a finding are missing.
    fn missing(&self, next: &Entry) -> Option<Item> {
        let Position { index, epoch, sequence } = self.position;
        let same_run = epoch == next.epoch;
        let findings = if same_run {
            next.sequence.saturating_sub(sequence).saturating_sub(u64::from(next.kind == Kind::FINDING))
        } else {
            next.index - index
        };
        let cause = if self.damage {
            Cause::Damaged
        } else if self.shared.evicted_before() > index {
            Cause::Evicted
        } else {
            Cause::NotStored
        };
        let first_sequence = if same_run { sequence + 1 } else { 0 };
        (findings > 0).then_some(Item::Missing { findings, cause, epoch, first_sequence })
    }
}

enum Next<'a> {
    Entry { kind: Kind, index: u64, sequence: u64, payload: &'a [u8] },
    Damage,
    End,
}

impl Open {
    fn next(&mut self) -> io::Result<Next<'_>> {
        loop {
            let rest = self.buffer.get(self.parsed..).unwrap_or_default();
            match frame::parse(rest) {
                Parsed::Frame(frame, bytes) => {
                    let (kind, index, sequence) = (frame.kind, frame.index, frame.sequence);
                    self.parsed += bytes;
                    let payload = self.buffer.get(self.parsed - frame.payload.len()..self.parsed);
                    return Ok(Next::Entry { kind, index, sequence, payload: payload.unwrap_or_default() });
                }
                Parsed::Damaged(bytes) if bytes > 0 => {
                    self.parsed += bytes;
                    return Ok(Next::Damage);
                }
                Parsed::Damaged(_) | Parsed::Incomplete => {
                    if !self.fill()? {
                        return Ok(self.torn());
                    }
                }
            }
        }
    }

    /// Reads on; false at the end of what may be read.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.parsed);
        self.offset += self.parsed as u64;
        self.parsed = 0;
        let have = self.buffer.len();
        let left = self.segment.bytes().saturating_sub(self.offset + have as u64);
        let more = usize::try_from(left).unwrap_or(READ_BYTES).min(READ_BYTES);
        self.buffer.resize(have + more, 0);
        let place = self.buffer.get_mut(have..).unwrap_or_default();
        let read = files::read_full(&*self.file, place, self.offset + have as u64)?;
        self.buffer.truncate(have + read);
        Ok(read > 0)
    }

    /// The end: of everything, or of a length that was damaged and covers more than there is.
    fn torn(&mut self) -> Next<'_> {
        let rest = self.buffer.get(self.parsed..).unwrap_or_default();
        if rest.is_empty() {
            return Next::End;
        }
        self.parsed += frame::next_mark(rest);
        Next::Damage
    }
}
