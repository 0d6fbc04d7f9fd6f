//! What live commands share: sensor options, stopping, the benchmark's baseline.

use std::{
    future::pending,
    io::Write as _,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};

use super::Exit;
use crate::{
    output::push::Sender,
    rules::Demand,
    sensor::{
        bundle::Places,
        load::{self, SeccompChoice, Settings},
    },
};

/// Options of the sensor.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Sensor")]
pub(super) struct SensorArgs {
    /// Size of the ring between kernel and agent, in MiB; a power of two
    #[arg(long, value_name = "MIB", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    ring_mib: u32,
    /// How system calls that seccomp denied are found
    #[arg(long, value_name = "METHOD", default_value = "auto")]
    seccomp: SeccompChoice,
    /// Name of this node in findings [default: the host name]
    #[arg(long, value_name = "NAME", env = "MONITOR_NODE_NAME")]
    node_name: Option<String>,
    /// Where the node's root directory is seen: containers' bundles are read below its run/ and var/lib/
    #[arg(long, value_name = "DIR", env = "MONITOR_HOST_ROOT", default_value = "/")]
    host_root: PathBuf,
    /// A directory of containerd's tasks besides the usual ones (NAMESPACE/ID/config.json in it); may be given more than once
    #[arg(long = "containerd-tasks", value_name = "DIR")]
    tasks: Vec<PathBuf>,
    /// Print the BPF programs' own debug lines (needs a build with `--bpf-log`)
    #[arg(long)]
    bpf_log: bool,
}

impl SensorArgs {
    /// The node's name, where it is given.
    pub(super) fn node_name(&self) -> Option<&str> {
        self.node_name.as_deref()
    }

    /// As the sensor takes them.
    pub(super) fn settings(&self, wanted: Demand) -> Settings {
        Settings {
            wanted,
            observe: false,
            ring_bytes: self.ring_mib << 20,
            seccomp: self.seccomp,
            node_name: self.node_name.clone(),
            places: Places { host_root: self.host_root.clone(), tasks: self.tasks.clone() },
            bpf_log: self.bpf_log,
        }
    }
}

/// Who sends findings from here.
pub(super) fn sender(node_name: Option<&str>, cluster_name: String) -> Sender {
    Sender { node_name: self::node_name(node_name), cluster_name, boot_id: boot_id() }
}

/// A node without a name has that of its host.
pub(super) fn node_name(given: Option<&str>) -> String {
    let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    given.map_or_else(host, str::to_owned)
}

/// Which boot this is.
pub(super) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Whether it is time to end.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether somebody said so.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Says so.
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Set by the first SIGINT or SIGTERM; a second one ends the process at once.
pub(super) fn stop_on_signal() -> Result<Stop> {
    watch_signals(None)
}

/// The same, and a stream that becomes readable with each SIGHUP, which ends a process that does not ask for it.
pub(super) fn stop_and_hangup_on_signal() -> Result<(Stop, UnixStream)> {
    let (sender, hangups) = UnixStream::pair().context("cannot watch signals")?;
    // A reader that is busy has been told already.
    sender.set_nonblocking(true)?;
    hangups.set_nonblocking(true)?;
    Ok((watch_signals(Some(sender))?, hangups))
}

fn watch_signals(hangups: Option<UnixStream>) -> Result<Stop> {
    let stop = Stop::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().context("cannot watch signals")?;
    let (mut interrupt, mut terminate, mut hangup) = {
        let _guard = runtime.enter();
        let hangup = hangups.map(|stream| signal(SignalKind::hangup()).map(|signal| (signal, stream))).transpose()?;
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, hangup)
    };
    let signalled = stop.clone();
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async move {
            loop {
                let hung_up = async {
                    match &mut hangup {
                        Some((signal, stream)) => signal.recv().await.map(|()| stream.write(&[0])),
                        None => pending().await,
                    }
                };
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hung_up => continue,
                }
                if signalled.is_set() {
                    std::process::exit(130);
                }
                signalled.set();
            }
        });
    })?;
    Ok(stop)
}

/// Attaches the empty program until told to stop.
pub(super) fn baseline() -> Result<Exit> {
    let stop = stop_on_signal()?;
    let _attached = load::baseline()?;
    eprintln!("monitor: ready");
    while !stop.is_set() {
        thread::sleep(Duration::from_millis(20));
    }
    Ok(Exit::Done)
}
