//! What this machine must have for a live test, and a loud word where it has not.
//!
//! A skipped test looks like a passed one, so a skip is printed, and where `CI=true` it is a failure.
use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::{container::Runtime, containerd::Containerd};

/// Capabilities that loading and attaching the programs needs.
const NEEDED: [(u32, &str); 3] = [(21, "CAP_SYS_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];

/// Whether a live agent can run here. Says so where not, and panics where `CI=true`.
pub fn can_run_live() -> bool {
    ready("root and BPF", missing_for_bpf())
}

/// Whether containers can be run here with `runtime`. Says so where not, and panics where `CI=true`.
pub fn can_run_containers(runtime: Runtime) -> bool {
    let missing = if rustix::process::geteuid().is_root() { None } else { Some("not root".to_owned()) };
    let missing = missing.or_else(|| (!runtime.is_installed()).then(|| format!("{} is not installed", runtime.name())));
    let missing = missing.or_else(|| {
        (!Path::new(crate::container::BUSYBOX).exists()).then(|| "busybox-static is not installed".to_owned())
    });
    ready("root and an OCI runtime", missing)
}

/// The BPF object, which `MONITOR_BPF_OBJECT` names. Says so where it is not named, and panics where `CI=true`.
pub fn bpf_object() -> Option<PathBuf> {
    let object = env::var_os("MONITOR_BPF_OBJECT").map(PathBuf::from);
    ready("the BPF object", object.is_none().then(|| "MONITOR_BPF_OBJECT is not set".to_owned()));
    object
}

/// A program of the Python environment that `cargo xtask setup` makes, which `MONITOR_TEST_PYTHON` names or `target/python` is. Says
/// so where it is not there, and panics where `CI=true`.
pub fn python_tool(name: &str) -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python");
    let tool = env::var_os("MONITOR_TEST_PYTHON").map_or(default, PathBuf::from).join("bin").join(name);
    let missing = (!tool.exists()).then(|| format!("{} does not exist", tool.display()));
    ready("the Python environment of the tests", missing).then_some(tool)
}

/// The image's content, which `cargo xtask test` makes and `MONITOR_TEST_IMAGE` names. Says so where it is not named, and panics
/// where `CI=true`.
pub fn image() -> Option<PathBuf> {
    let image = env::var_os("MONITOR_TEST_IMAGE").map(PathBuf::from);
    ready("the image's content", image.is_none().then(|| "MONITOR_TEST_IMAGE is not set".to_owned()));
    image
}

/// The root file system with Debian's programs that `cargo xtask setup` makes, which `MONITOR_TEST_PROGRAMS` names or
/// `target/programs/root` is. Says so where it is not there, and panics where `CI=true`.
pub fn debian_root() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/programs/root");
    let root = env::var_os("MONITOR_TEST_PROGRAMS").map_or(default, PathBuf::from);
    let missing = (!root.join("usr/sbin/nginx").exists()).then(|| format!("{} has no programs", root.display()));
    let root = root.canonicalize().unwrap_or(root);
    ready("programs of Debian's", missing).then_some(root)
}

/// Whether libseccomp can be compiled against. Says so where not, and panics where `CI=true`.
pub fn has_libseccomp() -> bool {
    let missing = (!Path::new("/usr/include/seccomp.h").exists()).then(|| "no /usr/include/seccomp.h".to_owned());
    ready("libseccomp-dev", missing)
}

/// Whether a containerd can be started here. Says so where not, and panics where `CI=true`.
pub fn can_run_containerd() -> bool {
    let missing = if rustix::process::geteuid().is_root() { None } else { Some("not root".to_owned()) };
    let missing = missing.or_else(|| Containerd::version().is_none().then(|| "containerd is not installed".to_owned()));
    ready("root and containerd", missing)
}

/// Whether a live agent can watch pods of a containerd here. Says so where not, and panics where `CI=true`.
pub fn can_run_pods() -> bool {
    let missing = ["containerd", "ctr"].iter().find(|name| !Path::new("/usr/bin").join(name).exists());
    ready("containerd", missing.map(|name| format!("{name} is not installed"))) && can_run_live_with(Runtime::Runc)
}

/// A live agent and containers.
pub fn can_run_live_with(runtime: Runtime) -> bool {
    can_run_live() && can_run_containers(runtime)
}

fn ready(needs: &str, missing: Option<String>) -> bool {
    let Some(missing) = missing else { return true };
    let test = std::thread::current().name().unwrap_or("test").to_owned();
    eprintln!("SKIPPED (needs {needs}): {test}: {missing}");
    assert!(env::var("CI").as_deref() != Ok("true"), "{test}: cannot be skipped where CI=true: {missing}");
    false
}

fn missing_for_bpf() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let missing = NEEDED.iter().find(|(bit, _)| effective >> bit & 1 == 0).map(|(_, name)| format!("no {name}"));
    missing
        .or_else(|| (!Path::new("/sys/kernel/btf/vmlinux").exists()).then(|| "no /sys/kernel/btf/vmlinux".to_owned()))
}
