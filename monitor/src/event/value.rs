//! What a field yields: a typed value, borrowed from the event or the state where it can be.
//!
//! Text is bytes: paths and arguments come from the kernel and need not be UTF-8. Only output makes text printable.

use std::{borrow::Cow, net::IpAddr};

/// Type of a field, known before any event is seen: rules are checked against it when they load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// Bytes, usually UTF-8.
    Text,
    /// Bytes of any kind.
    Bytes,
    /// Signed number of 16 bits.
    Int16,
    /// Signed number of 32 bits.
    Int32,
    /// Signed number.
    Int,
    /// Unsigned number of 32 bits.
    Uint32,
    /// Unsigned number.
    Uint,
    /// Floating point number.
    Float,
    /// `true` or `false`.
    Bool,
    /// Nanoseconds between two times.
    Duration,
    /// Nanoseconds since 1970: a number in comparisons and JSON, a time of day in text.
    Time,
    /// TCP or UDP port.
    Port,
    /// IPv4 or IPv6 address.
    Ip,
    /// IPv4 or IPv6 address that is compared with networks.
    Net,
}

/// How values of a type are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// As bytes, with the operators of text.
    Text,
    /// As bytes.
    Bytes,
    /// By order.
    Number,
    /// Equal or not.
    Bool,
    /// Equal or not, within one family.
    Ip,
    /// Inside or not.
    Net,
}

impl Type {
    /// The name that `monitor rules fields` prints, in Falco's words.
    pub const fn name(self) -> &'static str {
        match self {
            Type::Text => "CHARBUF",
            Type::Bytes => "BYTEBUF",
            Type::Int16 => "INT16",
            Type::Int32 => "INT32",
            Type::Int => "INT64",
            Type::Uint32 => "UINT32",
            Type::Uint => "UINT64",
            Type::Float => "DOUBLE",
            Type::Bool => "BOOL",
            Type::Duration => "RELTIME",
            Type::Time => "ABSTIME",
            Type::Port => "PORT",
            Type::Ip => "IPADDR",
            Type::Net => "IPNET",
        }
    }

    /// How its values are compared.
    pub const fn class(self) -> Class {
        match self {
            Type::Text => Class::Text,
            Type::Bytes => Class::Bytes,
            Type::Bool => Class::Bool,
            Type::Ip => Class::Ip,
            Type::Net => Class::Net,
            _ => Class::Number,
        }
    }
}

/// One value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// [`Type::Text`] and [`Type::Bytes`]
    Text(Cow<'a, [u8]>),
    /// Signed numbers.
    Int(i64),
    /// Unsigned numbers, times, ports.
    Uint(u64),
    /// [`Type::Float`]
    Float(f64),
    /// [`Type::Bool`]
    Bool(bool),
    /// [`Type::Ip`] and [`Type::Net`]
    Ip(Address),
    /// Of a field that is a list.
    List(Vec<Value<'a>>),
}

/// An address. Aligned, so that values are copied in whole words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(8))]
pub struct Address(pub IpAddr);

impl<'a> Value<'a> {
    /// Text borrowed from wherever it lies.
    pub fn text(bytes: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Value::Text(Cow::Borrowed(bytes.as_ref()))
    }

    /// Text made for the occasion.
    pub fn owned(bytes: impl Into<Vec<u8>>) -> Self {
        Value::Text(Cow::Owned(bytes.into()))
    }

    /// The same value, owing nothing to anybody.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Value::Int(number) => Value::Int(number),
            Value::Uint(number) => Value::Uint(number),
            Value::Float(number) => Value::Float(number),
            Value::Bool(truth) => Value::Bool(truth),
            Value::Ip(address) => Value::Ip(address),
            Value::List(items) => Value::List(items.into_iter().map(Value::into_owned).collect()),
        }
    }

    /// Bytes that it takes besides itself.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Value::Text(text) => text.len(),
            Value::List(items) => items.iter().map(|item| size_of::<Self>() + item.bytes()).sum(),
            _ => 0,
        }
    }

    /// The text, where it is one.
    pub fn as_text(&self) -> Option<&[u8]> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, where it is a whole one; truth is 1 or 0.
    pub fn as_number(&self) -> Option<i128> {
        match self {
            Value::Int(number) => Some((*number).into()),
            Value::Uint(number) => Some((*number).into()),
            Value::Bool(truth) => Some((*truth).into()),
            _ => None,
        }
    }
}
