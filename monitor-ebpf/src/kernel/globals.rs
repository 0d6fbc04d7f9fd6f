//! What the agent tells the programs when it loads them: numbers in their instructions, and tables in read-only data.

use core::arch::asm;

use monitor_ebpf::settings::Settings;

/// What to send. Only the tables are read from here, by an index that is not known in advance; see [`immediate`].
// SAFETY: the name is the loader's handle; nothing else in the object has it.
#[unsafe(no_mangle)]
pub static SETTINGS: Settings = Settings::NONE;

/// The number that the agent wrote here in place of a token ([`monitor_ebpf::immediate`]).
#[inline(always)]
pub fn immediate<const TOKEN: u64>() -> u32 {
    let value: u64;
    // SAFETY: loads a constant into a register; in assembly, so that the compiler cannot use the token's own value.
    unsafe { asm!("{0} = {1} ll", out(reg) value, const TOKEN, options(pure, nomem, nostack, preserves_flags)) }
    // SAFETY: the agent writes 32 bits and clears the token's upper half.
    unsafe { core::hint::assert_unchecked(value <= u32::MAX as u64) }
    value as u32
}

/// Offset of a member: `offset!(task_tgid)`.
macro_rules! offset {
    ($member:ident) => {
        $crate::kernel::globals::immediate::<
            {
                monitor_ebpf::immediate::Group::OFFSETS
                    .token(core::mem::offset_of!(monitor_ebpf::offsets::Offsets, $member))
            },
        >()
    };
}

/// A setting: `setting!(compat_mask)`, `setting!(native.seccomp)`.
macro_rules! setting {
    ($($field:ident).+) => {
        $crate::kernel::globals::immediate::<
            {
                monitor_ebpf::immediate::Group::SETTINGS
                    .token(core::mem::offset_of!(monitor_ebpf::settings::Settings, $($field).+))
            },
        >()
    };
}

pub(crate) use {offset, setting};
