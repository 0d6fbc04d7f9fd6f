//! The meaning of a condition, said as plainly as possible: a walk over the tree that asks each check anew.
//!
//! Nothing runs rules this way. The tests hold the engine against it, and the benches measure what the engine gains. It shares
//! the operands' values with the engine and none of the comparing.

use std::{net::IpAddr, sync::Arc};

use hashbrown::{HashMap, HashSet};

use super::{
    condition::{Check, Constant, Expr, Right},
    glob,
    operand::Operand,
    parse::{Operator, Quantifier},
};
use crate::event::{
    field::Fields,
    value::{Type, Value},
};

/// A condition to be walked. Regular expressions and sets are made once; nothing else is prepared.
#[derive(Debug)]
pub struct Reference(Node);

#[derive(Debug)]
enum Node {
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Check(Box<Prepared>),
}

#[derive(Debug)]
struct Prepared {
    check: Arc<Check>,
    regexes: HashMap<Vec<u8>, regex::Regex>,
    /// The values of `in`, as one would keep them anywhere.
    set: Option<HashSet<Vec<u8>>>,
}

impl Reference {
    /// Of a condition.
    pub fn new(expr: &Expr) -> Self {
        Self(Node::new(expr))
    }

    /// Whether an event satisfies it.
    pub fn matches<F: Fields + ?Sized>(&self, event: &F) -> bool {
        self.0.holds(event)
    }
}

impl Node {
    fn new(expr: &Expr) -> Self {
        match expr {
            Expr::And(exprs) => Node::And(exprs.iter().map(Node::new).collect()),
            Expr::Or(exprs) => Node::Or(exprs.iter().map(Node::new).collect()),
            Expr::Not(expr) => Node::Not(Box::new(Node::new(expr))),
            Expr::Check(check) => Node::Check(Box::new(Prepared::new(check))),
        }
    }

    fn holds<F: Fields + ?Sized>(&self, event: &F) -> bool {
        match self {
            Node::And(nodes) => nodes.iter().all(|node| node.holds(event)),
            Node::Or(nodes) => nodes.iter().any(|node| node.holds(event)),
            Node::Not(node) => !node.holds(event),
            Node::Check(check) => check.ask(event),
        }
    }
}

impl Prepared {
    fn new(check: &Arc<Check>) -> Self {
        let (mut regexes, mut set) = (HashMap::new(), None);
        if let Right::Constants(constants) = &check.right {
            let texts = constants.iter().filter_map(Constant::text);
            match check.operator {
                Operator::Regex => regexes.extend(texts.filter_map(|text| {
                    let pattern = format!("(?m)\\A(?:{})\\z", str::from_utf8(text).ok()?);
                    Some((text.to_vec(), regex::Regex::new(&pattern).ok()?))
                })),
                Operator::In if check.left.ty() == Type::Text && !check.left.is_list() => {
                    set = Some(texts.map(<[u8]>::to_vec).collect());
                }
                _ => {}
            }
        }
        Self { check: Arc::clone(check), regexes, set }
    }

    fn ask<F: Fields + ?Sized>(&self, event: &F) -> bool {
        let check = &*self.check;
        if check.asks_several() {
            let Operand::Field { field, argument } = &check.left else { return false };
            let mut held = Vec::new();
            event.values(*field, argument, &mut |value| held.push(self.holds(&value)));
            let both_ends = check.operator == Operator::Ne && check.left.differs_in_all();
            return if both_ends { !held.is_empty() && !held.contains(&false) } else { held.contains(&true) };
        }
        let Some(left) = check.left.value(event) else { return false };
        match &check.right {
            Right::Constants(_) => self.holds(&left),
            Right::Operand(right) => right.value(event).is_some_and(|right| fields(check.operator, &left, &right)),
        }
    }

    /// Whether a value fits the constants.
    fn holds(&self, left: &Value<'_>) -> bool {
        let check = &*self.check;
        let Right::Constants(constants) = &check.right else { return false };
        let one = |constant: &Constant| self.compare(check.operator, left, constant);
        match (check.operator, check.quantifier, left) {
            (Operator::Exists, ..) => true,
            (_, Some(quantifier), _) => {
                let count = constants.iter().filter(|constant| one(constant)).count();
                match quantifier {
                    Quantifier::Oneof => count == 1,
                    Quantifier::Anyof => count > 0,
                    Quantifier::Allof => count > 0 && count == constants.len(),
                }
            }
            (Operator::In, None, Value::List(items)) => {
                items.iter().all(|item| constants.iter().any(|constant| equals(item, constant)))
            }
            (Operator::Intersects, None, Value::List(items)) => {
                items.iter().any(|item| constants.iter().any(|constant| equals(item, constant)))
            }
            (Operator::In, None, Value::Text(text)) if let Some(set) = &self.set => set.contains(text.as_ref()),
            (Operator::In | Operator::Intersects | Operator::Pmatch, None, _) => constants.iter().any(one),
            _ => constants.first().is_some_and(one),
        }
    }

    fn compare(&self, operator: Operator, left: &Value<'_>, constant: &Constant) -> bool {
        match (operator, left, constant) {
            (Operator::Eq | Operator::Assign | Operator::In | Operator::Intersects, ..) => equals(left, constant),
            (Operator::Ne, ..) => !equals(left, constant),
            (_, Value::Text(left), Constant::Text(right)) => {
                if operator == Operator::Regex {
                    let text = String::from_utf8_lossy(left);
                    return self.regexes.get(right).is_some_and(|regex| regex.is_match(&text));
                }
                texts(operator, left, right)
            }
            #[expect(clippy::cast_precision_loss, reason = "as Falco compares a DOUBLE with a number")]
            (_, Value::Float(left), Constant::Number(right)) => in_order(operator, left, &(*right as f64)),
            (_, left, Constant::Number(right)) => left.as_number().is_some_and(|left| in_order(operator, &left, right)),
            _ => false,
        }
    }
}

fn equals(left: &Value<'_>, constant: &Constant) -> bool {
    match (left, constant) {
        (Value::Text(left), Constant::Text(right)) => left.as_ref() == right.as_slice(),
        #[expect(clippy::cast_precision_loss, clippy::float_cmp, reason = "as Falco compares a DOUBLE with a number")]
        (Value::Float(left), Constant::Number(right)) => *left == *right as f64,
        (Value::Ip(left), Constant::Ip(right)) => left.0 == *right,
        (Value::Ip(left), Constant::Net(net)) => match (left.0, net.network(), net.prefix_len()) {
            (IpAddr::V4(left), IpAddr::V4(net), len) => {
                same_bits(u128::from(left.to_bits()), u128::from(net.to_bits()), 32 - len)
            }
            (IpAddr::V6(left), IpAddr::V6(net), len) => same_bits(left.to_bits(), net.to_bits(), 128 - len),
            _ => false,
        },
        (left, Constant::Number(right)) => left.as_number() == Some(*right),
        _ => false,
    }
}

/// Whether two addresses agree but for the last bits.
fn same_bits(a: u128, b: u128, last: u8) -> bool {
    (a ^ b).checked_shr(last.into()).unwrap_or(0) == 0
}

fn in_order<T: PartialOrd>(operator: Operator, left: &T, right: &T) -> bool {
    match operator {
        Operator::Lt => left < right,
        Operator::Le => left <= right,
        Operator::Gt => left > right,
        Operator::Ge => left >= right,
        _ => false,
    }
}

fn texts(operator: Operator, left: &[u8], right: &[u8]) -> bool {
    let contains = |left: &[u8], right: &[u8]| memchr::memmem::find(left, right).is_some();
    match operator {
        Operator::Contains | Operator::Bcontains => contains(left, right),
        Operator::Icontains => contains(&left.to_ascii_lowercase(), &right.to_ascii_lowercase()),
        Operator::Startswith | Operator::Bstartswith => left.starts_with(right),
        Operator::Endswith => left.ends_with(right),
        Operator::Glob => glob::matches(right, left, false),
        Operator::Iglob => glob::matches(right, left, true),
        Operator::Pmatch => {
            let split = |path: &[u8]| -> Vec<Vec<u8>> {
                path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).map(<[u8]>::to_vec).collect()
            };
            let (value, prefix) = (split(left), split(right));
            prefix.len() <= value.len()
                && prefix.iter().zip(&value).all(|(wanted, part)| {
                    let pattern = wanted.iter().any(|byte| matches!(byte, b'?' | b'*' | b'['));
                    if pattern { glob::matches(wanted, part, false) } else { wanted == part }
                })
        }
        _ => in_order(operator, &left, &right),
    }
}

/// A comparison of two fields.
fn fields(operator: Operator, left: &Value<'_>, right: &Value<'_>) -> bool {
    let equal = |left: &Value<'_>, right: &Value<'_>| match (left.as_number(), right.as_number()) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    };
    match (operator, left, right) {
        (Operator::In, Value::List(left), Value::List(right)) => {
            left.iter().all(|item| right.iter().any(|other| equal(item, other)))
        }
        (_, Value::List(left), Value::List(right)) => {
            left.iter().any(|item| right.iter().any(|other| equal(item, other)))
        }
        (Operator::Eq | Operator::Assign | Operator::In | Operator::Intersects, ..) => equal(left, right),
        (Operator::Ne, ..) => !equal(left, right),
        (_, Value::Text(left), Value::Text(right)) => texts(operator, left, right),
        (_, Value::Float(left), Value::Float(right)) => in_order(operator, left, right),
        _ => match (left.as_number(), right.as_number()) {
            (Some(left), Some(right)) => in_order(operator, &left, &right),
            _ => false,
        },
    }
}
