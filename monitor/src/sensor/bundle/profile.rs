//! Which seccomp profile a bundle has: by name, as far as the node tells, and whole, where it fits a record.
//!
//! A bundle holds the rules alone. `RuntimeDefault` is known by them, because containerd makes it from a table, and `Localhost` by a
//! file of the same rules where the kubelet looks for it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    describe::digest,
    place::{Node, read},
    spec::Spec,
};
use crate::{
    record::PROFILE_BYTES,
    seccomp::{
        applied::UNCONFINED,
        profile::{
            Abi, KernelVersion, Profile, Target, parse,
            runtime_default::{self, Containerd},
            select::{Selected, select},
        },
    },
};

/// Where the kubelet looks for profiles of containers.
const LOCALHOST: &str = "var/lib/kubelet/seccomp";
/// Files below it that are compared, and directories within each other.
const MAX_FILES: usize = 256;
const MAX_DEPTH: usize = 4;

/// The document of a profile record.
pub(super) fn document(spec: &Spec, node: &Node<'_>) -> Option<Vec<u8>> {
    let Some(seccomp) = &spec.linux.seccomp else {
        return serde_json::to_vec(&json!({"name": UNCONFINED})).ok();
    };
    let (name, digest) = (name(seccomp, spec, node), digest(seccomp));
    let whole = serde_json::to_vec(&json!({"name": name, "digest": digest, "profile": seccomp})).ok()?;
    if whole.len() <= PROFILE_BYTES {
        return Some(whole);
    }
    serde_json::to_vec(&json!({"name": name, "digest": digest})).ok()
}

fn name(seccomp: &Value, spec: &Spec, node: &Node<'_>) -> String {
    let native = if cfg!(target_arch = "aarch64") { Abi::Aarch64 } else { Abi::X86_64 };
    let target = Target {
        capabilities: spec.process.capabilities.bounding.iter().cloned().collect(),
        kernel: KernelVersion::parse(&rustix::system::uname().release().to_string_lossy()),
        reads_docker: false,
        ..Target::new(native)
    };
    let Some(profile) = parse("", seccomp.to_string().as_bytes()).profile else { return "custom".to_owned() };
    let rules = Rules::of(&profile, &target);
    let is_default = |line: &Containerd| Rules::of(&runtime_default::profile(*line, &target), &target) == rules;
    if Containerd::ALL.iter().any(is_default) {
        return "RuntimeDefault".to_owned();
    }
    let mut files = Vec::new();
    list(node, LOCALHOST, MAX_DEPTH, &mut files);
    files.sort();
    let is_it = |file: &&String| {
        let profile = read(&node.path(file)).and_then(|bytes| parse("", &bytes).profile);
        profile.is_some_and(|profile| Rules::of(&profile, &target) == rules)
    };
    let found = files.iter().find(is_it).and_then(|file| file.strip_prefix(LOCALHOST));
    found.map_or_else(|| "custom".to_owned(), |file| format!("Localhost{file}"))
}

/// Files below a directory, as paths on the node.
fn list(node: &Node<'_>, directory: &str, depth: usize, files: &mut Vec<String>) {
    let entries = std::fs::read_dir(node.path(directory)).into_iter().flatten().flatten();
    for entry in entries.take(MAX_FILES) {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let (path, kind) = (format!("{directory}/{name}"), entry.file_type());
        if files.len() < MAX_FILES && kind.as_ref().is_ok_and(std::fs::FileType::is_file) {
            files.push(path);
        } else if depth > 1 && kind.is_ok_and(|kind| kind.is_dir()) {
            list(node, &path, depth - 1, files);
        }
    }
}

/// A condition: which argument, how it is compared, and with what.
type Comparison = (u8, &'static str, u64, u64);

/// What a profile says, in whatever order.
#[derive(PartialEq, Eq)]
struct Rules {
    default_action: u32,
    abis: BTreeSet<Abi>,
    calls: BTreeSet<(String, u32, Vec<Comparison>)>,
}

impl Rules {
    fn of(profile: &Profile, target: &Target) -> Self {
        let Selected { default_action, abis, rules } = select(profile, target);
        let calls = rules.into_iter().filter(|rule| rule.action != default_action).map(|rule| {
            let conditions = rule.conditions.iter();
            let conditions = conditions.map(|c| (c.index, c.operator.name(), c.value, c.value_two)).collect();
            (rule.name, rule.action.0, conditions)
        });
        Self { default_action: default_action.0, calls: calls.collect(), abis: abis.into_iter().collect() }
    }
}
