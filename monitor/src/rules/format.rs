//! Output templates: `%field`, `%field[1]`, `%20field` and `%transformer(…)` in text.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    ops::Range,
};

use super::{
    operand::Operand,
    parse::{self, Transformer},
    resolve::{self, Supply},
};
use crate::{
    event::{
        field::{Argument, Field, Fields},
        schema::Format,
        value::{Type, Value},
    },
    finding::is_unprintable,
    proto::v1,
};

/// What stands for a missing value.
const MISSING: &str = "<NA>";
/// Widest column that can be asked for.
const MAX_WIDTH: usize = 4096;
/// What Falco once put container fields in for; it means nothing now.
pub(super) const CONTAINER_INFO: &str = "%container.info";
/// Falco's buffer for bytes, which the last byte but one of a text that fills it does not reach.
const MAX_BYTES: usize = 1023;
/// Longest name or transformer behind a `%` that is looked at.
const MAX_TOKEN: usize = 4096;

/// A compiled output.
#[derive(Clone, Debug)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Value(Box<Shown>),
}

/// A value in an output.
#[derive(Clone, Debug)]
struct Shown {
    operand: Operand,
    /// As it is written.
    name: String,
    /// Characters that it takes, 0 for as many as it has.
    width: usize,
    /// The plain fields in it, as they are written.
    fields: Vec<(Field, Argument, String)>,
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
#[derive(Debug)]
pub(super) struct OutputError {
    pub(super) message: String,
    pub(super) help: Option<String>,
    pub(super) span: Range<usize>,
    /// It names what other versions may know.
    pub(super) unknown: bool,
}

impl Template {
    /// Compiles an output.
    pub(super) fn compile(text: &str, supply: Supply) -> Result<Self, OutputError> {
        // A star once allowed missing values; they are always.
        let mut at = usize::from(text.starts_with('*'));
        let mut parts = Vec::new();
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let Some(percent) = rest.find('%') else {
                parts.push(Part::Text(rest.to_owned()));
                break;
            };
            if percent > 0 {
                parts.push(Part::Text(rest.get(..percent).unwrap_or_default().to_owned()));
            }
            let start = at + percent;
            if rest.get(percent..).is_some_and(|rest| rest.starts_with(CONTAINER_INFO)) {
                at = start + CONTAINER_INFO.len();
                continue;
            }
            let (shown, end) = shown(text, start, supply)?;
            parts.push(Part::Value(Box::new(shown)));
            at = end;
        }
        if parts.is_empty() {
            let message = "the output is empty".to_owned();
            return Err(OutputError { message, help: None, span: 0..text.len(), unknown: false });
        }
        Ok(Self { parts })
    }

    /// The fields that it names.
    pub fn fields(&self) -> impl Iterator<Item = Field> {
        self.shown().flat_map(|shown| shown.fields.iter().map(|(field, ..)| *field))
    }

    fn shown(&self) -> impl Iterator<Item = &Shown> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value(shown) => Some(&**shown),
            Part::Text(_) => None,
        })
    }

    /// Puts an event's values in.
    pub fn render<F: Fields + ?Sized>(&self, event: &F) -> Rendered {
        let mut rendered = Rendered::default();
        for part in &self.parts {
            match part {
                Part::Text(text) => rendered.message.push_str(text),
                Part::Value(shown) => shown.render(event, &mut rendered),
            }
        }
        rendered
    }
}

impl Shown {
    fn render<F: Fields + ?Sized>(&self, event: &F, rendered: &mut Rendered) {
        let start = rendered.message.len();
        match &self.operand {
            Operand::Field { field, argument } if field.info().is_several(argument) => {
                push_several(&mut rendered.message, event, *field, argument);
            }
            Operand::Field { field, argument } => match field_value(event, *field, argument) {
                Some(Told::As(text)) => push_printable(&mut rendered.message, text.as_bytes()),
                Some(Told::Is(Value::Uint(number))) if field.format(argument) == Format::PaddedDec => {
                    // Writing to memory does not fail.
                    let _ = write!(rendered.message, "{number:09}");
                }
                Some(Told::Is(value)) => push(&mut rendered.message, Some(&value)),
                None => push(&mut rendered.message, None),
            },
            operand => match operand.value(event) {
                Some(Value::Text(bytes)) if operand.ty() == Type::Bytes => rendered.message.push_str(&dots(&bytes)),
                value => push(&mut rendered.message, value.as_ref()),
            },
        }
        if self.width > 0 {
            let shown = rendered.message.split_off(start);
            rendered.message.extend(shown.chars().chain(std::iter::repeat(' ')).take(self.width));
        }
        for (field, argument, name) in &self.fields {
            let value = v1::Value { value: json_value(event, *field, argument) };
            rendered.output_fields.insert(name.clone(), value);
        }
    }
}

/// Times of day are numbers for machines.
fn json_value<F: Fields + ?Sized>(event: &F, field: Field, argument: &Argument) -> Option<v1::value::Value> {
    let name = field.info().name;
    if field.info().is_several(argument) {
        let mut text = String::new();
        push_several(&mut text, event, field, argument);
        return (text != MISSING).then_some(v1::value::Value::Text(text));
    }
    if CLOCKS.contains(&name) {
        return event.value(Field::find("evt.rawtime")?, &Argument::None).map(v1::value::Value::from);
    }
    field_value(event, field, argument).map(|told| match told {
        Told::As(text) => v1::value::Value::Text(text),
        Told::Is(value) => value.into(),
    })
}

/// Fields whose texts are times of day.
const CLOCKS: [&str; 6] =
    ["evt.time", "evt.time.s", "evt.time.iso8601", "evt.datetime", "evt.datetime.s", "evt.outputtime"];

/// A field's value as outputs have it.
enum Told<'e> {
    /// As it is.
    Is(Value<'e>),
    /// As this text.
    As(String),
}

fn field_value<'e, F: Fields + ?Sized>(event: &'e F, field: Field, argument: &Argument) -> Option<Told<'e>> {
    if field.info().is_unresolved() {
        return None;
    }
    let value = event.value(field, argument)?;
    let ty = field.ty(argument);
    let text = match (&value, field.format(argument)) {
        (Value::Text(bytes), _) if ty == Type::Bytes => dots(bytes),
        // Numbers of less than 64 bits are printed as such.
        (Value::Int(number), Format::Hex | Format::Oct) if matches!(ty, Type::Int16 | Type::Int32) => {
            in_base(number.cast_unsigned() & u64::from(u32::MAX), field.format(argument))
        }
        (Value::Int(number), format @ (Format::Hex | Format::Oct)) => in_base(number.cast_unsigned(), format),
        (Value::Uint(number), format @ (Format::Hex | Format::Oct)) => in_base(*number, format),
        _ => return Some(Told::Is(value)),
    };
    Some(Told::As(text))
}

fn in_base(number: u64, format: Format) -> String {
    if format == Format::Hex { format!("{number:X}") } else { format!("{number:o}") }
}

fn push_several<F: Fields + ?Sized>(message: &mut String, event: &F, field: Field, argument: &Argument) {
    let start = message.len();
    event.values(field, argument, &mut |value| {
        if message.len() > start {
            message.push(' ');
        }
        push(message, Some(&value));
    });
    if message.len() == start {
        message.push_str(MISSING);
    }
}

/// As written.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Value(shown) if shown.width > 0 => write!(f, "%{}{}", shown.width, shown.name),
            Part::Value(shown) => write!(f, "%{}", shown.name),
        })
    }
}

/// What the `%` at a place stands for, and where it ends: the longest piece of text that is a field or a transformer.
fn shown(text: &str, percent: usize, supply: Supply) -> Result<(Shown, usize), OutputError> {
    let behind = text.get(percent + 1..).unwrap_or_default();
    let digits = behind.len() - behind.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let start = percent + 1 + digits;
    let rest = text.get(start..).unwrap_or_default();
    let refuse = |message: &str, end: usize| OutputError {
        message: message.to_owned(),
        help: None,
        span: percent..end,
        unknown: false,
    };
    if rest.is_empty() {
        return Err(refuse("an output cannot end with a `%` or a number: a field must follow", start));
    }
    let width = match behind.get(..digits) {
        Some("") | None => 0,
        Some(digits) => digits
            .parse()
            .ok()
            .filter(|width| *width <= MAX_WIDTH)
            .ok_or_else(|| refuse("this width is too large", start))?,
    };
    let (operand, len) = longest(rest, supply).map_err(|error| OutputError {
        message: error.message,
        help: error.help,
        span: percent..start + error.span.end.max(1),
        unknown: error.unknown,
    })?;
    let mut fields = Vec::new();
    operand.fields(&mut |field, argument| {
        let name = format!("{}{}", field.info().name, argument.suffix(field));
        fields.push((field, argument.clone(), name));
    });
    let name = rest.get(..len).unwrap_or_default().to_owned();
    Ok((Shown { operand, name, width, fields }, start + len))
}

/// The operand that a text begins with, and its length.
fn longest(text: &str, supply: Supply) -> Result<(Operand, usize), resolve::Wrong> {
    let is_call = Transformer::ALL
        .iter()
        .any(|transformer| text.strip_prefix(transformer.text()).is_some_and(|rest| rest.starts_with('(')));
    let mut end = text.len().min(MAX_TOKEN);
    if !is_call {
        // A field's name, and brackets with anything in them.
        let name = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.')).unwrap_or(end);
        let brackets = text.get(name..).filter(|rest| rest.starts_with('[')).and_then(|rest| rest.find(']'));
        end = end.min(brackets.map_or(name, |close| name + close + 1));
    }
    let mut first = None;
    let mut at = end;
    while at > 0 {
        let piece = text.get(..at).unwrap_or_default();
        let tried = parse::parse_term(piece)
            .map_err(|error| resolve::Wrong {
                message: error.message,
                help: error.help,
                span: error.span,
                unknown: true,
            })
            .and_then(|(term, end)| {
                resolve::operand(&term, supply).and_then(|operand| for_outputs(operand, &term.span)).map(|o| (o, end))
            });
        match tried {
            Ok(found) => return Ok(found),
            // A transformer is whole or wrong.
            Err(error) if is_call => return Err(error),
            Err(error) => {
                first.get_or_insert(error);
            }
        }
        at = piece.char_indices().next_back().map_or(0, |(last, _)| last);
    }
    Err(first.unwrap_or_else(|| {
        let found: String = text.split_whitespace().next().unwrap_or_default().chars().take(40).collect();
        resolve::Wrong::unknown(&(0..1), format!("a field's name must follow a `%`, found `{found}`"), None)
    }))
}

fn for_outputs(operand: Operand, span: &Range<usize>) -> Result<Operand, resolve::Wrong> {
    let mut filter_only = None;
    operand.fields(&mut |field, _| {
        if field.info().is_filter_only() {
            filter_only = Some(field.info().name);
        }
    });
    match filter_only {
        None => Ok(operand),
        Some(name) => Err(resolve::Wrong::new(span, format!("the field `{name}` can stand in conditions only"))),
    }
}

fn push(message: &mut String, value: Option<&Value<'_>>) {
    match value {
        None => message.push_str(MISSING),
        Some(Value::Text(text)) => push_printable(message, text),
        Some(Value::Int(number)) => message.push_str(&number.to_string()),
        Some(Value::Uint(number)) => message.push_str(&number.to_string()),
        Some(Value::Float(number)) => drop(write!(message, "{number:.1}")),
        Some(Value::Bool(truth)) => message.push_str(if *truth { "true" } else { "false" }),
        Some(Value::Ip(ip)) => message.push_str(&ip.0.to_string()),
        Some(Value::List(items)) => {
            message.push('(');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    message.push(',');
                }
                push(message, Some(item));
            }
            message.push(')');
        }
    }
}

/// What is no printable ASCII is a dot; as much as Falco has room for.
fn dots(bytes: &[u8]) -> String {
    let shown = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
    let count = if bytes.len() < MAX_BYTES { bytes.len() } else { MAX_BYTES - 2 };
    bytes.iter().take(count).map(shown).collect()
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
