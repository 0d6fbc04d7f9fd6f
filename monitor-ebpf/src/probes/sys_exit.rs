//! `sys_exit`, the one hook that every system call passes: a few loads that let nearly all of them go.
//!
//! Two questions: may seccomp have denied it, and is it wanted. The kernel's own bitmap of always-allowed calls
//! answers the first for almost every call of a filtered task, a byte table the second. Whatever remains goes by tail call
//! to a program of its own, so that this one stays small enough to cost next to nothing.

use core::{arch::asm, mem::offset_of};

use aya_ebpf::{helpers::bpf_get_current_cgroup_id, macros::btf_tracepoint, programs::BtfTracePointContext};
use monitor_ebpf::{
    offsets::MISSING,
    settings::{CALLS, Class, Made, SeccompMethod, Wanted, wanted},
};

use crate::kernel::{
    globals::{offset, setting},
    maps::{MADE, SYS_EXIT_CLASSES, WANTED},
    read::{Typed, typed},
    task,
};

/// `SECCOMP_MODE_FILTER`; 3 is a thread that seccomp killed.
pub const SECCOMP_MODE_FILTER: u32 = 2;

const BPF_NOEXIST: u64 = 1;

/// `trace_sys_exit(struct pt_regs *regs, long ret)`
#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    let regs: Typed = ctx.arg(0);
    // SAFETY: the running task and its registers.
    unsafe {
        let raw_nr = typed::<u32>(regs, offset!(regs_nr));
        let nr = raw_nr & setting!(nr_mask);
        note_made(nr);
        if setting!(seccomp_method) == SeccompMethod::EXIT {
            let current = task::current();
            if task::seccomp_mode(current) >= SECCOMP_MODE_FILTER
                && !always_allowed(current, task::is_compat(current), raw_nr)
            {
                dispatch(&ctx, Class::SECCOMP);
            }
        }
        dispatch_wanted(&ctx, nr);
    }
    0
}

/// Notes that the running task's cgroup makes this call, where that is wanted.
#[inline(always)]
pub fn note_made(nr: u32) {
    if setting!(observe) == 0 || nr as usize >= CALLS {
        return;
    }
    // SAFETY: the helper has no preconditions; the running task.
    let (cgroup_id, compat) = unsafe { (bpf_get_current_cgroup_id(), task::is_compat(task::current())) };
    let Some(made) = MADE.get_ptr_mut(&cgroup_id) else {
        // Two CPUs may be first; the loser's call is noted when it is made again.
        let _ = MADE.insert(&cgroup_id, &Made { native: [0; CALLS / 64], compat: [0; CALLS / 64] }, BPF_NOEXIST);
        return;
    };
    let table = if compat { offset_of!(Made, compat) } else { offset_of!(Made, native) };
    let (word, bit) = (nr as usize / 64 & (CALLS / 64 - 1), 1_u64 << (nr & 63));
    // SAFETY: the masked word is within the table, and aligned as the map's value is.
    unsafe {
        let word = made.cast::<u8>().add(table + word * 8).cast::<u64>();
        // Nearly always it is noted already, and reading costs other CPUs nothing.
        if word.read_volatile() & bit == 0 {
            // An atomic OR, which the core library does not offer for this target (5.12 and newer).
            asm!("lock *(u64 *)({0} + 0) |= {1}", in(reg) word, in(reg) bit, options(nostack));
        }
    }
}

/// Goes on in the program of a class. Returns where there is none.
#[inline(always)]
pub fn dispatch(ctx: &BtfTracePointContext, class: Class) {
    // SAFETY: a tail call ends this program; nothing is held across it.
    unsafe { SYS_EXIT_CLASSES.tail_call(ctx, class.0) }
}

/// Goes on with a call that is wanted. Which table its number is of is asked only where that matters.
#[inline(always)]
pub fn dispatch_wanted(ctx: &BtfTracePointContext, nr: u32) {
    if level(offset_of!(Wanted, either), nr) == wanted::NOT {
        return;
    }
    // SAFETY: the running task.
    let level = wanted(unsafe { task::is_compat(task::current()) }, nr);
    if level & wanted::BY_SUBJECT != 0 {
        dispatch(ctx, Class::OPEN);
    } else if level != wanted::NOT {
        dispatch(ctx, Class::CALL);
    }
}

/// How much is wanted of a call: bits of [`wanted`](mod@wanted).
#[inline(always)]
pub fn wanted(compat: bool, nr: u32) -> u8 {
    if compat { level(offset_of!(Wanted, compat), nr) } else { level(offset_of!(Wanted, native), nr) }
}

#[inline(always)]
fn level(table: usize, nr: u32) -> u8 {
    let Some(tables) = WANTED.get_ptr(0) else { return wanted::NOT };
    if nr as usize >= CALLS {
        return wanted::NOT;
    }
    // SAFETY: the table and the checked index are within the map's only value.
    unsafe { tables.cast::<u8>().add(table + nr as usize).read_volatile() }
}

/// Whether the newest filter's bitmap, which includes its ancestors', lets this call pass whatever its arguments. The number is the
/// one that filters see: of another ABI (x32), it is in no bitmap.
/// Calls that install a filter are looked at regardless: the filter is new, and its number may be listed already.
///
/// # Safety
/// `current` must be the running task.
#[inline(always)]
unsafe fn always_allowed(current: Typed, compat: bool, nr: u32) -> bool {
    let (seccomp, prctl) = if compat {
        (setting!(compat.seccomp), setting!(compat.prctl))
    } else {
        (setting!(native.seccomp), setting!(native.prctl))
    };
    // SAFETY: the caller's promise.
    !installs(seccomp, prctl, nr) && unsafe { is_listed(current, compat, nr) }
}

/// The same for the number alone: also of calls that may install a filter.
///
/// # Safety
/// `current` must be the running task.
#[inline(always)]
pub unsafe fn is_listed(current: Typed, compat: bool, nr: u32) -> bool {
    if offset!(task_seccomp_filter) == MISSING || offset!(filter_allow_native) == MISSING {
        return false;
    }
    // SAFETY: the caller's promise.
    let filter: Typed = unsafe { typed(current, offset!(task_seccomp_filter)) };
    if compat {
        if offset!(filter_allow_compat) == MISSING {
            return false;
        }
        // SAFETY: the filter of a filtered task.
        unsafe { bit::<true>(filter, offset!(filter_allow_compat), setting!(compat.bitmap_limit), nr) }
    } else {
        // SAFETY: as above.
        unsafe { bit::<false>(filter, offset!(filter_allow_native), setting!(native.bitmap_limit), nr) }
    }
}

#[inline(always)]
fn installs(seccomp: u32, prctl: u32, nr: u32) -> bool {
    nr == seccomp || nr == prctl
}

/// Tests one bit of a bitmap of at most 8 words. The verifier wants a constant offset in every typed load, so each word has
/// a branch of its own; the differing comments in the assembly keep the compiler from folding them into one load.
#[inline(always)]
unsafe fn bit<const COMPAT: bool>(filter: Typed, bitmap: u32, limit: u32, nr: u32) -> bool {
    macro_rules! word {
        ($($index:literal)*) => {
            match nr >> 6 {
                $($index if limit > 64 * $index => {
                    // SAFETY: the caller's filter; the word lies within the bitmap as BTF gives its size.
                    let mut word: u64 = unsafe { typed(filter, bitmap + 8 * $index) };
                    // SAFETY: the assembly moves a register onto itself.
                    unsafe {
                        if COMPAT {
                            core::arch::asm!(concat!("/* compat ", $index, " */ {0} = {0}"), inout(reg) word);
                        } else {
                            core::arch::asm!(concat!("/* native ", $index, " */ {0} = {0}"), inout(reg) word);
                        }
                    }
                    word
                })*
                _ => 0,
            }
        };
    }
    nr < limit && word!(0 1 2 3 4 5 6 7) >> (nr & 63) & 1 != 0
}
