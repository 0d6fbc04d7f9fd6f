//! What rules cost: the time that their conditions took, on the events that were watched.
//!
//! Rules are evaluated together and share what they ask: whoever asks first pays. So a rule's time is what it added, behind the
//! rules in front of it, on real events; what finds out which rules to evaluate at all is in the time of the event and in no
//! rule's. The clock is the caller's, and so is the choice of events.

use hashbrown::HashMap;

use super::{Rule, RuleSet, engine::Watch};
use crate::event::{EventType, field::Fields};

/// Rules that are told apart: their names come from files.
const MAX_RULES: usize = 4096;

/// How often something was done, and how long it took together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// How often.
    pub times: u64,
    /// Nanoseconds.
    pub ns: u64,
}

impl Cost {
    fn add(&mut self, ns: u64) {
        self.times += 1;
        self.ns += ns;
    }
}

/// Costs of the events that were watched.
#[derive(Clone, Debug, Default)]
pub struct Costs {
    by_rule: HashMap<String, Cost>,
    by_event: HashMap<&'static str, Cost>,
    watched: u64,
}

impl Costs {
    /// Of each rule that was evaluated: deciding whether it holds.
    pub fn by_rule(&self) -> impl Iterator<Item = (&str, Cost)> {
        self.by_rule.iter().map(|(name, cost)| (name.as_str(), *cost))
    }

    /// Of each type of event: finding the rules that hold, without what was then made of them.
    pub fn by_event(&self) -> impl Iterator<Item = (&'static str, Cost)> {
        self.by_event.iter().map(|(name, cost)| (*name, *cost))
    }

    /// Events that were watched.
    pub const fn watched(&self) -> u64 {
        self.watched
    }

    fn add_event(&mut self, name: &'static str, ns: u64) {
        self.watched += 1;
        self.by_event.entry(name).or_default().add(ns);
    }

    fn add_rule(&mut self, name: &str, ns: u64) {
        if let Some(cost) = self.by_rule.get_mut(name) {
            cost.add(ns);
        } else if self.by_rule.len() < MAX_RULES {
            self.by_rule.entry_ref(name).or_default().add(ns);
        }
    }
}

impl RuleSet {
    /// The same as [`evaluate`](Self::evaluate), and adds to `costs` how long it took by `clock`, which tells nanoseconds and is
    /// not set meanwhile.
    pub fn evaluate_timed<F: Fields + ?Sized>(
        &mut self,
        event_type: EventType,
        event: &F,
        clock: fn() -> u64,
        costs: &mut Costs,
        mut on_match: impl FnMut(&Rule),
    ) {
        let Self { rules, engine, matching, .. } = self;
        let (begun, mut reporting) = (clock(), 0);
        let mut meter = Meter { rules, costs, clock, begun };
        engine.evaluate_watched(event_type, event, &mut meter, &mut |number| {
            let before = clock();
            rules.get(number).into_iter().for_each(&mut on_match);
            reporting += clock().saturating_sub(before);
            matching.after_match()
        });
        costs.add_event(event_type.name(), clock().saturating_sub(begun).saturating_sub(reporting));
    }
}

/// Times the rules of one event.
struct Meter<'a> {
    rules: &'a [Rule],
    costs: &'a mut Costs,
    clock: fn() -> u64,
    begun: u64,
}

impl Watch for Meter<'_> {
    fn begin(&mut self) {
        self.begun = (self.clock)();
    }

    fn end(&mut self, number: usize) {
        let ns = (self.clock)().saturating_sub(self.begun);
        if let Some(rule) = self.rules.get(number) {
            self.costs.add_rule(&rule.name, ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::{
        super::{Options, Source},
        *,
    };
    use crate::event::{
        field::{Argument, Field},
        value::Value,
    };

    thread_local!(static NOW: Cell<u64> = const { Cell::new(0) });

    /// Each look takes 10 ns.
    fn clock() -> u64 {
        NOW.with(|now| now.replace(now.get() + 10))
    }

    struct Bash;

    impl Fields for Bash {
        fn value(&self, field: Field, _: &Argument) -> Option<Value<'_>> {
            (field.info().name == "proc.name").then(|| Value::text("bash"))
        }
    }

    #[test]
    fn the_time_of_a_rule_is_that_of_its_condition_and_what_a_match_leads_to_is_nobodys() {
        let rule = |name: &str, condition: &str| {
            format!("- {{rule: {name}, desc: d, condition: {condition}, output: o, priority: INFO}}\n")
        };
        let text = rule("elsewhere", "evt.type = open and proc.name = bash")
            + &rule("misses", "evt.type = execve and proc.name startswith ba and proc.name endswith x")
            + &rule("hits", "evt.type = execve and proc.name != zsh")
            + &rule("behind", "evt.type = execve and proc.name != ksh");
        let source = Source { name: "r.yaml".to_owned(), text: text.into_bytes() };
        let mut rules = RuleSet::load(&[source], &Options::default()).rules.unwrap();
        let (mut costs, mut matched) = (Costs::default(), Vec::new());
        for _ in 0..3 {
            rules.evaluate_timed(EventType::EXECVE, &Bash, clock, &mut costs, |rule| {
                NOW.with(|now| now.set(now.get() + 1_000_000));
                matched.push(rule.name.clone());
            });
        }
        assert_eq!(matched, ["hits"; 3]);
        let mut by_rule: Vec<_> = costs.by_rule().filter(|(name, _)| *name != "misses").collect();
        by_rule.sort_unstable_by_key(|(name, _)| *name);
        assert_eq!(by_rule, [("hits", Cost { times: 3, ns: 30 })], "the first match ends it");
        let events: Vec<_> = costs.by_event().collect();
        assert_eq!((events.len(), costs.watched()), (1, 3));
        let (name, cost) = events[0];
        assert!(name == "execve" && cost.times == 3 && (60..1000).contains(&cost.ns), "{events:?}");
    }
}
