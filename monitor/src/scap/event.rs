//! An event's header, and where its parameters lie.

use super::{Flaw, block::EventBlock};
use crate::event::{
    call::Params,
    schema::{Code, EventInfo, Flags},
};

/// Bytes of an event's header that says how many parameters there are.
const HEADER_BYTES: usize = 26;
/// Bytes of one that does not.
const V1_HEADER_BYTES: usize = 22;
/// The event is there for what is known of the machine alone.
const STATE_ONLY: u32 = 1;

/// An event where it lies. Offsets are into the buffer that its block is in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) info: &'static EventInfo,
    pub(super) ts_ns: u64,
    pub(super) tid: i64,
    pub(super) cpu: u16,
    pub(super) state_only: bool,
    /// Whether lengths of parameters have four bytes.
    pub(super) wide: bool,
    /// Where the lengths of the parameters are, and behind them the values.
    pub(super) lengths: usize,
    pub(super) values: usize,
    pub(super) end: usize,
}

impl Frame {
    #[inline]
    pub(super) fn params<'a>(&self, buffer: &'a [u8]) -> Params<'a> {
        let lengths = buffer.get(self.lengths..self.values).unwrap_or_default();
        Params::new(lengths, buffer.get(self.values..self.end).unwrap_or_default(), self.wide)
    }

    pub(super) const fn count(&self) -> usize {
        (self.values - self.lengths) / if self.wide { 4 } else { 2 }
    }
}

/// What a block's body turned out to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Parsed {
    Event,
    /// An event of a code that is beyond the table.
    Unknown,
    /// An event of a code that only fills a pair.
    Unused,
}

/// Finds the event in a block's body, which begins at `at` in its buffer. It is left in `frame` instead of being returned:
/// a structure that passes through several hands on its way costs more than all the reading of it.
#[inline]
pub(super) fn parse(block: EventBlock, body: &[u8], at: usize, frame: &mut Option<Frame>) -> Result<Parsed, Flaw> {
    let Some(cpu) = u16_at(body, 0) else { return Err(too_short()) };
    let (flags, start) = if block.flags { (u32_at(body, 2).unwrap_or_default(), 6) } else { (0, 2) };
    let header_bytes = if block.counted { HEADER_BYTES } else { V1_HEADER_BYTES };
    let event = body.get(start..).unwrap_or_default();
    let (Some(ts_ns), Some(tid), Some(len), Some(code)) =
        (u64_at(event, 0), u64_at(event, 8), u32_at(event, 16), u16_at(event, 20))
    else {
        return Err(too_short());
    };
    let code = Code(code);
    let Some(info) = code.info() else {
        return Ok(if code.0 < Code::COUNT { Parsed::Unused } else { Parsed::Unknown });
    };
    let Some(rest) = event.get(header_bytes..len as usize) else { return Err(wrong_length(info, len, event.len())) };
    let (wide, count, values_len) = if block.counted {
        let wide = info.flags.has(Flags::LARGE_PAYLOAD);
        let count = u32_at(event, V1_HEADER_BYTES).unwrap_or_default() as usize;
        (wide, count, sum(rest, count, wide).ok_or_else(|| do_not_fit(info))?)
    } else {
        let (count, values_len) = recover(info, rest)?;
        (false, count, values_len)
    };
    let lengths = at + start + header_bytes;
    let values = lengths + count * if wide { 4 } else { 2 };
    let state_only = flags & STATE_ONLY != 0;
    let end = values + values_len;
    *frame = Some(Frame { info, ts_ns, tid: tid.cast_signed(), cpu, state_only, wide, lengths, values, end });
    Ok(Parsed::Event)
}

#[inline]
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

#[inline]
fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}

/// Bytes of the values behind this many lengths, if all of that fits.
fn sum(rest: &[u8], count: usize, wide: bool) -> Option<usize> {
    let total = if wide {
        let lengths = rest.as_chunks().0.get(..count)?;
        lengths.iter().map(|len| u64::from(u32::from_le_bytes(*len))).sum::<u64>()
    } else {
        let lengths = rest.as_chunks().0.get(..count)?;
        lengths.iter().map(|len| u64::from(u16::from_le_bytes(*len))).sum::<u64>()
    };
    let total = usize::try_from(total).ok()?;
    (total <= rest.len() - count * if wide { 4 } else { 2 }).then_some(total)
}

/// How many parameters an event has whose header does not say it: as many as make it as long as it is, and at most those of
/// today.
fn recover(info: &EventInfo, mut rest: &[u8]) -> Result<(usize, usize), Flaw> {
    /// Recorders of then said that these were longer than they are, by as many bytes.
    const TOO_LONG: (&[Code], usize) = (&[Code::NOTIFICATION_E, Code::INFRASTRUCTURE_EVENT_E], 3);
    if TOO_LONG.0.contains(&info.code) {
        rest = rest.len().checked_sub(TOO_LONG.1).and_then(|len| rest.get(..len)).ok_or_else(|| uncounted(info))?;
    }
    let lengths: &[[u8; 2]] = rest.as_chunks().0;
    for count in (0..=info.params.len().min(lengths.len())).rev() {
        let lengths = lengths.get(..count).unwrap_or_default();
        let values = lengths.iter().map(|len| usize::from(u16::from_le_bytes(*len))).sum::<usize>();
        let total = 2 * count + values;
        if total == rest.len() {
            return Ok((count, values));
        }
        if total < rest.len() {
            break;
        }
    }
    Err(uncounted(info))
}

#[cold]
fn too_short() -> Flaw {
    "a block is too short for an event".into()
}

#[cold]
fn wrong_length(info: &EventInfo, said: u32, there: usize) -> Flaw {
    format!("an event ({}) says that it has {said} bytes, of which its block has {there}", info.name).into()
}

#[cold]
fn do_not_fit(info: &EventInfo) -> Flaw {
    format!("the parameters of an event ({}) are longer than the event", info.name).into()
}

#[cold]
fn uncounted(info: &EventInfo) -> Flaw {
    format!("no number of parameters makes an event ({}) as long as it is", info.name).into()
}
