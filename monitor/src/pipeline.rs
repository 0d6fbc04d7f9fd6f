//! The whole flow on one screen: record → event → state → detections → rules → findings.
//!
//! Plain and synchronous: whoever owns the source calls [`Pipeline::record`] for each record and gets findings through the
//! closure that it gave. Nothing here reads a clock or does IO, so a replay takes exactly the same way.

use std::ops::RangeInclusive;

use crate::{
    context::{self, Context, Evidence},
    decode::decode,
    event::{Body, Event, EventType},
    pod_security,
    proto::v1::{Finding, Priority},
    redact::Redactor,
    report::{Mode, Reporter},
    rules::{Condition, RuleSet},
    seccomp::{self, Detector, Released},
    state::{State, container::Container},
};

/// What the user wants to see.
pub struct Selection {
    /// The rules.
    pub rules: RuleSet,
    /// An additional condition on every finding.
    pub filter: Option<Condition>,
    /// Only findings at least this urgent.
    pub min_priority: Priority,
}

/// What came out so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records taken in.
    pub records: u64,
    /// Events of another tool's capture, which come without records.
    pub events: u64,
    /// Records that could not be decoded.
    pub undecodable: u64,
    /// Records that the kernel lost, as loss records told.
    pub lost: u64,
    /// Calls that seccomp may have denied, but whose filters never came.
    pub unjudged: u64,
    /// Calls whose filters' answer does not fit what was seen.
    pub misfits: u64,
    /// Times that other rules came into use, as the records told.
    pub rules_changes: u64,
    /// Findings made.
    pub findings: u64,
}

/// The flow, with everything that it keeps.
pub struct Pipeline {
    selection: Selection,
    state: State,
    seccomp: Detector<u64>,
    reporter: Reporter,
    summary: Summary,
    redactor: Option<Redactor>,
    /// Room for an event's path.
    scratch: Vec<u8>,
    /// The rules that the records told of last, which a replay need not have.
    rules_digest: Option<[u8; 32]>,
    /// Whether rules look at the event at hand.
    is_wanted: bool,
    /// Events that were there, by type.
    seen: Vec<u64>,
}

impl Pipeline {
    /// An empty flow. `now` is the clock for live findings.
    pub fn new(selection: Selection, mode: Mode, now: fn() -> u64) -> Self {
        Self {
            selection,
            state: State::default(),
            seccomp: Detector::default(),
            reporter: Reporter::new(mode, now),
            summary: Summary::default(),
            redactor: Redactor::builtin(),
            scratch: Vec::new(),
            rules_digest: None,
            is_wanted: true,
            seen: vec![0; EventType::COUNT],
        }
    }

    /// Hides other secrets in findings, or none.
    pub fn set_redactor(&mut self, redactor: Option<Redactor>) {
        self.redactor = redactor;
    }

    /// Puts other rules in the place of those that it has, which it returns: freeing them takes time.
    pub fn replace_rules(&mut self, rules: RuleSet) -> RuleSet {
        std::mem::replace(&mut self.selection.rules, rules)
    }

    /// Takes one record; findings go to `emit` in order.
    pub fn record(&mut self, bytes: &[u8], emit: &mut dyn FnMut(Finding)) {
        self.record_within(bytes, &(0..=u64::MAX), emit);
    }

    /// The same; rules look at what happened within `times`, nanoseconds since 1970.
    pub fn record_within(&mut self, bytes: &[u8], times: &RangeInclusive<u64>, emit: &mut dyn FnMut(Finding)) {
        self.summary.records += 1;
        let number = self.summary.records;
        let event = match decode(bytes) {
            Ok(event) => event,
            Err(error) => {
                tracing::debug!(number, kind = error.kind(), "record not decoded: {error}");
                self.summary.undecodable += 1;
                return;
            }
        };
        self.state.apply(&event);
        self.is_wanted = times.contains(&self.state.unix_ns(event.header.ktime_ns));
        self.detect(&event, number, emit);
    }

    /// Takes what a capture of another tool tells, which has events and no records. Rules look at those for which `is_wanted`
    /// is true, unless they are there for the state alone.
    pub fn event(&mut self, event: &Event<'_>, is_wanted: bool, emit: &mut dyn FnMut(Finding)) {
        self.state.apply(event);
        let Body::Call(call) = &event.body else { return };
        self.summary.events += 1;
        let event_type = context::call_type(call);
        if let Some(seen) = self.seen.get_mut(event_type.index()) {
            *seen += 1;
        }
        self.is_wanted = is_wanted && !call.state_only;
        if self.is_wanted && self.selection.rules.concerns(event_type) {
            self.evaluate(event, call.number, Evidence::Event, emit);
        }
        if self.is_wanted {
            self.state.previous_ns = call.ts_ns;
        }
    }

    /// Events of another tool's capture by type, those that there were.
    pub fn seen(&self) -> impl Iterator<Item = (EventType, u64)> {
        EventType::all().zip(&self.seen).filter(|(_, seen)| **seen > 0).map(|(event_type, seen)| (event_type, *seen))
    }

    /// Ends the stream: nothing that still waits can be judged any more.
    pub fn finish(&mut self) -> Summary {
        self.seccomp.finish();
        self.summary()
    }

    /// What came out so far.
    pub fn summary(&self) -> Summary {
        let (unjudged, misfits) = (self.seccomp.unjudged(), self.seccomp.misfits());
        Summary { unjudged, misfits, findings: self.reporter.made(), ..self.summary }
    }

    fn detect(&mut self, event: &Event<'_>, number: u64, emit: &mut dyn FnMut(Finding)) {
        let machine = self.state.session.machine;
        match &event.body {
            Body::SeccompFilter(filter, instructions) => {
                for Released { call, verdict, context: number } in self.seccomp.filter(machine, filter, instructions) {
                    if let Some(violation) = verdict.violation() {
                        let event = Event { header: call.header, body: Body::SeccompCall(call) };
                        self.evaluate(&event, number, Evidence::Violation(violation), emit);
                    }
                }
            }
            Body::SeccompCall(call) => {
                let verdict = self.seccomp.call(machine, call, number);
                if let Some(violation) = verdict.as_ref().and_then(seccomp::Verdict::violation) {
                    self.evaluate(event, number, Evidence::Violation(violation), emit);
                }
            }
            Body::Sigsys(signal) => self.seccomp.signal(signal),
            Body::Exit(ended) => {
                let verdict = self.seccomp.exit(machine, ended);
                if let Some(violation) = verdict.as_ref().and_then(seccomp::Verdict::violation) {
                    self.evaluate(event, number, Evidence::Violation(violation), emit);
                }
                self.evaluate(event, number, Evidence::Event, emit);
            }
            Body::Rules(rules) => {
                let before = self.rules_digest.replace(rules.digest);
                self.summary.rules_changes += u64::from(before.is_some_and(|before| before != rules.digest));
            }
            Body::Loss(loss) => self.summary.lost += loss.ring_full.saturating_add(loss.unreadable),
            _ => {
                self.evaluate(event, number, Evidence::Event, emit);
                self.check_pod(event, number, emit);
            }
        }
    }

    /// Holds a container's promises against its first process, once, when that is known.
    fn check_pod(&mut self, event: &Event<'_>, number: u64, emit: &mut dyn FnMut(Finding)) {
        let Some(promises) = self.state.take_promises(event) else { return };
        let containers = &self.state.containers;
        let id = containers.get(event.header.cgroup_id).map(Container::short_id);
        let (Some(metadata), Some(thread)) = (id.and_then(|id| containers.metadata(id)), self.state.thread()) else {
            return;
        };
        for breach in pod_security::check(metadata, &promises, &thread.task, &self.state.session) {
            self.evaluate(event, number, Evidence::Breach(&breach), emit);
        }
    }

    fn evaluate(&mut self, event: &Event<'_>, number: u64, evidence: Evidence<'_>, emit: &mut dyn FnMut(Finding)) {
        let Some(context) = Context::new(&self.state, event, number, evidence, &mut self.scratch) else { return };
        if !self.is_wanted {
            return;
        }
        let Selection { rules, filter, min_priority } = &mut self.selection;
        let (reporter, redactor) = (&mut self.reporter, &self.redactor);
        rules.evaluate(context.event_type, &context, |rule| {
            let urgent = rule.priority as i32 <= *min_priority as i32;
            if urgent && filter.as_mut().is_none_or(|filter| filter.matches(context.event_type, &context)) {
                let mut finding = reporter.report(&context, rule);
                if let Some(redactor) = redactor {
                    redactor.finding(&mut finding);
                }
                emit(finding);
            }
        });
    }
}
