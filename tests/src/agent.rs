//! The agent as a user sees it: its binary, its command line, its output.
//!
//! The binary is `MONITOR_BIN`, else `monitor` beside the test binary. The agent says `monitor: ready` on standard error when its
//! sensor is attached and its socket listens, and `monitor: summary: …` when it ends. Findings are JSON lines on standard output.
use std::{
    env,
    ffi::OsStr,
    io::{BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    container::{Container, Runtime},
    finding,
    process::{self, Finished, Group},
    workload,
};

/// How long an agent may take to be ready, and a finding to arrive. Generous: many tests share few cores.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// How long an agent may take to end after SIGTERM.
pub const GRACE: Duration = Duration::from_secs(2);

const CAPTURE: &str = "run.mcap";
const READY: &str = "monitor: ready";
const SUMMARY: &str = "monitor: summary: ";

/// The agent's binary.
pub fn binary() -> Result<PathBuf> {
    let path = match env::var_os("MONITOR_BIN") {
        Some(named) => PathBuf::from(named),
        None => workload::profile_directory()?.join("monitor"),
    };
    ensure!(path.is_file(), "{}: no agent binary; build it, or name it in MONITOR_BIN", path.display());
    Ok(path)
}

/// Runs `monitor ARGS` to its end.
pub fn monitor<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Result<Finished> {
    process::run(Command::new(binary()?).args(args), PATIENCE)
}

/// Runs `monitor replay -o json CAPTURE ARGS` to its end.
pub fn replay(capture: &Path, args: &[&str]) -> Result<Finished> {
    let fixed = [OsStr::new("replay"), OsStr::new("-o"), OsStr::new("json"), capture.as_os_str()];
    monitor(fixed.into_iter().chain(args.iter().map(OsStr::new)))
}

/// A running agent. Dropping it kills it.
#[derive(Debug)]
pub struct Agent {
    process: Group,
    stdout: Lines,
    stderr: Lines,
    socket: PathBuf,
    directory: TempDir,
}

impl Agent {
    /// Starts `monitor run -o json --socket … -w … ARGS` and waits until it is ready.
    pub fn start(args: &[&str]) -> Result<Self> {
        let directory = directory()?;
        Self::start_in(&binary()?, directory.path().join("monitor.sock"), directory, args)
    }

    /// As [`start`](Self::start), with the socket at a path of the caller's.
    pub fn start_at(socket: &Path, args: &[&str]) -> Result<Self> {
        Self::start_in(&binary()?, socket.to_owned(), directory()?, args)
    }

    fn start_in(binary: &Path, socket: PathBuf, directory: TempDir, args: &[&str]) -> Result<Self> {
        let mut command = Command::new(binary);
        command.args(["run", "-o", "json", "--socket"]).arg(&socket);
        command.arg("-w").arg(directory.path().join(CAPTURE)).args(args);
        Self::spawn(command, socket, directory)
    }

    /// Starts the one that a container runs, and waits until it is ready. It prints findings in JSON and writes no capture.
    pub fn within(container: &Container) -> Result<Self> {
        let directory = directory()?;
        Self::spawn(container.running(), directory.path().join("monitor.sock"), directory)
    }

    fn spawn(mut command: Command, socket: PathBuf, directory: TempDir) -> Result<Self> {
        let mut process = Group::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        let (stdout, stderr) = process.outputs();
        let (stdout, stderr) =
            (Lines::collect(stdout.context("no stdout")?), Lines::collect(stderr.context("no stderr")?));
        let mut agent = Self { process, stdout, stderr, socket, directory };
        if !agent.stderr.wait(PATIENCE, |lines| lines.iter().any(|line| line.contains(READY))) {
            let ended = agent.process.wait(Duration::from_millis(100))?;
            let end = ended.map_or_else(|| "still runs".to_owned(), |status| format!("ended ({status})"));
            bail!("{command:?}: no {READY:?} on stderr; it {end}\n--- stderr\n{}", agent.stderr());
        }
        Ok(agent)
    }

    /// Path of its gRPC socket.
    pub fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    /// Path of the capture that it writes. It goes with the agent.
    pub fn capture(&self) -> PathBuf {
        self.directory.path().join(CAPTURE)
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().lines.join("\n")
    }

    /// The findings that it has printed so far.
    pub fn findings(&self) -> Result<Vec<Value>> {
        finding::parse(&self.stdout.lock().lines.join("\n"))
    }

    /// Waits until a finding is printed that `wanted` accepts.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
        let is_wanted = |line: &String| serde_json::from_str(line).is_ok_and(|finding| wanted(&finding));
        let mut seen = 0;
        let arrived = self.stdout.wait(PATIENCE, |lines| {
            let new = lines.get(seen..).unwrap_or_default();
            seen = lines.len();
            new.iter().any(is_wanted)
        });
        ensure!(
            arrived,
            "{what}: no such finding\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout.lock().lines.join("\n"),
            self.stderr()
        );
        Ok(())
    }

    /// Waits until `text` stands in at least `times` lines of standard error.
    pub fn wait_for_stderr(&self, text: &str, times: usize) -> Result<()> {
        let said = self.stderr.wait(PATIENCE, |lines| lines.iter().filter(|line| line.contains(text)).count() >= times);
        ensure!(said, "{text:?} does not stand {times} times in\n--- stderr\n{}", self.stderr());
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(self.process.signal(signal)?)
    }

    /// Waits until every finding of what happened before this call is printed: makes one more finding (a new program in a
    /// container of its own) and waits for it. Findings keep the order of what happened.
    pub fn fence(&self) -> Result<()> {
        let container = Container::script(Runtime::any(), "cp /bin/workload /tmp/fence; /tmp/fence noop", None)?;
        container.run()?.successful()?;
        self.wait_for("fence", |finding| finding::text(finding, "/container/id") == container.id())
    }

    /// The most memory that it has had resident, in MiB.
    pub fn most_memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()?.div_ceil(1024))
    }

    /// Ends it with SIGTERM. An agent that needs longer than [`GRACE`] is an error.
    pub fn stop(self) -> Result<Stopped> {
        self.process.signal(Signal::TERM)?;
        self.wait_end(GRACE)
    }

    /// Ends it with SIGKILL, and returns its directory with the capture, as it was left.
    pub fn kill(mut self) -> Result<TempDir> {
        self.process.signal(Signal::KILL)?;
        self.process.wait(PATIENCE)?.context("it survives SIGKILL")?;
        Ok(self.directory)
    }

    /// Waits for an end that comes by itself.
    pub fn wait_end(mut self, limit: Duration) -> Result<Stopped> {
        let begin = Instant::now();
        let ended = self.process.wait(limit)?;
        let elapsed = begin.elapsed();
        let Some(status) = ended else { bail!("it still runs after {limit:?}\n--- stderr\n{}", self.stderr()) };
        let closed = self.stdout.wait_closed(GRACE) && self.stderr.wait_closed(GRACE);
        ensure!(closed, "somebody still holds the outputs of an agent that ended");
        let summary = Summary::parse(&self.stderr())
            .with_context(|| format!("no good summary\n--- stderr\n{}", self.stderr()))?;
        Ok(Stopped {
            status,
            elapsed,
            summary,
            findings: self.findings()?,
            stderr: self.stderr(),
            capture: self.capture(),
            _directory: self.directory,
        })
    }
}

fn directory() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("monitor-agent-").tempdir()?)
}

/// An agent that ended, and what it left. Its capture goes when this is dropped.
#[derive(Debug)]
pub struct Stopped {
    /// How it ended.
    pub status: ExitStatus,
    /// From SIGTERM, or the beginning of the wait, to the end.
    pub elapsed: Duration,
    /// Its last words.
    pub summary: Summary,
    /// Everything it printed.
    pub findings: Vec<Value>,
    /// Everything it wrote to standard error.
    pub stderr: String,
    /// The capture that it wrote.
    pub capture: PathBuf,
    _directory: TempDir,
}

/// The counts of `monitor: summary: records=… findings=… lost=… filtered=…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Records taken from the kernel.
    pub records: u64,
    /// Findings made.
    pub findings: u64,
    /// Records that the kernel could not deliver.
    pub lost: u64,
    /// Records left out on purpose.
    pub filtered: u64,
}

impl Summary {
    /// The last summary in the text.
    pub fn parse(stderr: &str) -> Result<Self> {
        let line = stderr.lines().rev().find_map(|line| line.split_once(SUMMARY)).map(|(_, counts)| counts);
        let line = line.with_context(|| format!("no {SUMMARY:?}"))?;
        let count = |name: &str| -> Result<u64> {
            let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            value
                .with_context(|| format!("no {name}= in {line:?}"))?
                .parse()
                .with_context(|| format!("{name}= in {line:?}"))
        };
        Ok(Self {
            records: count("records")?,
            findings: count("findings")?,
            lost: count("lost")?,
            filtered: count("filtered")?,
        })
    }
}

/// The lines that a thread reads from a pipe, and a way to wait for more.
#[derive(Debug)]
struct Lines(Arc<(Mutex<Seen>, Condvar)>);

#[derive(Debug, Default)]
struct Seen {
    lines: Vec<String>,
    closed: bool,
}

impl Lines {
    fn collect(pipe: impl Read + Send + 'static) -> Self {
        let shared = Arc::new((Mutex::new(Seen::default()), Condvar::new()));
        let lines = Self(Arc::clone(&shared));
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                Self(Arc::clone(&shared)).update(|seen| seen.lines.push(String::from_utf8_lossy(&line).into_owned()));
            }
            Self(shared).update(|seen| seen.closed = true);
        });
        lines
    }

    fn update(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.lock());
        self.0.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `done` came true within `limit`, and before the pipe was closed.
    fn wait(&self, limit: Duration, mut done: impl FnMut(&[String]) -> bool) -> bool {
        let mut reached = false;
        self.wait_state(limit, |seen| {
            reached = done(&seen.lines);
            reached || seen.closed
        });
        reached
    }

    fn wait_closed(&self, limit: Duration) -> bool {
        self.wait_state(limit, |seen| seen.closed)
    }

    fn wait_state(&self, limit: Duration, mut done: impl FnMut(&Seen) -> bool) -> bool {
        let waited = self.0.1.wait_timeout_while(self.lock(), limit, |seen| !done(seen));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_summary_is_read_whatever_stands_around_it() {
        let stderr = "monitor: ready\n12:00 INFO monitor: summary: records=1 findings=2 lost=3 filtered=4 spare=5\n";
        assert_eq!(Summary::parse(stderr).unwrap(), Summary { records: 1, findings: 2, lost: 3, filtered: 4 });
        assert!(Summary::parse("monitor: summary: records=1 findings=x lost=3 filtered=4").is_err());
        assert!(Summary::parse("monitor: ready").is_err());
    }

    /// An agent that is a shell script.
    fn scripted(script: &str) -> (TempDir, Result<Agent>) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("monitor");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let directory = directory().unwrap();
        let agent = Agent::start_in(&path, directory.path().join("monitor.sock"), directory, &[]);
        (home, agent)
    }

    #[test]
    fn an_agent_is_followed_from_ready_to_summary() {
        let sum_up = "echo monitor: summary: records=9 findings=1 lost=0 filtered=0 >&2; exit 0";
        let script = format!(
            "trap '{sum_up}' TERM; echo monitor: ready >&2; echo '{{\"rule\":\"A\"}}'; while :; do sleep 0.01; done"
        );
        let (_home, agent) = scripted(&script);
        let agent = agent.unwrap();
        agent.wait_for("rule A", |finding| finding::text(finding, "/rule") == "A").unwrap();
        let stopped = agent.stop().unwrap();
        assert_eq!((stopped.status.code(), stopped.findings.len(), stopped.summary.records), (Some(0), 1, 9));
    }

    #[test]
    fn an_agent_that_ignores_sigterm_is_an_error_and_killed() {
        let (_home, agent) = scripted("trap '' TERM; echo monitor: ready >&2; while :; do sleep 0.01; done");
        let agent = agent.unwrap();
        let pid = agent.process.id();
        let error = agent.stop().unwrap_err().to_string();
        assert!(error.contains("still runs"), "{error}");
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn an_agent_that_is_never_ready_shows_why() {
        let (_home, agent) = scripted("echo no such capability >&2; exit 2");
        let error = agent.unwrap_err().to_string();
        assert!(error.contains("exit status: 2") && error.contains("no such capability"), "{error}");
    }

    #[test]
    fn waiting_for_lines_ends_when_the_pipe_does() {
        let begin = Instant::now();
        let lines = Lines::collect(&b"one\ntwo"[..]);
        assert!(lines.wait(PATIENCE, |lines| lines.len() == 2));
        assert!(!lines.wait(PATIENCE, |lines| lines.len() == 3));
        assert!(lines.wait_closed(PATIENCE));
        assert!(begin.elapsed() < PATIENCE);
    }
}
