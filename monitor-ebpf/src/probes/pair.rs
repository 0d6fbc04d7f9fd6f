//! The fallback where the kernel does not show its filters: a denied call passes `sys_exit` without `sys_enter`.
//!
//! It knows that a call was denied and what it returned, not which action said so. Task storage, not a map by thread id: an
//! exec from a thread changes the id in the middle of a call.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use monitor_ebpf::record::{Kind, SeccompCallRecord, seccomp_flag};

use crate::{
    kernel::{
        emit::{self, Urgency},
        globals::{offset, setting},
        maps::{ENTERED, entered},
        read::{Typed, typed},
        task,
    },
    probes::{
        seccomp::arguments,
        sys_exit::{SECCOMP_MODE_FILTER, dispatch_wanted, note_made},
    },
};

/// `trace_sys_enter(struct pt_regs *regs, long id)`
#[btf_tracepoint(function = "sys_enter")]
pub fn sys_enter_pair(_ctx: BtfTracePointContext) -> i32 {
    let current = task::current();
    // SAFETY: the running task.
    unsafe {
        if task::seccomp_mode(current) == 0 {
            return 0;
        }
        if let Some(entry) = ENTERED.entry(current.cast_mut().cast()) {
            *entry = entered::WATCHED | entered::INSIDE;
        }
    }
    0
}

/// `trace_sys_exit(struct pt_regs *regs, long ret)`, instead of the one in [`super::sys_exit`].
#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit_pair(ctx: BtfTracePointContext) -> i32 {
    let regs: Typed = ctx.arg(0);
    let ret: i64 = ctx.arg(1);
    let current = task::current();
    // SAFETY: the running task and its registers.
    unsafe {
        let compat = task::is_compat(current);
        let raw_nr: u32 = typed(regs, offset!(regs_nr));
        note_made(raw_nr & setting!(nr_mask));
        if task::seccomp_mode(current) >= SECCOMP_MODE_FILTER && !entered_before(current) && raw_nr as i32 >= 0 {
            let record = SeccompCallRecord {
                header: task::header::<SeccompCallRecord>(Kind::SECCOMP_CALL, 0, current),
                ret,
                ip: typed(regs, offset!(regs_ip)),
                args: arguments(regs, compat),
                filter: 0,
                filter_generation: 0,
                nr: raw_nr as i32,
                mode: task::seccomp_mode(current),
                ptrace: typed(current, offset!(task_ptrace)),
                flags: seccomp_flag::DENIED_BY_PAIR,
                comm: task::comm(current),
            };
            emit::fixed(Kind::SECCOMP_CALL, record, Urgency::Alert);
        }
        dispatch_wanted(&ctx, raw_nr & setting!(nr_mask));
    }
    0
}

/// Whether the call passed `sys_enter`. The first exit of a task counts as entered: it may have been inside when the
/// programs were attached, or have installed its filter in this very call.
///
/// # Safety
/// `current` must be the running task.
#[inline(always)]
unsafe fn entered_before(current: Typed) -> bool {
    // SAFETY: the caller's promise; the entry belongs to the running task alone.
    unsafe {
        let Some(entry) = ENTERED.entry(current.cast_mut().cast()) else { return true };
        let state = *entry;
        *entry = entered::WATCHED;
        state & entered::INSIDE != 0 || state & entered::WATCHED == 0
    }
}
