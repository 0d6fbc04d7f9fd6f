//! `monitor drift`: the drift policy, and findings of drift in words. Only `baseline --live` needs privileges.

use std::{
    fs::File,
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{
    Exit,
    capture::{ALWAYS, Capture},
    events::{EventArgs, Wanted},
    options::{self, RuleArgs},
    say,
};
use crate::{
    context::{Context, Evidence},
    drift::{baseline::Baseline, explain::explain, policy::Policy},
    output::stdout::{Colour, Format},
    pipeline::{Pipeline, Selection},
    proto::v1::{Finding, Kind, Priority},
    report::Mode,
    rules::{Demand, diagnostic::Text},
    source::Status,
};

/// Most bytes of a policy that are read; one that is longer is refused.
const MAX_POLICY_BYTES: u64 = (4 << 20) + 1;

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
    #[command(flatten)]
    events: EventArgs,
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

fn baseline(args: &BaselineArgs) -> Result<Exit> {
    let mut baseline = Baseline::default();
    let wanted = Wanted { calls: Demand::NONE, made: false };
    let followed = args.events.follow(wanted, &mut |state, event, number| {
        state.apply(event);
        let context = Context::new(state, event, number, Evidence::Event);
        if let Some((context, drift)) = context.as_ref().and_then(|context| Some((context, context.drift.as_ref()?))) {
            baseline.take(context, drift);
        }
    })?;
    if followed.lost > 0 {
        say(format_args!(
            "monitor: note: {} records were lost: what drifted in them is not in the policy",
            followed.lost
        ));
    }
    say(format_args!("monitor: {} of drift", options::plural(baseline.len(), "file")));
    io::stdout().write_all(baseline.policy().as_bytes())?;
    Ok(if followed.is_damaged { Exit::Damaged } else { Exit::Done })
}
