//! The programs' own counters: what reached the ring, what was left out on purpose, what was lost.

use std::sync::Arc;

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
