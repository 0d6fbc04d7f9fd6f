//! Seccomp filters as classic BPF, and installing them.

use super::{call, number};

/// One instruction (`struct sock_filter`).
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Instruction(pub(super) u16, pub(super) u8, pub(super) u8, pub(super) u32);

/// `struct sock_fprog`.
#[repr(C)]
struct Program(u16, *const Instruction);

pub(super) const KILL_THREAD: u32 = 0;
pub(super) const KILL_PROCESS: u32 = 0x8000_0000;
pub(super) const TRAP: u32 = 0x3_0000;
pub(super) const ERRNO: u32 = 0x5_0000;
pub(super) const USER_NOTIF: u32 = 0x7fc0_0000;
pub(super) const TRACE: u32 = 0x7ff0_0000;
pub(super) const LOG: u32 = 0x7ffc_0000;
pub(super) const ALLOW: u32 = 0x7fff_0000;

/// `SECCOMP_FILTER_FLAG_TSYNC`
pub(super) const TSYNC: i64 = 1;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`
pub(super) const LISTENER: i64 = 8;

/// Loads the word at an offset of `struct seccomp_data`.
pub(super) const fn load(offset: u32) -> Instruction {
    Instruction(0x20, 0, 0, offset)
}

/// Goes on where the word is `value`, else behind `skip` instructions.
pub(super) const fn unless_equal(value: u32, skip: u8) -> Instruction {
    Instruction(0x15, 0, skip, value)
}

pub(super) const fn answer(action: u32) -> Instruction {
    Instruction(0x06, 0, 0, action)
}

/// Where the lower half of an argument is.
pub(super) const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

/// One call gets this answer, every other is allowed.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "numbers of system calls are small")]
pub(super) fn deny(nr: i64, action: u32) -> Vec<Instruction> {
    vec![load(0), unless_equal(nr as u32, 1), answer(action), answer(ALLOW)]
}

/// One call gets this answer where the lower half of an argument is a value.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "numbers of system calls are small")]
pub(super) fn deny_argument(nr: i64, index: u32, value: u32, action: u32) -> Vec<Instruction> {
    vec![
        load(0),
        unless_equal(nr as u32, 3),
        load(argument(index)),
        unless_equal(value, 1),
        answer(action),
        answer(ALLOW),
    ]
}

/// Installs a filter on top of what there is; what the kernel says.
pub(super) fn install(filter: &[Instruction], flags: i64) -> i64 {
    let Ok(len) = u16::try_from(filter.len()) else { return -22 };
    let program = Program(len, filter.as_ptr());
    call(number::PRCTL, [38, 1, 0, 0, 0, 0]);
    call(number::SECCOMP, [1, flags, (&raw const program) as i64, 0, 0, 0])
}

/// The same by the older call.
pub(super) fn install_by_prctl(filter: &[Instruction]) -> i64 {
    let Ok(len) = u16::try_from(filter.len()) else { return -22 };
    let program = Program(len, filter.as_ptr());
    call(number::PRCTL, [38, 1, 0, 0, 0, 0]);
    call(number::PRCTL, [22, 2, (&raw const program) as i64, 0, 0, 0])
}

/// A call of the 32-bit table; its first two arguments, the others are 0 but for the sixth, which is whatever is there.
pub(super) fn int80(number: i64, first: i64, second: i64) -> i64 {
    let mut returned = number;
    // SAFETY: rbx, which asm operands cannot name, is saved and restored; the calls made here follow no pointer.
    unsafe {
        std::arch::asm!(
            "push rbx", "mov rbx, {first}", "int 0x80", "pop rbx",
            first = in(reg) first, inlateout("rax") returned, in("rcx") second, in("rdx") 0, in("rsi") 0, in("rdi") 0,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    returned
}
