//! Records per second that the agent takes from the kernel, and the share that it loses.

use std::{process::Stdio, time::Duration};

use anyhow::Result;

use super::{
    Bench,
    agent::{Sensor, Summary},
    load::{self, Load},
    report::Row,
    statistics::number,
};

const RUNS: usize = 5;
const TIME: Duration = Duration::from_secs(2);

/// Loads whose every call is recorded, and what they are called.
pub(super) const STORMS: [(Load, &str); 2] = [(Load::OpenWrite, "writing opens"), (Load::ForkExec, "new processes")];

/// Measures every storm.
pub(super) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    // What the agent records of the machine as it finds it is not the storm's.
    let idle = run(bench, None)?.records;
    for (load, name) in STORMS {
        let mut summaries = Vec::new();
        for round in 1..=RUNS {
            eprintln!("bench: ring: {name}, run {round} of {RUNS}");
            summaries.push(run(bench, Some(load))?);
        }
        let taken = |summary: &Summary| summary.records.saturating_sub(idle);
        let rates = summaries.iter().map(|summary| number(taken(summary)) / TIME.as_secs_f64());
        rows.push(Row::new("records from the kernel", format!("{name}: taken"), "records/s", rates));
        let lost = summaries
            .iter()
            .map(|summary| number(summary.lost) * 100.0 / number((summary.lost + taken(summary)).max(1)));
        rows.push(Row::new("records from the kernel", format!("{name}: lost"), "%", lost));
    }
    Ok(rows)
}

fn run(bench: &Bench, load: Option<Load>) -> Result<Summary> {
    let sensor = Sensor::agent(bench, &[], Stdio::null())?;
    if let Some(load) = load {
        load::measure(&bench.machine, load, TIME)?;
    }
    sensor.stop()
}
