//! Calls that make, change and end threads.

use std::sync::Arc;

use super::{returned, text_or_na};
use crate::{
    event::{
        call::Call,
        path::{concatenate, until_nul},
        schema::Code,
    },
    state::{
        State,
        thread::{Capabilities, Image, NOT_AVAILABLE, Thread, ThreadKey, flag},
    },
};

/// How old an entry may be that is taken for the child that a call made.
const STALE_NS: u64 = 2_000_000_000;
/// Capabilities there are: `include/uapi/linux/capability.h`.
const ALL_CAPABILITIES: u64 = (1 << 41) - 1;
/// `PR_SET_CHILD_SUBREAPER` and `PR_GET_CHILD_SUBREAPER`, which Falco takes alike.
const SUBREAPER_OPTIONS: [u32; 2] = [36, 37];
/// `RLIMIT_NOFILE` in the numbers of Falco's captures.
const LIMIT_OF_DESCRIPTORS: u8 = 7;
/// `AT_EMPTY_PATH` in the numbers of Falco's captures.
const EMPTY_PATH: u32 = 1;

/// Positions of the parameters that `clone`, `fork` and `execve` have in common, and of their own.
mod at {
    pub(super) const EXE: usize = 1;
    pub(super) const ARGS: usize = 2;
    pub(super) const PID: usize = 4;
    pub(super) const PTID: usize = 5;
    pub(super) const FDLIMIT: usize = 7;
    pub(super) const COMM: usize = 13;
    pub(super) const CGROUPS: usize = 14;

    pub(super) const CLONE_FLAGS: usize = 15;
    pub(super) const CLONE_UID: usize = 16;
    pub(super) const CLONE_GID: usize = 17;
    pub(super) const CLONE_VTID: usize = 18;
    pub(super) const CLONE_VPID: usize = 19;
    pub(super) const CLONE_PIDNS_START: usize = 20;

    pub(super) const EXEC_ENV: usize = 15;
    pub(super) const EXEC_TTY: usize = 16;
    pub(super) const EXEC_VPGID: usize = 17;
    pub(super) const EXEC_LOGINUID: usize = 18;
    pub(super) const EXEC_FLAGS: usize = 19;
    pub(super) const EXEC_CAPABILITIES: usize = 20;
    pub(super) const EXEC_INODE: usize = 23;
    pub(super) const EXEC_UID: usize = 26;
    pub(super) const EXEC_PATH: usize = 27;
    pub(super) const EXEC_PGID: usize = 28;
    pub(super) const EXEC_GID: usize = 29;
}

/// What an exec says of the program's file.
mod exec_flag {
    pub(super) const WRITABLE: u32 = 1;
    pub(super) const UPPER_LAYER: u32 = 2;
    pub(super) const FROM_MEMFD: u32 = 4;
    pub(super) const LOWER_LAYER: u32 = 8;
}

/// The command name of an event, or what stands for it.
fn comm<'a>(call: &Call<'a>) -> &'a [u8] {
    if call.params.bytes(at::COMM).is_some() { text_or_na(call, at::COMM) } else { text_or_na(call, at::EXE) }
}

/// The program that an event names, shared with one that runs the same.
fn image(call: &Call<'_>, executable: &[u8], same_as: Option<&Arc<Image>>) -> Arc<Image> {
    let (comm, exe, args) = (comm(call), text_or_na(call, at::EXE), call.params.get(at::ARGS).unwrap_or_default());
    match same_as {
        Some(image) if image.is(comm, exe, args, executable) => Arc::clone(image),
        _ => Arc::new(Image::new(comm, exe, args, executable)),
    }
}

impl Thread {
    fn take_memory(&mut self, call: &Call<'_>) {
        if let Some(swapped_kib) = call.params.u32(12) {
            self.memory.major_faults = call.params.u64(8).unwrap_or_default();
            self.memory.minor_faults = call.params.u64(9).unwrap_or_default();
            self.memory.size_kib = call.params.u32(10).unwrap_or_default();
            self.memory.resident_kib = call.params.u32(11).unwrap_or_default();
            self.memory.swapped_kib = swapped_kib;
        }
    }

    /// What a new thread has from its maker, its parent or its leader.
    fn inherit(&mut self, from: &Self) {
        self.executable = from.executable;
        self.executable.pidns_start_to_ctime_ns = 0;
        self.root = Arc::clone(&from.root);
        self.sid = from.sid;
        self.vpgid = from.vpgid;
        self.pgid = from.pgid;
        self.tty = from.tty;
        self.loginuid = from.loginuid;
        self.capabilities = from.capabilities;
    }
}

impl State {
    /// `clone` and its kin have returned, to the maker or to what was made.
    pub(super) fn cloned(&mut self, call: &Call<'_>) {
        match returned(call) {
            Some(0) => self.cloned_child(call),
            Some(child) if child > 0 => self.cloned_caller(call, child),
            _ => {}
        }
    }

    fn cloned_caller(&mut self, call: &Call<'_>, child_tid: i64) {
        let key = ThreadKey::exact(call.tid);
        let Some(caller) = self.threads.known_or_placeholder(call.tid) else {
            self.subject.thread = None;
            return;
        };
        let was_known = caller.is_known();
        if !was_known {
            caller.pid = call.params.i64(at::PID).unwrap_or(-1);
            caller.parent = ThreadKey::exact(call.params.i64(at::PTID).unwrap_or(-1));
            match call.params.i64(at::CLONE_VPID) {
                Some(vpid) => (caller.vtid, caller.vpid) = (call.params.i64(at::CLONE_VTID).unwrap_or(-1), vpid),
                None => (caller.vtid, caller.vpid) = (call.tid, -1),
            }
            self.threads.relate_known(key);
        }
        self.subject.thread = Some(key);
        let flags = call.params.u32(at::CLONE_FLAGS).unwrap_or_default();
        let told_by_child = flag::CHILD_IN_PIDNS | flag::CLONE_NEWPID | flag::CLONE_PARENT | flag::CLONE_VFORK;
        let in_namespace = self.threads.get(key).is_some_and(|caller| caller.vtid != call.tid);
        if flags & told_by_child != 0 || in_namespace || call.info.code == Code::SYSCALL_VFORK_20_X {
            return;
        }
        if self.endings.recent.contains(call.tid, child_tid, call.ts_ns) {
            return;
        }
        let child_key = ThreadKey::exact(child_tid);
        let is_replaced = match self.threads.get(child_key) {
            Some(child) if child.has(flag::CLONE_INVERTED) => return,
            Some(_) => true,
            None => false,
        };
        if is_replaced {
            self.threads.remove(child_key);
        }
        self.add_child_of_caller(call, key, child_key, was_known);
        if is_replaced {
            self.subject = super::Subject::default();
            self.look_up(key, call);
        }
    }

    fn add_child_of_caller(&mut self, call: &Call<'_>, key: ThreadKey, child_key: ThreadKey, was_known: bool) {
        let flags = call.params.u32(at::CLONE_FLAGS).unwrap_or_default();
        let is_leader = flags & flag::CLONE_THREAD == 0;
        // The maker may be what was replaced.
        let Some(caller) = self.threads.get(key) else { return };
        let executable: &[u8] = if was_known { &caller.image.executable } else { b"" };
        let mut child = Thread::new(child_key, image(call, executable, Some(&caller.image)));
        child.flags = flags;
        if is_leader {
            if was_known {
                child.descriptors =
                    self.threads.descriptor_owner(caller).map(|t| t.descriptors.clone()).unwrap_or_default();
                child.cwd = self.threads.cwd(caller).to_vec();
                child.environment = Arc::clone(&caller.environment);
            }
            child.pid = child_key.tid;
            child.parent = key;
        } else {
            child.pid = caller.pid;
            child.parent = caller.parent;
            child.flags |= flag::CLONE_FILES;
            child.exec_ns = caller.exec_ns;
        }
        (child.vtid, child.vpid) = (child_key.tid, child.pid);
        if was_known {
            child.inherit(caller);
        }
        self.take_clone(&mut child, call);
        if !was_known {
            let image = Arc::new(Image::new(
                comm(call),
                text_or_na(call, at::EXE),
                call.params.get(at::ARGS).unwrap_or_default(),
                b"",
            ));
            if let Some(caller) = self.threads.get_mut(key) {
                caller.image = image;
            }
        }
        self.threads.add(child);
    }

    fn take_clone(&mut self, child: &mut Thread, call: &Call<'_>) {
        child.descriptor_limit = call.params.i64(at::FDLIMIT).unwrap_or(-1);
        child.take_memory(call);
        child.uid = call.params.u32(at::CLONE_UID).unwrap_or(u32::MAX);
        child.gid = call.params.u32(at::CLONE_GID).unwrap_or(u32::MAX);
        let cgroups = call.params.bytes(at::CGROUPS);
        if let Some(cgroups) = cgroups.and_then(|cgroups| self.containers.control_groups(cgroups)) {
            child.cgroups = cgroups;
        }
        child.clone_ns = call.ts_ns;
    }

    fn cloned_child(&mut self, call: &Call<'_>) {
        let key = ThreadKey::exact(call.tid);
        let known = self.thread().filter(|thread| thread.clone_ns != 0);
        if let Some(thread) = known {
            if call.ts_ns.wrapping_sub(thread.clone_ns) < STALE_NS {
                return;
            }
            self.threads.remove(key);
            self.subject.thread = None;
        }
        let mut child = Thread::new(key, Arc::new(Image::new(b"", b"", b"", b"")));
        child.pid = call.params.i64(at::PID).unwrap_or(-1);
        child.parent = ThreadKey::exact(call.params.i64(at::PTID).unwrap_or(-1));
        match call.params.i64(at::CLONE_VPID) {
            Some(vpid) => (child.vtid, child.vpid) = (call.params.i64(at::CLONE_VTID).unwrap_or(-1), vpid),
            None => (child.vtid, child.vpid) = (call.tid, -1),
        }
        child.flags = call.params.u32(at::CLONE_FLAGS).unwrap_or_default() | flag::CLONE_INVERTED;
        let is_leader = !child.has(flag::CLONE_THREAD);
        let from = if is_leader { child.parent.tid } else { child.pid };
        if !is_leader {
            child.flags |= flag::CLONE_FILES;
        }
        if !self.inherit_from(&mut child, from, call) {
            self.subject.thread = None;
            return;
        }
        self.take_clone(&mut child, call);
        if child.has(flag::CHILD_IN_PIDNS | flag::CLONE_NEWPID) || child.key.tid != child.vtid {
            // Since the machine's start: Falco means to add when that was, but has not read it yet when it replays.
            child.pidns_start_ns = call.params.u64(at::CLONE_PIDNS_START).unwrap_or_default();
        }
        self.subject.thread = self.threads.add(child).then_some(key);
    }

    /// Gives a new thread what it has from the thread `from`. `false` if there is no room for any.
    fn inherit_from(&mut self, child: &mut Thread, from: i64, call: &Call<'_>) -> bool {
        let is_leader = !child.has(flag::CLONE_THREAD);
        let from_key = ThreadKey::exact(from);
        let Some(other) = self.threads.known_or_placeholder(from) else { return false };
        let was_known = other.is_known();
        if !was_known && !is_leader {
            (other.pid, other.parent) = (child.pid, child.parent);
            (other.vpid, other.vtid) = (child.vpid, child.vpid);
            self.threads.relate_known(from_key);
        }
        let Some(other) = self.threads.get(from_key) else { return false };
        if was_known {
            child.image = image(call, &other.image.executable, Some(&other.image));
            child.inherit(other);
            if is_leader {
                child.descriptors =
                    self.threads.descriptor_owner(other).map(|t| t.descriptors.clone()).unwrap_or_default();
                child.cwd = self.threads.cwd(other).to_vec();
                child.environment = Arc::clone(&other.environment);
            } else {
                child.exec_ns = other.exec_ns;
            }
            return true;
        }
        child.image = image(call, b"", None);
        if !is_leader {
            let image = Arc::clone(&child.image);
            if let Some(other) = self.threads.get_mut(from_key) {
                other.image = image;
            }
        }
        true
    }

    /// A thread runs another program.
    pub(super) fn executed(&mut self, call: &Call<'_>) {
        let Some(key) = self.subject.thread else { return };
        if returned(call).is_none_or(|ret| ret < 0) || self.threads.get(key).is_none() {
            return;
        }
        self.threads.resume(key);
        let path = self.executed_path(call);
        let cgroups = call.params.bytes(at::CGROUPS).and_then(|cgroups| self.containers.control_groups(cgroups));
        let Some(thread) = self.threads.get_mut(key) else { return };
        thread.exec_ns = call.ts_ns;
        let path = path.strip_suffix(b" (deleted)").filter(|path| !path.is_empty()).unwrap_or(&path);
        thread.image = image(call, path, Some(&thread.image));
        thread.pid = call.params.i64(at::PID).unwrap_or(-1);
        if !thread.is_known() {
            thread.parent = ThreadKey::exact(call.params.i64(at::PTID).unwrap_or(-1));
            if !thread.has(flag::CHILD_IN_PIDNS) {
                (thread.vtid, thread.vpid) = (key.tid, thread.pid);
            }
            self.threads.relate_known(key);
        }
        let Some(thread) = self.threads.get_mut(key) else { return };
        thread.descriptor_limit = call.params.i64(at::FDLIMIT).unwrap_or(-1);
        thread.take_memory(call);
        if let Some(environment) = call.params.bytes(at::EXEC_ENV) {
            thread.environment = environment.strip_suffix(&[0]).unwrap_or(environment).into();
        }
        if let Some(cgroups) = cgroups {
            thread.cgroups = cgroups;
        }
        take_exec(thread, call);
        if let Some(owner) = self.threads.descriptor_owner_mut(key) {
            owner.descriptors.retain(|_, descriptor| !descriptor.is_close_on_exec());
        }
        if let Some(thread) = self.threads.get_mut(key) {
            thread.flags &= flag::IS_MAIN_THREAD | flag::CLONE_INVERTED;
            thread.flags |= flag::ACTIVE;
        }
        self.threads.keep_leader(key);
    }

    /// The path of the program: as the kernel has it, or in old captures as the call's beginning says.
    fn executed_path(&mut self, call: &Call<'_>) -> Vec<u8> {
        if call.params.bytes(at::EXEC_PATH).is_some() {
            return text_or_na(call, at::EXEC_PATH).to_vec();
        }
        let Some(thread) = self.thread() else { return Vec::new() };
        if !self.has_begun(call.info.code) {
            return thread.image.executable.clone();
        }
        let text = |index| match until_nul(thread.begun.get(index)) {
            b"" => NOT_AVAILABLE,
            text => text,
        };
        if thread.begun.stored != Some(Code::SYSCALL_EXECVEAT_E) {
            return match text(0) {
                NOT_AVAILABLE => NOT_AVAILABLE.to_vec(),
                filename => concatenate(self.threads.cwd(thread), filename),
            };
        }
        let dirfd = i64_of(thread.begun.get(0)).unwrap_or(-1);
        let is_empty_path = u32_of(thread.begun.get(2)).is_some_and(|flags| flags & EMPTY_PATH != 0);
        let pathname = text(1);
        let Some(directory) = self.directory_of(thread, pathname, dirfd) else { return NOT_AVAILABLE.to_vec() };
        let path = match pathname {
            NOT_AVAILABLE if !is_empty_path => NOT_AVAILABLE.to_vec(),
            _ if is_empty_path => concatenate(b"", &directory),
            _ => concatenate(&directory, pathname),
        };
        if *directory != *b"." {
            self.subject.descriptor = self.owner_of(thread, dirfd).map(|owner| (owner, dirfd));
        }
        path
    }

    /// A thread has ended; its entry goes with the next event.
    pub(super) fn exited(&mut self, call: &Call<'_>) {
        let Some(key) = self.subject.thread else { return };
        self.threads.end(key);
        self.endings.thread = Some(key);
        if let Some(thread) = self.threads.get_mut(key)
            && thread.listed_children > 0
        {
            if call.params.len() <= 4 {
                thread.reaper_tid = -1;
            } else if let Some(reaper) = call.params.i64(4) {
                thread.reaper_tid = reaper;
            }
        }
    }

    /// Everything else that changes a thread.
    pub(super) fn change_process(&mut self, code: Code, call: &Call<'_>) {
        let ret = returned(call);
        let has_failed = ret.is_none_or(|ret| ret < 0);
        match code {
            Code::SYSCALL_CHDIR_X | Code::SYSCALL_GETCWD_X if !has_failed => self.set_cwd(text_or_na(call, 1)),
            Code::SYSCALL_FCHDIR_X if !has_failed => {
                if let Some(name) = self.descriptor().map(|descriptor| descriptor.name.clone()) {
                    self.set_cwd(&name);
                }
            }
            Code::SYSCALL_SETRESUID_X | Code::SYSCALL_SETREUID_X if ret == Some(0) => self.set_user(call.params.u32(2)),
            Code::SYSCALL_SETUID_X if ret == Some(0) => self.set_user(call.params.u32(1)),
            Code::SYSCALL_SETRESGID_X | Code::SYSCALL_SETREGID_X if ret == Some(0) => {
                self.set_group(call.params.u32(2));
            }
            Code::SYSCALL_SETGID_X if ret == Some(0) => self.set_group(call.params.u32(1)),
            Code::SYSCALL_UNSHARE_X if !has_failed => self.enter_namespaces(call.params.u32(1)),
            Code::SYSCALL_SETNS_X if !has_failed => self.enter_namespaces(call.params.u32(2)),
            Code::SYSCALL_SETSID_X if !has_failed => {
                if let (Some(thread), Some(sid)) = (self.subject_mut(), ret) {
                    thread.sid = sid;
                }
            }
            Code::SYSCALL_CAPSET_X if !has_failed => {
                if let Some(thread) = self.subject_mut() {
                    thread.capabilities = capabilities(call, 1);
                }
            }
            Code::SYSCALL_CHROOT_X if ret == Some(0) => self.set_root(text_or_na(call, 1)),
            Code::SYSCALL_PRCTL_X if !has_failed => self.set_subreaper(call),
            Code::SYSCALL_GETRLIMIT_X | Code::SYSCALL_SETRLIMIT_X
                if !has_failed && call.params.u8(3) == Some(LIMIT_OF_DESCRIPTORS) =>
            {
                self.set_descriptor_limit(self.subject.thread, call.params.i64(1));
            }
            Code::SYSCALL_PRLIMIT_X if ret == Some(0) => self.set_limit_of_other(call),
            Code::SCHEDSWITCH_6_E => self.switched(call),
            Code::SYSCALL_BRK_4_X | Code::SYSCALL_MMAP_X | Code::SYSCALL_MMAP2_X | Code::SYSCALL_MUNMAP_X => {
                self.set_memory(call);
            }
            Code::USER_ADDED_E | Code::USER_DELETED_E | Code::GROUP_ADDED_E | Code::GROUP_DELETED_E => {
                self.users.notice(call);
            }
            _ => {}
        }
    }

    fn set_cwd(&mut self, path: &[u8]) {
        let Some(thread) = self.thread() else { return };
        let mut cwd = concatenate(&thread.cwd, path);
        if cwd.last() != Some(&b'/') {
            cwd.push(b'/');
        }
        if let Some(leader) = self.subject.thread.and_then(|key| self.threads.leader_mut(key)) {
            leader.cwd = cwd;
        }
    }

    fn set_user(&mut self, uid: Option<u32>) {
        if let (Some(thread), Some(uid)) = (self.subject_mut(), uid) {
            thread.uid = uid;
        }
    }

    fn set_group(&mut self, gid: Option<u32>) {
        if let (Some(thread), Some(gid)) = (self.subject_mut(), gid) {
            thread.gid = gid;
        }
    }

    fn enter_namespaces(&mut self, flags: Option<u32>) {
        if flags.is_some_and(|flags| flags & flag::CLONE_NEWUSER != 0)
            && let Some(thread) = self.subject_mut()
        {
            thread.capabilities = Capabilities {
                inheritable: ALL_CAPABILITIES,
                permitted: ALL_CAPABILITIES,
                effective: ALL_CAPABILITIES,
            };
        }
    }

    fn set_root(&mut self, path: &[u8]) {
        let Some(thread) = self.thread() else { return };
        let root = match path {
            NOT_AVAILABLE | [b'/', ..] | [] => path.to_vec(),
            relative => concatenate(self.threads.cwd(thread), relative),
        };
        if let Some(thread) = self.subject_mut() {
            thread.root = root.into();
        }
    }

    fn set_subreaper(&mut self, call: &Call<'_>) {
        let is_about_it = call.params.u32(1).is_some_and(|option| SUBREAPER_OPTIONS.contains(&option));
        let key = self.thread().filter(|thread| thread.is_known()).map(|thread| thread.key);
        if let Some(key) = key.filter(|_| is_about_it) {
            self.threads.set_reaper(key, call.params.i64(3).is_some_and(|value| value != 0));
        }
    }

    fn set_limit_of_other(&mut self, call: &Call<'_>) {
        let Some(tid) = call.params.i64(5).filter(|_| call.params.u8(6) == Some(LIMIT_OF_DESCRIPTORS)) else { return };
        let new = call.params.i64(1).filter(|limit| *limit != -1);
        let tid = if tid == 0 { call.tid } else { tid };
        if new.is_some() && self.threads.known_or_placeholder(tid).is_some_and(|thread| thread.is_known()) {
            self.set_descriptor_limit(Some(ThreadKey::exact(tid)), new);
        }
    }

    fn set_descriptor_limit(&mut self, key: Option<ThreadKey>, limit: Option<i64>) {
        if let (Some(leader), Some(limit)) = (key.and_then(|key| self.threads.leader_mut(key)), limit)
            && limit != -1
        {
            leader.descriptor_limit = limit;
        }
    }

    fn switched(&mut self, call: &Call<'_>) {
        let (Some(swapped_kib), Some(key)) = (call.params.u32(5), self.subject.thread) else { return };
        if let Some(thread) = self.threads.get_mut(key) {
            thread.memory.major_faults = call.params.u64(1).unwrap_or_default();
            thread.memory.minor_faults = call.params.u64(2).unwrap_or_default();
        }
        if let Some(leader) = self.threads.leader_mut(key) {
            leader.memory.size_kib = call.params.u32(3).unwrap_or_default();
            leader.memory.resident_kib = call.params.u32(4).unwrap_or_default();
            leader.memory.swapped_kib = swapped_kib;
        }
    }

    fn set_memory(&mut self, call: &Call<'_>) {
        let Some(thread) = self.subject_mut() else { return };
        if let Some(size_kib) = call.params.u32(1) {
            thread.memory.size_kib = size_kib;
        }
        if let Some(swapped_kib) = call.params.u32(3) {
            thread.memory.resident_kib = call.params.u32(2).unwrap_or_default();
            thread.memory.swapped_kib = swapped_kib;
        }
    }
}

/// What an exec says besides the program and its arguments, as far as it does.
fn take_exec(thread: &mut Thread, call: &Call<'_>) {
    if let Some(tty) = call.params.u32(at::EXEC_TTY) {
        thread.tty = tty;
    }
    if let Some(vpgid) = call.params.i64(at::EXEC_VPGID) {
        thread.vpgid = vpgid;
    }
    if let Some(loginuid) = call.params.u32(at::EXEC_LOGINUID) {
        thread.loginuid = loginuid;
    }
    let executable = &mut thread.executable;
    if let Some(flags) = call.params.u32(at::EXEC_FLAGS) {
        executable.writable = flags & exec_flag::WRITABLE != 0;
        executable.upper_layer = flags & exec_flag::UPPER_LAYER != 0;
        executable.from_memfd = flags & exec_flag::FROM_MEMFD != 0;
        executable.lower_layer = flags & exec_flag::LOWER_LAYER != 0;
    }
    if call.params.bytes(at::EXEC_CAPABILITIES + 2).is_some() {
        thread.capabilities = capabilities(call, at::EXEC_CAPABILITIES);
    }
    if let Some(mtime_ns) = call.params.u64(at::EXEC_INODE + 2) {
        executable.ino = call.params.u64(at::EXEC_INODE).unwrap_or_default();
        executable.ctime_ns = call.params.u64(at::EXEC_INODE + 1).unwrap_or_default();
        executable.mtime_ns = mtime_ns;
        if thread.clone_ns != 0 {
            executable.ctime_to_clone_ns = thread.clone_ns.wrapping_sub(executable.ctime_ns);
        }
        if thread.pidns_start_ns != 0 && executable.ctime_ns > thread.pidns_start_ns {
            executable.pidns_start_to_ctime_ns = executable.ctime_ns - thread.pidns_start_ns;
        }
    }
    if let Some(uid) = call.params.u32(at::EXEC_UID) {
        thread.uid = uid;
    }
    thread.pgid = call.params.i64(at::EXEC_PGID).unwrap_or(-1);
    if let Some(gid) = call.params.u32(at::EXEC_GID) {
        thread.gid = gid;
    }
}

/// Three sets, one behind the other.
fn capabilities(call: &Call<'_>, first: usize) -> Capabilities {
    let set = |index| call.params.u64(index).unwrap_or_default();
    Capabilities { inheritable: set(first), permitted: set(first + 1), effective: set(first + 2) }
}

fn i64_of(bytes: &[u8]) -> Option<i64> {
    bytes.first_chunk().copied().map(i64::from_le_bytes)
}

fn u32_of(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().copied().map(u32::from_le_bytes)
}
