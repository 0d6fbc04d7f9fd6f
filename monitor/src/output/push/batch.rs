//! Batches: what a sink is sent in one request.
//!
//! Findings of one run that follow each other, with what is missing in front of them. So a gap is always at the beginning of
//! a batch, beside the report that explains it.

use std::collections::VecDeque;

use prost::Message as _;
use uuid::Uuid;

use super::super::spool::{
    cursor::Position,
    frame::Kind,
    reader::{Entry, Item, Most, Reader},
};
use crate::proto::v1::LossReport;

/// What is sent together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The run that made the findings.
    pub epoch: Uuid,
    /// The findings, encoded.
    pub findings: Vec<Entry>,
    /// What is missing in front of them.
    pub losses: Vec<LossReport>,
    /// Where it begins in the spool.
    pub start: u64,
    /// Behind it.
    pub end: Position,
    /// How often it was tried.
    pub attempts: u32,
}

impl Batch {
    /// Sequence of the first finding, or of the next one where there is none.
    pub fn first_sequence(&self) -> u64 {
        self.findings.first().map_or(self.end.sequence + 1, |entry| entry.sequence)
    }

    /// The part behind a sequence; `None` if there is none.
    pub fn behind(mut self, sequence: u64) -> Option<Batch> {
        let at = self.findings.partition_point(|entry| entry.sequence <= sequence);
        if at == 0 {
            return Some(self);
        }
        self.findings.drain(..at);
        self.losses.clear();
        self.start = self.findings.first()?.index;
        Some(self)
    }

    /// Two halves; itself alone if it cannot be divided.
    pub fn halves(mut self) -> (Batch, Option<Batch>) {
        let middle = self.findings.len() / 2;
        if middle == 0 {
            return (self, None);
        }
        let second = self.findings.split_off(middle);
        let index = second.first().map_or(self.end.index, |next| next.index);
        let sequence = self.findings.last().map_or(self.end.sequence, |last| last.sequence);
        let between = Position { index, epoch: self.epoch, sequence };
        let (epoch, end) = (self.epoch, self.end);
        let second = Batch { epoch, findings: second, losses: Vec::new(), start: index, end, attempts: 0 };
        self.end = between;
        self.attempts = 0;
        (self, Some(second))
    }
}

/// Makes batches of what a reader gives.
#[derive(Debug)]
pub struct Batches {
    reader: Reader,
    items: VecDeque<Item>,
    start: u64,
}

impl Batches {
    /// From where the reader stands.
    pub fn new(reader: Reader) -> Self {
        let start = reader.position().index;
        Self { reader, items: VecDeque::new(), start }
    }

    /// How many entries lie ready, once as many as wanted were looked for.
    pub fn ready(&mut self, most: Most) -> usize {
        if self.items.len() < most.entries {
            let wanted = Most { entries: most.entries - self.items.len(), ..most };
            self.items.extend(self.reader.read(wanted));
        }
        self.items.len()
    }

    /// The next batch of what lies ready.
    pub fn next(&mut self, most: Most) -> Option<Batch> {
        let mut batch: Option<Batch> = None;
        let mut bytes = 0;
        while let Some(item) = self.items.front() {
            if let Some(batch) = &batch {
                let full = batch.findings.len() >= most.entries;
                let goes_on = match item {
                    Item::Entry(entry) if entry.kind == Kind::FINDING => {
                        bytes += entry.payload.len();
                        let follows = batch.findings.last().is_none_or(|last| last.sequence + 1 == entry.sequence);
                        let fits = bytes <= most.bytes || batch.findings.is_empty();
                        entry.epoch == batch.epoch && follows && fits && !full
                    }
                    Item::Entry(entry) if entry.kind == Kind::LOSS => {
                        entry.epoch == batch.epoch && batch.findings.is_empty()
                    }
                    Item::Entry(_) => true,
                    Item::Missing { .. } => batch.findings.is_empty(),
                };
                if !goes_on {
                    break;
                }
            }
            let Some(item) = self.items.pop_front() else { break };
            let start = self.start;
            let batch = batch.get_or_insert_with(|| Batch {
                epoch: Uuid::nil(),
                findings: Vec::new(),
                losses: Vec::new(),
                start,
                end: Position { index: start, ..Position::default() },
                attempts: 0,
            });
            match item {
                Item::Missing { findings, cause, epoch, first_sequence } => {
                    let epoch = if epoch.is_nil() { String::new() } else { epoch.to_string() };
                    let cause = cause.word().to_owned();
                    batch.losses.push(LossReport { findings, cause, epoch, first_sequence, ..LossReport::default() });
                    // A hole is in front of an entry, whose run is not known yet.
                    if let Some(Item::Entry(next)) = self.items.front() {
                        batch.epoch = next.epoch;
                    }
                }
                Item::Entry(entry) => {
                    if batch.findings.is_empty() {
                        bytes = entry.payload.len();
                    }
                    batch.take(entry);
                    self.start = batch.end.index;
                }
            }
        }
        batch
    }

    /// Where the reader stands, for how far a sink is behind.
    pub fn position(&self) -> Position {
        self.reader.position()
    }
}

impl Batch {
    fn take(&mut self, entry: Entry) {
        self.epoch = entry.epoch;
        self.end = Position { index: entry.index + 1, epoch: entry.epoch, sequence: entry.sequence };
        match entry.kind {
            Kind::FINDING => self.findings.push(entry),
            Kind::LOSS => self.losses.extend(LossReport::decode(entry.payload).ok()),
            // Of a newer agent, or the mark of an end: nothing to send.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(sequences: std::ops::RangeInclusive<u64>) -> Batch {
        let entry = |sequence| Entry {
            kind: Kind::FINDING,
            epoch: Uuid::from_u128(1),
            index: sequence + 100,
            sequence,
            payload: bytes::Bytes::from_static(b"abc"),
        };
        let end = Position { index: sequences.end() + 101, epoch: Uuid::from_u128(1), sequence: *sequences.end() };
        let start = sequences.start() + 100;
        let losses = vec![LossReport::default()];
        Batch { epoch: end.epoch, findings: sequences.map(entry).collect(), losses, start, end, attempts: 3 }
    }

    fn sequences(batch: &Batch) -> Vec<u64> {
        batch.findings.iter().map(|entry| entry.sequence).collect()
    }

    #[test]
    fn halves_meet_in_the_middle_and_losses_stay_in_front() {
        let (first, second) = batch(5..=9).halves();
        let second = second.unwrap();
        assert_eq!((sequences(&first), sequences(&second)), (vec![5, 6], vec![7, 8, 9]));
        assert_eq!((first.end.index, second.start, first.end.sequence), (107, 107, 6));
        assert_eq!((first.losses.len(), second.losses.len()), (1, 0));
        assert!(batch(1..=1).halves().1.is_none());
    }

    #[test]
    fn what_was_taken_is_not_sent_again() {
        let rest = batch(5..=9).behind(7).unwrap();
        assert_eq!((sequences(&rest), rest.start, rest.losses.len()), (vec![8, 9], 108, 0));
        assert!(batch(5..=9).behind(9).is_none());
        assert_eq!(sequences(&batch(5..=9).behind(4).unwrap()), [5, 6, 7, 8, 9]);
    }
}
