//! The fields that rules and outputs can name.
//!
//! One table gives the rule language its names and types, `monitor rules fields` its text, outputs their keys, and each
//! field its value. A field is null (`None`) where the event does not have it. Every field of Falco is in it: one whose value
//! is not to be had is refused when rules are loaded, with the reason, and never silently null.

mod arguments;
#[cfg(test)]
mod capture_tests;
mod clock;
mod container;
mod evt;
mod fd;
mod fd_list;
mod fs_path;
mod k8s;
mod own;
mod process;
mod recorded;
mod rendering;
mod user;

use std::{fmt, sync::LazyLock};

use hashbrown::HashMap;

use super::{
    schema::Format,
    value::{Type, Value},
};
use crate::context::Context;
pub use evt::errno_name;

/// What may stand behind a field's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brackets {
    /// Nothing.
    None,
    /// Nothing, or a number in brackets: `proc.aname[2]`.
    Index,
    /// Nothing, or text in brackets: `proc.env[PATH]`.
    Key,
    /// A number or text in brackets must: `container.mount.dest[/etc]`.
    Needed,
    /// A name behind a dot, or a number in brackets, must: `evt.arg.flags`, `evt.arg[0]`.
    Name,
}

/// What stood there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Argument {
    /// Nothing.
    None,
    /// A number.
    Index(u32),
    /// Text.
    Key(Box<str>),
}

impl Argument {
    /// As it is written behind a field's name.
    pub(crate) fn suffix(&self, field: Field) -> String {
        match self {
            Argument::None => String::new(),
            Argument::Index(index) => format!("[{index}]"),
            Argument::Key(key) if field.info().brackets == Brackets::Name => format!(".{key}"),
            Argument::Key(key) => format!("[{key}]"),
        }
    }
}

/// Extracts a value of an event.
type One = for<'c> fn(&'c Context<'_>, &Argument) -> Option<Value<'c>>;
/// Gives each of several values of an event.
type Several = fn(&Context<'_>, &mut dyn FnMut(Value<'_>));

/// Where a field's values come from.
#[derive(Clone, Copy)]
pub(crate) enum Source {
    /// An event has one.
    One(One),
    /// One if an argument is given; if not, several, and a comparison with any of them counts.
    OneOrSeveral(One, Several),
    /// Falco, too, has no value for it any more.
    Never,
    /// It cannot be had: rules that use it are refused, for this reason.
    Refused(&'static str),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::One(_) => "one",
            Source::OneOrSeveral(..) => "one or several",
            Source::Never => "never",
            Source::Refused(_) => "refused",
        })
    }
}

/// What can not be done with a field, or is special about it: Falco's flags.
pub(crate) mod trait_of {
    /// Its value is a list.
    pub(crate) const LIST: u16 = 1;
    /// Only in conditions.
    pub(crate) const FILTER_ONLY: u16 = 2;
    /// Only in outputs.
    pub(crate) const PRINT_ONLY: u16 = 4;
    /// Not beside another field.
    pub(crate) const NO_FIELD: u16 = 8;
    /// Not within a transformer.
    pub(crate) const NO_TRANSFORMER: u16 = 16;
    /// Falco means to drop it.
    pub(crate) const DEPRECATED: u16 = 32;
    /// Captures of other tools tell it, and the sensor does not yet.
    pub(crate) const CAPTURE: u16 = 64;
    /// Its numbers are printed in hexadecimal.
    pub(crate) const HEX: u16 = 128;
    /// Its numbers are printed with leading zeros.
    pub(crate) const PADDED: u16 = 256;
    /// Its value is for comparisons alone: outputs have none.
    pub(crate) const UNRESOLVED: u16 = 512;
    /// The sensor has it of the Kubernetes API, where the agent asks that.
    pub(crate) const API: u16 = 1024;
}

/// One row of the table.
#[derive(Debug)]
pub struct Info {
    /// Full name, e.g. `proc.name`.
    pub name: &'static str,
    /// Type of its values.
    pub ty: Type,
    /// What may stand behind its name.
    pub brackets: Brackets,
    /// One sentence for users.
    pub doc: &'static str,
    /// A value as it may look.
    pub example: &'static str,
    traits: u16,
    source: Source,
}

impl Info {
    const fn has(&self, wanted: u16) -> bool {
        self.traits & wanted != 0
    }

    /// Whether its value is a list.
    pub const fn is_list(&self) -> bool {
        self.has(trait_of::LIST)
    }

    /// Whether it stands in conditions only.
    pub const fn is_filter_only(&self) -> bool {
        self.has(trait_of::FILTER_ONLY)
    }

    /// Whether it stands in outputs only.
    pub const fn is_print_only(&self) -> bool {
        self.has(trait_of::PRINT_ONLY)
    }

    /// Whether it can be compared with another field.
    pub const fn takes_fields(&self) -> bool {
        !self.has(trait_of::NO_FIELD)
    }

    /// Whether it can stand in a transformer.
    pub const fn takes_transformers(&self) -> bool {
        !self.has(trait_of::NO_TRANSFORMER)
    }

    /// Whether Falco means to drop it.
    pub const fn is_deprecated(&self) -> bool {
        self.has(trait_of::DEPRECATED)
    }

    /// Whether outputs have no value of it.
    pub const fn is_unresolved(&self) -> bool {
        self.has(trait_of::UNRESOLVED)
    }

    /// Whether it stands for several values, with this argument.
    pub fn is_several(&self, argument: &Argument) -> bool {
        match self.source {
            Source::OneOrSeveral(..) => *argument == Argument::None,
            _ => false,
        }
    }

    /// Why rules cannot use it.
    pub const fn refused(&self) -> Option<&'static str> {
        match self.source {
            Source::Refused(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether the sensor does not tell it yet.
    pub const fn is_awaited(&self) -> bool {
        self.has(trait_of::CAPTURE)
    }

    /// Whether a live run has it only where the agent asks the Kubernetes API.
    pub const fn is_of_api(&self) -> bool {
        self.has(trait_of::API)
    }
}

/// A field: an index into the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Field(u16);

struct Table {
    rows: Vec<&'static Info>,
    by_name: HashMap<&'static str, Field>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let families = [
        evt::FIELDS,
        process::FIELDS,
        user::FIELDS,
        fd::FIELDS,
        fd_list::FIELDS,
        fs_path::FIELDS,
        container::FIELDS,
        k8s::FIELDS,
        own::FIELDS,
    ];
    let rows: Vec<&Info> = families.into_iter().flatten().collect();
    let by_name = rows.iter().zip(0..).map(|(info, number)| (info.name, Field(number))).collect();
    Table { rows, by_name }
});

impl Field {
    /// The field of exactly this name.
    pub fn find(name: &str) -> Option<Field> {
        TABLE.by_name.get(name).copied()
    }

    /// The field of a name as rules write it, and the rest of it behind a dot where the field takes a name there.
    pub fn find_with_name(name: &str) -> Option<(Field, Option<&str>)> {
        if let Some(field) = Self::find(name) {
            return Some((field, None));
        }
        let dots = name.match_indices('.').map(|(at, _)| at).rev();
        dots.filter_map(|at| Some((Self::find(name.get(..at)?)?, name.get(at + 1..))))
            .find(|(field, _)| field.info().brackets == Brackets::Name)
    }

    /// Every field, in the table's order.
    pub fn all() -> impl Iterator<Item = Field> {
        (0..TABLE.rows.len()).filter_map(|i| u16::try_from(i).ok()).map(Field)
    }

    /// Its position among all, for tables indexed by field.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Its row.
    #[expect(clippy::indexing_slicing, reason = "a Field is made from the table's indices only")]
    pub fn info(self) -> &'static Info {
        TABLE.rows[usize::from(self.0)]
    }
}

/// What depends on the argument: `evt.rawarg.NAME` is what the parameter of that name is.
impl Field {
    /// Type of its values.
    pub fn ty(self, argument: &Argument) -> Type {
        match argument {
            Argument::Key(name) if self.is_native() => arguments::native_type(name),
            _ => self.info().ty,
        }
    }

    /// How its numbers are printed.
    pub fn format(self, argument: &Argument) -> Format {
        match argument {
            Argument::Key(name) if self.is_native() => arguments::native_format(name),
            _ if self.info().has(trait_of::HEX) => Format::Hex,
            _ if self.info().has(trait_of::PADDED) => Format::PaddedDec,
            _ => Format::Dec,
        }
    }

    /// Whether it is `evt.rawarg`.
    pub(crate) fn is_native(self) -> bool {
        self.info().name == "evt.rawarg"
    }
}

/// Whatever can answer for an event's fields: the pipeline's context, or a table of a program that uses the rules by itself.
pub trait Fields {
    /// The value, or `None` where this event does not have it. Not asked for fields that have several: see
    /// [`Fields::values`].
    fn value(&self, field: Field, argument: &Argument) -> Option<Value<'_>>;

    /// Each value of a field that may have several, such as the ancestors' names.
    fn values(&self, field: Field, argument: &Argument, each: &mut dyn FnMut(Value<'_>)) {
        if let Some(value) = self.value(field, argument) {
            each(value);
        }
    }
}

impl Fields for Context<'_> {
    fn value(&self, field: Field, argument: &Argument) -> Option<Value<'_>> {
        match field.info().source {
            Source::One(extract) | Source::OneOrSeveral(extract, _) => extract(self, argument),
            Source::Never | Source::Refused(_) => None,
        }
    }

    fn values(&self, field: Field, argument: &Argument, each: &mut dyn FnMut(Value<'_>)) {
        match field.info().source {
            Source::OneOrSeveral(_, extract) if *argument == Argument::None => extract(self, each),
            _ => self.value(field, argument).into_iter().for_each(each),
        }
    }
}

/// Rows of a part of the table: name, type, traits, brackets, one sentence for users, a value as it may look; where its
/// values come from.
macro_rules! fields {
    ($($name:literal, $ty:ident, [$($trait:ident)*], $brackets:ident, $doc:literal, $example:literal => $source:expr;)*) => {
        pub(super) static FIELDS: &[super::Info] = &[$(super::Info {
            name: $name,
            ty: $crate::event::value::Type::$ty,
            brackets: super::Brackets::$brackets,
            doc: $doc,
            example: $example,
            traits: 0 $(| super::trait_of::$trait)*,
            source: $source,
        }),*];
    };
}
use fields;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_found_by_its_name_and_there_is_one_of_each() {
        for field in Field::all() {
            assert_eq!(Field::find(field.info().name), Some(field), "{}", field.info().name);
        }
    }

    #[test]
    fn names_behind_a_dot_are_told_from_fields() {
        let found = |name| Field::find_with_name(name).map(|(field, rest)| (field.info().name, rest));
        assert_eq!(found("evt.arg.flags"), Some(("evt.arg", Some("flags"))));
        assert_eq!(found("evt.args"), Some(("evt.args", None)));
        assert_eq!(found("proc.name.x"), None);
    }
}
