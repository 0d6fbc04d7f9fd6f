//! `monitor seccomp`: seccomp profiles, without enforcing any. Needs no privileges, but for watching this machine and for installing
//! profiles on it.

mod captures;
mod profiles;
mod sync;

use std::{fs, io::Write as _, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use serde::Serialize;

use self::{
    captures::ObserveArgs,
    profiles::{Loaded, TargetArgs},
};
use super::{Exit, say};
use crate::{
    rules::diagnostic::{Diagnostic, Severity},
    seccomp::{
        generate::generate,
        observe::Coverage,
        profile::{
            diff::{Side, diff},
            doubt::Doubt,
        },
        simulate::simulate,
    },
};

/// Options of `monitor seccomp`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Tell every problem of profiles, with its place; exit code 2 if there is an error
    Check(CheckArgs),
    /// Say in words what one profile allows that another does not
    Diff(DiffArgs),
    /// Tell which calls a profile would deny, how often, and of which program: in a capture, or on this machine as they are made
    Simulate(SimulateArgs),
    /// Tell which calls each image makes, merged over its containers, and for how long there was no new one
    Observe(ObserveCommandArgs),
    /// Write a profile that allows what was seen, and the evidence beside it
    Generate(GenerateArgs),
    /// Put profiles on this node, so that pods can name them; those that are offered no more are removed
    Sync(sync::Args),
}

#[derive(Clone, Debug, clap::Args)]
struct CheckArgs {
    /// Profiles, or bundles' config.json
    #[arg(required = true, value_name = "PROFILE")]
    profiles: Vec<PathBuf>,
    #[command(flatten)]
    target: TargetArgs,
    /// How problems are printed
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

#[derive(Clone, Debug, clap::Args)]
struct DiffArgs {
    /// A profile, a bundle's config.json, or `runtime-default` (containerd's; @VERSION for another than the newest)
    #[arg(value_name = "PROFILE")]
    first: String,
    /// Another
    #[arg(value_name = "PROFILE")]
    second: String,
    #[command(flatten)]
    target: TargetArgs,
    /// How it is printed
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  monitor seccomp simulate -p profile.json calls.mcap\n  \
                        sudo monitor seccomp simulate -p profile.json --live --duration 10m --pod prod/web-0")]
struct SimulateArgs {
    /// A profile, a bundle's config.json, or `runtime-default` (containerd's; @VERSION for another than the newest)
    #[arg(short = 'p', long, value_name = "PROFILE")]
    profile: String,
    #[command(flatten)]
    observe: ObserveArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Exit with 1 if a call would certainly be denied
    #[arg(long)]
    fail_on_denied: bool,
    /// How it is printed
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  monitor seccomp observe calls.mcap\n  sudo monitor seccomp observe --live --duration 10m"
)]
struct ObserveCommandArgs {
    #[command(flatten)]
    observe: ObserveArgs,
    /// How it is printed
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

#[derive(Clone, Debug, clap::Args)]
struct GenerateArgs {
    #[command(flatten)]
    observe: ObserveArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Write the profile here, and the evidence beside it with the extension .md [default: the profile to stdout]
    #[arg(short = 'w', long, value_name = "FILE")]
    write: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One JSON object on stdout
    Json,
}

/// Runs the subcommand.
pub(super) fn run(args: &Args) -> Result<Exit> {
    match &args.command {
        Command::Check(args) => check(args),
        Command::Diff(args) => {
            let (first, second) = (args.target.load(&args.first)?, args.target.load(&args.second)?);
            let differences = diff(first.side(), second.side());
            print(args.output, &differences, || differences.text(&args.first, &args.second))
        }
        Command::Simulate(args) => {
            let loaded = args.target.load(&args.profile)?;
            let (observed, damaged) = args.observe.observe()?;
            let simulated = simulate(&observed, &loaded.filter);
            print(args.output, &simulated, || simulated.text())?;
            Ok(match damaged {
                true => Exit::Damaged,
                false if args.fail_on_denied && simulated.denies() => Exit::Found,
                false => Exit::Done,
            })
        }
        Command::Observe(args) => {
            let (observed, damaged) = args.observe.observe()?;
            let coverage = observed.coverage();
            print(args.output, &coverage, || coverage.iter().map(shown).collect())?;
            Ok(if damaged { Exit::Damaged } else { Exit::Done })
        }
        Command::Generate(args) => write_generated(args),
        Command::Sync(args) => sync::run(args),
    }
}

/// What is known of an image, for people.
fn shown(coverage: &Coverage) -> String {
    let image = if coverage.image.is_empty() { "the host" } else { &coverage.image };
    let names: Vec<_> = coverage.names.iter().map(String::as_str).collect();
    format!("{}: {}\n  {}\n", image.escape_debug(), coverage.text(), names.join(" "))
}

impl Loaded {
    const fn side(&self) -> Side<'_> {
        Side { selected: &self.selected, filter: &self.filter }
    }
}

fn print(format: Format, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<Exit> {
    let text = match format {
        Format::Text => text(),
        Format::Json => serde_json::to_string_pretty(value)? + "\n",
    };
    anstream::stdout().write_all(text.as_bytes())?;
    Ok(Exit::Done)
}

/// `-o json` of `check`.
#[derive(Serialize)]
struct Report {
    file: String,
    valid: bool,
    problems: Vec<Problem>,
}

#[derive(Serialize)]
struct Problem {
    severity: &'static str,
    message: String,
    line: Option<usize>,
    column: Option<usize>,
    help: Option<String>,
}

impl Problem {
    fn of(diagnostic: &Diagnostic) -> Self {
        let (line, column) = diagnostic.position();
        Self {
            severity: if diagnostic.is_error() { "error" } else { "warning" },
            message: diagnostic.message.clone(),
            line: Some(line),
            column: Some(column),
            help: diagnostic.help.clone(),
        }
    }

    fn of_filter(severity: &'static str, message: String) -> Self {
        Self { severity, message, line: None, column: None, help: None }
    }
}

const fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn check(args: &CheckArgs) -> Result<Exit> {
    let mut reports = Vec::new();
    for path in &args.profiles {
        let name = path.display().to_string();
        let parsed = profiles::read(path)?;
        let mut problems: Vec<_> = parsed.problems.iter().map(Problem::of).collect();
        if args.output == Format::Text {
            parsed.problems.iter().for_each(|problem| say(problem.render()));
        }
        let mut valid = parsed.profile.is_some();
        if let Some(profile) = &parsed.profile {
            let found = args.target.doubts(profile);
            valid &= found.iter().all(|doubt| doubt.severity != Severity::Error);
            for Doubt { severity, message } in found {
                let severity = word(severity);
                if args.output == Format::Text {
                    say(format_args!("{severity}: {name}: {message}"));
                }
                problems.push(Problem::of_filter(severity, message));
            }
        }
        if args.output == Format::Text {
            say(format_args!("{name}: {}", if valid { "valid" } else { "NOT valid" }));
        }
        reports.push(Report { file: name, valid, problems });
    }
    if args.output == Format::Json {
        print(Format::Json, &reports, String::new)?;
    }
    Ok(if reports.iter().all(|report| report.valid) { Exit::Done } else { Exit::Usage })
}

fn write_generated(args: &GenerateArgs) -> Result<Exit> {
    let (observed, damaged) = args.observe.observe()?;
    if observed.containers.is_empty() {
        bail!("no call was seen{}", if args.observe.container.is_some() { " of this container" } else { "" });
    }
    let generated = generate(&observed, args.target.native());
    let profile = serde_json::to_string_pretty(&generated.profile)? + "\n";
    match &args.write {
        None => anstream::stdout().write_all(profile.as_bytes())?,
        Some(path) => {
            let evidence = path.with_extension("md");
            if evidence == *path {
                bail!("the evidence goes to {}: give the profile another extension", evidence.display());
            }
            for (path, text) in [(path, &profile), (&evidence, &generated.evidence)] {
                fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
            }
            say(format_args!("wrote {} and {}", path.display(), evidence.display()));
        }
    }
    Ok(if damaged { Exit::Damaged } else { Exit::Done })
}
