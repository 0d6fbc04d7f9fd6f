//! Which mounts of a pod show it the node's files, and which of those give the node away.

/// What a mount of the node's files is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Some directory.
    Plain,
    /// One that leads to the node's control, to its secrets or to other pods.
    Sensitive,
}

/// Directories that lead there, with everything below and above them.
const SENSITIVE: &[&str] = &[
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/proc",
    "/root",
    "/run/containerd",
    "/run/crio",
    "/run/docker.sock",
    "/run/systemd",
    "/sys",
    "/usr",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/docker",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    "/var/run/containerd",
    "/var/run/crio",
    "/var/run/docker.sock",
];
/// Where runtimes keep what they mount into every container.
const OF_RUNTIMES: &[&str] =
    &["/io.containerd.grpc.v1.cri/", "/io.containerd.grpc.v1.cri.v1/", "/overlay-containers/", "/docker/containers/"];

/// What the source of a mount is; `None` for what the kubelet or the runtime made for the pod.
pub(super) fn classify(source: &str, pod_uid: &str) -> Option<Kind> {
    let of_kubelet = !pod_uid.is_empty() && source.split_once("/pods/").is_some_and(|(_, rest)| is_at(rest, pod_uid));
    if of_kubelet || OF_RUNTIMES.iter().any(|place| source.contains(place)) {
        return None;
    }
    let leads = |place: &&str| is_at(source, place) || is_at(place, source.trim_end_matches('/'));
    Some(if SENSITIVE.iter().any(leads) { Kind::Sensitive } else { Kind::Plain })
}

/// Whether a path is this place or below it.
fn is_at(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_for_the_pod_is_no_host_path() {
        let uid = "6a2f4c5e-0b1d-4f3a-9c7e-8d5b2a1f0e3c";
        for source in [
            "/var/lib/kubelet/pods/6a2f4c5e-0b1d-4f3a-9c7e-8d5b2a1f0e3c/etc-hosts",
            "/data/kubelet/pods/6a2f4c5e-0b1d-4f3a-9c7e-8d5b2a1f0e3c/volumes/kubernetes.io~empty-dir/x",
            "/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/1/hostname",
            "/run/containers/storage/overlay-containers/1/userdata/shm",
        ] {
            assert_eq!(classify(source, uid), None, "{source}");
        }
        for source in ["/", "/etc", "/etc/kubernetes/manifests", "/var", "/run", "/var/run/docker.sock", "/var/lib/"] {
            assert_eq!(classify(source, uid), Some(Kind::Sensitive), "{source}");
        }
        assert_eq!(classify("/var/lib/kubelet/pods/another/volumes", uid), Some(Kind::Sensitive));
        for source in ["/data", "/etcetera", "/var/log/app", "/mnt/etc"] {
            assert_eq!(classify(source, uid), Some(Kind::Plain), "{source}");
        }
    }
}
