//! The agent's metrics: names, what they mean, and where their numbers come from.
//!
//! Names are a contract: dashboards are built on them. They stand in `ARCHITECTURE.md`, and a test compares.

use std::fs;

use super::status::AgentStatus;
use crate::{
    kubernetes,
    output::{
        metrics::{Page, number},
        service::Status as _,
    },
    pipeline::TIMED_EVERY,
    rules::Cost,
};

/// Rules that are shown, those with the most findings first.
const TOP_RULES: usize = 50;

type Labels = Vec<(&'static str, String)>;

fn one(value: f64) -> [(Labels, f64); 1] {
    [(Vec::new(), value)]
}

fn by(label: &'static str, values: impl IntoIterator<Item = (String, f64)>) -> Vec<(Labels, f64)> {
    values.into_iter().map(|(value, count)| (vec![(label, value)], count)).collect()
}

/// Everything about the agent.
pub(super) fn fill(page: &mut Page, status: &AgentStatus) {
    flow(page, status);
    outputs(page, status);
    sinks(page, status);
    profiles(page, status);
    if let Some(status) = status.kubernetes() {
        kubernetes(page, status);
    }
    cost(page, status);
}

fn kubernetes(page: &mut Page, status: &kubernetes::status::Status) {
    let is_watching = f64::from(u8::from(status.is_watching()));
    page.gauge("kubernetes_watching", "1 while the node's pods are watched", one(is_watching));
    page.gauge("kubernetes_pods", "Pods of the node that are known", one(number(status.pods())));
    page.counter("kubernetes_records", "Pods and changes of pods that were learned", one(number(status.records())));
    let (cut, refused) = status.losses();
    let lost = [("cut", cut), ("too_many", refused)].map(|(cause, count)| (cause.to_owned(), number(count)));
    page.counter("kubernetes_pods_lost", "Pods of which not all could be kept", by("cause", lost));
    let failures = status.failures().into_iter().map(|(kind, count)| (kind.to_owned(), number(count)));
    page.counter("kubernetes_failures", "Requests to the API that failed", by("kind", failures));
    let (removed, failed_open, writes) = status.node();
    page.counter("node_taints_removed", "Times that the startup taint was removed", one(number(removed)));
    page.counter("node_failed_open", "Those although the agent was not ready", one(number(failed_open)));
    page.counter("node_condition_writes", "Times that the node's condition was written", one(number(writes)));
}

fn flow(page: &mut Page, status: &AgentStatus) {
    let told = status.status();
    let total = status.sensor_counts().total();
    page.counter("records", "Records taken from the kernel", one(number(told.records)));
    let lost = [("ring_full", total.ring_full), ("unreadable", total.unreadable), ("over_budget", total.over_budget)];
    let lost = lost.map(|(cause, count)| (cause.to_owned(), number(count)));
    page.counter("records_lost", "Records that the kernel could not deliver", by("cause", lost));
    let containers = status.containers();
    page.counter("containers", "Containers that came", one(number(containers.containers())));
    page.counter("containers_identified", "Those whose bundle was read", one(number(containers.identified())));
    page.counter("records_filtered", "Records left out on purpose in the kernel", one(number(total.filtered)));
    let findings = status.findings_by_priority().map(|(priority, count)| (priority.to_owned(), number(count)));
    page.counter("findings", "Findings made", by("priority", findings));
    let rules = status.findings_by_rule(TOP_RULES).into_iter().map(|(rule, count)| (rule, number(count)));
    page.counter("rule_findings", "Findings of the rules with the most", by("rule", rules));
    page.counter(
        "rules_reloads",
        "Times that rules were read again and came into use",
        one(number(told.rules_reloads)),
    );
    let failures = one(number(told.rules_reload_failures));
    page.counter("rules_reload_failures", "Times that rules were read again and refused", failures);
    page.gauge("rules", "Rules in use", one(f64::from(status.rules_count())));
    page.gauge("subscribers", "Subscribers now", one(number(status.subscribers())));
}

fn outputs(page: &mut Page, status: &AgentStatus) {
    let mut lost = vec![("stdout_slow".to_owned(), number(status.status().lost_findings))];
    if let Some(spool) = status.spool() {
        lost.push(("not_stored".to_owned(), number(spool.dropped)));
        page.gauge("spool_bytes", "Bytes of findings on the disk", one(number(spool.bytes)));
        page.gauge("spool_segments", "Files of findings on the disk", one(number(spool.segments)));
        page.gauge("spool_entries", "Entries in the spool", one(number(spool.next_index - spool.first_index)));
        page.gauge("spool_unsaved", "Entries that are not on the disk", one(number(spool.unsaved)));
        page.gauge(
            "spool_failing",
            "1 while the disk cannot be written",
            one(f64::from(u8::from(spool.failing.is_some()))),
        );
        page.counter("spool_written_bytes", "Bytes written to the spool", one(number(spool.written_bytes)));
        page.counter("spool_written_entries", "Entries written to the spool", one(number(spool.written)));
        page.counter("spool_write_failures", "Times that writing the spool failed", one(number(spool.failures)));
        page.counter(
            "spool_evicted_segments",
            "Files given up because the spool was full",
            one(number(spool.evicted_segments)),
        );
    }
    page.counter("findings_lost", "Findings that an output could not take", by("cause", lost));
}

fn sinks(page: &mut Page, status: &AgentStatus) {
    let sinks = status.sinks();
    if sinks.is_empty() {
        return;
    }
    let told = status.status().sinks;
    let of = |value: fn(&crate::proto::v1::SinkStatus) -> u64| {
        by("sink", told.iter().map(|sink| (sink.name.clone(), number(value(sink)))))
    };
    page.gauge("sink_lag_entries", "Entries that a sink does not have yet", of(|sink| sink.lag));
    page.counter("sink_delivered", "Findings that a sink took", of(|sink| sink.delivered));
    page.counter("sink_rejected", "Findings that a sink refused for good", of(|sink| sink.rejected));
    page.counter("sink_retries", "Batches that were sent again", of(|sink| sink.retries));
    let state = |value: fn(&crate::output::push::SinkState) -> f64| {
        by("sink", sinks.iter().map(|sink| (sink.name().to_owned(), value(sink))))
    };
    page.counter("sink_requests", "Requests sent to a sink", state(|sink| number(sink.requests())));
    page.counter(
        "sink_sent_bytes",
        "Bytes of requests sent to a sink, before compression",
        state(|sink| number(sink.bytes())),
    );
    page.gauge("sink_in_flight", "Requests that a sink has not answered", state(|sink| number(sink.in_flight())));
    let failing = state(|sink| sink.failing_for().map_or(0.0, |failing| failing.as_secs_f64()));
    page.gauge("sink_failing_seconds", "For how long a sink has not taken anything; 0 where it does", failing);
}

fn profiles(page: &mut Page, status: &AgentStatus) {
    let Some(profiles) = status.profiles() else { return };
    let help = "Seccomp profiles that are on the node as they should be";
    page.gauge("seccomp_profiles", help, one(number(profiles.installed)));
    let help = "Seccomp profiles that are refused, or could not be installed";
    page.gauge("seccomp_profiles_refused", help, one(number(profiles.refused)));
    let [changed, missing] = profiles.put_back.map(number);
    page.counter(
        "seccomp_profiles_put_back",
        "Times that a seccomp profile was put back that somebody else had changed or removed",
        by("cause", [("changed".to_owned(), changed), ("missing".to_owned(), missing)]),
    );
}

fn cost(page: &mut Page, status: &AgentStatus) {
    let programs = status.programs().read();
    let seconds = programs.iter().map(|program| (program.name.clone(), number(program.run_time_ns) / 1e9));
    page.counter(
        "bpf_program_run_seconds",
        "Time that a BPF program ran; only grows while kernel.bpf_stats_enabled is 1",
        by("program", seconds),
    );
    let runs = programs.iter().map(|program| (program.name.clone(), number(program.runs)));
    page.counter("bpf_program_runs", "Times that it ran; likewise", by("program", runs));
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let used = number(u64::try_from(used.tv_sec).unwrap_or(0)) + number(u64::try_from(used.tv_nsec).unwrap_or(0)) / 1e9;
    rule_cost(page, status);
    page.counter("cpu_seconds", "CPU time of the agent", one(used));
    page.gauge("resident_memory_bytes", "Memory of the agent", one(number(resident_bytes())));
}

fn rule_cost(page: &mut Page, status: &AgentStatus) {
    let costs = status.costs();
    let (seconds, times) = (|cost: Cost| number(cost.ns) / 1e9, |cost: Cost| number(cost.times));
    let mut rules: Vec<_> = costs.by_rule().map(|(rule, cost)| (rule.to_owned(), cost)).collect();
    rules.sort_by(|(name, cost), (other_name, other)| other.ns.cmp(&cost.ns).then_with(|| name.cmp(other_name)));
    rules.truncate(TOP_RULES);
    let of_rules = |value: fn(Cost) -> f64| by("rule", rules.iter().map(|(rule, cost)| (rule.clone(), value(*cost))));
    let help = format!("Time of the conditions that took the longest, on one event in {TIMED_EVERY}");
    page.counter("rule_timed_seconds", &help, of_rules(seconds));
    page.counter(
        "rule_timed_evaluations",
        "Times that these conditions were evaluated on such an event",
        of_rules(times),
    );
    let of_events =
        |value: fn(Cost) -> f64| by("event", costs.by_event().map(|(event, cost)| (event.to_owned(), value(cost))));
    let help = format!("Time that all rules together took on one event in {TIMED_EVERY}");
    page.counter("event_timed_seconds", &help, of_events(seconds));
    page.counter("event_timed_evaluations", "Events that were timed", of_events(times));
}

fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
