//! Bundles of every runtime are found where it puts them, and what is no bundle does no harm.

use std::{fs, path::Path};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::{record::DOCUMENT_BYTES, state::State};

const ID: &str = "3ad7b26ded6d8e7b23da7d48fe889434573036c27ae5a74837233de441c3601e";
const SHORT: &str = "3ad7b26ded6d";

/// A file of a node, below a directory of the test's.
fn write(node: &TempDir, path: &str, content: &Value) {
    let path = node.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content.to_string()).unwrap();
}

fn places(node: &TempDir) -> Places {
    Places { host_root: node.path().to_owned(), tasks: Vec::new() }
}

fn record_of_cgroup(path: &str) -> Vec<u8> {
    record::cgroup(1, 9, path.as_bytes())
}

fn pod_cgroup() -> String {
    format!("/kubepods.slice/kubepods-pod6a2f4c5e_0b1d_4f3a_9c7e_8d5b2a1f0e3c.slice/cri-containerd-{ID}.scope")
}

/// A bundle as containerd writes it for a pod's container.
fn of_a_pod() -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 1000, "gid": 0},
            "args": ["/app", "-v"],
            "noNewPrivileges": true,
            "apparmorProfile": "cri-containerd.apparmor.d",
            "capabilities": {"bounding": ["CAP_CHOWN", "CAP_NET_RAW"], "effective": ["CAP_CHOWN"]},
        },
        "root": {"path": "rootfs", "readonly": true},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/host/etc", "type": "bind", "source": "/etc", "options": ["rbind", "rprivate", "ro"]},
            {"destination": "/data", "source": "/data", "options": ["bind", "rslave", "rw"]},
        ],
        "annotations": {
            "io.kubernetes.cri.container-name": "app",
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.image-name": "registry.example.com:5000/team/web:1.4@sha256:2a0c6f1b",
            "io.kubernetes.cri.sandbox-id": "77aa02cc10be8e7b23da7d48fe889434573036c27ae5a74837233de441c3601e",
            "io.kubernetes.cri.sandbox-name": "web-0",
            "io.kubernetes.cri.sandbox-namespace": "prod",
            "io.kubernetes.cri.sandbox-uid": "6a2f4c5e-0b1d-4f3a-9c7e-8d5b2a1f0e3c",
            "example.com/secret": "x",
        },
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "mount"}, {"type": "ipc", "path": "/proc/self/ns/ipc"},
                {"type": "network", "path": "/var/run/netns/gone"},
            ],
            "maskedPaths": ["/proc/kcore"],
            "seccomp": {"defaultAction": "SCMP_ACT_ERRNO"},
            "resources": {
                "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}],
                "memory": {"limit": 1_048_576},
                "cpu": {"shares": 2},
            },
        },
    })
}

const TASK: &str = "run/containerd/io.containerd.runtime.v2.task/k8s.io";

/// What is told of the container of a cgroup record, the first thing.
fn told(places: Places, cgroup: &str) -> Vec<Vec<u8>> {
    let mut bundles = Bundles::start(places).unwrap();
    let mut told = Vec::new();
    bundles.behind(&record_of_cgroup(cgroup), &mut |record| told.push(record.to_vec()));
    until_answered(&mut bundles, &mut told);
    assert_eq!(bundles.counts().containers(), 1);
    // What the container is, and its seccomp profile.
    assert_eq!(2 * bundles.counts().identified(), told.len() as u64);
    told
}

/// A busy machine's thread may take longer than the ring waits.
fn until_answered(bundles: &mut Bundles, told: &mut Vec<Vec<u8>>) {
    while bundles.due > 0 {
        let answer = bundles.answers.recv().unwrap();
        bundles.take(&answer, &mut |record| told.push(record.to_vec()));
    }
}

/// The document of the container's record.
fn document(records: &[Vec<u8>]) -> Value {
    let [record, _] = records else { panic!("{} records", records.len()) };
    let event = decode(record).unwrap();
    assert_eq!(event.header.cgroup_id, 9);
    let Body::Container(document) = event.body else { panic!("{event:?}") };
    serde_json::from_slice(document).unwrap()
}

fn found(node: &TempDir) -> Value {
    document(&told(places(node), &pod_cgroup()))
}

#[test]
fn the_bundle_of_a_pods_container_tells_who_it_is_and_what_it_may_do() {
    let node = tempfile::tempdir().unwrap();
    write(&node, &format!("{TASK}/{ID}/config.json"), &of_a_pod());
    write(&node, "sys/module/apparmor/parameters/enabled", &json!("n"));
    let document = found(&node);
    let container = &document["container"];
    for (key, expected) in [
        ("id", json!(SHORT)),
        ("full_id", json!(ID)),
        ("type", json!(7)),
        ("name", json!("app")),
        ("image", json!("registry.example.com:5000/team/web:1.4@sha256:2a0c6f1b")),
        ("imagerepo", json!("registry.example.com:5000/team/web")),
        ("imagetag", json!("1.4")),
        ("imagedigest", json!("sha256:2a0c6f1b")),
        ("User", json!("1000")),
        ("host_pid", json!(false)),
        ("host_network", json!(false)),
        ("host_ipc", json!(true)),
        ("privileged", json!(false)),
        ("is_pod_sandbox", json!(false)),
    ] {
        assert_eq!(container[key], expected, "{key}");
    }
    let labels = &container["labels"];
    for (key, expected) in [
        ("io.kubernetes.pod.name", "web-0"),
        ("io.kubernetes.pod.namespace", "prod"),
        ("io.kubernetes.pod.uid", "6a2f4c5e-0b1d-4f3a-9c7e-8d5b2a1f0e3c"),
        ("io.kubernetes.container.name", "app"),
        ("annotation.io.kubernetes.cri.container-type", "container"),
    ] {
        assert_eq!(labels[key], json!(expected), "{key}");
    }
    assert!(!labels.to_string().contains("secret"), "annotations of others are not taken along");
    let mount = |source: &str, destination: &str, is_writable: bool, propagation: &str| json!({"Source": source, "Destination": destination, "Mode": "", "RW": is_writable, "Propagation": propagation});
    let mounts = [mount("/etc", "/host/etc", false, "rprivate"), mount("/data", "/data", true, "rslave")];
    assert_eq!(container["Mounts"], json!(mounts));
    let mut promises = document["promises"].clone();
    assert_eq!(promises["seccomp"].as_str().unwrap().len(), 64);
    promises["seccomp"] = json!("");
    let expected = json!({
        "arguments": ["/app", "-v"], "has_more_arguments": false, "uid": 1000, "no_new_privileges": true,
        "has_read_only_root": true, "capabilities": 1 | 1 << 13, "seccomp": "", "apparmor": "cri-containerd.apparmor.d",
        "node_has_apparmor": false, "has_user_namespace": false, "has_unmasked_proc": false, "has_memory_limit": true,
        "has_cpu_limit": false,
    });
    assert_eq!(promises, expected);
}

#[test]
fn what_is_told_is_what_the_state_then_knows() {
    let node = tempfile::tempdir().unwrap();
    write(&node, &format!("{TASK}/{ID}/config.json"), &of_a_pod());
    let mut state = State::default();
    for record in [vec![record_of_cgroup(&pod_cgroup())], told(places(&node), &pod_cgroup())].concat() {
        state.apply(&decode(&record).unwrap());
    }
    let metadata = state.containers.metadata(SHORT).unwrap();
    assert_eq!((&*metadata.name, metadata.label("io.kubernetes.pod.name"), metadata.mounts.len()), ("app", "web-0", 2));
    assert_eq!((metadata.engine.name(), state.containers.malformed()), ("containerd", 0));
}

#[test]
fn a_privileged_container_is_known_by_all_that_it_has() {
    let mut bundle = of_a_pod();
    bundle["process"]["capabilities"]["bounding"] = json!(["CAP_SYS_ADMIN", "CAP_CHOWN"]);
    bundle["linux"]["maskedPaths"] = Value::Null;
    bundle["linux"]["seccomp"] = Value::Null;
    bundle["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
    let privileged = |bundle: &Value| {
        let node = tempfile::tempdir().unwrap();
        write(&node, &format!("{TASK}/{ID}/config.json"), bundle);
        found(&node)["container"]["privileged"] == json!(true)
    };
    assert!(privileged(&bundle));
    for (pointer, value) in [
        ("/process/capabilities/bounding", json!(["CAP_CHOWN"])),
        ("/linux/maskedPaths", json!(["/proc/kcore"])),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ERRNO"})),
        ("/linux/resources/devices/0/type", json!("c")),
    ] {
        let mut changed = bundle.clone();
        match changed.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => changed["linux"]["resources"]["devices"][0]["type"] = value,
        }
        assert!(!privileged(&changed), "{pointer}");
    }
}

#[test]
fn bundles_of_other_runtimes_are_found() {
    let name_and_engine = |node: &TempDir| {
        let document = found(node);
        (document["container"]["name"].clone(), document["container"]["type"].clone())
    };
    let docker = tempfile::tempdir().unwrap();
    write(&docker, &format!("run/containerd/io.containerd.runtime.v2.task/moby/{ID}/config.json"), &json!({}));
    let words = json!({"Name": "/web", "Image": "sha256:9c", "Config": {"Image": "nginx:1", "Labels": {"a": "b"}}});
    write(&docker, &format!("var/lib/docker/containers/{ID}/config.v2.json"), &words);
    assert_eq!(name_and_engine(&docker), (json!("web"), json!(0)));
    let container = found(&docker)["container"].clone();
    assert_eq!((&container["imageid"], &container["labels"]["a"]), (&json!("sha256:9c"), &json!("b")));

    let crio = tempfile::tempdir().unwrap();
    let annotations = json!({
        "io.kubernetes.container.name": "app", "io.kubernetes.pod.name": "web-0",
        "io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.ImageName": "nginx:1",
    });
    let userdata = format!("overlay-containers/{ID}/userdata/config.json");
    write(&crio, &format!("var/lib/containers/storage/{userdata}"), &json!({"annotations": annotations}));
    assert_eq!(name_and_engine(&crio), (json!("app"), json!(8)));
    let podman = tempfile::tempdir().unwrap();
    write(&podman, &format!("run/containers/storage/{userdata}"), &json!({}));
    assert_eq!(name_and_engine(&podman), (json!(""), json!(11)));

    for (path, state) in [
        (format!("run/runc/{ID}/state.json"), json!({"config": {"labels": ["x=y", "bundle=/some/where"]}})),
        (format!("run/crun/{ID}/status"), json!({"bundle": "/some/where"})),
    ] {
        let by_hand = tempfile::tempdir().unwrap();
        write(&by_hand, &path, &state);
        write(&by_hand, "some/where/config.json", &of_a_pod());
        assert_eq!(name_and_engine(&by_hand), (json!("app"), json!(0xffff)), "{path}");
    }
    let elsewhere = tempfile::tempdir().unwrap();
    write(&elsewhere, &format!("mine/any/{ID}/config.json"), &of_a_pod());
    let places = Places { host_root: "/nowhere".into(), tasks: vec![elsewhere.path().join("mine")] };
    assert_eq!(document(&told(places, &pod_cgroup()))["container"]["name"], json!("app"));
}

#[test]
fn a_bundle_that_comes_late_is_told_late() {
    let node = tempfile::tempdir().unwrap();
    let mut bundles = Bundles::start(places(&node)).unwrap();
    let mut told = Vec::new();
    bundles.behind(&record_of_cgroup(&pod_cgroup()), &mut |record| told.push(record.to_vec()));
    until_answered(&mut bundles, &mut told);
    assert!(told.is_empty(), "there is none yet");
    fs::create_dir_all(node.path().join(TASK).join(ID)).unwrap();
    fs::write(node.path().join(TASK).join(ID).join("config.json"), "{\"process\":").unwrap();
    write(&node, &format!("{TASK}/{ID}/config.json"), &of_a_pod());
    while told.is_empty() {
        assert_eq!(bundles.due, 0, "nobody waits for it");
        let answer = bundles.answers.recv().unwrap();
        bundles.take(&answer, &mut |record| told.push(record.to_vec()));
    }
    assert_eq!(document(&told)["container"]["name"], json!("app"));
    assert_eq!((bundles.counts().containers(), bundles.counts().identified()), (1, 1));
}

#[test]
fn a_profile_is_named_by_the_kubelets_file_of_the_same_rules() {
    let node = tempfile::tempdir().unwrap();
    let told_of = |bundle: &Value| -> Value {
        write(&node, &format!("{TASK}/{ID}/config.json"), bundle);
        let records = told(places(&node), &pod_cgroup());
        let Body::SeccompProfile(document) = decode(&records[1]).unwrap().body else { panic!("no profile") };
        serde_json::from_slice(document).unwrap()
    };
    let mut bundle = of_a_pod();
    assert_eq!(told_of(&bundle)["name"], json!("custom"));
    // The kubelet's file has what no bundle has, and another order.
    let file = json!({"architectures": [], "syscalls": [], "defaultErrnoRet": 1, "defaultAction": "SCMP_ACT_ERRNO"});
    write(&node, "var/lib/kubelet/seccomp/other.json", &json!({"defaultAction": "SCMP_ACT_LOG"}));
    write(&node, "var/lib/kubelet/seccomp/team/p.json", &file);
    let profile = told_of(&bundle);
    assert_eq!(profile["name"], json!("Localhost/team/p.json"));
    assert_eq!(
        (&profile["profile"], profile["digest"].as_str().map(str::len)),
        (&bundle["linux"]["seccomp"], Some(64))
    );
    let names: Vec<_> = (0..3000).map(|number| format!("no_such_call_{number}")).collect();
    bundle["linux"]["seccomp"]["syscalls"] = json!([{"names": names, "action": "SCMP_ACT_ALLOW"}]);
    let long = told_of(&bundle);
    assert_eq!(
        (&long["profile"], long["digest"].as_str().map(str::len)),
        (&Value::Null, Some(64)),
        "too long for a record"
    );
    bundle["linux"].as_object_mut().unwrap().remove("seccomp");
    assert_eq!(told_of(&bundle), json!({"name": "Unconfined"}));
}

#[test]
fn a_cgroup_is_asked_for_once_and_only_if_it_is_a_containers_own() {
    let node = tempfile::tempdir().unwrap();
    write(&node, &format!("{TASK}/{ID}/config.json"), &of_a_pod());
    let mut bundles = Bundles::start(places(&node)).unwrap();
    let mut told = Vec::new();
    bundles.listed(&record_of_cgroup(&pod_cgroup()), &mut |record| told.push(record.to_vec()));
    let others = ["/system.slice/ssh.service".to_owned(), format!("{}/init.scope", pod_cgroup())];
    let others = others.map(|path| record::cgroup(1, 10, path.as_bytes()));
    for record in others.into_iter().chain([record_of_cgroup(&pod_cgroup()), record::end(1, 2)]) {
        bundles.behind(&record, &mut |record| told.push(record.to_vec()));
    }
    until_answered(&mut bundles, &mut told);
    assert_eq!((told.len(), bundles.counts().containers()), (2, 1));
}

#[test]
fn what_is_no_bundle_is_not_told() {
    let path = format!("{TASK}/{ID}/config.json");
    for content in [json!([]), json!({"process": 1}), json!({"annotations": {"a": 1}}), json!("x".repeat(2 << 20))] {
        let node = tempfile::tempdir().unwrap();
        write(&node, &path, &content);
        assert!(told(places(&node), &pod_cgroup()).is_empty());
    }
    let node = tempfile::tempdir().unwrap();
    let file = node.path().join(&path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    mknodat(CWD, &file, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    assert!(told(places(&node), &pod_cgroup()).is_empty(), "a pipe does not make anybody wait");
    fs::remove_file(&file).unwrap();
    write(&node, "elsewhere", &of_a_pod());
    std::os::unix::fs::symlink(Path::new("/").join(node.path()).join("elsewhere"), &file).unwrap();
    assert!(told(places(&node), &pod_cgroup()).is_empty(), "a link leads nowhere");
}

#[test]
fn a_huge_bundle_gives_a_document_that_fits_and_still_says_who_it_is() {
    let mut bundle = of_a_pod();
    let long = "\u{1}é".repeat(100);
    let mount = json!({"destination": long, "source": long, "type": "bind", "options": []});
    bundle["mounts"] = Value::Array(vec![mount; 200]);
    bundle["process"]["args"] = Value::Array(vec![json!(long); 200]);
    for number in 0..200 {
        bundle["annotations"][format!("io.kubernetes.cri.x{number}")] = json!(long);
    }
    let node = tempfile::tempdir().unwrap();
    write(&node, &format!("{TASK}/{ID}/config.json"), &bundle);
    let records = told(places(&node), &pod_cgroup());
    assert!(records[0].len() <= DOCUMENT_BYTES + 64, "{}", records[0].len());
    let document = document(&records);
    assert_eq!(document["container"]["labels"]["io.kubernetes.pod.name"], json!("web-0"));
    assert_eq!(document["promises"]["has_more_arguments"], json!(true));
}
