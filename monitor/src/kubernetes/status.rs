//! What is known of the client: for metrics and health.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Counters, and how things stand.
#[derive(Debug, Default)]
pub struct Status {
    /// Whether the node's pods are to be watched.
    asked_for_pods: AtomicBool,
    /// Whether the node's pods are watched now.
    watching: AtomicBool,
    pods: AtomicU64,
    records: AtomicU64,
    cut: AtomicU64,
    refused: AtomicU64,
    taints_removed: AtomicU64,
    condition_writes: AtomicU64,
    failed_open: AtomicU64,
    /// Failures by kind, and the last one as long as it lasts.
    failures: Mutex<(BTreeMap<&'static str, u64>, Option<String>)>,
}

impl Status {
    /// The node's pods are to be watched.
    pub fn ask_for_pods(&self) {
        self.asked_for_pods.store(true, Ordering::Relaxed);
    }

    /// Whether they are.
    pub fn is_asked_for_pods(&self) -> bool {
        self.asked_for_pods.load(Ordering::Relaxed)
    }

    /// Pods that are known now, and documents that were cut or found no place so far.
    pub fn set_pods(&self, pods: usize, (cut, refused): (u64, u64)) {
        self.pods.store(pods as u64, Ordering::Relaxed);
        self.cut.store(cut, Ordering::Relaxed);
        self.refused.store(refused, Ordering::Relaxed);
    }

    /// A record went into the stream.
    pub fn count_record(&self) {
        self.records.fetch_add(1, Ordering::Relaxed);
    }

    /// The pods are watched.
    pub fn watches(&self) {
        self.watching.store(true, Ordering::Relaxed);
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).1 = None;
    }

    /// Something failed.
    pub fn failed(&self, kind: &'static str, why: &str) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        *failures.0.entry(kind).or_default() += 1;
        failures.1 = Some(why.to_owned());
    }

    /// The pods are not watched any more.
    pub fn lost_watch(&self) {
        self.watching.store(false, Ordering::Relaxed);
    }

    /// The startup taint was removed.
    pub fn removed_taint(&self, is_fail_open: bool) {
        self.taints_removed.fetch_add(1, Ordering::Relaxed);
        self.failed_open.fetch_add(is_fail_open.into(), Ordering::Relaxed);
    }

    /// The node's condition was written.
    pub fn wrote_condition(&self) {
        self.condition_writes.fetch_add(1, Ordering::Relaxed);
    }

    /// Why the pods are not watched, if they are not.
    pub fn why_not(&self) -> Option<String> {
        let why = self.failures.lock().unwrap_or_else(PoisonError::into_inner).1.clone();
        (!self.watching.load(Ordering::Relaxed))
            .then(|| why.unwrap_or_else(|| "the API has not answered yet".to_owned()))
    }

    /// Whether the pods are watched.
    pub fn is_watching(&self) -> bool {
        self.watching.load(Ordering::Relaxed)
    }

    /// Failures by kind.
    pub fn failures(&self) -> Vec<(&'static str, u64)> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.0.iter().map(|(kind, count)| (*kind, *count)).collect()
    }

    /// Pods that are known.
    pub fn pods(&self) -> u64 {
        self.pods.load(Ordering::Relaxed)
    }

    /// Records that went into the stream.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Documents that had to be cut, and times that a pod found no place.
    pub fn losses(&self) -> (u64, u64) {
        (self.cut.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }

    /// Times that the taint was removed, those without being ready among them, and that the condition was written.
    pub fn node(&self) -> (u64, u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (of(&self.taints_removed), of(&self.failed_open), of(&self.condition_writes))
    }
}
