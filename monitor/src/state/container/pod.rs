//! Pods, as the Kubernetes API tells of them: what no bundle says.
//!
//! The agent watches the pods of its node and puts what it learns into the stream, one record for each change. Here is the last of
//! each pod. It comes when it comes: nothing waits for it, and an event that was earlier has not got it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{metadata::Labels, recent::Recent};

/// Pods that may be known at once. A kubelet runs 110 by default, and some hundreds at most.
pub const MAX_PODS: usize = 512;
/// Pods that are gone and whose last events may still come.
const MAX_ENDED: usize = 128;

/// A pod. What was not told is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Uid, as the cgroup's path has it.
    pub uid: String,
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Labels.
    pub labels: Labels,
    /// Who made it: the owner that is its controller.
    pub owner: Option<Owner>,
    /// Service account that it runs as.
    pub service_account: String,
    /// Address.
    pub ip: String,
    /// Its containers, as far as they have been started.
    pub containers: Vec<PodContainer>,
    /// Whether it is gone.
    pub has_ended: bool,
}

/// What controls a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Owner {
    /// Such as `ReplicaSet`.
    pub kind: String,
    /// Name.
    pub name: String,
}

/// A container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodContainer {
    /// Full id.
    pub id: String,
    /// Digest of its image.
    pub image_digest: String,
}

impl Pod {
    /// Digest of the image that a container of it runs.
    pub fn image_digest(&self, container_id: &str) -> Option<&str> {
        let container = self.containers.iter().find(|container| container.id == container_id)?;
        Some(&*container.image_digest).filter(|digest| !digest.is_empty())
    }
}

/// Pods by uid.
#[derive(Debug, Default)]
pub(super) struct Pods {
    current: Recent<Arc<str>, Pod, MAX_PODS>,
    /// Apart, so that pods that come and go push out no pod that stays.
    ended: Recent<Arc<str>, Pod, MAX_ENDED>,
}

impl Pods {
    pub(super) fn get(&self, uid: &str) -> Option<&Pod> {
        if uid.is_empty() {
            return None;
        }
        self.current.get(uid).or_else(|| self.ended.get(uid))
    }

    /// Takes in a document; `false` for one that is none.
    pub(super) fn tell(&mut self, json: &[u8]) -> bool {
        // An array would be taken for a structure without keys.
        if !json.starts_with(b"{") {
            return false;
        }
        let Some(pod) = serde_json::from_slice::<Pod>(json).ok().filter(|pod| !pod.uid.is_empty()) else {
            return false;
        };
        let uid: Arc<str> = pod.uid.as_str().into();
        if !pod.has_ended {
            self.ended.remove(&*uid);
            self.current.insert(uid, pod);
        } else if let Some(known) = self.current.remove(&*uid) {
            self.ended.insert(uid, Pod { has_ended: true, ..known });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        record::{self, builder},
        state::State,
    };

    const UID: &str = "6a2f4c5e-0b1d-4f3a-9c7e-8d5b2a1f0e3c";

    fn tell(pods: &mut Pods, uid: &str, has_ended: bool) {
        let labels = [("app".to_owned(), format!("of {uid}"))].into();
        let labels = if has_ended { Labels::new() } else { labels };
        let pod = Pod { uid: uid.to_owned(), labels, has_ended, ..Pod::default() };
        assert!(pods.tell(&serde_json::to_vec(&pod).unwrap()));
    }

    #[test]
    fn a_pod_that_is_gone_is_known_for_a_while_and_pushes_out_none_that_stays() {
        let mut pods = Pods::default();
        tell(&mut pods, UID, false);
        for number in 0..10 * MAX_PODS {
            tell(&mut pods, &number.to_string(), false);
            tell(&mut pods, &number.to_string(), true);
        }
        assert_eq!(pods.get(UID).unwrap().labels.get("app").unwrap(), &format!("of {UID}"));
        let last = (10 * MAX_PODS - 1).to_string();
        assert!(pods.get(&last).unwrap().has_ended && pods.get("0").is_none());
        assert_eq!(pods.get(&last).unwrap().labels.len(), 1, "what was known of it stays");
        assert!(pods.get("").is_none());
    }

    #[test]
    fn more_pods_than_a_node_can_have_are_bounded() {
        let mut pods = Pods::default();
        for number in 0..2 * MAX_PODS {
            tell(&mut pods, &number.to_string(), false);
        }
        assert_eq!(pods.current.values().count(), MAX_PODS);
    }

    #[test]
    fn what_is_no_pod_is_counted() {
        let mut state = State::default();
        for (number, document) in
            ["", "[]", "{}", r#"{"uid":7}"#, r#"{"uid":"a","labels":{"a":1}}"#, "{"].into_iter().enumerate()
        {
            builder::apply(&mut state, &record::pod(1, document.as_bytes()));
            assert_eq!(state.containers.malformed(), number as u64 + 1, "{document}");
        }
    }
}
