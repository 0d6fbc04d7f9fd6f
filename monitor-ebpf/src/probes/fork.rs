//! `sched_process_fork`: a new process. Threads are left out: nothing that the agent keeps is per thread.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use monitor_ebpf::{
    record::{ForkRecord, Kind},
    settings::{Counter, SeccompMethod},
};

use crate::kernel::{
    emit::{self, Urgency},
    globals::{offset, setting},
    maps::{ENTERED, entered},
    read::{Typed, typed},
    task,
};

/// `trace_sched_process_fork(struct task_struct *parent, struct task_struct *child)`
#[btf_tracepoint(function = "sched_process_fork")]
pub fn sched_process_fork(ctx: BtfTracePointContext) -> i32 {
    let child: Typed = ctx.arg(1);
    let current = task::current();
    // SAFETY: both are tasks; the verifier knows the argument's type.
    unsafe {
        if setting!(seccomp_method) == SeccompMethod::PAIR && task::seccomp_mode(current) != 0 {
            // The child leaves the parent's call without having entered one itself.
            if let Some(entry) = ENTERED.entry(child.cast_mut().cast()) {
                *entry = entered::WATCHED | entered::INSIDE;
            }
        }
        let child_tgid = task::tgid(child);
        if child_tgid == task::tgid(current) {
            emit::count(Kind::FORK, Counter::FILTERED);
            return 0;
        }
        let (child_vpid, child_pid_ns) = task::own_pid(child);
        let record = ForkRecord {
            header: task::header::<ForkRecord>(Kind::FORK, 0, current),
            child_start_ns: typed(child, offset!(task_start)),
            child_tgid,
            child_vpid,
            child_pid_ns,
            reserved: 0,
        };
        emit::fixed(Kind::FORK, record, Urgency::Normal);
    }
    0
}
