//! `monitor run`: the agent.
//!
//! The flow runs on the main thread; stdout has a thread of its own and gRPC a runtime of one, so that no reader can make
//! the sensor wait.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, mpsc::Receiver},
    time::Duration,
};

use super::{
    Exit,
    drift::PolicyArgs,
    kubernetes::Client,
    live::{self, SensorArgs, Stop},
    options::{FindingArgs, RuleArgs},
    profile_sync::Keeper,
    reload::{self, NewRules},
    say,
    server::Server,
    status::{AgentStatus, RulesInUse},
};
use crate::{
    capture::Writer,
    config::Config,
    output::{cursor::RecordLoss, outputs::Outputs, queue::Printer, socket, stdout::Colour},
    pipeline::{Pipeline, Summary},
    proto::v1::Finding,
    record,
    report::Mode,
    rules::{Demand, Gaps},
    sensor::{Sensor, ktime_ns, load, realtime_ns},
    source::{self, Source as _},
};
use anyhow::{Context as _, Result};

/// How long a record may wait in the ring when the kernel saw no reason to wake us.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long stdout may take to print what is queued when the agent ends.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Options of `monitor run`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sudo monitor run\n  sudo monitor run -r rules/ -o json --min-priority warning\n  \
                        sudo monitor run -w today.mcap     # and later: monitor replay today.mcap\n\n\
                  Rules are read again when a file or directory given with -r changes, and on SIGHUP. Rules with an \
                  error are refused: those in use stay."
)]
pub(super) struct Args {
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    drift: PolicyArgs,
    #[command(flatten)]
    findings: FindingArgs,
    /// Also write every record to this capture
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    write: Option<PathBuf>,
    /// Unix socket to serve findings on
    #[arg(long, value_name = "PATH", default_value = socket::DEFAULT_PATH)]
    pub(super) socket: PathBuf,
    /// Do not serve findings over gRPC
    #[arg(long, conflicts_with = "socket")]
    pub(super) no_socket: bool,
    /// Configuration: spool, sinks, consumers over the network, metrics (see deploy/monitor.yaml)
    #[arg(short = 'c', long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Have the kernel send every event of the types that rules name, also those that no rule can match
    #[arg(long)]
    no_push_down: bool,
    #[command(flatten)]
    sensor: SensorArgs,
}

/// Runs the agent until it is told to stop.
pub(super) fn run(args: Args) -> Result<Exit> {
    let config = Config::load(args.config.as_deref())?;
    // Pods may wait for their profiles: before everything that can fail.
    let profiles = config.seccomp_profiles.clone().map(Keeper::start);
    let mut kubernetes = Client::start(config.kubernetes.as_ref(), args.sensor.node_name())?;
    let result = agent(args, config, profiles, &mut kubernetes);
    kubernetes.finish(result.as_ref().err());
    result
}

fn agent(args: Args, config: Config, profiles: Option<Keeper>, kubernetes: &mut Client) -> Result<Exit> {
    let rules_args = args.rules.for_format(args.findings.format()).for_sensor(!args.no_push_down);
    let (rules, digest) = rules_args.load_with_digest()?;
    let gaps = Gaps::of(&rules);
    let without_api = gaps.line_without_api().filter(|_| !kubernetes.is_there());
    for line in gaps.lines().into_iter().chain(without_api) {
        say(format!("monitor: note: {line}"));
    }
    let policy = args.drift.load_or(config.drift_policy.as_deref())?;
    let in_use = RulesInUse::new(&rules, digest);
    let settings = args.sensor.settings(Demand::of(&rules));
    let selection = args.findings.selection(rules)?;
    load::check_build_and_privileges()?;
    let (stop, hangups) = live::stop_and_hangup_on_signal()?;
    // The socket before the sensor: what can fail cheaply fails first.
    let server = Server::bind(&args, &config)?;
    let sender = live::sender(settings.node_name.as_deref(), config.cluster_name.clone());
    let spool = config.spool.as_ref().map(|(directory, limits)| (directory.as_path(), *limits));
    let outputs = Outputs::open(spool, config.sinks, &sender)?;
    let mut sensor = Sensor::start(&settings)?;
    sensor.observe(in_use.record(ktime_ns()));
    let capture = args.write.as_ref().map(|path| Capture::create(path.clone())).transpose()?;
    let hub = Arc::clone(outputs.hub());
    let node_name = sender.node_name;
    let status = Arc::new(AgentStatus::new(
        node_name,
        outputs.watch(),
        sensor.stats(),
        sensor.programs(),
        sensor.containers(),
        in_use,
    ));
    kubernetes.show(&status);
    let serving = server.start(&hub, &status);
    let format = args.findings.format();
    let printer = Printer::start(format, Colour::of_stdout(), std::io::stdout(), std::io::stderr())?;
    profiles.map(|keeper| keeper.follow(Arc::clone(&hub), Arc::clone(&status))).transpose()?;
    let new_rules = reload::start(rules_args, hangups, hub, Arc::clone(&status), stop.clone())?;
    eprintln!("monitor: ready");

    let mut pipeline = Pipeline::new(selection, Mode::Live, realtime_ns);
    pipeline.set_redactor(config.redactor);
    pipeline.set_drift_policy(policy);
    pipeline.time_rules(ktime_ns);
    pipeline.set_seccomp_window(args.findings.seccomp_window_ns());
    let mut subjects = sensor.subjects()?;
    pipeline.on_bored(move |subject, by| subjects.bore(subject, by));
    let mut flow = Flow {
        pipeline,
        capture,
        given: Given { outputs, printer, status, args: args.findings, stop, found: 0, failed: false },
        new_rules,
        kubernetes,
        reported: Summary::default(),
        loss_log: LossLog::default(),
    };
    let ended = flow.run(&mut sensor);
    let (exit, outputs) = flow.finish(&sensor);
    serving.finish();
    outputs.finish();
    ended?;
    Ok(exit)
}

/// Everything that records and findings go through.
struct Flow<'k> {
    pipeline: Pipeline,
    capture: Option<Capture>,
    given: Given,
    new_rules: Receiver<NewRules>,
    kubernetes: &'k mut Client,
    /// What subscribers know of loss.
    reported: Summary,
    /// What was said of it.
    loss_log: LossLog,
}

/// Where findings go.
struct Given {
    outputs: Outputs,
    printer: Printer,
    status: Arc<AgentStatus>,
    args: FindingArgs,
    stop: Stop,
    /// Findings given out, for `-n`.
    found: u64,
    /// Whether one was at or above `--fail-on`.
    failed: bool,
}

impl Given {
    fn give(&mut self, finding: Finding) {
        if self.args.count.is_some_and(|count| self.found >= count) {
            return;
        }
        self.found += 1;
        self.failed |= self.args.fails(&finding);
        let finding = Arc::new(finding);
        self.status.count_finding(&finding);
        self.outputs.publish(Arc::clone(&finding));
        self.printer.print(finding);
        if self.args.count == Some(self.found) {
            self.stop.set();
        }
    }
}

impl Flow<'_> {
    fn run(&mut self, sensor: &mut Sensor) -> Result<()> {
        let mut detached = false;
        loop {
            if !detached && (self.given.stop.is_set() || self.given.printer.is_closed()) {
                sensor.detach();
                detached = true;
            }
            self.replace_rules(sensor);
            self.learn_of_pods();
            let drained = sensor.drain(PATIENCE, &mut |bytes| self.record(bytes));
            self.look_at_clock();
            self.account();
            if drained? == source::Status::Ended {
                return Ok(());
            }
        }
    }

    fn record(&mut self, bytes: &[u8]) {
        if let Some(capture) = &mut self.capture {
            capture.record(bytes);
        }
        let Self { pipeline, given, .. } = self;
        pipeline.record(bytes, &mut |finding| given.give(finding));
    }

    /// Where findings wait for time to pass and nothing happens, a record says that it has.
    fn look_at_clock(&mut self) {
        let now = ktime_ns();
        if self.pipeline.waits_until_ns().is_some_and(|due_ns| due_ns <= now) {
            self.record(&record::clock(now));
        }
    }

    /// Takes what the Kubernetes API told, and tells how the agent is.
    fn learn_of_pods(&mut self) {
        let records: Vec<_> = self.kubernetes.records().collect();
        for record in records {
            self.record(&record);
        }
        self.kubernetes.tell(&self.given.status);
    }

    /// Takes new rules, if there are any. The record in front of what they apply to says so to whoever replays the capture.
    fn replace_rules(&mut self, sensor: &mut Sensor) {
        let Ok(NewRules { rules, in_use, change, replaced }) = self.new_rules.try_recv() else { return };
        if let Err(error) = sensor.want(Demand::of(&rules)) {
            say(format_args!("monitor: the sensor still sends what the rules from before wanted: {error}"));
        }
        self.record(&in_use.record(ktime_ns()));
        let before = self.pipeline.replace_rules(rules);
        self.given.status.rules_reloaded(in_use);
        self.given.outputs.hub().report_rules_change(change);
        // Whoever sent the new ones waits for the old ones, and frees them.
        let _ = replaced.try_send(before);
    }

    /// Tells others what happened: counts for whoever asks, loss for subscribers.
    fn account(&mut self) {
        let now = self.pipeline.summary();
        for (cause, records) in [
            (RecordLoss::RingFull, now.lost - self.reported.lost),
            (RecordLoss::Unreadable, now.undecodable - self.reported.undecodable),
        ] {
            if records > 0 {
                self.given.outputs.report_record_loss(cause, records);
            }
        }
        if now.lost > self.reported.lost {
            self.loss_log.tell(self.pipeline.losses());
        }
        self.given.status.update(&now, self.given.printer.lost());
        self.pipeline.costs().into_iter().for_each(|costs| self.given.status.set_costs(costs));
        self.reported = now;
    }

    fn finish(mut self, sensor: &Sensor) -> (Exit, Outputs) {
        let Self { pipeline, given, .. } = &mut self;
        let summary = pipeline.finish(&mut |finding| given.give(finding));
        let Given { printer, outputs, failed, .. } = self.given;
        let printed = printer.finish(LAST_WORDS);
        if let Some(capture) = self.capture {
            capture.finish();
        }
        let (total, containers) = (sensor.counts().total(), sensor.containers());
        say(format_args!(
            "monitor: summary: records={} findings={} lost={} filtered={} unjudged={} misfits={} undecodable={} unprinted={} \
             containers={} identified={}",
            summary.records,
            summary.findings,
            total.lost(),
            total.filtered,
            summary.unjudged,
            summary.misfits,
            summary.undecodable,
            printed.lost,
            containers.containers(),
            containers.identified(),
        ));
        if let Some(error) = printed.error {
            say(format_args!("monitor: stdout: {error}"));
        }
        (if failed { Exit::Found } else { Exit::Done }, outputs)
    }
}

/// Says on standard error whose records the kernel lost: when that begins, and each time that it has doubled since.
#[derive(Default)]
struct LossLog {
    said: BTreeMap<Option<String>, u64>,
}

impl LossLog {
    fn tell(&mut self, losses: &BTreeMap<Option<String>, u64>) {
        for (container, records) in losses {
            let said = self.said.entry(container.clone()).or_default();
            if *records >= said.saturating_mul(2).max(1) {
                let whose = container.as_ref().map_or("the host".to_owned(), |id| format!("container {id}"));
                say(format_args!("monitor: {records} records of {whose} were lost: it makes more than the ring takes"));
                *said = *records;
            }
        }
    }
}

/// The capture of a running agent. A full disk must not end the agent: it says so and goes on without.
struct Capture {
    path: PathBuf,
    writer: Option<Writer<std::io::BufWriter<std::fs::File>>>,
}

impl Capture {
    fn create(path: PathBuf) -> Result<Self> {
        let writer = Writer::create(&path).with_context(|| format!("cannot write the capture {}", path.display()))?;
        Ok(Self { path, writer: Some(writer) })
    }

    fn record(&mut self, bytes: &[u8]) {
        if let Some(Err(error)) = self.writer.as_mut().map(|writer| writer.record(bytes)) {
            say(format_args!("monitor: capture {} ends here: {error}", self.path.display()));
            self.writer = None;
        }
    }

    fn finish(self) {
        if let Some(Err(error)) = self.writer.map(|writer| writer.finish(ktime_ns())) {
            say(format_args!("monitor: capture {} has no end: {error}", self.path.display()));
        }
    }
}
