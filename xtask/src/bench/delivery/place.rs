//! A producer, its spool and its sink under measurement, and what they tell of themselves.

use std::{
    fmt::Write as _,
    fs,
    io::{self, BufRead as _, BufReader, Read as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::number;
use crate::repository;

/// A directory with a spool, and where the metrics are.
pub(super) struct Place {
    agent: PathBuf,
    directory: tempfile::TempDir,
    metrics: u16,
}

impl Place {
    /// With a sink in the configuration, or without.
    pub(super) fn new(agent: &Path, with_sink: bool) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("monitor-bench-").tempdir()?;
        let metrics = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let path = directory.path().display();
        let mut config = format!("spool:\n  directory: {path}/spool\nmetrics:\n  listen: 127.0.0.1:{metrics}\n");
        if with_sink {
            let _ = write!(config, "sinks:\n  - name: s\n    endpoint: unix:{path}/sink.sock\n");
        }
        fs::write(directory.path().join("config.yaml"), config)?;
        Ok(Self { agent: agent.to_owned(), directory, metrics })
    }

    /// The reference consumer.
    pub(super) fn sink(&self) -> Result<Process> {
        let mut command = Command::new(&self.agent);
        command.args(["sink", "serve", "--quiet", "--listen"]);
        command.arg(format!("unix:{}/sink.sock", self.directory.path().display()));
        Process::start(command, "monitor: ready")
    }

    /// Who makes findings, so many per second and so many in all.
    pub(super) fn producer(&self, rate: u64, count: u64) -> Result<Process> {
        let mut command = Command::new(repository::target().join("release/producer"));
        command.arg(self.directory.path().join("config.yaml")).arg("/dev/null");
        command.args([rate.to_string(), count.to_string()]);
        command.arg(self.directory.path().join("agent.sock"));
        Process::start(command, "producer: ready")
    }

    /// Subscribers, some of which never read; they end when the others have `count` findings each.
    pub(super) fn subscribers(&self, reading: u32, silent: u32, count: u64) -> Result<Process> {
        let mut command = Command::new(repository::target().join("release/subscribers"));
        command.arg(self.directory.path().join("agent.sock"));
        command.args([reading.to_string(), silent.to_string(), count.to_string()]);
        Process::start(command, "subscribers: ready")
    }

    /// Waits until so many are delivered.
    pub(super) fn wait_for(&self, findings: u64, limit: Duration) -> Result<()> {
        let begin = Instant::now();
        while self.metric("sink_delivered_total")? < number(findings) {
            if begin.elapsed() > limit {
                bail!("{findings} findings are not delivered within {limit:?}");
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// A metric of the producer's.
    pub(super) fn metric(&self, name: &str) -> Result<f64> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics))?;
        io::Write::write_all(&mut stream, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        let line = page.lines().find(|line| line.starts_with(&format!("monitor_{name}")));
        let value = line.and_then(|line| line.rsplit(' ').next()).with_context(|| format!("no metric {name}"))?;
        Ok(value.trim().parse()?)
    }
}

/// A process that sums up on stderr when it ends. Dropping it kills it.
pub(super) struct Process {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Process {
    fn start(mut command: Command, ready: &str) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child =
            command.spawn().with_context(|| format!("cannot start {}", Path::new(command.get_program()).display()))?;
        let stderr = BufReader::new(child.stderr.take().context("no standard error")?);
        let mut process = Self { child, stderr };
        let mut line = String::new();
        while !line.contains(ready) {
            line.clear();
            if process.stderr.read_line(&mut line)? == 0 {
                bail!("{command:?} ends instead of being ready");
            }
        }
        Ok(process)
    }

    /// Ends it; what it said.
    pub(super) fn stop(mut self) -> Result<String> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        self.last_words()
    }

    /// Waits until it ends by itself; what it said.
    pub(super) fn wait_end(mut self, limit: Duration) -> Result<String> {
        let begin = Instant::now();
        while self.child.try_wait()?.is_none() {
            if begin.elapsed() > limit {
                bail!("a process does not end within {limit:?}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.last_words()
    }

    fn last_words(&mut self) -> Result<String> {
        let mut said = String::new();
        self.stderr.read_to_string(&mut said)?;
        self.child.wait()?;
        Ok(said)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The number behind `NAME=` in a summary.
pub(super) fn count(summary: &str, name: &str) -> Result<f64> {
    let value = summary.split_whitespace().rev().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    Ok(value.with_context(|| format!("no {name}= in {summary:?}"))?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_a_summary() {
        assert!((count("producer: summary: made=12 dropped=3\n", "dropped").unwrap() - 3.0).abs() < f64::EPSILON);
        assert!(count("", "made").is_err());
    }
}
