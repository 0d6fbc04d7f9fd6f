//! The whole flow on one screen: record → event → state → detections → rules → findings.
//!
//! Plain and synchronous: whoever owns the source calls [`Pipeline::record`] for each record and gets findings through the
//! closure that it gave. Nothing here reads a clock or does IO, so a replay takes exactly the same way.

use std::{collections::BTreeMap, ops::RangeInclusive};

use monitor_ebpf::{
    record::{ExitRecord, LossRecord},
    subject::{By, Subject},
};

use crate::{
    context::{self, Context, Evidence},
    decode::decode,
    drift::policy::Policy,
    event::{Body, Event, EventType, syscall::Syscall},
    pod_security,
    proto::v1::{Finding, Priority},
    push_down::PushDown,
    redact::Redactor,
    report::{Mode, Reporter},
    rules::{Condition, Costs, Rule, RuleSet},
    seccomp::{
        self, Detector, Released, Violation,
        applied::Profiles,
        window::{self, Kind, Place, Windows},
    },
    state::{State, container::Container},
    syscall::tell::{self, Room},
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

/// One event in so many is timed: seldom enough to cost nothing, and a prime, so that no pattern of events hides from it.
pub const TIMED_EVERY: u32 = 1021;

/// What rules cost.
struct Timing {
    /// Nanoseconds, by a clock that is not set.
    clock: fn() -> u64,
    costs: Costs,
    /// Events until the next one that is timed.
    left: u32,
}

impl Timing {
    /// Whether the event at hand is one that is timed.
    fn is_due(&mut self) -> bool {
        self.left = self.left.checked_sub(1).unwrap_or(TIMED_EVERY - 1);
        self.left == 0
    }
}

/// The flow, with everything that it keeps.
pub struct Pipeline {
    selection: Selection,
    state: State,
    seccomp: Detector<u64>,
    /// Seccomp profiles of containers.
    profiles: Profiles,
    /// Denials that are counted together.
    windows: Windows,
    reporter: Reporter,
    summary: Summary,
    redactor: Option<Redactor>,
    /// What is made of drift.
    drift: Policy,
    /// Room for the parameters of the call at hand.
    room: Room,
    /// The rules that the records told of last, which a replay need not have.
    rules_digest: Option<[u8; 32]>,
    /// Whether rules look at the event at hand.
    is_wanted: bool,
    /// What rules cost, where somebody wants to know.
    timing: Option<Timing>,
    /// Events that were there, by type.
    seen: Vec<u64>,
    /// Records that the kernel lost, by container.
    losses: BTreeMap<Option<String>, u64>,
    /// What is found out of opens, where somebody can leave some out.
    push_down: Option<PushDown>,
}

/// Containers that losses are told apart by.
const MAX_LOSERS: usize = 1024;

impl Pipeline {
    /// An empty flow. `now` is the clock for live findings.
    pub fn new(selection: Selection, mode: Mode, now: fn() -> u64) -> Self {
        Self {
            selection,
            state: State::default(),
            seccomp: Detector::default(),
            profiles: Profiles::default(),
            windows: Windows::new(window::DEFAULT_NS),
            reporter: Reporter::new(mode, now),
            summary: Summary::default(),
            redactor: Redactor::builtin(),
            drift: Policy::default(),
            room: Room::default(),
            rules_digest: None,
            is_wanted: true,
            timing: None,
            seen: vec![0; EventType::COUNT],
            losses: BTreeMap::new(),
            push_down: None,
        }
    }

    /// Hides other secrets in findings, or none.
    pub fn set_redactor(&mut self, redactor: Option<Redactor>) {
        self.redactor = redactor;
    }

    /// Counts denials of one kind together for so long, in nanoseconds of the records' clock; 0 for not at all.
    pub fn set_seccomp_window(&mut self, length_ns: u64) {
        self.windows = Windows::new(length_ns);
    }

    /// When a finding is to be given out for which time has to pass, on the records' clock. A record of that time does it.
    pub fn waits_until_ns(&self) -> Option<u64> {
        self.windows.next_end_ns()
    }

    /// Decides by this policy what is made of drift.
    pub fn set_drift_policy(&mut self, policy: Policy) {
        self.drift = policy;
    }

    /// Times the rules on some of the events by this clock, in nanoseconds.
    pub fn time_rules(&mut self, clock: fn() -> u64) {
        self.timing = Some(Timing { clock, costs: Costs::default(), left: 1 });
    }

    /// Tells `bored` of opens that no rule can match: whoever makes them, or only by whom.
    pub fn on_bored(&mut self, bored: impl FnMut(Subject, Option<By<'_>>) + 'static) {
        self.push_down = Some(PushDown::new(bored));
    }

    /// What rules have cost since they are timed.
    pub fn costs(&self) -> Option<&Costs> {
        self.timing.as_ref().map(|timing| &timing.costs)
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
        let ended = self.windows.end_until(event.header.ktime_ns);
        self.give(ended, emit);
        self.is_wanted = times.contains(&self.state.unix_ns(event.header.ktime_ns));
        if let Body::Syscall(syscall) = &event.body {
            return self.syscall(&event, syscall, number, emit);
        }
        self.state.apply(&event);
        self.detect(&event, number, emit);
    }

    /// Takes a system call: as the event of Falco's table that it is.
    fn syscall(&mut self, event: &Event<'_>, syscall: &Syscall<'_>, number: u64, emit: &mut dyn FnMut(Finding)) {
        let mut room = std::mem::take(&mut self.room);
        let (machine, ts_ns) = (self.state.session.machine, self.state.unix_ns(event.header.ktime_ns));
        if let Some(call) = tell::tell(syscall, machine, ts_ns, number, &mut room) {
            let event_type = context::call_type(&call);
            let event = Event { header: event.header, body: Body::Call(call) };
            self.state.apply(&event);
            if self.selection.rules.concerns(event_type) {
                self.evaluate(&event, number, Evidence::Event, emit);
            }
            if let Some(push_down) = &mut self.push_down {
                push_down.learn(syscall, &event, number, &self.state, &mut self.selection.rules);
            }
        }
        self.room = room;
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

    /// Ends the stream: nothing that still waits can be judged any more, and what is held is given out.
    pub fn finish(&mut self, emit: &mut dyn FnMut(Finding)) -> Summary {
        self.seccomp.finish();
        let held = self.windows.finish();
        self.give(held, emit);
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
                        self.violation(&event, number, violation, emit);
                    }
                }
            }
            Body::SeccompCall(call) => {
                let verdict = self.seccomp.call(machine, call, number);
                if let Some(violation) = verdict.as_ref().and_then(seccomp::Verdict::violation) {
                    self.violation(event, number, violation, emit);
                }
            }
            Body::SeccompProfile(document) => {
                if let Some(container) = self.state.containers.get(event.header.cgroup_id) {
                    self.profiles.tell(container.short_id(), machine, document);
                }
            }
            Body::Sigsys(signal) => self.seccomp.signal(signal),
            Body::Exit(ended) => {
                let verdict = self.seccomp.exit(machine, ended);
                if let Some(violation) = verdict.as_ref().and_then(seccomp::Verdict::violation) {
                    self.violation(event, number, violation, emit);
                }
                self.evaluate(event, number, Evidence::Event, emit);
                self.end_container(event, ended, emit);
            }
            Body::Rules(rules) => {
                let before = self.rules_digest.replace(rules.digest);
                self.summary.rules_changes += u64::from(before.is_some_and(|before| before != rules.digest));
            }
            Body::Loss(loss) => self.lose(event.header.cgroup_id, loss),
            _ => {
                self.evaluate(event, number, Evidence::Event, emit);
                self.check_pod(event, number, emit);
            }
        }
    }

    /// Says of a violation which profile and rule it is the doing of, and gives out what rules find, or counts it.
    fn violation(&mut self, event: &Event<'_>, number: u64, violation: &Violation, emit: &mut dyn FnMut(Finding)) {
        let cgroup_id = event.header.cgroup_id;
        let container = self.state.containers.get(cgroup_id).map(Container::short_id);
        let place = container.map_or(Place::Cgroup(cgroup_id), |id| Place::Container(id.to_owned()));
        let origin = container.map(|id| self.profiles.origin(id, violation)).unwrap_or_default();
        let kind = Kind::of(place, violation);
        let occurrences = self.windows.occurrences(&kind, event.header.ktime_ns);
        let violation = Violation { origin, occurrences, ..violation.clone() };
        let mut found = Vec::new();
        self.find(event, number, Evidence::Violation(&violation), &mut |finding| found.push(finding));
        let told = self.windows.take(&kind, occurrences, found);
        self.give(told, emit);
    }

    /// The first process of a container's own pid namespace takes all others with it.
    fn end_container(&mut self, event: &Event<'_>, ended: &ExitRecord, emit: &mut dyn FnMut(Finding)) {
        let is_first = self.state.thread().is_some_and(|thread| {
            thread.task.vpid == 1 && thread.task.pid_ns != self.state.session.host_pid_ns && ended.group_dead != 0
        });
        let container = self.state.containers.get(event.header.cgroup_id).filter(|_| is_first);
        let held = container.map(|container| self.windows.end_of(container.short_id()));
        self.give(held.unwrap_or_default(), emit);
    }

    fn give(&mut self, findings: Vec<Finding>, emit: &mut dyn FnMut(Finding)) {
        for mut finding in findings {
            self.reporter.number(&mut finding);
            emit(finding);
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

    /// Notes what the kernel lost, and whose it was.
    fn lose(&mut self, cgroup_id: u64, loss: &LossRecord) {
        let records = [loss.ring_full, loss.unreadable, loss.over_budget].into_iter().fold(0, u64::saturating_add);
        self.summary.lost = self.summary.lost.saturating_add(records);
        let container = self.state.containers.get(cgroup_id).map(|container| container.short_id().to_owned());
        let known = self.losses.len() < MAX_LOSERS || self.losses.contains_key(&container);
        let of = if known { container } else { None };
        let sum = self.losses.entry(of).or_default();
        *sum = sum.saturating_add(records);
    }

    /// Records that the kernel lost by the container whose they were; `None`: the host's, or it is not known.
    pub const fn losses(&self) -> &BTreeMap<Option<String>, u64> {
        &self.losses
    }

    /// Gives out what rules find.
    fn evaluate(&mut self, event: &Event<'_>, number: u64, evidence: Evidence<'_>, emit: &mut dyn FnMut(Finding)) {
        let mut found = Vec::new();
        self.find(event, number, evidence, &mut |finding| found.push(finding));
        self.give(found, emit);
    }

    /// What rules find, without numbers.
    fn find(&mut self, event: &Event<'_>, number: u64, evidence: Evidence<'_>, each: &mut dyn FnMut(Finding)) {
        let Some(mut context) = Context::new(&self.state, event, number, evidence) else { return };
        if !self.is_wanted {
            return;
        }
        context.judge(&self.drift);
        let Selection { rules, filter, min_priority } = &mut self.selection;
        let (reporter, redactor) = (&self.reporter, &self.redactor);
        let on_match = |rule: &Rule| {
            let urgent = context.priority(rule.priority).at_least(*min_priority);
            if urgent && filter.as_mut().is_none_or(|filter| filter.matches(context.event_type, &context)) {
                let mut finding = reporter.report(&context, rule);
                if let Some(redactor) = redactor {
                    redactor.finding(&mut finding);
                }
                each(finding);
            }
        };
        let is_timed = self.timing.as_mut().is_some_and(Timing::is_due);
        match &mut self.timing {
            Some(Timing { clock, costs, .. }) if is_timed => {
                rules.evaluate_timed(context.event_type, &context, *clock, costs, on_match);
            }
            _ => rules.evaluate(context.event_type, &context, on_match),
        }
    }
}
