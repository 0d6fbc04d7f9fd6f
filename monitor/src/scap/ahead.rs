//! Reads a capture in a thread of its own, some batches ahead of whoever takes the events in.
//!
//! Reading and upgrading take as long as all that comes behind them, so both go on at once. A batch is what one read from the
//! file gave: whoever feeds a pipe slowly does not wait for a batch to be full.

use std::{
    io,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use super::{
    Reader,
    block::{self, List},
};
use crate::{
    event::{
        Body, Event,
        call::{Call, Params},
        schema::EventInfo,
    },
    source::SourceError,
};

/// Batches that there are: one is filled while another is taken in, and one waits in between.
const BATCHES: usize = 3;
/// Bytes from which on a batch is sent, whatever else was read.
const BATCH_BYTES: usize = 1 << 17;
/// Items of a batch.
const BATCH_ITEMS: usize = 4096;

/// A capture that is read ahead.
pub struct Ahead {
    /// What is taken in.
    batch: Batch,
    /// Of its items the one that comes next, and where its bytes begin.
    next: usize,
    start: usize,
    filled: Receiver<Batch>,
    emptied: Sender<Batch>,
}

/// Items in a row, and the bytes that they are made of.
#[derive(Default)]
struct Batch {
    items: Vec<Item>,
    bytes: Vec<u8>,
    /// Bytes of the file that were read until then.
    file_bytes: u64,
    /// How the capture ended, if it did behind these items.
    end: Option<Result<(), SourceError>>,
}

/// What a [`Reader`] lends, without its bytes.
struct Item {
    kind: Kind,
    /// Where its bytes end among those of its batch; they begin where those of the item before end.
    end: usize,
}

enum Kind {
    Section,
    Machine,
    /// An entry of a list about a thread.
    Entry(List, i64),
    Call(Head),
}

/// An event without its parameters.
struct Head {
    info: &'static EventInfo,
    number: u64,
    ts_ns: u64,
    tid: i64,
    cpu: u16,
    state_only: bool,
    wide: bool,
    /// Bytes of the parameters' lengths, which stand in front of their values.
    lengths: usize,
}

impl Ahead {
    /// Begins to read.
    pub fn new(reader: Reader) -> Result<Self, SourceError> {
        let ((full, filled), (emptied, empty)) = (channel(), channel());
        for _ in 1..BATCHES {
            // It cannot fail: the other end is here.
            let _ = emptied.send(Batch::default());
        }
        thread::Builder::new().name("read-capture".into()).spawn(move || read(reader, &empty, &full))?;
        Ok(Self { batch: Batch::default(), next: 0, start: 0, filled, emptied })
    }

    /// Calls `each` with the next item; `false` at the end. After an error there is nothing more.
    pub fn take(&mut self, each: &mut impl FnMut(&Event<'_>)) -> Result<bool, SourceError> {
        while self.next == self.batch.items.len() {
            if let Some(end) = self.batch.end.take() {
                return end.map(|()| false);
            }
            self.turn()?;
        }
        let Some(Item { kind, end }) = self.batch.items.get(self.next) else { return Ok(false) };
        let bytes = self.batch.bytes.get(self.start..*end).unwrap_or_default();
        (self.next, self.start) = (self.next + 1, *end);
        kind.lend(bytes, each);
        Ok(true)
    }

    /// Bytes of the file that were read for what has been lent.
    pub const fn file_bytes(&self) -> u64 {
        self.batch.file_bytes
    }

    /// Gives the batch back and takes the next.
    fn turn(&mut self) -> Result<(), SourceError> {
        let gone = || io::Error::other("nobody reads the capture any more");
        let next = self.filled.recv().map_err(|_| gone())?;
        let emptied = std::mem::replace(&mut self.batch, next);
        (self.next, self.start) = (0, 0);
        // After its last batch the other side wants none.
        let _ = self.emptied.send(emptied);
        Ok(())
    }
}

/// What the thread does, until the capture has ended or nobody takes batches any more.
fn read(mut reader: Reader, empty: &Receiver<Batch>, full: &Sender<Batch>) {
    while let Ok(mut batch) = empty.recv() {
        batch.fill(&mut reader);
        let has_ended = batch.end.is_some();
        if full.send(batch).is_err() || has_ended {
            return;
        }
    }
}

impl Batch {
    /// Takes what lies in memory; what must be read first if there is nothing.
    fn fill(&mut self, reader: &mut Reader) {
        self.items.clear();
        self.bytes.clear();
        // An event that is longer than a batch is rare.
        self.bytes.shrink_to(2 * BATCH_BYTES);
        while self.items.is_empty() || (self.has_room() && reader.is_at_hand()) {
            match self.take(reader) {
                Ok(true) => {}
                Ok(false) => self.end = Some(Ok(())),
                Err(error) => self.end = Some(Err(error)),
            }
            if self.end.is_some() {
                break;
            }
        }
        self.file_bytes = reader.counters().file_bytes;
    }

    fn has_room(&self) -> bool {
        self.bytes.len() < BATCH_BYTES && self.items.len() < BATCH_ITEMS
    }

    /// Takes one item; `false` if there is none.
    fn take(&mut self, reader: &mut Reader) -> Result<bool, SourceError> {
        let kind = match reader.next()? {
            None => return Ok(false),
            Some(Event { body: Body::Call(call), .. }) => {
                let Call { info, number, ts_ns, tid, cpu, state_only, params, told: _ } = call;
                self.bytes.extend_from_slice(params.lengths());
                self.bytes.extend_from_slice(params.values());
                let (wide, lengths) = (params.is_wide(), params.lengths().len());
                Kind::Call(Head { info, number, ts_ns, tid, cpu, state_only, wide, lengths })
            }
            Some(Event { body: Body::Section, .. }) => Kind::Section,
            Some(Event { body, .. }) => {
                let is_machine = matches!(body, Body::Machine(_));
                let (bytes, list) = reader.lent();
                self.bytes.extend_from_slice(bytes);
                match list {
                    Some((list, tid)) if !is_machine => Kind::Entry(list, tid),
                    _ => Kind::Machine,
                }
            }
        };
        self.items.push(Item { kind, end: self.bytes.len() });
        Ok(true)
    }
}

impl Kind {
    /// Makes the item again, of its bytes: what was read once can be read again. It is lent where it is made, because events
    /// are large to be moved.
    fn lend(&self, bytes: &[u8], each: &mut impl FnMut(&Event<'_>)) {
        match self {
            Kind::Call(head) => each(&Event::unrecorded(head.ts_ns, head.tid, Body::Call(head.call(bytes)))),
            Kind::Section => each(&Event::unrecorded(0, 0, Body::Section)),
            Kind::Machine => {
                if let Some(machine) = bytes.get(block::HEADER_BYTES..).and_then(block::machine) {
                    each(&Event::unrecorded(0, 0, Body::Machine(machine)));
                }
            }
            Kind::Entry(list, tid) => {
                if let Some((event, _)) = Reader::entry_event(*list, *tid, bytes) {
                    each(&event);
                }
            }
        }
    }
}

impl Head {
    fn call<'a>(&self, bytes: &'a [u8]) -> Call<'a> {
        let Self { info, number, ts_ns, tid, cpu, state_only, wide, lengths } = *self;
        let (lengths, values) = bytes.split_at_checked(lengths).unwrap_or_default();
        let params = Params::new(lengths, values, wide);
        Call { info, number, ts_ns, tid, cpu, state_only, params, told: None }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::{super::builder::one_of_each, *};

    /// Everything that comes out, as its debug format has it, and how it ends.
    fn all(mut next: impl FnMut() -> Result<Option<String>, SourceError>) -> (Vec<String>, Option<String>) {
        let mut items = Vec::new();
        loop {
            match next() {
                Ok(Some(item)) => items.push(item),
                Ok(None) => return (items, None),
                Err(error) => return (items, Some(error.to_string())),
            }
        }
    }

    fn check(bytes: &[u8]) {
        let open = || Reader::new(Cursor::new(bytes.to_vec()));
        let Ok(mut reader) = open() else { return };
        let mut ahead = Ahead::new(open().unwrap()).unwrap();
        let expected = all(|| Ok(reader.next()?.map(|event| format!("{event:?}"))));
        let mut next = || {
            let mut item = None;
            ahead.take(&mut |event| item = Some(format!("{event:?}")))?;
            Ok(item)
        };
        assert_eq!(all(&mut next), expected);
        assert_eq!(ahead.file_bytes(), reader.counters().file_bytes);
    }

    #[test]
    fn what_is_read_ahead_is_what_is_read_wherever_it_ends() {
        let whole = one_of_each().bytes;
        (0..=whole.len()).rev().step_by(5).for_each(|len| check(&whole[..len]));
        for seed in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/corpus/scap")).unwrap() {
            check(&std::fs::read(seed.unwrap().path()).unwrap());
        }
    }

    #[test]
    fn many_batches_come_in_order_and_whoever_leaves_ends_the_reading() {
        let one = one_of_each().bytes;
        let many = one.repeat(4 * BATCH_BYTES / one.len());
        check(&many);
        let mut ahead = Ahead::new(Reader::new(Cursor::new(many)).unwrap()).unwrap();
        assert!(ahead.take(&mut |_| {}).unwrap());
        let filled = std::mem::replace(&mut ahead.filled, channel().1);
        drop(ahead);
        assert!(filled.iter().count() <= BATCHES, "the other side ends");
    }
}
