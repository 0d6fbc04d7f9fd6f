//! A sensor under measurement: the agent, or the empty program that it is compared with.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::Bench;
use crate::cmd;

/// How long a sensor may take to be ready, and to end.
const PATIENCE: Duration = Duration::from_secs(30);
const READY: &str = "monitor: ready";
const SUMMARY: &str = "monitor: summary: ";

/// A running sensor. Dropping it kills it.
pub(super) struct Sensor {
    child: Child,
    stderr: Receiver<String>,
    /// From its start to its word that it is ready.
    pub(super) ready_after: Duration,
}

impl Sensor {
    /// The agent, with a socket of its own so that an agent of the machine's is not disturbed.
    pub(super) fn agent(bench: &Bench, args: &[&Path], stdout: Stdio) -> Result<Self> {
        let mut command = bench.machine.on_agent_cpu(&bench.agent);
        command.args(["run", "-o", "json", "--socket"]).arg(bench.directory.path().join("monitor.sock")).args(args);
        Self::start(command, stdout)
    }

    /// An empty program on `sys_exit`: what any sensor there costs at least.
    pub(super) fn empty(bench: &Bench) -> Result<Self> {
        let mut command = bench.machine.on_agent_cpu(&bench.agent);
        command.arg("bench-baseline");
        Self::start(command, Stdio::null())
    }

    fn start(mut command: Command, stdout: Stdio) -> Result<Self> {
        let begin = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start taskset (package util-linux)")?;
        let pipe = child.stderr.take().context("no standard error")?;
        let (send, stderr) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                // Nobody listens any more when the sensor was dropped.
                let _ = send.send(line);
            }
        });
        let mut sensor = Self { child, stderr, ready_after: Duration::ZERO };
        let mut said = Vec::new();
        loop {
            match sensor.stderr.recv_timeout(PATIENCE.saturating_sub(begin.elapsed())) {
                Ok(line) if line.contains(READY) => break,
                Ok(line) => said.push(line),
                Err(_) => bail!("`{}` did not say {READY:?}; it said:\n{}", cmd::line(&command), said.join("\n")),
            }
        }
        sensor.ready_after = begin.elapsed();
        Ok(sensor)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output, where it is a pipe.
    pub(super) fn stdout(&mut self) -> Result<ChildStdout> {
        self.child.stdout.take().context("no standard output")
    }

    /// Ends it with SIGTERM and returns its summary.
    pub(super) fn stop(mut self) -> Result<Summary> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("cannot stop the sensor")?;
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait()? {
                Some(status) => break status,
                None if Instant::now() > deadline => bail!("the sensor does not end within {PATIENCE:?} of SIGTERM"),
                None => thread::sleep(Duration::from_millis(2)),
            }
        };
        let said: Vec<String> = self.stderr.iter().collect();
        if !status.success() {
            bail!("the sensor failed: {status}\n{}", said.join("\n"));
        }
        Ok(Summary::parse(&said.join("\n")))
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The counts of `monitor: summary: records=… lost=…`; zero where a sensor has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) records: u64,
    pub(super) lost: u64,
}

impl Summary {
    pub(super) fn parse(stderr: &str) -> Self {
        let line = stderr.lines().rev().find_map(|line| line.split_once(SUMMARY)).map_or("", |(_, counts)| counts);
        let count = |name: &str| {
            let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            value.and_then(|value| value.parse().ok()).unwrap_or(0)
        };
        Self { records: count("records"), lost: count("lost") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_read() {
        let stderr = "monitor: ready\nmonitor: summary: records=12 findings=1 lost=3 filtered=4\n";
        assert_eq!(Summary::parse(stderr), Summary { records: 12, lost: 3 });
        assert_eq!(Summary::parse("monitor: ready\n"), Summary::default());
    }
}
