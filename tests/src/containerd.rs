//! A containerd of the test's own: its state in a directory that goes with it, no network, no container ever started.
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{self, Group};

/// How long it may take to start, and a client to be answered.
const PATIENCE: Duration = Duration::from_secs(20);
/// What tests of specs need nothing of, and what looks for devices and file systems.
const DISABLED: &str = r#"["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt"]"#;

/// A running containerd. Dropping it kills it.
#[derive(Debug)]
pub struct Containerd {
    _process: Group,
    directory: TempDir,
}

impl Containerd {
    /// Its version, where one is installed.
    pub fn version() -> Option<String> {
        let shown = process::run(Command::new("containerd").arg("--version"), PATIENCE).ok()?.successful().ok()?;
        shown.stdout_text().split_whitespace().nth(2).map(str::to_owned)
    }

    /// Starts one.
    pub fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("monitor-containerd-").tempdir()?;
        let path = |name: &str| directory.path().join(name);
        fs::create_dir(path("rootfs"))?;
        let (root, state, socket) = (path("root"), path("state"), path("c.sock"));
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = {DISABLED}\n[grpc]\naddress = \"{}\"\n",
            root.display(),
            state.display(),
            socket.display()
        );
        fs::write(path("config.toml"), config)?;
        let log = fs::File::create(path("log"))?;
        let mut command = Command::new("containerd");
        command.arg("--config").arg(path("config.toml")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = Group::spawn(&mut command)?;
        let deadline = Instant::now() + PATIENCE;
        while !socket.exists() {
            ensure!(Instant::now() < deadline, "no socket: {}", fs::read_to_string(path("log"))?);
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { _process: process, directory })
    }

    /// The OCI spec of a container with containerd's own seccomp profile and these options of `ctr`.
    pub fn spec(&self, id: &str, options: &[&str]) -> Result<Value> {
        let rootfs = self.directory.path().join("rootfs");
        self.ctr(
            &[&["create", "--rootfs", "--seccomp"], options].concat(),
            &[&rootfs, Path::new(id), Path::new("/bin/true")],
        )?;
        let shown = self.ctr(&["info"], &[Path::new(id)])?;
        let info: Value = serde_json::from_str(&shown)?;
        info.get("Spec").cloned().context("no spec")
    }

    /// Imports an image and unpacks it, which holds every blob against its digest; what `ctr` says of all images.
    pub fn import(&self, image: &Path) -> Result<String> {
        self.client(&["images", "import", "--snapshotter", "native"], &[image])?;
        self.client(&["images", "list"], &[])
    }

    fn ctr(&self, options: &[&str], args: &[&Path]) -> Result<String> {
        self.client(&[&["containers"], options].concat(), args)
    }

    fn client(&self, options: &[&str], args: &[&Path]) -> Result<String> {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.directory.path().join("c.sock")).args(options).args(args);
        Ok(process::run(&mut command, PATIENCE)?.successful()?.stdout_text())
    }
}
