//! `sched_process_exit`: the last thread of a process ends, or seccomp killed one thread among others.
//!
//! A thread that seccomp kills while others live never passes `sys_exit`; here is the only trace of it.

use aya_ebpf::{helpers::generated::bpf_task_pt_regs, macros::btf_tracepoint, programs::BtfTracePointContext};
use monitor_ebpf::{
    record::{ExitRecord, Kind},
    settings::Counter,
};

use crate::{
    kernel::{
        emit::{self, Urgency},
        globals::offset,
        read::{Typed, typed},
        task,
    },
    probes::seccomp::arguments,
};

/// `SECCOMP_MODE_DEAD`, since 5.16: seccomp killed the thread.
const SECCOMP_MODE_DEAD: u32 = 3;

/// `trace_sched_process_exit(struct task_struct *p, …)`
#[btf_tracepoint(function = "sched_process_exit")]
pub fn sched_process_exit(_ctx: BtfTracePointContext) -> i32 {
    let current = task::current();
    // SAFETY: the running task; `pt_regs` of a user task is valid until it is gone, and null is checked.
    unsafe {
        let signal: Typed = typed(current, offset!(task_signal));
        // `do_exit` has counted this thread out already.
        let group_dead = typed::<u32>(signal, offset!(signal_live)) == 0;
        let mode = task::seccomp_mode(current);
        if !group_dead && mode != SECCOMP_MODE_DEAD {
            emit::count(Kind::EXIT, Counter::FILTERED);
            return 0;
        }
        let mut record = ExitRecord {
            header: task::header::<ExitRecord>(Kind::EXIT, 0, current),
            exit_code: typed(current, offset!(task_exit_code)),
            seccomp_mode: mode,
            syscall: -1,
            group_dead: u32::from(group_dead),
            args: [0; 6],
            ip: 0,
            comm: task::comm(current),
        };
        if mode == SECCOMP_MODE_DEAD {
            let regs = bpf_task_pt_regs(current.cast_mut().cast()) as Typed;
            if !regs.is_null() {
                record.syscall = typed(regs, offset!(regs_nr));
                record.ip = typed(regs, offset!(regs_ip));
                record.args = arguments(regs, task::is_compat(current));
            }
        }
        let urgency = if mode == SECCOMP_MODE_DEAD { Urgency::Alert } else { Urgency::Normal };
        emit::fixed(Kind::EXIT, record, urgency);
    }
    0
}
