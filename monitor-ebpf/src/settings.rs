//! What the programs are told at load time, besides offsets: numbers of this architecture's system calls and what to send.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// System call numbers that the class tables cover. Higher numbers are never in a class; none of the calls that the
/// sensor looks at is that high.
pub const CLASS_TABLE_LEN: usize = 512;

/// Queued bytes at which the programs wake the agent.
pub const WAKEUP_BYTES: u64 = 256 * 1024;

/// What `sys_exit` does with a call, besides judging it: an index into the table of tail calls.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Class(pub u8);

impl Class {
    /// Not wanted.
    pub const NONE: Class = Class(0);
    /// A call that may have been denied by seccomp: [`crate::record::SeccompCallRecord`].
    pub const SECCOMP: Class = Class(1);
    /// Opens a file, flags in the second argument: [`crate::record::OpenRecord`].
    pub const OPEN_FLAGS_1: Class = Class(2);
    /// Opens a file, flags in the third argument.
    pub const OPEN_FLAGS_2: Class = Class(3);
    /// Opens a file, flags elsewhere.
    pub const OPEN_ANY: Class = Class(4);
}

/// Slots of the table of tail calls.
pub const CLASSES: u32 = 5;

/// Numbers of the calls that install a seccomp filter, and of the exec family, in one system call table.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Table {
    /// `seccomp`.
    pub seccomp: u32,
    /// `prctl`.
    pub prctl: u32,
    /// Numbers below this are covered by the kernel's always-allow bitmap; its last word is left out, because the kernel
    /// sets the bits past its last system call in it.
    pub bitmap_limit: u32,
    /// Class of each call.
    pub classes: [Class; CLASS_TABLE_LEN],
}

impl Table {
    /// A table in which no call is wanted.
    pub const EMPTY: Self =
        Self { seccomp: u32::MAX, prctl: u32::MAX, bitmap_limit: 0, classes: [Class::NONE; CLASS_TABLE_LEN] };
}

/// Everything that the programs are told. Read-only from their side.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Settings {
    /// Mask of `task_compat_word` that says "32-bit entry" (`TS_COMPAT` on x86, `_TIF_32BIT` on arm64), 0 if none.
    pub compat_mask: u32,
    /// Bits of the system call number that carry it (x86 masks the x32 bit away).
    pub nr_mask: u32,
    /// How denied calls are found: a [`SeccompMethod`].
    pub seccomp_method: u32,
    /// Process id of the agent: its own calls are not sent.
    pub agent_tgid: u32,
    /// Whether a number is of a class in either table; lets the rest go before it is asked which table it is of.
    pub wanted: [u8; CLASS_TABLE_LEN],
    /// The 64-bit table.
    pub native: Table,
    /// The 32-bit table.
    pub compat: Table,
}

/// Values of [`Settings::seccomp_method`].
pub struct SeccompMethod;

impl SeccompMethod {
    /// Not looked at.
    pub const OFF: u32 = 0;
    /// `sys_exit` alone, the agent judges.
    pub const EXIT: u32 = 1;
    /// `sys_exit` without `sys_enter`.
    pub const PAIR: u32 = 2;
}

impl Settings {
    /// Nothing wanted: what the programs are compiled with.
    pub const NONE: Self = Self {
        compat_mask: 0,
        nr_mask: u32::MAX,
        seccomp_method: SeccompMethod::OFF,
        agent_tgid: 0,
        wanted: [0; CLASS_TABLE_LEN],
        native: Table::EMPTY,
        compat: Table::EMPTY,
    };
}

/// Per-CPU counters of the programs, by [`Counter`], for each kind.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter(pub u32);

impl Counter {
    /// Records that reached the ring.
    pub const EMITTED: Counter = Counter(0);
    /// Records left out on purpose.
    pub const FILTERED: Counter = Counter(1);
    /// Records lost because the ring was full.
    pub const RING_FULL: Counter = Counter(2);
    /// Records lost because a kernel structure could not be read.
    pub const UNREADABLE: Counter = Counter(3);
    /// Counters per kind.
    pub const PER_KIND: u32 = 4;
    /// Kinds that are counted: kernel kinds are below this number.
    pub const KINDS: u32 = 16;

    /// Index in the counter array.
    pub const fn index(self, kind: crate::record::Kind) -> u32 {
        kind.0 as u32 * Self::PER_KIND + self.0
    }
}
