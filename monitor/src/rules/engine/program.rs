//! The rules of one class of event types as programs over shared predicates.

use std::ops::ControlFlow;

use super::{
    Watch,
    index::{Index, with_key},
    matcher::{Matcher, compare},
};
use crate::{
    event::{field::Fields, value::Value},
    rules::{operand::Operand, parse::Operator},
};

/// Where a program goes when it is decided.
pub(super) const HOLDS: u32 = u32::MAX;
pub(super) const FAILS: u32 = u32::MAX - 1;

/// A test with two ways out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Step {
    pub(super) predicate: u32,
    pub(super) then: u32,
    pub(super) otherwise: u32,
}

/// Something asked of an event, at most once.
#[derive(Debug)]
pub(super) enum Predicate {
    /// It holds if the index finds it.
    Indexed(u32),
    /// Of the value in a slot.
    Single(u32, Matcher),
    /// Of any value, or if it says so all, of an operand that has several.
    Several(Operand, Matcher, bool),
    /// Of the values in two slots.
    Compared(u32, Operator, u32),
}

/// An index and the operand that it looks at.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) operand: Asked,
    pub(super) index: Index,
}

#[derive(Debug)]
pub(super) enum Asked {
    Slot(u32),
    Several(Operand),
}

/// A rule: its number in the set, and where its program starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) number: u32,
    pub(super) start: u32,
}

/// What does not change from event to event.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Operands with one value; a slot is a position here.
    pub(super) operands: Vec<Operand>,
    pub(super) predicates: Vec<Predicate>,
    pub(super) lookups: Vec<Lookup>,
    pub(super) steps: Vec<Step>,
    pub(super) rules: Vec<Rule>,
    /// Rules that are evaluated for every event.
    pub(super) always: Vec<u32>,
    /// Lookups that choose rules.
    pub(super) guards: Vec<Guard>,
    /// Predicates that choose rules by themselves.
    pub(super) gates: Vec<(Literal, Vec<u32>)>,
    /// Rules that a predicate found by a lookup guards.
    pub(super) guarded: Vec<Vec<u32>>,
}

/// A predicate, and whether it is to hold or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Literal {
    pub(super) predicate: u32,
    pub(super) wanted: bool,
}

/// A lookup that chooses rules.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) lookup: u32,
    /// What must be for any of its rules to hold, cheap to ask: one of these, all of it. None if there is nothing.
    pub(super) conditions: Vec<Vec<Literal>>,
}

/// What is known of the current event. A mark is of this event if it carries its stamp: nothing is reset between events.
#[derive(Debug, Default)]
struct Scratch {
    stamp: u32,
    /// For each predicate, twice the stamp of the event that it was decided for, and one more if it held.
    decided: Vec<u32>,
    looked_up: Vec<u32>,
    chosen: Vec<u32>,
    candidates: Vec<u32>,
    /// Room for values, empty between events.
    values: Vec<Slot<'static>>,
}

/// A value that was asked for, or not yet.
type Slot<'e> = Option<Option<Value<'e>>>;

/// Compiled rules of one class of event types.
#[derive(Debug)]
pub(super) struct Program {
    plan: Plan,
    scratch: Scratch,
}

impl Program {
    /// Whether it holds no rule.
    pub(super) fn is_empty(&self) -> bool {
        self.plan.rules.is_empty()
    }

    pub(super) fn new(plan: Plan) -> Self {
        let scratch = Scratch {
            decided: vec![0; plan.predicates.len()],
            looked_up: vec![0; plan.lookups.len()],
            chosen: vec![0; plan.rules.len()],
            ..Scratch::default()
        };
        Self { plan, scratch }
    }

    /// Calls `on_match` for the rules that an event satisfies, in order, until it says to stop.
    pub(super) fn evaluate<F: Fields + ?Sized>(
        &mut self,
        event: &F,
        watch: &mut impl Watch,
        on_match: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) {
        let Self { plan, scratch } = self;
        if plan.rules.is_empty() {
            return;
        }
        scratch.begin();
        let mut values: Vec<Slot<'_>> = std::mem::take(&mut scratch.values);
        values.resize_with(plan.operands.len(), || None);
        let mut evaluation = Evaluation { plan, scratch, values, event, choosing: true };
        evaluation.choose();
        evaluation.choosing = false;
        evaluation.run(watch, on_match);
        let mut values = evaluation.values;
        values.clear();
        // The room is kept: collecting nothing out of an emptied vector reuses it.
        scratch.values = values.into_iter().map(|_| None).collect();
    }
}

impl Scratch {
    fn begin(&mut self) {
        self.candidates.clear();
        self.stamp += 1;
        if self.stamp >= u32::MAX / 2 {
            self.stamp = 1;
            for marks in [&mut self.decided, &mut self.looked_up, &mut self.chosen] {
                marks.fill(0);
            }
        }
    }

    fn choose(&mut self, rule: u32) {
        if let Some(mark) = self.chosen.get_mut(rule as usize).filter(|mark| **mark != self.stamp) {
            *mark = self.stamp;
            self.candidates.push(rule);
        }
    }

    fn decide(&mut self, predicate: u32, holds: bool) {
        if let Some(mark) = self.decided.get_mut(predicate as usize) {
            *mark = self.stamp << 1 | u32::from(holds);
        }
    }
}

/// One event against a plan.
struct Evaluation<'e, 's, F: ?Sized> {
    plan: &'e Plan,
    scratch: &'s mut Scratch,
    values: Vec<Slot<'e>>,
    event: &'e F,
    /// Whether lookups choose rules. Later they only answer: what could hold has been chosen.
    choosing: bool,
}

impl<'e, F: Fields + ?Sized> Evaluation<'e, '_, F> {
    /// Finds the rules that can hold.
    fn choose(&mut self) {
        let plan = self.plan;
        plan.always.iter().for_each(|rule| self.scratch.choose(*rule));
        for (literal, rules) in &plan.gates {
            if self.is(*literal) {
                for rule in rules {
                    self.scratch.choose(*rule);
                }
            }
        }
        for Guard { lookup, conditions } in &plan.guards {
            let mut any = conditions.is_empty();
            any = any || conditions.iter().any(|all| all.iter().all(|literal| self.is(*literal)));
            if any {
                self.look_up(*lookup);
            }
        }
        self.scratch.candidates.sort_unstable();
    }

    fn run(&mut self, watch: &mut impl Watch, on_match: &mut dyn FnMut(usize) -> ControlFlow<()>) {
        let plan = self.plan;
        let mut next = 0;
        while let Some(rule) = self.scratch.candidates.get(next).and_then(|rule| plan.rules.get(*rule as usize)) {
            next += 1;
            watch.begin();
            let mut at = rule.start;
            while let Some(step) = plan.steps.get(at as usize) {
                at = if self.holds(step.predicate) { step.then } else { step.otherwise };
            }
            watch.end(rule.number as usize);
            if at == HOLDS && on_match(rule.number as usize).is_break() {
                return;
            }
        }
    }

    fn is(&mut self, literal: Literal) -> bool {
        self.holds(literal.predicate) == literal.wanted
    }

    fn holds(&mut self, predicate: u32) -> bool {
        let at = predicate as usize;
        let mark = self.scratch.decided.get(at).copied().unwrap_or(0);
        if mark >> 1 == self.scratch.stamp {
            return mark & 1 != 0;
        }
        let plan = self.plan;
        let holds = match plan.predicates.get(at) {
            Some(Predicate::Indexed(lookup)) => {
                self.look_up(*lookup);
                return self.scratch.decided.get(at).is_some_and(|mark| mark >> 1 == self.scratch.stamp);
            }
            Some(Predicate::Single(slot, matcher)) => self.value(*slot).is_some_and(|value| matcher.accepts(value)),
            Some(Predicate::Several(operand, matcher, all)) => self.several(operand, matcher, *all),
            Some(Predicate::Compared(left, operator, right)) => self.compared(*left, *operator, *right),
            None => false,
        };
        self.scratch.decide(predicate, holds);
        holds
    }

    fn value(&mut self, slot: u32) -> Option<&Value<'e>> {
        value(self.plan, &mut self.values, self.event, slot)
    }

    fn compared(&mut self, left: u32, operator: Operator, right: u32) -> bool {
        if self.value(left).is_none() || self.value(right).is_none() {
            return false;
        }
        let value = |slot: u32| self.values.get(slot as usize)?.as_ref()?.as_ref();
        value(left).zip(value(right)).is_some_and(|(left, right)| compare(operator, left, right))
    }

    fn several(&self, operand: &Operand, matcher: &Matcher, all: bool) -> bool {
        let Operand::Field { field, argument } = operand else { return false };
        let (mut some, mut each) = (false, true);
        self.event.values(*field, argument, &mut |value| {
            let accepts = matcher.accepts(&value);
            some |= accepts;
            each &= accepts;
        });
        some && (each || !all)
    }

    /// Marks the predicates that an index finds, and chooses the rules that they guard. Once per event: whoever asks first, it
    /// must not be asked again for the other purpose.
    fn look_up(&mut self, number: u32) {
        match self.scratch.looked_up.get_mut(number as usize) {
            Some(mark) if *mark != self.scratch.stamp => *mark = self.scratch.stamp,
            _ => return,
        }
        let plan = self.plan;
        let Some(Lookup { operand, index }) = plan.lookups.get(number as usize) else { return };
        match operand {
            Asked::Slot(slot) => {
                let Self { scratch, values, event, choosing, .. } = self;
                if let Some(value) = value(plan, values, *event, *slot) {
                    find(plan, scratch, index, value, *choosing);
                }
            }
            Asked::Several(Operand::Field { field, argument }) => {
                let Self { scratch, event, choosing, .. } = self;
                event.values(*field, argument, &mut |value| find(plan, scratch, index, &value, *choosing));
            }
            Asked::Several(_) => {}
        }
    }
}

/// The value in a slot, extracted when it is first asked for.
fn value<'v, 'e, F: Fields + ?Sized>(
    plan: &'e Plan,
    values: &'v mut [Slot<'e>],
    event: &'e F,
    slot: u32,
) -> Option<&'v Value<'e>> {
    let value = values.get_mut(slot as usize)?;
    value.get_or_insert_with(|| plan.operands.get(slot as usize)?.value(event)).as_ref()
}

fn find(plan: &Plan, scratch: &mut Scratch, index: &Index, value: &Value<'_>, choosing: bool) {
    with_key(value, |key| {
        index.lookup(key, &mut |predicate| {
            scratch.decide(predicate, true);
            if choosing {
                let rules = plan.guarded.get(predicate as usize);
                rules.into_iter().flatten().for_each(|rule| scratch.choose(*rule));
            }
        });
    });
}
