//! Memory of the agent after it has seen many processes and files.

use std::{fs, process::Stdio, time::Duration};

use anyhow::{Context as _, Result};

use super::{Bench, agent::Sensor, load, machine::field, report::Row, ring::STORMS};

const RUNS: usize = 3;
/// How long each load runs before the agent is looked at.
const TIME: Duration = Duration::from_secs(3);
/// Most resident memory, in MiB.
const AIM_MIB: f64 = 40.0;

/// Measures resident memory, now and at its most.
pub(super) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let (mut resident, mut most) = (Vec::new(), Vec::new());
    for round in 1..=RUNS {
        eprintln!("bench: memory: run {round} of {RUNS}");
        let sensor = Sensor::agent(bench, &[], Stdio::null())?;
        for (load, _) in STORMS {
            load::measure(&bench.machine, load, TIME)?;
        }
        let status = fs::read_to_string(format!("/proc/{}/status", sensor.pid()))?;
        resident.push(mebibytes(&status, "VmRSS")?);
        most.push(mebibytes(&status, "VmHWM")?);
        sensor.stop()?;
    }
    Ok(vec![
        Row::new("memory of the agent", "resident after load", "MiB", resident).at_most(AIM_MIB),
        Row::new("memory of the agent", "most resident", "MiB", most).at_most(AIM_MIB),
    ])
}

pub(super) fn mebibytes(status: &str, name: &str) -> Result<f64> {
    let kibibytes = field(status, name).and_then(|value| value.strip_suffix(" kB"));
    let kibibytes: f64 = kibibytes.with_context(|| format!("no {name} in the agent's status"))?.trim().parse()?;
    Ok(kibibytes / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_mebibytes() {
        assert!((mebibytes("VmRSS:\t   2048 kB\n", "VmRSS").unwrap() - 2.0).abs() < f64::EPSILON);
        assert!(mebibytes("VmRSS:\t   2048 kB\n", "VmHWM").is_err());
    }
}
