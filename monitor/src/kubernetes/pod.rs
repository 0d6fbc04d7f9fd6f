//! From a pod as the Kubernetes API gives it to the document of a pod record: what is not used (`managedFields`, volumes, environments,
//! conditions) is gone before anything is kept.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};

use crate::{
    record::DOCUMENT_BYTES,
    state::container::pod::{Owner, Pod, PodContainer},
};

/// Longest text that is kept.
const MAX_TEXT: usize = 512;
/// Most labels and containers that are kept.
const MAX_LABELS: usize = 128;
const MAX_CONTAINERS: usize = 64;
/// A pod of the kubelet's own files has another uid in the API than in its cgroup's path; this annotation has that one.
const STATIC_POD: &str = "kubernetes.io/config.hash";

/// A pod, as far as it is used.
#[derive(Debug, Deserialize)]
pub struct Written {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    resource_version: String,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
}

#[derive(Debug, Deserialize)]
struct OwnerReference {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    controller: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    service_account_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    #[serde(rename = "podIP")]
    pod_ip: String,
    init_container_statuses: Option<Vec<ContainerStatus>>,
    container_statuses: Option<Vec<ContainerStatus>>,
    ephemeral_container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerStatus {
    #[serde(rename = "containerID")]
    container_id: String,
    #[serde(rename = "imageID")]
    image_id: String,
}

/// A page of a list of pods.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// Where the list goes on, and what it is a list at.
    pub metadata: PageMetadata,
    /// The pods.
    #[serde(default)]
    pub items: Vec<Written>,
}

/// `metadata` of a page.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PageMetadata {
    /// What a watch begins behind.
    #[serde(default)]
    pub resource_version: String,
    /// What the next page is asked for with; empty for the last.
    #[serde(default, rename = "continue")]
    pub next: String,
}

/// A line of a watch.
#[derive(Debug)]
pub enum Change {
    /// A pod is there, or is another now.
    Is(Written),
    /// It is gone, or not of this node any more.
    Gone(Written),
    /// Nothing: the list is at this version.
    At(String),
    /// The watch has ended with this status.
    Ended(u16, String),
}

impl Change {
    /// Reads a line; `None` for what is none.
    pub fn read(line: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Line<'a> {
            r#type: String,
            #[serde(borrow)]
            object: &'a serde_json::value::RawValue,
        }
        #[derive(Deserialize)]
        struct Ended {
            #[serde(default)]
            code: u16,
            #[serde(default)]
            message: String,
        }
        let line: Line<'_> = serde_json::from_slice(line).ok()?;
        let object = line.object.get();
        let pod = || serde_json::from_str::<Written>(object).ok();
        match &*line.r#type {
            "ADDED" | "MODIFIED" => Some(Self::Is(pod()?)),
            "DELETED" => Some(Self::Gone(pod()?)),
            "BOOKMARK" => Some(Self::At(pod()?.metadata.resource_version)),
            "ERROR" => {
                let Ended { code, message } = serde_json::from_str(object).ok()?;
                Some(Self::Ended(code, message))
            }
            _ => {
                serde_json::from_str::<IgnoredAny>(object).ok()?;
                Some(Self::At(String::new()))
            }
        }
    }
}

impl Written {
    /// Its uid, as the path of its cgroup has it.
    pub fn uid(&self) -> &str {
        let of_file = self.metadata.annotations.as_ref().and_then(|annotations| annotations.get(STATIC_POD));
        of_file.unwrap_or(&self.metadata.uid)
    }

    /// The version of the list that it brought.
    pub fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }

    /// What is kept of it.
    fn pruned(&self) -> Pod {
        let Self { metadata, spec, status } = self;
        let labels = metadata.labels.iter().flatten().take(MAX_LABELS);
        let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        let statuses =
            [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
        let containers = statuses.into_iter().flatten().flatten().filter_map(ContainerStatus::pruned);
        Pod {
            uid: short(self.uid()),
            name: short(&metadata.name),
            namespace: short(&metadata.namespace),
            labels: labels.map(|(key, value)| (short(key), short(value))).collect(),
            owner: owner.map(|owner| Owner { kind: short(&owner.kind), name: short(&owner.name) }),
            service_account: short(&spec.service_account_name),
            ip: short(&status.pod_ip),
            containers: containers.take(MAX_CONTAINERS).collect(),
            has_ended: false,
        }
    }

    /// The document of its record, and whether there was more than fits one.
    pub fn document(&self) -> (Vec<u8>, bool) {
        let mut pod = self.pruned();
        let mut is_cut = self.metadata.labels.as_ref().is_some_and(|labels| labels.len() > MAX_LABELS);
        loop {
            let document = document(&pod);
            if document.len() <= DOCUMENT_BYTES || pod.labels.is_empty() && pod.containers.is_empty() {
                return (document, is_cut);
            }
            is_cut = true;
            let half = pod.labels.len() / 2;
            if pod.labels.is_empty() {
                pod.containers.pop();
            }
            while pod.labels.len() > half {
                pod.labels.pop_last();
            }
        }
    }
}

/// The document that says that a pod is gone.
pub fn end(uid: &str) -> Vec<u8> {
    document(&Pod { uid: short(uid), has_ended: true, ..Pod::default() })
}

fn document(pod: &Pod) -> Vec<u8> {
    // A structure of texts is always JSON.
    serde_json::to_vec(pod).unwrap_or_default()
}

impl ContainerStatus {
    /// One that has been started and whose image has a digest. A bare `sha256:…` is the digest of the image's configuration, which is
    /// another thing.
    fn pruned(&self) -> Option<PodContainer> {
        let (_, id) = self.container_id.split_once("://")?;
        let (_, digest) = self.image_id.rsplit_once('@').unwrap_or_default();
        Some(PodContainer { id: short(id), image_digest: short(digest) })
    }
}

fn short(text: &str) -> String {
    text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3ad7b26ded6d8e7b23da7d48fe889434573036c27ae5a74837233de441c3601e";

    fn full() -> String {
        format!(
            r#"{{"metadata": {{"name": "web-7d4b9c-x2", "namespace": "prod", "uid": "6a2f4c5e-0b1d-4f3a-9c7e-8d5b2a1f0e3c",
            "resourceVersion": "4711", "labels": {{"app": "web", "tier": "front"}}, "annotations": null,
            "managedFields": [{{"manager": "kubelet", "fieldsV1": {{"f:metadata": {{}}}}}}],
            "ownerReferences": [{{"kind": "Thing", "name": "no", "apiVersion": "v1"}},
                {{"kind": "ReplicaSet", "name": "web-7d4b9c", "controller": true}}]}},
          "spec": {{"serviceAccountName": "web", "nodeName": "node-1", "containers": [{{"env": [{{"name": "PASSWORD", "value": "secret"}}]}}]}},
          "status": {{"podIP": "10.244.1.7", "containerStatuses": [
            {{"name": "app", "containerID": "containerd://{ID}", "imageID": "registry.example.com/team/web@sha256:2a0c6f1b"}},
            {{"name": "late", "state": {{"waiting": {{}}}}, "imageID": ""}}],
            "initContainerStatuses": [{{"containerID": "containerd://aa", "imageID": "sha256:5b1c9a2e7f10"}}]}}}}"#
        )
    }

    #[test]
    fn what_is_kept_is_what_findings_and_rules_show() {
        let written: Written = serde_json::from_str(&full()).unwrap();
        let (document, is_cut) = written.document();
        let expected = Pod {
            uid: "6a2f4c5e-0b1d-4f3a-9c7e-8d5b2a1f0e3c".into(),
            name: "web-7d4b9c-x2".into(),
            namespace: "prod".into(),
            labels: [("app".into(), "web".into()), ("tier".into(), "front".into())].into(),
            owner: Some(Owner { kind: "ReplicaSet".into(), name: "web-7d4b9c".into() }),
            service_account: "web".into(),
            ip: "10.244.1.7".into(),
            containers: vec![
                PodContainer { id: "aa".into(), image_digest: String::new() },
                PodContainer { id: ID.into(), image_digest: "sha256:2a0c6f1b".into() },
            ],
            has_ended: false,
        };
        assert_eq!((serde_json::from_slice::<Pod>(&document).unwrap(), is_cut), (expected, false));
        let text = String::from_utf8(document).unwrap();
        assert!(!text.contains("secret") && !text.contains("kubelet") && !text.contains("node-1"), "{text}");
    }

    #[test]
    fn a_pod_of_the_kubelets_files_has_the_uid_of_its_cgroup() {
        let text =
            r#"{"metadata": {"uid": "of-the-api", "annotations": {"kubernetes.io/config.hash": "0123456789abcdef"}}}"#;
        assert_eq!(serde_json::from_str::<Written>(text).unwrap().uid(), "0123456789abcdef");
    }

    #[test]
    fn a_pod_of_any_size_fits_a_record_and_says_that_it_was_cut() {
        let labels: BTreeMap<_, _> =
            (0..1000).map(|n| (format!("{n}{}", "\u{1}".repeat(300)), "\"".repeat(600))).collect();
        let pod = serde_json::json!({"metadata": {"uid": "u", "name": "é".repeat(400), "labels": labels}});
        let written: Written = serde_json::from_value(pod).unwrap();
        let (document, is_cut) = written.document();
        assert!(document.len() <= DOCUMENT_BYTES && is_cut, "{}", document.len());
        let pod: Pod = serde_json::from_slice(&document).unwrap();
        assert!(!pod.labels.is_empty() && pod.uid == "u");
    }

    #[test]
    fn lines_of_a_watch_are_told_apart() {
        let line =
            |kind: &str, object: &str| Change::read(format!(r#"{{"type":"{kind}","object":{object}}}"#).as_bytes());
        assert!(matches!(line("ADDED", &full()), Some(Change::Is(pod)) if pod.resource_version() == "4711"));
        assert!(matches!(line("MODIFIED", &full()), Some(Change::Is(_))));
        assert!(matches!(line("DELETED", &full()), Some(Change::Gone(_))));
        let bookmark = r#"{"kind":"Pod","metadata":{"resourceVersion":"12746","creationTimestamp":null},"spec":{"containers":null}}"#;
        assert!(matches!(line("BOOKMARK", bookmark), Some(Change::At(version)) if version == "12746"));
        let status = r#"{"kind":"Status","code":410,"message":"too old resource version: 1 (2)"}"#;
        assert!(matches!(line("ERROR", status), Some(Change::Ended(410, message)) if message.contains("too old")));
        assert!(matches!(line("LATER", "{}"), Some(Change::At(version)) if version.is_empty()), "of a newer API");
        for none in
            ["", "{}", "[]", r#"{"type":"ADDED"}"#, r#"{"type":"ADDED","object":[]}"#, r#"{"type":"ADDED","object":{"#]
        {
            assert!(Change::read(none.as_bytes()).is_none(), "{none}");
        }
    }
}
