//! Read-only data that the agent fills in before it loads the programs.
//!
//! The map is frozen, so the verifier knows every value: branches on them vanish, and a typed load may use them as offsets.
//! They are read with volatile loads, or the compiler would fold in the values it sees here.

use monitor_ebpf::{offsets::Offsets, settings::Settings};

/// Where members lie.
// SAFETY: the name is the loader's handle; nothing else in the object has it.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::NONE;

/// What to send.
// SAFETY: as above.
#[unsafe(no_mangle)]
pub static SETTINGS: Settings = Settings::NONE;

/// Reads a number that the agent filled in.
#[inline(always)]
pub fn load(value: &'static u32) -> u32 {
    // SAFETY: a reference is valid, aligned and initialised.
    unsafe { core::ptr::read_volatile(value) }
}

/// Offset of a member: `offset!(task_tgid)`.
macro_rules! offset {
    ($member:ident) => {
        $crate::kernel::globals::load(&$crate::kernel::globals::OFFSETS.$member)
    };
}

/// A setting: `setting!(compat_mask)`, `setting!(native.seccomp)`.
macro_rules! setting {
    ($($field:ident).+) => {
        $crate::kernel::globals::load(&$crate::kernel::globals::SETTINGS.$($field).+)
    };
}

pub(crate) use {offset, setting};
