//! Many denials of one kind become two findings: the first at once, the others as one, with their number.
//!
//! A kind is a container (outside of containers a cgroup), a system call and what became of it. Its window opens with the first
//! finding. What a rule finds of the same kind later is held, the newest in place of the one before, and given out when the window
//! ends. Time is that of the records, so that a replay gives the same findings; nothing is left out in silence, whatever the limits.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::Violation;
use crate::{
    proto::v1::{Finding, SeccompAction},
    syscall::Arch,
};

/// Length of a window unless one is asked for.
pub const DEFAULT_NS: u64 = 60_000_000_000;
/// Windows that may be open at once; the oldest ends early for a new one.
const MAX_OPEN: usize = 4096;
/// Rules that are told apart in one window; what further ones find is given out at once.
const MAX_RULES: usize = 32;

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    place: Place,
    arch: Arch,
    nr: i32,
    action: SeccompAction,
    errno: Option<u16>,
}

/// Where it happens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// In the container of this id.
    Container(String),
    /// Outside of containers, in the cgroup of this id.
    Cgroup(u64),
}

impl Kind {
    /// The kind of a violation.
    pub const fn of(place: Place, violation: &Violation) -> Self {
        let Violation { arch, nr, action, errno, .. } = violation;
        Self { place, arch: *arch, nr: *nr, action: *action, errno: *errno }
    }
}

/// How often it happened in a window behind the first, the one at hand included; the first is one by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occurrences {
    /// How often.
    pub count: u64,
    /// For the first time, on the records' clock.
    pub first_ns: u64,
    /// For the last time.
    pub last_ns: u64,
}

impl Occurrences {
    /// Once.
    pub const fn once(ktime_ns: u64) -> Self {
        Self { count: 1, first_ns: ktime_ns, last_ns: ktime_ns }
    }
}

#[derive(Debug)]
struct Window {
    /// Rules of which a finding was given out.
    told: Vec<String>,
    /// What happened since.
    since: Option<Occurrences>,
    /// Findings of the newest, one of each rule.
    held: Vec<Finding>,
}

/// The open windows.
#[derive(Debug)]
pub struct Windows {
    length_ns: u64,
    open: HashMap<Kind, Window>,
    /// By when they end.
    order: VecDeque<(u64, Kind)>,
}

impl Windows {
    /// With this length; 0 gives out every finding by itself.
    pub fn new(length_ns: u64) -> Self {
        Self { length_ns, open: HashMap::new(), order: VecDeque::new() }
    }

    /// When the next window ends.
    pub fn next_end_ns(&self) -> Option<u64> {
        self.order.front().map(|(ends_ns, _)| *ends_ns)
    }

    /// What a finding of this kind will say.
    pub fn occurrences(&self, kind: &Kind, ktime_ns: u64) -> Occurrences {
        match self.open.get(kind).and_then(|window| window.since) {
            None => Occurrences::once(ktime_ns),
            Some(Occurrences { count, first_ns, last_ns }) => Occurrences {
                count: count.saturating_add(1),
                first_ns: first_ns.min(ktime_ns),
                last_ns: last_ns.max(ktime_ns),
            },
        }
    }

    /// Takes what rules found of one violation; gives back what is to be given out now.
    pub fn take(&mut self, kind: &Kind, occurrences: Occurrences, findings: Vec<Finding>) -> Vec<Finding> {
        if self.length_ns == 0 || findings.is_empty() {
            return findings;
        }
        let mut out = Vec::new();
        if !self.open.contains_key(kind) {
            if self.open.len() == MAX_OPEN {
                out.extend(self.end_next());
            }
            let ends_ns = occurrences.last_ns.saturating_add(self.length_ns);
            self.order.push_back((ends_ns, kind.clone()));
            let window = Window { told: Vec::new(), since: None, held: Vec::new() };
            self.open.insert(kind.clone(), window);
        }
        let Some(window) = self.open.get_mut(kind) else { return out };
        let is_first = window.told.is_empty();
        let mut is_held = false;
        for finding in findings {
            let is_told = window.told.contains(&finding.rule);
            if !is_told && window.told.len() < MAX_RULES {
                window.told.push(finding.rule.clone());
            }
            if is_told {
                is_held = true;
                window.held.retain(|held| held.rule != finding.rule);
                window.held.push(finding);
            } else {
                out.push(finding);
            }
        }
        if is_held || !is_first {
            window.since = Some(occurrences);
        }
        out
    }

    /// Ends the windows whose time is over; what they held, in the order of their ends.
    pub fn end_until(&mut self, ktime_ns: u64) -> Vec<Finding> {
        let mut out = Vec::new();
        while self.next_end_ns().is_some_and(|ends_ns| ends_ns <= ktime_ns) {
            out.extend(self.end_next());
        }
        out
    }

    /// Ends the windows of a container that has ended.
    pub fn end_of(&mut self, container: &str) -> Vec<Finding> {
        let mut out = Vec::new();
        self.order.retain(|(_, kind)| {
            let is_its = matches!(&kind.place, Place::Container(id) if id == container);
            if is_its && let Some(window) = self.open.remove(kind) {
                out.extend(window.held);
            }
            !is_its
        });
        out
    }

    /// Ends all.
    pub fn finish(&mut self) -> Vec<Finding> {
        self.end_until(u64::MAX)
    }

    fn end_next(&mut self) -> Vec<Finding> {
        let ended = self.order.pop_front().and_then(|(_, kind)| self.open.remove(&kind));
        ended.map(|window| window.held).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(container: &str, nr: i32) -> Kind {
        Kind {
            place: Place::Container(container.to_owned()),
            arch: Arch::X86_64,
            nr,
            action: SeccompAction::Errno,
            errno: Some(1),
        }
    }

    fn found(rules: &[&str], event_number: u64) -> Vec<Finding> {
        let of = |rule: &&str| Finding { rule: (*rule).to_owned(), event_number, ..Finding::default() };
        rules.iter().map(of).collect()
    }

    /// A violation with this number at this time, for which a rule is found.
    fn happen(windows: &mut Windows, kind: &Kind, ktime_ns: u64, rules: &[&str]) -> (Occurrences, Vec<u64>) {
        let occurrences = windows.occurrences(kind, ktime_ns);
        (occurrences, numbers(&windows.take(kind, occurrences, found(rules, ktime_ns))))
    }

    fn numbers(findings: &[Finding]) -> Vec<u64> {
        findings.iter().map(|finding| finding.event_number).collect()
    }

    #[test]
    fn the_first_is_told_at_once_and_the_others_together() {
        let mut windows = Windows::new(100);
        assert_eq!(happen(&mut windows, &kind("a", 1), 10, &["r"]), (Occurrences::once(10), vec![10]));
        assert_eq!(happen(&mut windows, &kind("a", 1), 20, &["r"]), (Occurrences::once(20), vec![]));
        let both = Occurrences { count: 2, first_ns: 20, last_ns: 30 };
        assert_eq!(happen(&mut windows, &kind("a", 1), 30, &["r"]), (both, vec![]));
        assert_eq!(happen(&mut windows, &kind("a", 2), 30, &["r"]).1, [30], "another call");
        assert_eq!(happen(&mut windows, &kind("b", 1), 30, &["r"]).1, [30], "another container");
        assert_eq!((windows.next_end_ns(), windows.end_until(109)), (Some(110), vec![]));
        assert_eq!(numbers(&windows.end_until(110)), [30]);
        assert_eq!(
            happen(&mut windows, &kind("a", 1), 111, &["r"]),
            (Occurrences::once(111), vec![111]),
            "a new window"
        );
        assert_eq!(windows.finish(), [], "what happened once was told");
    }

    #[test]
    fn another_rule_is_told_at_once_too_and_what_no_rule_finds_is_not_counted() {
        let mut windows = Windows::new(100);
        assert!(happen(&mut windows, &kind("a", 1), 10, &[]).1.is_empty());
        assert_eq!(happen(&mut windows, &kind("a", 1), 11, &["r"]), (Occurrences::once(11), vec![11]));
        assert!(happen(&mut windows, &kind("a", 1), 12, &[]).1.is_empty());
        assert_eq!(happen(&mut windows, &kind("a", 1), 13, &["s", "r"]), (Occurrences::once(13), vec![13]));
        let (occurrences, told) = happen(&mut windows, &kind("a", 1), 14, &["s"]);
        assert_eq!((occurrences.count, told), (2, vec![]));
        assert_eq!(numbers(&windows.finish()), [13, 14]);
    }

    #[test]
    fn the_end_of_a_container_ends_its_windows() {
        let mut windows = Windows::new(100);
        for container in ["a", "b"] {
            happen(&mut windows, &kind(container, 1), 10, &["r"]);
            happen(&mut windows, &kind(container, 1), 11, &["r"]);
        }
        assert_eq!((windows.end_of("a").len(), windows.end_of("a").len()), (1, 0));
        assert_eq!((windows.open.len(), windows.order.len(), windows.finish().len()), (1, 1, 1));
    }

    #[test]
    fn what_is_open_is_bounded_and_nothing_is_left_out() {
        let mut windows = Windows::new(100);
        let (mut told, many) = (0, i32::try_from(MAX_OPEN).unwrap() + 10);
        for nr in 0..many {
            told += happen(&mut windows, &kind("a", nr), 1, &["r"]).1.len();
            told += happen(&mut windows, &kind("a", nr), 2, &["r"]).1.len();
        }
        assert_eq!((windows.open.len(), windows.order.len()), (MAX_OPEN, MAX_OPEN));
        assert_eq!(told + windows.finish().len(), 2 * usize::try_from(many).unwrap());
        for rule in 0..2 * MAX_RULES {
            happen(&mut windows, &kind("a", 1), 1, &[&rule.to_string()]);
        }
        assert_eq!(windows.open[&kind("a", 1)].told.len(), MAX_RULES);
    }

    #[test]
    fn without_a_length_each_is_told_by_itself() {
        let mut windows = Windows::new(0);
        let told = (0..5).map(|time| happen(&mut windows, &kind("a", 1), time, &["r"]).1.len());
        assert_eq!(told.sum::<usize>(), 5);
        assert_eq!(windows.next_end_ns(), None);
    }
}
