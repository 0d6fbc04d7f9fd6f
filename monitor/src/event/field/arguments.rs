//! What an event carries, as fields ask for it: `evt.arg`, `evt.args`, `evt.rawarg`, `evt.buffer`.

use std::{borrow::Cow, sync::LazyLock};

use hashbrown::HashMap;

use super::{
    Argument, recorded,
    rendering::{Parameter, text},
};
use crate::{
    context::Context,
    event::{
        call::Call,
        schema::{Code, Format, ParamInfo, ParamType as P},
        value::{Type, Value},
    },
};

/// The first parameter of each name in the order of Falco's table: Falco takes its type for that of all.
static FIRST_OF_NAME: LazyLock<HashMap<&'static str, &'static ParamInfo>> = LazyLock::new(|| {
    let mut first = HashMap::new();
    for param in (0..Code::COUNT).filter_map(|code| Code(code).info()).flat_map(|info| info.params) {
        first.entry(param.name).or_insert(param);
    }
    first
});

/// The type that `evt.rawarg.NAME` is compared as.
pub(super) fn native_type(name: &str) -> Type {
    FIRST_OF_NAME.get(name).map_or(Type::Bytes, |param| type_of(param.ty))
}

/// How `evt.rawarg.NAME` is printed.
pub(super) fn native_format(name: &str) -> Format {
    FIRST_OF_NAME.get(name).map_or(Format::Na, |param| param.format)
}

const fn type_of(ty: P) -> Type {
    match ty {
        P::Int8 | P::Int16 => Type::Int16,
        P::Int32 => Type::Int32,
        P::Int64 | P::Errno | P::Fd | P::Pid => Type::Int,
        P::Uint8
        | P::Uint16
        | P::Uint32
        | P::Flags8
        | P::Flags16
        | P::Flags32
        | P::EnumFlags8
        | P::EnumFlags16
        | P::EnumFlags32
        | P::SyscallId
        | P::SigType
        | P::L4Proto
        | P::Mode
        | P::Uid
        | P::Gid => Type::Uint32,
        P::Uint64 => Type::Uint,
        P::RelTime => Type::Duration,
        P::AbsTime => Type::Time,
        P::Port => Type::Port,
        P::Bool => Type::Bool,
        P::Double => Type::Float,
        P::CharBuf | P::FsPath | P::FsRelPath => Type::Text,
        _ => Type::Bytes,
    }
}

/// Where the event carries something of this name.
fn position(call: &Call<'_>, name: &str) -> Option<usize> {
    call.info.position(name).filter(|position| *position < call.params.len())
}

/// Calls `each` with the event at hand as one of Falco's table.
fn with_call<'c>(
    c: &'c Context<'_>,
    each: impl for<'x> FnOnce(&'x Context<'x>, &'x Call<'x>) -> Option<Value<'x>>,
) -> Option<Value<'c>> {
    match c.event.call() {
        Some(call) => each(c, call),
        None => recorded::with(c, each),
    }
}

/// `evt.arg`
pub(super) fn argument<'c>(c: &'c Context<'_>, argument: &Argument) -> Option<Value<'c>> {
    with_call(c, |c, call| parameter(c, call, argument))
}

fn parameter<'c>(c: &'c Context<'_>, call: &'c Call<'_>, argument: &Argument) -> Option<Value<'c>> {
    let position = match argument {
        Argument::Key(name) => position(call, name)?,
        Argument::Index(index) => usize::try_from(*index).ok()?,
        Argument::None => return None,
    };
    Parameter::new(c, call, position).map(|parameter| Value::Text(parameter.text()))
}

/// The text of what is at a position.
pub(super) fn text_at<'c>(c: &'c Context<'_>, position: usize) -> Option<Cow<'c, [u8]>> {
    Parameter::new(c, c.event.call()?, position).map(|parameter| parameter.text())
}

/// `evt.args`
pub(super) fn all<'c>(c: &'c Context<'_>) -> Option<Value<'c>> {
    with_call(c, |c, call| Some(all_of(c, call)))
}

fn all_of<'c>(c: &'c Context<'_>, call: &'c Call<'_>) -> Value<'c> {
    let mut all = Vec::new();
    // What generic events carry is of no use to anybody.
    let count = if call.info.code == Code::GENERIC_X { 0 } else { call.params.len() };
    for position in 0..count {
        let (Some(info), Some(parameter)) = (call.info.params.get(position), Parameter::new(c, call, position)) else {
            break;
        };
        if position > 0 {
            all.push(b' ');
        }
        all.extend_from_slice(info.name.as_bytes());
        all.push(b'=');
        all.extend_from_slice(&parameter.raw());
        let resolved = parameter.resolved();
        if !resolved.is_empty() {
            all.push(b'(');
            all.extend_from_slice(&resolved);
            all.push(b')');
        }
    }
    Value::owned(all)
}

/// `evt.buffer`
pub(super) fn buffer<'c>(c: &'c Context<'_>) -> Option<Value<'c>> {
    let call = c.event.call()?;
    call.params.get(position(call, "data")?).map(Value::text)
}

/// `evt.rawarg`. Numbers are as signed as the type that conditions were read as.
pub(super) fn native<'c>(c: &'c Context<'_>, argument: &Argument) -> Option<Value<'c>> {
    let Argument::Key(name) = argument else { return None };
    with_call(c, |_, call| native_of(call, name))
}

fn native_of<'c>(call: &'c Call<'_>, name: &str) -> Option<Value<'c>> {
    let position = position(call, name)?;
    let value = native_value(call.info.params.get(position)?.ty, call.params.get(position)?)?;
    Some(match (value, native_type(name)) {
        (Value::Uint(number), Type::Int) => Value::Int(number.cast_signed()),
        (Value::Int(number), Type::Uint | Type::Duration | Type::Time) => Value::Uint(number.cast_unsigned()),
        (value, _) => value,
    })
}

/// A parameter's value. What is empty is none, but for texts.
pub(super) fn native_value(ty: P, bytes: &[u8]) -> Option<Value<'_>> {
    Some(match ty {
        P::CharBuf | P::FsPath | P::FsRelPath => Value::text(text(bytes)),
        _ if bytes.is_empty() => return None,
        P::Int8 => Value::Int(i8::from_le_bytes(*bytes.first_chunk()?).into()),
        P::Int16 => Value::Int(i16::from_le_bytes(*bytes.first_chunk()?).into()),
        P::Int32 => Value::Int(i32::from_le_bytes(*bytes.first_chunk()?).into()),
        P::Int64 | P::Errno | P::Fd | P::Pid => Value::Int(i64::from_le_bytes(*bytes.first_chunk()?)),
        P::Uint8 | P::Flags8 | P::EnumFlags8 | P::SigType | P::L4Proto => {
            Value::Uint(u8::from_le_bytes(*bytes.first_chunk()?).into())
        }
        P::Uint16 | P::Flags16 | P::EnumFlags16 | P::Port | P::SyscallId => {
            Value::Uint(u16::from_le_bytes(*bytes.first_chunk()?).into())
        }
        P::Uint32 | P::Flags32 | P::EnumFlags32 | P::Mode | P::Uid | P::Gid => {
            Value::Uint(u32::from_le_bytes(*bytes.first_chunk()?).into())
        }
        P::Uint64 | P::RelTime | P::AbsTime => Value::Uint(u64::from_le_bytes(*bytes.first_chunk()?)),
        P::Bool => Value::Bool(u32::from_le_bytes(*bytes.first_chunk()?) != 0),
        P::Double => Value::Float(f64::from_le_bytes(*bytes.first_chunk()?)),
        _ => Value::text(bytes),
    })
}
