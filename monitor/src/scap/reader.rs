//! Reading a capture: what existed when it began, then its events, in the file's order.
//!
//! Blocks are read where they lie in the [`Window`]. Each call of [`Reader::next`] first moves on to the next item, which may
//! mean to read, and then lends what lies there.

use std::io::Read;

use super::{
    Flaw,
    block::{self, BlockType, EventBlock, List},
    convert::{Outcome, Upgrade, is_current},
    event::{self, Frame, Parsed},
    list,
    window::Window,
};
use crate::{
    capture::Unpacked,
    event::{Body, Event, call::Call, schema::Code},
    source::SourceError,
};

/// Longest body of an event's block that is not marked as a large one, with its trailer.
const MAX_EVENT_BYTES: usize = 1 << 16;
/// Longest block that is kept as a whole. The largest real ones are notices with the description of a container.
const MAX_BLOCK_BYTES: usize = 8 << 20;
/// More than any entry of a list has, without fields of tomorrow.
const ENTRY_BYTES: usize = 1 << 16;
/// Lists have no entry shorter than this; what is left is padding.
const MIN_ENTRY_BYTES: u64 = 4;

/// A capture being read. Holds one block at a time, and what upgrades need of earlier ones.
pub struct Reader {
    window: Window,
    /// Bytes lent by the last call, to be passed over by the next.
    lent: usize,
    /// The list whose entries are being read.
    list: Option<OpenList>,
    /// The event that came last.
    frame: Option<Frame>,
    /// Its parameters are those that the upgrade built.
    is_built: bool,
    upgrade: Upgrade,
    /// Number of the last event.
    number: u64,
    /// Sections that have begun.
    sections: u64,
    /// No event but notices of what existed has come in this section.
    is_leading: bool,
    /// This section has blocks of events.
    has_events: bool,
    counters: Counters,
}

/// What was read, and what of it does not come out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Events that came out.
    pub events: u64,
    /// Blocks of a type that is not known.
    pub blocks_unknown: u64,
    /// Events with a code beyond Falco's table.
    pub events_unknown: u64,
    /// Events that have no place in Falco's table of today.
    pub events_dropped: u64,
    /// Events of entering a call, which became part of the one of leaving it.
    pub events_merged: u64,
    /// Such events that went before that, because there were too many.
    pub enters_evicted: u64,
    /// Events of leaving a call whose thread had last entered another one.
    pub exits_unpaired: u64,
    /// Bytes of the stream, unpacked.
    pub bytes: u64,
    /// Bytes of the file, which may be packed.
    pub file_bytes: u64,
}

/// A list being read.
#[derive(Clone, Copy)]
struct OpenList {
    list: List,
    /// The thread whose descriptors it lists.
    tid: i64,
    /// Bytes of its body that were not passed over yet.
    left: u64,
    /// Length of the block.
    total: u32,
}

/// What is to be lent.
#[derive(Clone, Copy)]
enum Item {
    Section,
    Machine,
    /// An entry of [`Reader::list`].
    Entry(OpenList),
    /// [`Reader::frame`].
    Event,
}

impl Reader {
    /// Reads a capture, plain or gzip.
    pub fn new(input: impl Read + Send + 'static) -> Result<Self, SourceError> {
        Self::unpacked(Unpacked::new(input)?)
    }

    /// Reads a capture that was opened, and perhaps looked at, before.
    pub fn unpacked(input: Unpacked) -> Result<Self, SourceError> {
        if !block::is_section_header(input.head()) {
            let what =
                if input.head().is_empty() { "the file is empty" } else { "it does not begin with a section header" };
            return Err(SourceError::Format(what.into()));
        }
        let mut reader = Self {
            window: Window::new(input),
            lent: 0,
            list: None,
            frame: None,
            is_built: false,
            upgrade: Upgrade::default(),
            number: 0,
            sections: 0,
            is_leading: true,
            has_events: false,
            counters: Counters::default(),
        };
        if !reader.window.require(block::HEADER_BYTES)? {
            return Err(reader.cut());
        }
        let total = reader.header().1;
        reader.section(total)?;
        Ok(reader)
    }

    /// The next item; `None` at the end. After an error there is nothing more.
    ///
    /// What a section lists comes first ([`Body::Machine`] and `Listed…`), then its events. Where another section begins,
    /// [`Body::Section`] comes in between.
    #[expect(
        clippy::should_implement_trait,
        reason = "what is lent ends with the next call, which no iterator can say"
    )]
    pub fn next(&mut self) -> Result<Option<Event<'_>>, SourceError> {
        // Each arm returns: what is put together in one place and moved to another costs more than reading it did.
        match self.advance()? {
            None => Ok(None),
            Some(Item::Event) => Ok(self.call()),
            Some(Item::Section) => Ok(Some(Event::unrecorded(0, 0, Body::Section))),
            Some(Item::Machine) => {
                let body = self.window.bytes().get(block::HEADER_BYTES..).and_then(block::machine);
                let machine = body.ok_or_else(|| self.damaged("the machine's block is too short"))?;
                Ok(Some(Event::unrecorded(0, 0, Body::Machine(machine))))
            }
            Some(Item::Entry(open)) => self.entry(open).map(Some),
        }
    }

    /// Number of the last event, as Falco counts (libs 0.25.4, `sinsp::next`): from 1, every event that remains after the
    /// upgrade, those that no rule looks at included; but not the notices of what existed when a further section began.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// What was read so far.
    pub fn counters(&self) -> Counters {
        Counters {
            enters_evicted: self.upgrade.evicted(),
            exits_unpaired: self.upgrade.unpaired(),
            bytes: self.window.offset() + self.lent as u64,
            file_bytes: self.window.file_bytes(),
            ..self.counters
        }
    }

    fn entry(&mut self, open: OpenList) -> Result<Event<'_>, SourceError> {
        let offset = self.window.offset();
        let (bytes, left) = (self.window.bytes(), usize::try_from(open.left).unwrap_or(usize::MAX));
        let bytes = bytes.get(..left).unwrap_or(bytes);
        // Fields may be absent from an entry's end, but not because the file ends there.
        let is_whole = |len: usize| len <= left && (len <= bytes.len() || bytes.len() >= ENTRY_BYTES);
        match Self::entry_event(open.list, open.tid, bytes) {
            Some((event, len)) if is_whole(len) => {
                self.lent = len;
                self.list = Some(OpenList { left: open.left - len as u64, ..open });
                Ok(event)
            }
            _ if bytes.len() < left.min(ENTRY_BYTES) => Err(damaged(offset, CUT)),
            _ => Err(damaged(offset, format!("an entry of {} is not one", name(open.list)))),
        }
    }

    /// What an entry of a list tells, and how many bytes it has; `None` if these are none.
    pub(super) fn entry_event(list: List, tid: i64, bytes: &[u8]) -> Option<(Event<'_>, usize)> {
        let (body, len) = list::entry(list, tid, bytes)?;
        let tid = if let Body::ListedThread(thread) = &body { thread.tid } else { tid };
        Some((Event::unrecorded(0, tid, body), len))
    }

    /// The bytes of the last item that is no event, and the list that it was in.
    pub(super) fn lent(&self) -> (&[u8], Option<(List, i64)>) {
        let bytes = self.window.bytes().get(..self.lent).unwrap_or_default();
        (bytes, self.list.as_ref().map(|open| (open.list, open.tid)))
    }

    /// Whether the next block, or the next entry of a list, lies in memory.
    pub(super) fn is_at_hand(&self) -> bool {
        let there = self.window.bytes().len().saturating_sub(self.lent);
        let block = self.window.bytes().get(self.lent + 4..).and_then(<[u8]>::first_chunk);
        match self.list {
            Some(open) => usize::try_from(open.left).unwrap_or(usize::MAX).min(ENTRY_BYTES) <= there,
            None => block.is_some_and(|total| u32::from_le_bytes(*total) as usize <= there),
        }
    }

    /// Moves on to the next item.
    fn advance(&mut self) -> Result<Option<Item>, SourceError> {
        loop {
            if self.lent > 0 {
                let lent = std::mem::take(&mut self.lent);
                self.pass(lent as u64)?;
            }
            if let Some(open) = self.list {
                if open.left >= MIN_ENTRY_BYTES {
                    let want = usize::try_from(open.left).unwrap_or(usize::MAX).min(ENTRY_BYTES);
                    self.window.require(want)?;
                    return Ok(Some(Item::Entry(open)));
                }
                self.list = None;
                self.pass(open.left)?;
                self.trailer(open.total)?;
            }
            if !self.window.require(block::HEADER_BYTES)? {
                return self.end();
            }
            let (ty, total) = self.header();
            let item = match BlockType::of(ty) {
                BlockType::Event(block) => self.event(block, total)?.then_some(Item::Event),
                BlockType::Section => {
                    self.section(total)?;
                    Some(Item::Section)
                }
                BlockType::List(list) => {
                    self.open(list, total)?;
                    None
                }
                BlockType::Machine => {
                    self.machine(total)?;
                    Some(Item::Machine)
                }
                BlockType::Unknown => {
                    self.unknown(ty, total)?;
                    None
                }
            };
            if item.is_some() {
                return Ok(item);
            }
        }
    }

    /// Type and length of the block that comes next.
    fn header(&self) -> (u32, u32) {
        let header = self.window.bytes().first_chunk().copied().unwrap_or_default();
        let [t0, t1, t2, t3, l0, l1, l2, l3] = header;
        (u32::from_le_bytes([t0, t1, t2, t3]), u32::from_le_bytes([l0, l1, l2, l3]))
    }

    /// The end of the file, if it may end here.
    fn end(&self) -> Result<Option<Item>, SourceError> {
        if !self.window.bytes().is_empty() {
            return Err(self.cut());
        }
        if self.has_events {
            return Ok(None);
        }
        // Falco refuses such a file, too: it was cut short, or nothing ever happened while it was recorded.
        Err(self.damaged("the file ends before its first event"))
    }

    fn section(&mut self, total: u32) -> Result<(), SourceError> {
        if (total as usize) < block::SECTION_BLOCK_BYTES {
            return Err(self.damaged("a section header is too short"));
        }
        if !self.window.require(block::SECTION_BLOCK_BYTES)? {
            return Err(self.cut());
        }
        let body = self.window.bytes().get(block::HEADER_BYTES..).unwrap_or_default();
        block::check_section(body).map_err(|flaw| match self.sections {
            0 => SourceError::Format(flaw.into_owned()),
            _ => self.damaged(flaw),
        })?;
        self.pass(total.into())?;
        self.upgrade.clear();
        self.sections += 1;
        (self.is_leading, self.has_events) = (true, false);
        Ok(())
    }

    fn machine(&mut self, total: u32) -> Result<(), SourceError> {
        let len = total as usize;
        if !(block::FRAME_BYTES + block::MACHINE_BYTES..=MAX_EVENT_BYTES).contains(&len) {
            return Err(self.damaged("the machine's block has an impossible length"));
        }
        if !self.window.require(len)? {
            return Err(self.cut());
        }
        let trailer = self.window.bytes().get(len - block::TRAILER_BYTES..).and_then(<[u8]>::first_chunk);
        self.check_trailer(total, trailer.map(|trailer| u32::from_le_bytes(*trailer)))?;
        self.lent = len;
        Ok(())
    }

    fn open(&mut self, list: List, total: u32) -> Result<(), SourceError> {
        let mut left = self.body_len(total)?;
        let mut tid = 0;
        let mut head = block::HEADER_BYTES;
        if let List::Descriptors(_) = list {
            /// Bytes of the thread's id in front of its descriptors.
            const TID_BYTES: usize = 8;
            left =
                left.checked_sub(TID_BYTES as u64).ok_or_else(|| self.damaged("a list of descriptors is too short"))?;
            if !self.window.require(head + TID_BYTES)? {
                return Err(self.cut());
            }
            let bytes = self.window.bytes().get(head..).and_then(<[u8]>::first_chunk);
            tid = i64::from_le_bytes(bytes.copied().unwrap_or_default());
            head += TID_BYTES;
        }
        self.pass(head as u64)?;
        self.list = Some(OpenList { list, tid, left, total });
        Ok(())
    }

    fn unknown(&mut self, ty: u32, total: u32) -> Result<(), SourceError> {
        let len = self.body_len(total)?;
        tracing::debug!(ty, total, "block of an unknown type");
        self.counters.blocks_unknown += 1;
        self.pass(block::HEADER_BYTES as u64)?;
        self.pass(len)?;
        self.trailer(total)
    }

    /// Bytes between a block's header and its trailer.
    fn body_len(&self, total: u32) -> Result<u64, SourceError> {
        u64::from(total)
            .checked_sub(block::FRAME_BYTES as u64)
            .ok_or_else(|| self.damaged(format!("a block says that it has {total} bytes, fewer than any block")))
    }

    /// The length behind a block, which is the one in front of it.
    fn trailer(&mut self, total: u32) -> Result<(), SourceError> {
        if !self.window.require(block::TRAILER_BYTES)? {
            return Err(self.cut());
        }
        let trailer = self.window.bytes().first_chunk().map(|trailer| u32::from_le_bytes(*trailer));
        self.check_trailer(total, trailer)?;
        self.pass(block::TRAILER_BYTES as u64)
    }

    fn check_trailer(&self, total: u32, trailer: Option<u32>) -> Result<(), SourceError> {
        match trailer {
            Some(trailer) if trailer != total => {
                Err(self.damaged(format!("a block says {total} bytes in front of it and {trailer} behind")))
            }
            _ => Ok(()),
        }
    }

    /// Takes in the event in a block; says whether it is one of today's.
    #[inline]
    fn event(&mut self, block: EventBlock, total: u32) -> Result<bool, SourceError> {
        let total = total as usize;
        let most = if block.large { MAX_BLOCK_BYTES } else { MAX_EVENT_BYTES + block::HEADER_BYTES };
        if total > most {
            return Err(self.damaged(format!("an event's block has {total} bytes, and at most {most} are read")));
        }
        if !self.window.require(total)? {
            return Err(self.cut());
        }
        self.has_events = true;
        let at = self.window.position() + block::HEADER_BYTES;
        let body = self.window.bytes().get(block::HEADER_BYTES..total.saturating_sub(block::TRAILER_BYTES));
        let parsed = match event::parse(block, body.unwrap_or_default(), at, &mut self.frame) {
            Ok(parsed) => parsed,
            Err(flaw) => return Err(self.damaged(flaw)),
        };
        let comes_out = match (parsed, &self.frame) {
            (Parsed::Event, Some(frame)) => {
                self.is_built = false;
                is_current(frame.info, frame.count()) || self.upgrade(*frame)?
            }
            (Parsed::Unknown, _) => {
                self.counters.events_unknown += 1;
                false
            }
            _ => {
                self.counters.events_dropped += 1;
                self.is_leading = false;
                false
            }
        };
        self.window.pass(total);
        if comes_out {
            self.count();
        }
        Ok(comes_out)
    }

    #[inline(never)]
    fn upgrade(&mut self, frame: Frame) -> Result<bool, SourceError> {
        let outcome = self.upgrade.apply(frame.info, frame.tid, frame.params(self.window.buffer()));
        match outcome.map_err(|flaw| self.damaged(flaw))? {
            Outcome::AsItIs => return Ok(true),
            Outcome::Built(info) => {
                (self.frame, self.is_built) = (Some(Frame { info, ..frame }), true);
                return Ok(true);
            }
            Outcome::Dropped => self.counters.events_dropped += 1,
            Outcome::Kept => self.counters.events_merged += 1,
        }
        self.is_leading = false;
        Ok(false)
    }

    /// Counts an event, and says whether rules look at it. Falco reads the notices in front of a section's events before it
    /// asks rules anything.
    #[inline]
    fn count(&mut self) {
        let Some(frame) = &mut self.frame else { return };
        let code = frame.info.code;
        self.counters.events += 1;
        self.is_leading = self.is_leading && code.is_notice_of_state();
        frame.state_only |= self.is_leading || code.is_enter() && is_for_its_exit(code);
        self.number += u64::from(!self.is_leading || self.sections == 1);
    }

    #[inline]
    fn call(&self) -> Option<Event<'_>> {
        let frame = self.frame.as_ref()?;
        let params = if self.is_built { self.upgrade.params() } else { frame.params(self.window.buffer()) };
        let Frame { ts_ns, tid, cpu, state_only, info, .. } = *frame;
        Some(Event::unrecorded(
            ts_ns,
            tid,
            Body::Call(Call { info, number: self.number, ts_ns, tid, cpu, state_only, params, told: None }),
        ))
    }

    fn pass(&mut self, len: u64) -> Result<(), SourceError> {
        let offset = self.window.offset();
        if self.window.skip(len)? { Ok(()) } else { Err(damaged(offset, CUT)) }
    }

    fn cut(&self) -> SourceError {
        self.damaged(CUT)
    }

    fn damaged(&self, reason: impl Into<Flaw>) -> SourceError {
        damaged(self.window.offset(), reason)
    }
}

const CUT: &str = "the file ends inside a block: it was cut short, or its writer was killed";

#[cold]
fn damaged(offset: u64, reason: impl Into<Flaw>) -> SourceError {
    SourceError::Damaged { offset, reason: reason.into().into_owned() }
}

/// Whether this is an event of entering a call that is there to check, or to complete, what leaving it says: rules see the
/// call when it is left (libs 0.25.4, `sinsp_evt_filter`).
const fn is_for_its_exit(code: Code) -> bool {
    matches!(
        code,
        Code::SYSCALL_OPEN_E
            | Code::SYSCALL_OPENAT_2_E
            | Code::SYSCALL_OPENAT2_E
            | Code::SYSCALL_CREAT_E
            | Code::SOCKET_CONNECT_E
            | Code::SYSCALL_EXECVE_19_E
            | Code::SYSCALL_EXECVEAT_E
    )
}

const fn name(list: List) -> &'static str {
    match list {
        List::Threads(_) => "the list of processes",
        List::Descriptors(_) => "a list of descriptors",
        List::Interfaces(_) => "the list of interfaces",
        List::Users(_) => "the list of users",
    }
}
