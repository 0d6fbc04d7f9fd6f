//! `sys_exit` of a wanted call: sends what it was given, what it returned, and what only the kernel knows of the file or socket
//! that it is about.
//!
//! One program for all calls. What to collect of each stands in its [`Plan`], a row of a table, so that a new call is a new
//! row and no new program. Paths and addresses come from the open file and the socket, not from the caller's memory, which
//! another thread may have changed since; texts that have no file (a name that is unlinked) come from there all the same.

use aya_ebpf::{helpers::bpf_get_smp_processor_id, macros::btf_tracepoint, programs::BtfTracePointContext};
use monitor_ebpf::{
    record::{CallRecord, Kind, SocketFacts, file_flag},
    settings::{CALLS, Counter, Plan, plan_flag, wanted},
    subject::Subject,
};

use crate::{
    kernel::{
        emit::{self, Urgency},
        file::{self, OVERLAY_MAGIC, TMPFS_MAGIC},
        globals::{SETTINGS, offset, setting},
        maps::{CALL_SCRATCH, Scratch},
        read::{Typed, probed, typed},
        script, socket,
        subject::Answer,
        tail::{Path, Tail},
        task,
    },
    probes::{seccomp::arguments, sys_exit},
};

/// `FMODE_WRITE` of `struct file`, unchanged since it exists.
const FMODE_WRITE: u32 = 2;
const O_ACCMODE: u64 = 3;
const O_TRUNC: u64 = 0o1000;
const PROT_EXEC: u64 = 4;
const MAP_ANONYMOUS: u64 = 0x20;
const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;
const S_IFSOCK: u32 = 0o140_000;
const AT_FDCWD: i32 = -100;

/// Behind [`monitor_ebpf::settings::Class::CALL`].
#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit_call(ctx: BtfTracePointContext) -> i32 {
    if try_sys_exit_call(&ctx).is_none() {
        emit::count(Kind::CALL, Counter::FILTERED);
    }
    0
}

/// `None` where the call is not due. One that the ring does not take is counted there.
#[inline(always)]
fn try_sys_exit_call(ctx: &BtfTracePointContext) -> Option<()> {
    let current = task::current();
    let scratch = CALL_SCRATCH.get_ptr_mut(0)?;
    let record = scratch.cast::<CallRecord>();
    // SAFETY: the running task; scratch memory starts with the record.
    unsafe {
        let answer = Answer::take(scratch);
        let compat = task::is_compat(current);
        let plan = begin(ctx, record, current, compat)?;
        if answer == Answer::NONE {
            (*record).subject = Subject::NONE.to_words();
        }
        let level = sys_exit::wanted(compat, (*record).nr as u32);
        let is_for_drift = answer.is_boring() || level & outcome(record, plan) == 0;
        if flag(plan, plan_flag::FAILED) && (*record).ret >= 0 {
            return None;
        }
        if is_for_drift && (level & wanted::DRIFT == 0 || !is_due_for_drift(record, plan, current)) {
            return None;
        }
        let file = open_file(record, plan, current);
        let place = if flag(plan, plan_flag::PROTECTS) {
            file::mapped(current, argument(record, 0))
        } else if file == 0 {
            Path::NONE
        } else {
            file::path(file)
        };
        (*record).file = file::facts_at(place);
        if is_for_drift && !is_watched(record, plan, current) {
            return None;
        }
        (*record).socket_len = 0;
        if !answer.has_text() && (*record).file.mode & S_IFMT == S_IFSOCK {
            let facts = scratch.cast::<u8>().add(size_of::<CallRecord>()).cast::<SocketFacts>();
            *facts = socket::facts(socket::of(file));
            (*record).socket_len = size_of::<SocketFacts>() as u16;
        }
        if flag(plan, plan_flag::DATAGRAM) && !socket::is_datagram(socket::of(file)) {
            return None;
        }
        if !emit::admit(Kind::CALL) {
            return Some(());
        }
        (*record).header = task::header::<CallRecord>(Kind::CALL, 0, current);
        (*record).comm = task::comm(current);
        let tail = write_tail(scratch, plan, current, file, place, answer.has_text());
        (*record).header.flags |= tail.flags();
        emit::variable(Kind::CALL, scratch, tail.len(), Urgency::Normal);
    }
    Some(())
}

/// Notes what the call was given and what it returned. `None` for calls that have no plan, and the agent's own.
///
/// # Safety
/// `record` must be the fixed part of a record in scratch memory; `current` must be the running task.
#[inline(always)]
pub(super) unsafe fn begin(
    ctx: &BtfTracePointContext,
    record: *mut CallRecord,
    current: Typed,
    compat: bool,
) -> Option<*const Plan> {
    let regs: Typed = ctx.arg(0);
    // SAFETY: the caller's promise, and the task's registers.
    unsafe {
        if task::tgid(current) == setting!(agent_tgid) {
            return None;
        }
        let nr = typed::<u32>(regs, offset!(regs_nr)) & setting!(nr_mask);
        let plan = plan(compat, nr)?;
        (*record).args = arguments(regs, compat);
        (*record).ret = ctx.arg(1);
        (*record).nr = nr as i32;
        (*record).cpu = bpf_get_smp_processor_id() as u16;
        Some(plan)
    }
}

/// Writes the pieces in the order in which the record has their lengths. If it `has_text`, its first text is there.
///
/// # Safety
/// `scratch` must hold the record's fixed part; `current` must be the running task.
#[inline(always)]
unsafe fn write_tail(
    scratch: *mut Scratch,
    plan: *const Plan,
    current: Typed,
    file: u64,
    place: Path,
    has_text: bool,
) -> Tail {
    let record = scratch.cast::<CallRecord>();
    // SAFETY: the caller's promise.
    unsafe {
        let tail = if has_text {
            Tail::resume(scratch)
        } else {
            let tail = Tail::behind::<CallRecord>(scratch);
            tail.skip(u32::from((*record).socket_len));
            (*record).text_len[0] = text(tail, record, (*plan).texts[0]);
            tail
        };
        let is_first_relative = tail.is_relative();
        (*record).text_len[1] = text(tail, record, (*plan).texts[1]);
        let is_second_relative = tail.is_relative();
        (*record).text_len[2] = text(tail, record, (*plan).texts[2]);
        (*record).structure_len = structure(tail, record, plan, file);
        let root = root(current);
        let place = if (*record).socket_len == 0 { place } else { Path::NONE };
        (*record).path_len = tail.path(place, root);
        let place = directory(record, (*plan).directories[0], is_first_relative, current);
        (*record).directory_len[0] = tail.directory(place, root);
        let place = directory(record, (*plan).directories[1], is_second_relative, current);
        (*record).directory_len[1] = tail.directory(place, root);
        tail
    }
}

/// What to collect of a call.
#[inline(always)]
fn plan(compat: bool, nr: u32) -> Option<*const Plan> {
    if nr as usize >= CALLS {
        return None;
    }
    let table = if compat { &raw const SETTINGS.compat.plans } else { &raw const SETTINGS.native.plans };
    // SAFETY: the index was checked against the table's length.
    Some(unsafe { table.cast::<Plan>().add(nr as usize) })
}

#[inline(always)]
unsafe fn flag(plan: *const Plan, flag: u8) -> bool {
    // SAFETY: the caller's plan.
    unsafe { (&raw const (*plan).flags).read_volatile() & flag != 0 }
}

/// An argument, or the result, by the number that a plan has for it. Read from memory: an index that varies has no
/// register.
#[inline(always)]
pub(super) unsafe fn argument(record: *const CallRecord, index: u8) -> u64 {
    // SAFETY: eight words from the arguments on are within the record.
    unsafe { (&raw const (*record).args).cast::<u64>().add(usize::from(index & 7)).read_volatile() }
}

/// Bits of [`wanted`] for how the call ended.
#[inline(always)]
pub(super) unsafe fn outcome(record: *const CallRecord, plan: *const Plan) -> u8 {
    // SAFETY: the caller's record and plan.
    unsafe {
        let flags = (*plan).open_flags;
        let access = if flags == Plan::ABSENT { u8::MAX } else { (argument(record, flags) & O_ACCMODE) as u8 };
        wanted::outcome((*record).ret < 0, access)
    }
}

/// What the task has as its root.
#[inline(always)]
pub(super) unsafe fn root(current: Typed) -> Path {
    // SAFETY: the running task.
    unsafe { Path::within(typed(current, offset!(task_fs)), offset!(fs_root)) }
}

/// What arguments and result say already, before any memory is read: whether the drift detection may want it.
#[inline(always)]
pub(super) unsafe fn is_due_for_drift(record: *const CallRecord, plan: *const Plan, current: Typed) -> bool {
    // SAFETY: the caller's record and plan, and the running task.
    unsafe {
        let failed = (*record).ret < 0;
        if flag(plan, plan_flag::MAPS) {
            return argument(record, 2) & PROT_EXEC != 0 && argument(record, 3) & MAP_ANONYMOUS == 0;
        }
        if flag(plan, plan_flag::PROTECTS) {
            return !failed && argument(record, 2) & PROT_EXEC != 0;
        }
        let flags = (*plan).open_flags;
        if failed {
            return false;
        }
        flags == Plan::ABSENT || argument(record, flags) & (O_ACCMODE | O_TRUNC) != 0 || script::is_awaited(current)
    }
}

/// The file of the descriptor that the call is about, 0 if there is none. Notes its number and how it is open.
#[inline(always)]
unsafe fn open_file(record: *mut CallRecord, plan: *const Plan, current: Typed) -> u64 {
    // SAFETY: the caller's pointers.
    unsafe {
        let index = (*plan).descriptor;
        let fd = if index == Plan::ABSENT { -1 } else { argument(record, index) as i32 };
        let file = if fd < 0 { 0 } else { file::descriptor(current, fd as u32) };
        (*record).fd = if fd < 0 { -1 } else { fd };
        (*record).open_flags = probed(file, offset!(file_flags));
        (*record).open_mode = probed(file, offset!(file_mode));
        file
    }
}

/// Whether a file that was opened may become a program that its container's image does not have, or is perhaps a script that
/// it does not have, or code that is mapped is such a one.
#[inline(always)]
unsafe fn is_watched(record: *const CallRecord, plan: *const Plan, current: Typed) -> bool {
    // SAFETY: the caller's record, and the running task.
    unsafe {
        let file = &raw const (*record).file;
        let is_upper = (*file).flags & file_flag::OVERLAY_UPPER != 0;
        if flag(plan, plan_flag::MAPS | plan_flag::PROTECTS) {
            // An overlay that is not the task's root was mounted by whoever chose its lower layers.
            return is_upper || ((*file).flags & file_flag::OVERLAY != 0 && (*file).dev != file::root_device(current));
        }
        if (*file).mode & S_IFMT != S_IFREG {
            return false;
        }
        let magic = (*file).fs_magic;
        if (*record).open_mode & FMODE_WRITE != 0 {
            return magic == OVERLAY_MAGIC || magic == TMPFS_MAGIC;
        }
        let may_be_script = (is_upper || magic == TMPFS_MAGIC) && script::is_awaited(current);
        if may_be_script {
            script::count(current);
        }
        may_be_script
    }
}

/// Copies a text that the call was given.
#[inline(always)]
pub(super) unsafe fn text(tail: Tail, record: *const CallRecord, index: u8) -> u16 {
    // SAFETY: the caller's record.
    let address = if index == Plan::ABSENT { 0 } else { unsafe { argument(record, index) } };
    tail.user_str(address)
}

/// Copies the structure that the call was given, or the name of a Unix socket where it was given none.
#[inline(always)]
unsafe fn structure(tail: Tail, record: *const CallRecord, plan: *const Plan, file: u64) -> u16 {
    // SAFETY: the caller's pointers.
    unsafe {
        let index = (*plan).structure;
        if index == Plan::ABSENT {
            return if (*record).socket_len == 0 { 0 } else { socket::unix_name(tail, socket::of(file)) };
        }
        let given = argument(record, index);
        let (start, len) = if flag(plan, plan_flag::MESSAGE) {
            socket::message_name(given, task::is_compat(task::current()))
        } else {
            (given, argument(record, index + 1))
        };
        tail.structure(start, len as u32)
    }
}

/// The directory that a relative text belongs to.
#[inline(always)]
pub(super) unsafe fn directory(record: *const CallRecord, index: u8, is_relative: bool, current: Typed) -> Path {
    if index == Plan::ABSENT || !is_relative {
        return Path::NONE;
    }
    // SAFETY: the caller's record and task.
    let fd = if index == Plan::WORKING_DIRECTORY { AT_FDCWD } else { (unsafe { argument(record, index) }) as i32 };
    if fd == AT_FDCWD {
        // SAFETY: as above.
        let fs = unsafe { typed::<u64>(current, offset!(task_fs)) };
        return Path::at(fs + u64::from(offset!(fs_pwd)));
    }
    // SAFETY: as above.
    let file = if fd < 0 { 0 } else { unsafe { file::descriptor(current, fd as u32) } };
    if file == 0 { Path::NONE } else { file::path(file) }
}
