//! Makes findings without a sensor and hands them to the outputs of `monitor run`: `producer CONFIG JOURNAL RATE COUNT [SOCKET]`.
//!
//! The journal is written before a finding is handed over: `recovered EPOCH SEQUENCE CLEAN` (what the spool held of the run before),
//! `epoch EPOCH`, `made SEQUENCE UID`. RATE is findings per second, COUNT how many at most; 0 for both makes none and waits.
//! Says `producer: ready` on stderr, ends with SIGTERM, and then says `producer: summary: …`: what was made, dropped and written;
//! the CPU time of all of it and of making findings alone, which is not the outputs'; and how long handing one over took at
//! worst, on average over those that were made together.
use std::{
    env,
    fmt::Write as _,
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use monitor::{
    config::Config,
    output::{
        metrics::{self, Page, number},
        outputs::{OutputStatus, Outputs},
        push::Sender,
        service::{self, Part, Status},
        socket::Socket,
    },
    proto::v1::{GetInfoResponse, GetStatusResponse, ListRulesResponse},
};
use rustix::time::ClockId;
use tests::producer::finding;
use tokio::sync::watch;

/// What the flow of an agent would tell.
struct Account {
    outputs: OutputStatus,
    sensor: watch::Sender<bool>,
}

impl Status for Account {
    fn info(&self) -> GetInfoResponse {
        GetInfoResponse { version: "test".to_owned(), ..Default::default() }
    }

    fn status(&self) -> GetStatusResponse {
        let (spool, sinks) = (self.outputs.spool_status(), self.outputs.sink_statuses());
        GetStatusResponse { spool, sinks, ..Default::default() }
    }

    fn rules(&self) -> ListRulesResponse {
        ListRulesResponse::default()
    }

    fn sensor(&self) -> watch::Receiver<bool> {
        self.sensor.subscribe()
    }

    fn parts(&self) -> Vec<Part> {
        let failing = |why: String| (!why.is_empty()).then_some(why);
        let spool = self.outputs.spool_status().and_then(|spool| failing(spool.failing));
        vec![Part { name: "spool".to_owned(), why: spool, needed: false, vital: false }]
    }

    fn metrics(&self, page: &mut Page) {
        let delivered = self.outputs.sink_statuses().into_iter();
        let delivered = delivered.map(|sink| (vec![("sink", sink.name)], number(sink.delivered)));
        page.counter("sink_delivered", "Findings that a sink took", delivered);
        let lag = self.outputs.sink_statuses().into_iter().map(|sink| (vec![("sink", sink.name)], number(sink.lag)));
        page.gauge("sink_lag_entries", "Entries that a sink does not have yet", lag);
        let sent = self.outputs.sinks.iter().map(|sink| (vec![("sink", sink.name().to_owned())], number(sink.bytes())));
        page.counter("sink_sent_bytes", "Bytes of requests sent to a sink, before compression", sent);
    }
}

struct Args {
    config: PathBuf,
    journal: PathBuf,
    rate: u64,
    count: u64,
    socket: Option<PathBuf>,
}

fn args() -> Result<Args> {
    let mut args = env::args().skip(1);
    let mut next = || args.next().context("usage: producer CONFIG JOURNAL RATE COUNT [SOCKET]");
    let (config, journal) = (next()?.into(), next()?.into());
    let (rate, count) = (next()?.parse()?, next()?.parse()?);
    Ok(Args { config, journal, rate, count, socket: args.next().map(PathBuf::from) })
}

fn main() -> Result<()> {
    let args = args()?;
    monitor::cli::start_log();
    let config = Config::load(Some(&args.config))?;
    let mut journal = OpenOptions::new().append(true).create(true).open(&args.journal)?;
    let sender = Sender { node_name: "test-node".to_owned(), ..Sender::default() };
    let spool = config.spool.as_ref().map(|(directory, limits)| (directory.as_path(), *limits));
    let outputs = Outputs::open(spool, config.sinks, &sender)?;
    let recovery = outputs.recovery();
    let mut lines = String::new();
    if !recovery.epoch.is_nil() {
        lines = format!("recovered {} {} {}\n", recovery.epoch, recovery.sequence, recovery.clean);
    }
    writeln!(lines, "epoch {}", outputs.hub().epoch())?;
    journal.write_all(lines.as_bytes())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let status: Arc<dyn Status> = Arc::new(Account { outputs: outputs.watch(), sensor: watch::Sender::new(true) });
    serve(&runtime, &outputs, &status, args.socket.as_deref(), config.metrics)?;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    runtime.spawn(wait_for_stop(Arc::clone(&stop)));
    eprintln!("producer: ready");
    let (mut made, begin) = (0_u64, Instant::now());
    let (mut slowest, mut making) = (Duration::ZERO, Duration::ZERO);
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        let due = u64::try_from(begin.elapsed().as_micros())? * args.rate / 1_000_000;
        // Not all at once what a busy machine kept it from making.
        let due = due.min(args.count).min(made + 1000);
        lines.clear();
        let before = used(ClockId::ThreadCPUTime);
        let batch: Vec<_> = (made + 1..=due).map(|sequence| Arc::new(finding(sequence))).collect();
        for finding in &batch {
            writeln!(lines, "made {} {}", finding.sequence, finding.uid)?;
        }
        journal.write_all(lines.as_bytes())?;
        making += used(ClockId::ThreadCPUTime).saturating_sub(before);
        let handing = Instant::now();
        let handed = u32::try_from(batch.len())?;
        for finding in batch {
            outputs.publish(finding);
        }
        if handed > 0 {
            slowest = slowest.max(handing.elapsed() / handed);
        }
        made = made.max(due);
        thread::sleep(Duration::from_millis(1));
    }
    let status = outputs.watch();
    let (dropped, written) = status.spool.map(|spool| spool.status()).map_or((0, 0), |s| (s.dropped, s.written_bytes));
    outputs.finish();
    let [cpu_us, making_us, slowest_us] =
        [used(ClockId::ProcessCPUTime), making, slowest].map(|duration| duration.as_micros());
    let seconds = begin.elapsed().as_secs_f64();
    eprintln!(
        "producer: summary: made={made} dropped={dropped} written_bytes={written} cpu_us={cpu_us} making_us={making_us} slowest_us={slowest_us} seconds={seconds:.2}"
    );
    Ok(())
}

/// CPU time so far.
fn used(clock: ClockId) -> Duration {
    rustix::time::clock_gettime(clock).try_into().unwrap_or_default()
}

fn serve(
    runtime: &tokio::runtime::Runtime,
    outputs: &Outputs,
    status: &Arc<dyn Status>,
    socket: Option<&Path>,
    metrics: Option<std::net::SocketAddr>,
) -> Result<()> {
    if let Some(path) = socket {
        let socket = runtime.block_on(Socket::bind(path))?;
        let (hub, status) = (Arc::clone(outputs.hub()), Arc::clone(status));
        runtime.spawn(async move { service::serve(socket, hub, status, std::future::pending()).await });
    }
    if let Some(address) = metrics {
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address))?;
        runtime.spawn(metrics::serve(listener, Arc::clone(status), std::future::pending()));
    }
    Ok(())
}

async fn wait_for_stop(stop: Arc<std::sync::atomic::AtomicBool>) {
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        terminate.recv().await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
}
