//! A condition with everything resolved: what the engine compiles, the reference interprets, and `rules explain` shows.
//!
//! It is plain data that can be compared and hashed, so that what two rules ask alike is asked once.

use std::{fmt, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::{
    operand::Operand,
    parse::{Operator, Quantifier},
};
use crate::event::{EventType, field::Field, value::Type};

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expr {
    /// All hold.
    And(Vec<Expr>),
    /// At least one holds.
    Or(Vec<Expr>),
    /// It does not hold.
    Not(Box<Expr>),
    /// One comparison.
    Check(Arc<Check>),
}

/// A comparison. A missing value on either side makes it false, whatever the operator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Check {
    pub(super) left: Operand,
    pub(super) operator: Operator,
    pub(super) quantifier: Option<Quantifier>,
    pub(super) right: Right,
}

/// What the left side is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Right {
    /// Constants of the left side's type: none for `exists`.
    Constants(Vec<Constant>),
    /// Another field.
    Operand(Operand),
}

/// A value in a condition, read as the field's type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Constant {
    /// Text and bytes.
    Text(Vec<u8>),
    /// Whole numbers; truth is 1 or 0.
    Number(i128),
    /// An address.
    Ip(IpAddr),
    /// A network.
    Net(IpNet),
}

impl Check {
    /// Whether each of several values is asked. That there are two ends is known of a descriptor even where they are not.
    pub(super) fn asks_several(&self) -> bool {
        let asks_for_ends = self.operator == Operator::Exists && self.left.differs_in_all();
        self.left.is_several() && !asks_for_ends
    }

    /// Whether it is about the event's type alone, so that it is known before any event is seen.
    pub(super) fn is_about_type(&self) -> bool {
        self.left.is_field("evt.type") && matches!(self.right, Right::Constants(_))
    }

    /// The same where Falco compares a field in a way of its own.
    pub(super) fn compared_as_falco(mut self) -> Result<Self, &'static str> {
        let is_membership = matches!(self.operator, Operator::In | Operator::Intersects);
        let Right::Constants(constants) = &mut self.right else { return Ok(self) };
        if self.left.is_field("fd.net") {
            // Of several networks it looks at the first.
            constants.truncate(1);
            self.quantifier = None;
        } else if self.left.is_native_number() && is_membership {
            // It looks for a number of no length, which is never found.
            constants.clear();
        } else if self.left.is_around() {
            if !matches!(self.operator, Operator::Eq | Operator::Assign) || self.quantifier.is_some() {
                return Err("`evt.around` supports only `=`");
            }
            // The field is how far away the event is.
            self.operator = Operator::Le;
            for constant in constants {
                if let Constant::Number(milliseconds) = constant {
                    *milliseconds *= 1_000_000;
                }
            }
        }
        Ok(self)
    }

    /// The event types that can satisfy it; and whether it is exactly these.
    fn event_types(&self) -> Option<(EventTypes, bool)> {
        let exact = self.is_about_type();
        let is_about_call = self.left.is_field("syscall.type") && matches!(self.right, Right::Constants(_));
        if !exact && !is_about_call {
            return None;
        }
        let Right::Constants(constants) = &self.right else { return None };
        let is_listed = matches!(self.operator, Operator::Eq | Operator::Assign | Operator::In | Operator::Ne);
        if !is_listed || self.quantifier.is_some() {
            return None;
        }
        let mut types = EventTypes::NONE;
        for name in constants.iter().filter_map(Constant::text) {
            types.insert_named(EventType::find(str::from_utf8(name).ok()?)?);
        }
        if self.operator == Operator::Ne {
            types = types.complement();
        }
        Some((types, exact))
    }

    /// What `evt.num`, which counts from 1, makes of it.
    pub(super) fn known(&self) -> Option<bool> {
        let Right::Constants(constants) = &self.right else { return None };
        if !self.left.is_field("evt.num") || self.quantifier.is_some() {
            return None;
        }
        let numbers: Vec<i128> = constants.iter().filter_map(Constant::number).collect();
        match (self.operator, numbers.as_slice()) {
            (Operator::In | Operator::Intersects, all) => all.iter().all(|n| *n < 1).then_some(false),
            (Operator::Eq | Operator::Assign | Operator::Le, [n]) => (*n < 1).then_some(false),
            (Operator::Lt, [n]) => (*n <= 1).then_some(false),
            (Operator::Ne | Operator::Gt, [n]) => (*n < 1).then_some(true),
            (Operator::Ge, [n]) => (*n <= 1).then_some(true),
            _ => None,
        }
    }
}

impl Constant {
    pub(super) fn number(&self) -> Option<i128> {
        match self {
            Constant::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&[u8]> {
        match self {
            Constant::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl Expr {
    /// The event types that can satisfy it; others need not be looked at.
    pub fn event_types(&self) -> EventTypes {
        self.satisfied_by().0
    }

    /// The event types that can satisfy it, and those that can fail to.
    fn satisfied_by(&self) -> (EventTypes, EventTypes) {
        match self {
            Expr::And(exprs) => exprs
                .iter()
                .map(Expr::satisfied_by)
                .fold((EventTypes::ALL, EventTypes::NONE), |a, b| (a.0.intersection(b.0), a.1.union(b.1))),
            Expr::Or(exprs) => exprs
                .iter()
                .map(Expr::satisfied_by)
                .fold((EventTypes::NONE, EventTypes::ALL), |a, b| (a.0.union(b.0), a.1.intersection(b.1))),
            Expr::Not(expr) => {
                let (holds, fails) = expr.satisfied_by();
                (fails, holds)
            }
            Expr::Check(check) => match (check.known(), check.event_types()) {
                (Some(true), _) => (EventTypes::ALL, EventTypes::NONE),
                (Some(false), _) => (EventTypes::NONE, EventTypes::ALL),
                (None, Some((types, true))) => (types, types.complement()),
                (None, Some((types, false))) => (types, EventTypes::ALL),
                (None, None) => (EventTypes::ALL, EventTypes::ALL),
            },
        }
    }

    /// Calls `each` for every check in it.
    pub(super) fn checks<'a>(&'a self, each: &mut dyn FnMut(&'a Arc<Check>)) {
        match self {
            Expr::And(exprs) | Expr::Or(exprs) => exprs.iter().for_each(|expr| expr.checks(each)),
            Expr::Not(expr) => expr.checks(each),
            Expr::Check(check) => each(check),
        }
    }

    /// The fields that it asks for, each once, in order of their table.
    pub fn fields(&self) -> Vec<Field> {
        let mut fields = Vec::new();
        self.checks(&mut |check| {
            check.left.fields(&mut |field, _| fields.push(field));
            if let Right::Operand(right) = &check.right {
                right.fields(&mut |field, _| fields.push(field));
            }
        });
        fields.sort();
        fields.dedup();
        fields
    }
}

/// A set of event types, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTypes {
    named: [u64; EventTypes::WORDS],
    /// Whether all calls are in it that are told by their number alone: Falco has one event for them.
    by_number: bool,
}

impl EventTypes {
    const WORDS: usize = EventType::COUNT.div_ceil(64);

    /// None.
    pub const NONE: Self = Self { named: [0; Self::WORDS], by_number: false };
    /// Every type.
    pub const ALL: Self = Self { named: [u64::MAX; Self::WORDS], by_number: true };

    /// Adds what rules mean by a name.
    pub fn insert_named(&mut self, event_type: EventType) {
        if let Some(word) = self.named.get_mut(event_type.index() / 64) {
            *word |= 1 << (event_type.index() % 64);
        }
        self.by_number |= event_type.codes() == 0 || event_type == EventType::SYSCALL;
    }

    /// Whether a type is in it.
    pub fn contains(self, event_type: EventType) -> bool {
        if event_type.is_by_number() {
            return self.by_number;
        }
        self.named.get(event_type.index() / 64).is_some_and(|word| word >> (event_type.index() % 64) & 1 != 0)
    }

    fn complement(self) -> Self {
        Self { named: self.named.map(|word| !word), by_number: !self.by_number }
    }

    /// Whether these are types that a condition names. One that names none has all, or all but some.
    pub fn are_named(self) -> bool {
        self.iter().count() < EventType::COUNT / 2
    }

    /// Those of either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        self.zip(other, |a, b| a | b, |a, b| a | b)
    }

    fn intersection(self, other: Self) -> Self {
        self.zip(other, |a, b| a & b, |a, b| a & b)
    }

    fn zip(mut self, other: Self, join: fn(u64, u64) -> u64, join_truth: fn(bool, bool) -> bool) -> Self {
        for (word, with) in self.named.iter_mut().zip(other.named) {
            *word = join(*word, with);
        }
        self.by_number = join_truth(self.by_number, other.by_number);
        self
    }

    /// The types, in order.
    pub fn iter(self) -> impl Iterator<Item = EventType> {
        EventType::all().filter(move |event_type| self.contains(*event_type))
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.left, self.operator.text())?;
        if let Some(quantifier) = self.quantifier {
            write!(f, " {}", quantifier.text())?;
        }
        match &self.right {
            Right::Operand(operand) => write!(f, " val({operand})"),
            Right::Constants(constants) if self.operator.takes_list() || self.quantifier.is_some() => {
                f.write_str(" (")?;
                for (index, constant) in constants.iter().enumerate() {
                    write!(f, "{}{constant}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str(")")
            }
            Right::Constants(constants) => constants.iter().try_for_each(|constant| match (self.left.ty(), constant) {
                (Type::Bool, Constant::Number(truth)) => write!(f, " {}", *truth != 0),
                _ => write!(f, " {constant}"),
            }),
        }
    }
}

impl fmt::Display for Constant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Constant::Number(number) => write!(f, "{number}"),
            Constant::Ip(ip) => write!(f, "{ip}"),
            Constant::Net(net) => write!(f, "{net}"),
            Constant::Text(text) => {
                let text = String::from_utf8_lossy(text);
                let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"()\"'=,\\".contains(c);
                if !text.is_empty() && text.chars().all(plain) {
                    return f.write_str(&text);
                }
                write!(f, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
            }
        }
    }
}
