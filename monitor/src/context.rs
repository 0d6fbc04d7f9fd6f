//! An event with everything around it: what rules look at and findings are made from.

use crate::{
    drift::{self, Drift},
    event::{Body, Event, EventType, Open},
    seccomp::Violation,
    state::{State, container::Container, process::Process, writer::Writer},
    syscall::{self, Arch},
};
use monitor_ebpf::record::header_flag;

/// An enriched event.
pub struct Context<'a> {
    /// The model of the node after the event.
    pub state: &'a State,
    /// The event.
    pub event: &'a Event<'a>,
    /// Its number in the stream.
    pub number: u64,
    /// Its type, as rules see it.
    pub event_type: EventType,
    /// The process that it is about.
    pub process: Option<&'a Process>,
    /// The container that this process is in.
    pub container: Option<&'a Container>,
    /// Path of the file that was opened.
    pub path: Option<&'a [u8]>,
    /// What the drift detection says.
    pub drift: Option<Drift<'a>>,
    /// What the seccomp detection says.
    pub violation: Option<&'a Violation>,
}

impl<'a> Context<'a> {
    /// Puts it together; `None` for records that are not events to rules.
    /// Paths are put together in `scratch`, which is kept from event to event.
    pub fn new(
        state: &'a State,
        event: &'a Event<'a>,
        number: u64,
        violation: Option<&'a Violation>,
        scratch: &'a mut Vec<u8>,
    ) -> Option<Self> {
        let event_type = match violation {
            Some(_) => EventType::SECCOMP_VIOLATION,
            None => event_type(state, event)?,
        };
        let process = state.subject(event);
        // The record's own cgroup is the truth at that moment; the process may have been moved since.
        let container = state.containers.get(event.header.cgroup_id);
        let drift = drift::detect(state, event);
        let path = match &event.body {
            Body::Open(open) => {
                scratch.clear();
                open.path.append_absolute(scratch);
                Some(scratch.as_slice())
            }
            _ => None,
        };
        Some(Self { state, event, number, event_type, process, container, path, drift, violation })
    }

    /// When it happened, nanoseconds since 1970.
    pub fn time_ns(&self) -> u64 {
        self.state.unix_ns(self.event.header.ktime_ns)
    }

    /// The process itself (0), its parent (1), and so on.
    pub fn ancestor(&self, generation: u32) -> Option<&'a Process> {
        let process = self.process?;
        match generation.checked_sub(1) {
            None => Some(process),
            Some(above) => self.state.processes.ancestors(process).nth(usize::try_from(above).ok()?),
        }
    }

    /// Its ancestors, the parent first.
    pub fn ancestors(&self) -> impl Iterator<Item = &'a Process> {
        self.process.into_iter().flat_map(|process| self.state.processes.ancestors(process))
    }

    /// The file that was opened.
    pub fn open(&self) -> Option<&'a Open<'a>> {
        match &self.event.body {
            Body::Open(open) => Some(open),
            _ => None,
        }
    }

    /// What the system call returned.
    pub fn result(&self) -> Option<i64> {
        match &self.event.body {
            Body::Exec(_) => Some(0),
            Body::Open(open) => Some(open.fd.into()),
            Body::SeccompCall(call) => Some(call.ret),
            Body::Fork(fork) => Some(fork.child_tgid.into()),
            _ => None,
        }
    }

    /// Seccomp mode of the thread.
    pub fn seccomp_mode(&self) -> Option<u32> {
        match &self.event.body {
            Body::SeccompCall(call) => Some(call.mode),
            Body::Exit(exit) => Some(exit.seccomp_mode),
            _ => self.process.map(|process| process.task.seccomp_mode),
        }
    }

    /// Who wrote the executed program.
    pub fn writer(&self) -> Option<&'a Writer> {
        self.drift.and_then(|drift| drift.writer)
    }
}

fn event_type(state: &State, event: &Event<'_>) -> Option<EventType> {
    match &event.body {
        Body::Exec(_) => Some(EventType::EXECVE),
        Body::Fork(_) => Some(EventType::CLONE),
        Body::Exit(exit) if exit.group_dead != 0 => Some(EventType::PROCEXIT),
        Body::Open(open) => {
            let compat = event.header.flags & header_flag::COMPAT != 0;
            EventType::find(&syscall::name(Arch::of(state.session.machine, compat), open.nr))
        }
        _ => None,
    }
}
