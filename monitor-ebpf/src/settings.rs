//! What the programs are told at load time, besides offsets: numbers of this architecture's system calls and what to send.

use crate::subject::Key;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// System call numbers that the tables cover. Higher ones are never wanted; no call has one yet.
pub const CALLS: usize = 512;

/// Queued bytes at which the programs wake the agent.
pub const WAKEUP_BYTES: u64 = 256 * 1024;

/// Where `sys_exit` goes on with a call: an index into the table of tail calls.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class(pub u32);

impl Class {
    /// It may have been denied by seccomp: [`crate::record::SeccompCallRecord`].
    pub const SECCOMP: Class = Class(0);
    /// It is wanted: [`crate::record::CallRecord`].
    pub const CALL: Class = Class(1);
    /// It opens something, of which rules perhaps do not want to hear: goes on to [`Class::CALL`] if they may.
    pub const OPEN: Class = Class(2);
    /// Slots of the table.
    pub const COUNT: u32 = 3;
}

/// What to collect when a call ends. Numbers below 6 name its arguments.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Plan {
    /// Which has the descriptor that it is about; [`Plan::RESULT`] for one that it made.
    pub descriptor: u8,
    /// Which are texts.
    pub texts: [u8; 3],
    /// Which has the directory that each of the first two texts is relative to; may be [`Plan::WORKING_DIRECTORY`].
    pub directories: [u8; 2],
    /// Which points to a structure whose length the next one has, a socket address in most cases.
    pub structure: u8,
    /// Which has `O_*` flags of an open.
    pub open_flags: u8,
    /// Bits of [`plan_flag`].
    pub flags: u8,
}

impl Plan {
    /// Stands for what the call returned.
    pub const RESULT: u8 = 6;
    /// Stands for the working directory.
    pub const WORKING_DIRECTORY: u8 = 0xfe;
    /// There is none.
    pub const ABSENT: u8 = 0xff;
    /// Numbers and result alone.
    pub const EMPTY: Self = Self {
        descriptor: Self::ABSENT,
        texts: [Self::ABSENT; 3],
        directories: [Self::ABSENT; 2],
        structure: Self::ABSENT,
        open_flags: Self::ABSENT,
        flags: 0,
    };
}

/// Bits of [`Plan::flags`].
pub mod plan_flag {
    /// Only where it failed.
    pub const FAILED: u8 = 1;
    /// It opens a file: for [`wanted::DRIFT`](super::wanted::DRIFT) only what may become a program later is sent.
    pub const OPENS: u8 = 1 << 1;
    /// Only on sockets of the internet that are not TCP.
    pub const DATAGRAM: u8 = 1 << 2;
    /// The structure is the address in a `struct msghdr`, to which its argument points.
    pub const MESSAGE: u8 = 1 << 3;
    /// It maps a file: for [`wanted::DRIFT`](super::wanted::DRIFT) only code of a container's writable layer is sent.
    pub const MAPS: u8 = 1 << 4;
    /// It makes code of a mapping, at the address in its first argument: for [`wanted::DRIFT`](super::wanted::DRIFT) as
    /// [`MAPS`].
    pub const PROTECTS: u8 = 1 << 5;
}

/// Files that are not the image's and that an interpreter may open before its script: caches of compiled modules, say.
pub const SCRIPT_OPENS: u8 = 16;

/// What is wanted: of calls, by number, bits of [`wanted`]. The agent changes it when rules change.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Wanted {
    /// Whether it is wanted in either table; lets the rest go before it is asked which table a number is of.
    pub either: [u8; CALLS],
    /// In the 64-bit table.
    pub native: [u8; CALLS],
    /// In the 32-bit table.
    pub compat: [u8; CALLS],
    /// Whether an exec is to tell its environment.
    pub environment: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// Number of the rules in use: what was found out under others does not count.
    pub epoch: u32,
}

impl Wanted {
    /// Nothing wanted.
    pub const NOTHING: Self = Self {
        either: [wanted::NOT; CALLS],
        native: [wanted::NOT; CALLS],
        compat: [wanted::NOT; CALLS],
        environment: 0,
        reserved: [0; 3],
        epoch: 0,
    };
}

/// How much of a call is wanted: bits.
pub mod wanted {
    /// Not at all.
    pub const NOT: u8 = 0;
    /// What the drift detection needs: opens for writing of regular files on overlay and tmpfs, which tell who wrote a
    /// program that is run later, and mappings of code from the upper layer of an overlay.
    pub const DRIFT: u8 = 1;
    /// Those that succeed, by access mode where it opens a file: to read, to write, for both. Other calls have all three or none.
    pub const SUCCEEDED: u8 = 0b111 << 1;
    /// Those that fail, the same.
    pub const FAILED: u8 = 0b111 << 4;
    /// Every one.
    pub const ALL: u8 = SUCCEEDED | FAILED;
    /// Not those whose [subject](crate::subject) is in the table.
    pub const BY_SUBJECT: u8 = 1 << 7;
    /// Access modes of an open.
    pub const ACCESS_MODES: u8 = 3;

    /// The bit of an open with this access mode, or those of all where there is none such.
    #[inline]
    pub const fn outcome(failed: bool, access: u8) -> u8 {
        let all = if failed { FAILED } else { SUCCEEDED };
        if access >= ACCESS_MODES { all } else { all & 0b1001 << (access + 1) }
    }
}

/// What one system call table has to say.
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
    /// What to collect of each call.
    pub plans: [Plan; CALLS],
}

impl Table {
    /// A table in which no call is wanted.
    pub const EMPTY: Self = Self { seccomp: u32::MAX, prctl: u32::MAX, bitmap_limit: 0, plans: [Plan::EMPTY; CALLS] };
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
    /// 1 to note which calls each cgroup makes: [`Made`].
    pub observe: u32,
    /// Queued bytes from which on a cgroup has a budget.
    pub pressure_bytes: u32,
    /// Queued bytes from which on the ring takes nothing but what may become a finding by itself.
    pub reserve_bytes: u32,
    /// Calls of one cgroup that the ring takes in a [`Budget::WINDOW_NS`] under pressure.
    pub budget: u32,
    /// Key of the digests that subjects are.
    pub subject_key: Key,
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
        observe: 0,
        pressure_bytes: u32::MAX,
        reserve_bytes: u32::MAX,
        budget: u32::MAX,
        subject_key: Key::NONE,
        native: Table::EMPTY,
        compat: Table::EMPTY,
    };
}

/// Which calls a cgroup's tasks have made: one bit each, by number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Made {
    /// Of the 64-bit table.
    pub native: [u64; CALLS / 64],
    /// Of the 32-bit table.
    pub compat: [u64; CALLS / 64],
}

/// What a cgroup has used of its share of the ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Budget {
    /// Number of the window: time over its length.
    pub window: u64,
    /// Records in it.
    pub used: u64,
}

impl Budget {
    /// Length of a window in nanoseconds.
    pub const WINDOW_NS: u64 = 100_000_000;
}

/// Whose records were lost, and why: key of the map that counts them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct LossKey {
    /// The cgroup of the task at hand.
    pub cgroup_id: u64,
    /// [`crate::record::Kind`] of the record.
    pub kind: u32,
    /// A [`Counter`].
    pub counter: u32,
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
    /// Records lost because their cgroup had used up its share of a ring that fills up.
    pub const OVER_BUDGET: Counter = Counter(4);
    /// Counters per kind.
    pub const PER_KIND: u32 = 5;
    /// Kinds that are counted: kernel kinds are below this number.
    pub const KINDS: u32 = 16;

    /// Index in the counter array.
    pub const fn index(self, kind: crate::record::Kind) -> u32 {
        kind.0 as u32 * Self::PER_KIND + self.0
    }
}
