//! Cost of the rules per event: sets of 10 to 10,000 synthetic rules and Falco's own, the engine beside the plain walk over the
//! conditions, for events of which no two are alike and for a few that come again and again. Needs no sensor.
//!
//! Falco's files are not part of this repository: they are looked for in `MONITOR_FALCO_RULES`, else in `../shared/rules/falco`
//! beside it, and their rows are left out where they are not there.

use std::{collections::BTreeMap, env, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::report::Row;
use crate::{cmd::Cmd, repository};

const BENCHMARK: &str = "rules";
/// Rounds in which every set is measured once.
const ROUNDS: u16 = 15;
/// The most that a hundred times as many rules should cost.
const AIM_SCALING: f64 = 3.0;
/// The most that the engine should take of what the plain walk takes, with Falco's rules.
const AIM_OF_WALK: f64 = 0.1;
/// The most that an event should cost with Falco's rules, in nanoseconds.
const AIM_NS: [(&str, f64); 2] = [("exec", 500.0), ("open", 150.0)];

/// Nanoseconds per event of each round: by the engine, and by the plain walk.
type Rounds = Vec<(f64, f64)>;

/// Measures all sets.
pub(super) fn measure() -> Result<Vec<Row>> {
    Cmd::new("cargo").args(["build", "--release", "--package", "tests", "--bin", "measure-rules"]).run()?;
    let binary = repository::target().join("release/measure-rules");
    let files = falco_files()?;
    eprintln!("bench: rules: {ROUNDS} rounds{}", if files.is_empty() { ", without Falco's files" } else { "" });
    let output =
        Command::new(&binary).arg(ROUNDS.to_string()).args(files).output().context("cannot start measure-rules")?;
    if !output.status.success() {
        bail!("measure-rules: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let rounds = parse(&String::from_utf8_lossy(&output.stdout))?;
    let kinds =
        AIM_NS.iter().flat_map(|(event, aim)| [((*event).to_owned(), *aim), (format!("{event} repeated"), *aim)]);
    Ok(kinds.flat_map(|(event, aim)| rows(&rounds, &event, aim)).collect())
}

pub(super) fn falco_files() -> Result<Vec<PathBuf>> {
    let default = repository::root().join("../shared/rules/falco");
    let directory = env::var_os("MONITOR_FALCO_RULES").map_or(default, PathBuf::from);
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let mut files: Vec<_> = fs::read_dir(directory)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    Ok(files)
}

/// By set and kind of event.
fn parse(output: &str) -> Result<BTreeMap<(String, String), Rounds>> {
    let mut rounds: BTreeMap<_, Rounds> = BTreeMap::new();
    for line in output.lines() {
        let measured: Value = serde_json::from_str(line).context("measure-rules printed something else than JSON")?;
        let text = |key: &str| measured.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |key: &str| measured.get(key).and_then(Value::as_f64).unwrap_or(f64::NAN);
        rounds.entry((text("set"), text("event"))).or_default().push((number("engine_ns"), number("reference_ns")));
    }
    Ok(rounds)
}

fn rows(rounds: &BTreeMap<(String, String), Rounds>, event: &str, aim: f64) -> Vec<Row> {
    let of = |set: &str| rounds.get(&(set.to_owned(), event.to_owned()));
    let mut rows = Vec::new();
    for set in ["10", "100", "1000", "10000"] {
        let engine = of(set).into_iter().flatten().map(|(engine, _)| *engine);
        rows.push(Row::new(BENCHMARK, format!("{event}, {set} synthetic rules"), "ns", engine));
    }
    let both = of("10000").into_iter().flatten().zip(of("100").into_iter().flatten());
    let scaling = both.map(|((many, _), (few, _))| many / few);
    rows.push(Row::new(BENCHMARK, format!("{event}, 10000 rules / 100 rules"), "", scaling).at_most(AIM_SCALING));
    if let Some(upstream) = of("upstream") {
        let engine = upstream.iter().map(|(engine, _)| *engine);
        rows.push(Row::new(BENCHMARK, format!("{event}, Falco's rules"), "ns", engine).at_most(aim));
        let walk = upstream.iter().map(|(_, walk)| *walk);
        rows.push(Row::new(BENCHMARK, format!("{event}, Falco's rules, plain walk"), "ns", walk));
        let ratio = upstream.iter().map(|(engine, walk)| engine / walk);
        rows.push(
            Row::new(BENCHMARK, format!("{event}, Falco's rules, engine / walk"), "", ratio).at_most(AIM_OF_WALK),
        );
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_made_of_what_is_printed() {
        let line = |set: &str, engine: f64| {
            format!("{{\"set\":\"{set}\",\"event\":\"exec\",\"engine_ns\":{engine},\"reference_ns\":100.0}}\n")
        };
        let rounds = parse(&(line("100", 10.0) + &line("10000", 20.0) + &line("upstream", 5.0))).unwrap();
        assert_eq!(rows(&rounds, "exec", 500.0).len(), 8);
        assert!(parse("no json\n").is_err());
    }
}
