//! `sys_exit`, the one hook that every system call passes: a few loads that let nearly all of them go.
//!
//! Two questions: may seccomp have denied it, and is it in a wanted class. The kernel's own bitmap of always-allowed calls
//! answers the first for almost every call of a filtered task, a byte table the second. Whatever remains goes by tail call
//! to a program of its own, so that this one stays small enough to cost next to nothing.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use monitor_ebpf::{
    offsets::MISSING,
    settings::{CLASS_TABLE_LEN, Class, SeccompMethod},
};

use crate::kernel::{
    globals::{SETTINGS, offset, setting},
    maps::SYS_EXIT_CLASSES,
    read::{Typed, typed},
    task,
};

/// `SECCOMP_MODE_FILTER`; 3 is a thread that seccomp killed.
pub const SECCOMP_MODE_FILTER: u32 = 2;

/// `trace_sys_exit(struct pt_regs *regs, long ret)`
#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    let regs: Typed = ctx.arg(0);
    // SAFETY: the running task and its registers.
    unsafe {
        let nr = typed::<u32>(regs, offset!(regs_nr)) & setting!(nr_mask);
        if setting!(seccomp_method) == SeccompMethod::EXIT {
            let current = task::current();
            if task::seccomp_mode(current) >= SECCOMP_MODE_FILTER
                && !always_allowed(current, task::is_compat(current), nr)
            {
                dispatch(&ctx, Class::SECCOMP);
            }
        }
        // Which table the number is of is asked only where it matters.
        if wanted(nr) {
            dispatch(&ctx, class(task::is_compat(task::current()), nr));
        }
    }
    0
}

/// Goes on in the program of a class. Returns where there is none.
#[inline(always)]
pub fn dispatch(ctx: &BtfTracePointContext, class: Class) {
    if class != Class::NONE {
        // SAFETY: a tail call ends this program; nothing is held across it.
        unsafe { SYS_EXIT_CLASSES.tail_call(ctx, u32::from(class.0)) }
    }
}

/// Whether the number is of a class in either table.
#[inline(always)]
fn wanted(nr: u32) -> bool {
    // SAFETY: the index is checked against the table's length.
    (nr as usize) < CLASS_TABLE_LEN && unsafe { SETTINGS.wanted.as_ptr().add(nr as usize).read_volatile() } != 0
}

/// The class of a call.
#[inline(always)]
pub fn class(compat: bool, nr: u32) -> Class {
    if nr as usize >= CLASS_TABLE_LEN {
        return Class::NONE;
    }
    let table = if compat { &SETTINGS.compat } else { &SETTINGS.native };
    // SAFETY: the index was checked against the table's length.
    unsafe { table.classes.as_ptr().add(nr as usize).read_volatile() }
}

/// Whether the newest filter's bitmap, which includes its ancestors', lets this call pass whatever its arguments.
/// Calls that install a filter are looked at regardless: the filter is new, and its number may be listed already.
///
/// # Safety
/// `current` must be the running task.
#[inline(always)]
unsafe fn always_allowed(current: Typed, compat: bool, nr: u32) -> bool {
    if offset!(task_seccomp_filter) == MISSING || offset!(filter_allow_native) == MISSING {
        return false;
    }
    // SAFETY: the caller's promise.
    let filter: Typed = unsafe { typed(current, offset!(task_seccomp_filter)) };
    if compat {
        if offset!(filter_allow_compat) == MISSING || installs(setting!(compat.seccomp), setting!(compat.prctl), nr) {
            return false;
        }
        // SAFETY: the filter of a filtered task.
        unsafe { bit::<true>(filter, offset!(filter_allow_compat), setting!(compat.bitmap_limit), nr) }
    } else {
        if installs(setting!(native.seccomp), setting!(native.prctl), nr) {
            return false;
        }
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
