//! The model of the node: processes, containers, and who wrote what. The only mutable state below the sources.
//!
//! It is driven by records alone and reads no clock: time is the record's. Every table is bounded; what falls out is the
//! oldest that nothing refers to, and a process that is not known is made from what the record says.

pub mod call;
pub mod container;
pub mod descriptor;
pub mod digest;
pub mod interface;
pub mod interpreter;
mod listed;
mod recorded;
pub mod socket;
mod table;
pub mod thread;
pub mod threads;
mod told;
pub mod user;
pub mod writer;

use std::collections::HashSet;

use call::Endings;
use container::Containers;
use descriptor::Descriptor;
use digest::Digests;
use interface::Interfaces;
use thread::{Thread, ThreadKey};
use threads::Threads;
use user::Users;
use writer::Writers;

use crate::event::{Body, Event, schema::Category};

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
    /// Threads and processes.
    pub threads: Threads,
    /// Containers by cgroup.
    pub containers: Containers,
    /// Who opened files for writing.
    pub writers: Writers,
    /// What files hold.
    pub digests: Digests,
    /// Users and groups.
    pub users: Users,
    /// Network interfaces.
    pub interfaces: Interfaces,
    /// When the event before happened that rules looked at, nanoseconds since 1970; 0 for the first.
    pub previous_ns: u64,
    /// When a capture's first event was that is no notice, nanoseconds since 1970; 0 before it.
    pub first_ns: u64,
    /// What the event at hand is about.
    subject: Subject,
    /// What goes with the next event.
    endings: Endings,
    /// Ports that listed listeners have.
    server_ports: HashSet<u16>,
    /// Whether lists have begun and their end has not been seen.
    has_open_lists: bool,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "facts that have nothing to do with each other")]
struct Subject {
    /// The thread.
    thread: Option<ThreadKey>,
    /// The descriptor: whose, and its number.
    descriptor: Option<(ThreadKey, i64)>,
    /// Whether the thread keeps a call's beginning.
    has_begun: bool,
    /// Whether the event made the descriptor.
    is_new: bool,
    /// Whether the event gave it another name.
    is_renamed: bool,
    /// Whether an interpreter opens its script.
    is_script: bool,
}

impl State {
    /// Takes in what an event tells.
    pub fn apply(&mut self, event: &Event<'_>) {
        let header = &event.header;
        match &event.body {
            Body::Session(session) => self.begin(header.ktime_ns, session),
            Body::Cgroup(path) => self.cgroup(header.cgroup_id, path),
            Body::Container(document) => {
                let thread = self.describe(event, document);
                self.subject = Subject { thread, ..Subject::default() };
                return;
            }
            Body::Task(task) => self.snapshot(header, task),
            Body::Fork(fork) => self.fork(header, fork),
            Body::Exec(exec) => self.exec(header, exec),
            Body::Exit(exit) if exit.group_dead != 0 => self.threads.linger(ThreadKey::of(header), header.ktime_ns),
            Body::Pod(document) => {
                self.containers.tell_pod(document);
                self.subject = Subject::default();
                return;
            }
            Body::Digest(digest) => {
                self.digests.insert(digest);
                return;
            }
            Body::CgroupAttach(attach) => {
                self.moved(ThreadKey::process(attach.target_tgid, attach.target_start_ns), attach.target_cgroup_id);
            }
            Body::SeccompCall(call) => {
                self.known(header, &call.comm);
            }
            Body::Call(call) if let Some(told) = &call.told => {
                self.told_call(header, call, told);
                self.threads.expire(header.ktime_ns);
                return;
            }
            Body::Exit(_)
            | Body::Sigsys(_)
            | Body::SeccompFilter(..)
            | Body::Syscall(_)
            | Body::CallsMade(_)
            | Body::Loss(_)
            | Body::End(_)
            | Body::SeccompProfile(_)
            | Body::Clock(_)
            | Body::Rules(_) => {}
            _ => return self.captured(event),
        }
        self.subject = Subject { thread: Some(ThreadKey::of(header)), ..Subject::default() };
        self.threads.expire(header.ktime_ns);
    }

    /// Takes in what a capture of another tool tells.
    fn captured(&mut self, event: &Event<'_>) {
        match &event.body {
            Body::Section => self.begin_section(),
            Body::Machine(machine) => self.machine(machine),
            Body::ListedThread(thread) => self.listed_thread(thread),
            Body::ListedDescriptor(descriptor) => self.listed_descriptor(descriptor),
            Body::ListedInterface(interface) => self.interfaces.list(interface),
            Body::ListedUser(user) => self.users.list(user),
            Body::ListedGroup(group) => self.users.list_group(group),
            Body::Call(call) => {
                if std::mem::take(&mut self.has_open_lists) {
                    self.end_lists();
                }
                if self.first_ns == 0 && !call.info.category.is(Category::METAEVENT) {
                    self.first_ns = call.ts_ns;
                }
                self.call(ThreadKey::exact(call.tid), call);
                return;
            }
            _ => {}
        }
        self.has_open_lists = true;
    }

    /// The thread that the event at hand is about.
    pub fn thread(&self) -> Option<&Thread> {
        self.threads.get(self.subject.thread?)
    }

    /// The descriptor that the event at hand is about.
    pub fn descriptor(&self) -> Option<&Descriptor> {
        let (owner, fd) = self.subject.descriptor?;
        self.threads.get(owner)?.descriptors.get(fd)
    }

    /// Whether the event at hand gave its descriptor another name.
    pub const fn is_descriptor_renamed(&self) -> bool {
        self.subject.is_renamed
    }

    /// A descriptor of a thread by its number.
    pub fn descriptor_of<'a>(&'a self, thread: &'a Thread, fd: i64) -> Option<&'a Descriptor> {
        self.threads.descriptor_owner(thread)?.descriptors.get(fd)
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
