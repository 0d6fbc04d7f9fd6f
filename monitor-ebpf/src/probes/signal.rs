//! `signal_generate`: SIGSYS from seccomp. Tells trap from errno where only the enter/exit pair is available.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use monitor_ebpf::record::{Kind, SigsysRecord};

use crate::kernel::{
    emit::{self, Urgency},
    globals::offset,
    read::probed,
    task,
};

const SIGSYS: u32 = 31;
/// `SYS_SECCOMP` of `siginfo.h`.
const SYS_SECCOMP: u32 = 1;

/// `trace_signal_generate(int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int result)`
#[btf_tracepoint(function = "signal_generate")]
pub fn signal_generate(ctx: BtfTracePointContext) -> i32 {
    let signal: u32 = ctx.arg(0);
    if signal != SIGSYS {
        return 0;
    }
    // Probed, not typed: `info` may be one of the kernel's small constants (`SEND_SIG_PRIV`).
    let info: u64 = ctx.arg(1);
    if probed::<u32>(info, offset!(siginfo_code)) != SYS_SECCOMP {
        return 0;
    }
    let record = SigsysRecord {
        // SAFETY: seccomp sends it to the running task.
        header: unsafe { task::header::<SigsysRecord>(Kind::SIGSYS, 0, task::current()) },
        data: probed(info, offset!(siginfo_errno)),
        syscall: probed(info, offset!(siginfo_syscall)),
        arch: probed(info, offset!(siginfo_arch)),
        reserved: 0,
    };
    emit::fixed(Kind::SIGSYS, record, Urgency::Alert);
    0
}
