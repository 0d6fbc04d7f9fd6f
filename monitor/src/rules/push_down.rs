//! What rules need of the kernel: as little as is certain to be enough.
//!
//! A condition is reduced to what is known of a call beforehand. Whatever else it asks for counts as true, whichever way it
//! is asked, so that what is left may hold too often and never too seldom. Two reductions are made:
//!
//! - for each event type by the [`Outcome`]: whether it failed, and for what it opened a file. The programs know these numbers, so
//!   calls that no rule can match are left out before anything of them is read ([`wanted`](mod@wanted));
//! - by the path and the flags of a file that was opened, or by the name that was given where that failed. What is left is
//!   compiled as rules are ([`Subjects`]), and asked of what is opened more than once; where it comes to nothing the programs
//!   leave that out from then on ([`Subject`](monitor_ebpf::subject::Subject)).

use std::{ops::ControlFlow, sync::Arc};

use monitor_ebpf::settings::wanted;

use super::{
    Expr, Rule,
    condition::{Check, Right},
    demand::needs_drift,
    engine::{Engine, Matcher},
    parse::Operator,
};
use crate::event::{
    EventType,
    field::{Argument, Fields},
    value::Value,
};

/// Events of calls that open a file, with flags among their arguments.
pub(super) const OPENS: &[&str] = &["open", "openat", "openat2", "open_by_handle_at"];
/// Fields that follow from path and kind of the file, or where there is none from the name that was given, and from the flags.
const OF_OPEN: &[&str] = &[
    "fd.name",
    "fd.directory",
    "fd.filename",
    "fd.type",
    "fd.typechar",
    "evt.is_open_read",
    "evt.is_open_write",
    "evt.is_open_exec",
];
/// Fields that follow from the name that was given, and from the error.
const OF_NAME: &[&str] = &["fd.nameraw"];
/// Fields that follow from the error.
const OF_ERROR: &[&str] = &["evt.res", "evt.rawres"];
/// Fields that follow from the cgroup.
const OF_CGROUP: &[&str] = &["container.id"];

/// What is known of an open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// That it failed; else what it opened.
    pub(super) failed: bool,
    /// Also by which name, and in which cgroup.
    pub(super) by: bool,
}

impl Known {
    fn has(self, field: &str) -> bool {
        OF_OPEN.contains(&field)
            || (self.failed || self.by) && OF_NAME.contains(&field)
            || self.failed && OF_ERROR.contains(&field)
            || self.by && OF_CGROUP.contains(&field)
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outcome {
    failed: bool,
    /// `O_ACCMODE` of an open: to read, to write, for both.
    access: u8,
}

/// What a condition comes to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reduced {
    /// It may hold, or it cannot.
    Known(bool),
    /// It may hold where this does.
    If(Expr),
}

/// What is known of a check.
enum Answer {
    /// Whether it holds.
    Known(bool),
    /// It is for later, when it can be answered.
    Kept,
    /// Nothing.
    Unknown,
}

/// What is left of all rules for what is opened.
#[derive(Debug)]
pub(super) struct Subjects {
    /// Where it succeeds: by the file, and by name and cgroup too.
    opened: [Left; 2],
    /// Where it fails, the same.
    failed: [Left; 2],
}

/// How little of an open shows that no rule can match it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bored {
    /// What is opened, with which flags.
    Always,
    /// That, by which name, and in which cgroup.
    By,
}

impl Subjects {
    /// Of these rules; `None` where they are too large.
    pub(super) fn of(rules: &[Rule]) -> Option<Self> {
        let left = |failed, by| {
            let reduced =
                rules.iter().filter(|rule| wants_opens(rule)).map(|rule| by_name(&rule.expr, Known { failed, by }));
            Left::of(reduced)
        };
        Some(Self {
            opened: [left(false, false)?, left(false, true)?],
            failed: [left(true, false)?, left(true, true)?],
        })
    }

    /// Whether no rule can match an open that ends as this event does, whatever else is true.
    pub(super) fn bored<F: Fields + ?Sized>(
        &mut self,
        event_type: EventType,
        event: &F,
        failed: bool,
    ) -> Option<Bored> {
        let [alone, by] = if failed { &mut self.failed } else { &mut self.opened };
        if !alone.may_match(event_type, event) {
            return Some(Bored::Always);
        }
        (!by.may_match(event_type, event)).then_some(Bored::By)
    }
}

/// Conditions that are left.
#[derive(Debug)]
struct Left {
    engine: Engine,
    /// Whether one of them was left with nothing to ask.
    always: bool,
}

impl Left {
    fn of(reduced: impl Iterator<Item = Reduced>) -> Option<Self> {
        let reduced: Vec<Reduced> = reduced.collect();
        let exprs = reduced.iter().filter_map(|reduced| match reduced {
            Reduced::If(expr) => Some(expr),
            Reduced::Known(_) => None,
        });
        let engine = Engine::new(&exprs.collect::<Vec<_>>()).ok()?;
        Some(Self { engine, always: reduced.contains(&Reduced::Known(true)) })
    }

    fn may_match<F: Fields + ?Sized>(&mut self, event_type: EventType, event: &F) -> bool {
        let mut may = self.always;
        if !may {
            self.engine.evaluate(event_type, event, &mut |_| {
                may = true;
                ControlFlow::Break(())
            });
        }
        may
    }
}

/// How much of one of [`OPENS`] these rules want: bits of [`wanted`](mod@wanted).
pub(super) fn level(rules: &[Rule], event_type: EventType) -> u8 {
    let rules = || rules.iter().filter(|rule| rule.event_types.contains(event_type) && wants_opens(rule));
    let outcomes =
        [false, true].into_iter().flat_map(|failed| (0..wanted::ACCESS_MODES).map(move |access| (failed, access)));
    let due = outcomes.filter(|(failed, access)| {
        let outcome = Outcome { failed: *failed, access: *access };
        rules().any(|rule| by_outcome(&rule.expr, event_type, outcome) != Reduced::Known(false))
    });
    let level = due.fold(wanted::NOT, |level, (failed, access)| level | wanted::outcome(failed, access));
    let by_subject = |failed| {
        !rules()
            .any(|rule| by_type(&by_name(&rule.expr, Known { failed, by: true }), event_type) == Reduced::Known(true))
    };
    // Where some are due whatever their names are, asking for names costs more than it spares.
    let is_asked = by_subject(false) && (level & wanted::FAILED == wanted::NOT || by_subject(true));
    if is_asked { level | wanted::BY_SUBJECT } else { level }
}

/// Whether the kernel sends opens for the sake of a rule: for drift it decides by itself.
fn wants_opens(rule: &Rule) -> bool {
    let opens = || OPENS.iter().filter_map(|name| EventType::find(name));
    opens().any(|one| rule.event_types.contains(one)) && !(rule.event_types.are_named() && needs_drift(&rule.expr))
}

/// What is left of a rule for opens, if it looks at them.
pub(super) fn left(rule: &Rule, known: Known) -> Option<Reduced> {
    wants_opens(rule).then(|| by_name(&rule.expr, known))
}

/// What is left of a condition for an open.
fn by_name(expr: &Expr, known: Known) -> Reduced {
    reduce(expr, true, &|check| {
        if check.is_about_type() {
            return Answer::Kept;
        }
        if let Some(holds) = check.known().or_else(|| of_result(check, known.failed)) {
            return Answer::Known(holds);
        }
        let mut follows = true;
        let mut ask = |name: &str, argument: &Argument| follows &= known.has(name) && *argument == Argument::None;
        check.left.fields(&mut |field, argument| ask(field.info().name, argument));
        if let Right::Operand(right) = &check.right {
            right.fields(&mut |field, argument| ask(field.info().name, argument));
        }
        if follows { Answer::Kept } else { Answer::Unknown }
    })
}

fn by_outcome(expr: &Expr, event_type: EventType, outcome: Outcome) -> Reduced {
    reduce(expr, true, &|check| {
        if let Some(known) = of_type(check, event_type).or_else(|| check.known()) {
            return Answer::Known(known);
        }
        let (reads, writes) = (outcome.access != 1, outcome.access != 0);
        let value = if check.left.is_field("evt.is_open_read") {
            Some(Value::Bool(reads))
        } else if check.left.is_field("evt.is_open_write") {
            Some(Value::Bool(writes))
        } else if check.left.is_field("evt.failed") {
            Some(Value::Bool(outcome.failed))
        } else {
            None
        };
        match value.map_or_else(|| of_result(check, outcome.failed), |value| accepts(check, &value)) {
            Some(known) => Answer::Known(known),
            None => Answer::Unknown,
        }
    })
}

/// What is left of a reduced condition for events of one type.
fn by_type(reduced: &Reduced, event_type: EventType) -> Reduced {
    match reduced {
        Reduced::If(expr) => {
            reduce(expr, true, &|check| of_type(check, event_type).map_or(Answer::Kept, Answer::Known))
        }
        Reduced::Known(_) => reduced.clone(),
    }
}

fn of_type(check: &Check, event_type: EventType) -> Option<bool> {
    if check.is_about_type() { accepts(check, &Value::text(event_type.name())) } else { None }
}

fn accepts(check: &Check, value: &Value<'_>) -> Option<bool> {
    Matcher::new(check).ok().map(|matcher| matcher.accepts(value))
}

/// What the sign of an open's result says: a descriptor is not negative, an error is.
fn of_result(check: &Check, failed: bool) -> Option<bool> {
    if check.left.is_field("evt.failed") {
        return accepts(check, &Value::Bool(failed));
    }
    if check.left.is_field("evt.res") && !failed {
        return accepts(check, &Value::text("SUCCESS"));
    }
    let Right::Constants(constants) = &check.right else { return None };
    let is_number = check.left.is_field("fd.num") || check.left.is_field("evt.rawres");
    if !is_number || check.quantifier.is_some() {
        return None;
    }
    let [constant] = constants.as_slice() else { return None };
    let constant = constant.number()?;
    // Where the whole range of results is on one side of the constant, so is this one.
    let (least, most) = match (failed, check.left.is_field("fd.num")) {
        (false, _) => (0, i128::from(i64::MAX)),
        (true, false) => (i128::from(i64::MIN), -1),
        (true, true) => (-1, -1),
    };
    match check.operator {
        Operator::Ge if least >= constant => Some(true),
        Operator::Ge if most < constant => Some(false),
        Operator::Gt if least > constant => Some(true),
        Operator::Gt if most <= constant => Some(false),
        Operator::Le if most <= constant => Some(true),
        Operator::Le if least > constant => Some(false),
        Operator::Lt if most < constant => Some(true),
        Operator::Lt if least >= constant => Some(false),
        Operator::Eq | Operator::Assign if constant < least || constant > most => Some(false),
        Operator::Eq | Operator::Assign if least == most => Some(true),
        Operator::Ne if constant < least || constant > most => Some(true),
        Operator::Ne if least == most => Some(false),
        _ => None,
    }
}

/// Puts in what is known. What is not known counts as true where it is to hold, and as false where it is not to.
fn reduce(expr: &Expr, positive: bool, answer: &dyn Fn(&Check) -> Answer) -> Reduced {
    let (exprs, is_and) = match expr {
        Expr::Not(inner) => return reduce(inner, !positive, answer),
        Expr::Check(check) => {
            return match answer(check) {
                Answer::Known(holds) => Reduced::Known(holds == positive),
                Answer::Unknown => Reduced::Known(true),
                Answer::Kept if positive => Reduced::If(Expr::Check(Arc::clone(check))),
                Answer::Kept => Reduced::If(Expr::Not(Box::new(Expr::Check(Arc::clone(check))))),
            };
        }
        Expr::And(exprs) => (exprs, positive),
        Expr::Or(exprs) => (exprs, !positive),
    };
    let mut left = Vec::new();
    for expr in exprs {
        match reduce(expr, positive, answer) {
            Reduced::Known(truth) if truth == is_and => {}
            Reduced::Known(truth) => return Reduced::Known(truth),
            Reduced::If(expr) => left.push(expr),
        }
    }
    match left.len() {
        0 => Reduced::Known(is_and),
        1 => Reduced::If(left.swap_remove(0)),
        _ if is_and => Reduced::If(Expr::And(left)),
        _ => Reduced::If(Expr::Or(left)),
    }
}
