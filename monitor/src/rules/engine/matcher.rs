//! A comparison with constants, ready to be asked of a value.

use std::net::IpAddr;

use hashbrown::HashSet;
use ipnet::IpNet;
use memchr::memmem;

use crate::{
    event::value::{Class, Value},
    rules::{
        condition::{Check, Constant, Right},
        glob,
        parse::{Operator, Quantifier},
    },
};

/// Bytes of a compiled regular expression.
const REGEX_BYTES: usize = 1 << 18;

/// What is asked of a value.
#[derive(Debug)]
pub(crate) enum Matcher {
    /// Nothing: it is there.
    Exists,
    /// Equals one of these; or, if not, none of them.
    Among(Set, bool),
    /// Number or text before or behind this one.
    Order(Operator, Constant),
    Contains(Box<memmem::Finder<'static>>),
    /// In lower case.
    ContainsIgnoringCase(Vec<u8>),
    StartsWith(Vec<u8>),
    EndsWith(Vec<u8>),
    Glob(Vec<u8>, bool),
    Regex(Box<regex::Regex>),
    /// One of these, split into components, is where the path begins.
    PathPrefix(Vec<Vec<Vec<u8>>>),
    /// Every item of the list is one of these; or, if not, some item is.
    Items(Set, bool),
    /// As many as the quantifier says accept the value.
    Several(Quantifier, Vec<Matcher>),
}

/// Constants that a value may equal.
#[derive(Debug)]
pub(crate) enum Set {
    Text(Vec<u8>),
    Texts(HashSet<Vec<u8>>),
    Number(i128),
    Numbers(HashSet<i128>),
    Ips(HashSet<IpAddr>),
    /// Equal to a network is inside of it.
    Nets(Vec<IpNet>),
}

impl Set {
    fn new<'c>(class: Class, constants: impl IntoIterator<Item = &'c Constant>) -> Self {
        let constants = constants.into_iter();
        match class {
            Class::Text | Class::Bytes => {
                let texts: Vec<_> = constants.filter_map(|constant| constant.text().map(<[u8]>::to_vec)).collect();
                match <[Vec<u8>; 1]>::try_from(texts) {
                    Ok([text]) => Set::Text(text),
                    Err(texts) => Set::Texts(texts.into_iter().collect()),
                }
            }
            Class::Number | Class::Bool => {
                let numbers: Vec<_> = constants.filter_map(Constant::number).collect();
                match numbers.as_slice() {
                    [number] => Set::Number(*number),
                    _ => Set::Numbers(numbers.into_iter().collect()),
                }
            }
            Class::Ip => Set::Ips(
                constants
                    .filter_map(|constant| if let Constant::Ip(ip) = constant { Some(*ip) } else { None })
                    .collect(),
            ),
            Class::Net => Set::Nets(
                constants
                    .filter_map(|constant| if let Constant::Net(net) = constant { Some(*net) } else { None })
                    .collect(),
            ),
        }
    }

    fn contains(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Set::Text(one), Value::Text(text)) => one.as_slice() == text.as_ref(),
            (Set::Texts(texts), Value::Text(text)) => texts.contains(text.as_ref()),
            #[expect(
                clippy::cast_precision_loss,
                clippy::float_cmp,
                reason = "as Falco compares a DOUBLE with a number"
            )]
            (Set::Number(number), Value::Float(float)) => *number as f64 == *float,
            #[expect(
                clippy::cast_precision_loss,
                clippy::float_cmp,
                reason = "as Falco compares a DOUBLE with a number"
            )]
            (Set::Numbers(numbers), Value::Float(float)) => numbers.iter().any(|number| *number as f64 == *float),
            (Set::Number(number), value) => value.as_number() == Some(*number),
            (Set::Numbers(numbers), value) => value.as_number().is_some_and(|number| numbers.contains(&number)),
            (Set::Ips(ips), Value::Ip(ip)) => ips.contains(&ip.0),
            (Set::Nets(nets), Value::Ip(ip)) => nets.iter().any(|net| net.contains(&ip.0)),
            _ => false,
        }
    }
}

impl Matcher {
    /// Of a check with constants; or why its regular expression is none.
    pub(crate) fn new(check: &Check) -> Result<Self, String> {
        let Right::Constants(constants) = &check.right else { return Err("the right side is a field".to_owned()) };
        let class = check.left.ty().class();
        let equality = matches!(check.operator, Operator::Eq | Operator::Assign | Operator::Ne);
        match check.quantifier {
            // Equality with several is a question of membership.
            Some(Quantifier::Anyof) if equality && check.operator != Operator::Ne => {
                Ok(Self::Among(Set::new(class, constants), true))
            }
            Some(Quantifier::Allof) if check.operator == Operator::Ne && !constants.is_empty() => {
                Ok(Self::Among(Set::new(class, constants), false))
            }
            Some(quantifier) => {
                let one = |constant| Self::simple(check.operator, class, std::slice::from_ref(constant));
                constants.iter().map(one).collect::<Result<_, _>>().map(|all| Self::Several(quantifier, all))
            }
            None if check.left.is_list() && check.operator != Operator::Exists => {
                Ok(Self::Items(Set::new(class, constants), check.operator == Operator::In))
            }
            None => Self::simple(check.operator, class, constants),
        }
    }

    fn simple(operator: Operator, class: Class, constants: &[Constant]) -> Result<Self, String> {
        let text = || constants.first().and_then(Constant::text).unwrap_or_default().to_vec();
        Ok(match operator {
            Operator::Exists => Self::Exists,
            Operator::Eq | Operator::Assign | Operator::In | Operator::Intersects => {
                Self::Among(Set::new(class, constants), true)
            }
            Operator::Ne => Self::Among(Set::new(class, constants), false),
            Operator::Lt | Operator::Le | Operator::Gt | Operator::Ge => {
                Self::Order(operator, constants.first().cloned().unwrap_or(Constant::Number(0)))
            }
            Operator::Contains | Operator::Bcontains => {
                Self::Contains(Box::new(memmem::Finder::new(&text()).into_owned()))
            }
            Operator::Icontains => Self::ContainsIgnoringCase(text().to_ascii_lowercase()),
            Operator::Startswith | Operator::Bstartswith => Self::StartsWith(text()),
            Operator::Endswith => Self::EndsWith(text()),
            Operator::Glob => Self::Glob(text(), false),
            Operator::Iglob => Self::Glob(text(), true),
            Operator::Regex => Self::Regex(Box::new(regex(&text())?)),
            Operator::Pmatch => {
                let paths = constants.iter().filter_map(Constant::text);
                Self::PathPrefix(paths.map(|path| components(path).map(<[u8]>::to_vec).collect()).collect())
            }
        })
    }

    /// Whether a value fits.
    pub(crate) fn accepts(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Self::Exists, _) => true,
            (Self::Among(set, among), value) => set.contains(value) == *among,
            (Self::Items(set, true), Value::List(items)) => items.iter().all(|item| set.contains(item)),
            (Self::Items(set, false), Value::List(items)) => items.iter().any(|item| set.contains(item)),
            (Self::Order(operator, constant), value) => is_ordered(*operator, value, constant),
            (Self::Several(quantifier, all), value) => {
                let mut accepting = all.iter().filter(|matcher| matcher.accepts(value));
                match quantifier {
                    Quantifier::Oneof => accepting.next().is_some() && accepting.next().is_none(),
                    Quantifier::Anyof => accepting.next().is_some(),
                    Quantifier::Allof => !all.is_empty() && accepting.count() == all.len(),
                }
            }
            (matcher, Value::Text(text)) => matcher.accepts_text(text),
            _ => false,
        }
    }

    fn accepts_text(&self, text: &[u8]) -> bool {
        match self {
            Self::Contains(finder) => finder.find(text).is_some(),
            Self::ContainsIgnoringCase(part) => contains_ignoring_case(text, part),
            Self::StartsWith(part) => text.starts_with(part),
            Self::EndsWith(part) => text.ends_with(part),
            Self::Glob(pattern, ignore_case) => glob::matches(pattern, text, *ignore_case),
            // Bytes that are no text count as U+FFFD.
            Self::Regex(regex) => regex.is_match(&String::from_utf8_lossy(text)),
            Self::PathPrefix(paths) => paths.iter().any(|path| is_path_prefix(path, text)),
            _ => false,
        }
    }
}

/// A comparison of two fields' values.
pub(crate) fn compare(operator: Operator, left: &Value<'_>, right: &Value<'_>) -> bool {
    if let (Value::List(left), Value::List(right)) = (left, right) {
        let among = |item| right.contains(item);
        return match operator {
            Operator::In => left.iter().all(among),
            _ => left.iter().any(among),
        };
    }
    match operator {
        Operator::Eq | Operator::Assign | Operator::In | Operator::Intersects => equal(left, right),
        Operator::Ne => !equal(left, right),
        Operator::Lt | Operator::Le | Operator::Gt | Operator::Ge => match (left, right) {
            (Value::Text(left), Value::Text(right)) => holds(operator, left.cmp(right)),
            (Value::Float(left), Value::Float(right)) => {
                left.partial_cmp(right).is_some_and(|order| holds(operator, order))
            }
            _ => match (left.as_number(), right.as_number()) {
                (Some(left), Some(right)) => holds(operator, left.cmp(&right)),
                _ => false,
            },
        },
        _ => match (left.as_text(), right.as_text()) {
            (Some(left), Some(right)) => compare_texts(operator, left, right),
            _ => false,
        },
    }
}

fn equal(left: &Value<'_>, right: &Value<'_>) -> bool {
    match (left.as_number(), right.as_number()) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

fn compare_texts(operator: Operator, left: &[u8], right: &[u8]) -> bool {
    match operator {
        Operator::Contains | Operator::Bcontains => memmem::find(left, right).is_some(),
        Operator::Icontains => contains_ignoring_case(left, &right.to_ascii_lowercase()),
        Operator::Startswith | Operator::Bstartswith => left.starts_with(right),
        Operator::Endswith => left.ends_with(right),
        Operator::Glob => glob::matches(right, left, false),
        Operator::Iglob => glob::matches(right, left, true),
        _ => false,
    }
}

fn holds(operator: Operator, order: std::cmp::Ordering) -> bool {
    match operator {
        Operator::Lt => order.is_lt(),
        Operator::Le => order.is_le(),
        Operator::Gt => order.is_gt(),
        _ => order.is_ge(),
    }
}

fn is_ordered(operator: Operator, value: &Value<'_>, constant: &Constant) -> bool {
    match (value, constant) {
        (Value::Text(text), Constant::Text(other)) => holds(operator, text.as_ref().cmp(other)),
        #[expect(clippy::cast_precision_loss, reason = "as Falco compares a DOUBLE with a number")]
        (Value::Float(float), Constant::Number(number)) => {
            float.partial_cmp(&(*number as f64)).is_some_and(|order| holds(operator, order))
        }
        (value, Constant::Number(other)) => value.as_number().is_some_and(|number| holds(operator, number.cmp(other))),
        _ => false,
    }
}

/// `part` is in lower case.
fn contains_ignoring_case(text: &[u8], part: &[u8]) -> bool {
    let Some((first, rest)) = part.split_first() else { return true };
    memchr::memchr2_iter(*first, first.to_ascii_uppercase(), text).any(|at| {
        let behind = text.get(at + 1..).and_then(|behind| behind.get(..rest.len()));
        behind.is_some_and(|behind| behind.eq_ignore_ascii_case(rest))
    })
}

/// A regular expression as RE2's POSIX mode reads it: the whole value must match, a dot does not match a line feed, and `^`
/// and `$` match at line feeds.
fn regex(pattern: &[u8]) -> Result<regex::Regex, String> {
    let build = |pattern: &str| regex::RegexBuilder::new(pattern).multi_line(true).size_limit(REGEX_BYTES).build();
    let pattern = str::from_utf8(pattern).map_err(|error| error.to_string())?;
    if let Some(perl) = perl_syntax(pattern) {
        return Err(format!(
            "`{perl}` is not known to regex, which reads POSIX regular expressions: write classes such as [0-9]"
        ));
    }
    // By itself first, so that it cannot close the group around it.
    build(pattern).and_then(|_| build(&format!("\\A(?:{pattern})\\z"))).map_err(|error| {
        let reason = error.to_string();
        let last = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("`{pattern}` is not a regex (regular expression): {last}")
    })
}

/// The first piece of a pattern that POSIX does not have: groups that begin with `(?`, classes and places such as `\\d` and `\\b`.
fn perl_syntax(pattern: &str) -> Option<&str> {
    let mut within_class = false;
    let mut bytes = pattern.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'[' => within_class = true,
            b']' => within_class = false,
            b'(' if !within_class && pattern.get(at + 1..).is_some_and(|rest| rest.starts_with('?')) => {
                return pattern.get(at..at + 2);
            }
            b'\\' => {
                if let Some((
                    at,
                    b'd' | b'D' | b's' | b'S' | b'w' | b'W' | b'b' | b'B' | b'A' | b'z' | b'p' | b'P' | b'Q',
                )) = bytes.next()
                {
                    return pattern.get(at - 1..=at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Components of a path.
fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
}

fn is_path_prefix(path: &[Vec<u8>], text: &[u8]) -> bool {
    let mut rest = components(text);
    path.iter().all(|wanted| rest.next().is_some_and(|component| is_component(wanted, component)))
}

/// A component with `?`, `*` or `[` is a pattern.
fn is_component(wanted: &[u8], component: &[u8]) -> bool {
    if wanted.iter().any(|byte| b"?*[".contains(byte)) {
        glob::matches(wanted, component, false)
    } else {
        wanted == component
    }
}
