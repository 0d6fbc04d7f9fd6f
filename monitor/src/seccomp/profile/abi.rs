//! The ABIs whose calls a filter judges: their names in profiles, and the numbers of their calls.
//!
//! libseccomp makes a filter of its own for each ABI and finds a call in it by name. x32 shares the kernel's architecture
//! with x86-64 and marks its numbers by a bit; on 32-bit x86 the calls of sockets and of System V IPC can also be made
//! through `socketcall` and `ipc`, so that libseccomp adds those rules twice.

use std::borrow::Cow;

use crate::syscall::{self, Arch};

/// `__X32_SYSCALL_BIT`.
pub const X32_BIT: u32 = 0x4000_0000;

/// An ABI whose table of system calls is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Abi {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    X86,
    /// x86-64 with 32-bit pointers.
    X32,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM.
    Arm,
}

/// Names of architectures that profiles may list and whose tables are not known here.
const FOREIGN: &[&str] = &[
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_LOONGARCH64",
];

impl Abi {
    /// Those that are known.
    pub const ALL: [Self; 5] = [Self::X86_64, Self::X86, Self::X32, Self::Aarch64, Self::Arm];

    /// The name in profiles.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::X86 => "SCMP_ARCH_X86",
            Self::X32 => "SCMP_ARCH_X32",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
            Self::Arm => "SCMP_ARCH_ARM",
        }
    }

    /// What Go, and so Docker's `includes` and `excludes`, call it.
    pub const fn go_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::X86 => "x86",
            Self::X32 => "x32",
            Self::Aarch64 => "arm64",
            Self::Arm => "arm",
        }
    }

    /// The known one of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|abi| abi.name() == name)
    }

    /// Every name that a profile may list.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().map(Self::name).chain(FOREIGN.iter().copied())
    }

    /// The native one of a machine, by its ELF number.
    pub const fn native(machine: u32) -> Self {
        match Arch::of(machine, false) {
            Arch::Aarch64 => Self::Aarch64,
            _ => Self::X86_64,
        }
    }

    /// That which a call was made through.
    pub fn of_call(arch: Arch, nr: u32) -> Self {
        match arch {
            Arch::X86_64 if nr & X32_BIT != 0 => Self::X32,
            Arch::X86_64 => Self::X86_64,
            Arch::I386 => Self::X86,
            Arch::Aarch64 => Self::Aarch64,
            Arch::Arm => Self::Arm,
        }
    }

    /// The table that its numbers are of.
    pub const fn arch(self) -> Arch {
        match self {
            Self::X86_64 | Self::X32 => Arch::X86_64,
            Self::X86 => Arch::I386,
            Self::Aarch64 => Arch::Aarch64,
            Self::Arm => Arch::Arm,
        }
    }

    /// Whether rules compare all 64 bits of an argument.
    pub const fn is_64_bit(self) -> bool {
        matches!(self, Self::X86_64 | Self::Aarch64)
    }

    /// The call's number as the kernel sees it, where this ABI has the call.
    pub fn number(self, name: &str) -> Option<u32> {
        if self != Self::X32 {
            return syscall::number(self.arch(), name);
        }
        let own = X32_CALLS.iter().find(|(own, _)| *own == name).map(|(_, number)| *number);
        let shared = || syscall::number(Arch::X86_64, name).filter(|_| !NOT_IN_X32.contains(&name));
        own.or_else(shared).map(|number| number | X32_BIT)
    }

    /// The name of a number that the kernel sees.
    pub fn call_name(self, nr: u32) -> Cow<'static, str> {
        if self == Self::X32 {
            let own = X32_CALLS.iter().find(|(_, number)| number | X32_BIT == nr);
            if let Some((name, _)) = own {
                return Cow::Borrowed(name);
            }
            return syscall::name(Arch::X86_64, (nr & !X32_BIT).cast_signed());
        }
        syscall::name(self.arch(), nr.cast_signed())
    }

    /// Every call that it has, with its number.
    pub fn calls(self) -> impl Iterator<Item = (&'static str, u32)> {
        let shared = syscall::calls(self.arch()).filter(move |(name, _)| {
            self != Self::X32 || !(NOT_IN_X32.contains(name) || X32_CALLS.iter().any(|(own, _)| own == name))
        });
        let own = X32_CALLS.iter().copied().filter(move |_| self == Self::X32);
        let bit = if self == Self::X32 { X32_BIT } else { 0 };
        shared.chain(own).map(move |(name, number)| (name, number | bit))
    }
}

/// Whether any of the known ABIs has a call of this name.
pub fn is_call(name: &str) -> bool {
    Abi::ALL.into_iter().any(|abi| abi.number(name).is_some()) || multiplexed(name).is_some() || OTHERS.contains(&name)
}

/// Every name that a rule can have, for suggestions.
pub fn call_names() -> impl Iterator<Item = &'static str> {
    [Abi::X86_64, Abi::X86, Abi::Arm].into_iter().flat_map(Abi::calls).map(|(name, _)| name)
}

/// Calls of architectures whose tables are not known here, and that shipped profiles name.
const OTHERS: &[&str] = &[
    "breakpoint",
    "cacheflush",
    "get_tls",
    "multiplexer",
    "riscv_flush_icache",
    "riscv_hwprobe",
    "rtas",
    "s390_guarded_storage",
    "s390_pci_mmio_read",
    "s390_pci_mmio_write",
    "s390_runtime_instr",
    "s390_sthyi",
    "set_tls",
    "spu_create",
    "spu_run",
    "swapcontext",
    "switch_endian",
    "sync_file_range2",
    "sysmips",
    "timerfd",
    "usr26",
    "usr32",
];

/// The call that carries others on 32-bit x86, and the number of the one that is carried.
pub fn multiplexed(name: &str) -> Option<(&'static str, u32)> {
    let position = |list: &[(&str, u32)]| list.iter().find(|(call, _)| *call == name).map(|(_, number)| *number);
    position(SOCKETCALL).map(|number| ("socketcall", number)).or_else(|| position(IPC).map(|number| ("ipc", number)))
}

/// `SYS_SOCKET` … of `linux/net.h`.
const SOCKETCALL: &[(&str, u32)] = &[
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

/// `SEMOP` … of `linux/ipc.h`.
const IPC: &[(&str, u32)] = &[
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// Calls that x32 has under a number of its own (`x32` in `arch/x86/entry/syscalls/syscall_64.tbl`).
const X32_CALLS: &[(&str, u32)] = &[
    ("rt_sigaction", 512),
    ("rt_sigreturn", 513),
    ("ioctl", 514),
    ("readv", 515),
    ("writev", 516),
    ("recvfrom", 517),
    ("sendmsg", 518),
    ("recvmsg", 519),
    ("execve", 520),
    ("ptrace", 521),
    ("rt_sigpending", 522),
    ("rt_sigtimedwait", 523),
    ("rt_sigqueueinfo", 524),
    ("sigaltstack", 525),
    ("timer_create", 526),
    ("mq_notify", 527),
    ("kexec_load", 528),
    ("waitid", 529),
    ("set_robust_list", 530),
    ("get_robust_list", 531),
    ("vmsplice", 532),
    ("move_pages", 533),
    ("preadv", 534),
    ("pwritev", 535),
    ("rt_tgsigqueueinfo", 536),
    ("recvmmsg", 537),
    ("sendmmsg", 538),
    ("process_vm_readv", 539),
    ("process_vm_writev", 540),
    ("setsockopt", 541),
    ("getsockopt", 542),
    ("io_setup", 543),
    ("io_submit", 544),
    ("execveat", 545),
    ("preadv2", 546),
    ("pwritev2", 547),
];

/// Calls of x86-64 that x32 has not at all (`64` in the same table, without an `x32` row).
const NOT_IN_X32: &[&str] = &[
    "uselib",
    "_sysctl",
    "create_module",
    "get_kernel_syms",
    "query_module",
    "nfsservctl",
    "set_thread_area",
    "get_thread_area",
    "epoll_ctl_old",
    "epoll_wait_old",
    "vserver",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x32_has_numbers_of_its_own_beside_those_that_it_shares() {
        assert_eq!(Abi::X32.number("execve"), Some(X32_BIT + 520));
        assert_eq!(Abi::X32.number("read"), Some(X32_BIT));
        assert_eq!(Abi::X32.number("uselib"), None);
        assert_eq!(Abi::X32.call_name(X32_BIT + 520), "execve");
        assert_eq!(Abi::X32.call_name(X32_BIT + 39), "getpid");
    }

    #[test]
    fn every_call_has_the_number_that_is_found_by_its_name() {
        for abi in Abi::ALL {
            let calls: Vec<_> = abi.calls().collect();
            assert!(calls.len() > 300, "{abi:?}: {}", calls.len());
            for (name, number) in calls {
                assert_eq!(abi.number(name), Some(number), "{abi:?} {name}");
                assert_eq!(abi.call_name(number), name, "{abi:?}");
            }
        }
    }

    #[test]
    fn sockets_and_ipc_are_carried_on_32_bit_x86() {
        assert_eq!(multiplexed("socket"), Some(("socketcall", 1)));
        assert_eq!(multiplexed("shmctl"), Some(("ipc", 24)));
        assert_eq!(multiplexed("socketcall"), None);
    }
}
