//! `monitor rules test`: what rules find in captures, against what they should.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{RuleArgs, not_found, print};
use crate::{
    cli::{
        Exit,
        capture::{ALWAYS, Capture},
    },
    pipeline::{Pipeline, Selection},
    proto::v1::Priority,
    report::Mode,
    rules::{self, RuleSet},
    source::Status,
};

/// Largest file of expected counts.
const MAX_EXPECTED_BYTES: u64 = 1 << 20;

/// Options of `monitor rules test`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  monitor rules test my_rules.yaml --capture attack.mcap > expected.yaml\n  \
                        monitor rules test my_rules.yaml --capture attack.mcap --expect expected.yaml\n\n\
                        The file maps names of rules to numbers of findings; rules that it does not name must find nothing.")]
pub(super) struct Args {
    /// Rule files, or directories of *.yaml files [default: the built-in rules]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    rules: RuleArgs,
    /// Capture to replay; may be given more than once, then counts are of all together
    #[arg(long, required = true, value_name = "FILE")]
    capture: Vec<PathBuf>,
    /// YAML file with the expected number of findings of each rule; without it, what was found is printed as such a file
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
}

/// Runs it.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let mut rule_args = args.rules.clone();
    rule_args.rules.extend(args.paths.iter().cloned());
    let expected = args.expect.as_ref().map(read_expected).transpose()?;
    let mut found = BTreeMap::new();
    for capture in &args.capture {
        let rules = rule_args.load()?;
        if let Some(expected) = &expected {
            check_names(expected, &rules)?;
        }
        count(capture, rules, &mut found)?;
    }
    match expected {
        None => print(&rules::counts_text(&found)),
        Some(expected) => Ok(compare(&expected, &found)),
    }
}

fn read_expected(path: &PathBuf) -> Result<BTreeMap<String, u64>> {
    let name = path.display().to_string();
    let size = fs::metadata(path).with_context(|| format!("cannot read {name}"))?.len();
    if size > MAX_EXPECTED_BYTES {
        bail!("{name} has {size} bytes: that is no file of expected counts");
    }
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    rules::expected_counts(&name, &text).map_err(|diagnostic| {
        anstream::eprintln!("{}", diagnostic.render());
        anyhow::anyhow!("{name} is not a file of expected counts")
    })
}

/// A name that no rule has would pass as a rule that finds nothing.
fn check_names(expected: &BTreeMap<String, u64>, rules: &RuleSet) -> Result<()> {
    match expected.keys().find(|name| !rules.rules().any(|rule| rule.name == **name)) {
        None => Ok(()),
        Some(name) => bail!(not_found(name, rules)),
    }
}

fn count(capture: &Path, rules: RuleSet, found: &mut BTreeMap<String, u64>) -> Result<()> {
    let name = capture.display();
    let mut capture = Capture::open(capture).with_context(|| name.to_string())?;
    let selection = Selection { rules, filter: None, min_priority: Priority::Debug };
    let mut pipeline = Pipeline::new(selection, Mode::Replay, || 0);
    loop {
        let status = capture.feed(&mut pipeline, &ALWAYS, &mut |finding| *found.entry(finding.rule).or_default() += 1);
        // Counts of half a capture mean nothing.
        if status.with_context(|| name.to_string())? == Status::Ended {
            pipeline.finish(&mut |finding| *found.entry(finding.rule).or_default() += 1);
            return Ok(());
        }
    }
}

fn compare(expected: &BTreeMap<String, u64>, found: &BTreeMap<String, u64>) -> Exit {
    let names: std::collections::BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    let count = |counts: &BTreeMap<String, u64>, name: &String| counts.get(name).copied().unwrap_or(0);
    let mut differ = 0;
    for name in names {
        let (wanted, got) = (count(expected, name), count(found, name));
        if wanted != got {
            differ += 1;
            eprintln!("{name}: expected {wanted}, found {got}");
        }
    }
    if differ > 0 {
        eprintln!("monitor: {differ} of the rules found something else than expected");
        return Exit::Found;
    }
    eprintln!("as expected: {} findings of {} rules", found.values().sum::<u64>(), found.len());
    Exit::Done
}
