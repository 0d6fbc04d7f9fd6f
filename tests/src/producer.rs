//! Findings in numbers, and the processes that make and take them without a sensor.
use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use monitor::proto::v1::{
    Container, Finding, Kind, Priority, Process, SeccompAction, SeccompViolation, Value, finding::Detail,
};
use rustix::process::Signal;

use crate::{agent, process::Group, workload};

/// How long a process may take to be ready, or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A finding as a busy node makes them. The uid follows from process and sequence, and is another in each process.
pub fn finding(sequence: u64) -> Finding {
    let text = |text: &str| text.to_owned();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_nanos()).unwrap_or(0);
    let fields = [
        ("container.id", Value::from("3f2a9c0d1e4b")),
        ("evt.type", Value::from("unshare")),
        ("k8s.ns.name", Value::from("shop")),
        ("k8s.pod.name", Value::from("web-6d4cf56db6-x2x9k")),
        ("proc.cmdline", Value::from("unshare --user --map-root-user sh -c id")),
        ("proc.pid", Value::from(sequence % 32_768)),
        ("proc.pname", Value::from("sh")),
    ];
    Finding {
        uid: format!("{:08x}-{:04x}-7000-8000-{sequence:012x}", now >> 32 & 0xffff_ffff, std::process::id() & 0xffff),
        sequence,
        time_unix_nano: now,
        observed_time_unix_nano: now,
        kind: Kind::SeccompViolation.into(),
        priority: Priority::Warning.into(),
        rule: text("Seccomp denied a system call"),
        message: text(
            "Seccomp denied a system call (syscall=unshare action=errno errno=EPERM process=unshare pod=web)",
        ),
        output_fields: fields.map(|(name, value)| (name.to_owned(), value)).into(),
        tags: vec![text("container"), text("mitre_privilege_escalation"), text("seccomp")],
        source: text("syscall"),
        hostname: text("test-node"),
        event_number: sequence * 3,
        event_type: text("unshare"),
        process: Some(Process {
            pid: 5200,
            tid: 5200,
            vpid: 12,
            start_time_unix_nano: now,
            name: text("unshare"),
            executable: text("/usr/bin/unshare"),
            arguments: ["unshare", "--user", "--map-root-user", "sh", "-c", "id"].map(text).to_vec(),
            working_directory: text("/"),
            uid: 1000,
            ancestors: Vec::new(),
        }),
        container: Some(Container {
            id: text("3f2a9c0d1e4b5a69788796a5b4c3d2e1f0f1e2d3c4b5a69788796a5b4c3d2e1f"),
            runtime: text("cri-containerd"),
            pod_uid: text("7b0f2c9e-1111-2222-3333-444455556666"),
            name: text("app"),
            image: text("registry.example.com/team/web:1.4"),
            image_digest: String::new(),
            pod_name: text("web-0"),
            namespace: text("prod"),
            pod: None,
            cgroup_path: text("/kubepods.slice/kubepods-burstable.slice/cri-containerd-3f2a9c0d1e4b.scope"),
        }),
        detail: Some(Detail::Seccomp(SeccompViolation {
            syscall: text("unshare"),
            number: 272,
            arch: text("x86_64"),
            action: SeccompAction::Errno.into(),
            errno: 1,
            errno_name: text("EPERM"),
            arguments: vec![0x1000_0000, 0, 0, 0, 0, 0],
            evidence: text("filter"),
            ..SeccompViolation::default()
        })),
    }
}

/// A process that says on stderr when it is ready. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    group: Group,
    stderr: Receiver<String>,
    /// The line that said so.
    pub ready: String,
}

impl Running {
    /// Starts it, and waits until a line of its stderr contains `ready`.
    pub fn start(command: &mut Command, ready: &str) -> Result<Self> {
        let mut group = Group::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()))?;
        let pipe = group.outputs().1.context("no stderr")?;
        let (send, stderr) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let (deadline, mut said) = (Instant::now() + PATIENCE, Vec::new());
        loop {
            match stderr.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(ready) => return Ok(Self { group, stderr, ready: line }),
                Ok(line) => said.push(line),
                Err(_) => bail!("{command:?} does not say {ready:?}:\n{}", said.join("\n")),
            }
        }
    }

    /// Ends it as nobody can prevent.
    pub fn kill(mut self) -> Result<()> {
        self.group.signal(Signal::KILL)?;
        self.group.wait(PATIENCE)?.context("it survives SIGKILL")?;
        Ok(())
    }

    /// Ends it with SIGTERM; what it said since it was ready.
    pub fn stop(mut self) -> Result<String> {
        self.group.signal(Signal::TERM)?;
        self.group.wait(PATIENCE)?.context("it does not end with SIGTERM")?;
        Ok(self.stderr.iter().collect::<Vec<_>>().join("\n"))
    }

    /// What it has said since it was ready, or since this was asked last.
    pub fn said(&self) -> String {
        self.stderr.try_iter().collect::<Vec<_>>().join("\n")
    }

    /// Its pid.
    pub fn id(&self) -> u32 {
        self.group.id()
    }
}

/// A place for a producer, its spool and its journal.
#[derive(Debug)]
pub struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    /// An empty one.
    pub fn new() -> Result<Self> {
        Ok(Self { directory: tempfile::Builder::new().prefix("monitor-delivery-").tempdir()? })
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the configuration: a spool in this place, and what is given.
    pub fn configure(&self, spool: &str, rest: &str) -> Result<()> {
        let text = format!("spool:\n  directory: {}\n{spool}{rest}", self.path("spool").display());
        Ok(fs::write(self.path("config.yaml"), text)?)
    }

    /// Starts a producer.
    pub fn produce(&self, rate: u64, count: u64) -> Result<Running> {
        self.produce_as(rate, count, |_| {})
    }

    /// Starts a producer by a command that is changed first.
    pub fn produce_as(&self, rate: u64, count: u64, change: impl FnOnce(&mut Command)) -> Result<Running> {
        let mut command = Command::new(workload::profile_directory()?.join("producer"));
        command.arg(self.path("config.yaml")).arg(self.path("journal"));
        command.args([rate.to_string(), count.to_string()]).arg(self.path("agent.sock"));
        change(&mut command);
        Running::start(&mut command, "producer: ready")
    }

    /// Starts the reference consumer on `sink.sock` here.
    pub fn sink(&self, args: &[&str]) -> Result<Running> {
        let listen = format!("unix:{}", self.path("sink.sock").display());
        sink(&[&["--listen", &listen], args].concat())
    }
}

/// Starts the reference consumer.
pub fn sink(args: &[&str]) -> Result<Running> {
    Running::start(Command::new(agent::binary()?).args(["sink", "serve"]).args(args), "monitor: ready")
}

/// The number behind `NAME=` in a summary.
pub fn count(summary: &str, name: &str) -> Result<u64> {
    let value = summary.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value
        .with_context(|| format!("no {name}= in {summary:?}"))?
        .parse()
        .with_context(|| format!("{name}= in {summary:?}"))
}

/// Waits until `done`, at most so long.
pub fn wait(what: &str, limit: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<Duration> {
    let begin = Instant::now();
    while !done()? {
        if begin.elapsed() > limit {
            bail!("{what}: not within {limit:?}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(begin.elapsed())
}

/// How far every sink of an agent is behind, together.
pub fn lag(socket: &Path) -> Result<u64> {
    let status = status(socket)?;
    Ok(status.sinks.iter().map(|sink| sink.lag).sum())
}

/// The agent's own account.
pub fn status(socket: &Path) -> Result<monitor::proto::v1::GetStatusResponse> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let channel = crate::subscriber::connect(socket.to_owned()).await?;
        let mut client = monitor::proto::v1::agent_client::AgentClient::new(channel);
        Ok(client.get_status(monitor::proto::v1::GetStatusRequest {}).await?.into_inner())
    })
}
