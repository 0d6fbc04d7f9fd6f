//! The rules of one class of event types as programs over shared predicates.

use std::ops::{ControlFlow, Range};

use super::{
    Watch,
    index::{Index, Lists, with_key},
    matcher::{Matcher, compare},
    seen::{Known, Seen},
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
    /// It holds if a lookup finds one of its constants.
    Indexed(u32),
    /// Of the value in a slot.
    Single(u32, Matcher),
    /// Of any value, or if it says so all, of the operand of this number that has several.
    Several(u32, Matcher, bool),
    /// Of the values in two slots.
    Compared(u32, Operator, u32),
}

/// An index and the operand that it looks at.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) operand: Asked,
    pub(super) index: Index,
    /// Where the marks of its constants begin among those of all.
    pub(super) first_mark: usize,
}

#[derive(Debug)]
pub(super) enum Asked {
    Slot(u32),
    Several(u32),
}

/// An operand with one value.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) operand: Operand,
    /// Whether several predicates and lookups ask for its value, so that it is worth to keep it.
    pub(super) is_shared: bool,
    /// Whether it is a number that is only held against others: what comes of that matters, not which it is.
    pub(super) is_measured: bool,
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
    /// Operands with one value, by their numbers.
    pub(super) operands: Vec<Slot>,
    /// Operands with several, the same.
    pub(super) several: Vec<Operand>,
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
    /// Slots whose values tell events apart; none where finding rules takes no longer than finding out whether an event was
    /// seen before.
    pub(super) key: Vec<u32>,
}

impl Plan {
    /// The value of a slot.
    #[inline]
    pub(super) fn value<'e, F: Fields + ?Sized>(&'e self, slot: u32, event: &'e F) -> Option<Value<'e>> {
        self.operands.get(slot as usize)?.operand.value(event)
    }

    /// Calls `each` with the values of an operand that has several.
    pub(super) fn values<F: Fields + ?Sized>(&self, number: u32, event: &F, each: &mut dyn FnMut(Value<'_>)) {
        if let Some(Operand::Field { field, argument }) = self.several.get(number as usize) {
            event.values(*field, argument, each);
        }
    }

    /// What a predicate asks of a number, if it does.
    fn measured(&self, predicate: u32) -> Option<(&Operand, &Matcher)> {
        let Predicate::Single(slot, matcher) = self.predicates.get(predicate as usize)? else { return None };
        self.operands.get(*slot as usize).filter(|slot| slot.is_measured).map(|slot| (&slot.operand, matcher))
    }

    /// Whether a predicate of a number holds.
    pub(super) fn measure<F: Fields + ?Sized>(&self, predicate: u32, event: &F) -> bool {
        let asked = self.measured(predicate);
        asked.is_some_and(|(operand, matcher)| operand.value(event).is_some_and(|value| matcher.accepts(&value)))
    }
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
    /// For each constant of the lookup the rules that it chooses.
    pub(super) rules: Lists,
}

/// What is known of the current event. A mark is of this event if it carries its stamp: nothing is reset between events.
#[derive(Debug, Default)]
struct Scratch {
    stamp: u32,
    /// For each predicate, twice the stamp of the event that it was decided for, and one more if it held.
    decided: Vec<u32>,
    /// For each lookup the stamp of the event that it was made for, and where in `found` its constants are.
    looked_up: Vec<(u32, Range<usize>)>,
    /// Constants that lookups found.
    found: Vec<u32>,
    /// For each constant of each lookup the stamp of the event that it was found for.
    marks: Vec<u32>,
    /// For each slot the stamp of the event that it was asked for, and where among the values it is, if it was kept.
    filled: Vec<(u32, usize)>,
    /// For each operand that has several the stamp of the event that it was asked for.
    asked_several: Vec<u32>,
    chosen: Vec<u32>,
    candidates: Vec<u32>,
    /// Room for values, empty between events.
    values: Vec<Option<Value<'static>>>,
}

/// Compiled rules of one class of event types.
#[derive(Debug)]
pub(super) struct Program {
    plan: Plan,
    scratch: Scratch,
    seen: Option<Seen>,
}

impl Program {
    /// Whether it holds no rule.
    pub(super) fn is_empty(&self) -> bool {
        self.plan.rules.is_empty()
    }

    pub(super) fn new(plan: Plan) -> Self {
        let scratch = Scratch {
            decided: vec![0; plan.predicates.len()],
            looked_up: vec![(0, 0..0); plan.lookups.len()],
            marks: vec![0; plan.lookups.iter().map(|lookup| lookup.index.len()).sum()],
            filled: vec![(0, 0); plan.operands.len()],
            asked_several: vec![0; plan.several.len()],
            chosen: vec![0; plan.rules.len()],
            ..Scratch::default()
        };
        let seen = (!plan.key.is_empty()).then(|| Seen::new(plan.key.clone()));
        Self { plan, scratch, seen }
    }

    #[cfg(test)]
    pub(super) fn known(&self) -> u32 {
        self.seen.as_ref().map_or(0, Seen::known)
    }

    /// Calls `on_match` for the rules that an event satisfies, in order, until it says to stop.
    pub(super) fn evaluate<F: Fields + ?Sized, W: Watch>(
        &mut self,
        event: &F,
        watch: &mut W,
        on_match: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) {
        let Self { plan, scratch, seen } = self;
        if plan.rules.is_empty() {
            return;
        }
        // Who watches wants to see it done.
        let mut seen = if W::IS_ON { None } else { seen.as_mut() };
        let known = seen.as_mut().map_or(Known::No, |seen| seen.look_up(plan, event));
        if known == Known::Yes {
            return;
        }
        scratch.begin();
        let values = std::mem::take(&mut scratch.values);
        let mut evaluation = Evaluation { plan, scratch, values, event };
        evaluation.choose();
        let matched = evaluation.run(watch, on_match);
        let mut values = evaluation.values;
        values.clear();
        // The room is kept: collecting nothing out of an emptied vector reuses it.
        scratch.values = values.into_iter().map(|_| None).collect();
        if let (Known::Keep(place), Some(seen), false) = (known, seen, matched) {
            seen.keep(place, plan, event, &Asking { plan, scratch });
        }
    }
}

impl Scratch {
    fn begin(&mut self) {
        self.candidates.clear();
        self.found.clear();
        self.stamp += 1;
        if self.stamp >= u32::MAX / 2 {
            self.stamp = 1;
            for marks in [&mut self.decided, &mut self.marks, &mut self.chosen, &mut self.asked_several] {
                marks.fill(0);
            }
            self.looked_up.fill((0, 0..0));
            self.filled.fill((0, 0));
        }
    }

    fn choose(&mut self, rule: u32) {
        if let Some(mark) = self.chosen.get_mut(rule as usize).filter(|mark| **mark != self.stamp) {
            *mark = self.stamp;
            self.candidates.push(rule);
        }
    }

    /// Notes the constants of a lookup that a value has.
    fn find(&mut self, lookup: &Lookup, value: &Value<'_>) {
        let Self { stamp, marks, found, .. } = self;
        let marks = marks.get_mut(lookup.first_mark..).unwrap_or_default();
        with_key(value, |key| {
            lookup.index.lookup(key, &mut |constant| {
                if let Some(mark) = marks.get_mut(constant as usize).filter(|mark| **mark != *stamp) {
                    *mark = *stamp;
                    found.push(constant);
                }
            });
        });
    }
}

/// What was asked of an event.
pub(super) struct Asking<'a> {
    plan: &'a Plan,
    scratch: &'a Scratch,
}

impl Asking<'_> {
    /// Slots whose values were asked for.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> {
        let asked = self.scratch.filled.iter().zip(&self.plan.operands).zip(0..);
        let is_asked = |stamp: &u32, slot: &Slot| *stamp == self.scratch.stamp && !slot.is_measured;
        asked.filter(move |(((stamp, _), slot), _)| is_asked(stamp, slot)).map(|(_, number)| number)
    }

    /// Operands with several values that were asked for.
    pub(super) fn several(&self) -> impl Iterator<Item = u32> {
        self.scratch.asked_several.iter().zip(0..).filter(|(stamp, _)| **stamp == self.scratch.stamp).map(|(_, n)| n)
    }

    /// Predicates of numbers that were decided, and how.
    pub(super) fn measured(&self) -> impl Iterator<Item = (u32, bool)> {
        let decided = self.scratch.decided.iter().zip(0..).filter(|(mark, _)| **mark >> 1 == self.scratch.stamp);
        decided
            .map(|(mark, number)| (number, mark & 1 != 0))
            .filter(|(number, _)| self.plan.measured(*number).is_some())
    }
}

/// One event against a plan.
struct Evaluation<'e, 's, F: ?Sized> {
    plan: &'e Plan,
    scratch: &'s mut Scratch,
    values: Vec<Option<Value<'e>>>,
    event: &'e F,
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
        for Guard { lookup, conditions, rules } in &plan.guards {
            let can_hold = |all: &Vec<Literal>| all.iter().all(|literal| self.is(*literal));
            if conditions.is_empty() || conditions.iter().any(can_hold) {
                for at in self.look_up(*lookup) {
                    let constant = self.scratch.found.get(at).copied().unwrap_or(u32::MAX);
                    rules.of(constant).iter().for_each(|rule| self.scratch.choose(*rule));
                }
            }
        }
        self.scratch.candidates.sort_unstable();
    }

    /// Evaluates the rules that can hold; whether one does.
    fn run(&mut self, watch: &mut impl Watch, on_match: &mut dyn FnMut(usize) -> ControlFlow<()>) -> bool {
        let plan = self.plan;
        let (mut next, mut matched) = (0, false);
        while let Some(rule) = self.scratch.candidates.get(next).and_then(|rule| plan.rules.get(*rule as usize)) {
            next += 1;
            watch.begin();
            let mut at = rule.start;
            while let Some(step) = plan.steps.get(at as usize) {
                at = if self.holds(step.predicate) { step.then } else { step.otherwise };
            }
            watch.end(rule.number as usize);
            if at == HOLDS {
                matched = true;
                if on_match(rule.number as usize).is_break() {
                    break;
                }
            }
        }
        matched
    }

    fn is(&mut self, literal: Literal) -> bool {
        self.holds(literal.predicate) == literal.wanted
    }

    #[inline]
    fn holds(&mut self, predicate: u32) -> bool {
        let mark = self.scratch.decided.get(predicate as usize).copied().unwrap_or(0);
        if mark >> 1 == self.scratch.stamp { mark & 1 != 0 } else { self.decide(predicate) }
    }

    fn decide(&mut self, predicate: u32) -> bool {
        let holds = match self.plan.predicates.get(predicate as usize) {
            Some(Predicate::Indexed(lookup)) => self.is_found(*lookup, predicate),
            Some(Predicate::Single(slot, matcher)) => {
                self.with_value(*slot, |_, value| matcher.accepts(value)).unwrap_or(false)
            }
            Some(Predicate::Several(number, matcher, all)) => self.several(*number, matcher, *all),
            Some(Predicate::Compared(left, operator, right)) => self.compared(*left, *operator, *right),
            None => false,
        };
        if let Some(mark) = self.scratch.decided.get_mut(predicate as usize) {
            *mark = self.scratch.stamp << 1 | u32::from(holds);
        }
        holds
    }

    /// Whether a lookup finds a constant that a predicate names.
    fn is_found(&mut self, lookup: u32, predicate: u32) -> bool {
        let found = self.look_up(lookup);
        let Some(Lookup { index, .. }) = self.plan.lookups.get(lookup as usize) else { return false };
        self.scratch.found.get(found).unwrap_or_default().iter().any(|constant| index.is_named(*constant, predicate))
    }

    /// Calls `each` with the value in a slot, if it has one.
    #[inline]
    fn with_value<T>(&mut self, slot: u32, each: impl FnOnce(&mut Scratch, &Value<'_>) -> T) -> Option<T> {
        let asked = self.plan.operands.get(slot as usize)?;
        if asked.is_shared {
            let at = self.fill(slot, asked)?;
            return self.values.get(at)?.as_ref().map(|value| each(self.scratch, value));
        }
        self.scratch.filled.get_mut(slot as usize)?.0 = self.scratch.stamp;
        asked.operand.value(self.event).map(|value| each(self.scratch, &value))
    }

    /// Extracts the value of a slot when it is first asked for, and says where it is.
    fn fill(&mut self, slot: u32, asked: &'e Slot) -> Option<usize> {
        let (stamp, at) = self.scratch.filled.get_mut(slot as usize)?;
        if *stamp != self.scratch.stamp {
            (*stamp, *at) = (self.scratch.stamp, self.values.len());
            self.values.push(asked.operand.value(self.event));
        }
        Some(*at)
    }

    fn compared(&mut self, left: u32, operator: Operator, right: u32) -> bool {
        let plan = self.plan;
        let mut at = |slot: u32| self.fill(slot, plan.operands.get(slot as usize)?);
        let (Some(left), Some(right)) = (at(left), at(right)) else { return false };
        let value = |at: usize| self.values.get(at)?.as_ref();
        value(left).zip(value(right)).is_some_and(|(left, right)| compare(operator, left, right))
    }

    fn several(&mut self, number: u32, matcher: &Matcher, all: bool) -> bool {
        self.ask_several(number);
        let (mut some, mut each) = (false, true);
        self.plan.values(number, self.event, &mut |value| {
            let accepts = matcher.accepts(&value);
            some |= accepts;
            each &= accepts;
        });
        some && (each || !all)
    }

    fn ask_several(&mut self, number: u32) {
        let stamp = self.scratch.stamp;
        self.scratch.asked_several.get_mut(number as usize).into_iter().for_each(|asked| *asked = stamp);
    }

    /// Looks for the constants of an index, once per event; says where in `found` those are that are there.
    fn look_up(&mut self, number: u32) -> Range<usize> {
        let plan = self.plan;
        let Some(lookup) = plan.lookups.get(number as usize) else { return 0..0 };
        match self.scratch.looked_up.get(number as usize) {
            Some((stamp, found)) if *stamp == self.scratch.stamp => return found.clone(),
            _ => {}
        }
        let first = self.scratch.found.len();
        match &lookup.operand {
            Asked::Slot(slot) => {
                self.with_value(*slot, |scratch, value| scratch.find(lookup, value));
            }
            Asked::Several(number) => {
                self.ask_several(*number);
                plan.values(*number, self.event, &mut |value| self.scratch.find(lookup, &value));
            }
        }
        let found = first..self.scratch.found.len();
        if let Some(looked_up) = self.scratch.looked_up.get_mut(number as usize) {
            *looked_up = (self.scratch.stamp, found.clone());
        }
        found
    }
}
