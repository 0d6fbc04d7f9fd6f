//! Seccomp profiles: what the JSON of OCI and Docker says, and what the kernel will answer to a call under it.
//!
//! A profile goes three ways before it is a filter. [`parse`] reads the JSON. [`select`] leaves the rules that apply to a
//! container: its architecture, its capabilities, its kernel. [`filter`] does what runc and libseccomp do with those, and
//! answers. libseccomp 2.5 merges rules of one call in ways that its manual does not tell; what is done here is what it does,
//! compared with the library itself.

pub mod abi;
pub mod diff;
pub mod doubt;
pub mod filter;
mod json;
pub mod parse;
mod program;
pub mod runtime_default;
pub mod select;
mod tree;

use std::fmt;

pub use abi::Abi;
pub use filter::{Filter, Refused};
pub use parse::{Parsed, parse};
pub use select::{KernelVersion, Target};

/// What a filter answers: `SECCOMP_RET_*`, with its data in the lower half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Action(pub u32);

impl Action {
    /// Ends the thread.
    pub const KILL_THREAD: Self = Self(0);
    /// Sends SIGSYS.
    pub const TRAP: Self = Self(0x0003_0000);
    /// Fails with an errno, which its data is.
    pub const ERRNO: Self = Self(0x0005_0000);
    /// Asks a supervisor.
    pub const NOTIFY: Self = Self(0x7fc0_0000);
    /// Asks a tracer.
    pub const TRACE: Self = Self(0x7ff0_0000);
    /// Lets it pass and writes to the audit log.
    pub const LOG: Self = Self(0x7ffc_0000);
    /// Lets it pass.
    pub const ALLOW: Self = Self(0x7fff_0000);
    /// Ends the process.
    pub const KILL_PROCESS: Self = Self(0x8000_0000);

    /// Names in profiles. The first of two is the usual one.
    const NAMES: &'static [(&'static str, Self)] = &[
        ("SCMP_ACT_ALLOW", Self::ALLOW),
        ("SCMP_ACT_ERRNO", Self::ERRNO),
        ("SCMP_ACT_KILL_PROCESS", Self::KILL_PROCESS),
        ("SCMP_ACT_KILL_THREAD", Self::KILL_THREAD),
        ("SCMP_ACT_KILL", Self::KILL_THREAD),
        ("SCMP_ACT_TRAP", Self::TRAP),
        ("SCMP_ACT_TRACE", Self::TRACE),
        ("SCMP_ACT_LOG", Self::LOG),
        ("SCMP_ACT_NOTIFY", Self::NOTIFY),
    ];

    /// Names that profiles can give.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().map(|(name, _)| *name)
    }

    /// The action of this name, without data.
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, action)| *action)
    }

    /// The name in profiles.
    pub fn name(self) -> &'static str {
        let kind = self.kind();
        Self::NAMES.iter().find(|(_, action)| *action == kind).map_or("SCMP_ACT_KILL_PROCESS", |(name, _)| name)
    }

    /// It without its data.
    #[must_use]
    pub const fn kind(self) -> Self {
        Self(self.0 & 0xffff_0000)
    }

    /// Its data: the errno.
    #[expect(clippy::cast_possible_truncation, reason = "the data is the lower half")]
    pub const fn data(self) -> u16 {
        self.0 as u16
    }

    /// It with data.
    #[must_use]
    pub const fn with_data(self, data: u16) -> Self {
        Self(self.kind().0 | data as u32)
    }

    /// Whether the call is made, logged or not.
    pub const fn lets_pass(self) -> bool {
        matches!(self.kind(), Self::ALLOW | Self::LOG)
    }

    /// Whether its data means an errno to the caller.
    pub const fn has_errno(self) -> bool {
        matches!(self.kind(), Self::ERRNO | Self::TRACE)
    }
}

/// `allowed`, `fails with EPERM`, `kills the process` …
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            Self::ALLOW => f.write_str("allowed"),
            Self::LOG => f.write_str("allowed and logged"),
            Self::ERRNO => {
                // The kernel cuts larger ones to MAX_ERRNO.
                let errno = self.data().min(4095);
                match crate::event::names::error(-i64::from(errno)) {
                    _ if errno == 0 => f.write_str("returns 0 without being made"),
                    Some(name) => write!(f, "fails with {name}"),
                    None => write!(f, "fails with errno {errno}"),
                }
            }
            Self::TRAP => f.write_str("gets SIGSYS"),
            Self::TRACE => f.write_str("left to a tracer"),
            Self::NOTIFY => f.write_str("left to a supervisor"),
            Self::KILL_THREAD => f.write_str("kills the thread"),
            _ => f.write_str("kills the process"),
        }
    }
}

/// How a condition compares an argument with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `==`
    Equal,
    /// `>=`
    GreaterOrEqual,
    /// `>`
    Greater,
    /// `argument & mask == value`
    MaskedEqual,
}

impl Operator {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("SCMP_CMP_NE", Self::NotEqual),
        ("SCMP_CMP_LT", Self::Less),
        ("SCMP_CMP_LE", Self::LessOrEqual),
        ("SCMP_CMP_EQ", Self::Equal),
        ("SCMP_CMP_GE", Self::GreaterOrEqual),
        ("SCMP_CMP_GT", Self::Greater),
        ("SCMP_CMP_MASKED_EQ", Self::MaskedEqual),
    ];

    /// Names that profiles can give.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().map(|(name, _)| *name)
    }

    /// The operator of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, operator)| *operator)
    }

    /// The name in profiles.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, operator)| *operator == self).map_or("", |(name, _)| name)
    }
}

/// What an argument of a call must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Which argument, from 0 to 5.
    pub index: u8,
    /// How it is compared.
    pub operator: Operator,
    /// With what; the mask of [`Operator::MaskedEqual`].
    pub value: u64,
    /// What a masked argument must be.
    pub value_two: u64,
}

impl Condition {
    /// Whether an argument meets it, all 64 bits compared.
    pub const fn holds(&self, argument: u64) -> bool {
        match self.operator {
            Operator::NotEqual => argument != self.value,
            Operator::Less => argument < self.value,
            Operator::LessOrEqual => argument <= self.value,
            Operator::Equal => argument == self.value,
            Operator::GreaterOrEqual => argument >= self.value,
            Operator::Greater => argument > self.value,
            Operator::MaskedEqual => argument & self.value == self.value_two & self.value,
        }
    }
}

/// `arg0 & 0x7e020000 == 0`
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.operator {
            Operator::MaskedEqual => {
                return write!(f, "arg{} & {:#x} == {:#x}", self.index, self.value, self.value_two);
            }
            Operator::NotEqual => "!=",
            Operator::Less => "<",
            Operator::LessOrEqual => "<=",
            Operator::Equal => "==",
            Operator::GreaterOrEqual => ">=",
            Operator::Greater => ">",
        };
        write!(f, "arg{} {sign} {:#x}", self.index, self.value)
    }
}

/// A profile as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What happens to calls that no rule is about.
    pub default_action: Action,
    /// `architectures`: beside the native one.
    pub architectures: Vec<Architecture>,
    /// `archMap`: Docker's way to list them.
    pub architecture_map: Vec<(Architecture, Vec<Architecture>)>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: Vec<String>,
    /// Socket of the supervisor.
    pub listener_path: Option<String>,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// An architecture that a profile lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// One whose calls are known here.
    Known(Abi),
    /// Another.
    Foreign(String),
}

/// What a profile says about some calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Their names.
    pub names: Vec<String>,
    /// What happens to them.
    pub action: Action,
    /// If all of these hold; unless two are about the same argument, because runc then makes a rule of each.
    pub conditions: Vec<Condition>,
    /// Docker: the rule applies only to such containers.
    pub includes: Scope,
    /// Docker: nor to such.
    pub excludes: Scope,
}

/// Which containers: Docker's `includes` and `excludes`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Capabilities in the bounding set.
    pub capabilities: Vec<String>,
    /// Go's names of native architectures.
    pub architectures: Vec<String>,
    /// Kernels from this one on.
    pub min_kernel: Option<KernelVersion>,
}

impl Profile {
    /// A profile without rules.
    pub fn new(default_action: Action) -> Self {
        Self {
            default_action,
            architectures: Vec::new(),
            architecture_map: Vec::new(),
            flags: Vec::new(),
            listener_path: None,
            rules: Vec::new(),
        }
    }

    /// Whether it uses what only Docker's format has, and containerd and runc ignore.
    pub fn is_docker(&self) -> bool {
        let scoped = |rule: &Rule| rule.includes != Scope::default() || rule.excludes != Scope::default();
        !self.architecture_map.is_empty() || self.rules.iter().any(scoped)
    }
}
