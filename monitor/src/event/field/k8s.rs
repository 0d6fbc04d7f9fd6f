//! `k8s.*` and `k8smeta.*`: the pod that the container belongs to. Tabular.

use super::{Source, fields};
use crate::{event::value::Value, state::container::Container};

fields! {
    "k8s.pod.name", Text, [], None, "Label io.kubernetes.pod.name.", "web-7d4b9c"
        => Source::Awaited;
    "k8s.ns.name", Text, [], None, "Label io.kubernetes.pod.namespace.", "default"
        => Source::Awaited;
    "k8s.pod.id", Text, [], None, "Alias of k8s.pod.uid.", "6a2f4c5e-0b1d-4f3a-9c7e-8d5b2a1f0e3c"
        => Source::One(|c, _| c.container.and_then(pod_uid));
    "k8s.pod.uid", Text, [], None, "Label io.kubernetes.pod.uid.", "6a2f4c5e-0b1d-4f3a-9c7e-8d5b2a1f0e3c"
        => Source::One(|c, _| c.container.and_then(pod_uid));
    "k8s.pod.sandbox_id", Text, [], None, "Sandbox id, 12 chars.", "77aa02cc10be"
        => Source::Refused("container metadata is not read yet");
    "k8s.pod.full_sandbox_id", Text, [], None, "Sandbox id.", "77aa02cc10be8e7b23da7d48fe889434573036c27ae5a74837233de441c3601e"
        => Source::Refused("container metadata is not read yet");
    "k8s.pod.label", Text, [], Needed, "One pod (sandbox) label.", "web"
        => Source::Refused("container metadata is not read yet");
    "k8s.pod.labels", Text, [], None, "All pod labels.", "app:web,tier:front"
        => Source::Refused("container metadata is not read yet");
    "k8s.pod.ip", Text, [], None, "Pod IPv4 (own or sandbox container ip).", "10.244.1.7"
        => Source::Refused("container metadata is not read yet");
    "k8s.pod.cni.json", Text, [], None, "CNI result of sandbox.", "{}"
        => Source::Refused("container metadata is not read yet");
    "k8s.rc.name", Text, [DEPRECATED], None, "Deprecated, always null.", "web"
        => Source::Never;
    "k8s.rc.id", Text, [DEPRECATED], None, "Deprecated, always null.", "web"
        => Source::Never;
    "k8s.rc.label", Text, [DEPRECATED], Needed, "Deprecated, always null.", "web"
        => Source::Never;
    "k8s.rc.labels", Text, [DEPRECATED], None, "Deprecated, always null.", "web"
        => Source::Never;
    "k8s.svc.name", Text, [DEPRECATED], None, "Deprecated, always null.", "web"
        => Source::Never;
    "k8s.svc.id", Text, [DEPRECATED], None, "Deprecated, always null.", "web"
        => Source::Never;
    "k8s.svc.label", Text, [DEPRECATED], Needed, "Deprecated, always null.", "web"
        => Source::Never;
    "k8s.svc.labels", Text, [DEPRECATED], None, "Deprecated, always null.", "web"
        => Source::Never;
    "k8s.ns.id", Text, [DEPRECATED], None, "Deprecated, always null.", "web"
        => Source::Never;
    "k8s.ns.label", Text, [DEPRECATED], Needed, "Deprecated, always null.", "web"
        => Source::Never;
    "k8s.ns.labels", Text, [DEPRECATED], None, "Deprecated, always null.", "web"
        => Source::Never;
    "k8s.rs.name", Text, [DEPRECATED], None, "Deprecated, always null.", "web"
        => Source::Never;
    "k8s.rs.id", Text, [DEPRECATED], None, "Deprecated, always null.", "web"
        => Source::Never;
    "k8s.rs.label", Text, [DEPRECATED], Needed, "Deprecated, always null.", "web"
        => Source::Never;
    "k8s.rs.labels", Text, [DEPRECATED], None, "Deprecated, always null.", "web"
        => Source::Never;
    "k8s.deployment.name", Text, [DEPRECATED], None, "Deprecated, always null.", "web"
        => Source::Never;
    "k8s.deployment.id", Text, [DEPRECATED], None, "Deprecated, always null.", "web"
        => Source::Never;
    "k8s.deployment.label", Text, [DEPRECATED], Needed, "Deprecated, always null.", "web"
        => Source::Never;
    "k8s.deployment.labels", Text, [DEPRECATED], None, "Deprecated, always null.", "web"
        => Source::Never;
    "k8smeta.pod.name", Text, [], None, "Name (pod of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.pod.uid", Text, [], None, "Uid (pod of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.pod.label", Text, [], Needed, "One label by key (pod of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.pod.labels", Text, [], None, "All labels (pod of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.pod.ip", Text, [], None, "Ip (pod of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.ns.name", Text, [], None, "Name (namespace of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.ns.uid", Text, [], None, "Uid (namespace of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.ns.label", Text, [], Needed, "One label by key (namespace of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.ns.labels", Text, [], None, "All labels (namespace of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.deployment.name", Text, [], None, "Name (deployment of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.deployment.uid", Text, [], None, "Uid (deployment of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.deployment.label", Text, [], Needed, "One label by key (deployment of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.deployment.labels", Text, [], None, "All labels (deployment of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.svc.name", Text, [LIST], None, "Name (services of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.svc.uid", Text, [LIST], None, "Uid (services of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.svc.label", Text, [LIST], Needed, "One label by key (services of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.svc.labels", Text, [LIST], None, "All labels (services of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.rs.name", Text, [], None, "Name (replica set of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.rs.uid", Text, [], None, "Uid (replica set of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.rs.label", Text, [], Needed, "One label by key (replica set of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.rs.labels", Text, [], None, "All labels (replica set of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.rc.name", Text, [], None, "Name (replication controller of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.rc.uid", Text, [], None, "Uid (replication controller of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.rc.label", Text, [], Needed, "One label by key (replication controller of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.rc.labels", Text, [], None, "All labels (replication controller of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
}

fn pod_uid(container: &Container) -> Option<Value<'_>> {
    (!container.pod_uid.is_empty()).then(|| Value::text(&container.pod_uid))
}
