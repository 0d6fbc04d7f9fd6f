//! Policies as they are written, and what they say of what happens.
use monitor_ebpf::record::{FileFacts, digest_flag};
use serde_json::json;

use super::*;
use crate::{
    context::Evidence,
    decode::decode,
    drift::detect,
    event::Event,
    record::{self, builder},
    state::State,
};

const ID: &str = "3ad7b26ded6d8e7b23da7d48fe889434573036c27ae5a74837233de441c3601e";
const POD: &str = "6a2f4c5e-0b1d-4f3a-9c7e-8d5b2a1f0e3c";
const CGROUP: u64 = 9;
const ROOT: u32 = 7;

fn parse(policy: &str) -> Policy {
    Policy::parse(Text { name: "p".into(), text: policy.into() }).unwrap().0
}

/// What is wrong with a policy, without colours.
fn wrong(policy: &str) -> String {
    let errors = Policy::parse(Text { name: "p.yaml".into(), text: policy.into() }).unwrap_err();
    let rendered = errors.iter().map(Diagnostic::render).collect::<String>();
    anstream::adapter::strip_str(&rendered).to_string()
}

fn facts(flags: u32, ino: u64) -> FileFacts {
    FileFacts { flags: file_flag::OVERLAY | flags, ino, dev: ROOT, mode: 0o100_755, ..FileFacts::NONE }
}

/// A record in the container, of a process in a mount namespace of its own.
fn exec(pid: u32, parent: u32, path: &str, file: FileFacts) -> Vec<u8> {
    builder::exec_with(pid, parent, path, &[path], |record| {
        record.file = file;
        record.header.cgroup_id = CGROUP;
        record.task.mnt_ns = 77;
    })
}

/// A container of the pod `web-0` in the namespace `prod`, in which a package manager and then `cp` write files.
fn state() -> State {
    let document = json!({"container": {
        "id": &ID[..12], "type": 7, "name": "app", "image": "registry:5000/team/web:1.4",
        "imagerepo": "registry:5000/team/web", "imagetag": "1.4", "imagedigest": "", "imageid": "", "ip": "",
        "labels": {"io.kubernetes.pod.name": "web-0", "io.kubernetes.pod.namespace": "prod",
                   "io.kubernetes.container.name": "app", "tier": "front"},
    }});
    let file = |ino| FileFacts { fs_magic: 0x794c_7630, ..facts(file_flag::OVERLAY_UPPER, ino) };
    let mut state = State::default();
    for bytes in [
        record::cgroup(1, CGROUP, format!("/kubepods/pod{POD}/{ID}\0").as_bytes()),
        record::pod(1, json!({"uid": POD, "labels": {"release": "canary"}}).to_string().as_bytes()),
        record::container(1, CGROUP, document.to_string().as_bytes()),
        exec(5, 1, "/bin/sh", facts(0, 1)),
        exec(6, 5, "/usr/bin/dpkg", facts(0, 2)),
        builder::open(6, "/usr/bin/tool.dpkg-new", file(100)),
        exec(7, 5, "/bin/cp", facts(0, 3)),
        builder::open(7, "/tmp/x", file(101)),
        exec(8, 5, "/tmp/dpkg", facts(file_flag::OVERLAY_UPPER, 4)),
        builder::open(8, "/tmp/y", file(102)),
    ] {
        builder::apply(&mut state, &bytes);
    }
    state
}

/// What a policy says of a new program with this path and inode.
fn judge(policy: &str, path: &str, ino: u64) -> Option<(Mode, Option<String>)> {
    let policy = parse(policy);
    let mut state = state();
    let file = facts(file_flag::OVERLAY_UPPER, ino);
    let header = decode(&exec(9, 5, path, file)).unwrap().header;
    let digest = record::digest(1, &header, &file, digest_flag::READ, [0xab; 32]);
    builder::apply(&mut state, &digest);
    let bytes = exec(9, 5, path, file);
    let event: Event<'_> = decode(&bytes).unwrap();
    state.apply(&event);
    let drift = detect(&state, &event).unwrap();
    let context = Context::new(&state, &event, 1, Evidence::Event).unwrap();
    policy.judge(&context, &drift).map(|verdict| (verdict.mode, verdict.rule.map(str::to_owned)))
}

const ALERT: Option<(Mode, Option<String>)> = Some((Mode::Alert, None));

#[test]
fn without_a_rule_it_is_an_alert_unless_the_policy_observes() {
    assert_eq!(judge("drift: {mode: alert}", "/tmp/x", 101), ALERT);
    assert_eq!(judge("drift: {mode: observe}", "/tmp/x", 101), Some((Mode::Observe, None)));
}

#[test]
fn the_first_rule_whose_scope_fits_decides() {
    let rule =
        |scope: &str| format!("drift: {{rules: [{{name: r, {scope}, mode: observe}}, {{name: s, mode: alert}}]}}");
    let decided = |scope: &str| judge(&rule(scope), "/tmp/x", 101).unwrap().1.unwrap();
    for fits in [
        "namespaces: [dev, 'pr*']",
        "pods: ['web-?']",
        "images: [registry:5000/team/web]",
        "images: ['*/team/web:1.*']",
        "containers: [app]",
        "pod_labels: {tier: 'f*'}",
        "pod_labels: {tier: front, release: canary}",
        "kinds: [script, new_executable]",
        "namespaces: [prod], containers: [app], kinds: [new_executable]",
    ] {
        assert_eq!(decided(fits), "r", "{fits}");
    }
    for other in [
        "namespaces: [dev]",
        "images: [team/web]",
        "pod_labels: {tier: back}",
        "pod_labels: {app: '*'}",
        "pod_labels: {release: stable}",
        "kinds: [script]",
        "namespaces: [prod], containers: [sidecar]",
    ] {
        assert_eq!(decided(other), "s", "{other}");
    }
}

#[test]
fn exceptions_let_pass_and_what_they_do_not_name_goes_on() {
    let except = |what: &str| format!("drift: {{rules: [{{name: r, except: {{{what}}}}}]}}");
    let digest = "ab".repeat(32);
    for what in [
        "paths: ['/tmp/*']",
        "paths: ['*/x']",
        &format!("sha256: [{digest}]"),
        &format!("sha256: ['sha256:{digest}']"),
        "processes: [/bin/sh]",
        "writers: ['/bin/c?']",
    ] {
        assert_eq!(judge(&except(what), "/tmp/x", 101), None, "{what}");
    }
    for what in
        ["paths: [/tmp]", "processes: [/bin/cp]", "writers: [/bin/sh]", &format!("sha256: [{}]", "0".repeat(64))]
    {
        assert_eq!(judge(&except(what), "/tmp/x", 101), ALERT, "{what}");
    }
    let with_mode = "drift: {rules: [{name: r, mode: observe, except: {paths: [/tmp/y]}}]}";
    assert_eq!(judge(with_mode, "/tmp/x", 101), Some((Mode::Observe, Some("r".into()))));
}

#[test]
fn package_managers_of_the_image_may_install_for_a_while() {
    let policy = "drift: {rules: [{name: r, except: {package_managers: 2m}}]}";
    assert_eq!(judge(policy, "/usr/bin/tool", 100), None, "written by dpkg");
    assert_eq!(judge(policy, "/tmp/x", 101), ALERT, "written by cp");
    assert_eq!(judge(policy, "/tmp/y", 102), ALERT, "written by a program that only has the name");
}

#[test]
fn only_a_program_of_the_image_may_write_or_run_what_passes() {
    let policy = "drift: {rules: [{name: r, except: {writers: [/tmp/dpkg]}}]}";
    assert_eq!(judge(policy, "/tmp/y", 102), ALERT);
}

#[test]
fn errors_are_shown_where_they_are() {
    for (policy, place, message) in [
        (
            "drift:\n  rules:\n    - name: a\n      namespace: [b]\n      mode: alert\n",
            "p.yaml:4:7",
            "did you mean `namespaces`?",
        ),
        ("drift:\n  mode: alarm\n", "p.yaml:2:9", "is no mode"),
        ("drift:\n  rules:\n    - mode: alert\n", "p.yaml:3:7", "needs a `name`"),
        ("drift:\n  rules:\n    - name: a\n", "p.yaml:3:7", "needs a `mode`"),
        (
            "drift: {rules: [{name: a, kinds: [new_executables], mode: alert}]}",
            "p.yaml:1:35",
            "did you mean `new_executable`?",
        ),
        ("drift: {rules: [{name: a, except: {sha256: [abc]}}]}", "p.yaml:1:45", "64 hexadecimal digits"),
        ("drift: {rules: [{name: a, except: {paths: ['*']}}]}", "p.yaml:1:44", "lets everything pass"),
        ("drift: {rules: [{name: a, except: {writers: [dpkg]}}]}", "p.yaml:1:46", "begins with a slash"),
        ("drift: {rules: [{name: a, except: {package_managers: 2d}}]}", "p.yaml:1:54", "1s to 1h"),
        ("drift: {rules: [{name: a, mode: alert}, {name: a, mode: alert}]}", "p.yaml:1:41", "already"),
        ("drift: {rules: {}}", "p.yaml:1:16", "a list is expected"),
        ("rules: []", "p.yaml:1:1", "unknown key"),
        ("drift: [", "p.yaml:1", "LOAD_ERR_YAML_PARSE"),
        ("", "p.yaml:1:1", "no `drift:`"),
    ] {
        let rendered = wrong(policy);
        assert!(rendered.contains(place) && rendered.contains(message), "{policy}\n{rendered}");
    }
}

#[test]
fn a_policy_that_would_kill_the_system_is_refused_and_so_is_any_killing() {
    for (policy, message) in [
        ("drift: {mode: kill}", "would kill processes of the system"),
        ("drift: {rules: [{name: a, mode: kill}]}", "reaches every pod"),
        ("drift: {rules: [{name: a, namespaces: ['kube-*'], mode: kill}]}", "include `kube-system`"),
        ("drift: {rules: [{name: a, mode: kill, namespaces: [prod]}]}", "nothing in this version ends a process"),
    ] {
        let rendered = wrong(policy);
        assert!(rendered.contains(message), "{policy}\n{rendered}");
    }
}
