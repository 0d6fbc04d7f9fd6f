//! All conditions compiled together, so that the cost of an event does not grow with their number.
//!
//! ```text
//! Expr ─ form ──── for one class of event types: what they decide is decided, negations at the leaves, alternatives merged
//!   │     │
//!   │   build ──── predicates shared by all rules, and for each rule a guard
//!   │     │
//!   │   program ── each predicate asked at most once per event, each field extracted at most once
//!   │     │  └ seen  none of that for an event that answers like one that nothing matched
//!   │     │
//!   │   index ──── constants on one field merged: one hash lookup, one search, one automaton for all of them
//!   │
//!   └─ matcher ─── what is left: one comparison by itself
//! ```
//! A rule can only hold if one of a few of its predicates does: its guard. Guards are looked up in the indexes, and only rules
//! whose guard holds are evaluated at all, each as a program of tests with two ways out of each.

mod build;
mod form;
mod index;
mod matcher;
mod program;
mod seen;

use std::ops::ControlFlow;

use hashbrown::HashMap;

use super::condition::{Check, EventTypes, Expr};
use crate::event::{EventType, field::Fields, value::Value};
use build::Builder;
use form::Form;
pub(super) use matcher::Matcher;
use program::Program;

/// Steps of all programs: rules that do not name their event types are compiled for each class of these.
const MAX_STEPS: usize = 4_000_000;

/// Compiled conditions.
#[derive(Debug)]
pub(super) struct Engine {
    /// For each event type the program of its class.
    class_of: Vec<usize>,
    programs: Vec<Program>,
}

/// Who wants to know which conditions are evaluated, and when.
pub(super) trait Watch {
    /// Whether anybody does.
    const IS_ON: bool = true;
    /// One is begun.
    fn begin(&mut self);
    /// That one, whose number is now told, is decided.
    fn end(&mut self, number: usize);
}

/// Nobody, which costs nothing.
impl Watch for () {
    const IS_ON: bool = false;
    fn begin(&mut self) {}
    fn end(&mut self, _: usize) {}
}

/// Conditions that are too many and too large for [`MAX_STEPS`], or for an automaton.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

impl Engine {
    /// Compiles conditions; they are known by their position from then on.
    pub(super) fn new(conditions: &[&Expr]) -> Result<Self, TooLarge> {
        let types: Vec<EventTypes> = conditions.iter().map(|condition| condition.event_types()).collect();
        let checks = type_checks(conditions);
        let mut class_by_signature: HashMap<Vec<bool>, usize> = HashMap::new();
        let (mut class_of, mut programs, mut steps) = (Vec::with_capacity(2 * EventType::COUNT), Vec::new(), 0);
        for event_type in EventType::all().chain(EventType::all().map(EventType::by_number)) {
            let name = Value::text(event_type.name());
            // Types of one class satisfy the same comparisons with types.
            let of_name = checks.iter().map(|matcher| matcher.accepts(&name));
            let signature: Vec<bool> = of_name.chain([event_type.is_by_number()]).collect();
            let class = match class_by_signature.get(&signature) {
                Some(class) => *class,
                None => {
                    let mut builder = Builder::default();
                    for (number, condition) in (0..).zip(conditions) {
                        if types.get(number as usize).is_some_and(|types| types.contains(event_type)) {
                            builder.rule(number, &Form::new(condition, event_type));
                        }
                    }
                    steps += builder.steps();
                    if steps > MAX_STEPS {
                        return Err(TooLarge);
                    }
                    programs.push(builder.build()?);
                    class_by_signature.insert(signature, programs.len() - 1);
                    programs.len() - 1
                }
            };
            class_of.push(class);
        }
        Ok(Self { class_of, programs })
    }

    /// Whether there is a condition that an event of this type can satisfy.
    pub(super) fn concerns(&self, event_type: EventType) -> bool {
        let class = self.class_of.get(position(event_type));
        class.and_then(|class| self.programs.get(*class)).is_some_and(|program| !program.is_empty())
    }

    /// Calls `on_match` for the conditions that an event satisfies, in order, until it says to stop.
    pub(super) fn evaluate<F: Fields + ?Sized>(
        &mut self,
        event_type: EventType,
        event: &F,
        on_match: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) {
        self.evaluate_watched(event_type, event, &mut (), on_match);
    }

    /// The same, and tells `watch` of each condition that it evaluates.
    pub(super) fn evaluate_watched<F: Fields + ?Sized>(
        &mut self,
        event_type: EventType,
        event: &F,
        watch: &mut impl Watch,
        on_match: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) {
        let class = self.class_of.get(position(event_type));
        if let Some(program) = class.and_then(|class| self.programs.get_mut(*class)) {
            program.evaluate(event, watch, on_match);
        }
    }
}

#[cfg(test)]
impl Engine {
    /// Events that were known from before.
    pub(super) fn known(&self) -> u32 {
        self.programs.iter().map(Program::known).sum()
    }
}

/// Where a type stands among the classes: calls that are told by their number come behind the others.
const fn position(event_type: EventType) -> usize {
    event_type.index() + if event_type.is_by_number() { EventType::COUNT } else { 0 }
}

/// The different comparisons with the event's type.
fn type_checks(conditions: &[&Expr]) -> Vec<Matcher> {
    let mut checks: HashMap<&Check, ()> = HashMap::new();
    for condition in conditions {
        condition.checks(&mut |check| {
            if check.left.is_field("evt.type") || check.left.is_field("syscall.type") {
                checks.insert(check, ());
            }
        });
    }
    checks.keys().filter_map(|check| Matcher::new(check).ok()).collect()
}
