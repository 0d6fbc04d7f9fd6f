//! Where runtimes keep bundles, and reading them: bounded, regular files only.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::Places;
use crate::state::container::metadata::Engine;

/// Longest file that is read. A bundle with a long seccomp profile has some 50 KiB.
const MAX_BYTES: u64 = 1 << 20;
/// Namespaces of a containerd that are looked into.
const MAX_NAMESPACES: usize = 32;

/// Tasks of containerd, by who brings it: `NAMESPACE/ID/config.json` below.
const TASKS: &[&str] = &[
    "run/containerd/io.containerd.runtime.v2.task",
    "run/k3s/containerd/io.containerd.runtime.v2.task",
    "var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task",
];
/// Containers of CRI-O and Podman: `ID/userdata/config.json` below.
const STORES: &[&str] = &["run/containers/storage/overlay-containers", "var/lib/containers/storage/overlay-containers"];
/// Docker's own word on a container: `ID/config.v2.json` below.
const DOCKER: &str = "var/lib/docker/containers";
/// The namespace in which Docker keeps its tasks.
const DOCKER_NAMESPACE: &str = "moby";
/// What runtimes that were called by hand keep, and where that names the bundle.
const STATES: &[(&str, &str)] = &[("run/runc", "state.json"), ("run/crun", "status")];

/// A bundle's files.
pub(super) struct Bundle {
    /// What runs the container, as far as the place tells.
    pub(super) engine: Engine,
    /// `config.json`
    pub(super) config: Vec<u8>,
    /// Docker's `config.v2.json`.
    pub(super) docker: Option<Value>,
}

impl Bundle {
    /// The bundle of a container, if it is anywhere and complete.
    pub(super) fn find(places: &Places, id: &str) -> Option<Self> {
        let root = &places.host_root;
        let mut tasks = places.tasks.iter().cloned().chain(TASKS.iter().map(|tasks| root.join(tasks)));
        let mut stores = STORES.iter().map(|store| root.join(store).join(id).join("userdata/config.json"));
        let mut states = STATES.iter().map(|(directory, name)| root.join(directory).join(id).join(name));
        tasks
            .find_map(|tasks| Self::of_containerd(root, &tasks, id))
            .or_else(|| stores.find_map(|path| Self::of_config(Engine::PODMAN, &path)))
            .or_else(|| states.find_map(|path| Self::of_state(root, &path)))
    }

    fn of_config(engine: Engine, path: &Path) -> Option<Self> {
        read(path).map(|config| Self { engine, config, docker: None })
    }

    fn of_containerd(root: &Path, tasks: &Path, id: &str) -> Option<Self> {
        let namespaces = fs::read_dir(tasks).ok()?.flatten().take(MAX_NAMESPACES);
        namespaces.into_iter().find_map(|namespace| {
            let found = Self::of_config(Engine::CONTAINERD, &namespace.path().join(id).join("config.json"))?;
            if namespace.file_name() != DOCKER_NAMESPACE {
                return Some(found);
            }
            let docker = read(&root.join(DOCKER).join(id).join("config.v2.json"));
            Some(Self { engine: Engine::DOCKER, docker: docker.and_then(|json| parse(&json)), ..found })
        })
    }

    fn of_state(root: &Path, path: &Path) -> Option<Self> {
        let state: Value = parse(&read(path)?)?;
        // crun has a key for it, runc a label.
        let labels = state.pointer("/config/labels").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let of_label = || labels.iter().find_map(|label| label.as_str()?.strip_prefix("bundle="));
        let bundle = state.get("bundle").and_then(Value::as_str).or_else(of_label)?;
        Self::of_config(Engine::UNKNOWN, &below(root, bundle).join("config.json"))
    }
}

fn parse(json: &[u8]) -> Option<Value> {
    serde_json::from_slice(json).ok()
}

/// A path of the node's, as it is seen here.
fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Reads a file; `None` for what is no regular file, is too long, or is not there.
pub(super) fn read(path: &Path) -> Option<Vec<u8>> {
    // Neither a link nor a pipe can make this read something else, or wait.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = fs::File::options().read(true).custom_flags(flags).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// What a bundle's words mean on this node.
pub(super) struct Node<'p> {
    root: &'p Path,
}

impl<'p> Node<'p> {
    pub(super) fn new(places: &'p Places) -> Self {
        Self { root: &places.host_root }
    }

    /// A path of the node's, as it is seen here.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        below(self.root, path)
    }

    /// Whether a namespace of this kind, named by a path, is the host's.
    pub(super) fn is_host_namespace(&self, kind: &str, path: &str) -> bool {
        let kind = if kind == "network" { "net" } else { kind };
        let path = if path.starts_with("/proc/") { PathBuf::from(path) } else { below(self.root, path) };
        let identity = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
        // Where even root may not look at the first process, it has the agent's own namespaces.
        let of_host =
            identity(&Path::new("/proc/1/ns").join(kind)).or_else(|| identity(&Path::new("/proc/self/ns").join(kind)));
        of_host.is_some() && identity(&path) == of_host
    }

    /// Whether `AppArmor` is on.
    pub(super) fn has_apparmor(&self) -> bool {
        let enabled = read(&below(self.root, "sys/module/apparmor/parameters/enabled"))
            .or_else(|| read(Path::new("/sys/module/apparmor/parameters/enabled")));
        enabled.is_some_and(|text| text.starts_with(b"Y"))
    }
}
