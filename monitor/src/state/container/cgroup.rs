//! Containers of the sensor's records, as the path of a cgroup tells them.
//!
//! Runtimes name the cgroup of a container after its id, and Kubernetes the cgroup above it after the pod's uid. That is known
//! with the first event of a container and needs no question to anybody.

use std::collections::BTreeMap;

/// Cgroups that may be known at once. A node has at most some thousands; the bound is against a loop of mkdir.
const MAX_CGROUPS: usize = 65_536;
/// Hexadecimal digits of a container id.
const ID_DIGITS: usize = 64;
/// Digits that Falco and the runtimes' tools show.
const SHORT_DIGITS: usize = 12;

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// What the runtime puts before the id; empty where the id stands alone.
    pub runtime: String,
    /// Uid of the pod; empty outside Kubernetes.
    pub pod_uid: String,
    /// Path of its cgroup.
    pub cgroup_path: String,
}

impl Container {
    /// The id as people write it.
    pub fn short_id(&self) -> &str {
        self.id.get(..SHORT_DIGITS).unwrap_or(&self.id)
    }

    /// The container whose cgroup this is, or lies below; `None` for a cgroup of the host.
    pub fn from_cgroup(path: &[u8]) -> Option<Self> {
        let path = str::from_utf8(path).ok()?;
        // The innermost: a container inside a container has an id of its own.
        let (runtime, id) = path.split('/').rev().find_map(id)?;
        let pod_uid = path.split('/').find_map(pod_uid).unwrap_or_default();
        Some(Self { id: id.to_owned(), runtime: runtime.to_owned(), pod_uid, cgroup_path: path.to_owned() })
    }
}

/// Prefixes of the runtimes. Others with a 64-digit id are not containers: `crio-conmon-…`, `libpod-conmon-…` are monitors.
const RUNTIMES: &[&str] = &["cri-containerd", "crio", "docker", "libpod", "libpod-payload", "nerdctl"];

/// Runtime and id of one path component: `cri-containerd-<id>.scope`, `crio-<id>`, `<id>`.
fn id(component: &str) -> Option<(&str, &str)> {
    let name = component.strip_suffix(".scope").unwrap_or(component);
    // With the cgroupfs driver and the CRI's systemd notation unexpanded: `slice:cri-containerd:<id>`.
    let (prefix, id) = match name.rsplit_once(['-', ':']) {
        Some((prefix, id)) => (prefix.rsplit_once(':').map_or(prefix, |(_, p)| p), id),
        None => ("", name),
    };
    let known = prefix.is_empty() || RUNTIMES.contains(&prefix);
    (known && id.len() == ID_DIGITS && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some((prefix, id))
}

/// Pod uid of one path component: `kubepods-burstable-pod<uid with _>.slice` (systemd driver), `pod<uid>` (cgroupfs).
fn pod_uid(component: &str) -> Option<String> {
    let name = component.strip_suffix(".slice").unwrap_or(component);
    let uid = match name.strip_prefix("kubepods") {
        Some(rest) => rest.rsplit_once("-pod").map(|(_, uid)| uid)?,
        None => name.strip_prefix("pod")?,
    };
    // Static pods have a 32-digit hash, the others a UUID; both have at least 32 digits.
    let plausible = uid.len() >= 32 && uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'_' || b == b'-');
    plausible.then(|| uid.replace('_', "-"))
}

/// Containers by cgroup id.
#[derive(Debug, Default)]
pub(super) struct Cgroups {
    /// Ordered, because ids grow: the smallest is the oldest and goes first.
    by_cgroup: BTreeMap<u64, Option<Container>>,
}

impl Cgroups {
    /// The container of a cgroup; `None` on the host and where the cgroup is not known.
    pub(super) fn get(&self, cgroup_id: u64) -> Option<&Container> {
        self.by_cgroup.get(&cgroup_id)?.as_ref()
    }

    pub(super) fn insert(&mut self, cgroup_id: u64, path: &[u8]) {
        self.by_cgroup.insert(cgroup_id, Container::from_cgroup(path));
        if self.by_cgroup.len() > MAX_CGROUPS {
            self.by_cgroup.pop_first();
        }
    }

    /// Forgets of the older half what is not to be kept.
    pub(super) fn forget(&mut self, is_kept: impl Fn(u64) -> bool) {
        let Some(middle) = self.by_cgroup.keys().nth(self.by_cgroup.len() / 2).copied() else { return };
        self.by_cgroup.retain(|id, _| *id >= middle || is_kept(*id));
    }

    pub(super) fn is_full(&self) -> bool {
        self.by_cgroup.len() >= MAX_CGROUPS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3ad7b26ded6d8e7b23da7d48fe889434573036c27ae5a74837233de441c3601e";

    #[test]
    fn cgroup_paths_of_the_runtimes_give_id_and_pod() {
        let uid = "6a2f4c5e-0b1d-4f3a-9c7e-8d5b2a1f0e3c";
        let slice =
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod6a2f4c5e_0b1d_4f3a_9c7e_8d5b2a1f0e3c.slice";
        for (path, runtime, pod) in [
            (format!("{slice}/cri-containerd-{ID}.scope"), "cri-containerd", uid),
            (format!("{slice}/crio-{ID}.scope/init.scope"), "crio", uid),
            (format!("/kubepods/besteffort/pod{uid}/{ID}"), "", uid),
            (format!("/system.slice/docker-{ID}.scope"), "docker", ""),
            (format!("/docker/{ID}"), "", ""),
            (format!("/machine.slice/libpod-{ID}.scope/container"), "libpod", ""),
            (format!("/x.slice:cri-containerd:{ID}"), "cri-containerd", ""),
        ] {
            let container = Container::from_cgroup(path.as_bytes()).unwrap_or_else(|| panic!("{path}"));
            assert_eq!((&*container.id, &*container.runtime, &*container.pod_uid), (ID, runtime, pod), "{path}");
        }
    }

    #[test]
    fn cgroups_of_the_host_are_not_containers() {
        for path in ["/", "/system.slice/ssh.service", "/kubepods.slice", "/init.scope"] {
            assert_eq!(Container::from_cgroup(path.as_bytes()), None, "{path}");
        }
        assert_eq!(Container::from_cgroup(format!("/machine.slice/libpod-conmon-{ID}.scope").as_bytes()), None);
        assert_eq!(Container::from_cgroup(format!("/x/crio-conmon-{ID}.scope").as_bytes()), None);
        assert_eq!(Container::from_cgroup(&[0xff; 80]), None);
    }

    #[test]
    fn a_loop_of_mkdir_is_bounded() {
        let mut containers = Cgroups::default();
        for id in 0..MAX_CGROUPS as u64 + 10 {
            containers.insert(id, b"/x");
        }
        assert_eq!(containers.by_cgroup.len(), MAX_CGROUPS);
    }
}
