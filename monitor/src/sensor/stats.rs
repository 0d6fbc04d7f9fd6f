//! The programs' own counters: what reached the ring, what was left out on purpose, what was lost.

use std::{
    os::fd::{AsRawFd as _, BorrowedFd},
    sync::Arc,
};

use aya::maps::{MapData, PerCpuArray};
use monitor_ebpf::{record::Kind, settings::Counter};

use super::kernel_kinds;

/// Counts of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindCounts {
    /// Reached the ring.
    pub emitted: u64,
    /// Left out on purpose.
    pub filtered: u64,
    /// Lost because the ring was full.
    pub ring_full: u64,
    /// Lost because a kernel structure could not be read.
    pub unreadable: u64,
}

impl KindCounts {
    /// Lost, whatever the cause.
    pub const fn lost(&self) -> u64 {
        self.ring_full + self.unreadable
    }
}

/// Counts of every kernel kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub Vec<(Kind, KindCounts)>);

impl Counts {
    /// All kinds together.
    pub fn total(&self) -> KindCounts {
        self.0.iter().fold(KindCounts::default(), |sum, (_, counts)| KindCounts {
            emitted: sum.emitted + counts.emitted,
            filtered: sum.filtered + counts.filtered,
            ring_full: sum.ring_full + counts.ring_full,
            unreadable: sum.unreadable + counts.unreadable,
        })
    }

    /// Kinds that lost records since an earlier reading, with how many.
    pub fn lost_since(&self, earlier: &Counts) -> Vec<(Kind, KindCounts)> {
        let before = |kind| earlier.0.iter().find(|(k, _)| *k == kind).map(|(_, counts)| *counts).unwrap_or_default();
        self.0
            .iter()
            .map(|(kind, now)| {
                let before = before(*kind);
                let ring_full = now.ring_full.saturating_sub(before.ring_full);
                let unreadable = now.unreadable.saturating_sub(before.unreadable);
                (*kind, KindCounts { ring_full, unreadable, ..KindCounts::default() })
            })
            .filter(|(_, lost)| lost.lost() > 0)
            .collect()
    }
}

/// Reads the counters; cheap to clone, and outlives the programs.
#[derive(Clone)]
pub struct Stats {
    map: Arc<PerCpuArray<MapData, u64>>,
}

impl Stats {
    pub(super) fn new(map: PerCpuArray<MapData, u64>) -> Self {
        Self { map: Arc::new(map) }
    }

    /// The counters now, summed over CPUs.
    pub fn read(&self) -> Counts {
        let sum = |kind, counter: Counter| self.map.get(&counter.index(kind), 0).map_or(0, |cpus| cpus.iter().sum());
        let counts = |kind| KindCounts {
            emitted: sum(kind, Counter::EMITTED),
            filtered: sum(kind, Counter::FILTERED),
            ring_full: sum(kind, Counter::RING_FULL),
            unreadable: sum(kind, Counter::UNREADABLE),
        };
        Counts(kernel_kinds().map(|kind| (kind, counts(kind))).collect())
    }
}

/// What one program cost, as long as the kernel counts (`kernel.bpf_stats_enabled`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramCost {
    /// Its name.
    pub name: String,
    /// How long it ran.
    pub run_time_ns: u64,
    /// How often it ran.
    pub runs: u64,
}

/// The programs of this sensor, for looking at what they cost.
#[derive(Clone, Debug, Default)]
pub struct Programs(Vec<(String, i32, u64)>);

impl Programs {
    /// Of these.
    pub(super) fn new<'a>(programs: impl Iterator<Item = (&'a str, BorrowedFd<'a>)>) -> Self {
        let known = programs.filter_map(|(name, fd)| {
            let fd = fd.as_raw_fd();
            Some((name.to_owned(), fd, number(&fdinfo(fd)?, "prog_id")?))
        });
        let mut known: Vec<_> = known.collect();
        known.sort();
        Self(known)
    }

    /// What each cost so far. A program that is detached is not among them.
    pub fn read(&self) -> Vec<ProgramCost> {
        let read = |(name, fd, id): &(String, i32, u64)| {
            let text = fdinfo(*fd)?;
            // The number of a closed descriptor may be another's by now.
            (number(&text, "prog_id")? == *id).then_some(())?;
            let (run_time_ns, runs) = (number(&text, "run_time_ns")?, number(&text, "run_cnt")?);
            Some(ProgramCost { name: name.clone(), run_time_ns, runs })
        };
        self.0.iter().filter_map(read).collect()
    }
}

/// `bpf_prog_show_fdinfo` in the kernel's `kernel/bpf/syscall.c`.
fn fdinfo(fd: i32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()
}

fn number(fdinfo: &str, name: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.trim().parse().ok()
}
