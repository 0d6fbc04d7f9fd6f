//! Real containers: an OCI bundle on an overlay root, run by runc or crun in the cgroup path that containerd uses for a pod.
//!
//! The image (lower layer) is busybox and the [workload](crate::workload), both in `/bin`, and a second copy of the workload in
//! `/opt/program`. The overlay is mounted in a mount namespace of the launcher, so that it goes with its last process.
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    cgroup,
    process::{self, Finished},
    seccomp::Profile,
    workload,
};

/// The statically linked busybox of the images.
pub const BUSYBOX: &str = "/bin/busybox";

/// Time limit of a whole container run; a usual one takes 0.4 s.
pub const LIMIT: Duration = Duration::from_secs(30);

const SLICE: &str = "/kubepods.slice";
const BURSTABLE: &str = "/kubepods.slice/kubepods-burstable.slice";

/// Runs the rest of its arguments in a mount namespace with the overlay of the directory in `$1`, on top of the layers in `$2`.
const WITH_OVERLAY: &str =
    r#"mount -t overlay overlay -o "lowerdir=$1/lower$2,upperdir=$1/upper,workdir=$1/work" "$1/root"; "#;

/// An OCI runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// `runc`
    Runc,
    /// `crun`
    Crun,
}

impl Runtime {
    /// Name of its binary.
    pub fn name(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }

    /// Whether its binary is on the machine.
    pub fn is_installed(self) -> bool {
        ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"]
            .iter()
            .any(|directory| Path::new(directory).join(self.name()).exists())
    }

    /// The first one that the machine has; runc where it has none.
    pub fn any() -> Self {
        if !Self::Runc.is_installed() && Self::Crun.is_installed() { Self::Crun } else { Self::Runc }
    }

    /// crun refuses a mix of cgroup versions; it gets a view of version 2 alone, where runc puts its containers too.
    fn view(self) -> &'static str {
        if self == Self::Crun && !cgroup::is_unified() {
            "umount -R -l /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; "
        } else {
            ""
        }
    }
}

/// A container that can be run once. Dropping it deletes the container, its cgroups and its files, whatever state it is in.
#[derive(Debug)]
pub struct Container {
    runtime: Runtime,
    id: String,
    pod_uid: String,
    directory: TempDir,
    /// A layer under the image: nothing, or a colon and a directory.
    base: String,
    presence: cgroup::Presence,
}

impl Container {
    /// A container that will run `args` (the first an absolute path).
    pub fn new(runtime: Runtime, args: &[&str], profile: Option<&Profile>) -> Result<Self> {
        let container = Self::empty(runtime)?;
        fs::create_dir(container.lower())?;
        image(&container.lower()).context("cannot make the image")?;
        container.configure(&container.config(args, profile))?;
        Ok(container)
    }

    /// One of another image, whose content lies in a directory; `edit` changes what its runtime is told.
    pub fn of_image(runtime: Runtime, content: &Path, edit: impl FnOnce(&mut Value) -> Result<()>) -> Result<Self> {
        let container = Self::empty(runtime)?;
        symlink(content, container.lower())?;
        let mut config = container.config(&[], None);
        edit(&mut config)?;
        container.configure(&config)?;
        Ok(container)
    }

    /// One without image and configuration.
    fn empty(runtime: Runtime) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("monitor-container-").tempdir()?;
        let pod_uid = random_uuid()?;
        let id = format!("{}{}", random_uuid()?, random_uuid()?).replace('-', "");
        let container =
            Self { runtime, id, pod_uid, directory, base: String::new(), presence: cgroup::Presence::new()? };
        for name in ["upper", "work", "root", "state"] {
            fs::create_dir(container.directory.path().join(name))?;
        }
        Ok(container)
    }

    fn configure(&self, config: &Value) -> Result<()> {
        Ok(fs::write(self.directory.path().join("config.json"), serde_json::to_vec_pretty(config)?)?)
    }

    /// A container that runs a shell script.
    pub fn script(runtime: Runtime, script: &str, profile: Option<&Profile>) -> Result<Self> {
        Self::new(runtime, &["/bin/sh", "-euc", script], profile)
    }

    /// The same in a pod that somebody else has named.
    pub fn script_in(pod_uid: &str, script: &str) -> Result<Self> {
        let runtime = Runtime::any();
        let mut container = Self::empty(runtime)?;
        pod_uid.clone_into(&mut container.pod_uid);
        fs::create_dir(container.lower())?;
        image(&container.lower()).context("cannot make the image")?;
        container.configure(&container.config(&["/bin/sh", "-euc", script], None))?;
        Ok(container)
    }

    /// The same on top of a root file system, which it sees and cannot change.
    #[must_use]
    pub fn over(mut self, base: &Path) -> Self {
        self.base = format!(":{}", base.display());
        self
    }

    /// Its id, 64 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Uid of the pod that its cgroup path names.
    pub fn pod_uid(&self) -> &str {
        &self.pod_uid
    }

    /// Path of its cgroup below the mount point of a hierarchy.
    pub fn cgroup_path(&self) -> String {
        format!("{}/cri-containerd-{}.scope", self.pod_cgroup(), self.id)
    }

    fn pod_cgroup(&self) -> String {
        format!("{BURSTABLE}/kubepods-burstable-pod{}.slice", self.pod_uid.replace('-', "_"))
    }

    /// The image: what may be changed here before the container runs.
    pub fn lower(&self) -> PathBuf {
        self.directory.path().join("lower")
    }

    /// The writable layer.
    pub fn upper(&self) -> PathBuf {
        self.directory.path().join("upper")
    }

    /// Runs it to its end. The exit code is that of its first process, 128 + signal where it was killed.
    pub fn run(&self) -> Result<Finished> {
        self.run_within(LIMIT)
    }

    /// As [`run`](Self::run), with a time limit. A container that exceeds it runs on until this value is dropped.
    pub fn run_within(&self, limit: Duration) -> Result<Finished> {
        process::run(&mut self.running(), limit)
            .with_context(|| format!("{} container {}", self.runtime.name(), self.id))
    }

    /// The command that runs it in the foreground.
    pub(crate) fn running(&self) -> Command {
        self.command(WITH_OVERLAY, &["run", "--bundle", &self.bundle(), &self.id])
    }

    /// Starts it and returns while it runs.
    pub fn start(&self) -> Result<()> {
        process::run(
            &mut self.command(WITH_OVERLAY, &["run", "--detach", "--bundle", &self.bundle(), &self.id]),
            LIMIT,
        )?
        .successful()
        .context("cannot start the container")?;
        Ok(())
    }

    /// Runs one more process in a started container, to its end.
    pub fn exec(&self, args: &[&str]) -> Result<Finished> {
        process::run(&mut self.command("", &[&["exec", &self.id], args].concat()), LIMIT)
    }

    /// What must be gone when this container is dropped.
    pub fn traces(&self) -> Traces {
        Traces { directory: self.directory.path().to_owned(), id: self.id.clone(), pod_cgroup: self.pod_cgroup() }
    }

    fn bundle(&self) -> String {
        self.directory.path().display().to_string()
    }

    /// The runtime with its own state directory, in the mount namespace that it needs.
    fn command(&self, mounts: &str, args: &[&str]) -> Command {
        let script = format!(r#"{}{mounts}shift 2; exec "$@""#, self.runtime.view());
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-euc", &script, "sh"]).arg(self.directory.path());
        command.arg(&self.base);
        command.args([self.runtime.name(), "--root"]).arg(self.directory.path().join("state")).args(args);
        command
    }

    fn config(&self, args: &[&str], profile: Option<&Profile>) -> Value {
        let namespaces: Vec<Value> =
            ["pid", "mount", "ipc", "uts", "network", "cgroup"].iter().map(|kind| json!({"type": kind})).collect();
        let capabilities = [
            "CHOWN",
            "DAC_OVERRIDE",
            "FSETID",
            "FOWNER",
            "MKNOD",
            "NET_RAW",
            "SETGID",
            "SETUID",
            "SETFCAP",
            "SETPCAP",
            "NET_BIND_SERVICE",
            "SYS_CHROOT",
            "KILL",
            "AUDIT_WRITE",
        ]
        .map(|name| format!("CAP_{name}"));
        let mut config = json!({
            "ociVersion": "1.0.2",
            "hostname": "pod",
            "root": {"path": self.directory.path().join("root"), "readonly": false},
            "process": {
                "args": args,
                "cwd": "/",
                "env": ["PATH=/bin"],
                "user": {"uid": 0, "gid": 0},
                "noNewPrivileges": false,
                "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
                // A process that seccomp kills would leave a core file.
                "rlimits": [{"type": "RLIMIT_CORE", "hard": 0, "soft": 0}],
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            ],
            "linux": {"cgroupsPath": self.cgroup_path(), "namespaces": namespaces},
        });
        if let (Some(profile), Some(linux)) = (profile, config.pointer_mut("/linux").and_then(Value::as_object_mut)) {
            linux.insert("seccomp".to_owned(), profile.to_json());
        }
        config
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let started =
            fs::read_dir(self.directory.path().join("state")).is_ok_and(|mut entries| entries.next().is_some());
        if started {
            let _ = process::run(&mut self.command("", &["delete", "--force", &self.id]), LIMIT);
        }
        cgroup::remove(&self.pod_cgroup());
        self.presence.end(|| cgroup::remove_empty(&[BURSTABLE.to_owned(), SLICE.to_owned()]));
    }
}

/// The places where a container shows on the host.
#[derive(Debug)]
pub struct Traces {
    directory: PathBuf,
    id: String,
    pod_cgroup: String,
}

impl Traces {
    /// What of the container is still there: its files, mounts, cgroups and processes.
    pub fn remaining(&self) -> Vec<String> {
        let mut remaining = Vec::new();
        if self.directory.exists() {
            remaining.push(self.directory.display().to_string());
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let directory = self.directory.display().to_string();
        remaining.extend(mounts.lines().filter(|line| line.contains(&directory)).map(str::to_owned));
        let cgroups = cgroup::hierarchies().into_iter().map(|root| root.join(self.pod_cgroup.trim_start_matches('/')));
        remaining.extend(cgroups.filter(|path| path.exists()).map(|path| path.display().to_string()));
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let read = |name: &str| fs::read_to_string(process.path().join(name)).unwrap_or_default();
            // Dead ones wait for the machine's first process, which is nobody's business here.
            let dead =
                read("stat").rsplit(") ").next().is_none_or(|rest| rest.starts_with(['Z', 'X']) || rest.is_empty());
            if !dead && (read("cgroup").contains(&self.id) || read("cmdline").contains(&self.id)) {
                remaining.push(format!("process {}", process.path().display()));
            }
        }
        remaining
    }
}

/// Busybox and its applets, and the workload.
pub(crate) fn image(root: &Path) -> Result<()> {
    for name in ["bin", "proc", "sys", "dev", "tmp", "opt", "root", "etc"] {
        fs::create_dir(root.join(name))?;
    }
    fs::copy(BUSYBOX, root.join("bin/busybox"))?;
    let applets =
        process::run(Command::new(BUSYBOX).arg("--list"), Duration::from_secs(10))?.successful()?.stdout_text();
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    let workload = workload::binary()?;
    fs::copy(&workload, root.join("bin/workload"))?;
    fs::copy(&workload, root.join("opt/program"))?;
    Ok(())
}

pub(crate) fn random_uuid() -> Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned())
}
