//! What a running agent tells of itself over gRPC.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::watch;

use super::rule_files::Digest;
use crate::{
    output::service::Status,
    pipeline::Summary,
    proto::v1::{GetInfoResponse, GetStatusResponse, ListRulesResponse, RuleInUse},
    record,
    rules::RuleSet,
    sensor::stats::Stats,
};

/// The rules in use, as others see them.
#[derive(Debug)]
pub(super) struct RulesInUse {
    rules: Vec<RuleInUse>,
    /// What identifies their files.
    pub(super) digest: Digest,
}

impl RulesInUse {
    /// Of these rules.
    pub(super) fn new(rules: &RuleSet, digest: Digest) -> Arc<Self> {
        let listed = rules.rules().map(|rule| RuleInUse {
            name: rule.name.clone(),
            priority: rule.priority.into(),
            tags: rule.tags.clone(),
            description: rule.desc.clone(),
        });
        Arc::new(Self { rules: listed.collect(), digest })
    }

    /// The record that says that they apply from here on.
    pub(super) fn record(&self, ktime_ns: u64) -> Vec<u8> {
        record::rules(ktime_ns, self.digest.bytes(), self.count())
    }

    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.rules.len()).unwrap_or(u32::MAX)
    }
}

/// Counts and facts, written by the flow and read by the gRPC server.
pub(super) struct AgentStatus {
    info: GetInfoResponse,
    stats: Stats,
    records: AtomicU64,
    findings: AtomicU64,
    lost_findings: AtomicU64,
    rules: Mutex<Arc<RulesInUse>>,
    rules_reloads: AtomicU64,
    rules_reload_failures: AtomicU64,
    sensor: watch::Sender<bool>,
}

impl AgentStatus {
    /// At the start, of the agent that `epoch` names.
    pub(super) fn new(node_name: Option<String>, epoch: &str, stats: Stats, rules: Arc<RulesInUse>) -> Self {
        let uname = rustix::system::uname();
        let info = GetInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: node_name.unwrap_or_else(|| uname.nodename().to_string_lossy().into_owned()),
            kernel_release: uname.release().to_string_lossy().into_owned(),
            epoch: epoch.to_owned(),
            rules: Vec::new(),
        };
        Self {
            info,
            stats,
            records: AtomicU64::new(0),
            findings: AtomicU64::new(0),
            lost_findings: AtomicU64::new(0),
            rules: Mutex::new(rules),
            rules_reloads: AtomicU64::new(0),
            rules_reload_failures: AtomicU64::new(0),
            sensor: watch::Sender::new(true),
        }
    }

    /// What came out so far.
    pub(super) fn update(&self, summary: &Summary, lost_findings: u64) {
        self.records.store(summary.records, Ordering::Relaxed);
        self.findings.store(summary.findings, Ordering::Relaxed);
        self.lost_findings.store(lost_findings, Ordering::Relaxed);
    }

    /// The rules in use.
    pub(super) fn rules(&self) -> Arc<RulesInUse> {
        Arc::clone(&self.rules.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Other rules are in use.
    pub(super) fn rules_reloaded(&self, rules: Arc<RulesInUse>) {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = rules;
        self.rules_reloads.fetch_add(1, Ordering::Relaxed);
    }

    /// Rules were read and refused.
    pub(super) fn rules_refused(&self) {
        self.rules_reload_failures.fetch_add(1, Ordering::Relaxed);
    }
}

impl Status for AgentStatus {
    fn info(&self) -> GetInfoResponse {
        let rules = self.rules().rules.iter().map(|rule| rule.name.clone()).collect();
        GetInfoResponse { rules, ..self.info.clone() }
    }

    fn status(&self) -> GetStatusResponse {
        let total = self.stats.read().total();
        GetStatusResponse {
            records: self.records.load(Ordering::Relaxed),
            findings: self.findings.load(Ordering::Relaxed),
            lost_records: total.lost(),
            filtered_records: total.filtered,
            lost_findings: self.lost_findings.load(Ordering::Relaxed),
            rules_reloads: self.rules_reloads.load(Ordering::Relaxed),
            rules_reload_failures: self.rules_reload_failures.load(Ordering::Relaxed),
            rules_digest: self.rules().digest.to_string(),
            ..GetStatusResponse::default()
        }
    }

    fn rules(&self) -> ListRulesResponse {
        ListRulesResponse { rules: self.rules().rules.clone() }
    }

    fn sensor(&self) -> watch::Receiver<bool> {
        self.sensor.subscribe()
    }
}
