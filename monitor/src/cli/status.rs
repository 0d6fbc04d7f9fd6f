//! What a running agent tells of itself over gRPC.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{account, profile_sync::ProfilesStatus, rule_files::Digest};
use crate::{
    kubernetes,
    output::{
        metrics::Page,
        outputs::OutputStatus,
        push::SinkState,
        service::{Part, SENSOR_SERVICE, Status},
        spool::{self, Spool},
    },
    pipeline::Summary,
    proto::v1::{Finding, GetInfoResponse, GetStatusResponse, ListRulesResponse, Priority, RuleInUse},
    record,
    rules::{Costs, RuleSet},
    sensor::{
        bundle,
        stats::{Counts, Programs, Stats},
    },
};

/// Rules whose findings are counted apart.
const MAX_RULES: usize = 4096;
/// How often others learn what rules cost.
const COSTS_EVERY: Duration = Duration::from_secs(1);
/// The flow looks at the ring many times a second; when it has not for so long it hangs.
const MAX_SILENCE: Duration = Duration::from_secs(10);

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
    programs: Programs,
    containers: bundle::Counts,
    outputs: OutputStatus,
    by_priority: [AtomicU64; Priority::ALL.len()],
    by_rule: Mutex<HashMap<String, u64>>,
    /// What rules cost, as of some time ago.
    costs: Mutex<(Instant, Costs)>,
    /// When the flow last came by.
    seen: Mutex<Instant>,
    records: AtomicU64,
    findings: AtomicU64,
    lost_findings: AtomicU64,
    rules: Mutex<Arc<RulesInUse>>,
    rules_reloads: AtomicU64,
    rules_reload_failures: AtomicU64,
    /// The node's seccomp profiles, where they are kept.
    profiles: Mutex<Option<ProfilesStatus>>,
    sensor: watch::Sender<bool>,
    kubernetes: OnceLock<Arc<kubernetes::status::Status>>,
}

/// Names of parts.
const PROFILES: &str = "seccomp_profiles";
const FLOW: &str = "flow";
const SPOOL: &str = "spool";

/// What has to be well before pods may come to the node, in this order. A part that is not there is not waited for.
const GATES: [&str; 4] = [PROFILES, SENSOR_SERVICE, FLOW, SPOOL];

/// The first gate that is not open, and why.
fn closed_gate(parts: &[Part]) -> Option<String> {
    GATES.iter().find_map(|gate| {
        let why = parts.iter().find(|part| part.name == *gate)?.why.as_ref()?;
        Some(format!("{gate}: {why}"))
    })
}

/// The node's seccomp profiles: pods wait for them, probes do not.
fn profiles_part(profiles: ProfilesStatus) -> Part {
    Part { name: PROFILES.to_owned(), why: profiles.failing, needed: false, vital: false }
}

impl AgentStatus {
    /// At the start.
    pub(super) fn new(
        node_name: String,
        outputs: OutputStatus,
        stats: Stats,
        programs: Programs,
        containers: bundle::Counts,
        rules: Arc<RulesInUse>,
    ) -> Self {
        let uname = rustix::system::uname();
        let info = GetInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: node_name,
            kernel_release: uname.release().to_string_lossy().into_owned(),
            epoch: outputs.hub.epoch().to_owned(),
            rules: Vec::new(),
        };
        Self {
            info,
            stats,
            programs,
            containers,
            outputs,
            by_priority: [const { AtomicU64::new(0) }; Priority::ALL.len()],
            by_rule: Mutex::default(),
            costs: Mutex::new((Instant::now(), Costs::default())),
            seen: Mutex::new(Instant::now()),
            records: AtomicU64::new(0),
            findings: AtomicU64::new(0),
            lost_findings: AtomicU64::new(0),
            rules: Mutex::new(rules),
            rules_reloads: AtomicU64::new(0),
            rules_reload_failures: AtomicU64::new(0),
            profiles: Mutex::new(None),
            sensor: watch::Sender::new(true),
            kubernetes: OnceLock::new(),
        }
    }

    /// Counts a finding by what metrics tell apart.
    pub(super) fn count_finding(&self, finding: &Finding) {
        let place = usize::try_from(finding.priority).ok().and_then(|number| number.checked_sub(1));
        if let Some(counter) = place.and_then(|place| self.by_priority.get(place)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let mut by_rule = self.by_rule.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_rule.get_mut(&finding.rule) {
            *count += 1;
        } else if by_rule.len() < MAX_RULES {
            // Names come from rule files, of which there are as many as somebody writes.
            by_rule.insert(finding.rule.clone(), 1);
        }
    }

    /// Findings made, by priority.
    pub(super) fn findings_by_priority(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let words = Priority::ALL.iter().map(|priority| priority.word());
        words.zip(self.by_priority.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// Findings of the rules with the most.
    pub(super) fn findings_by_rule(&self, most: usize) -> Vec<(String, u64)> {
        let by_rule = self.by_rule.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rules: Vec<_> = by_rule.iter().map(|(rule, count)| (rule.clone(), *count)).collect();
        drop(by_rule);
        rules.sort_by(|(name, count), (other_name, other)| other.cmp(count).then_with(|| name.cmp(other_name)));
        rules.truncate(most);
        rules
    }

    /// Notes what rules cost. Looked at many times a second, copied once in a while.
    pub(super) fn set_costs(&self, costs: &Costs) {
        let mut known = self.costs.lock().unwrap_or_else(PoisonError::into_inner);
        if known.1.watched() < costs.watched() && (known.1.watched() == 0 || known.0.elapsed() > COSTS_EVERY) {
            *known = (Instant::now(), costs.clone());
        }
    }

    /// What rules cost.
    pub(super) fn costs(&self) -> Costs {
        self.costs.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// The sensor's own counters.
    pub(super) fn sensor_counts(&self) -> Counts {
        self.stats.read()
    }

    /// Containers that came.
    pub(super) fn containers(&self) -> &bundle::Counts {
        &self.containers
    }

    /// The programs in the kernel.
    pub(super) fn programs(&self) -> &Programs {
        &self.programs
    }

    /// How many rules are in use.
    pub(super) fn rules_count(&self) -> u32 {
        self.rules().count()
    }

    /// Subscribers now.
    pub(super) fn subscribers(&self) -> u64 {
        self.outputs.hub.subscribers() as u64
    }

    /// The spool, where there is one.
    pub(super) fn spool(&self) -> Option<spool::Status> {
        self.outputs.spool.as_ref().map(Spool::status)
    }

    /// The sinks.
    pub(super) fn sinks(&self) -> &[Arc<SinkState>] {
        &self.outputs.sinks
    }

    /// What came out so far.
    pub(super) fn update(&self, summary: &Summary, lost_findings: u64) {
        self.records.store(summary.records, Ordering::Relaxed);
        self.findings.store(summary.findings, Ordering::Relaxed);
        self.lost_findings.store(lost_findings, Ordering::Relaxed);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// There is a Kubernetes client.
    pub(super) fn set_kubernetes(&self, status: Arc<kubernetes::status::Status>) {
        let _ = self.kubernetes.set(status);
    }

    /// The Kubernetes client, where there is one.
    pub(super) fn kubernetes(&self) -> Option<&kubernetes::status::Status> {
        self.kubernetes.get().map(Arc::as_ref)
    }

    /// What keeps the agent from being ready.
    pub(super) fn why_not_ready(&self) -> Option<String> {
        closed_gate(&self.parts())
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

    /// What became of the node's seccomp profiles.
    pub(super) fn set_profiles(&self, profiles: ProfilesStatus) {
        *self.profiles.lock().unwrap_or_else(PoisonError::into_inner) = Some(profiles);
    }

    /// The node's seccomp profiles, where they are kept.
    pub(super) fn profiles(&self) -> Option<ProfilesStatus> {
        self.profiles.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
            spool: self.outputs.spool_status(),
            sinks: self.outputs.sink_statuses(),
            ..GetStatusResponse::default()
        }
    }

    fn rules(&self) -> ListRulesResponse {
        ListRulesResponse { rules: self.rules().rules.clone() }
    }

    fn sensor(&self) -> watch::Receiver<bool> {
        self.sensor.subscribe()
    }

    fn parts(&self) -> Vec<Part> {
        let mut parts = vec![self.sensor_part(), self.flow_part()];
        if let Some(spool) = self.spool() {
            let why = spool.failing.map(|why| format!("the disk cannot be written: {why}"));
            parts.push(Part { name: SPOOL.to_owned(), why, needed: false, vital: false });
        }
        if let Some(profiles) = self.profiles() {
            parts.push(profiles_part(profiles));
        }
        for (sink, told) in self.sinks().iter().zip(self.outputs.sink_statuses()) {
            let why = sink.failing_for().map(|failing| format!("for {} s: {}", failing.as_secs(), told.failing));
            parts.push(Part { name: format!("sink/{}", told.name), why, needed: false, vital: false });
        }
        if let Some(kubernetes) = self.kubernetes().filter(|kubernetes| kubernetes.is_asked_for_pods()) {
            parts.push(Part { name: "kubernetes".to_owned(), why: kubernetes.why_not(), needed: false, vital: false });
        }
        parts
    }

    fn metrics(&self, page: &mut Page) {
        account::fill(page, self);
    }
}

impl AgentStatus {
    fn sensor_part(&self) -> Part {
        let why = (!*self.sensor.borrow()).then(|| "the programs are not attached".to_owned());
        Part { name: SENSOR_SERVICE.to_owned(), why, needed: true, vital: true }
    }

    /// Whether records are still taken from the ring.
    fn flow_part(&self) -> Part {
        let silent = self.seen.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        let why = (silent > MAX_SILENCE).then(|| format!("no record has been looked for in {} s", silent.as_secs()));
        Part { name: FLOW.to_owned(), why, needed: true, vital: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_that_are_not_there_keep_the_node_closed_before_anything_else_does() {
        let profiles = |failing: Option<&str>| {
            profiles_part(ProfilesStatus { failing: failing.map(str::to_owned), ..ProfilesStatus::default() })
        };
        let spool = || Part { name: SPOOL.to_owned(), why: Some("full".into()), needed: false, vital: false };
        let sink = || Part { name: "sink/a".to_owned(), why: Some("away".into()), needed: false, vital: false };
        let both = closed_gate(&[spool(), profiles(Some("no file"))]);
        assert_eq!(both.as_deref(), Some("seccomp_profiles: no file"));
        assert_eq!(closed_gate(&[sink(), profiles(None), spool()]).as_deref(), Some("spool: full"));
        assert_eq!(closed_gate(&[sink(), profiles(None)]), None);
    }
}
