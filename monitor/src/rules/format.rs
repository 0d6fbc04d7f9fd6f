//! Output templates: `%field` and `%field[1]` in text.

use std::{collections::BTreeMap, fmt, ops::Range};

use super::compile::field;
use crate::{
    event::{
        field::{Argument, Field, Fields},
        value::{Type, Value},
    },
    finding::is_unprintable,
    proto::v1,
};

/// What stands for a missing value.
const MISSING: &str = "<NA>";

/// A compiled output.
#[derive(Clone, Debug)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Field { field: Field, argument: Argument, name: String },
}

/// An output with an event's values put in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rendered {
    /// The text; nothing in it can steer a terminal.
    pub message: String,
    /// The values, by the fields' names as written.
    pub output_fields: BTreeMap<String, v1::Value>,
}

/// What is wrong with an output, and where in its text.
pub(super) struct OutputError {
    pub(super) message: String,
    pub(super) help: Option<String>,
    pub(super) span: Range<usize>,
}

impl Template {
    /// Compiles an output.
    pub(super) fn compile(text: &str) -> Result<Self, OutputError> {
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let Some(percent) = rest.find('%') else {
                parts.push(Part::Text(rest.to_owned()));
                break;
            };
            if percent > 0 {
                parts.push(Part::Text(rest.get(..percent).unwrap_or_default().to_owned()));
            }
            let start = at + percent + 1;
            let token = token(text.get(start..).unwrap_or_default());
            let span = start - 1..start + token.len();
            at = span.end;
            parts.push(part(token).map_err(|(message, help)| OutputError { message, help, span })?);
        }
        Ok(Self { parts })
    }

    /// The fields that it names.
    pub fn fields(&self) -> impl Iterator<Item = Field> {
        self.parts.iter().filter_map(|part| match part {
            Part::Field { field, .. } => Some(*field),
            Part::Text(_) => None,
        })
    }

    /// Puts an event's values in.
    pub(super) fn render<F: Fields + ?Sized>(&self, event: &F) -> Rendered {
        let mut rendered = Rendered::default();
        for part in &self.parts {
            match part {
                Part::Text(text) => rendered.message.push_str(text),
                Part::Field { field, argument, name } => {
                    let value = event.value(*field, *argument);
                    push(&mut rendered.message, value.as_ref(), field.info().ty);
                    let value = v1::Value { value: value.map(v1::value::Value::from) };
                    rendered.output_fields.insert(name.clone(), value);
                }
            }
        }
        rendered
    }
}

/// As written.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Field { name, .. } => write!(f, "%{name}"),
        })
    }
}

/// The longest run of characters that may name a field, with brackets.
fn token(rest: &str) -> &str {
    let name = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.')).unwrap_or(rest.len());
    // A full stop behind a field ends the sentence.
    let name = rest.get(..name).unwrap_or_default().trim_end_matches('.').len();
    let brackets = match rest.get(name..) {
        Some(after) if after.starts_with('[') => after.find(']').map_or(0, |close| close + 1),
        _ => 0,
    };
    rest.get(..name + brackets).unwrap_or_default()
}

fn part(token: &str) -> Result<Part, (String, Option<String>)> {
    if token.is_empty() {
        return Err(("a `%` must be followed by a field's name".into(), None));
    }
    let (name, brackets) = match token.split_once('[') {
        Some((name, rest)) => (name, rest.strip_suffix(']')),
        None => (token, None),
    };
    let (field, argument) = field(name, brackets)?;
    Ok(Part::Field { field, argument, name: token.to_owned() })
}

fn push(message: &mut String, value: Option<&Value<'_>>, ty: Type) {
    match value {
        None => message.push_str(MISSING),
        Some(Value::Text(text)) => push_printable(message, text),
        Some(Value::Int(number)) => message.push_str(&number.to_string()),
        Some(Value::Uint(time)) if ty == Type::Time => message.push_str(&time_of_day(*time)),
        Some(Value::Uint(number)) => message.push_str(&number.to_string()),
        Some(Value::Bool(truth)) => message.push_str(if *truth { "true" } else { "false" }),
        Some(Value::TextList(items)) => {
            message.push('(');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    message.push(',');
                }
                push_printable(message, item);
            }
            message.push(')');
        }
    }
}

/// Bytes of a process that is watched must not steer the terminal of who watches.
fn push_printable(message: &mut String, bytes: &[u8]) {
    for c in String::from_utf8_lossy(bytes).chars() {
        if is_unprintable(c) {
            message.extend(c.escape_default());
        } else {
            message.push(c);
        }
    }
}

/// `HH:MM:SS.nnnnnnnnn` of nanoseconds since 1970, UTC.
fn time_of_day(nanoseconds: u64) -> String {
    let (seconds, fraction) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    format!("{:02}:{:02}:{:02}.{fraction:09}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}
