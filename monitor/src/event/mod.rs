//! What happened, decoded: the part of the flow that everything below the sources shares.
pub mod field;
pub mod value;

/// Type of an event: an index into [`EventType::NAMES`], Falco's names and a few of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventType(u16);

macro_rules! event_types {
    ($($number:literal => $constant:ident, $name:literal;)*) => {
        impl EventType {
            $(#[doc = concat!("`", $name, "`")] pub const $constant: EventType = EventType($number);)*

            /// Names in order of number.
            pub const NAMES: &'static [&'static str] = &[$($name),*];
        }
    };
}

event_types! {
    0 => EXECVE, "execve";
    1 => EXECVEAT, "execveat";
    2 => CLONE, "clone";
    3 => PROCEXIT, "procexit";
    4 => OPEN, "open";
    5 => OPENAT, "openat";
    6 => OPENAT2, "openat2";
    7 => CREAT, "creat";
    8 => SECCOMP_VIOLATION, "seccomp_violation";
}

impl EventType {
    /// The type of this name.
    pub fn find(name: &str) -> Option<EventType> {
        Self::NAMES.iter().position(|n| *n == name).and_then(|i| u16::try_from(i).ok()).map(EventType)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES.get(usize::from(self.0)).copied().unwrap_or("unknown")
    }

    /// Its number, for tables indexed by type.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}
