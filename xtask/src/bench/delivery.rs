//! Delivery without a sensor: what a spool and one sink carry, what a finding costs, and how soon a sink that was away has it all.
//!
//! A producer hands findings to the outputs of the agent, the reference consumer takes them over a unix socket.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{Bench, report::Row};
use crate::{cmd::Cmd, repository};

const BENCHMARK: &str = "delivery";
/// Findings per second, and for how long.
const LOAD: (u64, u64) = (20_000, 60);
/// The same while the sink is away.
const AWAY: (u64, u64) = (1000, 60);
/// How long a sink that was away may take to have everything.
const AIM_CATCH_UP_SECONDS: f64 = 20.0;
/// The most that a finding may take on the wire, before compression.
const AIM_WIRE_BYTES: f64 = 1536.0;
/// Bytes of a spool's entry around the finding.
const ENTRY_BYTES: f64 = 32.0;
const PATIENCE: Duration = Duration::from_mins(2);

/// Measures load and catching up.
pub(super) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    Cmd::new("cargo").args(["build", "--release", "--package", "tests", "--bin", "producer"]).run()?;
    let mut rows = load(&bench.agent)?;
    rows.extend(away(&bench.agent)?);
    Ok(rows)
}

fn load(agent: &Path) -> Result<Vec<Row>> {
    let (rate, seconds) = LOAD;
    eprintln!("bench: delivery: {rate} findings/s for {seconds} s");
    let place = Place::new(agent)?;
    let sink = place.sink()?;
    let begin = Instant::now();
    let producer = place.producer(rate, rate * seconds)?;
    place.wait_for(rate * seconds)?;
    let took = begin.elapsed().as_secs_f64();
    let made = producer.stop()?;
    let received = sink.stop()?;
    let count = count(&made, "made")?;
    let lost = self::count(&made, "dropped")? + self::count(&received, "missing")?;
    let written = self::count(&made, "written_bytes")? / count;
    Ok(vec![
        Row::new(BENCHMARK, "carried to one sink", "findings/s", [self::count(&received, "findings")? / took]),
        Row::new(BENCHMARK, "lost", "findings", [lost]).at_most(0.0),
        Row::new(BENCHMARK, "written to the spool", "bytes/finding", [written]),
        Row::new(BENCHMARK, "on the wire, before compression", "bytes/finding", [written - ENTRY_BYTES])
            .at_most(AIM_WIRE_BYTES),
        Row::new(BENCHMARK, "CPU of the agent's side", "ms/1000 findings", [self::count(&made, "cpu_us")? / count]),
    ])
}

fn away(agent: &Path) -> Result<Vec<Row>> {
    let (rate, seconds) = AWAY;
    eprintln!("bench: delivery: a sink that is away for {seconds} s at {rate} findings/s");
    let place = Place::new(agent)?;
    let producer = place.producer(rate, u64::MAX)?;
    thread::sleep(Duration::from_secs(seconds));
    let begin = Instant::now();
    let sink = place.sink()?;
    // As far behind as a sink always is: what is in flight.
    while place.metric("sink_lag_entries")? > 1000.0 {
        if begin.elapsed() > PATIENCE {
            bail!("the sink does not catch up");
        }
        thread::sleep(Duration::from_millis(20));
    }
    let took = begin.elapsed().as_secs_f64();
    producer.stop()?;
    let missing = count(&sink.stop()?, "missing")?;
    Ok(vec![
        Row::new(BENCHMARK, "catching up after being away", "s", [took]).at_most(AIM_CATCH_UP_SECONDS),
        Row::new(BENCHMARK, "lost while away", "findings", [missing]).at_most(0.0),
    ])
}

/// A directory with a spool, and where the metrics are.
struct Place {
    agent: PathBuf,
    directory: tempfile::TempDir,
    metrics: u16,
}

impl Place {
    fn new(agent: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("monitor-bench-").tempdir()?;
        let metrics = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let path = directory.path().display();
        let config = format!(
            "spool:\n  directory: {path}/spool\nmetrics:\n  listen: 127.0.0.1:{metrics}\nsinks:\n  - name: s\n    \
             endpoint: unix:{path}/sink.sock\n"
        );
        fs::write(directory.path().join("config.yaml"), config)?;
        Ok(Self { agent: agent.to_owned(), directory, metrics })
    }

    fn sink(&self) -> Result<Process> {
        let mut command = Command::new(&self.agent);
        command.args(["sink", "serve", "--quiet", "--listen"]);
        command.arg(format!("unix:{}/sink.sock", self.directory.path().display()));
        Process::start(command, "monitor: ready")
    }

    fn producer(&self, rate: u64, count: u64) -> Result<Process> {
        let mut command = Command::new(repository::target().join("release/producer"));
        command.arg(self.directory.path().join("config.yaml")).arg("/dev/null");
        command.args([rate.to_string(), count.to_string()]);
        Process::start(command, "producer: ready")
    }

    fn wait_for(&self, findings: u64) -> Result<()> {
        let begin = Instant::now();
        while self.metric("sink_delivered_total")? < super::statistics::number(findings) {
            if begin.elapsed() > Duration::from_secs(LOAD.1) + PATIENCE {
                bail!("{findings} findings are not delivered");
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn metric(&self, name: &str) -> Result<f64> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        let line = page.lines().find(|line| line.starts_with(&format!("monitor_{name}")));
        let value = line.and_then(|line| line.rsplit(' ').next()).with_context(|| format!("no metric {name}"))?;
        Ok(value.trim().parse()?)
    }
}

/// A process that sums up on stderr when it ends. Dropping it kills it.
struct Process {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
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

    fn stop(mut self) -> Result<String> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
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

fn count(summary: &str, name: &str) -> Result<f64> {
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
