//! What happened, decoded: the part of the flow that everything below the sources shares.
//!
//! An [`Event`] borrows its strings from the record's bytes; whoever needs them longer copies them. [`field`] is how rules
//! and outputs look at an event.

pub mod address;
pub mod call;
pub mod capability;
pub mod field;
pub mod listed;
pub mod names;
pub mod path;
pub mod schema;
pub mod syscall;
mod table;
pub mod value;

use monitor_ebpf::record::{
    CallsMadeRecord, CgroupAttachRecord, ClockRecord, DigestRecord, EndRecord, ExitRecord, FileFacts, ForkRecord,
    Header, Kind, LossRecord, RulesRecord, SeccompCallRecord, SeccompFilterRecord, SessionRecord, SigsysRecord,
    TaskFacts,
};
use zerocopy::FromZeros as _;

use self::syscall::Syscall;
use call::Call;
use listed::{Descriptor, Group, Interface, Machine, Thread, User};
use path::RawPath;

/// One decoded record.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<'a> {
    /// Who, when, and which kind.
    pub header: Header,
    /// What.
    pub body: Body<'a>,
}

impl<'a> Event<'a> {
    /// It as an event of Falco's table.
    pub const fn call(&self) -> Option<&Call<'a>> {
        match &self.body {
            Body::Call(call) => Some(call),
            _ => None,
        }
    }

    /// Whether a record of the sensor stands behind it.
    pub fn is_recorded(&self) -> bool {
        self.header.kind != Kind(0)
    }

    /// An event that no record stands behind: its header has the time, in nanoseconds since 1970, and the thread, as far as
    /// there are such.
    pub fn unrecorded(ts_ns: u64, tid: i64, body: Body<'a>) -> Self {
        let tid = u32::try_from(tid).unwrap_or_default();
        Self { header: Header { ktime_ns: ts_ns, tid, ..Header::new_zeroed() }, body }
    }
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
    /// What a container's runtime was told, as a document.
    Container(&'a [u8]),
    /// The seccomp profile of a container, as a document.
    SeccompProfile(&'a [u8]),
    /// What the Kubernetes API says of a pod, as a document.
    Pod(&'a [u8]),
    /// A task moved to another cgroup.
    CgroupAttach(CgroupAttachRecord),
    /// SIGSYS from seccomp.
    Sigsys(SigsysRecord),
    /// A call that seccomp may have denied.
    SeccompCall(SeccompCallRecord),
    /// A chunk of a filter: its instructions.
    SeccompFilter(SeccompFilterRecord, &'a [u8]),
    /// A system call, before it becomes a [`Call`].
    Syscall(Syscall<'a>),
    /// A process that existed before the sensor.
    Task(Task<'a>),
    /// Start of the stream.
    Session(Session<'a>),
    /// System calls that a cgroup's tasks made for the first time.
    CallsMade(CallsMadeRecord),
    /// What a file holds.
    Digest(DigestRecord),
    /// Records lost in the kernel.
    Loss(LossRecord),
    /// End of the stream.
    End(EndRecord),
    /// Rules that apply from here on.
    Rules(RulesRecord),
    /// Time has passed.
    Clock(ClockRecord),
    /// An event in the layout of Falco's event table.
    Call(Call<'a>),
    /// The machine that a capture was made on.
    Machine(Machine<'a>),
    /// A thread that existed when a capture began.
    ListedThread(Thread<'a>),
    /// A descriptor that was open then.
    ListedDescriptor(Descriptor<'a>),
    /// A network interface.
    ListedInterface(Interface<'a>),
    /// A user.
    ListedUser(User<'a>),
    /// A group.
    ListedGroup(Group<'a>),
    /// Another capture begins within the file: whatever was known before is void.
    Section,
}

/// A successful exec.
#[derive(Clone, Debug, PartialEq)]
pub struct Exec<'a> {
    /// The task after the exec.
    pub task: TaskFacts,
    /// The program.
    pub file: FileFacts,
    /// File type and permission bits of its standard input; 0 where that is not known.
    pub stdin_mode: u32,
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
    /// Environment, each variable ended by NUL; `None` where nobody asked for it.
    pub environment: Option<&'a [u8]>,
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

/// Type of an event as rules see it: an index into a table of Falco's names and a few of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventType(u16);

macro_rules! event_types {
    ($($constant:ident = $name:literal;)*) => {
        impl EventType {
            $(#[doc = concat!("`", $name, "`")] pub const $constant: EventType = EventType::named($name);)*
        }
    };
}

event_types! {
    EXECVE = "execve";
    EXECVEAT = "execveat";
    CLONE = "clone";
    PROCEXIT = "procexit";
    OPEN = "open";
    OPENAT = "openat";
    OPENAT2 = "openat2";
    CREAT = "creat";
    SYSCALL = "syscall";
    SECCOMP_VIOLATION = "seccomp_violation";
    POD_SECURITY = "pod_security";
}

impl EventType {
    /// How many there are.
    pub const COUNT: usize = table::TYPES.len();

    /// Whether the sensor can tell of it: records of its own become it ([`crate::context::Context::new`]), or a call does.
    pub fn is_live(self) -> bool {
        matches!(self, Self::EXECVE | Self::CLONE | Self::PROCEXIT | Self::SECCOMP_VIOLATION | Self::POD_SECURITY)
            || crate::syscall::is_told(self)
    }

    /// The type of this name, which the compiler looks up.
    #[expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "evaluated when compiling")]
    const fn named(name: &str) -> EventType {
        let mut number = 0;
        while !is_same(table::TYPES[number].0.as_bytes(), name.as_bytes()) {
            number += 1;
        }
        EventType(number as u16)
    }

    /// The type of this name.
    pub fn find(name: &str) -> Option<EventType> {
        let number = table::TYPES.binary_search_by_key(&name, |(known, _)| known).ok()?;
        u16::try_from(number).ok().map(EventType)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        table::TYPES.get(self.index()).map_or("unknown", |(name, _)| name)
    }

    /// Marks a call that is told by its number alone.
    const BY_NUMBER: u16 = 1 << 15;

    /// The same call, told by its number alone: Falco has such events for calls that it knows no more about, and old captures
    /// for others, too. Its name is the call's, but rules that name a call of which Falco has events do not mean it.
    #[must_use]
    pub const fn by_number(self) -> Self {
        Self(self.0 | Self::BY_NUMBER)
    }

    /// Whether it is a call that is told by its number alone.
    pub const fn is_by_number(self) -> bool {
        self.0 & Self::BY_NUMBER != 0
    }

    /// Its number, for tables indexed by type.
    pub const fn index(self) -> usize {
        (self.0 & !Self::BY_NUMBER) as usize
    }

    /// How many codes Falco's event table has for it.
    pub fn codes(self) -> usize {
        table::TYPES.get(self.index()).map_or(0, |(_, codes)| usize::from(*codes))
    }

    /// Every type, in order of name.
    pub fn all() -> impl Iterator<Item = EventType> {
        (0..Self::COUNT).filter_map(|number| u16::try_from(number).ok()).map(EventType)
    }
}

#[expect(clippy::indexing_slicing, reason = "evaluated when compiling")]
const fn is_same(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

/// Whether some event has a parameter of this name, which `evt.arg.NAME` can name.
pub fn is_parameter(name: &str) -> bool {
    table::PARAMETERS.binary_search(&name).is_ok()
}

/// Names of parameters, for suggestions.
pub fn parameters() -> impl Iterator<Item = &'static str> {
    table::PARAMETERS.iter().copied()
}
