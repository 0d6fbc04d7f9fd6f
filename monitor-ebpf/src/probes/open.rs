//! `sys_exit` of a call that opens something: leaves out what no rule wants to hear of, as the agent has found out when it saw the
//! same before.
//!
//! Asked twice: by what was opened, and, where that is not enough, also by the name that was given and the cgroup. An open that failed
//! has no file: it is asked by its name at once. That name is the caller's memory, which may change at any time; so it is read once,
//! to where the record has it: what is decided by it is what would be sent.

use aya_ebpf::{helpers::bpf_get_current_cgroup_id, macros::btf_tracepoint, programs::BtfTracePointContext};
use monitor_ebpf::{
    record::{CallRecord, Kind},
    settings::{Class, Counter, Plan, wanted},
    subject::{By, Subject},
};

use super::{
    call::{argument, begin, directory, is_due_for_drift, outcome, root, text},
    sys_exit,
};
use crate::kernel::{
    emit, file,
    maps::{CALL_SCRATCH, Scratch, WANTED},
    read::Typed,
    subject::{self, Answer, Walk},
    tail::{Path, Tail},
    task,
};

const O_CREAT: u64 = 0o100;
/// `__O_TMPFILE`
const O_TMPFILE: u64 = 0o20_000_000;

/// Behind [`monitor_ebpf::settings::Class::OPEN`].
#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit_open(ctx: BtfTracePointContext) -> i32 {
    if try_sys_exit_open(&ctx).is_some() {
        sys_exit::dispatch(&ctx, Class::CALL);
    }
    emit::count(Kind::CALL, Counter::FILTERED);
    0
}

/// `None` where it is not due; else what was found out is left in scratch memory.
#[inline(always)]
fn try_sys_exit_open(ctx: &BtfTracePointContext) -> Option<()> {
    let current = task::current();
    let scratch = CALL_SCRATCH.get_ptr_mut(0)?;
    let record = scratch.cast::<CallRecord>();
    // SAFETY: the running task; scratch memory starts with the record.
    unsafe {
        let compat = task::is_compat(current);
        let plan = begin(ctx, record, current, compat)?;
        let level = sys_exit::wanted(compat, (*record).nr as u32);
        let is_wanted = level & outcome(record, plan) != 0;
        if is_wanted && (*plan).open_flags != Plan::ABSENT {
            let answer = ask(scratch, plan, compat, current);
            if answer.is_boring() && (level & wanted::DRIFT == 0 || !is_due_for_drift(record, plan, current)) {
                return None;
            }
            answer.leave(scratch);
        }
    }
    Some(())
}

/// Whether rules may want to hear of it.
#[inline(always)]
unsafe fn ask(scratch: *mut Scratch, plan: *const Plan, compat: bool, current: Typed) -> Answer {
    let record = scratch.cast::<CallRecord>();
    // SAFETY: the caller's scratch memory, plan and task.
    unsafe {
        let failed = (*record).ret < 0;
        let file = if failed { Path::NONE } else { file::path(file::descriptor(current, (*record).ret as u32)) };
        let walk = Walk::begin(scratch, call(record, plan, compat));
        let mut subject = Subject::NONE;
        if !failed {
            subject = walk.up(file, root(current));
            if subject::is_boring(subject) {
                return Answer::BORING_UNREAD;
            }
        }
        let tail = Tail::behind::<CallRecord>(scratch);
        (*record).text_len[0] = text(tail, record, (*plan).texts[0]);
        let is_placed = !failed || is_placed(walk, tail, record, plan, current);
        if !failed {
            walk.again(By::START, subject);
            walk.take(bpf_get_current_cgroup_id());
        }
        let name = scratch.cast::<u8>().add(size_of::<CallRecord>());
        let named = walk.text(name, u32::from((*record).text_len[0]));
        let mut by = named;
        if failed {
            subject = if is_placed { named } else { Subject::NONE };
            if subject::is_boring(subject) {
                return Answer::BORING;
            }
            walk.again(By::START, subject);
            walk.take(bpf_get_current_cgroup_id());
            by = walk.subject();
        }
        (*record).subject = subject.to_words();
        if subject != Subject::NONE && subject::is_boring(by) { Answer::BORING } else { Answer::WANTED }
    }
}

/// What rules see of an open besides file and name: which call it is, under which rules, its flags, the mode of a file that it
/// makes, and why it failed.
#[inline(always)]
unsafe fn call(record: *const CallRecord, plan: *const Plan, compat: bool) -> [u64; 3] {
    // SAFETY: the caller's pointers; the map's only value is there.
    unsafe {
        let epoch = WANTED.get_ptr(0).map_or(0, |wanted| (&raw const (*wanted).epoch).read_volatile());
        let index = (*plan).open_flags;
        let flags = argument(record, index);
        let mode = if flags & (O_CREAT | O_TMPFILE) == 0 { 0 } else { argument(record, index + 1) };
        let error = if (*record).ret < 0 { (*record).ret as u64 } else { 0 };
        [
            (*record).nr as u64 | u64::from(compat) << 31 | u64::from(epoch) << 32,
            flags << 32 | mode & 0xffff_ffff,
            error,
        ]
    }
}

/// Takes the directory that the name is relative to, if it is; false where there is no way from it to the root.
#[inline(always)]
unsafe fn is_placed(walk: Walk, tail: Tail, record: *const CallRecord, plan: *const Plan, current: Typed) -> bool {
    let is_relative = tail.is_relative();
    if !is_relative {
        return true;
    }
    // SAFETY: the caller's pointers.
    unsafe {
        let place = directory(record, (*plan).directories[0], is_relative, current);
        walk.up(place, root(current)) != Subject::NONE
    }
}
