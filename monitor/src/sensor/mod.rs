//! The live source: BPF programs in the kernel, a ring between, records out.
//!
//! Start order matters: programs first, then the snapshot, so that nothing falls between the two; what happens in between is
//! told twice and the state takes it calmly. Everything that the sensor learns beside the ring (session, cgroups, tasks,
//! loss) becomes a record in the same stream.

pub mod btf;
pub mod bundle;
mod digest;
pub mod features;
mod immediate;
pub mod load;
mod made;
mod memory;
pub mod offsets;
pub mod privileges;
pub mod settings;
pub mod snapshot;
pub mod stats;
mod subjects;

use std::{
    collections::VecDeque,
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use aya::maps::{MapData, RingBuf};
use monitor_ebpf::record::Kind;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    time::{ClockId, clock_gettime},
};

use crate::{
    record,
    rules::Demand,
    source::{Source, SourceError, Status},
};
use bundle::Bundles;
use digest::Digests;
use load::{Loaded, SensorError, Settings};
use made::Made;
use stats::{Counts, Losses, Programs, Stats};
use subjects::Subjects;

/// How often the kernel's counters are read.
const STATS_INTERVAL: Duration = Duration::from_secs(1);
/// Records passed on in one call, so that the caller can look at other things.
const BATCH: usize = 8192;

/// A running sensor.
pub struct Sensor {
    loaded: Option<Loaded>,
    ring: RingBuf<MapData>,
    stats: Stats,
    /// Which calls cgroups make, where that is noted.
    made: Option<Made>,
    /// Whose records were lost.
    losses: Losses,
    /// Counters of the last look, for loss records.
    reported: Counts,
    last_look: Instant,
    /// Observations that go out before the ring's records.
    observations: VecDeque<Vec<u8>>,
    bundles: Bundles,
    digests: Digests,
}

impl Sensor {
    /// Loads and attaches the programs, then takes the snapshot.
    pub fn start(settings: &Settings) -> Result<Self, SensorError> {
        memory::return_large_blocks();
        let mut loaded = load::load(settings)?;
        let ring = loaded.ring()?;
        let stats = Stats::new(loaded.counters()?);
        let losses = Losses::new(loaded.losses()?);
        let made = if settings.observe { Some(Made::new(loaded.made()?)) } else { None };
        let mut bundles = Bundles::start(settings.places.clone())?;
        let digests = Digests::start(settings.places.host_root.clone())?;
        let observations = snapshot::take(&mut loaded, settings.node_name.as_deref(), &mut bundles)?.into();
        let reported = stats.read();
        let last_look = Instant::now();
        let loaded = Some(loaded);
        Ok(Self { loaded, ring, stats, made, losses, reported, last_look, observations, bundles, digests })
    }

    /// Detaches the programs. What is in the ring can still be drained.
    pub fn detach(&mut self) {
        self.look();
        self.loaded = None;
    }

    /// Changes which calls the kernel sends: those that rules need, and what is always needed.
    pub fn want(&mut self, demand: Demand) -> Result<(), SensorError> {
        self.loaded.as_mut().map_or(Ok(()), |loaded| loaded.want(demand))
    }

    /// The table of files of which no rule wants to hear; there is one of it.
    pub fn subjects(&mut self) -> Result<Subjects, SensorError> {
        let gone = || SensorError::Object("no map SUBJECTS".into());
        self.loaded.as_mut().ok_or_else(gone)?.subjects()
    }

    /// Counters since the start.
    pub fn counts(&self) -> Counts {
        self.stats.read()
    }

    /// A reader of the counters that lives on its own.
    pub fn stats(&self) -> Stats {
        self.stats.clone()
    }

    /// How many containers came, and of how many it is known what they are.
    pub fn containers(&self) -> bundle::Counts {
        self.bundles.counts()
    }

    /// The programs, for looking at what they cost.
    pub fn programs(&self) -> Programs {
        self.loaded.as_ref().map(Loaded::programs).unwrap_or_default()
    }

    /// Puts a record of the caller's into the stream, behind the snapshot and before what is in the ring.
    pub fn observe(&mut self, record: Vec<u8>) {
        self.observations.push_back(record);
    }

    /// Looks at what the programs count beside the ring.
    fn look(&mut self) {
        if let Some(made) = &mut self.made {
            self.observations.extend(made.news(ktime_ns()));
        }
        let counts = self.stats.read();
        let lost = counts.lost_since(&self.reported);
        if !lost.is_empty() {
            for (kind, cgroup_id, lost) in self.losses.divide(lost) {
                let lost = [lost.ring_full, lost.unreadable, lost.over_budget];
                self.observations.push_back(record::loss(ktime_ns(), kind, cgroup_id, lost));
            }
        }
        self.reported = counts;
        self.last_look = Instant::now();
    }

    /// Waits until the kernel wakes us or patience ends.
    fn wait(&self, patience: Duration) {
        let timeout = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        let mut fds = [PollFd::from_borrowed_fd(self.ring.as_fd(), PollFlags::IN)];
        // A signal ends the wait early, which is what its sender wants.
        let _ = poll(&mut fds, Some(&timeout));
    }
}

impl Source for Sensor {
    fn drain(&mut self, patience: Duration, each: &mut dyn FnMut(&[u8])) -> Result<Status, SourceError> {
        if self.last_look.elapsed() >= STATS_INTERVAL && self.loaded.is_some() {
            self.look();
        }
        while let Some(record) = self.observations.pop_front() {
            each(&record);
        }
        self.bundles.late(each);
        self.digests.late(each);
        let mut taken = 0;
        while taken < BATCH
            && let Some(item) = self.ring.next()
        {
            self.digests.before(&item, each);
            each(&item);
            self.bundles.behind(&item, each);
            taken += 1;
        }
        match (taken, &self.loaded) {
            (0, None) => Ok(Status::Ended),
            (0, Some(_)) => {
                self.wait(patience);
                Ok(Status::Open)
            }
            _ => Ok(Status::Open),
        }
    }
}

/// Now, on the records' clock.
pub fn ktime_ns() -> u64 {
    clock_ns(ClockId::Boottime)
}

/// Now, nanoseconds since 1970.
pub fn realtime_ns() -> u64 {
    clock_ns(ClockId::Realtime)
}

fn clock_ns(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let (seconds, nanoseconds) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

/// Kinds that the kernel sends.
pub fn kernel_kinds() -> impl Iterator<Item = Kind> {
    Kind::ALL.iter().copied().filter(|kind| !kind.is_observation())
}
