//! Each check alone: a container with nothing to say of, and then one thing changed.

use zerocopy::FromZeros as _;

use super::*;
use crate::state::container::metadata::Mount;

const HOST_PID_NS: u32 = 2;

/// A container as the restricted standard and our own checks want it, and its process.
fn strict() -> (Metadata, Promises, TaskFacts) {
    let labels = [
        ("io.kubernetes.pod.name", "web-0"),
        ("io.kubernetes.pod.namespace", "prod"),
        ("io.kubernetes.pod.uid", "6a2f4c5e-0b1d-4f3a-9c7e-8d5b2a1f0e3c"),
        ("io.kubernetes.container.name", "app"),
    ];
    let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let promises = Promises {
        uid: 1000,
        no_new_privileges: true,
        has_read_only_root: true,
        capabilities: capability::set(RESTRICTED),
        seccomp: "5b1c".to_owned(),
        apparmor: "cri-containerd.apparmor.d".to_owned(),
        node_has_apparmor: true,
        has_user_namespace: true,
        has_memory_limit: true,
        has_cpu_limit: true,
        ..Promises::default()
    };
    let task =
        TaskFacts { mnt_ns: 7, pid_ns: 8, uid: 1000, seccomp_mode: 2, no_new_privs: 1, ..TaskFacts::new_zeroed() };
    (Metadata { labels, ..Metadata::default() }, promises, task)
}

/// What is found after a change: check, standard, field and what was found.
fn after(change: impl FnOnce(&mut Metadata, &mut Promises, &mut TaskFacts)) -> Vec<String> {
    let (mut metadata, mut promises, mut task) = strict();
    change(&mut metadata, &mut promises, &mut task);
    let session = Session { host_pid_ns: HOST_PID_NS, ..Session::default() };
    let show = |breach: Breach| {
        let level = level_name(breach.level).unwrap_or("-");
        format!("{} {level} {} = {}", breach.check, breach.field, breach.actual)
    };
    check(&metadata, &promises, &task, &session).into_iter().map(show).collect()
}

#[test]
fn a_strict_container_has_nothing_to_say_of() {
    assert_eq!(after(|_, _, _| {}), [""; 0]);
}

#[test]
fn each_promise_is_looked_at() {
    type Change = fn(&mut Metadata, &mut Promises, &mut TaskFacts);
    let changes: [(Change, &str); 17] = [
        (|m, _, _| m.has_host_pid = true, "host_pid baseline spec.hostPID = true"),
        (|m, _, _| m.has_host_ipc = true, "host_ipc baseline spec.hostIPC = true"),
        (|m, _, _| m.has_host_network = true, "host_network baseline spec.hostNetwork = true"),
        (|_, p, _| p.has_user_namespace = false, "host_users - spec.hostUsers = true"),
        (
            |m, _, _| m.is_privileged = true,
            "privileged baseline spec.containers{app}.securityContext.privileged = true",
        ),
        (
            |_, p, _| p.seccomp.clear(),
            "seccomp_unconfined restricted spec.containers{app}.securityContext.seccompProfile = no profile",
        ),
        (
            |_, p, _| p.apparmor = "unconfined".to_owned(),
            "apparmor_unconfined baseline spec.containers{app}.securityContext.appArmorProfile = no profile",
        ),
        (
            |_, p, _| p.has_unmasked_proc = true,
            "unmasked_proc baseline spec.containers{app}.securityContext.procMount = Unmasked",
        ),
        (|_, p, t| (p.uid, t.uid) = (0, 0), "root_user restricted spec.containers{app}.securityContext.runAsUser = 0"),
        (
            |_, p, _| p.no_new_privileges = false,
            "privilege_escalation restricted spec.containers{app}.securityContext.allowPrivilegeEscalation = true",
        ),
        (
            |_, p, _| p.has_read_only_root = false,
            "writable_root - spec.containers{app}.securityContext.readOnlyRootFilesystem = false",
        ),
        (
            |_, p, _| p.capabilities |= capability::set(["CHOWN"]),
            "capabilities_kept restricted spec.containers{app}.securityContext.capabilities.drop = CAP_CHOWN",
        ),
        (
            |m, _, _| m.mounts.push(mount("/data", "/data", true)),
            "host_path baseline spec.volumes[*].hostPath = /data (rw)",
        ),
        (
            |m, _, _| m.mounts.push(mount("/etc", "/host/etc", false)),
            "sensitive_host_path baseline spec.volumes[*].hostPath = /etc (ro)",
        ),
        (
            |m, _, _| drop(m.labels.insert("io.kubernetes.pod.namespace".to_owned(), "kube-system".to_owned())),
            "system_namespace - metadata.namespace = kube-system",
        ),
        (
            |_, p, _| p.has_memory_limit = false,
            "memory_unlimited - spec.containers{app}.resources.limits.memory = no limit",
        ),
        (|_, p, _| p.has_cpu_limit = false, "cpu_unlimited - spec.containers{app}.resources.limits.cpu = no limit"),
    ];
    for (change, expected) in changes {
        assert_eq!(after(change), [expected]);
    }
}

#[test]
fn capabilities_beyond_the_default_are_named() {
    let found = after(|_, promises, _| promises.capabilities |= capability::set(["SYS_ADMIN", "NET_RAW"]));
    let added = "capabilities_added baseline spec.containers{app}.securityContext.capabilities.add = CAP_SYS_ADMIN";
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0], added);
    assert!(found[1].ends_with("= CAP_NET_RAW CAP_SYS_ADMIN"), "{found:?}");
}

#[test]
fn what_a_privileged_container_has_besides_is_not_repeated() {
    let found = after(|metadata, promises, _| {
        metadata.is_privileged = true;
        promises.capabilities = u64::MAX;
        (promises.no_new_privileges, promises.has_unmasked_proc) = (false, true);
        promises.seccomp.clear();
        promises.apparmor.clear();
    });
    assert_eq!(found, ["privileged baseline spec.containers{app}.securityContext.privileged = true"]);
}

#[test]
fn what_the_kubelet_mounts_is_no_host_path_but_a_token_is_told() {
    let found = after(|metadata, _, _| {
        let volumes =
            "/var/lib/kubelet/pods/6a2f4c5e-0b1d-4f3a-9c7e-8d5b2a1f0e3c/volumes/kubernetes.io~projected/token";
        metadata.mounts.push(mount(volumes, TOKEN, false));
    });
    assert_eq!(found, ["service_account_token - spec.automountServiceAccountToken = true"]);
}

#[test]
fn the_kernel_is_asked_whether_the_promises_hold() {
    assert_eq!(
        after(|_, _, task| task.seccomp_mode = 0),
        ["seccomp_missing -  = no filter, promised was the profile 5b1c"]
    );
    assert_eq!(
        after(|_, _, task| task.no_new_privs = 0),
        ["no_new_privs_missing -  = not set, promised was allowPrivilegeEscalation: false"]
    );
    let exceeded = after(|_, _, task| task.cap_effective = capability::set(["NET_BIND_SERVICE", "SYS_ADMIN"]));
    assert_eq!(exceeded, ["capabilities_exceeded -  = CAP_SYS_ADMIN"]);
    let as_root = after(|_, promises, task| (promises.has_user_namespace, task.uid) = (false, 0));
    assert_eq!(as_root, ["host_users - spec.hostUsers = true", "user_exceeded -  = uid 0, promised was 1000"]);
    assert_eq!(after(|_, _, task| task.uid = 0), [""; 0], "root of a user namespace is not the kernel's root");
    assert_eq!(after(|_, _, task| task.pid_ns = HOST_PID_NS), ["pid_namespace_missing -  = the host's"]);
    assert_eq!(after(|_, _, task| *task = TaskFacts::new_zeroed()), [""; 0], "a process of which nothing is known");
}

#[test]
fn a_container_without_a_pod_has_no_standard() {
    assert_eq!(after(|metadata, _, _| drop(metadata.labels.remove("io.kubernetes.pod.name"))), [""; 0]);
}

fn mount(source: &str, destination: &str, is_writable: bool) -> Mount {
    Mount { source: source.to_owned(), destination: destination.to_owned(), is_writable, ..Mount::default() }
}

/// Records of one container, through the whole flow.
mod in_the_flow {
    use serde_json::json;

    use crate::{
        pipeline::{Pipeline, Selection},
        proto::v1::{Finding, Priority, finding::Detail},
        record::{self, builder},
        report::Mode,
        rules::{Options, RuleSet, Source},
    };

    const ID: &str = "3ad7b26ded6d8e7b23da7d48fe889434573036c27ae5a74837233de441c3601e";
    const CGROUP: u64 = 9;

    fn cgroup() -> Vec<u8> {
        record::cgroup(1, CGROUP, format!("/kubepods/pod6a2f4c5e-0b1d-4f3a-9c7e-8d5b2a1f0e3c/{ID}").as_bytes())
    }

    /// What its runtime was told: a privileged container.
    fn told() -> Vec<u8> {
        let labels = json!({"io.kubernetes.pod.name": "web-0", "io.kubernetes.pod.namespace": "prod"});
        let document = json!({
            "container": {"id": ID[..12], "name": "app", "image": "web:1.4", "privileged": true, "labels": labels},
            "promises": {"arguments": ["/app", "-v"], "uid": 0, "capabilities": u64::MAX},
        });
        record::container(2, CGROUP, document.to_string().as_bytes())
    }

    /// A program that runs in it; the first process of a pid namespace has the id 1 there.
    fn exec(tgid: u32, vpid: u32, arguments: &[&str]) -> Vec<u8> {
        builder::exec_with(tgid, 1, arguments[0], arguments, |record| {
            record.header.cgroup_id = CGROUP;
            (record.task.vpid, record.task.pid_ns, record.task.mnt_ns) = (vpid, 8, 7);
        })
    }

    fn findings(records: &[Vec<u8>]) -> Vec<Finding> {
        let rules = RuleSet::load(&[Source::builtin()], &Options::default()).rules.unwrap();
        let selection = Selection { rules, filter: None, min_priority: Priority::Debug };
        let mut pipeline = Pipeline::new(selection, Mode::Replay, || 0);
        let mut findings = Vec::new();
        for record in [vec![builder::session()], records.to_vec()].concat() {
            pipeline.record(&record, &mut |finding| findings.push(finding));
        }
        assert_eq!(pipeline.summary().undecodable, 0);
        findings
    }

    /// Process, container and check of the only finding.
    fn only(records: &[Vec<u8>]) -> (u32, String, String) {
        let found = findings(records);
        let [finding] = &*found else { panic!("{found:#?}") };
        let container = finding.container.as_ref().unwrap();
        assert_eq!((&*container.namespace, &*container.pod_name, &*container.image), ("prod", "web-0", "web:1.4"));
        let Some(Detail::PodSecurity(detail)) = &finding.detail else { panic!("{finding:#?}") };
        let process = finding.process.as_ref().unwrap();
        assert_eq!(process.pid, process.tid);
        (process.pid, container.name.clone(), detail.check.clone())
    }

    #[test]
    fn a_container_is_checked_once_when_its_first_process_runs() {
        let expected = (5, "app".to_owned(), "privileged".to_owned());
        let once =
            [cgroup(), told(), exec(5, 1, &["/app", "-v"]), exec(5, 1, &["/other"]), exec(6, 2, &["/app", "-v"])];
        assert_eq!(only(&once), expected);
        assert_eq!(
            only(&[cgroup(), told(), exec(5, 44, &["/bin/sh", "/app", "-v"])]),
            expected,
            "in the node's pid namespace"
        );
        assert_eq!(findings(&[cgroup(), told(), exec(5, 44, &["/hook"])]), [], "not the first process");
        assert_eq!(findings(&[cgroup(), exec(5, 1, &["/app", "-v"])]), [], "nothing is known of it");
    }

    #[test]
    fn what_is_told_late_is_checked_then() {
        assert_eq!(only(&[cgroup(), exec(5, 1, &["/app", "-v"]), told()]).0, 5);
        let waiting = exec(5, 1, &["/proc/self/exe/runc", "init"]);
        assert_eq!(findings(&[cgroup(), waiting.clone(), told()]), [], "the runtime still prepares it");
        assert_eq!(only(&[cgroup(), waiting, told(), exec(5, 1, &["/app", "-v"])]).0, 5);
        let ended = [cgroup(), exec(5, 1, &["/app", "-v"]), builder::exit(5), told()];
        assert_eq!(findings(&ended), [], "it is gone");
    }

    #[test]
    fn two_replays_give_the_same_findings_and_each_has_a_uid_of_its_own() {
        let mut document: serde_json::Value = serde_json::from_slice(&told()[48..]).unwrap();
        document["container"]["host_pid"] = json!(true);
        let records =
            [cgroup(), record::container(2, CGROUP, document.to_string().as_bytes()), exec(5, 44, &["/app", "-v"])];
        let (first, second) = (findings(&records), findings(&records));
        assert_eq!((first.len(), &first), (2, &second));
        assert_ne!(first[0].uid, first[1].uid);
    }
}
