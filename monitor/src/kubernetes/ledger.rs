//! What has been told of pods: only what is new becomes a record.
//!
//! A watch that begins anew lists every pod again, and most changes of a pod (probes, conditions) are of nothing that is kept.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
};

use super::pod::{self, Written};
use crate::state::container::pod::MAX_PODS;

/// Pods by uid, with a digest of what was told of each.
#[derive(Debug, Default)]
pub struct Ledger {
    told: HashMap<String, u64>,
    hasher: RandomState,
    /// Documents that had to be cut.
    cut: u64,
    /// Pods that found no place.
    refused: u64,
}

impl Ledger {
    /// The document of a pod of which there is news.
    pub fn is(&mut self, pod: &Written) -> Option<Vec<u8>> {
        let uid = pod.uid();
        if uid.is_empty() {
            return None;
        }
        if self.told.len() >= MAX_PODS && !self.told.contains_key(uid) {
            self.refused += 1;
            return None;
        }
        let (document, is_cut) = pod.document();
        let digest = self.hasher.hash_one(&document);
        if self.told.insert(uid.to_owned(), digest) == Some(digest) {
            return None;
        }
        self.cut += u64::from(is_cut);
        Some(document)
    }

    /// The document that says that a pod is gone, if it was told of.
    pub fn gone(&mut self, uid: &str) -> Option<Vec<u8>> {
        self.told.remove(uid).map(|_| pod::end(uid))
    }

    /// The same of all that a full list has not.
    pub fn retain(&mut self, listed: &HashSet<String>) -> Vec<Vec<u8>> {
        let gone: Vec<_> = self.told.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
        gone.iter().filter_map(|uid| self.gone(uid)).collect()
    }

    /// Pods that are known.
    pub fn len(&self) -> usize {
        self.told.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// Documents that had to be cut, and times that a pod found no place.
    pub const fn losses(&self) -> (u64, u64) {
        (self.cut, self.refused)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::state::container::pod::Pod;

    fn written(uid: &str, label: &str, version: u32) -> Written {
        let metadata = json!({"uid": uid, "labels": {"app": label}, "resourceVersion": version.to_string()});
        serde_json::from_value(json!({"metadata": metadata, "status": {"conditions": [version]}})).unwrap()
    }

    #[test]
    fn only_what_is_new_is_told() {
        let mut ledger = Ledger::default();
        assert!(ledger.is(&written("a", "x", 1)).is_some());
        assert!(ledger.is(&written("a", "x", 2)).is_none(), "nothing that is kept has changed");
        assert!(ledger.is(&written("a", "y", 3)).is_some());
        assert!(ledger.is(&written("", "y", 3)).is_none());
        assert!(ledger.is(&written("b", "x", 4)).is_some());
        let gone = ledger.retain(&HashSet::from(["b".to_owned()]));
        assert_eq!(gone.len(), 1);
        let pod: Pod = serde_json::from_slice(&gone[0]).unwrap();
        assert!(pod.uid == "a" && pod.has_ended);
        assert!(ledger.gone("a").is_none() && ledger.gone("b").is_some() && ledger.is_empty());
        assert!(ledger.is(&written("b", "x", 5)).is_some(), "one that comes again is told again");
    }

    #[test]
    fn pods_without_a_place_are_counted() {
        let mut ledger = Ledger::default();
        for number in 0..MAX_PODS + 3 {
            ledger.is(&written(&number.to_string(), "x", 1));
        }
        assert_eq!((ledger.len(), ledger.losses()), (MAX_PODS, (0, 3)));
    }
}
