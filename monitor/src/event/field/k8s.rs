//! `k8s.*` and `k8smeta.*`: the pod that the container belongs to. Tabular.

use super::{
    Source,
    container::{known, label, labels},
    fields,
};
use crate::{
    context::Context,
    event::value::Value,
    state::container::{metadata::Metadata, pod::Pod},
};

fields! {
    "k8s.pod.name", Text, [], None, "Label io.kubernetes.pod.name.", "web-7d4b9c"
        => Source::One(|c, _| own_label(c, "io.kubernetes.pod.name").or_else(|| told(c, |pod| &pod.name)));
    "k8s.ns.name", Text, [], None, "Label io.kubernetes.pod.namespace.", "default"
        => Source::One(|c, _| own_label(c, "io.kubernetes.pod.namespace").or_else(|| told(c, |pod| &pod.namespace)));
    "k8s.pod.id", Text, [], None, "Alias of k8s.pod.uid.", "6a2f4c5e-0b1d-4f3a-9c7e-8d5b2a1f0e3c"
        => Source::One(|c, _| pod_uid(c));
    "k8s.pod.uid", Text, [], None, "Label io.kubernetes.pod.uid.", "6a2f4c5e-0b1d-4f3a-9c7e-8d5b2a1f0e3c"
        => Source::One(|c, _| pod_uid(c));
    "k8s.pod.sandbox_id", Text, [], None, "Sandbox id, 12 chars.", "77aa02cc10be"
        => Source::One(|c, _| known(c).map(|m| Value::text(short_sandbox_id(m))));
    "k8s.pod.full_sandbox_id", Text, [], None, "Sandbox id.", "77aa02cc10be8e7b23da7d48fe889434573036c27ae5a74837233de441c3601e"
        => Source::One(|c, _| known(c).map(|m| Value::text(&m.sandbox_id)));
    "k8s.pod.label", Text, [API], Needed, "One pod (sandbox) label.", "web"
        => Source::One(|c, argument| {
            if let Some(pod) = c.pod() {
                return label(&pod.labels, argument);
            }
            let own = known(c)?;
            let of_sandbox = sandbox(c, own).and_then(|sandbox| label(&sandbox.sandbox_labels, argument));
            of_sandbox.or_else(|| label(&own.sandbox_labels, argument))
        });
    "k8s.pod.labels", Text, [API], None, "All pod labels.", "app:web,tier:front"
        => Source::One(|c, _| {
            if let Some(pod) = c.pod() {
                return Some(labels(&pod.labels));
            }
            let own = known(c)?;
            Some(labels(&sandbox(c, own).unwrap_or(own).sandbox_labels))
        });
    "k8s.pod.ip", Text, [API], None, "Pod IPv4 (own or sandbox container ip).", "10.244.1.7"
        => Source::One(|c, _| told(c, |pod| &pod.ip).or_else(|| teller(c).map(|m| Value::text(&m.ip))));
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
    "k8smeta.pod.name", Text, [API], None, "Name (pod of the thread pod).", "web"
        => Source::One(|c, _| told(c, |pod| &pod.name));
    "k8smeta.pod.uid", Text, [API], None, "Uid (pod of the thread pod).", "web"
        => Source::One(|c, _| told(c, |pod| &pod.uid));
    "k8smeta.pod.label", Text, [API], Needed, "One label by key (pod of the thread pod).", "web"
        => Source::One(|c, argument| label(&c.pod()?.labels, argument));
    "k8smeta.pod.labels", Text, [API], None, "All labels (pod of the thread pod).", "web"
        => Source::One(|c, _| c.pod().map(|pod| labels(&pod.labels)));
    "k8smeta.pod.ip", Text, [API], None, "Ip (pod of the thread pod).", "web"
        => Source::One(|c, _| told(c, |pod| &pod.ip));
    "k8smeta.ns.name", Text, [API], None, "Name (namespace of the thread pod).", "web"
        => Source::One(|c, _| told(c, |pod| &pod.namespace));
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
    "k8smeta.rs.name", Text, [API], None, "Name (replica set of the thread pod).", "web"
        => Source::One(|c, _| owner(c, "ReplicaSet"));
    "k8smeta.rs.uid", Text, [], None, "Uid (replica set of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.rs.label", Text, [], Needed, "One label by key (replica set of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.rs.labels", Text, [], None, "All labels (replica set of the thread pod, from k8s-metacollector).", "web"
        => Source::Refused("it needs the k8s-metacollector, which is not used here: see k8s.*");
    "k8smeta.rc.name", Text, [API], None, "Name (replication controller of the thread pod).", "web"
        => Source::One(|c, _| owner(c, "ReplicationController"));
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

/// What the Kubernetes API says of the pod.
fn told<'c>(c: &'c Context<'_>, value: fn(&Pod) -> &String) -> Option<Value<'c>> {
    c.pod().map(value).filter(|text| !text.is_empty()).map(Value::text)
}

/// Name of what controls the pod, if it is of this kind.
fn owner<'c>(c: &'c Context<'_>, kind: &str) -> Option<Value<'c>> {
    c.pod()?.owner.as_ref().filter(|owner| owner.kind == kind).map(|owner| Value::text(&owner.name))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{Field, Fields as _},
        Value,
    };
    use crate::{
        context::{Context, Evidence},
        decode::decode,
        event::field::Argument,
        record::{self, builder},
        state::State,
    };

    const ID: &str = "3ad7b26ded6d8e7b23da7d48fe889434573036c27ae5a74837233de441c3601e";
    const POD: &str = "6a2f4c5e-0b1d-4f3a-9c7e-8d5b2a1f0e3c";
    const CGROUP: u64 = 9;

    /// What these fields are of a program in a container of the pod, after records.
    fn values<const N: usize>(records: &[Vec<u8>], names: [&str; N]) -> [Option<String>; N] {
        let mut state = State::default();
        builder::apply(&mut state, &record::cgroup(1, CGROUP, format!("/kubepods/pod{POD}/{ID}\0").as_bytes()));
        for record in records {
            builder::apply(&mut state, record);
        }
        let bytes = builder::exec_with(7, 1, "/bin/sh", &["sh"], |record| record.header.cgroup_id = CGROUP);
        let event = decode(&bytes).unwrap();
        state.apply(&event);
        let context = Context::new(&state, &event, 1, Evidence::Event).unwrap();
        names.map(|name| {
            let (name, key) = name.strip_suffix(']').and_then(|name| name.split_once('[')).unwrap_or((name, ""));
            let argument = if key.is_empty() { Argument::None } else { Argument::Key(key.into()) };
            context.value(Field::find(name).unwrap(), &argument).map(|value| match value {
                Value::Text(text) => String::from_utf8(text.into_owned()).unwrap(),
                other => panic!("{other:?}"),
            })
        })
    }

    #[test]
    fn what_the_api_says_of_the_pod_is_in_fields_and_what_it_does_not_is_null() {
        const NAMES: [&str; 9] = [
            "k8s.pod.name",
            "k8s.ns.name",
            "k8s.pod.label[app]",
            "k8s.pod.label[no]",
            "k8s.pod.ip",
            "k8smeta.rs.name",
            "k8smeta.rc.name",
            "k8smeta.pod.uid",
            "container.image.digest",
        ];
        let pod = json!({"uid": POD, "name": "web-0", "namespace": "prod", "labels": {"app": "web"}, "ip": "10.244.1.7",
            "owner": {"kind": "ReplicaSet", "name": "web-7d"}, "containers": [{"id": ID, "image_digest": "sha256:2a"}]});
        let pod = record::pod(1, pod.to_string().as_bytes());
        let some = |text: &str| Some(text.to_owned());
        let expected = [
            some("web-0"),
            some("prod"),
            some("web"),
            None,
            some("10.244.1.7"),
            some("web-7d"),
            None,
            some(POD),
            some("sha256:2a"),
        ];
        assert_eq!(values(std::slice::from_ref(&pod), NAMES), expected);
        assert_eq!(values(&[], NAMES), [const { None }; 9]);
        let other = record::pod(1, json!({"uid": "other", "labels": {"app": "web"}}).to_string().as_bytes());
        assert_eq!(values(&[other], NAMES), [const { None }; 9], "a pod of another uid says nothing");
        let told = json!({"container": {"id": &ID[..12], "imagedigest": "sha256:of-the-reference",
            "labels": {"io.kubernetes.pod.name": "of-the-bundle"}}});
        let told = record::container(1, CGROUP, told.to_string().as_bytes());
        let [name, digest] = values(&[pod, told], ["k8s.pod.name", "container.image.digest"]);
        assert_eq!(
            (name, digest),
            (some("of-the-bundle"), some("sha256:of-the-reference")),
            "the runtime knows better"
        );
    }
}
