//! Which opens for reading may be an interpreter's that opens its script.
//!
//! A script that is run by name of its interpreter (`sh file`) is executed nowhere: it is opened, as any other file. An
//! interpreter does that soon after it was started, so of the files that a program opens for reading, and that its image does
//! not have, the first few are sent, and the agent tells which one is the script. A program that was not started from an
//! overlay has no such opens, so that on the host they cost one look at the task.

use monitor_ebpf::settings;

use super::{maps::SCRIPT_OPENS, read::Typed};

/// A program of an overlay begins.
///
/// # Safety
/// `current` must be the running task.
#[inline(always)]
pub unsafe fn begin(current: Typed) {
    // SAFETY: the caller's promise; the entry belongs to the running task alone.
    unsafe {
        if let Some(opens) = SCRIPT_OPENS.entry(current.cast_mut().cast()) {
            *opens = settings::SCRIPT_OPENS as u64;
        }
    }
}

/// Whether the running task may be about to open its script.
///
/// # Safety
/// `current` must be the running task.
#[inline(always)]
pub unsafe fn is_awaited(current: Typed) -> bool {
    // SAFETY: the caller's promise.
    unsafe { SCRIPT_OPENS.get(current.cast_mut().cast()).is_some_and(|opens| *opens != 0) }
}

/// One open less.
///
/// # Safety
/// `current` must be the running task.
#[inline(always)]
pub unsafe fn count(current: Typed) {
    // SAFETY: the caller's promise; the entry belongs to the running task alone.
    unsafe {
        if let Some(opens) = SCRIPT_OPENS.get(current.cast_mut().cast()) {
            *opens = (*opens).saturating_sub(1);
        }
    }
}
