//! The sensor within the test's own process: what it tells of seccomp by one method, before rules and outputs.
//!
//! Two of them watch the same calls in two ways, so that each is the other's judge.
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Result, anyhow, ensure};
use monitor::{
    decode::decode,
    event::{Body, Event},
    seccomp::{Detector, Violation},
    sensor::{
        Sensor,
        load::{SeccompChoice, Settings},
    },
    source::{Source as _, Status},
};
use monitor_ebpf::record::{COMM_LEN, Header, SeccompCallRecord};

/// Room for everything that a test does, whatever else the machine is busy with.
const RING_BYTES: u32 = 128 << 20;
const PATIENCE: Duration = Duration::from_millis(20);

/// What makes a thread one thread.
pub type Thread = (u64, u32, u32);

fn thread_of(header: &Header) -> Thread {
    (header.start_ns, header.tgid, header.tid)
}

/// A violation, and the call that it was.
#[derive(Clone, Debug)]
pub struct Denied {
    /// Who made the call.
    pub thread: Thread,
    /// Its name at that time.
    pub comm: [u8; COMM_LEN],
    /// When it was told.
    pub ktime_ns: u64,
    /// What the call returned; 0 where its thread ended in it.
    pub ret: i64,
    /// What is said of it.
    pub violation: Violation,
}

impl Denied {
    fn of(call: &SeccompCallRecord, violation: &Violation) -> Self {
        Self {
            thread: thread_of(&call.header),
            comm: call.comm,
            ktime_ns: call.header.ktime_ns,
            ret: call.ret,
            violation: violation.clone(),
        }
    }
}

/// What a sensor told.
#[derive(Debug, Default)]
pub struct Told {
    /// Violations in order.
    pub denied: Vec<Denied>,
    /// Calls that the kernel did not let pass at once, and so were told.
    pub calls: u64,
    /// Parents and their children.
    pub forks: Vec<(u32, u32)>,
    /// Records that the kernel lost.
    pub lost: u64,
    /// Calls that could not be judged.
    pub unjudged: u64,
    /// Calls whose filters' answer does not fit what was seen.
    pub misfits: u64,
}

impl Told {
    /// A process and all that descend from it.
    pub fn family(&self, process: u32) -> BTreeSet<u32> {
        let mut family = BTreeSet::from([process]);
        // A parent is told of before its child is.
        for (parent, child) in &self.forks {
            if family.contains(parent) {
                family.insert(*child);
            }
        }
        family
    }
}

/// A sensor at work.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Told>>,
}

impl Watch {
    /// Starts one and returns when it is attached.
    pub fn start(method: SeccompChoice) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::spawn(move || watch(method, &stopped, &ready));
        if is_ready.recv().is_err() {
            return Err(thread
                .join()
                .map_err(|_| anyhow!("the sensor panicked"))?
                .err()
                .unwrap_or_else(|| anyhow!("?")));
        }
        Ok(Self { stop, thread })
    }

    /// Ends it; what it told up to now.
    pub fn finish(self) -> Result<Told> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the sensor panicked"))?
    }
}

fn watch(method: SeccompChoice, stop: &AtomicBool, ready: &mpsc::Sender<()>) -> Result<Told> {
    let settings = Settings { ring_bytes: RING_BYTES, seccomp: method, ..Settings::default() };
    let mut sensor = Sensor::start(&settings)?;
    let mut follower = Follower::default();
    // The snapshot first, so that the machine is known.
    sensor.drain(PATIENCE, &mut |bytes| follower.take(bytes))?;
    ready.send(())?;
    loop {
        if stop.load(Ordering::Relaxed) {
            sensor.detach();
        }
        if sensor.drain(PATIENCE, &mut |bytes| follower.take(bytes))? == Status::Ended {
            break;
        }
    }
    ensure!(follower.undecodable == 0, "{} records are none", follower.undecodable);
    let Follower { mut detector, mut told, .. } = follower;
    detector.finish();
    (told.lost, told.unjudged, told.misfits) =
        (sensor.counts().total().lost(), detector.unjudged(), detector.misfits());
    Ok(told)
}

/// Takes records, as the agent's flow does.
#[derive(Default)]
struct Follower {
    machine: u32,
    detector: Detector<()>,
    told: Told,
    undecodable: u64,
}

impl Follower {
    fn take(&mut self, bytes: &[u8]) {
        let Ok(Event { header, body }) = decode(bytes) else {
            self.undecodable += 1;
            return;
        };
        let Self { machine, detector, told, .. } = self;
        match body {
            Body::Session(session) => *machine = session.facts.machine,
            Body::Fork(fork) => told.forks.push((header.tgid, fork.child_tgid)),
            Body::Sigsys(signal) => detector.signal(&signal),
            Body::SeccompFilter(filter, instructions) => {
                for released in detector.filter(*machine, &filter, instructions) {
                    told.denied
                        .extend(released.verdict.violation().map(|violation| Denied::of(&released.call, violation)));
                }
            }
            Body::SeccompCall(call) => {
                told.calls += 1;
                let verdict = detector.call(*machine, &call, ());
                let violation = verdict.as_ref().and_then(|verdict| verdict.violation());
                told.denied.extend(violation.map(|violation| Denied::of(&call, violation)));
            }
            Body::Exit(ended) => {
                let verdict = detector.exit(*machine, &ended);
                let violation = verdict.as_ref().and_then(|verdict| verdict.violation());
                told.denied.extend(violation.map(|violation| Denied {
                    thread: thread_of(&header),
                    comm: ended.comm,
                    ktime_ns: header.ktime_ns,
                    ret: 0,
                    violation: violation.clone(),
                }));
            }
            _ => {}
        }
    }
}
