//! An event's header, and where its parameters lie.

use std::ops::Range;

use super::{Flaw, block::EventBlock};
use crate::event::schema::{Code, EventInfo, Flags};

/// Bytes of an event's header that says how many parameters there are.
const HEADER_BYTES: usize = 26;
/// Bytes of one that does not.
const V1_HEADER_BYTES: usize = 22;
/// The event is there for what is known of the machine alone.
const STATE_ONLY: u32 = 1;

/// An event where it lies.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) ts_ns: u64,
    pub(super) tid: i64,
    pub(super) cpu: u16,
    pub(super) state_only: bool,
    pub(super) info: &'static EventInfo,
    /// Whether lengths of parameters have four bytes.
    pub(super) wide: bool,
    /// Where in the body the lengths of the parameters are.
    pub(super) lengths: Range<usize>,
    /// Where in the body the values are.
    pub(super) values: Range<usize>,
}

/// What a block's body turned out to be.
pub(super) enum Parsed {
    Event(Frame),
    /// An event of a code that is beyond the table.
    Unknown,
    /// An event of a code that only fills a pair.
    Unused,
}

/// The event in a block's body.
#[inline]
pub(super) fn parse(block: EventBlock, body: &[u8]) -> Result<Parsed, Flaw> {
    let (Some(cpu), Some(flags)) = (body.first_chunk(), body.get(2..)) else { return Err(too_short()) };
    let (flags, start) = match flags.first_chunk() {
        Some(flags) if block.flags => (u32::from_le_bytes(*flags), 6),
        _ => (0, 2),
    };
    let header_bytes = if block.counted { HEADER_BYTES } else { V1_HEADER_BYTES };
    let Some(event) = body.get(start..) else { return Err(too_short()) };
    let Some(header) = event.first_chunk::<V1_HEADER_BYTES>().filter(|_| event.len() >= header_bytes) else {
        return Err(too_short());
    };
    let [t0, t1, t2, t3, t4, t5, t6, t7, i0, i1, i2, i3, i4, i5, i6, i7, l0, l1, l2, l3, c0, c1] = *header;
    let code = Code(u16::from_le_bytes([c0, c1]));
    let Some(info) = code.info() else {
        return Ok(if code.0 < Code::COUNT { Parsed::Unused } else { Parsed::Unknown });
    };
    let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let Some(rest) = event.get(header_bytes..len) else { return Err(wrong_length(info, len, event.len())) };
    let (wide, count, values_len) = if block.counted {
        let wide = info.flags.has(Flags::LARGE_PAYLOAD);
        let count =
            event.get(V1_HEADER_BYTES..).and_then(<[u8]>::first_chunk).map_or(0, |count| u32::from_le_bytes(*count));
        let count = count as usize;
        (wide, count, sum(rest, count, wide).ok_or_else(|| do_not_fit(info))?)
    } else {
        let (count, values_len) = recover(info, rest)?;
        (false, count, values_len)
    };
    let lengths = start + header_bytes;
    let values = lengths + count * if wide { 4 } else { 2 };
    Ok(Parsed::Event(Frame {
        ts_ns: u64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
        tid: i64::from_le_bytes([i0, i1, i2, i3, i4, i5, i6, i7]),
        cpu: u16::from_le_bytes(*cpu),
        state_only: flags & STATE_ONLY != 0,
        info,
        wide,
        lengths: lengths..values,
        values: values..values + values_len,
    }))
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
fn wrong_length(info: &EventInfo, said: usize, there: usize) -> Flaw {
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
