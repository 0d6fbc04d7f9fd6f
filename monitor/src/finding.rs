//! Views of a finding: its values, its priority, its JSON.
//!
//! [`Finding`](crate::proto::v1::Finding) is defined once, in the proto. Its JSON is derived from there (`build.rs` writes
//! the serde attributes from the descriptors), with the proto's own field names, so that what a program reads from stdout
//! and what it reads over gRPC have the same shape:
//!
//! - one object on one line, keys in the proto's order, maps sorted: the same finding is always the same bytes;
//! - numbers are JSON numbers, 64-bit ones too (read them with a parser that keeps 64-bit integers); times are
//!   nanoseconds since 1970;
//! - enums are lower-case words without their prefix (`"warning"`, `"new_executable"`), numbers that this build does not
//!   know stay numbers;
//! - an absent message has no key; an output field without a value is `null`.

use std::{
    fmt,
    io::{self, Write},
};

use serde::{
    Serialize, Serializer,
    ser::{Error as _, SerializeSeq as _},
};

use crate::proto::v1::{self, Priority, value};

/// Writes a finding, or any other message of the contract, as one line of JSON with its line feed.
///
/// Control and bidirectional-override characters are written as `\uXXXX`, which JSON readers see no difference in: the
/// line can be shown on a terminal as it is.
pub fn write_json_line(message: &impl Serialize, mut out: impl Write) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, TerminalSafe);
    message.serialize(&mut serializer)?;
    out.write_all(b"\n")
}

/// Whether a character can change what a terminal does with the text around it: controls (C0, DEL, C1), line
/// separators, and the marks that reorder text (Unicode UAX #9).
pub fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Compact JSON whose text holds nothing that a terminal obeys. `serde_json` itself escapes only C0.
struct TerminalSafe;

impl serde_json::ser::Formatter for TerminalSafe {
    fn write_string_fragment<W: Write + ?Sized>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut plain = fragment;
        while let Some(at) = plain.find(is_unprintable) {
            let (before, rest) = plain.split_at(at);
            out.write_all(before.as_bytes())?;
            let mut characters = rest.chars();
            if let Some(character) = characters.next() {
                write!(out, "\\u{:04x}", u32::from(character))?;
            }
            plain = characters.as_str();
        }
        out.write_all(plain.as_bytes())
    }
}

/// An enum field as its word. Named by the attributes that `build.rs` writes.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
pub(crate) fn word<E, S>(number: &i32, serializer: S) -> Result<S::Ok, S::Error>
where
    E: TryFrom<i32> + Serialize,
    S: Serializer,
{
    match E::try_from(*number) {
        Ok(known) => known.serialize(serializer),
        Err(_) => serializer.serialize_i32(*number),
    }
}

/// A repeated enum field as its words.
pub(crate) fn words<E, S>(numbers: &[i32], serializer: S) -> Result<S::Ok, S::Error>
where
    E: TryFrom<i32> + Serialize,
    S: Serializer,
{
    let mut list = serializer.serialize_seq(Some(numbers.len()))?;
    for number in numbers {
        match E::try_from(*number) {
            Ok(known) => list.serialize_element(&known)?,
            Err(_) => list.serialize_element(number)?,
        }
    }
    list.end().map_err(S::Error::custom)
}

/// A priority that is none of Falco's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown priority {0:?}: expected emergency, alert, critical, error, warning, notice, informational or debug")]
pub struct UnknownPriority(
    /// What was given.
    pub String,
);

impl Priority {
    /// Falco's eight priorities, most urgent first.
    pub const ALL: [Priority; 8] = [
        Priority::Emergency,
        Priority::Alert,
        Priority::Critical,
        Priority::Error,
        Priority::Warning,
        Priority::Notice,
        Priority::Informational,
        Priority::Debug,
    ];

    /// The word that Falco prints: `Emergency` to `Debug`.
    pub const fn word(self) -> &'static str {
        match self {
            Priority::Unspecified => "Unspecified",
            Priority::Emergency => "Emergency",
            Priority::Alert => "Alert",
            Priority::Critical => "Critical",
            Priority::Error => "Error",
            Priority::Warning => "Warning",
            Priority::Notice => "Notice",
            Priority::Informational => "Informational",
            Priority::Debug => "Debug",
        }
    }

    /// Reads Falco's words as rule files spell them: any case, `info` for `informational`.
    pub fn parse(word: &str) -> Result<Priority, UnknownPriority> {
        if word.eq_ignore_ascii_case("info") {
            return Ok(Priority::Informational);
        }
        let found = Priority::ALL.into_iter().find(|priority| priority.word().eq_ignore_ascii_case(word));
        found.ok_or_else(|| UnknownPriority(word.chars().take(64).collect()))
    }

    /// Whether it is as urgent as `floor` or more. Priorities are ordered as Falco numbers them: more urgent is smaller.
    pub fn at_least(self, floor: Priority) -> bool {
        self <= floor
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl v1::Value {
    /// The value of a field that the event does not have.
    pub const NONE: v1::Value = v1::Value { value: None };
}

impl<T: Into<value::Value>> From<T> for v1::Value {
    fn from(value: T) -> Self {
        v1::Value { value: Some(value.into()) }
    }
}

impl From<&str> for value::Value {
    fn from(text: &str) -> Self {
        value::Value::Text(text.to_owned())
    }
}

impl From<String> for value::Value {
    fn from(text: String) -> Self {
        value::Value::Text(text)
    }
}

impl From<i64> for value::Value {
    fn from(number: i64) -> Self {
        value::Value::Int(number)
    }
}

impl From<u64> for value::Value {
    fn from(number: u64) -> Self {
        value::Value::Uint(number)
    }
}

impl From<bool> for value::Value {
    fn from(truth: bool) -> Self {
        value::Value::Bool(truth)
    }
}

impl From<Vec<String>> for value::Value {
    fn from(items: Vec<String>) -> Self {
        value::Value::List(v1::TextList { items })
    }
}

/// An event's value as an output field: bytes that are not UTF-8 become U+FFFD.
impl From<crate::event::value::Value<'_>> for value::Value {
    fn from(value: crate::event::value::Value<'_>) -> Self {
        use crate::event::value::Value as Field;
        match value {
            Field::Text(bytes) => value::Value::Text(lossy(&bytes)),
            Field::Int(number) => value::Value::Int(number),
            Field::Uint(number) => value::Value::Uint(number),
            Field::Bool(truth) => value::Value::Bool(truth),
            Field::TextList(items) => {
                value::Value::List(v1::TextList { items: items.iter().map(|item| lossy(item)).collect() })
            }
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
