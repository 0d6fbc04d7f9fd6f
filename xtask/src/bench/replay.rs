//! Records per second through everything but the kernel: a capture is recorded once and replayed.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::{Bench, agent::Summary, load, report::Row, ring::STORMS, statistics::number};
use crate::cmd;

const RUNS: usize = 5;
/// How long is recorded.
const TIME: Duration = Duration::from_secs(2);

/// Measures a replay of every storm.
pub(super) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (load, name) in STORMS {
        eprintln!("bench: replay: {name}");
        let capture = bench.directory.path().join("bench.mcap");
        let storm = load::command(&bench.machine, load, TIME)?;
        let mut record = bench.machine.on_agent_cpu(&bench.agent);
        record.args(["record", "-w"]).arg(&capture).arg("--").arg(storm.get_program()).args(storm.get_args());
        let output = record.stdin(Stdio::null()).output()?;
        if !output.status.success() {
            bail!("`{}` failed: {}\n{}", cmd::line(&record), output.status, String::from_utf8_lossy(&output.stderr));
        }
        let rates = (0..RUNS).map(|_| replay(bench, &capture)).collect::<Result<Vec<_>>>()?;
        rows.push(Row::new("records from a capture", name, "records/s", rates));
    }
    Ok(rows)
}

/// Replays once; records per second.
fn replay(bench: &Bench, capture: &Path) -> Result<f64> {
    let mut command = bench.machine.on_load_cpu(&bench.agent);
    command.args(["replay", "-o", "json"]).arg(capture).stdout(Stdio::null()).stderr(Stdio::piped());
    let begin = Instant::now();
    let output = command.spawn()?.wait_with_output()?;
    let elapsed = begin.elapsed();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let records = Summary::parse(&stderr).records;
    if !output.status.success() || records == 0 {
        bail!("`{}` replayed {records} records: {}\n{stderr}", cmd::line(&command), output.status);
    }
    Ok(number(records) / elapsed.as_secs_f64())
}
