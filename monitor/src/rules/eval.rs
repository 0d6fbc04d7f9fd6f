//! Compiled conditions, and what they say of an event.
//!
//! A missing value makes every check false, `!=` too. Nothing is allocated where fields are borrowed.

use hashbrown::HashSet;

use super::glob;
use crate::event::{
    EventType,
    field::{Argument, Field, Fields},
    value::Value,
};

/// A set of event types, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTypes(u64);

const _: () = assert!(EventType::NAMES.len() < 64, "event types fit a word");

impl EventTypes {
    /// None.
    pub const NONE: Self = Self(0);
    /// Every type.
    pub const ALL: Self = Self((1 << EventType::NAMES.len()) - 1);

    pub(super) const fn insert(&mut self, event_type: EventType) {
        self.0 |= 1 << event_type.number();
    }

    /// Whether a type is in it.
    pub const fn contains(self, event_type: EventType) -> bool {
        self.0 >> event_type.number() & 1 != 0
    }

    pub(super) const fn complement(self) -> Self {
        Self(Self::ALL.0 & !self.0)
    }

    pub(super) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The types, in order.
    pub fn iter(self) -> impl Iterator<Item = EventType> {
        EventType::all().filter(move |event_type| self.contains(*event_type))
    }
}

/// A condition.
#[derive(Clone, Debug)]
pub(super) enum Node {
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Check(Box<Check>),
}

/// A test of a field.
#[derive(Clone, Debug)]
pub(super) struct Check {
    pub(super) field: Field,
    pub(super) argument: Argument,
    pub(super) test: Test,
}

/// What is asked of a value.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Exists,
    EventType(EventTypes),
    Equals(Vec<u8>),
    Differs(Vec<u8>),
    TextOrder(Comparison, Vec<u8>),
    Contains(Vec<u8>),
    ContainsIgnoringCase(Vec<u8>),
    StartsWith(Vec<u8>),
    EndsWith(Vec<u8>),
    Glob(Vec<u8>, bool),
    Regex(Box<regex::Regex>),
    In(HashSet<Vec<u8>>),
    PathPrefix(Vec<Vec<Vec<u8>>>),
    AllIn(HashSet<Vec<u8>>),
    AnyIn(HashSet<Vec<u8>>),
    Number(Comparison, i128),
    NumberIn(HashSet<i128>),
    Truth(bool),
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    fn holds<T: Ord + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}

impl Node {
    /// Whether an event satisfies the condition.
    pub(super) fn matches<F: Fields + ?Sized>(&self, event_type: EventType, event: &F) -> bool {
        match self {
            Node::And(nodes) => nodes.iter().all(|node| node.matches(event_type, event)),
            Node::Or(nodes) => nodes.iter().any(|node| node.matches(event_type, event)),
            Node::Not(node) => !node.matches(event_type, event),
            Node::Check(check) => match &check.test {
                Test::EventType(types) => types.contains(event_type),
                test => event.value(check.field, check.argument).is_some_and(|value| test.accepts(&value)),
            },
        }
    }

    /// The event types that can satisfy it; others need not be looked at.
    pub(super) fn event_types(&self) -> EventTypes {
        match self {
            Node::And(nodes) => {
                nodes.iter().fold(EventTypes::ALL, |types, node| types.intersection(node.event_types()))
            }
            Node::Or(nodes) => nodes.iter().fold(EventTypes::NONE, |types, node| types.union(node.event_types())),
            // Only a condition on types alone can be turned around: `not proc.name = x` holds for every type.
            Node::Not(node) if node.is_about_types() => node.event_types().complement(),
            Node::Not(_) => EventTypes::ALL,
            Node::Check(check) => match &check.test {
                Test::EventType(types) => *types,
                _ => EventTypes::ALL,
            },
        }
    }

    fn is_about_types(&self) -> bool {
        match self {
            Node::And(nodes) | Node::Or(nodes) => nodes.iter().all(Node::is_about_types),
            Node::Not(node) => node.is_about_types(),
            Node::Check(check) => matches!(check.test, Test::EventType(_)),
        }
    }
}

impl Test {
    fn accepts(&self, value: &Value<'_>) -> bool {
        match value {
            Value::Text(text) => self.accepts_text(text),
            Value::Int(number) => self.accepts_number(i128::from(*number)),
            Value::Uint(number) => self.accepts_number(i128::from(*number)),
            Value::Bool(truth) => {
                matches!(self, Test::Exists) || matches!(self, Test::Truth(wanted) if wanted == truth)
            }
            Value::TextList(items) => match self {
                Test::Exists => true,
                Test::AllIn(set) => items.iter().all(|item| set.contains(item.as_ref())),
                Test::AnyIn(set) => items.iter().any(|item| set.contains(item.as_ref())),
                _ => false,
            },
        }
    }

    fn accepts_text(&self, text: &[u8]) -> bool {
        match self {
            Test::Exists => true,
            Test::Equals(wanted) => text == wanted,
            Test::Differs(wanted) => text != wanted,
            Test::TextOrder(comparison, wanted) => comparison.holds(text, wanted.as_slice()),
            Test::Contains(part) => contains(text, part, |a, b| a == b),
            Test::ContainsIgnoringCase(part) => contains(text, part, |a, b| a.to_ascii_lowercase() == b),
            Test::StartsWith(part) => text.starts_with(part),
            Test::EndsWith(part) => text.ends_with(part),
            Test::Glob(pattern, ignore_case) => glob::matches(pattern, text, *ignore_case),
            // What is no text matches a dot, too: bad bytes must not hide an argument from a rule.
            Test::Regex(regex) => regex.is_match(&String::from_utf8_lossy(text)),
            Test::In(set) => set.contains(text),
            Test::PathPrefix(paths) => paths.iter().any(|path| is_path_prefix(path, text)),
            _ => false,
        }
    }

    fn accepts_number(&self, number: i128) -> bool {
        match self {
            Test::Exists => true,
            Test::Number(comparison, wanted) => comparison.holds(&number, wanted),
            Test::NumberIn(set) => set.contains(&number),
            _ => false,
        }
    }
}

fn contains(text: &[u8], part: &[u8], same: impl Fn(u8, u8) -> bool) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window.iter().zip(part).all(|(a, b)| same(*a, *b)))
}

/// Components of a path.
pub(super) fn components(path: &str) -> Vec<Vec<u8>> {
    path.split('/').filter(|component| !component.is_empty()).map(|component| component.as_bytes().to_vec()).collect()
}

fn is_path_prefix(path: &[Vec<u8>], text: &[u8]) -> bool {
    let mut rest = text.split(|byte| *byte == b'/').filter(|component| !component.is_empty());
    path.iter().all(|wanted| rest.next().is_some_and(|component| glob::matches(wanted, component, false)))
}
