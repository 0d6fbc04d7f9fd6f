//! `monitor drift`: the drift policy, and findings of drift in words. Only `baseline --live` needs privileges.

use std::{
    fs::File,
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    Exit,
    capture::{ALWAYS, Capture},
    live,
    options::{self, RuleArgs, duration},
    say,
};
use crate::{
    context::{Context, Evidence},
    decode::decode,
    drift::{baseline::Baseline, explain::explain, policy::Policy},
    event::{Body, Event},
    output::stdout::{Colour, Format},
    pipeline::{Pipeline, Selection},
    proto::v1::{Finding, Kind, Priority},
    report::Mode,
    rules::{Demand, diagnostic::Text},
    sensor::Sensor,
    source::{Source as _, SourceError, Status},
    state::State,
    syscall::tell::{Room, tell},
};

/// Most bytes of a policy that are read; one that is longer is refused.
const MAX_POLICY_BYTES: u64 = (4 << 20) + 1;
/// How long a record may wait in the ring.
const PATIENCE: Duration = Duration::from_millis(50);

/// Which drift policy.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct PolicyArgs {
    /// Policy that says what is made of drift: whom it is an alarm for, and what passes (see `monitor drift check`)
    #[arg(long = "drift-policy", value_name = "FILE")]
    file: Option<PathBuf>,
}

impl PolicyArgs {
    /// Reads the policy; what is wrong with it is on stderr already when this fails.
    pub(super) fn load(&self) -> Result<Policy> {
        self.load_or(None)
    }

    /// The same; where none was given, the configured one.
    pub(super) fn load_or(&self, configured: Option<&Path>) -> Result<Policy> {
        self.file.as_deref().or(configured).map_or_else(|| Ok(Policy::default()), load)
    }
}

fn load(path: &Path) -> Result<Policy> {
    let name = path.display();
    let mut text = Vec::new();
    let file = File::open(path).with_context(|| format!("cannot read the drift policy {name}"))?;
    file.take(MAX_POLICY_BYTES)
        .read_to_end(&mut text)
        .with_context(|| format!("cannot read the drift policy {name}"))?;
    let text = String::from_utf8(text).with_context(|| format!("the drift policy {name} is no text"))?;
    let (policy, diagnostics) = match Policy::parse(Text { name: name.to_string(), text }) {
        Ok((policy, warnings)) => (Some(policy), warnings),
        Err(errors) => (None, errors),
    };
    for diagnostic in &diagnostics {
        anstream::eprintln!("{}", diagnostic.render());
    }
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
    policy.with_context(|| format!("{} in the drift policy {name}", options::plural(errors, "error")))
}

/// Options of `monitor drift`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Tell every problem of drift policies, with its place; exit code 2 if there is one
    Check(CheckArgs),
    /// Say in words what is evidence in a finding of drift, who wrote the file, and which rule decided
    Explain(ExplainArgs),
    /// Print a policy that lets pass the drift that captures show, or that is seen now
    Baseline(BaselineArgs),
}

#[derive(Clone, Debug, clap::Args)]
struct CheckArgs {
    /// Policies
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  monitor tail -n 1 -o json | monitor drift explain\n  \
                        monitor drift explain --capture run.mcap 3")]
struct ExplainArgs {
    /// File with findings as `-o json` prints them, or `-`; with --capture, the number of a finding in it [default: - or the
    /// first of drift]
    #[arg(value_name = "FINDING")]
    finding: Option<String>,
    /// Take the finding from this capture
    #[arg(long, value_name = "CAPTURE")]
    capture: Option<PathBuf>,
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    policy: PolicyArgs,
}

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  monitor drift baseline quiet.mcap > policy.yaml\n  \
                        sudo monitor drift baseline --live --duration 10m > policy.yaml")]
struct BaselineArgs {
    /// Captures of `monitor record` or `monitor run -w`; plain or gzip
    #[arg(required_unless_present = "live", value_name = "CAPTURE")]
    captures: Vec<PathBuf>,
    /// Watch this machine instead, until told to stop
    #[arg(long, conflicts_with = "captures")]
    live: bool,
    /// With --live, stop after this long, e.g. 30s, 5m, 1h
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "live")]
    duration: Option<Duration>,
    #[command(flatten)]
    sensor: live::SensorArgs,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<Exit> {
    match &args.command {
        Command::Check(args) => check(args),
        Command::Explain(args) => explain_findings(args),
        Command::Baseline(args) => baseline(args),
    }
}

fn check(args: &CheckArgs) -> Result<Exit> {
    let mut exit = Exit::Done;
    for file in &args.files {
        match load(file) {
            Ok(policy) => {
                writeln!(io::stdout(), "{}: ok, {}", file.display(), options::plural(policy.len(), "rule"))?;
            }
            Err(error) => {
                say(format_args!("monitor: {error:#}"));
                exit = Exit::Usage;
            }
        }
    }
    Ok(exit)
}

fn explain_findings(args: &ExplainArgs) -> Result<Exit> {
    let mut out = io::stdout().lock();
    if let Some(capture) = &args.capture {
        let number = |text: &str| text.parse().with_context(|| format!("{text:?} is no number of a finding"));
        let finding = of_capture(args, capture, args.finding.as_deref().map(number).transpose()?)?;
        let Some(text) = explain(&finding) else {
            bail!("this finding is not about drift: {}", finding.pointer("/message").unwrap_or_default());
        };
        out.write_all(text.as_bytes())?;
        return Ok(Exit::Done);
    }
    let input: Box<dyn Read> = match args.finding.as_deref() {
        None | Some("-") => Box::new(io::stdin().lock()),
        Some(path) => Box::new(File::open(path).with_context(|| format!("cannot read findings from {path}"))?),
    };
    let mut told = 0;
    for finding in serde_json::Deserializer::from_reader(io::BufReader::new(input)).into_iter() {
        let finding: serde_json::Value = finding.context("this is no finding: `-o json` prints them")?;
        if let Some(text) = explain(&finding) {
            let line = if told == 0 { "" } else { "\n" };
            write!(out, "{line}{text}")?;
            told += 1;
        }
    }
    if told == 0 {
        bail!("no finding here is about drift");
    }
    Ok(Exit::Done)
}

/// A finding of a capture, as `-o json` prints it: the one with this number, else the first that is about drift.
fn of_capture(args: &ExplainArgs, path: &Path, number: Option<u64>) -> Result<serde_json::Value> {
    let rules = args.rules.load()?;
    let selection = Selection { rules, filter: None, min_priority: Priority::Debug };
    let mut pipeline = Pipeline::new(selection, Mode::Replay, || 0);
    pipeline.set_drift_policy(args.policy.load()?);
    let name = path.display();
    let mut capture = Capture::open(path).with_context(|| format!("cannot read {name}"))?;
    let mut found: Option<Finding> = None;
    loop {
        let status = capture.feed(&mut pipeline, &ALWAYS, &mut |finding| {
            let is_it = number.map_or(finding.kind() == Kind::Drift, |number| finding.sequence == number);
            if is_it && found.is_none() {
                found = Some(finding);
            }
        });
        match (found.take(), status.with_context(|| format!("cannot read {name}"))?) {
            (Some(finding), _) => {
                let mut line = Vec::new();
                Format::Json.write(&finding, Colour::Off, &mut line)?;
                return serde_json::from_slice(&line).context("the finding is too long");
            }
            (None, Status::Ended) => bail!("{name} gives no such finding"),
            (None, Status::Open) => {}
        }
    }
}

/// What drifts, in a stream of events.
#[derive(Default)]
struct Learner {
    state: State,
    baseline: Baseline,
    room: Room,
    number: u64,
}

impl Learner {
    fn event(&mut self, event: &Event<'_>) {
        self.number += 1;
        let ts_ns = self.state.unix_ns(event.header.ktime_ns);
        match &event.body {
            Body::Syscall(syscall) => {
                let mut room = std::mem::take(&mut self.room);
                if let Some(call) = tell(syscall, self.state.session.machine, ts_ns, self.number, &mut room) {
                    self.take(&Event { header: event.header, body: Body::Call(call) });
                }
                self.room = room;
            }
            _ => self.take(event),
        }
    }

    fn take(&mut self, event: &Event<'_>) {
        self.state.apply(event);
        let Some(context) = Context::new(&self.state, event, self.number, Evidence::Event) else { return };
        if let Some(drift) = &context.drift {
            self.baseline.take(&context, drift);
        }
    }
}

fn baseline(args: &BaselineArgs) -> Result<Exit> {
    let mut learner = Learner::default();
    let mut exit = Exit::Done;
    if args.live {
        watch(args, &mut learner)?;
    }
    for path in &args.captures {
        let name = path.display();
        let outcome = Capture::open(path).and_then(|mut capture| {
            // Each capture has processes and files of its own.
            learner.state = State::default();
            while capture.each(&mut |event| learner.event(event))? == Status::Open {}
            Ok(())
        });
        match outcome {
            Ok(()) => {}
            Err(SourceError::Io(error)) => return Err(error).with_context(|| format!("cannot read {name}")),
            Err(error) => {
                say(format_args!("monitor: {name}: {error}"));
                exit = Exit::Damaged;
            }
        }
    }
    say(format_args!("monitor: {} of drift", options::plural(learner.baseline.len(), "file")));
    io::stdout().write_all(learner.baseline.policy().as_bytes())?;
    Ok(exit)
}

/// Learns from what happens now.
fn watch(args: &BaselineArgs, learner: &mut Learner) -> Result<()> {
    let mut sensor = Sensor::start(&args.sensor.settings(Demand::NONE))?;
    let stop = live::stop_on_signal()?;
    let begin = Instant::now();
    say("monitor: ready");
    loop {
        if stop.is_set() || args.duration.is_some_and(|duration| begin.elapsed() >= duration) {
            sensor.detach();
        }
        let drained = sensor.drain(PATIENCE, &mut |bytes| {
            if let Ok(event) = decode(bytes) {
                learner.event(&event);
            }
        });
        if drained? == Status::Ended {
            return Ok(());
        }
    }
}
