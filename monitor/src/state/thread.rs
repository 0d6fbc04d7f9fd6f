//! A thread, and what it runs.
//!
//! Records of the sensor tell of processes, and a process is then known by its leader alone. Captures of other tools tell of
//! every thread. Both are kept as [`Thread`]s: those of a process share its `pid`, and the leader is the one whose `tid` is
//! its `pid`.

use std::sync::Arc;

use monitor_ebpf::record::{COMM_LEN, FileFacts, Header, TaskFacts};
use zerocopy::FromZeros as _;

use super::{call::Begun, descriptor::Descriptors};
use crate::event::path::{RawPath, until_nul};

/// What makes a thread one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ThreadKey {
    /// Thread id in the initial pid namespace.
    pub tid: i64,
    /// Start of its process, `CLOCK_BOOTTIME`; 0 in a stream whose order is exact, where the id alone is enough.
    pub start_ns: u64,
}

impl ThreadKey {
    /// The process that a record is about: its leader.
    pub fn of(header: &Header) -> Self {
        Self::process(header.tgid, header.start_ns)
    }

    /// The leader of a process.
    pub fn process(tgid: u32, start_ns: u64) -> Self {
        Self { tid: tgid.into(), start_ns }
    }

    /// A thread of a stream whose order is exact.
    pub const fn exact(tid: i64) -> Self {
        Self { tid, start_ns: 0 }
    }
}

/// Bits of [`Thread::flags`]: `CLONE_*` and marks, in the numbers of Falco's captures (`PPM_CL_*`).
pub mod flag {
    /// It uses its leader's descriptors.
    pub const CLONE_FILES: u32 = 1;
    /// It is the first of a new pid namespace.
    pub const CLONE_NEWPID: u32 = 1 << 6;
    /// Its parent is its maker's parent.
    pub const CLONE_PARENT: u32 = 1 << 8;
    /// It is another thread of its maker's process.
    pub const CLONE_THREAD: u32 = 1 << 13;
    /// It was told of by itself before its maker was heard.
    pub const CLONE_INVERTED: u32 = 1 << 16;
    /// It has ended.
    pub const CLOSED: u32 = 1 << 18;
    /// It was seen doing something.
    pub const ACTIVE: u32 = 1 << 19;
    /// New user namespace.
    pub const CLONE_NEWUSER: u32 = 1 << 20;
    /// Its maker waits until it has called exec or ended.
    pub const CLONE_VFORK: u32 = 1 << 27;
    /// It is in a pid namespace of its own or of its container.
    pub const CHILD_IN_PIDNS: u32 = 1 << 29;
    /// It leads its process although its id says otherwise.
    pub const IS_MAIN_THREAD: u32 = 1 << 30;
}

/// A program as it was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Command name and arguments without the first, joined by blanks. Made once, for rules ask for it with every event.
    line: Vec<u8>,
    comm_len: usize,
    /// First argument: what the program was called by.
    pub exe: Vec<u8>,
    /// Path of the program; empty where it is not known.
    pub executable: Vec<u8>,
    /// Further arguments, separated by NUL.
    further: Vec<u8>,
    /// How many these are.
    further_count: usize,
    /// Working directory at the exec, where a record told it.
    pub cwd: Vec<u8>,
    /// The program's file, where a record told it.
    pub file: FileFacts,
    /// Whether it was told, and is more than a name.
    pub is_told: bool,
}

/// What is shown where nothing is known.
pub const NOT_AVAILABLE: &[u8] = b"<NA>";

impl Image {
    /// Of a command name, the first argument, the others separated by NUL, and a path.
    pub fn new(comm: &[u8], exe: &[u8], further: &[u8], executable: &[u8]) -> Self {
        let further = further.strip_suffix(&[0]).unwrap_or(further);
        let mut line = comm.to_vec();
        let mut further_count = 0;
        for argument in split(further) {
            further_count += 1;
            line.push(b' ');
            line.extend_from_slice(argument);
        }
        Self {
            line,
            comm_len: comm.len(),
            exe: exe.to_vec(),
            executable: executable.to_vec(),
            further: further.to_vec(),
            further_count,
            cwd: Vec::new(),
            file: FileFacts::new_zeroed(),
            is_told: true,
        }
    }

    /// As a record tells it.
    pub(super) fn recorded(
        comm: &[u8; COMM_LEN],
        area: &[u8],
        executable: RawPath<'_>,
        cwd: RawPath<'_>,
        file: FileFacts,
    ) -> Self {
        let exe = until_nul(area);
        let further = area.get(exe.len() + 1..).unwrap_or_default();
        Self { cwd: cwd.to_directory(), file, ..Self::new(until_nul(comm), exe, further, &executable.to_absolute()) }
    }

    /// Of a process of which only the command name is known.
    pub(super) fn unknown(comm: &[u8]) -> Self {
        Self { is_told: false, ..Self::new(comm, &[], &[], &[]) }
    }

    /// Whether it is made of these.
    pub fn is(&self, comm: &[u8], exe: &[u8], further: &[u8], executable: &[u8]) -> bool {
        self.comm() == comm
            && self.exe == exe
            && self.further == further.strip_suffix(&[0]).unwrap_or(further)
            && self.executable == executable
    }

    /// Command name, without padding: Falco's `proc.name`.
    pub fn comm(&self) -> &[u8] {
        self.line.get(..self.comm_len).unwrap_or_default()
    }

    /// Arguments without the first.
    pub fn further_arguments(&self) -> impl Iterator<Item = &[u8]> {
        split(&self.further)
    }

    /// How many arguments there are besides the first.
    pub fn further_count(&self) -> usize {
        self.further_count
    }

    /// These, separated by NUL.
    pub fn further_area(&self) -> &[u8] {
        &self.further
    }

    /// All arguments.
    pub fn arguments(&self) -> impl Iterator<Item = &[u8]> {
        let known = !self.exe.is_empty() || self.further_count > 0;
        known.then_some(&*self.exe).into_iter().chain(self.further_arguments())
    }

    /// Arguments without the first, joined by blanks: Falco's `proc.args`.
    pub fn args_text(&self) -> &[u8] {
        self.line.get(self.comm_len + 1..).unwrap_or_default()
    }

    /// Command name and arguments, joined by blanks: Falco's `proc.cmdline`.
    pub fn command_line(&self) -> &[u8] {
        &self.line
    }

    /// The first argument, a blank, and the others, joined by blanks: Falco's `proc.exeline`.
    pub fn exe_line(&self) -> Vec<u8> {
        [&self.exe, &b" "[..], self.args_text()].concat()
    }
}

/// Strings separated by NUL; none of nothing.
pub(super) fn split(area: &[u8]) -> impl Iterator<Item = &[u8]> {
    (!area.is_empty()).then(|| area.split(|byte| *byte == 0)).into_iter().flatten()
}

/// The program's file, as an exec told it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "four facts that have nothing to do with each other")]
pub struct Executable {
    /// Whether its user may write it.
    pub writable: bool,
    /// Whether it is in a container's writable layer.
    pub upper_layer: bool,
    /// Whether it is in an image's layer.
    pub lower_layer: bool,
    /// Whether it is a memory file.
    pub from_memfd: bool,
    /// Inode number.
    pub ino: u64,
    /// Last change of the inode, nanoseconds since 1970.
    pub ctime_ns: u64,
    /// Last change of the content, nanoseconds since 1970.
    pub mtime_ns: u64,
    /// From the inode's last change to the thread's start.
    pub ctime_to_clone_ns: u64,
    /// From the start of the pid namespace to the inode's last change.
    pub pidns_start_to_ctime_ns: u64,
}

/// Capabilities, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Those an exec can keep.
    pub inheritable: u64,
    /// Those it may use.
    pub permitted: u64,
    /// Those it uses.
    pub effective: u64,
}

/// Memory of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Virtual size, in KiB.
    pub size_kib: u32,
    /// Resident, in KiB.
    pub resident_kib: u32,
    /// Swapped out, in KiB.
    pub swapped_kib: u32,
    /// Page faults that needed IO.
    pub major_faults: u64,
    /// Page faults that did not.
    pub minor_faults: u64,
}

/// A thread.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Its key.
    pub key: ThreadKey,
    /// Its process: the leader's thread id. Below 0 if the thread is known by its id alone.
    pub pid: i64,
    /// The parent: of the process at its start, or whoever took it over.
    pub parent: ThreadKey,
    /// Session.
    pub sid: i64,
    /// Process group, in its own pid namespace.
    pub vpgid: i64,
    /// Process group.
    pub pgid: i64,
    /// Thread id in its own pid namespace.
    pub vtid: i64,
    /// Process id in its own pid namespace.
    pub vpid: i64,
    /// Who takes its children over, as the kernel said.
    pub reaper_tid: i64,
    /// Effective user, as far as it is known.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Login user (audit); all ones where there is none.
    pub loginuid: u32,
    /// Controlling terminal; 0 where there is none.
    pub tty: u32,
    /// Bits of [`flag`].
    pub flags: u32,
    /// What it runs.
    pub image: Arc<Image>,
    /// The file of what it runs.
    pub executable: Executable,
    /// Working directory with a slash at its end; the leader's counts.
    pub cwd: Vec<u8>,
    /// Root directory.
    pub root: Arc<[u8]>,
    /// Environment, separated by NUL; the leader's counts.
    pub environment: Arc<[u8]>,
    /// Control groups: `subsystem=path`, separated by NUL.
    pub cgroups: Arc<[u8]>,
    /// What it has open; of a leader, or of one that shares nothing.
    pub descriptors: Descriptors,
    /// How many descriptors it may have; below 0 if not known.
    pub descriptor_limit: i64,
    /// Capabilities.
    pub capabilities: Capabilities,
    /// Memory.
    pub memory: Memory,
    /// Start, nanoseconds since 1970; 0 if it was before the stream.
    pub clone_ns: u64,
    /// Last exec, nanoseconds since 1970; 0 if there was none.
    pub exec_ns: u64,
    /// Start of its pid namespace, nanoseconds since 1970.
    pub pidns_start_ns: u64,
    /// Descriptor that the event at hand is about.
    pub event_fd: i64,
    /// The beginning of the call at hand.
    pub(super) begun: Begun,
    /// The container that it is in, by its short id; `None` on the host, and where records tell it by the cgroup.
    pub container: Option<Arc<str>>,
    /// Its cgroup of the v2 hierarchy, as records tell it.
    pub cgroup_id: u64,
    /// Credentials and namespaces, as records tell them.
    pub task: TaskFacts,
    /// The script that it was told to run and has not opened yet.
    pub(super) script: Option<Arc<[u8]>>,
    /// Threads whose parent it is.
    pub(super) children: u32,
    /// The same with some that are gone: Falco looks for who takes them over all the same.
    pub(super) listed_children: u32,
    /// Whether it is counted in its process.
    pub(super) grouped: bool,
    /// When it ended, as a record told it.
    pub(super) ended_ns: Option<u64>,
}

impl Thread {
    /// One of which nothing is known.
    pub fn new(key: ThreadKey, image: Arc<Image>) -> Self {
        Self {
            key,
            pid: -1,
            parent: ThreadKey::exact(-1),
            sid: -1,
            vpgid: -1,
            pgid: -1,
            vtid: -1,
            vpid: -1,
            reaper_tid: -1,
            uid: u32::MAX,
            gid: u32::MAX,
            loginuid: u32::MAX,
            tty: 0,
            flags: 0,
            image,
            executable: Executable::default(),
            cwd: Vec::new(),
            root: Arc::default(),
            environment: Arc::default(),
            cgroups: Arc::default(),
            descriptors: Descriptors::default(),
            descriptor_limit: -1,
            capabilities: Capabilities::default(),
            memory: Memory::default(),
            clone_ns: 0,
            exec_ns: 0,
            pidns_start_ns: 0,
            event_fd: 0,
            begun: Begun::default(),
            container: None,
            cgroup_id: 0,
            task: TaskFacts::new_zeroed(),
            script: None,
            children: 0,
            listed_children: 0,
            grouped: false,
            ended_ns: None,
        }
    }

    /// Whether a flag is set.
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Whether it leads its process.
    pub const fn is_leader(&self) -> bool {
        self.key.tid == self.pid || self.has(flag::IS_MAIN_THREAD)
    }

    /// Whether more than its id is known.
    pub const fn is_known(&self) -> bool {
        self.key.tid >= 0 && self.pid >= 0 && self.parent.tid >= 0
    }

    /// Whether it is in a pid namespace that is not the host's.
    pub const fn is_in_pid_namespace(&self) -> bool {
        self.has(flag::CHILD_IN_PIDNS) || (self.key.tid != self.vtid && self.vtid >= 0)
    }

    /// The value of a variable of its own environment, without blanks around it; empty where it is not set.
    pub fn variable(&self, name: &[u8]) -> &[u8] {
        split(&self.environment)
            .find_map(|entry| entry.strip_prefix(name)?.strip_prefix(b"=").filter(|value| !value.is_empty()))
            .map(trim_blanks)
            .unwrap_or_default()
    }

    /// Its control groups: subsystem and path.
    pub fn control_groups(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        split(&self.cgroups).filter_map(|entry| {
            let at = entry.iter().position(|byte| *byte == b'=')?;
            Some((entry.get(..at)?, entry.get(at + 1..)?))
        })
    }
}

fn trim_blanks(value: &[u8]) -> &[u8] {
    let start = value.iter().position(|byte| *byte != b' ').unwrap_or(value.len());
    let end = value.iter().rposition(|byte| *byte != b' ').map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}
