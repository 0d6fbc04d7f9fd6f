//! Blocks: what their types mean, and the two that stand for themselves: the section header and the machine.

use super::{Flaw, fields::Fields};
use crate::event::{listed::Machine, path::until_nul};

/// Bytes of a block in front of its body: type and length.
pub(super) const HEADER_BYTES: usize = 8;
/// Bytes of a block behind its body: the length again.
pub(super) const TRAILER_BYTES: usize = 4;
/// Both.
pub(super) const FRAME_BYTES: usize = HEADER_BYTES + TRAILER_BYTES;

/// Type of a section header (pcapng).
pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
/// What a section header's body has before its options: magic, version and length.
const SECTION_BYTES: usize = 16;
/// Tells the byte order.
const MAGIC: u32 = 0x1a2b_3c4d;
/// The version that this reader knows.
const MAJOR: u16 = 1;

/// Whether a file that begins with these bytes is a capture of this kind.
pub fn is_section_header(head: &[u8]) -> bool {
    head.starts_with(&SECTION_HEADER.to_le_bytes())
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockType {
    Section,
    Machine,
    List(List),
    Event(EventBlock),
    Unknown,
}

/// A list of what existed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    /// Threads, in version 1 to 9.
    Threads(u8),
    /// Descriptors of one thread. From version 2 on, entries of it and of the following say how long they are.
    Descriptors(u8),
    /// Network interfaces.
    Interfaces(u8),
    /// Users and groups.
    Users(u8),
}

/// How an event lies in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventBlock {
    /// Its header says how many parameters it has: version 2.
    pub(super) counted: bool,
    /// There are flags in front of it.
    pub(super) flags: bool,
    /// It may be longer than 64 KiB.
    pub(super) large: bool,
}

impl EventBlock {
    const V1: Self = Self { counted: false, flags: false, large: false };
    const V2: Self = Self { counted: true, flags: false, large: false };
}

impl BlockType {
    #[inline]
    pub(super) const fn of(number: u32) -> Self {
        match number {
            0x216 => Self::Event(EventBlock::V2),
            0x217 => Self::Event(EventBlock { flags: true, ..EventBlock::V2 }),
            0x221 => Self::Event(EventBlock { large: true, ..EventBlock::V2 }),
            0x222 => Self::Event(EventBlock { flags: true, large: true, ..EventBlock::V2 }),
            0x204 | 0x8010_abcd => Self::Event(EventBlock::V1),
            0x208 => Self::Event(EventBlock { flags: true, ..EventBlock::V1 }),
            SECTION_HEADER => Self::Section,
            0x201 | 0x8002_abcd => Self::Machine,
            0x202 | 0x8000_abcd => Self::List(List::Threads(1)),
            0x207 | 0x8013_abcd => Self::List(List::Threads(2)),
            0x209 | 0x8014_abcd => Self::List(List::Threads(3)),
            0x210 => Self::List(List::Threads(4)),
            0x211 => Self::List(List::Threads(5)),
            0x212 => Self::List(List::Threads(6)),
            0x213 => Self::List(List::Threads(7)),
            0x214 => Self::List(List::Threads(8)),
            0x215 => Self::List(List::Threads(9)),
            0x203 | 0x8001_abcd => Self::List(List::Descriptors(1)),
            0x218 => Self::List(List::Descriptors(2)),
            0x205 | 0x8011_abcd => Self::List(List::Interfaces(1)),
            0x219 => Self::List(List::Interfaces(2)),
            0x206 | 0x8012_abcd => Self::List(List::Users(1)),
            0x220 => Self::List(List::Users(2)),
            _ => Self::Unknown,
        }
    }
}

/// Bytes that a section header has at least.
pub(super) const SECTION_BLOCK_BYTES: usize = FRAME_BYTES + SECTION_BYTES;

/// Whether a section header's body is that of a version which this reader knows.
pub(super) fn check_section(body: &[u8]) -> Result<(), Flaw> {
    let mut fields = Fields::new(body);
    let magic = fields.u32().unwrap_or_default();
    if magic == MAGIC.swap_bytes() {
        return Err("it was written on a big-endian machine, and only little-endian captures can be read".into());
    }
    if magic != MAGIC {
        return Err(format!("its section header has the magic number {magic:#x} instead of {MAGIC:#x}").into());
    }
    match (fields.u16(), fields.u16()) {
        (Some(major), Some(minor)) if major > MAJOR => {
            Err(format!("it has format version {major}.{minor}, and this monitor reads up to {MAJOR}").into())
        }
        _ => Ok(()),
    }
}

/// Bytes of the machine's host name.
const HOSTNAME_BYTES: usize = 128;
/// Bytes of the machine block's body.
pub(super) const MACHINE_BYTES: usize = 4 + 8 + 8 + HOSTNAME_BYTES + 4 * 8;

/// The machine, of its block's body.
pub(super) fn machine(body: &[u8]) -> Option<Machine<'_>> {
    let mut fields = Fields::new(body);
    Some(Machine {
        num_cpus: fields.u32()?,
        memory_bytes: fields.u64()?,
        max_pid: fields.u64()?,
        hostname: until_nul(fields.take(HOSTNAME_BYTES)?),
        boot_ts_epoch_ns: fields.u64()?,
        flags: fields.u64()?,
    })
}
