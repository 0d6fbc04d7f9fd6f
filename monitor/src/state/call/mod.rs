//! What events of Falco's table change: threads, descriptors, users and containers, as Falco changes them.
//!
//! Findings on a capture must be those of Falco. So its order of work is kept: what the event before has ended goes first,
//! then thread and descriptor are looked up, then the event changes what is known, and only then rules look at it.

mod descriptor;
mod file;
mod process;
mod socket;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, sync::Arc};

use hashbrown::HashMap;

use super::{
    State, Subject,
    descriptor::Descriptor,
    thread::{NOT_AVAILABLE, Thread, ThreadKey, flag},
};
use crate::event::{
    call::Call,
    schema::{Code, Flags},
};

/// Children that ended last, for calls that are told of after their child's end.
const MAX_ENDED: usize = 8192;
/// How long they count.
const RECENT_NS: u64 = 2_000_000_000;

/// What the next event does away with.
#[derive(Debug, Default)]
pub(super) struct Endings {
    thread: Option<ThreadKey>,
    descriptor: Option<(ThreadKey, i64)>,
    recent: Recent,
}

/// Threads that ended lately, by parent and child: their low 32 bits, as Falco compares them.
#[derive(Debug, Default)]
struct Recent {
    /// When each ended last. A map, because each new process is asked for.
    ended_ns: HashMap<(u32, u32), u64>,
    /// The oldest first.
    order: VecDeque<((u32, u32), u64)>,
}

impl Recent {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the low 32 bits are meant")]
    const fn key(parent: i64, child: i64) -> (u32, u32) {
        (parent as u32, child as u32)
    }

    fn add(&mut self, parent: i64, child: i64, now_ns: u64) {
        let key = Self::key(parent, child);
        if self.order.len() >= MAX_ENDED
            && let Some((oldest, ended_ns)) = self.order.pop_front()
            && self.ended_ns.get(&oldest) == Some(&ended_ns)
        {
            self.ended_ns.remove(&oldest);
        }
        self.ended_ns.insert(key, now_ns);
        self.order.push_back((key, now_ns));
    }

    fn contains(&self, parent: i64, child: i64, now_ns: u64) -> bool {
        let ended_ns = self.ended_ns.get(&Self::key(parent, child));
        ended_ns.and_then(|ended_ns| now_ns.checked_sub(*ended_ns)).is_some_and(|age| age < RECENT_NS)
    }
}

/// What a call's beginning said, kept for its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Begun {
    /// The last beginning.
    code: Option<Code>,
    /// The beginning that `values` are of.
    stored: Option<Code>,
    values: Vec<u8>,
    ends: Vec<usize>,
    /// Whether the event at hand is the end of it.
    is_ending: bool,
}

impl Begun {
    fn store(&mut self, call: &Call<'_>) {
        self.stored = Some(call.info.code);
        self.values.clear();
        self.ends.clear();
        for value in call.params.iter() {
            self.values.extend_from_slice(value);
            self.ends.push(self.values.len());
        }
    }

    /// A parameter of it.
    fn get(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied());
        let span = start.zip(self.ends.get(index)).and_then(|(start, end)| self.values.get(start..*end));
        span.unwrap_or_default()
    }
}

/// A text as Falco reads it: where there is none it says so.
fn text_or_na<'a>(call: &Call<'a>, index: usize) -> &'a [u8] {
    call.params.text(index).unwrap_or(NOT_AVAILABLE)
}

/// What a call returned: `None` for what does not return anything.
pub fn returned(call: &Call<'_>) -> Option<i64> {
    if !call.info.code.is_exit() || call.params.is_empty() || matches!(call.info.code, Code::GENERIC_X) {
        return None;
    }
    match call.params.get(0)?.len() {
        8 => call.params.i64(0),
        4 => call.params.i32(0).map(i64::from),
        _ => None,
    }
}

impl State {
    /// Takes in an event.
    pub(super) fn call(&mut self, key: ThreadKey, call: &Call<'_>) {
        self.end_what_ended(call.ts_ns);
        self.subject = Subject::default();
        self.look_up(key, call);
        let name_before = self.name_that_may_change(call.info.code);
        self.change(call);
        self.meet_users(call);
        self.contain(call);
        self.subject.is_renamed = match (self.subject.is_new, name_before) {
            (true, _) => self.descriptor().is_some_and(|descriptor| !descriptor.name.is_empty()),
            (false, Some(before)) => self.descriptor().is_some_and(|descriptor| descriptor.name != before),
            (false, None) => false,
        };
        if call.info.code.is_exit()
            && self.subject.has_begun
            && let Some(thread) = self.subject_mut()
        {
            thread.begun.stored = None;
        }
    }

    /// The name of the event's descriptor, if the event is of those that can change it: a copy of each would cost too much.
    fn name_that_may_change(&self, code: Code) -> Option<Vec<u8>> {
        if !socket::can_rename(code) {
            return None;
        }
        let descriptor = self.descriptor()?;
        let is_settled = socket::moves_data(code) && descriptor.is_ipv4_tcp() && !descriptor.name.is_empty();
        (!is_settled).then(|| descriptor.name.clone())
    }

    fn end_what_ended(&mut self, now_ns: u64) {
        if let Some(key) = self.endings.thread.take() {
            let parent = self.threads.get(key).map_or(-1, |thread| thread.parent.tid);
            self.endings.recent.add(parent, key.tid, now_ns);
            self.threads.remove(key);
        }
        if let Some((key, fd)) = self.endings.descriptor.take()
            && let Some(owner) = self.threads.descriptor_owner_mut(key)
        {
            owner.descriptors.remove(fd);
        }
    }

    /// Finds thread and descriptor.
    fn look_up(&mut self, key: ThreadKey, call: &Call<'_>) {
        let code = call.info.code;
        if call.info.flags.has(Flags::SKIPPARSERESET) {
            if code == Code::PROCINFO_E {
                self.subject.thread = Some(key).filter(|key| self.threads.get(*key).is_some());
            }
            return;
        }
        // Events of no thread.
        if code.is_notice_of_state() || code == Code::PLUGINEVENT_E {
            return;
        }
        let is_seen =
            call.told.is_some() || makes_threads(code) || matches!(code, Code::PROCEXIT_1_E | Code::SCHEDSWITCH_6_E);
        let thread = if is_seen { self.threads.get_mut(key) } else { self.threads.known_or_placeholder(call.tid) };
        let Some(thread) = thread else { return };
        thread.flags |= flag::ACTIVE;
        self.subject.thread = Some(key);
        self.subject.has_begun = thread.begun.stored.is_some();
        if code == Code::SCHEDSWITCH_6_E {
            return;
        }
        if code.is_enter() {
            thread.event_fd = -1;
            thread.begun.code = Some(code);
            if call.info.flags.has(Flags::USES_FD) {
                thread.event_fd = call.params.i64(enter_descriptor(code)).unwrap_or(-1);
                self.see_descriptor(key);
            }
            return;
        }
        let begun = thread.begun.code;
        let is_exec_by_descriptor = code == Code::SYSCALL_EXECVE_19_X && begun == Some(Code::SYSCALL_EXECVEAT_E);
        thread.begun.is_ending = is_exec_by_descriptor || begun.is_some_and(|begun| begun.0 + 1 == code.0);
        if !thread.begun.is_ending {
            thread.event_fd = -1;
        }
        if call.info.flags.has(Flags::USES_FD) {
            if thread.event_fd == -1
                && let Some(fd) = exit_descriptor(code).and_then(|index| call.params.i64(index))
            {
                thread.event_fd = fd;
            }
            self.see_descriptor(key);
        }
    }

    /// Makes the descriptor that the thread's event is about the subject's, if it is known.
    fn see_descriptor(&mut self, key: ThreadKey) {
        let Some(thread) = self.threads.get(key) else { return };
        let fd = thread.event_fd;
        self.subject.descriptor = self.owner_of(thread, fd).map(|owner| (owner, fd));
    }

    /// Whose table a thread's descriptor is in, if it is known.
    fn owner_of(&self, thread: &Thread, fd: i64) -> Option<ThreadKey> {
        let owner = self.threads.descriptor_owner(thread)?;
        owner.descriptors.get(fd).map(|_| owner.key)
    }

    /// The thread that the event is about.
    fn subject_mut(&mut self) -> Option<&mut Thread> {
        self.threads.get_mut(self.subject.thread?)
    }

    /// The descriptor that the event is about.
    fn descriptor_mut(&mut self) -> Option<&mut Descriptor> {
        let (owner, fd) = self.subject.descriptor?;
        self.threads.get_mut(owner)?.descriptors.get_mut(fd)
    }

    /// Gives the event's thread a new descriptor, which is what the event is about from then on.
    fn open(&mut self, fd: i64, descriptor: Descriptor) {
        self.open_shared(fd, Arc::new(descriptor), true);
    }

    fn open_shared(&mut self, fd: i64, descriptor: Arc<Descriptor>, is_new: bool) {
        let Some(key) = self.subject.thread else { return };
        self.subject.descriptor = None;
        if let Some(owner) = self.threads.descriptor_owner_mut(key) {
            let owner_key = owner.key;
            if owner.descriptors.insert(fd, descriptor) {
                self.subject.descriptor = Some((owner_key, fd));
                self.subject.is_new = is_new;
            }
        }
        if let Some(thread) = self.threads.get_mut(key) {
            thread.event_fd = fd;
        }
    }

    fn change(&mut self, call: &Call<'_>) {
        match call.info.code {
            Code::SYSCALL_OPEN_E
            | Code::SYSCALL_CREAT_E
            | Code::SYSCALL_OPENAT_2_E
            | Code::SYSCALL_OPENAT2_E
            | Code::SYSCALL_EXECVE_19_E => {
                if call.params.bytes(0).is_some() {
                    self.store(call);
                }
            }
            Code::SYSCALL_EXECVEAT_E | Code::SOCKET_CONNECT_E => self.store(call),
            Code::SYSCALL_CLONE_20_X | Code::SYSCALL_FORK_20_X | Code::SYSCALL_VFORK_20_X | Code::SYSCALL_CLONE3_X => {
                self.cloned(call);
            }
            Code::SYSCALL_EXECVE_19_X | Code::SYSCALL_EXECVEAT_X => self.executed(call),
            Code::PROCEXIT_1_E => self.exited(call),
            code if self.change_file(code, call) => {}
            code if self.change_socket(code, call) => {}
            code if self.change_descriptor(code, call) => {}
            code => self.change_process(code, call),
        }
    }

    fn store(&mut self, call: &Call<'_>) {
        if let Some(thread) = self.subject_mut() {
            thread.begun.store(call);
        }
    }

    /// Whether the beginning of the call that ends is at hand.
    fn has_begun(&self, code: Code) -> bool {
        let Some(thread) = self.thread() else { return false };
        let by_descriptor = code == Code::SYSCALL_EXECVE_19_X && thread.begun.stored == Some(Code::SYSCALL_EXECVEAT_E);
        thread.begun.is_ending && thread.begun.stored.is_some_and(|stored| by_descriptor || stored.0 + 1 == code.0)
    }
}

const fn makes_threads(code: Code) -> bool {
    matches!(
        code,
        Code::SYSCALL_CLONE_20_X | Code::SYSCALL_FORK_20_X | Code::SYSCALL_VFORK_20_X | Code::SYSCALL_CLONE3_X
    )
}

/// Where the beginning of a call names its descriptor.
const fn enter_descriptor(code: Code) -> usize {
    match code {
        Code::SYSCALL_MMAP_E | Code::SYSCALL_MMAP2_E => 4,
        Code::SYSCALL_SPLICE_E => 1,
        _ => 0,
    }
}

/// Where the end of a call names its descriptor.
fn exit_descriptor(code: Code) -> Option<usize> {
    EXIT_DESCRIPTOR.get(usize::from(code.0)).filter(|index| **index > 0).map(|index| usize::from(*index))
}

/// The same by code; 0 for those that name none.
#[expect(clippy::indexing_slicing, reason = "evaluated when compiling")]
static EXIT_DESCRIPTOR: [u8; Code::COUNT as usize] = {
    let mut by_code = [0; Code::COUNT as usize];
    let mut row = 0;
    while row < EXIT_DESCRIPTORS.len() {
        let (index, codes) = EXIT_DESCRIPTORS[row];
        let mut at = 0;
        while at < codes.len() {
            by_code[codes[at].0 as usize] = index;
            at += 1;
        }
        row += 1;
    }
    by_code
};

/// Where the ends of calls name their descriptors.
const EXIT_DESCRIPTORS: &[(u8, &[Code])] = &[
    (
        1,
        &[
            Code::SYSCALL_SETNS_X,
            Code::SOCKET_LISTEN_X,
            Code::SOCKET_SHUTDOWN_X,
            Code::SYSCALL_FCHDIR_X,
            Code::SYSCALL_LSEEK_X,
            Code::SYSCALL_LLSEEK_X,
            Code::SYSCALL_IOCTL_3_X,
            Code::SYSCALL_FSTAT_X,
            Code::SYSCALL_CLOSE_X,
            Code::SYSCALL_GETDENTS_X,
            Code::SYSCALL_GETDENTS64_X,
            Code::SYSCALL_FLOCK_X,
            Code::SYSCALL_COPY_FILE_RANGE_X,
            Code::SYSCALL_FCNTL_X,
            Code::SYSCALL_DUP_1_X,
            Code::SYSCALL_DUP2_X,
            Code::SYSCALL_DUP3_X,
            Code::SYSCALL_NEWFSTATAT_X,
            Code::SYSCALL_FCHOWNAT_X,
            Code::SYSCALL_FCHMODAT_X,
            Code::SYSCALL_MKDIRAT_X,
            Code::SYSCALL_UNLINKAT_2_X,
            Code::SYSCALL_MKNODAT_X,
            Code::SOCKET_SENDMMSG_X,
            Code::SOCKET_RECVMMSG_X,
            Code::SYSCALL_IO_URING_REGISTER_X,
            Code::SYSCALL_IO_URING_ENTER_X,
            Code::SOCKET_SETSOCKOPT_X,
            Code::SOCKET_GETSOCKOPT_X,
            Code::SYSCALL_FSCONFIG_X,
            Code::SYSCALL_FINIT_MODULE_X,
            Code::SYSCALL_FCHMOD_X,
            Code::SYSCALL_FCHOWN_X,
        ],
    ),
    (
        2,
        &[
            Code::SYSCALL_READ_X,
            Code::SYSCALL_PREAD_X,
            Code::SOCKET_BIND_X,
            Code::SYSCALL_WRITE_X,
            Code::SYSCALL_PWRITE_X,
            Code::SOCKET_RECV_X,
            Code::SOCKET_SEND_X,
            Code::SOCKET_SENDTO_X,
            Code::SOCKET_SENDMSG_X,
            Code::SYSCALL_SENDFILE_X,
            Code::SYSCALL_SPLICE_X,
            Code::SYSCALL_WRITEV_X,
            Code::SYSCALL_PWRITEV_X,
            Code::SOCKET_CONNECT_X,
            Code::SYSCALL_SYMLINKAT_X,
        ],
    ),
    (3, &[Code::SOCKET_RECVFROM_X, Code::SYSCALL_READV_X, Code::SYSCALL_PREADV_X]),
    (5, &[Code::SOCKET_RECVMSG_X]),
    (8, &[Code::SYSCALL_MMAP_X, Code::SYSCALL_MMAP2_X]),
];
