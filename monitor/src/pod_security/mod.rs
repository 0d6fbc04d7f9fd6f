//! Pod security: what a pod's container may do, and whether the kernel agrees.
//!
//! A runtime writes down what it was told, and the kernel says what the container's first process got. Each thing that a Pod
//! Security Standard forbids, or that is looser than it need be, is a [`Breach`], and so is each that the process has and
//! was not promised. Whether a finding is due, and who is exempt, is for the rules to say.
//!
//! Standards: <https://kubernetes.io/docs/concepts/security/pod-security-standards/>.

mod host_path;

use monitor_ebpf::record::TaskFacts;

use crate::{
    event::capability,
    proto::v1::PodSecurityLevel as Level,
    state::{
        Session,
        container::{metadata::Metadata, promises::Promises},
    },
};

/// One thing that a container may do, or has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Which check found it.
    pub check: &'static str,
    /// The loosest standard that forbids it; unspecified where none does.
    pub level: Level,
    /// The field of the pod's specification that decides it, with the container's name in braces as the kubelet writes it;
    /// empty where the kernel disagrees with the runtime.
    pub field: String,
    /// What was found.
    pub actual: String,
}

/// The word for a standard in rules and output.
pub const fn level_name(level: Level) -> Option<&'static str> {
    match level {
        Level::Unspecified => None,
        Level::Baseline => Some("baseline"),
        Level::Restricted => Some("restricted"),
    }
}

/// Capabilities that the baseline standard lets a container add, and `NET_RAW`, which runtimes give without being asked.
const BASELINE: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// The one that the restricted standard lets it keep.
const RESTRICTED: [&str; 1] = ["NET_BIND_SERVICE"];
/// Where the kubelet mounts the token of a pod's service account.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What names of Kubernetes' own namespaces begin with.
const SYSTEM_NAMESPACE: &str = "kube-";
/// Seccomp mode of a task without a filter.
const NO_SECCOMP: u32 = 0;

/// What there is to say of a pod's container whose first process runs. Containers without a pod have no standard.
pub fn check(metadata: &Metadata, promises: &Promises, task: &TaskFacts, session: &Session) -> Vec<Breach> {
    if metadata.label("io.kubernetes.pod.name").is_empty() {
        return Vec::new();
    }
    let mut found = Found { container: metadata.label("io.kubernetes.container.name"), breaches: Vec::new() };
    namespaces(&mut found, metadata, promises);
    if metadata.is_privileged {
        // It has all that the other checks of confinement look for.
        found.of_container("privileged", Level::Baseline, "securityContext.privileged", "true");
    } else {
        confinement(&mut found, promises);
    }
    privileges(&mut found, metadata, promises);
    mounts(&mut found, metadata);
    place(&mut found, metadata, promises);
    kernel(&mut found, metadata, promises, task, session);
    found.breaches
}

/// What was found of one container.
struct Found<'m> {
    container: &'m str,
    breaches: Vec<Breach>,
}

impl Found<'_> {
    fn add(&mut self, check: &'static str, level: Level, field: String, actual: impl Into<String>) {
        self.breaches.push(Breach { check, level, field, actual: actual.into() });
    }

    fn of_pod(&mut self, check: &'static str, level: Level, field: &str, actual: impl Into<String>) {
        self.add(check, level, format!("spec.{field}"), actual);
    }

    fn of_container(&mut self, check: &'static str, level: Level, field: &str, actual: impl Into<String>) {
        self.add(check, level, format!("spec.containers{{{}}}.{field}", self.container), actual);
    }
}

fn namespaces(found: &mut Found<'_>, metadata: &Metadata, promises: &Promises) {
    for (is_host, check, field) in [
        (metadata.has_host_pid, "host_pid", "hostPID"),
        (metadata.has_host_ipc, "host_ipc", "hostIPC"),
        (metadata.has_host_network, "host_network", "hostNetwork"),
    ] {
        if is_host {
            found.of_pod(check, Level::Baseline, field, "true");
        }
    }
    if !promises.has_user_namespace {
        found.of_pod("host_users", Level::Unspecified, "hostUsers", "true");
    }
}

fn confinement(found: &mut Found<'_>, promises: &Promises) {
    let added = promises.capabilities & !capability::set(BASELINE);
    if added != 0 {
        let names = capability::names(added);
        found.of_container("capabilities_added", Level::Baseline, "securityContext.capabilities.add", names);
    }
    let kept = promises.capabilities & !capability::set(RESTRICTED);
    if kept != 0 {
        let names = capability::names(kept);
        found.of_container("capabilities_kept", Level::Restricted, "securityContext.capabilities.drop", names);
    }
    if promises.seccomp.is_empty() {
        found.of_container("seccomp_unconfined", Level::Restricted, "securityContext.seccompProfile", "no profile");
    }
    if promises.node_has_apparmor && matches!(&*promises.apparmor, "" | "unconfined") {
        found.of_container("apparmor_unconfined", Level::Baseline, "securityContext.appArmorProfile", "no profile");
    }
    if promises.has_unmasked_proc {
        found.of_container("unmasked_proc", Level::Baseline, "securityContext.procMount", "Unmasked");
    }
}

fn privileges(found: &mut Found<'_>, metadata: &Metadata, promises: &Promises) {
    if promises.uid == 0 {
        found.of_container("root_user", Level::Restricted, "securityContext.runAsUser", "0");
    }
    if !promises.no_new_privileges && !metadata.is_privileged {
        let field = "securityContext.allowPrivilegeEscalation";
        found.of_container("privilege_escalation", Level::Restricted, field, "true");
    }
    if !promises.has_read_only_root {
        let field = "securityContext.readOnlyRootFilesystem";
        found.of_container("writable_root", Level::Unspecified, field, "false");
    }
}

fn mounts(found: &mut Found<'_>, metadata: &Metadata) {
    let pod_uid = metadata.label("io.kubernetes.pod.uid");
    for mount in &metadata.mounts {
        let Some(kind) = host_path::classify(&mount.source, pod_uid) else { continue };
        let check = if kind == host_path::Kind::Sensitive { "sensitive_host_path" } else { "host_path" };
        let access = if mount.is_writable { "rw" } else { "ro" };
        found.of_pod(check, Level::Baseline, "volumes[*].hostPath", format!("{} ({access})", mount.source));
    }
    if metadata.mounts.iter().any(|mount| mount.destination == TOKEN) {
        found.of_pod("service_account_token", Level::Unspecified, "automountServiceAccountToken", "true");
    }
}

fn place(found: &mut Found<'_>, metadata: &Metadata, promises: &Promises) {
    let namespace = metadata.label("io.kubernetes.pod.namespace");
    if namespace.starts_with(SYSTEM_NAMESPACE) {
        found.add("system_namespace", Level::Unspecified, "metadata.namespace".to_owned(), namespace);
    }
    for (is_limited, check, field) in [
        (promises.has_memory_limit, "memory_unlimited", "resources.limits.memory"),
        (promises.has_cpu_limit, "cpu_unlimited", "resources.limits.cpu"),
    ] {
        if !is_limited {
            found.of_container(check, Level::Unspecified, field, "no limit");
        }
    }
}

/// What the process has and was not promised.
fn kernel(found: &mut Found<'_>, metadata: &Metadata, promises: &Promises, task: &TaskFacts, session: &Session) {
    if task.mnt_ns == 0 {
        // The kernel said nothing of this process.
        return;
    }
    let mut add = |check, actual| found.add(check, Level::Unspecified, String::new(), actual);
    if !promises.seccomp.is_empty() && task.seccomp_mode == NO_SECCOMP {
        add("seccomp_missing", format!("no filter, promised was the profile {}", promises.seccomp));
    }
    if promises.no_new_privileges && task.no_new_privs == 0 {
        add("no_new_privs_missing", "not set, promised was allowPrivilegeEscalation: false".to_owned());
    }
    let beyond = task.cap_effective & !promises.capabilities;
    if beyond != 0 {
        add("capabilities_exceeded", capability::names(beyond));
    }
    // In a user namespace of its own the kernel's number is another one.
    if !promises.has_user_namespace && task.uid == 0 && promises.uid != 0 {
        add("user_exceeded", format!("uid 0, promised was {}", promises.uid));
    }
    if !metadata.has_host_pid && task.pid_ns == session.host_pid_ns {
        add("pid_namespace_missing", "the host's".to_owned());
    }
}

#[cfg(test)]
mod tests;
