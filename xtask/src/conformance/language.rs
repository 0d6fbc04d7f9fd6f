//! One-line rules that exercise the rule language: which events of which capture each matches, and what is refused.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, process::Command};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::alerts::{self, Options};

/// Where we mean to differ: capture, rules, and why.
const INTENDED: &[(&str, &[&str], &str)] = &[(
    "sysflow_alpine_alpine",
    &["L206", "L210", "L217", "L218"],
    "Falco looks users and groups that the capture does not list up on the machine that replays it (getpwuid in \
     libsinsp/user.cpp, add_host_user): uid 101 has another name on each. Here a capture gives the same everywhere.",
)];

/// What a rule matches in a capture.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Matches {
    count: usize,
    first: u64,
    last: u64,
    /// First digits of the SHA-256 of the events' numbers, joined by commas.
    sha256: String,
}

/// A condition that does not load.
#[derive(Debug, Deserialize)]
struct Refused {
    condition: String,
}

pub(super) fn compare(
    agent: &Path,
    captures: &Path,
    directory: &Path,
    only: Option<&str>,
    show: usize,
) -> Result<usize> {
    let mut differing = 0;
    let text = fs::read_to_string(directory.join("lang-expected.json"))?;
    let expected: BTreeMap<String, BTreeMap<String, Matches>> = serde_json::from_str(&text)?;
    let rules = [directory.join("lang_rules.yaml")];
    for (capture, expected) in &expected {
        if only.is_some_and(|only| !format!("{capture}.language").contains(only)) {
            continue;
        }
        let options = Options { matches_all: true, enables_all: false };
        let got = matches(&alerts::replay(agent, &captures.join(format!("{capture}.scap")), &rules, options)?);
        let names: std::collections::BTreeSet<_> = expected.keys().chain(got.keys()).collect();
        let wrong: Vec<_> = names.into_iter().filter(|name| expected.get(*name) != got.get(*name)).collect();
        let (intended, wrong): (Vec<_>, Vec<_>) = wrong.into_iter().partition(|name| reason(capture, name).is_some());
        println!("  {:50} {:8} rules match, {} differ", format!("{capture}.language"), expected.len(), wrong.len());
        if let Some(name) = intended.first() {
            let reason = reason(capture, name).unwrap_or_default();
            println!("      {} intended: {reason}", intended.len());
        }
        for name in wrong.iter().take(show) {
            println!("      {name}: expected {:?}, got {:?}", expected.get(*name), got.get(*name));
        }
        differing += usize::from(!wrong.is_empty());
    }
    if only.is_none_or(|only| "load-errors".contains(only)) {
        differing += refused(agent, directory)?;
    }
    Ok(differing)
}

fn reason(capture: &str, rule: &str) -> Option<&'static str> {
    let intended = |(of, rules, _): &&(&str, &[&str], &str)| *of == capture && rules.contains(&rule);
    INTENDED.iter().find(intended).map(|(.., reason)| *reason)
}

fn matches(alerts: &[alerts::Alert]) -> BTreeMap<String, Matches> {
    let mut numbers: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for alert in alerts {
        let number = alert.output_fields.get("evt.num").and_then(serde_json::Value::as_u64).unwrap_or_default();
        numbers.entry(alert.rule.clone()).or_default().push(number);
    }
    let matches = |numbers: &Vec<u64>| {
        let joined = numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let mut sha256 = String::new();
        for byte in Sha256::digest(joined).iter().take(8) {
            let _ = write!(sha256, "{byte:02x}");
        }
        Matches {
            count: numbers.len(),
            first: numbers.first().copied().unwrap_or_default(),
            last: numbers.last().copied().unwrap_or_default(),
            sha256,
        }
    };
    numbers.iter().map(|(rule, numbers)| (rule.clone(), matches(numbers))).collect()
}

/// Conditions that Falco refuses are refused.
fn refused(agent: &Path, directory: &Path) -> Result<usize> {
    let text = fs::read_to_string(directory.join("load-errors.json")).context("load-errors.json")?;
    let all: Vec<Refused> = serde_json::from_str(&text)?;
    let rules = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    let mut accepted = Vec::new();
    for refused in &all {
        let condition = refused.condition.replace('\n', " ");
        let text = format!("- rule: R\n  desc: d\n  condition: >\n    {condition}\n  output: o\n  priority: DEBUG\n");
        fs::write(rules.path(), text)?;
        let status = Command::new(agent).args(["rules", "check", "-r"]).arg(rules.path()).output()?.status;
        if status.code() != Some(2) {
            accepted.push(&refused.condition);
        }
    }
    println!("  {:50} {:8} conditions, {} not refused", "load-errors", all.len(), accepted.len());
    for condition in &accepted {
        println!("      accepted: {condition}");
    }
    Ok(usize::from(!accepted.is_empty()))
}
