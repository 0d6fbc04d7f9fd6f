//! What stands on a side of a comparison or behind a `%`: a field, changed by transformers or not.

use std::{borrow::Cow, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

use super::parse::Transformer;
use crate::event::{
    field::{Argument, Field, Fields},
    value::{Class, Type, Value},
};

/// Largest text that transformers make of an event's values.
const MAX_BYTES: usize = 1 << 20;
/// Most items that `getopt` finds.
const MAX_OPTIONS: usize = 4096;

/// A source of values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Operand {
    /// A field.
    Field {
        /// Which.
        field: Field,
        /// What stands in its brackets.
        argument: Argument,
    },
    /// A constant among the arguments of a transformer.
    Text(Vec<u8>),
    /// A list of values.
    List(Vec<Operand>),
    /// `tolower`, `toupper`, `b64`, `basename` or `len` of a value.
    Apply(Function, Box<Operand>),
    /// `join(separator, list)`
    Join(Box<Operand>, Box<Operand>),
    /// `concat(a, b, …)`
    Concat(Vec<Operand>),
    /// `getopt(arguments, options)`, with the letter in brackets behind it.
    Getopt(Box<Operand>, Box<Operand>, Option<u8>),
}

/// A transformer of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Function {
    /// ASCII letters to lower case.
    Tolower,
    /// ASCII letters to upper case.
    Toupper,
    /// What the value is the base64 of.
    B64,
    /// What stands behind the last slash.
    Basename,
    /// Bytes of a text, items of a list.
    Len,
}

impl Function {
    pub(super) const fn of(transformer: Transformer) -> Option<Self> {
        match transformer {
            Transformer::Tolower => Some(Self::Tolower),
            Transformer::Toupper => Some(Self::Toupper),
            Transformer::B64 => Some(Self::B64),
            Transformer::Basename => Some(Self::Basename),
            Transformer::Len => Some(Self::Len),
            _ => None,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Tolower => "tolower",
            Self::Toupper => "toupper",
            Self::B64 => "b64",
            Self::Basename => "basename",
            Self::Len => "len",
        }
    }
}

impl Operand {
    /// Whether it is this field and nothing more.
    pub(super) fn is_field(&self, name: &str) -> bool {
        matches!(self, Operand::Field { field, argument: Argument::None } if field.info().name == name)
    }

    /// Type of its values.
    pub(super) fn ty(&self) -> Type {
        match self {
            Operand::Field { field, argument } => field.ty(argument),
            Operand::Apply(Function::Len, _) => Type::Uint,
            Operand::Apply(_, inner) => inner.ty(),
            Operand::List(_) | Operand::Text(_) | Operand::Join(..) | Operand::Concat(_) | Operand::Getopt(..) => {
                Type::Text
            }
        }
    }

    /// Whether its value is a list.
    pub(super) fn is_list(&self) -> bool {
        match self {
            Operand::Field { field, .. } => field.info().is_list(),
            Operand::Apply(Function::Len, _) | Operand::Text(_) | Operand::Join(..) | Operand::Concat(_) => false,
            Operand::Apply(_, inner) => inner.is_list(),
            Operand::List(_) => true,
            Operand::Getopt(_, _, letter) => letter.is_none(),
        }
    }

    /// Whether it stands for several values of which one need fit: ancestors, both ends of a connection.
    pub(super) fn is_several(&self) -> bool {
        matches!(self, Operand::Field { field, argument } if field.info().is_several(argument))
    }

    /// Whether one that differs is not enough for `!=`: both ends of a connection must.
    pub(super) fn differs_in_all(&self) -> bool {
        self.is_several() && matches!(self, Operand::Field { field, .. } if field.info().is_filter_only())
    }

    /// Whether it is a number of `evt.rawarg`.
    pub(super) fn is_native_number(&self) -> bool {
        matches!(self, Operand::Field { field, .. } if field.is_native()) && self.ty().class() == Class::Number
    }

    /// Whether it is `evt.around`.
    pub(super) fn is_around(&self) -> bool {
        matches!(self, Operand::Field { field, .. } if field.info().name == "evt.around")
    }

    /// Calls `each` for every field in it.
    pub(super) fn fields(&self, each: &mut dyn FnMut(Field, &Argument)) {
        match self {
            Operand::Field { field, argument } => each(*field, argument),
            Operand::Text(_) => {}
            Operand::List(items) | Operand::Concat(items) => items.iter().for_each(|item| item.fields(each)),
            Operand::Apply(_, inner) => inner.fields(each),
            Operand::Join(a, b) | Operand::Getopt(a, b, _) => {
                a.fields(each);
                b.fields(each);
            }
        }
    }

    /// Its value for an event, or `None` where a part of it is missing.
    #[inline]
    pub(super) fn value<'e, F: Fields + ?Sized>(&'e self, event: &'e F) -> Option<Value<'e>> {
        match self {
            Operand::Field { field, argument } => event.value(*field, argument),
            other => other.made(event),
        }
    }

    /// The value of what is more than a field.
    fn made<'e, F: Fields + ?Sized>(&'e self, event: &'e F) -> Option<Value<'e>> {
        match self {
            Operand::Field { .. } => self.value(event),
            Operand::Text(text) => Some(Value::text(text)),
            Operand::List(items) => {
                items.iter().map(|item| item.value(event).map(into_text)).collect::<Option<_>>().map(Value::List)
            }
            Operand::Apply(function, inner) => function.apply(inner.value(event)?),
            Operand::Join(separator, list) => join(&separator.value(event)?, list.value(event)?),
            Operand::Concat(items) => concat(items.iter().map(|item| item.value(event))),
            Operand::Getopt(arguments, options, letter) => {
                getopt(arguments.value(event)?, options.value(event)?.as_text()?, *letter)
            }
        }
    }
}

/// Items of a list are texts.
fn into_text(value: Value<'_>) -> Value<'_> {
    match value {
        Value::Text(_) | Value::List(_) => value,
        Value::Int(number) => Value::owned(number.to_string()),
        Value::Uint(number) => Value::owned(number.to_string()),
        Value::Float(number) => Value::owned(number.to_string()),
        Value::Bool(truth) => Value::owned(truth.to_string()),
        Value::Ip(address) => Value::owned(address.0.to_string()),
    }
}

impl Function {
    fn apply(self, value: Value<'_>) -> Option<Value<'_>> {
        match (self, value) {
            (Self::Len, Value::Text(text)) => Some(Value::Uint(text.len() as u64)),
            (Self::Len, Value::List(items)) => Some(Value::Uint(items.len() as u64)),
            (_, Value::List(items)) => {
                items.into_iter().map(|item| self.apply(item)).collect::<Option<_>>().map(Value::List)
            }
            (_, Value::Text(text)) => self.apply_to_text(text).map(Value::Text),
            _ => None,
        }
    }

    fn apply_to_text(self, text: Cow<'_, [u8]>) -> Option<Cow<'_, [u8]>> {
        Some(match self {
            Self::Tolower => Cow::Owned(text.to_ascii_lowercase()),
            Self::Toupper => Cow::Owned(text.to_ascii_uppercase()),
            Self::B64 => Cow::Owned(decode_base64(&text)?),
            Self::Basename => {
                let start = text.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
                match text {
                    Cow::Borrowed(text) => Cow::Borrowed(text.get(start..)?),
                    Cow::Owned(text) => Cow::Owned(text.get(start..)?.to_vec()),
                }
            }
            Self::Len => return None,
        })
    }
}

/// As Falco reads it: up to two `=` at the end count for nothing, and bits that are left over must be zero.
fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let once = text.strip_suffix(b"=").unwrap_or(text);
    let digits = once.strip_suffix(b"=").filter(|_| once.len() < text.len()).unwrap_or(once);
    STANDARD_NO_PAD.decode(digits).ok().filter(|_| text.is_empty() || !digits.is_empty())
}

fn join<'e>(separator: &Value<'_>, list: Value<'_>) -> Option<Value<'e>> {
    let separator = separator.as_text()?;
    let Value::List(items) = list else { return None };
    let mut joined = Vec::new();
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            joined.extend_from_slice(separator);
        }
        joined.extend_from_slice(item.as_text()?);
        if joined.len() > MAX_BYTES {
            return None;
        }
    }
    Some(Value::owned(joined))
}

fn concat<'e, 'v>(items: impl Iterator<Item = Option<Value<'v>>>) -> Option<Value<'e>> {
    let mut all = Vec::new();
    for item in items {
        all.extend_from_slice(item?.as_text()?);
        if all.len() > MAX_BYTES {
            return None;
        }
    }
    Some(Value::owned(all))
}

/// Options and their values as `getopt(3)` finds them: it ends at `--` and at the first argument that is no option; long
/// options are passed over. With a letter: the last value of that option, or the letter of one without.
fn getopt<'e>(arguments: Value<'e>, options: &[u8], letter: Option<u8>) -> Option<Value<'e>> {
    let Value::List(arguments) = arguments else { return None };
    let arguments: Vec<&[u8]> = arguments.iter().map(Value::as_text).collect::<Option<_>>()?;
    let mut found: Vec<(u8, Option<&[u8]>)> = Vec::new();
    let mut rest = arguments.iter();
    'arguments: while let Some(argument) = rest.next() {
        let letters = match argument {
            [b'-', b'-'] => break,
            [b'-', b'-', ..] => continue,
            [b'-', letters @ ..] if !letters.is_empty() => letters,
            _ => break,
        };
        for (at, option) in letters.iter().enumerate() {
            if found.len() == MAX_OPTIONS {
                break 'arguments;
            }
            match kind(options, *option) {
                None if letter.is_none() => found.push((b'?', None)),
                None => {}
                Some(false) => found.push((*option, None)),
                Some(true) => {
                    let attached = letters.get(at + 1..).filter(|value| !value.is_empty());
                    match attached.or_else(|| rest.next().copied()) {
                        Some(value) => found.push((*option, Some(value))),
                        // Its value is missing.
                        None if letter == Some(*option) => found.push((*option, Some(b""))),
                        None => found.push((0, None)),
                    }
                    break;
                }
            }
        }
    }
    let text = |bytes: &[u8]| Value::owned(bytes.to_vec());
    match letter {
        Some(letter) => {
            let (option, value) = found.iter().rev().find(|(option, _)| *option == letter)?;
            Some(text(value.unwrap_or(&[*option])))
        }
        None => {
            let items = found.iter().flat_map(|(option, value)| {
                let name = if *option == 0 { Value::owned(Vec::new()) } else { text(&[*option]) };
                std::iter::once(name).chain(value.map(text))
            });
            Some(Value::List(items.collect()))
        }
    }
}

/// Whether an option is known, and takes a value.
fn kind(options: &[u8], option: u8) -> Option<bool> {
    if option == b':' {
        return None;
    }
    let at = options.iter().position(|known| *known == option)?;
    Some(options.get(at + 1) == Some(&b':'))
}

/// As it is written.
impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, items: &[Operand]| {
            items
                .iter()
                .enumerate()
                .try_for_each(|(index, item)| write!(f, "{}{item}", if index > 0 { ", " } else { "" }))
        };
        match self {
            Operand::Field { field, argument } => write!(f, "{}{}", field.info().name, argument.suffix(*field)),
            Operand::Text(text) => write!(f, "\"{}\"", String::from_utf8_lossy(text).replace('"', "\\\"")),
            Operand::List(items) => {
                f.write_str("(")?;
                list(f, items)?;
                f.write_str(")")
            }
            Operand::Apply(function, inner) => write!(f, "{}({inner})", function.text()),
            Operand::Join(separator, items) => write!(f, "join({separator}, {items})"),
            Operand::Concat(items) => {
                f.write_str("concat(")?;
                list(f, items)?;
                f.write_str(")")
            }
            Operand::Getopt(arguments, options, letter) => {
                write!(f, "getopt({arguments}, {options})")?;
                letter.map_or(Ok(()), |letter| write!(f, "[{}]", char::from(letter)))
            }
        }
    }
}
