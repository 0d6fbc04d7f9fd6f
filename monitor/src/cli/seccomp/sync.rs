//! `monitor seccomp sync`: profiles onto this node, once. `monitor run` does the same all the time, where it is configured.

use std::{fmt::Write as _, path::PathBuf};

use anyhow::Result;
use serde::Serialize;

use super::{Exit, Format, Problem, print};
use crate::{
    cli::say,
    profile_sync::{self, DIRECTORY, KUBELET_ROOT, Node, Outcome, Report, Told},
};

/// Options of `monitor seccomp sync`.
#[expect(clippy::doc_markdown, reason = "these lines are the help text")]
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  sudo monitor seccomp sync --from profiles/\n  \
                        sudo monitor seccomp sync --from profiles/ --check   # changes nothing; exit code 1 if it would\n  \
                        sudo monitor seccomp sync --remove                   # takes away what was installed, and nothing else\n\n\
                  A pod then names profiles/web.json as\n  \
                        securityContext: {seccompProfile: {type: Localhost, localhostProfile: monitor/web.json}}\n\n\
                  Exit codes: 0 the node has what DIR has; 1 with --check, it has not; 2 a profile was refused or could not \
                  be installed (the others are), or nothing could be done.")]
pub(super) struct Args {
    /// Directory with the profiles (*.json), as a ConfigMap is mounted
    #[arg(long, value_name = "DIR", required_unless_present = "remove")]
    from: Option<PathBuf>,
    /// The kubelet's directory of profiles
    #[arg(long, value_name = "DIR", default_value = KUBELET_ROOT)]
    root: PathBuf,
    /// Name of the directory in it that the profiles go to
    #[arg(long, value_name = "NAME", default_value = DIRECTORY)]
    directory: String,
    /// Change nothing, and say what would be changed
    #[arg(long)]
    check: bool,
    /// Take away what was installed, and nothing else
    #[arg(long, conflicts_with_all = ["from", "check"])]
    remove: bool,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<Exit> {
    let node = Node { root: args.root.clone(), directory: args.directory.clone() };
    let report = match &args.from {
        Some(from) if args.check => profile_sync::check(from, &node)?,
        Some(from) => profile_sync::sync(from, &node)?,
        None => profile_sync::remove(&node)?,
    };
    if args.json {
        print(Format::Json, &shown(args, &report), String::new)?;
    } else {
        for told in report.profiles.values() {
            told.problems.iter().for_each(|problem| say(problem.render()));
        }
        print(Format::Text, &(), || text(args, &report))?;
    }
    Ok(match report.is_bad() {
        true => Exit::Usage,
        false if args.check && report.has_changes() => Exit::Found,
        false => Exit::Done,
    })
}

/// For people: a line for each profile.
fn text(args: &Args, report: &Report) -> String {
    let mut text = String::new();
    for (name, told) in &report.profiles {
        let path = format!("{}/{name}", args.directory);
        let would = if args.check && told.outcome.is_change() { "would be " } else { "" };
        let _ = write!(text, "{path}: {would}{}", word(told.outcome));
        let _ = if told.reason.is_empty() { writeln!(text) } else { writeln!(text, ": {}", told.reason) };
        for doubt in told.doubts.iter().filter(|doubt| **doubt != told.reason) {
            let _ = writeln!(text, "  {doubt}");
        }
    }
    if report.profiles.is_empty() {
        text.push_str("nothing is installed\n");
    }
    text
}

/// What became of a profile, in words.
const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Unchanged => "unchanged",
        Outcome::Installed => "installed",
        Outcome::Updated => "updated",
        Outcome::Removed => "removed",
        Outcome::PutBackChanged => "put back, because somebody else had changed it",
        Outcome::PutBackMissing => "put back, because somebody else had removed it",
        Outcome::Left => "left alone",
        Outcome::Refused => "REFUSED",
        Outcome::Failed => "FAILED",
    }
}

/// `--json`
#[derive(Serialize)]
struct Shown<'a> {
    root: String,
    directory: &'a str,
    check: bool,
    profiles: Vec<ShownProfile<'a>>,
}

#[derive(Serialize)]
struct ShownProfile<'a> {
    name: &'a str,
    /// As pods name it.
    localhost_profile: String,
    outcome: Outcome,
    sha256: &'a str,
    reason: &'a str,
    problems: Vec<Problem>,
    doubts: &'a [String],
}

fn shown<'a>(args: &'a Args, report: &'a Report) -> Shown<'a> {
    let profile = |(name, told): (&'a String, &'a Told)| ShownProfile {
        name,
        localhost_profile: format!("{}/{name}", args.directory),
        outcome: told.outcome,
        sha256: &told.sha256,
        reason: &told.reason,
        problems: told.problems.iter().map(Problem::of).collect(),
        doubts: &told.doubts,
    };
    Shown {
        root: args.root.display().to_string(),
        directory: &args.directory,
        check: args.check,
        profiles: report.profiles.iter().map(profile).collect(),
    }
}
