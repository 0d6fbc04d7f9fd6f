//! `k8s.*` and `k8smeta.*`: the pod that the container belongs to. Tabular.

use super::{
    Source,
    container::{known, label, labels},
    fields,
};
use crate::{context::Context, event::value::Value, state::container::metadata::Metadata};

fields! {
    "k8s.pod.name", Text, [], None, "Label io.kubernetes.pod.name.", "web-7d4b9c"
        => Source::One(|c, _| own_label(c, "io.kubernetes.pod.name"));
    "k8s.ns.name", Text, [], None, "Label io.kubernetes.pod.namespace.", "default"
        => Source::One(|c, _| own_label(c, "io.kubernetes.pod.namespace"));
    "k8s.pod.id", Text, [], None, "Alias of k8s.pod.uid.", "6a2f4c5e-0b1d-4f3a-9c7e-8d5b2a1f0e3c"
        => Source::One(|c, _| pod_uid(c));
    "k8s.pod.uid", Text, [], None, "Label io.kubernetes.pod.uid.", "6a2f4c5e-0b1d-4f3a-9c7e-8d5b2a1f0e3c"
        => Source::One(|c, _| pod_uid(c));
    "k8s.pod.sandbox_id", Text, [], None, "Sandbox id, 12 chars.", "77aa02cc10be"
        => Source::One(|c, _| known(c).map(|m| Value::text(short_sandbox_id(m))));
    "k8s.pod.full_sandbox_id", Text, [], None, "Sandbox id.", "77aa02cc10be8e7b23da7d48fe889434573036c27ae5a74837233de441c3601e"
        => Source::One(|c, _| known(c).map(|m| Value::text(&m.sandbox_id)));
    "k8s.pod.label", Text, [CAPTURE], Needed, "One pod (sandbox) label.", "web"
        => Source::One(|c, argument| {
            let own = known(c)?;
            let of_sandbox = sandbox(c, own).and_then(|sandbox| label(&sandbox.sandbox_labels, argument));
            of_sandbox.or_else(|| label(&own.sandbox_labels, argument))
        });
    "k8s.pod.labels", Text, [CAPTURE], None, "All pod labels.", "app:web,tier:front"
        => Source::One(|c, _| {
            let own = known(c)?;
            Some(labels(&sandbox(c, own).unwrap_or(own).sandbox_labels))
        });
    "k8s.pod.ip", Text, [CAPTURE], None, "Pod IPv4 (own or sandbox container ip).", "10.244.1.7"
        => Source::One(|c, _| teller(c).map(|m| Value::text(&m.ip)));
    "k8s.pod.cni.json", Text, [CAPTURE], None, "CNI result of sandbox.", "{}"
        => Source::One(|c, _| teller(c).map(|m| Value::text(&m.cni_json)));
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

fn own_label<'c>(c: &'c Context<'_>, key: &str) -> Option<Value<'c>> {
    known(c)?.labels.get(key).map(Value::text)
}

fn pod_uid<'c>(c: &'c Context<'_>) -> Option<Value<'c>> {
    match c.container {
        Some(container) => Some(&container.pod_uid).filter(|uid| !uid.is_empty()).map(Value::text),
        None => own_label(c, "io.kubernetes.pod.uid"),
    }
}

fn short_sandbox_id(metadata: &Metadata) -> &str {
    const SHORT_DIGITS: usize = 12;
    metadata.sandbox_id.get(..SHORT_DIGITS).unwrap_or(&metadata.sandbox_id)
}

/// The container that stands for the pod, where this one does not know of the pod's network itself. One that names no such
/// container has the host's entry, as with Falco.
fn sandbox<'c>(c: &'c Context<'_>, own: &Metadata) -> Option<&'c Metadata> {
    own.cni_json.is_empty().then(|| c.state.containers.metadata(short_sandbox_id(own)))?
}

/// Who knows of the pod's network: the container itself, or the one that stands for the pod.
fn teller<'c>(c: &'c Context<'_>) -> Option<&'c Metadata> {
    let own = known(c)?;
    if own.cni_json.is_empty() { sandbox(c, own) } else { Some(own) }
}
