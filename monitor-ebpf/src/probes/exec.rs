//! `sched_process_exec`: a task runs another program now.
//!
//! Everything comes from the kernel's own copies: the file from `bprm`, the arguments from the new stack, which no other
//! thread can reach yet.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use monitor_ebpf::record::{ExecRecord, Kind, file_flag};

use crate::kernel::{
    emit::{self, Urgency},
    file,
    globals::offset,
    maps::{EXEC_SCRATCH, WANTED},
    read::{Typed, typed},
    script,
    tail::{Path, Tail},
    task,
};

/// Longest path as given to the call, NUL included.
const FILENAME_BYTES: u32 = 4096;
/// Longest interpreter path.
const INTERPRETER_BYTES: u32 = 512;

/// `trace_sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`
#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    let _ = try_sched_process_exec(&ctx);
    0
}

#[inline(always)]
fn try_sched_process_exec(ctx: &BtfTracePointContext) -> Option<()> {
    let old_tid: u32 = ctx.arg(1);
    let bprm: Typed = ctx.arg(2);
    let current = task::current();
    let scratch = EXEC_SCRATCH.get_ptr_mut(0)?;
    // SAFETY: scratch memory starts with the record; `current` and `bprm` are what the verifier holds them for.
    unsafe {
        let file = typed::<u64>(bprm, offset!(bprm_file));
        let record = scratch.cast::<ExecRecord>();
        (*record).header = task::header::<ExecRecord>(Kind::EXEC, 0, current);
        (*record).task = task::facts(current);
        (*record).file = file::facts(file);
        (*record).old_tid = old_tid;
        (*record).stdin_mode = file::stdin_mode(current);
        (*record).environment_len = 0;
        (*record).reserved2 = [0; 2];

        if (*record).file.flags & file_flag::OVERLAY != 0 {
            script::begin(current);
        }

        let tail = Tail::behind::<ExecRecord>(scratch);
        let filename: u64 = typed(bprm, offset!(bprm_filename));
        let interpreter: u64 = typed(bprm, offset!(bprm_interp));
        (*record).filename_len = tail.kernel_str(FILENAME_BYTES, filename);
        // For a script the kernel points `interp` elsewhere; for a binary both are one pointer.
        let interpreter = if interpreter == filename { 0 } else { interpreter };
        (*record).interpreter_len = tail.kernel_str(INTERPRETER_BYTES, interpreter);
        let mm: Typed = typed(current, offset!(task_mm));
        (*record).arguments_len = tail.user_bytes(typed(mm, offset!(mm_arg_start)), typed(mm, offset!(mm_arg_end)));
        let fs = typed::<u64>(current, offset!(task_fs));
        let root = Path::at(fs + u64::from(offset!(fs_root)));
        (*record).executable_len = tail.path(file::path(file), root);
        (*record).cwd_len = tail.path(Path::at(fs + u64::from(offset!(fs_pwd))), root);
        if WANTED.get(0).is_some_and(|wanted| wanted.environment != 0) {
            let (start, end) = (typed(mm, offset!(mm_env_start)), typed(mm, offset!(mm_env_end)));
            (*record).environment_len = tail.user_bytes(start, end);
        }
        (*record).header.flags |= tail.flags();
        emit::variable(Kind::EXEC, scratch, tail.len(), urgency(&raw const (*record).file.flags));
    }
    #[cfg(feature = "bpf-log")]
    aya_log_ebpf::debug!(ctx, "exec old_tid={}", old_tid);
    Some(())
}

/// A program that an image does not hold is looked at at once.
///
/// # Safety
/// `flags` must be readable.
#[inline(always)]
unsafe fn urgency(flags: *const u32) -> Urgency {
    // SAFETY: the caller's promise. Volatile: kept in registers, the flags' values would multiply the verifier's states.
    let flags = unsafe { flags.read_volatile() };
    if flags & (file_flag::OVERLAY_UPPER | file_flag::UNLINKED) == 0 { Urgency::Normal } else { Urgency::Alert }
}
