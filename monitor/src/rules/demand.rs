//! What rules need a source to tell, so that nothing else has to be sent. An over-approximation: what is left out here no rule
//! can match.

use monitor_ebpf::settings::wanted;

use super::{
    EventTypes, RuleSet,
    condition::Expr,
    push_down::{self, OPENS},
};
use crate::{
    event::{EventType, field::Field},
    syscall::calls::CALLS,
};

/// What rules need to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Types of which every event may match.
    pub all: EventTypes,
    /// Types of which only events may match that the drift detection has something to say of.
    pub drift: EventTypes,
    /// Whether an exec must tell its environment.
    pub environment: bool,
    /// How much of each of [`OPENS`], if it is in `all`: bits of [`wanted`](mod@wanted).
    pub(crate) opens: [u8; OPENS.len()],
}

impl Demand {
    /// Nothing.
    pub const NONE: Self =
        Self { all: EventTypes::NONE, drift: EventTypes::NONE, environment: false, opens: [wanted::ALL; OPENS.len()] };
    /// Everything, calls that are told by their name alone included.
    pub const ALL: Self = Self { all: EventTypes::ALL, drift: EventTypes::ALL, environment: true, ..Self::NONE };

    /// Of whoever replays a capture with rules that are not known yet: every call that Falco has an event for.
    pub fn of_any_rules() -> Self {
        let mut all = EventTypes::NONE;
        for event_type in CALLS.iter().filter_map(|call| EventType::find(call.name)) {
            all.insert_named(event_type);
        }
        Self { all, environment: true, ..Self::NONE }
    }

    /// Of these rules. Those that name no event types take what comes.
    pub fn of(rules: &RuleSet) -> Self {
        let is_environment = |field: Field| matches!(field.info().name, "proc.env" | "proc.aenv");
        let mut asked = rules.rules().flat_map(|rule| rule.expr.fields().into_iter().chain(rule.output.fields()));
        let mut demand = Self { environment: asked.any(is_environment), ..Self::NONE };
        for rule in rules.rules().filter(|rule| rule.event_types.are_named()) {
            let of = if needs_drift(&rule.expr) { &mut demand.drift } else { &mut demand.all };
            *of = of.union(rule.event_types);
        }
        if rules.pushes_down() {
            for (name, level) in OPENS.iter().zip(&mut demand.opens) {
                *level = EventType::find(name).map_or(wanted::ALL, |open| push_down::level(&rules.rules, open));
            }
        }
        demand
    }

    /// How much is wanted of the events of a type that is in `all`.
    pub fn level(&self, event_type: EventType) -> u8 {
        let mut opens = OPENS.iter().zip(self.opens);
        opens.find(|(name, _)| **name == event_type.name()).map_or(wanted::ALL, |(_, level)| level)
    }
}

/// Whether a condition can hold only where the drift detection says something: a comparison with a field that has no value
/// does not hold.
pub(super) fn needs_drift(expr: &Expr) -> bool {
    match expr {
        Expr::And(exprs) => exprs.iter().any(needs_drift),
        Expr::Or(exprs) => !exprs.is_empty() && exprs.iter().all(needs_drift),
        Expr::Not(_) => false,
        Expr::Check(check) => {
            let mut is_drift = false;
            check.left.fields(&mut |field, _| is_drift |= field.info().name.starts_with("drift."));
            is_drift
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Options, Source};

    fn demand(condition: &str) -> Demand {
        let text = format!("- rule: A\n  desc: d\n  condition: {condition}\n  output: o\n  priority: INFO\n");
        let loaded = RuleSet::load(&[Source { name: "r".into(), text: text.into() }], &Options::default());
        Demand::of(&loaded.rules.unwrap())
    }

    #[test]
    fn a_rule_that_needs_drift_needs_no_other_event_of_its_types() {
        let mmap = EventType::find("mmap").unwrap();
        for condition in [
            "evt.type = mmap and drift.kind = new_library",
            "evt.type = mmap and proc.name = x and (drift.kind exists or drift.layer = upper)",
        ] {
            let demand = demand(condition);
            assert!(demand.drift.contains(mmap) && !demand.all.contains(mmap), "{condition}");
        }
        for condition in [
            "evt.type = mmap",
            "evt.type = mmap and not drift.kind = new_library",
            "evt.type = mmap and (drift.kind exists or proc.name = x)",
        ] {
            let demand = demand(condition);
            assert!(demand.all.contains(mmap) && !demand.drift.contains(mmap), "{condition}");
        }
    }

    #[test]
    fn rules_without_types_take_what_comes() {
        assert_eq!(demand("proc.name = x"), Demand::NONE);
    }

    #[test]
    fn the_environment_is_told_where_a_rule_asks_for_it() {
        assert!(demand("evt.type = execve and proc.env contains LD_PRELOAD").environment);
        assert!(!demand("evt.type = execve and proc.name = env").environment);
    }
}
