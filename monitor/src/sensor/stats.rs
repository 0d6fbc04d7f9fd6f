//! The programs' own counters: what reached the ring, what was left out on purpose, what was lost.

use std::{
    collections::BTreeMap,
    os::fd::{AsRawFd as _, BorrowedFd},
    sync::Arc,
};

use aya::maps::{HashMap, MapData, PerCpuArray};
use monitor_ebpf::{
    record::Kind,
    settings::{Counter, LossKey},
};

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
    /// Lost because their cgroup had used up its share of a ring that fills up.
    pub over_budget: u64,
}

impl KindCounts {
    /// Lost, whatever the cause.
    pub const fn lost(&self) -> u64 {
        self.ring_full + self.unreadable + self.over_budget
    }

    fn add(&mut self, counter: Counter, lost: u64) {
        match counter {
            Counter::UNREADABLE => self.unreadable += lost,
            Counter::OVER_BUDGET => self.over_budget += lost,
            _ => self.ring_full += lost,
        }
    }

    /// What is left of these without those.
    const fn without(self, those: Self) -> Self {
        Self {
            emitted: self.emitted.saturating_sub(those.emitted),
            filtered: self.filtered.saturating_sub(those.filtered),
            ring_full: self.ring_full.saturating_sub(those.ring_full),
            unreadable: self.unreadable.saturating_sub(those.unreadable),
            over_budget: self.over_budget.saturating_sub(those.over_budget),
        }
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
            over_budget: sum.over_budget + counts.over_budget,
        })
    }

    /// Kinds that lost records since an earlier reading, with how many.
    pub fn lost_since(&self, earlier: &Counts) -> Vec<(Kind, KindCounts)> {
        let before = |kind| earlier.0.iter().find(|(k, _)| *k == kind).map(|(_, counts)| *counts).unwrap_or_default();
        self.0
            .iter()
            .map(|(kind, now)| (*kind, now.without(before(*kind))))
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
            over_budget: sum(kind, Counter::OVER_BUDGET),
        };
        Counts(kernel_kinds().map(|kind| (kind, counts(kind))).collect())
    }
}

/// The map that counts lost records by whose they were.
pub(super) type LossMap = HashMap<MapData, [u8; size_of::<LossKey>()], u64>;

/// Says whose records were lost.
pub(super) struct Losses {
    map: LossMap,
    /// What the map said when it was last read.
    seen: BTreeMap<(u16, u64, u32), u64>,
}

impl Losses {
    pub(super) const fn new(map: LossMap) -> Self {
        Self { map, seen: BTreeMap::new() }
    }

    /// Divides what was lost of each kind among cgroups. What the map does not know of, because it forgot, is cgroup 0's.
    pub(super) fn divide(&mut self, lost: Vec<(Kind, KindCounts)>) -> Vec<(Kind, u64, KindCounts)> {
        let mut now = BTreeMap::new();
        for (key, count) in self.map.iter().filter_map(Result::ok) {
            let key: LossKey = zerocopy::transmute!(key);
            now.insert((u16::try_from(key.kind).unwrap_or(0), key.cgroup_id, key.counter), count);
        }
        let mut divided: BTreeMap<(u16, u64), KindCounts> = BTreeMap::new();
        for (&(kind, cgroup_id, counter), &count) in &now {
            // An entry that was evicted begins anew.
            let before = self.seen.get(&(kind, cgroup_id, counter)).copied().filter(|before| *before <= count);
            let more = count - before.unwrap_or(0);
            if more > 0 {
                divided.entry((kind, cgroup_id)).or_default().add(Counter(counter), more);
            }
        }
        self.seen = now;
        let mut all: Vec<_> = divided.iter().map(|((kind, cgroup), counts)| (Kind(*kind), *cgroup, *counts)).collect();
        for (kind, total) in lost {
            let known =
                all.iter().filter(|(of, ..)| *of == kind).fold(KindCounts::default(), |sum, (.., counts)| KindCounts {
                    ring_full: sum.ring_full + counts.ring_full,
                    unreadable: sum.unreadable + counts.unreadable,
                    over_budget: sum.over_budget + counts.over_budget,
                    ..sum
                });
            let rest = total.without(known);
            if rest.lost() > 0 {
                all.push((kind, 0, rest));
            }
        }
        all
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
    /// Instructions that the verifier looked at when it was loaded, each as often as there are ways to it; `None` before
    /// Linux 5.16.
    pub verified: Option<u64>,
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
            Some(ProgramCost { name: name.clone(), run_time_ns, runs, verified: number(&text, "verified_insns") })
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
