//! Calls that copy, mark and close descriptors, and that open what is neither file nor socket.

use std::sync::Arc;

use super::{returned, text_or_na};
use crate::{
    event::{call::Call, schema::Code},
    state::{
        State,
        descriptor::{Descriptor, Kind},
        thread::ThreadKey,
    },
};

/// `O_CLOEXEC`, `CLOSE_RANGE_CLOEXEC` and commands of `fcntl` in the numbers of Falco's captures.
const CLOSE_ON_EXEC: u32 = 1 << 12;
const RANGE_CLOSE_ON_EXEC: u32 = 1 << 2;
const EPOLL_CLOSE_ON_EXEC: u32 = 1;
const COMMAND_DUP: u8 = 1;
const COMMAND_SET: u8 = 3;
const COMMAND_DUP_CLOSE_ON_EXEC: u8 = 26;
/// `FD_CLOEXEC`, which the kernel's own numbers have.
const FD_CLOSE_ON_EXEC: u64 = 1;

impl State {
    /// Calls about descriptors. `false` for others.
    pub(super) fn change_descriptor(&mut self, code: Code, call: &Call<'_>) -> bool {
        if self.opens_object(code, call) {
            return true;
        }
        match code {
            Code::SYSCALL_CLOSE_X => self.closed(call),
            Code::SYSCALL_CLOSE_RANGE_X => self.closed_range(call),
            Code::SYSCALL_DUP_1_X | Code::SYSCALL_DUP2_X => self.copied(call, false),
            Code::SYSCALL_DUP3_X => {
                self.copied(call, call.params.u32(3).is_some_and(|flags| flags & CLOSE_ON_EXEC != 0));
            }
            Code::SYSCALL_FCNTL_X => self.controlled(call),
            Code::SYSCALL_PIPE_X => self.piped(call, 0),
            Code::SYSCALL_PIPE2_X => self.piped(call, call.params.u32(4).unwrap_or_default()),
            Code::SYSCALL_MEMFD_CREATE_X => self.made_memory_file(call),
            Code::SYSCALL_PIDFD_OPEN_X => self.opened_process(call),
            Code::SYSCALL_PIDFD_GETFD_X => self.took_from_process(call),
            _ => return false,
        }
        true
    }

    /// Objects without a name.
    fn opens_object(&mut self, code: Code, call: &Call<'_>) -> bool {
        let (kind, flags) = match code {
            Code::SYSCALL_EVENTFD_X => (Kind::EVENT, None),
            Code::SYSCALL_EVENTFD2_X => (Kind::EVENT, call.params.u16(1).map(u32::from)),
            Code::SYSCALL_SIGNALFD_X => (Kind::SIGNAL, None),
            Code::SYSCALL_SIGNALFD4_X => (Kind::SIGNAL, call.params.u16(1).map(u32::from)),
            Code::SYSCALL_TIMERFD_CREATE_X => (Kind::TIMER, call.params.u8(2).map(u32::from)),
            Code::SYSCALL_INOTIFY_INIT_X => (Kind::INOTIFY, None),
            Code::SYSCALL_INOTIFY_INIT1_X => (Kind::INOTIFY, call.params.u16(1).map(u32::from)),
            Code::SYSCALL_BPF_2_X => (Kind::BPF, None),
            Code::SYSCALL_USERFAULTFD_X => (Kind::USERFAULT, None),
            Code::SYSCALL_IO_URING_SETUP_X => (Kind::IO_URING, None),
            Code::SYSCALL_EPOLL_CREATE_X => (Kind::EVENT_POLL, None),
            Code::SYSCALL_EPOLL_CREATE1_X => {
                let closes = call.params.u32(1).is_some_and(|flags| flags & EPOLL_CLOSE_ON_EXEC != 0);
                (Kind::EVENT_POLL, closes.then_some(CLOSE_ON_EXEC))
            }
            _ => return false,
        };
        if let Some(fd) = returned(call).filter(|fd| *fd >= 0) {
            self.open(fd, Descriptor { open_flags: flags.unwrap_or_default(), ..Descriptor::new(kind) });
        }
        true
    }

    /// The descriptor goes with the next event, which is the first that does not see it.
    fn closed(&mut self, call: &Call<'_>) {
        if returned(call).is_some_and(|ret| ret >= 0)
            && self.subject.descriptor.is_some()
            && let Some(thread) = self.thread()
        {
            self.endings.descriptor = Some((thread.key, thread.event_fd));
        }
    }

    fn closed_range(&mut self, call: &Call<'_>) {
        if returned(call).is_none_or(|ret| ret < 0) {
            return;
        }
        let Some(owner) = self.subject.thread.and_then(|key| self.threads.descriptor_owner_mut(key)) else { return };
        let number = |index| call.params.u32(index).unwrap_or_default();
        let (first, last) = (number(1), number(2));
        if number(3) & RANGE_CLOSE_ON_EXEC != 0 {
            owner.descriptors.change(first, last, |descriptor| descriptor.open_flags |= CLOSE_ON_EXEC);
        } else {
            owner.descriptors.retain(|fd, _| !(i64::from(first)..=i64::from(last)).contains(&fd));
        }
    }

    fn copied(&mut self, call: &Call<'_>, closes_on_exec: bool) {
        if let Some(fd) = returned(call).filter(|fd| *fd >= 0) {
            self.copy_to(fd, closes_on_exec);
        }
    }

    /// Gives the descriptor of the event another number besides its own.
    fn copy_to(&mut self, fd: i64, closes_on_exec: bool) {
        let Some((owner, from)) = self.subject.descriptor else { return };
        let Some(mut descriptor) = self.threads.get(owner).and_then(|owner| owner.descriptors.share(from)) else {
            return;
        };
        if descriptor.is_close_on_exec() || closes_on_exec {
            Arc::make_mut(&mut descriptor).set_close_on_exec(closes_on_exec);
        }
        self.open_shared(fd, descriptor, false);
    }

    fn controlled(&mut self, call: &Call<'_>) {
        let Some(ret) = returned(call).filter(|ret| *ret >= 0) else { return };
        match call.params.u8(2) {
            Some(COMMAND_SET) => {
                let closes = call.params.u64(3).is_some_and(|argument| argument & FD_CLOSE_ON_EXEC != 0);
                if let Some(descriptor) = self.descriptor_mut() {
                    descriptor.set_close_on_exec(closes);
                }
            }
            Some(COMMAND_DUP) => self.copy_to(ret, false),
            Some(COMMAND_DUP_CLOSE_ON_EXEC) => self.copy_to(ret, true),
            _ => {}
        }
    }

    fn piped(&mut self, call: &Call<'_>, open_flags: u32) {
        if returned(call).is_none_or(|ret| ret < 0) {
            return;
        }
        let ino = call.params.u64(3).unwrap_or_default();
        for fd in [call.params.i64(1), call.params.i64(2)].into_iter().flatten() {
            self.open(fd, Descriptor { open_flags, ino, ..Descriptor::new(Kind::PIPE) });
        }
    }

    fn made_memory_file(&mut self, call: &Call<'_>) {
        if let Some(fd) = returned(call).filter(|fd| *fd >= 0) {
            let name = text_or_na(call, 1).to_vec();
            let open_flags = call.params.u32(2).unwrap_or_default();
            self.open(fd, Descriptor { open_flags, name, ..Descriptor::new(Kind::MEMFD) });
        }
    }

    fn opened_process(&mut self, call: &Call<'_>) {
        if let Some(fd) = returned(call).filter(|fd| *fd >= 0) {
            let pid = call.params.i64(1).unwrap_or(-1);
            let open_flags = call.params.u32(2).unwrap_or_default();
            let name = format!("/proc/{pid}").into_bytes();
            self.open(fd, Descriptor { open_flags, name, pid, ..Descriptor::new(Kind::PIDFD) });
        }
    }

    /// `pidfd_getfd`: a descriptor of another process.
    fn took_from_process(&mut self, call: &Call<'_>) {
        let (Some(fd), Some(pidfd), Some(target)) = (returned(call), call.params.i64(1), call.params.i64(2)) else {
            return;
        };
        let taken = self.thread().and_then(|thread| {
            let other = self.descriptor_of(thread, pidfd).filter(|descriptor| descriptor.kind == Kind::PIDFD)?;
            let other = self.threads.get(ThreadKey::exact(other.pid))?;
            self.threads.descriptor_owner(other)?.descriptors.share(target)
        });
        if let Some(mut descriptor) = taken.filter(|_| fd >= 0) {
            Arc::make_mut(&mut descriptor).set_close_on_exec(true);
            self.open_shared(fd, descriptor, true);
        }
    }
}
