//! `cargo xtask conformance`: replays captures and compares the alerts with those that Falco gave.
//!
//! Three directories: captures (`*.scap`), rules, and expected alerts, one file for each capture and rule set
//! (`CAPTURE.SET.jsonl`, or `.jsonl.gz`). A small set of our own is part of this repository; the one with Falco's own rules and public
//! captures is looked for beside it. A `language` directory with the captures holds one-line rules, how many events each
//! matches, and conditions that are refused.

mod alerts;
mod compare;
mod language;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    build::{self, Profile, Sensor},
    repository,
};
use alerts::Alert;
use compare::Comparison;

/// Options of `cargo xtask conformance`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Without options: the bundled set, and ../shared/captures where that is.")]
pub(crate) struct Args {
    /// Directory of *.scap files
    #[arg(long, requires_all = ["rules", "expected"])]
    captures: Option<PathBuf>,
    /// Directory of rule files
    #[arg(long)]
    rules: Option<PathBuf>,
    /// Directory of expected alerts
    #[arg(long)]
    expected: Option<PathBuf>,
    /// Only captures and rule sets whose `CAPTURE.SET` contains this
    #[arg(long)]
    only: Option<String>,
    /// Differences that are shown of each capture and rule set
    #[arg(long, default_value_t = 3)]
    show: usize,
    /// Use this agent instead of building one
    #[arg(long)]
    agent: Option<PathBuf>,
}

/// Captures, rules and what is expected.
struct Suite {
    name: &'static str,
    captures: PathBuf,
    rules: PathBuf,
    expected: PathBuf,
}

impl Suite {
    fn bundled() -> Self {
        let directory = repository::root().join("tests/conformance");
        Self {
            name: "bundled",
            captures: directory.clone(),
            rules: directory.clone(),
            expected: directory.join("expected"),
        }
    }

    /// Falco's rules and public captures, which are not part of this repository.
    fn beside() -> Option<Self> {
        let shared = repository::root().join("../shared");
        let captures = shared.join("captures");
        captures.is_dir().then(|| Self {
            name: "public captures",
            expected: captures.join("expected"),
            rules: shared.join("rules/falco"),
            captures,
        })
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let agent = match &args.agent {
        Some(agent) => agent.clone(),
        None => build::agent(Profile::Release, Sensor::None)?,
    };
    let suites = match (&args.captures, &args.rules, &args.expected) {
        (Some(captures), Some(rules), Some(expected)) => {
            let (captures, rules, expected) = (captures.clone(), rules.clone(), expected.clone());
            vec![Suite { name: "captures", captures, rules, expected }]
        }
        _ => [Some(Suite::bundled()), Suite::beside()].into_iter().flatten().collect(),
    };
    compare_all(&agent, &suites, args.only.as_deref(), args.show)
}

/// What `cargo xtask test` does with the agent that it has built.
pub(crate) fn test(agent: &Path) -> Result<()> {
    let beside = Suite::beside();
    if beside.is_none() {
        eprintln!("conformance: NO PUBLIC CAPTURES beside this repository: the bundled set alone is compared");
    }
    let suites: Vec<_> = [Some(Suite::bundled()), beside].into_iter().flatten().collect();
    compare_all(agent, &suites, None, 3)
}

fn compare_all(agent: &Path, suites: &[Suite], only: Option<&str>, show: usize) -> Result<()> {
    let mut differing = 0;
    for suite in suites {
        differing += suite.compare(agent, only, show)?;
    }
    ensure!(differing == 0, "{differing} comparisons differ from Falco");
    Ok(())
}

impl Suite {
    /// Compares everything; returns how much differs.
    fn compare(&self, agent: &Path, only: Option<&str>, show: usize) -> Result<usize> {
        let wanted = |name: &str| only.is_none_or(|only| name.contains(only));
        let (mut compared, mut differing, mut alerts) = (0, 0, 0);
        println!("{}: {}", self.name, self.captures.display());
        println!(
            "  {:50} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "capture.rules", "expected", "got", "missing", "extra", "differ"
        );
        for (name, expected) in files(&self.expected, &["jsonl", "gz"])? {
            let name = name.trim_end_matches(".gz").trim_end_matches(".jsonl").to_owned();
            let Some((capture, set)) = name.rsplit_once('.').filter(|_| wanted(&name)) else { continue };
            let got = self.replay(agent, capture, set)?;
            let comparison = Comparison::new(&alerts::read(&expected)?, &got);
            println!("  {name:50} {comparison}");
            for difference in comparison.differences.iter().take(show) {
                println!("      {difference}");
            }
            compared += 1;
            alerts += comparison.expected;
            differing += usize::from(!comparison.is_equal());
        }
        println!("  {compared} compared with {alerts} alerts: {} equal, {differing} differ", compared - differing);
        let directory = self.captures.join("language");
        if directory.is_dir() {
            differing += language::compare(agent, &self.captures, &directory, only, show)?;
        }
        ensure!(compared > 0 || only.is_some(), "{}: nothing to compare", self.expected.display());
        Ok(differing)
    }

    fn replay(&self, agent: &Path, capture: &str, set: &str) -> Result<Vec<Alert>> {
        let rules = self.rules_of(set);
        let options = alerts::Options {
            matches_all: set.ends_with("matchall") || !is_upstream(set),
            enables_all: set.ends_with("matchall"),
        };
        alerts::replay(agent, &self.captures.join(format!("{capture}.scap")), &rules, options)
    }

    fn rules_of(&self, set: &str) -> Vec<PathBuf> {
        let upstream = |names: &[&str]| names.iter().map(|name| self.rules.join(name)).collect();
        match set.trim_end_matches("-matchall") {
            "stable" => upstream(&["falco_rules.yaml"]),
            "incubating" => upstream(&["falco-incubating_rules.yaml"]),
            "sandbox" => upstream(&["falco-sandbox_rules.yaml"]),
            "all3" => upstream(&["falco_rules.yaml", "falco-incubating_rules.yaml", "falco-sandbox_rules.yaml"]),
            own => vec![self.captures.join(format!("{own}_rules.yaml"))],
        }
    }
}

/// Whether a rule set is of Falco's files, which are made for the first match.
fn is_upstream(set: &str) -> bool {
    ["stable", "incubating", "sandbox", "all3"].contains(&set)
}

/// Files of a directory with one of these extensions, by name.
fn files(directory: &Path, extensions: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut files: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|found| extensions.iter().any(|extension| found == *extension)))
        .filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), path)))
        .collect();
    files.sort();
    Ok(files)
}

/// Runs the agent; its stdout. Fails as it does, except for what stands in a capture.
fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}\n{}", output.status, told.lines().take(40).collect::<Vec<_>>().join("\n"));
    }
    Ok(output.stdout)
}
