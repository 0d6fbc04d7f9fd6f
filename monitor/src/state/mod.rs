//! The model of the node: processes, containers, and who wrote what. The only mutable state below the sources.
//!
//! It is driven by records alone and reads no clock: time is the record's. Every table is bounded; what falls out is the
//! oldest that nothing refers to, and a process that is not known is made from what the record says.

pub mod container;
pub mod process;
pub mod writer;

use container::Containers;
use process::{Process, ProcessKey, Processes};
use writer::Writers;

use crate::event::{Body, Event};

/// Facts of the session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Add to a record's time to get nanoseconds since 1970.
    pub realtime_offset_ns: u64,
    /// ELF machine number.
    pub machine: u32,
    /// Inode number of the host's pid namespace.
    pub host_pid_ns: u32,
    /// Inode number of the host's mount namespace.
    pub host_mnt_ns: u32,
    /// Host name.
    pub hostname: String,
    /// Kernel release.
    pub kernel_release: String,
    /// What makes this session's findings unique: boot id and start.
    pub identity: String,
}

/// The model.
#[derive(Debug, Default)]
pub struct State {
    /// This session.
    pub session: Session,
    /// Processes.
    pub processes: Processes,
    /// Containers by cgroup.
    pub containers: Containers,
    /// Who opened files for writing.
    pub writers: Writers,
}

impl State {
    /// Takes in what an event tells.
    pub fn apply(&mut self, event: &Event<'_>) {
        let header = &event.header;
        match &event.body {
            Body::Session(session) => self.begin(header.ktime_ns, session),
            Body::Cgroup(path) => self.containers.insert(header.cgroup_id, path),
            Body::Task(task) => self.processes.snapshot(header, task),
            Body::Fork(fork) => self.processes.fork(header, fork),
            Body::Exec(exec) => self.processes.exec(header, exec),
            Body::Exit(exit) if exit.group_dead != 0 => self.processes.exit(header),
            Body::CgroupAttach(attach) => {
                let key = ProcessKey { tgid: attach.target_tgid, start_ns: attach.target_start_ns };
                self.processes.moved(key, attach.target_cgroup_id);
            }
            Body::Open(open) => {
                let process = self.processes.known(header, &open.comm);
                self.writers.insert(header.ktime_ns, process, open);
            }
            Body::SeccompCall(call) => {
                self.processes.known(header, &call.comm);
            }
            Body::Exit(_)
            | Body::Sigsys(_)
            | Body::SeccompFilter(..)
            | Body::Loss(_)
            | Body::End(_)
            | Body::Rules(_)
            | Body::Call(_)
            | Body::Machine(_)
            | Body::ListedThread(_)
            | Body::ListedDescriptor(_)
            | Body::ListedInterface(_)
            | Body::ListedUser(_)
            | Body::ListedGroup(_)
            | Body::Section => {}
        }
        self.processes.expire(header.ktime_ns);
    }

    /// The process that an event is about.
    pub fn subject(&self, event: &Event<'_>) -> Option<&Process> {
        self.processes.get(ProcessKey::of(&event.header))
    }

    /// Nanoseconds since 1970 of a record's time.
    pub fn unix_ns(&self, ktime_ns: u64) -> u64 {
        ktime_ns.saturating_add(self.session.realtime_offset_ns)
    }

    fn begin(&mut self, ktime_ns: u64, session: &crate::event::Session<'_>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.session = Session {
            realtime_offset_ns: session.facts.realtime_offset_ns,
            machine: session.facts.machine,
            host_pid_ns: session.facts.host_pid_ns,
            host_mnt_ns: session.facts.host_mnt_ns,
            hostname: text(session.hostname),
            kernel_release: text(session.kernel_release),
            identity: format!("{}/{ktime_ns}", text(session.boot_id)),
        };
    }
}
