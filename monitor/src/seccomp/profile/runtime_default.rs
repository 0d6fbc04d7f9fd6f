//! `RuntimeDefault`: the profile that containerd makes for containers that name none. Tabular.
//!
//! containerd computes it from the capabilities in the container's bounding set, the architecture and the kernel. The facts
//! are those of `contrib/seccomp/seccomp_default.go` of the versions named here; a test compares them with what an
//! installed containerd writes.

use super::{Abi, Action, Architecture, Condition, KernelVersion, Operator, Profile, Rule, Scope, select::Target};

/// Lines of containerd whose profiles differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Containerd {
    /// 1.6, as of 1.6.20.
    V1_6,
    /// 1.7, as of 1.7.27: no `AF_VSOCK`.
    V1_7,
    /// 2.0 and 2.1: no `io_uring`.
    V2_0,
    /// 2.2: calls up to Linux 6.13.
    V2_2,
    /// From 2.3 on: no `AF_ALG`.
    V2_3,
}

impl Containerd {
    /// The newest line.
    pub const NEWEST: Self = Self::V2_3;

    /// Every line.
    pub const ALL: [Self; 5] = [Self::V1_6, Self::V1_7, Self::V2_0, Self::V2_2, Self::V2_3];

    /// By the version that `containerd --version` says: `1.7.27`, `v2.1.0`, `1.6`.
    pub fn parse(version: &str) -> Option<Self> {
        let version = KernelVersion::parse(version.strip_prefix('v').unwrap_or(version))?;
        let from = |text| KernelVersion::parse(text).is_some_and(|least| version >= least);
        Some(match () {
            () if from("2.3") => Self::V2_3,
            () if from("2.2") => Self::V2_2,
            () if from("2.0") => Self::V2_0,
            () if from("1.7") => Self::V1_7,
            () if from("1.6") => Self::V1_6,
            () => return None,
        })
    }
}

/// `CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP`.
const NEW_NAMESPACES: u64 = 0x7e02_0000;
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;
/// `ENOSYS`: C libraries then use `clone` instead of `clone3`, whose flags no filter can see.
const ENOSYS: u16 = 38;

/// `PER_LINUX`, `PER_LINUX32`, with `UNAME26`, and asking for what is set.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The profile of a container.
pub fn profile(version: Containerd, target: &Target) -> Profile {
    let mut profile = Profile::new(Action::ERRNO.with_data(1));
    let abis: &[Abi] = match target.native {
        Abi::Aarch64 => &[Abi::Arm, Abi::Aarch64],
        _ => &[Abi::X86_64, Abi::X86, Abi::X32],
    };
    profile.architectures = abis.iter().copied().map(Architecture::Known).collect();
    let changed = CHANGED.iter().filter(|(_, first, last)| (*first..=*last).contains(&version));
    let mut always: Vec<_> = ALWAYS.iter().copied().chain(changed.map(|(name, ..)| *name)).collect();
    if version < Containerd::V1_7 {
        always.push("socket");
    }
    let rules = &mut profile.rules;
    rules.push(rule(&always, &[]));
    rules.extend(sockets(version).into_iter().map(|condition| rule(&["socket"], &[condition])));
    rules.extend(PERSONALITIES.map(|value| rule(&["personality"], &[condition(Operator::Equal, value)])));
    if KernelVersion::parse("4.8").is_some_and(|least| target.kernel.is_none_or(|kernel| kernel >= least)) {
        let older: &[&str] = &["ptrace"];
        let names =
            if version < Containerd::V1_7 { older } else { &["process_vm_readv", "process_vm_writev", "ptrace"] };
        rules.push(rule(names, &[]));
    }
    rules.push(rule(if target.native == Abi::Aarch64 { ARM } else { X86 }, &[]));
    let mut names = Vec::new();
    for (capability, calls) in CAPABILITIES.iter().filter(|(capability, _)| target.capabilities.contains(*capability)) {
        names.extend(calls.iter().copied());
        match *capability {
            ADMIN if version < Containerd::V1_7 => names.push("name_to_handle_at"),
            "CAP_SYS_NICE" if version >= Containerd::V1_7 => names.push("set_mempolicy_home_node"),
            _ => {}
        }
    }
    if !names.is_empty() {
        rules.push(rule(&names, &[]));
    }
    if !target.capabilities.contains(ADMIN) {
        let no_namespaces = Condition { value_two: 0, ..condition(Operator::MaskedEqual, NEW_NAMESPACES) };
        rules.push(rule(&["clone"], &[no_namespaces]));
        rules.push(Rule { action: Action::ERRNO.with_data(ENOSYS), ..rule(&["clone3"], &[]) });
    }
    profile
}

/// Which families of sockets are allowed; any of these conditions is enough.
fn sockets(version: Containerd) -> Vec<Condition> {
    match version {
        Containerd::V1_6 => Vec::new(),
        Containerd::V1_7 | Containerd::V2_0 | Containerd::V2_2 => vec![condition(Operator::NotEqual, AF_VSOCK)],
        Containerd::V2_3 => vec![
            condition(Operator::Less, AF_ALG),
            condition(Operator::Equal, AF_ALG + 1),
            condition(Operator::Greater, AF_VSOCK),
        ],
    }
}

const fn condition(operator: Operator, value: u64) -> Condition {
    Condition { index: 0, operator, value, value_two: 0 }
}

fn rule(names: &[&str], conditions: &[Condition]) -> Rule {
    Rule {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        action: Action::ALLOW,
        conditions: conditions.to_vec(),
        includes: Scope::default(),
        excludes: Scope::default(),
    }
}

const ADMIN: &str = "CAP_SYS_ADMIN";

/// What a capability adds.
const CAPABILITIES: &[(&str, &[&str])] = &[
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    (
        ADMIN,
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    ("CAP_SYS_MODULE", &["delete_module", "init_module", "finit_module"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace"]),
    ("CAP_SYS_RAWIO", &["iopl", "ioperm"]),
    ("CAP_SYS_TIME", &["settimeofday", "stime", "clock_settime", "clock_settime64"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    ("CAP_SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy"]),
    ("CAP_SYSLOG", &["syslog"]),
    ("CAP_BPF", &["bpf"]),
    ("CAP_PERFMON", &["perf_event_open"]),
];

const X86: &[&str] = &["arch_prctl", "modify_ldt"];
const ARM: &[&str] =
    &["arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint", "cacheflush", "set_tls"];

/// Calls that some lines allow: the first and the last of these.
const CHANGED: &[(&str, Containerd, Containerd)] = &[
    ("cachestat", Containerd::V1_7, Containerd::V2_3),
    ("fchmodat2", Containerd::V1_7, Containerd::V2_3),
    ("futex_requeue", Containerd::V1_7, Containerd::V2_3),
    ("futex_wait", Containerd::V1_7, Containerd::V2_3),
    ("futex_wake", Containerd::V1_7, Containerd::V2_3),
    ("getxattrat", Containerd::V2_2, Containerd::V2_3),
    ("io_uring_enter", Containerd::V1_6, Containerd::V1_7),
    ("io_uring_register", Containerd::V1_6, Containerd::V1_7),
    ("io_uring_setup", Containerd::V1_6, Containerd::V1_7),
    ("listmount", Containerd::V2_2, Containerd::V2_3),
    ("listxattrat", Containerd::V2_2, Containerd::V2_3),
    ("lsm_get_self_attr", Containerd::V2_2, Containerd::V2_3),
    ("lsm_list_modules", Containerd::V2_2, Containerd::V2_3),
    ("lsm_set_self_attr", Containerd::V2_2, Containerd::V2_3),
    ("map_shadow_stack", Containerd::V1_7, Containerd::V2_3),
    ("mseal", Containerd::V2_2, Containerd::V2_3),
    ("name_to_handle_at", Containerd::V1_7, Containerd::V2_3),
    ("removexattrat", Containerd::V2_2, Containerd::V2_3),
    ("setxattrat", Containerd::V2_2, Containerd::V2_3),
    ("statmount", Containerd::V2_2, Containerd::V2_3),
    ("uretprobe", Containerd::V2_2, Containerd::V2_3),
];

/// Calls that all lines allow.
#[rustfmt::skip]
const ALWAYS: &[&str] = &[
    "_llseek", "_newselect", "accept", "accept4", "access", "adjtimex", "alarm", "bind", "brk", "capget", "capset", "chdir",
    "chmod", "chown", "chown32", "clock_adjtime", "clock_adjtime64", "clock_getres", "clock_getres_time64", "clock_gettime",
    "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "close", "close_range", "connect", "copy_file_range",
    "creat", "dup", "dup2", "dup3", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait",
    "epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "execve", "execveat", "exit", "exit_group",
    "faccessat", "faccessat2", "fadvise64", "fadvise64_64", "fallocate", "fanotify_mark", "fchdir", "fchmod", "fchmodat",
    "fchown", "fchown32", "fchownat", "fcntl", "fcntl64", "fdatasync", "fgetxattr", "flistxattr", "flock", "fork",
    "fremovexattr", "fsetxattr", "fstat", "fstat64", "fstatat64", "fstatfs", "fstatfs64", "fsync", "ftruncate", "ftruncate64",
    "futex", "futex_time64", "futex_waitv", "futimesat", "get_robust_list", "get_thread_area", "getcpu", "getcwd", "getdents",
    "getdents64", "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getgroups", "getgroups32", "getitimer",
    "getpeername", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrandom", "getresgid", "getresgid32",
    "getresuid", "getresuid32", "getrlimit", "getrusage", "getsid", "getsockname", "getsockopt", "gettid", "gettimeofday",
    "getuid", "getuid32", "getxattr", "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "io_cancel",
    "io_destroy", "io_getevents", "io_pgetevents", "io_pgetevents_time64", "io_setup", "io_submit", "ioctl", "ioprio_get",
    "ioprio_set", "ipc", "kill", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "lchown", "lchown32",
    "lgetxattr", "link", "linkat", "listen", "listxattr", "llistxattr", "lremovexattr", "lseek", "lsetxattr", "lstat",
    "lstat64", "madvise", "membarrier", "memfd_create", "memfd_secret", "mincore", "mkdir", "mkdirat", "mknod", "mknodat",
    "mlock", "mlock2", "mlockall", "mmap", "mmap2", "mprotect", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive",
    "mq_timedreceive_time64", "mq_timedsend", "mq_timedsend_time64", "mq_unlink", "mremap", "msgctl", "msgget", "msgrcv",
    "msgsnd", "msync", "munlock", "munlockall", "munmap", "nanosleep", "newfstatat", "open", "openat", "openat2", "pause",
    "pidfd_open", "pidfd_send_signal", "pipe", "pipe2", "pkey_alloc", "pkey_free", "pkey_mprotect", "poll", "ppoll",
    "ppoll_time64", "prctl", "pread64", "preadv", "preadv2", "prlimit64", "process_mrelease", "pselect6", "pselect6_time64",
    "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv", "recv", "recvfrom", "recvmmsg",
    "recvmmsg_time64", "recvmsg", "remap_file_pages", "removexattr", "rename", "renameat", "renameat2", "restart_syscall",
    "rmdir", "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend",
    "rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sched_get_priority_max", "sched_get_priority_min",
    "sched_getaffinity", "sched_getattr", "sched_getparam", "sched_getscheduler", "sched_rr_get_interval",
    "sched_rr_get_interval_time64", "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler", "sched_yield",
    "seccomp", "select", "semctl", "semget", "semop", "semtimedop", "semtimedop_time64", "send", "sendfile", "sendfile64",
    "sendmmsg", "sendmsg", "sendto", "set_robust_list", "set_thread_area", "set_tid_address", "setfsgid", "setfsgid32",
    "setfsuid", "setfsuid32", "setgid", "setgid32", "setgroups", "setgroups32", "setitimer", "setpgid", "setpriority",
    "setregid", "setregid32", "setresgid", "setresgid32", "setresuid", "setresuid32", "setreuid", "setreuid32", "setrlimit",
    "setsid", "setsockopt", "setuid", "setuid32", "setxattr", "shmat", "shmctl", "shmdt", "shmget", "shutdown", "sigaltstack",
    "signalfd", "signalfd4", "sigprocmask", "sigreturn", "socketcall", "socketpair", "splice", "stat", "stat64", "statfs",
    "statfs64", "statx", "symlink", "symlinkat", "sync", "sync_file_range", "syncfs", "sysinfo", "tee", "tgkill", "time",
    "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64", "timer_settime", "timer_settime64",
    "timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime", "timerfd_settime64", "times", "tkill",
    "truncate", "truncate64", "ugetrlimit", "umask", "uname", "unlink", "unlinkat", "utime", "utimensat", "utimensat_time64",
    "utimes", "vfork", "vmsplice", "wait4", "waitid", "waitpid", "write", "writev",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::profile::{Filter, abi, filter::Answer, select::select};

    fn answer(version: Containerd, target: &Target, call: &str, argument: Option<u64>) -> Answer {
        let filter = Filter::for_runc(&select(&profile(version, target), target)).unwrap();
        let nr = target.native.number(call).unwrap();
        filter.possible(target.native.arch(), nr, &[argument, None, None, None, None, None])
    }

    const ALLOWED: Answer = Answer::One(Action::ALLOW);
    const EPERM: Answer = Answer::One(Action::ERRNO.with_data(1));

    #[test]
    fn every_name_is_a_system_call() {
        let names = ALWAYS.iter().chain(X86).chain(ARM).chain(CAPABILITIES.iter().flat_map(|(_, calls)| *calls));
        let unknown: Vec<_> =
            names.chain(CHANGED.iter().map(|(name, ..)| name)).filter(|name| !abi::is_call(name)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn capabilities_open_what_they_are_for() {
        let mut target = Target::new(Abi::X86_64);
        assert_eq!(answer(Containerd::NEWEST, &target, "mount", None), EPERM);
        assert_eq!(answer(Containerd::NEWEST, &target, "chroot", None), ALLOWED);
        assert_eq!(answer(Containerd::NEWEST, &target, "clone", Some(17)), ALLOWED);
        assert_eq!(answer(Containerd::NEWEST, &target, "clone", Some(0x1000_0000)), EPERM);
        assert_eq!(answer(Containerd::NEWEST, &target, "clone3", None), Answer::One(Action::ERRNO.with_data(38)));
        target.capabilities.insert("CAP_SYS_ADMIN".to_owned());
        for call in ["mount", "clone", "clone3", "unshare"] {
            assert_eq!(answer(Containerd::NEWEST, &target, call, None), ALLOWED, "{call}");
        }
    }

    #[test]
    fn lines_differ_in_sockets_and_new_calls() {
        let target = Target::new(Abi::X86_64);
        let socket = |version, family| answer(version, &target, "socket", Some(family));
        assert_eq!((socket(Containerd::V1_6, AF_VSOCK), socket(Containerd::V1_7, AF_VSOCK)), (ALLOWED, EPERM));
        assert_eq!((socket(Containerd::V2_2, AF_ALG), socket(Containerd::V2_3, AF_ALG)), (ALLOWED, EPERM));
        assert!([2, 39, 41].iter().all(|family| socket(Containerd::V2_3, *family) == ALLOWED));
        assert_eq!(socket(Containerd::V2_3, AF_VSOCK), EPERM);
        assert_eq!(answer(Containerd::V1_7, &target, "io_uring_setup", None), ALLOWED);
        assert_eq!(answer(Containerd::V2_0, &target, "io_uring_setup", None), EPERM);
        assert_eq!(answer(Containerd::V1_6, &target, "mseal", None), Answer::One(Action::ERRNO.with_data(38)));
    }

    #[test]
    fn versions_are_found() {
        let lines = ["1.6.20~ds1", "v1.7.0", "2.1.3", "2.2.0", "2.4.0-beta.0", "1.5.9", "x"].map(Containerd::parse);
        let expected = [Containerd::V1_6, Containerd::V1_7, Containerd::V2_0, Containerd::V2_2, Containerd::V2_3];
        assert_eq!(lines[..5], expected.map(Some));
        assert_eq!(lines[5..], [None, None]);
    }
}
