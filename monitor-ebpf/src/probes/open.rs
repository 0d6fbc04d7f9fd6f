//! `sys_exit` of the open family: a file was opened for writing. It answers later who wrote a program that is executed.
//!
//! The path comes from the open file, not from the user's string: another thread may have changed that since.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use monitor_ebpf::{
    record::{Kind, OpenRecord},
    settings::{Class, Counter},
};

use crate::{
    kernel::{
        emit::{self, Urgency},
        file::{self, OVERLAY_MAGIC, TMPFS_MAGIC},
        globals::{offset, setting},
        maps::OPEN_SCRATCH,
        read::{Typed, probed, typed},
        tail::{Path, Tail},
        task,
    },
    probes::{seccomp::arguments, sys_exit::class},
};

/// `FMODE_WRITE` of `struct file`, unchanged since it exists.
const FMODE_WRITE: u32 = 2;
const O_ACCMODE: u64 = 3;
const O_TRUNC: u64 = 0o1000;
const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;

/// Behind `Class::OPEN_*`.
#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit_open(ctx: BtfTracePointContext) -> i32 {
    if try_sys_exit_open(&ctx).is_none() {
        emit::count(Kind::OPEN, Counter::FILTERED);
    }
    0
}

#[inline(always)]
fn try_sys_exit_open(ctx: &BtfTracePointContext) -> Option<()> {
    let regs: Typed = ctx.arg(0);
    let ret: i64 = ctx.arg(1);
    let current = task::current();
    // SAFETY: the running task and its registers; scratch memory starts with the record.
    unsafe {
        let nr: u32 = typed(regs, offset!(regs_nr));
        if ret < 0 || !may_write(regs, current, nr) || task::tgid(current) == setting!(agent_tgid) {
            return None;
        }
        let file = descriptor(current, ret as u32)?;
        let mode: u32 = probed(file, offset!(file_mode));
        let facts = file::facts(file);
        let watched = facts.fs_magic == OVERLAY_MAGIC || facts.fs_magic == TMPFS_MAGIC;
        if mode & FMODE_WRITE == 0 || !watched || facts.mode & S_IFMT != S_IFREG {
            return None;
        }
        let scratch = OPEN_SCRATCH.get_ptr_mut(0)?;
        let record = scratch.cast::<OpenRecord>();
        (*record).header = task::header::<OpenRecord>(Kind::OPEN, 0, current);
        (*record).file = facts;
        (*record).open_flags = probed(file, offset!(file_flags));
        (*record).nr = nr as i32;
        (*record).fd = ret as i32;
        (*record).reserved = 0;
        (*record).comm = task::comm(current);
        let tail = Tail::behind::<OpenRecord>(scratch);
        let root = Path::at(typed::<u64>(current, offset!(task_fs)) + u64::from(offset!(fs_root)));
        (*record).path_len = tail.path(file::path(file), root);
        (*record).header.flags |= tail.flags();
        emit::variable(Kind::OPEN, scratch, tail.len(), Urgency::Normal);
        #[cfg(feature = "bpf-log")]
        aya_log_ebpf::debug!(ctx, "open nr={} fd={}", nr, ret);
    }
    Some(())
}

/// Looks at the flags argument, which lets most opens go before any memory is read.
///
/// # Safety
/// `regs` must be the running task's registers and `current` that task.
#[inline(always)]
unsafe fn may_write(regs: Typed, current: Typed, nr: u32) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let compat = task::is_compat(current);
        let args = arguments(regs, compat);
        let flags = match class(compat, nr & setting!(nr_mask)) {
            Class::OPEN_FLAGS_1 => args[1],
            Class::OPEN_FLAGS_2 => args[2],
            _ => return true,
        };
        flags & (O_ACCMODE | O_TRUNC) != 0
    }
}

/// The `struct file *` behind a descriptor of the running task.
///
/// # Safety
/// `current` must be the running task.
#[inline(always)]
unsafe fn descriptor(current: Typed, fd: u32) -> Option<u64> {
    // SAFETY: the caller's promise.
    let fdt: u64 = unsafe { typed::<Typed>(typed(current, offset!(task_files)), offset!(files_fdt)) } as u64;
    if fd >= probed::<u32>(fdt, offset!(fdt_max_fds)) {
        return None;
    }
    let file: u64 = probed(probed::<u64>(fdt, offset!(fdt_fd)) + u64::from(fd) * 8, 0);
    (file != 0).then_some(file)
}
