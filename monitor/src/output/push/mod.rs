//! Pushing findings to sinks: each has a thread, a position in the spool, and its own troubles.
//!
//! ```text
//! spool -- reader --> batches --> requests in flight (bounded) --> sink
//!   ^                    ^                                          |
//!   cursor <-- acknowledged without a hole          sent again <-- status
//! ```
//!
//! A batch is forgotten when the sink has acknowledged it and everything before it; until then it is sent again. So a sink
//! gets everything at least once, and twice what it had not answered when the agent or the connection ended.

pub mod batch;
mod dead_letter;
mod findings;
pub mod retry;
mod sink;
pub mod state;

use std::{path::PathBuf, sync::Arc, thread, time::Duration};

use tokio::sync::watch;

pub use self::{retry::Backoff, state::SinkState};
use super::{
    dial::Dialer,
    spool::{Spool, reader::Most},
};

/// What a sink speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `monitor.v1.FindingsSink`.
    Findings,
    /// OpenTelemetry's `LogsService`.
    Otlp,
}

/// Where a sink that was never served begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With everything in the spool.
    Earliest,
    /// With what is made from now on.
    Latest,
}

/// A sink, and how it is served.
#[derive(Debug)]
pub struct SinkOptions {
    /// Names its cursor, its metrics and its log lines.
    pub name: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// How to get there.
    pub dialer: Dialer,
    /// Whether requests are compressed.
    pub gzip: bool,
    /// Most findings and bytes in a batch.
    pub most: Most,
    /// How long a finding may wait for others.
    pub linger: Duration,
    /// Most requests at a time.
    pub in_flight: usize,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long to wait after failures.
    pub backoff: Backoff,
    /// Where to begin.
    pub begin: Begin,
    /// Where findings go that the sink refuses.
    pub dead_letters: PathBuf,
}

/// Who sends; the same for all sinks.
#[derive(Clone, Debug, Default)]
pub struct Sender {
    /// Name of the node.
    pub node_name: String,
    /// Name of the cluster, or empty.
    pub cluster_name: String,
    /// The kernel's boot id.
    pub boot_id: String,
}

/// Sinks at work. They stop when this is dropped, or with [`stop`](Self::stop).
#[derive(Debug)]
pub struct Sinks {
    states: Vec<Arc<SinkState>>,
    stop: watch::Sender<bool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Sinks {
    /// Starts a thread for each.
    pub fn start(spool: &Spool, sender: &Sender, sinks: Vec<SinkOptions>) -> std::io::Result<Sinks> {
        let (stop, stopped) = watch::channel(false);
        let (mut states, mut threads) = (Vec::new(), Vec::new());
        for options in sinks {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let state = Arc::new(SinkState::new(&options));
            states.push(Arc::clone(&state));
            let sink = sink::Sink::new(spool, sender.clone(), options, state);
            let stopped = stopped.clone();
            let name: String = format!("sink-{}", sink.name()).chars().take(15).collect();
            threads.push(thread::Builder::new().name(name).spawn(move || runtime.block_on(sink.run(stopped)))?);
        }
        Ok(Sinks { states, stop, threads })
    }

    /// How they are doing, in the order in which they were given.
    pub fn states(&self) -> &[Arc<SinkState>] {
        &self.states
    }

    /// Lets them send what is left, but no longer than `within`.
    pub fn stop(self, within: Duration) {
        self.stop.send_replace(true);
        let deadline = std::time::Instant::now() + within;
        for thread in self.threads {
            while !thread.is_finished() && std::time::Instant::now() < deadline {
                thread::sleep(Duration::from_millis(2));
            }
            // One that is not finished ends with the process; its cursor stands where it was acknowledged.
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}
