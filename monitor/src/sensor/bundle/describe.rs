//! From a bundle to the document of a container record: total and bounded, whatever stands in the bundle.

use std::fmt::Write as _;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    place::{Bundle, Node},
    spec::{Mount, Spec},
};
use crate::{
    event::capability,
    record::DOCUMENT_BYTES,
    state::container::{
        PROMISES,
        metadata::{Engine, Labels},
        promises::Promises,
    },
};

/// Longest text that is kept.
const MAX_TEXT: usize = 512;
/// Most arguments, mounts and labels that are kept.
const MAX_ARGUMENTS: usize = 24;
const MAX_MOUNTS: usize = 64;
const MAX_LABELS: usize = 64;
/// Bytes of all arguments together.
const ARGUMENTS_BYTES: usize = 2048;
/// Digits of an id that Falco shows.
const SHORT_DIGITS: usize = 12;
/// What annotations of containerd's Kubernetes interface begin with.
const CRI: &str = "io.kubernetes.cri.";
/// Those of CRI-O's.
const CRIO: &str = "io.kubernetes.cri-o.";

/// A label of ours, and the annotations of containerd and CRI-O that it comes from.
const LABELS: [(&str, [&str; 2]); 4] = [
    ("io.kubernetes.pod.name", ["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]),
    ("io.kubernetes.pod.namespace", ["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"]),
    ("io.kubernetes.pod.uid", ["io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"]),
    ("io.kubernetes.container.name", ["io.kubernetes.cri.container-name", "io.kubernetes.container.name"]),
];

/// What the bundle says; `None` for one that is no bundle, or not written to its end.
pub(super) fn spec(bundle: &Bundle) -> Option<Spec> {
    // An array would be taken for a structure without keys.
    bundle.config.trim_ascii_start().starts_with(b"{").then_some(())?;
    serde_json::from_slice(&bundle.config).ok()
}

/// The document of a container.
pub(super) fn document(id: &str, bundle: &Bundle, spec: &Spec, node: &Node<'_>) -> Option<Vec<u8>> {
    let (mut mounts, mut labels) = (mounts(spec), labels(spec, bundle.docker.as_ref()));
    let mut promises = promises(spec, node);
    // A halving for each doubling of what fits, and a few for what escapes make longer.
    for _ in 0..12 {
        let document = json!({
            "container": container(id, bundle, spec, node, &mounts, &labels),
            PROMISES: serde_json::to_value(&promises).ok()?,
        });
        let bytes = serde_json::to_vec(&document).ok()?;
        if bytes.len() <= DOCUMENT_BYTES {
            return Some(bytes);
        }
        mounts.truncate(mounts.len() / 2);
        promises.has_more_arguments |= !promises.arguments.is_empty();
        promises.arguments.truncate(promises.arguments.len() / 2);
        let most = labels.len() / 2 + LABELS.len();
        // The pod's identity sorts behind the annotations.
        while labels.len() > most {
            labels.pop_first();
        }
    }
    None
}

/// What Falco's container plugin would say.
fn container(id: &str, bundle: &Bundle, spec: &Spec, node: &Node<'_>, mounts: &[Value], labels: &Labels) -> Value {
    let annotation = |names: [&str; 2]| names.iter().find_map(|name| spec.annotations.get(*name)).map_or("", |t| t);
    let docker = |pointer: &str| bundle.docker.as_ref().and_then(|docker| docker.pointer(pointer)?.as_str());
    let label = |key: &str| labels.get(key).map_or("", String::as_str);
    let is_sandbox = annotation(["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"]) == "sandbox";
    let own_name = label(if is_sandbox { "io.kubernetes.pod.name" } else { "io.kubernetes.container.name" });
    let name = docker("/Name").map_or(own_name, |name| name.trim_start_matches('/'));
    let image = docker("/Config/Image")
        .unwrap_or_else(|| annotation(["io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName"]));
    let (repository, tag, digest) = reference(image);
    let is_crio = spec.annotations.keys().any(|key| key.starts_with(CRIO));
    let engine = if is_crio { Engine::CRIO } else { bundle.engine };
    let sandbox = annotation(["io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID"]);
    json!({
        "id": id.get(..SHORT_DIGITS).unwrap_or(id),
        "full_id": id,
        "type": engine.0,
        "name": short(name),
        "image": short(image),
        "imageid": short(docker("/Image").unwrap_or_default()),
        "imagerepo": short(repository),
        "imagetag": short(tag),
        "imagedigest": short(digest),
        "User": spec.process.user.uid.to_string(),
        "host_pid": is_host(spec, node, "pid"),
        "host_network": is_host(spec, node, "network"),
        "host_ipc": is_host(spec, node, "ipc"),
        "privileged": is_privileged(spec),
        "is_pod_sandbox": is_sandbox,
        "pod_sandbox_id": short(sandbox),
        "labels": labels,
        "Mounts": mounts,
    })
}

fn promises(spec: &Spec, node: &Node<'_>) -> Promises {
    let process = &spec.process;
    let mut bytes = 0;
    let fits = |argument: &&String| {
        bytes += argument.len();
        bytes <= ARGUMENTS_BYTES
    };
    let arguments: Vec<_> = process.args.iter().take(MAX_ARGUMENTS).take_while(fits).cloned().collect();
    Promises {
        has_more_arguments: arguments.len() < process.args.len(),
        arguments,
        uid: process.user.uid,
        no_new_privileges: process.no_new_privileges,
        has_read_only_root: spec.root.readonly,
        capabilities: bounding(spec),
        seccomp: spec.linux.seccomp.as_ref().map(digest).unwrap_or_default(),
        apparmor: short(&process.apparmor_profile).to_owned(),
        node_has_apparmor: node.has_apparmor(),
        has_user_namespace: !is_host(spec, node, "user"),
        has_unmasked_proc: spec.linux.masked_paths.is_empty(),
        has_memory_limit: spec.linux.resources.memory.limit > 0,
        has_cpu_limit: spec.linux.resources.cpu.quota > 0,
    }
}

fn bounding(spec: &Spec) -> u64 {
    capability::set(spec.process.capabilities.bounding.iter().map(String::as_str))
}

/// Whether a container has the host's namespace of a kind.
fn is_host(spec: &Spec, node: &Node<'_>, kind: &str) -> bool {
    match spec.linux.namespaces.iter().find(|namespace| namespace.r#type == kind) {
        None => true,
        Some(namespace) => !namespace.path.is_empty() && node.is_host_namespace(kind, &namespace.path),
    }
}

/// Bundles have no word for it: it is all of what it takes away, together.
fn is_privileged(spec: &Spec) -> bool {
    bounding(spec) & capability::set(["SYS_ADMIN"]) != 0
        && spec.linux.masked_paths.is_empty()
        && spec.linux.seccomp.is_none()
        && spec.linux.resources.devices.iter().any(super::spec::Device::is_all)
}

fn mounts(spec: &Spec) -> Vec<Value> {
    let shown = |mount: &Mount| {
        json!({
            "Source": short(&mount.source), "Destination": short(&mount.destination), "Mode": "",
            "RW": mount.is_writable(), "Propagation": mount.propagation(),
        })
    };
    spec.mounts.iter().filter(|mount| mount.is_bind()).take(MAX_MOUNTS).map(shown).collect()
}

/// Labels as Falco has them: the pod's identity under the kubelet's names, other annotations behind `annotation.`.
fn labels(spec: &Spec, docker: Option<&Value>) -> Labels {
    let of_docker = docker.and_then(|docker| docker.pointer("/Config/Labels")?.as_object());
    let of_docker = of_docker.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?)));
    let of_cri = spec.annotations.iter().filter(|(key, _)| key.starts_with(CRI));
    let of_cri = of_cri.map(|(key, value)| (format!("annotation.{key}"), value.as_str()));
    let mut labels: Labels = of_docker
        .chain(of_cri)
        .take(MAX_LABELS)
        .map(|(key, value)| (short(&key).to_owned(), short(value).to_owned()))
        .collect();
    for (label, annotations) in LABELS {
        if let Some(value) = annotations.iter().find_map(|name| spec.annotations.get(*name)) {
            labels.insert(label.to_owned(), short(value).to_owned());
        }
    }
    labels
}

/// Repository, tag and digest of a reference such as `registry:5000/team/web:1.4@sha256:…`.
fn reference(image: &str) -> (&str, &str, &str) {
    let (named, digest) = image.split_once('@').unwrap_or((image, ""));
    // A colon in front of a slash is a registry's port.
    match named.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag, digest),
        _ => (named, "", digest),
    }
}

/// SHA-256 of a profile in the one form that it has here: keys sorted, nothing between.
pub(super) fn digest(profile: &Value) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(profile.to_string()) {
        // Text takes whatever is written.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn short(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or(text)
}
