//! What happened, decoded: the part of the flow that everything below the sources shares.
//!
//! An [`Event`] borrows its strings from the record's bytes; whoever needs them longer copies them. [`field`] is how rules
//! and outputs look at an event.

pub mod field;
pub mod path;
pub mod value;

use monitor_ebpf::record::{
    CgroupAttachRecord, EndRecord, ExitRecord, FileFacts, ForkRecord, Header, LossRecord, RulesRecord,
    SeccompCallRecord, SeccompFilterRecord, SessionRecord, SigsysRecord, TaskFacts,
};

use path::RawPath;

/// One decoded record.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<'a> {
    /// Who, when, and which kind.
    pub header: Header,
    /// What.
    pub body: Body<'a>,
}

/// What a record tells, one variant per kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Body<'a> {
    /// A task runs another program.
    Exec(Exec<'a>),
    /// A new process.
    Fork(ForkRecord),
    /// The end of a process, or of a thread that seccomp killed.
    Exit(ExitRecord),
    /// A cgroup and its path.
    Cgroup(&'a [u8]),
    /// A task moved to another cgroup.
    CgroupAttach(CgroupAttachRecord),
    /// SIGSYS from seccomp.
    Sigsys(SigsysRecord),
    /// A call that seccomp may have denied.
    SeccompCall(SeccompCallRecord),
    /// A chunk of a filter: its instructions.
    SeccompFilter(SeccompFilterRecord, &'a [u8]),
    /// A file opened for writing.
    Open(Open<'a>),
    /// A process that existed before the sensor.
    Task(Task<'a>),
    /// Start of the stream.
    Session(Session<'a>),
    /// Records lost in the kernel.
    Loss(LossRecord),
    /// End of the stream.
    End(EndRecord),
    /// Rules that apply from here on.
    Rules(RulesRecord),
}

/// A successful exec.
#[derive(Clone, Debug, PartialEq)]
pub struct Exec<'a> {
    /// The task after the exec.
    pub task: TaskFacts,
    /// The program.
    pub file: FileFacts,
    /// Path as given to the call.
    pub filename: &'a [u8],
    /// Interpreter of a script, else empty.
    pub interpreter: &'a [u8],
    /// Arguments, each ended by NUL.
    pub arguments: &'a [u8],
    /// Path of the program.
    pub executable: RawPath<'a>,
    /// Working directory.
    pub cwd: RawPath<'a>,
}

/// A file opened for writing.
#[derive(Clone, Debug, PartialEq)]
pub struct Open<'a> {
    /// The file.
    pub file: FileFacts,
    /// Its path.
    pub path: RawPath<'a>,
    /// `O_*` flags of the open file.
    pub open_flags: u32,
    /// Number of the system call.
    pub nr: i32,
    /// The new descriptor.
    pub fd: i32,
    /// Command name of the opener, NUL padded.
    pub comm: [u8; 16],
}

/// A process that existed before the sensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Task<'a> {
    /// The task.
    pub task: TaskFacts,
    /// Its program.
    pub file: FileFacts,
    /// Arguments, each ended by NUL.
    pub arguments: &'a [u8],
    /// Path of the program.
    pub executable: RawPath<'a>,
    /// Working directory.
    pub cwd: RawPath<'a>,
}

/// Start of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Session<'a> {
    /// Clock, machine and the host's namespaces.
    pub facts: SessionRecord,
    /// Host name.
    pub hostname: &'a [u8],
    /// Kernel release.
    pub kernel_release: &'a [u8],
    /// Boot id.
    pub boot_id: &'a [u8],
    /// Version of the agent that made the stream.
    pub agent_version: &'a [u8],
}

/// Type of an event as rules see it: an index into [`EventType::NAMES`], Falco's names and a few of our own.
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

    /// Its number.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// Its number, for tables indexed by type.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Every type, in order of number.
    pub fn all() -> impl Iterator<Item = EventType> {
        (0..Self::NAMES.len()).filter_map(|number| u16::try_from(number).ok()).map(EventType)
    }
}
