//! Drift in a container that is made by hand: an overlay, a mount namespace and a cgroup, and no runtime. So it can be tried on
//! every kernel, whatever the layout of its overlay file system.
use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tests::{
    agent::Agent,
    cgroup,
    container::BUSYBOX,
    environment::can_run_live,
    finding::{of_container, text},
    process, workload,
};

/// Runs the arguments behind the first two (its directory, its cgroup) in the container. What the overlay needs lies on a tmpfs,
/// because an overlay does not take another one as its upper layer.
const ENTER: &str = r#"
    d=$1; echo $$ > "$2/cgroup.procs"; shift 2
    mount -t tmpfs tmpfs "$d/layers"; mkdir "$d/layers/upper" "$d/layers/work"
    mount -t overlay overlay -o "lowerdir=$d/lower,upperdir=$d/layers/upper,workdir=$d/layers/work" "$d/root"
    mount -t proc proc "$d/root/proc"
    exec chroot "$d/root" "$@"
"#;

/// Applets that the container's image has.
const APPLETS: &[&str] = &["sh", "cp", "chmod", "mv", "rm", "cat", "true", "echo", "sleep"];

struct ByHand {
    directory: TempDir,
    id: String,
    cgroup: PathBuf,
}

impl ByHand {
    fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("monitor-layers-").tempdir()?;
        let lower = directory.path().join("lower");
        for name in ["layers", "root", "lower/bin", "lower/tmp", "lower/opt", "lower/proc"] {
            fs::create_dir_all(directory.path().join(name))?;
        }
        fs::copy(BUSYBOX, lower.join("bin/busybox"))?;
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", lower.join("bin").join(applet))?;
        }
        for name in ["bin/workload", "opt/program"] {
            fs::copy(workload::binary()?, lower.join(name))?;
            fs::set_permissions(lower.join(name), fs::Permissions::from_mode(0o755))?;
        }
        let uuid = || fs::read_to_string("/proc/sys/kernel/random/uuid").map(|uuid| uuid.trim().replace('-', ""));
        let id = format!("{}{}", uuid()?, uuid()?);
        let root = cgroup::hierarchies().into_iter().find(|root| root.join("cgroup.controllers").exists());
        let cgroup = root.context("no cgroup hierarchy of version 2")?.join(format!("docker-{id}.scope"));
        fs::create_dir(&cgroup)?;
        Ok(Self { directory, id, cgroup })
    }

    fn run(&self, args: &[&str]) -> Result<()> {
        let mut command = Command::new(BUSYBOX);
        command
            .args(["unshare", "-m", BUSYBOX, "sh", "-euc", ENTER, "sh"])
            .arg(self.directory.path())
            .arg(&self.cgroup);
        process::run(command.args(args), Duration::from_mins(1))?.successful().context("in the container")?;
        Ok(())
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.cgroup);
    }
}

/// What is done, what it must be found as, and which file.
type Case<'a> = (&'a [&'a str], &'a str, &'a str);

const CASES: &[Case<'_>] = &[
    (&["/bin/workload", "drift", "fd"], "new_executable", "/tmp/dropped"),
    (&["/bin/workload", "drift", "proc-fd"], "new_executable", "/tmp/dropped"),
    (&["/bin/workload", "drift", "io-uring"], "new_executable", "/tmp/dropped"),
    (
        &["/bin/sh", "-euc", "cp /bin/workload /tmp/x; /bin/workload drift mprotect /tmp/x; sleep 1"],
        "new_library",
        "/tmp/x",
    ),
    (&["/bin/workload", "drift", "bind"], "new_executable", "/opt/program"),
    (&["/bin/workload", "drift", "overlay-lower"], "new_executable", "/opt/program"),
    (&["/bin/workload", "memfd"], "fileless", "/memfd:payload"),
    (
        &["/bin/sh", "-euc", "echo more >> /opt/program; /opt/program noop; sleep 1"],
        "modified_executable",
        "/opt/program",
    ),
    (&["/bin/sh", "-euc", "chmod 700 /opt/program; /opt/program noop; sleep 1"], "metadata_only", "/opt/program"),
    (&["/bin/sh", "-euc", "echo true > /tmp/dropped; sh /tmp/dropped; true"], "script", "/tmp/dropped"),
    (&["/bin/sh", "-euc", "printf '#!/bin/sh\\ntrue\\n' > /tmp/x; chmod +x /tmp/x; /tmp/x; true"], "script", "/tmp/x"),
];

/// Why there is no digest where the reader did not come in time.
const LATE: &str = "the file was not read in time";

#[test]
fn what_the_layers_show_is_told() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    let agent = Agent::start(&[])?;
    let image = ByHand::new()?;
    image.run(&["/bin/sh", "-euc", "/opt/program noop; /bin/workload noop; echo true > /tmp/x; cat /tmp/x"])?;
    let mut made = Vec::new();
    for case in CASES {
        let container = ByHand::new()?;
        container.run(case.0).with_context(|| format!("{case:?}"))?;
        agent.wait_for(&format!("{case:?}"), |finding| text(finding, "/container/id") == container.id)?;
        made.push((case, container));
    }
    let stopped = agent.stop()?;
    let of = |container: &ByHand| of_container(&stopped.findings, &container.id);
    assert!(of(&image).is_empty(), "what the image holds: {:#?}", of(&image));
    for ((_, kind, path), container) in &made {
        let found: Vec<&Value> = of(container);
        // An emulated processor may read the file too slowly to compare it, which the finding then says.
        let is_late = |one: &Value| *kind == "metadata_only" && text(one, "/drift/file/sha256_missing") == LATE;
        let kind_of = |one| if is_late(one) { "metadata_only" } else { text(one, "/drift/kind") };
        let told: Vec<_> = found.iter().map(|one| (kind_of(one), text(one, "/drift/file/path"))).collect();
        ensure!(told == [(*kind, *path)], "{kind} of {path} expected: {found:#?}");
    }
    Ok(())
}
