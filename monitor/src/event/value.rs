//! What a field yields: a typed value, borrowed from the event or the state where it can be.
//!
//! Text is bytes: paths and arguments come from the kernel and need not be UTF-8. Only output makes text printable.

use std::borrow::Cow;

/// Type of a field, known before any event is seen: rules are checked against it when they load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Bytes, usually UTF-8.
    Text,
    /// Signed number.
    Int,
    /// Unsigned number.
    Uint,
    /// `true` or `false`.
    Bool,
    /// Nanoseconds since 1970: a number in comparisons and JSON, a time of day in text.
    Time,
    /// A list of texts.
    TextList,
}

impl Type {
    /// The name that `monitor rules fields` prints, in Falco's words.
    pub const fn name(self) -> &'static str {
        match self {
            Type::Text => "CHARBUF",
            Type::Int => "INT64",
            Type::Uint => "UINT64",
            Type::Bool => "BOOL",
            Type::Time => "ABSTIME",
            Type::TextList => "LIST(CHARBUF)",
        }
    }
}

/// One value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// [`Type::Text`]
    Text(Cow<'a, [u8]>),
    /// [`Type::Int`]
    Int(i64),
    /// [`Type::Uint`] and [`Type::Time`]
    Uint(u64),
    /// [`Type::Bool`]
    Bool(bool),
    /// [`Type::TextList`]
    TextList(Vec<Cow<'a, [u8]>>),
}

impl<'a> Value<'a> {
    /// Text borrowed from wherever it lies.
    pub fn text(bytes: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Value::Text(Cow::Borrowed(bytes.as_ref()))
    }

    /// Text made for the occasion.
    pub fn owned(bytes: impl Into<Vec<u8>>) -> Self {
        Value::Text(Cow::Owned(bytes.into()))
    }
}
