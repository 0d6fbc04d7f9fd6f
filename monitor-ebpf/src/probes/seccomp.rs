//! A call that the bitmap does not let pass: sends it with its arguments, and every filter that judged it and was not sent
//! before. The agent runs the filters itself and so knows the verdict exactly.
//!
//! A filter is known by its address and a generation. The address alone is not enough, the allocator reuses it at once; the
//! generation is renewed whenever a task installs a filter, which is the only way that one is born.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{bpf_ktime_get_boot_ns, generated::bpf_probe_read_kernel},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use monitor_ebpf::record::{Kind, SeccompCallRecord, SeccompFilterRecord, seccomp_flag};

use crate::{
    kernel::{
        emit::{self, Urgency},
        globals::{offset, setting},
        maps::{FILTER_GENERATIONS, FILTER_SCRATCH, SCRATCH_BYTES, Scratch},
        read::{Typed, probed, typed},
        task,
    },
    probes::sys_exit::{dispatch_wanted, is_listed},
};

/// Instructions in one record.
const CHUNK_INSTRUCTIONS: u64 = 2048;
/// Bytes of one instruction (`struct sock_filter`).
const INSTRUCTION_BYTES: u32 = 8;
/// Chunks sent for one call: a chain of as many filters, or half as many of the longest (`BPF_MAXINSNS` is 4096). Calls of a
/// longer chain stay unjudged; the agent counts them.
const MAX_CHUNKS: u32 = 32;

const SECCOMP_SET_MODE_FILTER: u32 = 1;
const PR_SET_SECCOMP: u32 = 22;

/// Arguments of the call, from the registers that its entry uses.
///
/// # Safety
/// `regs` must be registers that the verifier knows.
#[inline(always)]
pub unsafe fn arguments(regs: Typed, compat: bool) -> [u64; 6] {
    // SAFETY: the caller's promise.
    unsafe {
        if compat {
            [
                typed(regs, offset!(regs_compat_arg0)),
                typed(regs, offset!(regs_compat_arg1)),
                typed(regs, offset!(regs_compat_arg2)),
                typed(regs, offset!(regs_compat_arg3)),
                typed(regs, offset!(regs_compat_arg4)),
                typed(regs, offset!(regs_compat_arg5)),
            ]
        } else {
            [
                typed(regs, offset!(regs_arg0)),
                typed(regs, offset!(regs_arg1)),
                typed(regs, offset!(regs_arg2)),
                typed(regs, offset!(regs_arg3)),
                typed(regs, offset!(regs_arg4)),
                typed(regs, offset!(regs_arg5)),
            ]
        }
    }
}

/// Behind `Class::SECCOMP`.
#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit_seccomp(ctx: BtfTracePointContext) -> i32 {
    let regs: Typed = ctx.arg(0);
    let ret: i64 = ctx.arg(1);
    let current = task::current();
    // SAFETY: the running task and its registers.
    unsafe {
        let compat = task::is_compat(current);
        let raw_nr: u32 = typed(regs, offset!(regs_nr));
        let nr = raw_nr & setting!(nr_mask);
        let args = arguments(regs, compat);
        // rt_sigreturn leaves -1 behind; nothing can be said about such a call.
        if raw_nr as i32 >= 0 {
            let install = installed(compat, nr, &args, ret);
            // The gate sends every call that may install a filter; one that did not is judged as any other.
            if install || !is_install_call(compat, nr) || !is_listed(current, compat, raw_nr) {
                judge(current, regs, raw_nr, ret, &args, install);
                #[cfg(feature = "bpf-log")]
                aya_log_ebpf::debug!(&ctx, "seccomp call nr={} ret={}", raw_nr, ret);
            }
        }
        dispatch_wanted(&ctx, nr);
    }
    0
}

#[inline(always)]
fn is_install_call(compat: bool, nr: u32) -> bool {
    if compat {
        nr == setting!(compat.seccomp) || nr == setting!(compat.prctl)
    } else {
        nr == setting!(native.seccomp) || nr == setting!(native.prctl)
    }
}

/// Whether the call itself installed a filter.
#[inline(always)]
fn installed(compat: bool, nr: u32, args: &[u64; 6], ret: i64) -> bool {
    let (seccomp, prctl) = if compat {
        (setting!(compat.seccomp), setting!(compat.prctl))
    } else {
        (setting!(native.seccomp), setting!(native.prctl))
    };
    ret >= 0
        && ((nr == seccomp && args[0] as u32 == SECCOMP_SET_MODE_FILTER)
            || (nr == prctl && args[0] as u32 == PR_SET_SECCOMP))
}

#[inline(always)]
unsafe fn judge(current: Typed, regs: Typed, nr: u32, ret: i64, args: &[u64; 6], install: bool) {
    // SAFETY: the caller's pointers.
    unsafe {
        let filter = typed::<u64>(current, offset!(task_seccomp_filter));
        send_filters(filter, install, current);
        let record = SeccompCallRecord {
            header: task::header::<SeccompCallRecord>(Kind::SECCOMP_CALL, 0, current),
            ret,
            ip: typed(regs, offset!(regs_ip)),
            args: *args,
            filter,
            filter_generation: FILTER_GENERATIONS.get(&filter).copied().unwrap_or(0),
            nr: nr as i32,
            mode: task::seccomp_mode(current),
            ptrace: typed(current, offset!(task_ptrace)),
            flags: if install { seccomp_flag::INSTALL } else { 0 },
            comm: task::comm(current),
        };
        emit::fixed(Kind::SECCOMP_CALL, record, Urgency::Alert);
    }
}

/// The walk along a chain, at the end of scratch memory: as for paths, its state must not be in registers.
#[repr(C)]
struct Walk {
    filter: u64,
    source: u64,
    left: u64,
    renew: u64,
}

/// Reads or writes a member of the walk, and really in memory.
macro_rules! walk {
    ($scratch:expr, $member:ident) => {
        // SAFETY: the walk lies inside scratch memory and is aligned.
        unsafe { (&raw const (*walk_at($scratch)).$member).read_volatile() }
    };
    ($scratch:expr, $member:ident = $value:expr) => {
        // SAFETY: as above.
        unsafe { (&raw mut (*walk_at($scratch)).$member).write_volatile($value) }
    };
}

#[inline(always)]
fn walk_at(scratch: *mut Scratch) -> *mut Walk {
    // SAFETY: the last bytes of scratch memory are inside it; its alignment is the walk's.
    unsafe { scratch.cast::<u8>().add(SCRATCH_BYTES - size_of::<Walk>()) }.cast()
}

/// Sends the chain's filters from the newest on, up to the first that was sent before: its ancestors were, too.
///
/// One loop over chunks, not filters times chunks: the verifier walks every round.
#[inline(always)]
unsafe fn send_filters(newest: u64, install: bool, current: Typed) {
    let Some(scratch) = FILTER_SCRATCH.get_ptr_mut(0) else { return };
    let record = scratch.cast::<SeccompFilterRecord>();
    // SAFETY: scratch memory starts with the record.
    unsafe { (*record).header = task::header::<SeccompFilterRecord>(Kind::SECCOMP_FILTER, 0, current) }
    walk!(scratch, filter = newest);
    walk!(scratch, left = 0);
    // A filter that was just installed may have the address of one that was sent before and is gone.
    walk!(scratch, renew = u64::from(install));
    for _ in 0..MAX_CHUNKS {
        // SAFETY: the record is scratch memory.
        if walk!(scratch, left) == 0 && unsafe { !next_filter(scratch, record) } {
            return;
        }
        // SAFETY: as above.
        unsafe { send_chunk(scratch, record) }
    }
}

/// Describes the filter that the walk is at and goes on to the one under it; false at the end.
#[inline(always)]
unsafe fn next_filter(scratch: *mut Scratch, record: *mut SeccompFilterRecord) -> bool {
    let filter: u64 = walk!(scratch, filter);
    // SAFETY: the map holds plain data; a concurrent removal can at worst yield another generation.
    let seen = walk!(scratch, renew) == 0 && unsafe { FILTER_GENERATIONS.get(&filter) }.is_some();
    if filter == 0 || seen {
        return false;
    }
    // SAFETY: the helper has no preconditions.
    let generation = unsafe { bpf_ktime_get_boot_ns() };
    let previous: u64 = probed(filter, offset!(filter_prev));
    // Without CONFIG_CHECKPOINT_RESTORE the kernel does not keep the program: null here, and all reads give 0.
    let original: u64 = probed(probed(filter, offset!(filter_prog)), offset!(prog_orig));
    let total = u32::from(probed::<u16>(original, offset!(fprog_len)));
    walk!(scratch, filter = previous);
    walk!(scratch, source = probed(original, offset!(fprog_filter)));
    walk!(scratch, left = u64::from(total));
    walk!(scratch, renew = 0);
    // SAFETY: the caller's record; the map as above.
    unsafe {
        (*record).previous_generation = FILTER_GENERATIONS.get(&previous).copied().unwrap_or(0);
        let _ = FILTER_GENERATIONS.insert(&filter, &generation, 0);
        (*record).filter = filter;
        (*record).generation = generation;
        (*record).previous = previous;
        (*record).total = total;
        (*record).first = 0;
        (*record).log = u32::from(probed::<u8>(filter, offset!(filter_log)));
    }
    true
}

/// Sends the next instructions of the filter.
#[inline(always)]
unsafe fn send_chunk(scratch: *mut Scratch, record: *mut SeccompFilterRecord) {
    let left: u64 = walk!(scratch, left);
    let source: u64 = walk!(scratch, source);
    let instructions = if left > CHUNK_INSTRUCTIONS { CHUNK_INSTRUCTIONS } else { left };
    let bytes = core::hint::black_box(instructions as u32 * INSTRUCTION_BYTES);
    if bytes > CHUNK_INSTRUCTIONS as u32 * INSTRUCTION_BYTES {
        return;
    }
    // SAFETY: the chunk fits behind the fixed part; the helper takes any source.
    unsafe {
        (*record).instructions_len = bytes;
        let target = scratch.cast::<u8>().add(size_of::<SeccompFilterRecord>()).cast::<c_void>();
        bpf_probe_read_kernel(target, bytes, source as *const c_void);
    }
    emit::variable(Kind::SECCOMP_FILTER, scratch, size_of::<SeccompFilterRecord>() as u32 + bytes, Urgency::Normal);
    // SAFETY: as above.
    unsafe { (*record).first += instructions as u32 }
    walk!(scratch, left = left - instructions);
    walk!(scratch, source = source + u64::from(bytes));
}
