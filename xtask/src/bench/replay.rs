//! Records per second through everything but the kernel: a capture is recorded once and replayed.
//!
//! What a replay of next to nothing takes (start, rules, the machine as it was found) is taken off.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    Bench,
    agent::Summary,
    load,
    report::Row,
    ring::STORMS,
    statistics::{Spread, number},
};
use crate::cmd;

const RUNS: usize = 11;
/// How long is recorded.
const TIME: Duration = Duration::from_secs(8);

/// One replay.
struct Replayed {
    seconds: f64,
    records: u64,
}

/// Measures a replay of every storm.
pub(super) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let idle = replays(bench, &record(bench, &Command::new("/bin/true"))?)?;
    let idle_seconds = Spread::of(idle.iter().map(|replayed| replayed.seconds)).median;
    let idle_records = idle.first().map_or(0, |replayed| replayed.records);
    let mut rows = Vec::new();
    for (load, name) in STORMS {
        eprintln!("bench: replay: {name}");
        let replays = replays(bench, &record(bench, &load::command(&bench.machine, load, TIME)?)?)?;
        let rates = replays
            .iter()
            .map(|replayed| number(replayed.records.saturating_sub(idle_records)) / (replayed.seconds - idle_seconds));
        rows.push(Row::new("records from a capture", name, "records/s", rates));
    }
    Ok(rows)
}

/// Records what happens while a command runs, and returns the capture.
fn record(bench: &Bench, during: &Command) -> Result<PathBuf> {
    let capture = bench.directory.path().join("bench.mcap");
    let mut command = bench.machine.on_agent_cpu(&bench.agent);
    command.args(["record", "-w"]).arg(&capture).arg("--").arg(during.get_program()).args(during.get_args());
    let output = command.stdin(Stdio::null()).output().context("cannot start taskset (package util-linux)")?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}\n{stderr}", cmd::line(&command), output.status);
    }
    Ok(capture)
}

fn replays(bench: &Bench, capture: &Path) -> Result<Vec<Replayed>> {
    (0..RUNS).map(|_| replay(bench, capture)).collect()
}

fn replay(bench: &Bench, capture: &Path) -> Result<Replayed> {
    let mut command = bench.machine.on_load_cpu(&bench.agent);
    command.args(["replay", "-o", "json"]).arg(capture).stdout(Stdio::null()).stderr(Stdio::piped());
    let begin = Instant::now();
    let output = command.spawn()?.wait_with_output()?;
    let seconds = begin.elapsed().as_secs_f64();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let records = Summary::parse(&stderr).records;
    if !output.status.success() || records == 0 {
        bail!("`{}` replayed {records} records: {}\n{stderr}", cmd::line(&command), output.status);
    }
    Ok(Replayed { seconds, records })
}
