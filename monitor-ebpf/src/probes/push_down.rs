//! Whether an open is one that no rule wants to hear of, as the agent has found out when it saw the same before.
//!
//! Asked twice: by what was opened, and, where that is not enough, also by the name that was given and the cgroup. An open that failed
//! has no file: it is asked by its name at once. That name is the caller's memory, which may change at any time; so it is read once,
//! to where the record has it: what is decided by it is what would be sent.

use aya_ebpf::helpers::bpf_get_current_cgroup_id;
use monitor_ebpf::{
    record::CallRecord,
    settings::Plan,
    subject::{By, Subject},
};

use super::call::{S_IFMT, argument, directory, root, text};
use crate::kernel::{
    globals::offset,
    maps::{Scratch, WANTED},
    read::{Typed, probed, typed},
    subject::{self, Walk},
    tail::{Path, Tail},
};

const O_CREAT: u64 = 0o100;
/// `__O_TMPFILE`
const O_TMPFILE: u64 = 0o20_000_000;

/// What comes of asking.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Some rule may want it: the record has the subject for the agent to find out, and its first text.
    Wanted,
    /// No rule wants it. The record has its first text.
    Boring,
    /// No rule wants it, and no text was read.
    BoringUnread,
}

/// Asks whether no rule wants to hear of it.
///
/// # Safety
/// `scratch` must hold the record's fixed part and be the running program's; `current` must be the running task.
#[inline(always)]
pub unsafe fn ask(scratch: *mut Scratch, plan: *const Plan, compat: bool, current: Typed, file: Path) -> Answer {
    let record = scratch.cast::<CallRecord>();
    // SAFETY: the caller's promise.
    unsafe {
        let failed = (*record).ret < 0;
        let walk = Walk::begin(scratch, call(record, plan, compat, file));
        let mut subject = if failed { Subject::NONE } else { walk.up(file, root(current)) };
        if subject::is_boring(subject) {
            return Answer::BoringUnread;
        }
        let tail = Tail::behind::<CallRecord>(scratch);
        (*record).text_len[0] = text(tail, record, (*plan).texts[0]);
        let name = scratch.cast::<u8>().add(size_of::<CallRecord>());
        let len = u32::from((*record).text_len[0]);
        if failed {
            subject = if is_placed(walk, tail, record, plan, current) { walk.text(name, len) } else { Subject::NONE };
            if subject::is_boring(subject) {
                return Answer::Boring;
            }
        }
        (*record).subject = subject.to_words();
        if subject == Subject::NONE {
            return Answer::Wanted;
        }
        walk.again(By::START, subject);
        walk.take(bpf_get_current_cgroup_id());
        if subject::is_boring(walk.text(name, len)) { Answer::Boring } else { Answer::Wanted }
    }
}

/// What rules see of an open besides file and name: which call it is, under which rules, its flags, the mode of a file that it
/// makes, what kind of file it is, and why it failed.
#[inline(always)]
unsafe fn call(record: *const CallRecord, plan: *const Plan, compat: bool, file: Path) -> [u64; 3] {
    // SAFETY: the caller's pointers; the map's only value is there.
    unsafe {
        let epoch = WANTED.get_ptr(0).map_or(0, |wanted| (&raw const (*wanted).epoch).read_volatile());
        let index = (*plan).open_flags;
        let flags = argument(record, index);
        let mode = if flags & (O_CREAT | O_TMPFILE) == 0 { 0 } else { argument(record, index + 1) };
        let outcome = if (*record).ret < 0 {
            (*record).ret as u64
        } else {
            let inode: u64 = probed(file.dentry, offset!(dentry_inode));
            u64::from(u32::from(probed::<u16>(inode, offset!(inode_mode))) & S_IFMT)
        };
        [
            (*record).nr as u64 | u64::from(compat) << 31 | u64::from(epoch) << 32,
            flags << 32 | mode & 0xffff_ffff,
            outcome,
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
        let fs = typed::<u64>(current, offset!(task_fs));
        let place = directory(record, (*plan).directories[0], is_relative, current, fs);
        walk.up(place, root(current)) != Subject::NONE
    }
}
