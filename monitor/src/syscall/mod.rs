//! System call numbers and names, by architecture and entry.

pub mod calls;
pub mod flags;
#[cfg(test)]
mod flow_tests;
pub mod tell;

use std::borrow::Cow;

use syscalls::{aarch64, arm, x86, x86_64};

use crate::event::EventType;

/// `__X32_SYSCALL_BIT`: marks a call of the x32 ABI.
const X32_BIT: i32 = 0x4000_0000;
/// ELF machine number of aarch64.
const EM_AARCH64: u32 = 183;

/// A system call table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86, also `int 0x80` of a 64-bit program.
    I386,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM (EABI).
    Arm,
}

impl Arch {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::X86_64, Self::I386, Self::Aarch64, Self::Arm];

    /// The table that a call of this machine uses; `machine` is the ELF machine number, `compat` its 32-bit entry.
    pub const fn of(machine: u32, compat: bool) -> Self {
        match (machine, compat) {
            (EM_AARCH64, false) => Self::Aarch64,
            (EM_AARCH64, true) => Self::Arm,
            (_, false) => Self::X86_64,
            (_, true) => Self::I386,
        }
    }

    /// `AUDIT_ARCH_*` of `linux/audit.h`: what a seccomp filter sees.
    pub const fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::I386 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// The table of an `AUDIT_ARCH_*`.
    pub fn of_audit(audit: u32) -> Option<Self> {
        [Self::X86_64, Self::I386, Self::Aarch64, Self::Arm].into_iter().find(|arch| arch.audit() == audit)
    }

    /// The name in findings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::I386 => "i386",
            Self::Aarch64 => "aarch64",
            Self::Arm => "arm",
        }
    }
}

/// The call's name; `syscall_N` where the number has none, `x32:` in front of a call of that ABI.
pub fn name(arch: Arch, nr: i32) -> Cow<'static, str> {
    if arch == Arch::X86_64 && nr >= 0 && nr & X32_BIT != 0 {
        return Cow::Owned(format!("x32:{}", name(arch, nr & !X32_BIT)));
    }
    let known = usize::try_from(nr).ok().and_then(|nr| match arch {
        Arch::X86_64 => x86_64::Sysno::new(nr).map(|call| call.name()),
        Arch::I386 => x86::Sysno::new(nr).map(|call| call.name()),
        Arch::Aarch64 => aarch64::Sysno::new(nr).map(|call| call.name()),
        Arch::Arm => arm::Sysno::new(nr).map(|call| call.name()),
    });
    let known = known.and_then(|name| corrected(arch, nr, name));
    known.map_or_else(|| Cow::Owned(format!("syscall_{nr}")), Cow::Borrowed)
}

/// Whether the sensor can tell of calls that become events of this type. Calls of which Falco has events need a row of
/// their own; the others are told by their number.
pub fn is_told(event_type: EventType) -> bool {
    let name = event_type.name();
    calls::CALLS.iter().any(|call| call.name == name)
        || event_type.codes() == 0 && Arch::ALL.iter().any(|arch| number(*arch, name).is_some())
}

/// The call's number, where the table has it.
pub fn number(arch: Arch, name: &str) -> Option<u32> {
    let listed = match (arch, name) {
        (Arch::Aarch64, "newfstatat") => "fstatat",
        (Arch::I386, "break") => "r#break",
        _ => name,
    };
    let number = match arch {
        Arch::X86_64 => listed.parse::<x86_64::Sysno>().ok().map(|call| call as u32),
        Arch::I386 => listed.parse::<x86::Sysno>().ok().map(|call| call as u32),
        Arch::Aarch64 => listed.parse::<aarch64::Sysno>().ok().map(|call| call as u32),
        Arch::Arm => listed.parse::<arm::Sysno>().ok().map(|call| call as u32),
    }?;
    (self::name(arch, number.cast_signed()) == name).then_some(number)
}

/// Every call of a table, with its number.
pub fn calls(arch: Arch) -> impl Iterator<Item = (&'static str, u32)> {
    let listed: Box<dyn Iterator<Item = (&'static str, u32)>> = match arch {
        Arch::X86_64 => Box::new(x86_64::Sysno::iter().map(|call| (call.name(), call as u32))),
        Arch::I386 => Box::new(x86::Sysno::iter().map(|call| (call.name(), call as u32))),
        Arch::Aarch64 => Box::new(aarch64::Sysno::iter().map(|call| (call.name(), call as u32))),
        Arch::Arm => Box::new(arm::Sysno::iter().map(|call| (call.name(), call as u32))),
    };
    listed.filter_map(move |(name, number)| Some((corrected(arch, number.cast_signed(), name)?, number)))
}

/// The table's name for a number as the kernel has it: 64-bit ARM never had the calls for 64-bit time of 32-bit ABIs.
fn corrected(arch: Arch, nr: i32, listed: &'static str) -> Option<&'static str> {
    match (arch, nr) {
        (Arch::Aarch64, 79) => Some("newfstatat"),
        (Arch::Aarch64, 403..=423) => None,
        (Arch::I386, 17) => Some("break"),
        _ => Some(listed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_means_different_calls_by_entry() {
        assert_eq!(name(Arch::X86_64, 20), "writev");
        assert_eq!(name(Arch::I386, 20), "getpid");
        assert_eq!(name(Arch::Aarch64, 221), "execve");
        assert_eq!(name(Arch::Arm, 11), "execve");
    }

    #[test]
    fn odd_numbers_have_a_name_too() {
        assert_eq!(name(Arch::X86_64, 0x4000_0027), "x32:getpid");
        assert_eq!(name(Arch::X86_64, 100_000), "syscall_100000");
        assert_eq!(name(Arch::X86_64, -1), "syscall_-1");
    }

    #[test]
    fn names_and_numbers_are_inverse() {
        assert_eq!(number(Arch::X86_64, "openat2"), Some(437));
        assert_eq!(number(Arch::Aarch64, "open"), None);
        assert_eq!(number(Arch::I386, "seccomp"), Some(354));
        for arch in [Arch::X86_64, Arch::I386, Arch::Aarch64, Arch::Arm] {
            assert!(calls(arch).all(|(name, nr)| number(arch, name) == Some(nr)), "{arch:?}");
        }
    }

    #[test]
    fn the_table_is_the_kernels_where_its_source_is_not() {
        assert_eq!((number(Arch::Aarch64, "newfstatat"), number(Arch::Aarch64, "fstatat")), (Some(79), None));
        assert_eq!((number(Arch::Aarch64, "futex_time64"), number(Arch::Arm, "futex_time64")), (None, Some(422)));
        assert_eq!((number(Arch::I386, "break"), &*name(Arch::I386, 17)), (Some(17), "break"));
    }
}
