//! Records: the bytes that cross from the kernel to the agent, and that a capture keeps. Tabular: mostly layouts.
//!
//! A record is a [`Header`], a fixed part chosen by [`Header::kind`], and a tail of variable-length pieces whose lengths
//! stand in the fixed part, in the order of the fields. The [`records!`] table is the one list of kinds: numbers, layouts,
//! names and the decode dispatch all come from it. Numbers are never reused.
//!
//! Observations are records that the agent makes (kinds from [`Kind::FIRST_OBSERVATION`] up): whatever it learns
//! outside the kernel's stream enters the stream, so that a capture holds it and replay is exact.
//!
//! # Paths
//! The kernel walks a path from the file up to the task's root, so a path travels as *leaf-first components*: names,
//! each ended by NUL, the last component first (`passwd\0etc\0` is `/etc/passwd`). An empty list is `/`, or no path where
//! there is no file. A memory file is its single name (`memfd:x\0`), and so reads as `/memfd:x`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of every layout in this module. A capture written by another version is refused with both numbers.
pub const ABI_VERSION: u32 = 2;

/// Longest record in bytes, tail included: the two largest, an exec with long arguments and a chunk of a seccomp
/// filter, stay below it, and the agent refuses anything longer.
pub const MAX_RECORD_BYTES: usize = 20 * 1024;

/// Length of a task's command name in the kernel (`TASK_COMM_LEN`).
pub const COMM_LEN: usize = 16;

/// Declares a plain-data struct that both sides of the kernel boundary share.
macro_rules! plain {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $ty:ty,)* }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
        pub struct $name { $($(#[$field_meta])* pub $field: $ty,)* }

        impl $name {
            /// Names of the members and where they begin.
            pub const MEMBERS: &'static [(&'static str, usize)] =
                &[$((stringify!($field), core::mem::offset_of!($name, $field))),*];
        }
    };
}

/// The one list of record kinds.
macro_rules! records {
    ($($(#[$doc:meta])* $number:literal => $kind:ident, $name:literal, $layout:ident;)*) => {
        impl Kind {
            $($(#[$doc])* pub const $kind: Kind = Kind($number);)*

            /// Every kind that this version knows, in order of number.
            pub const ALL: &'static [Kind] = &[$(Kind::$kind),*];

            /// The kind's name, as metrics and diagnostics print it.
            pub const fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name,)* _ => "unknown" }
            }

            /// Bytes of header and fixed part, or `None` for a number that this version does not know.
            pub const fn fixed_bytes(self) -> Option<usize> {
                match self { $(Kind::$kind => Some(size_of::<$layout>()),)* _ => None }
            }
        }

        /// Calls `$m! { (KIND, Layout), … }`: lets the decoder dispatch without a second list.
        #[macro_export]
        macro_rules! for_each_record {
            ($m:ident) => { $m! { $(($kind, $layout)),* } };
        }
    };
}

/// What a record is: an integer newtype, because bytes can hold any number.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Kind(pub u16);

impl Kind {
    /// Kinds from here up are made by the agent, not by the kernel.
    pub const FIRST_OBSERVATION: u16 = 0x100;

    /// Whether the agent, not the kernel, makes this kind.
    pub const fn is_observation(self) -> bool {
        self.0 >= Self::FIRST_OBSERVATION
    }
}

records! {
    /// A task replaced its program: `sched_process_exec`.
    1 => EXEC, "exec", ExecRecord;
    /// A process (not a thread) was made: `sched_process_fork`.
    2 => FORK, "fork", ForkRecord;
    /// The last thread of a process ended, or seccomp killed a thread: `sched_process_exit`.
    3 => EXIT, "exit", ExitRecord;
    /// A cgroup of the v2 hierarchy was made, or existed when the sensor started.
    4 => CGROUP, "cgroup", CgroupRecord;
    /// A task moved to another cgroup: `cgroup_attach_task`.
    5 => CGROUP_ATTACH, "cgroup_attach", CgroupAttachRecord;
    /// Seccomp sent SIGSYS: `signal_generate`.
    6 => SIGSYS, "sigsys", SigsysRecord;
    /// A system call that seccomp may have denied: `sys_exit` of a task with a filter.
    7 => SECCOMP_CALL, "seccomp_call", SeccompCallRecord;
    /// A chunk of a seccomp filter program, sent before the first call that it judged.
    8 => SECCOMP_FILTER, "seccomp_filter", SeccompFilterRecord;
    /// A task that existed when the sensor started: `iter/task`, strings from `/proc`.
    10 => TASK, "task", TaskRecord;
    /// A system call that rules, or the drift detection, want to know of: `sys_exit`.
    11 => CALL, "call", CallRecord;
    /// Start of a stream: clock, host and versions.
    0x100 => SESSION, "session", SessionRecord;
    /// Records that the kernel could not deliver since the last such report.
    0x101 => LOSS, "loss", LossRecord;
    /// End of a stream: without it a capture was cut short.
    0x102 => END, "end", EndRecord;
    /// Rules that apply from here on.
    0x103 => RULES, "rules", RulesRecord;
    /// What a container's runtime was told, from its bundle.
    0x104 => CONTAINER, "container", ContainerRecord;
    /// System calls that a cgroup's tasks made for the first time.
    0x107 => CALLS_MADE, "calls_made", CallsMadeRecord;
    /// A user of the host.
    0x108 => USER, "user", UserRecord;
    /// A group of the host.
    0x109 => GROUP, "group", GroupRecord;
    /// The seccomp profile of a container, from its bundle.
    0x10a => SECCOMP_PROFILE, "seccomp_profile", SeccompProfileRecord;
    /// Time has passed, and somebody waited for that.
    0x10b => CLOCK, "clock", ClockRecord;
    /// What a file holds that may have drifted.
    0x10c => DIGEST, "digest", DigestRecord;
    /// What the Kubernetes API says of a pod of this node.
    0x10d => POD, "pod", PodRecord;
}

plain! {
    /// What every record begins with. All integers are little-endian, as on every supported machine.
    pub struct Header {
        /// Which layout follows.
        pub kind: Kind,
        /// Bits of [`header_flag`].
        pub flags: u16,
        /// Bytes of the whole record, header and tail included.
        pub len: u32,
        /// When it happened, in nanoseconds of `CLOCK_BOOTTIME`.
        pub ktime_ns: u64,
        /// Id of the task's cgroup in the v2 hierarchy (inode number of its directory); 0 in observations.
        pub cgroup_id: u64,
        /// `start_boottime` of the thread group leader: with `tgid` the key of a process. It survives exec, also
        /// from a thread other than the leader.
        pub start_ns: u64,
        /// Process id in the initial pid namespace (the kernel's thread group id).
        pub tgid: u32,
        /// Thread id in the initial pid namespace.
        pub tid: u32,
    }
}

/// Bits of [`Header::flags`].
pub mod header_flag {
    /// The system call came through the 32-bit entry (`int 0x80`, or a 32-bit program).
    pub const COMPAT: u16 = 1;
    /// A piece of the tail was longer than its limit and was cut.
    pub const TRUNCATED: u16 = 1 << 1;
    /// A piece of the tail could not be read (the user page was not there) and is empty.
    pub const UNREADABLE: u16 = 1 << 2;
    /// The record tells what existed when the sensor started, not something that happened.
    pub const SNAPSHOT: u16 = 1 << 3;
}

plain! {
    /// Who a task is: credentials, namespaces, parent.
    pub struct TaskFacts {
        /// Start of the parent process, nanoseconds of `CLOCK_BOOTTIME`.
        pub parent_start_ns: u64,
        /// Effective capabilities, one bit each.
        pub cap_effective: u64,
        /// Permitted capabilities, one bit each.
        pub cap_permitted: u64,
        /// Process id of the parent.
        pub parent_tgid: u32,
        /// Process id in the task's own pid namespace.
        pub vpid: u32,
        /// Real user id.
        pub uid: u32,
        /// Effective user id.
        pub euid: u32,
        /// Real group id.
        pub gid: u32,
        /// Login user id (audit); all ones where there is none.
        pub loginuid: u32,
        /// Inode number of the mount namespace.
        pub mnt_ns: u32,
        /// Inode number of the pid namespace.
        pub pid_ns: u32,
        /// Inode number of the network namespace.
        pub net_ns: u32,
        /// Inode number of the user namespace.
        pub user_ns: u32,
        /// Seccomp mode: 0 none, 1 strict, 2 filter, 3 killed.
        pub seccomp_mode: u32,
        /// The kernel's `PF_*` flags of the task.
        pub task_flags: u32,
        /// Session, in the initial pid namespace.
        pub session: u32,
        /// Process group, in the initial pid namespace.
        pub process_group: u32,
        /// Process group in the task's own pid namespace.
        pub own_process_group: u32,
        /// Device number of the controlling terminal as `stat(2)` has it; 0 where there is none.
        pub tty: u32,
        /// 1 where `no_new_privs` is set.
        pub no_new_privs: u32,
        /// Zero.
        pub reserved: u32,
        /// Command name, NUL padded.
        pub comm: [u8; COMM_LEN],
    }
}

plain! {
    /// What the kernel knows of a file. Zero throughout where there is no file (a kernel thread's program).
    pub struct FileFacts {
        /// Inode number.
        pub ino: u64,
        /// Size in bytes.
        pub size_bytes: u64,
        /// Last change of the inode, nanoseconds since 1970.
        pub ctime_ns: u64,
        /// Last change of the content, nanoseconds since 1970.
        pub mtime_ns: u64,
        /// Device number of the superblock, in the kernel's own encoding.
        pub dev: u32,
        /// Magic number of the file system (`statfs.f_type`).
        pub fs_magic: u32,
        /// File type and permission bits.
        pub mode: u32,
        /// Number of hard links.
        pub nlink: u32,
        /// Owner.
        pub uid: u32,
        /// Bits of [`file_flag`].
        pub flags: u32,
    }
}

impl FileFacts {
    /// No file.
    pub const NONE: Self = Self {
        ino: 0,
        size_bytes: 0,
        ctime_ns: 0,
        mtime_ns: 0,
        dev: 0,
        fs_magic: 0,
        mode: 0,
        nlink: 0,
        uid: 0,
        flags: 0,
    };
}

/// Bits of [`FileFacts::flags`].
pub mod file_flag {
    /// On an overlay file system.
    pub const OVERLAY: u32 = 1;
    /// The overlay's upper layer holds it: it was made or copied up in the container.
    pub const OVERLAY_UPPER: u32 = 1 << 1;
    /// The overlay's upper layer holds its content, not just its metadata.
    pub const OVERLAY_UPPER_DATA: u32 = 1 << 2;
    /// A lower layer holds a file of this name: with [`OVERLAY_UPPER`], a copy of an image file.
    pub const OVERLAY_LOWER: u32 = 1 << 3;
    /// No directory entry leads to it any more (deleted, or never had one).
    pub const UNLINKED: u32 = 1 << 4;
    /// Made by `memfd_create`.
    pub const MEMFD: u32 = 1 << 5;
    /// Whether a lower layer holds it could not be read on this kernel.
    pub const OVERLAY_LOWER_UNKNOWN: u32 = 1 << 6;
}

plain! {
    /// A successful `execve` or `execveat`. Tail: `filename`, `interpreter`, `arguments`, `executable`, `cwd`, `environment`.
    pub struct ExecRecord {
        /// Common part.
        pub header: Header,
        /// The task after the exec.
        pub task: TaskFacts,
        /// The program that runs now (for a script, its interpreter).
        pub file: FileFacts,
        /// Thread id before the exec: differs from `tid` when another thread than the leader called it.
        pub old_tid: u32,
        /// File type and permission bits of its standard input; zero where it has none, and in captures of agents that did
        /// not tell.
        pub stdin_mode: u32,
        /// Bytes of the path as given to the call, NUL included.
        pub filename_len: u16,
        /// Bytes of the interpreter's path, NUL included; zero unless a script was executed.
        pub interpreter_len: u16,
        /// Bytes of the argument area: NUL-terminated strings, at most 4095 bytes.
        pub arguments_len: u16,
        /// Bytes of the program's path, as [leaf-first components](self#paths).
        pub executable_len: u16,
        /// Bytes of the working directory, leaf-first.
        pub cwd_len: u16,
        /// Bytes of the environment: NUL-terminated strings, at most 4095 bytes; only where rules ask for it.
        pub environment_len: u16,
        /// Zero.
        pub reserved2: [u16; 2],
    }
}

plain! {
    /// A new process. The header is the parent's.
    pub struct ForkRecord {
        /// Common part, of the parent.
        pub header: Header,
        /// `start_boottime` of the child.
        pub child_start_ns: u64,
        /// Process id of the child.
        pub child_tgid: u32,
        /// Process id of the child in its own pid namespace.
        pub child_vpid: u32,
        /// Inode number of the child's pid namespace.
        pub child_pid_ns: u32,
        /// Zero.
        pub reserved: u32,
    }
}

plain! {
    /// The end of a process, or of a thread that seccomp killed.
    pub struct ExitRecord {
        /// Common part.
        pub header: Header,
        /// The status as `wait(2)` gives it.
        pub exit_code: u32,
        /// Seccomp mode at the end; 3 when seccomp killed it (5.11 and newer).
        pub seccomp_mode: u32,
        /// Number of the system call that it was in, or -1.
        pub syscall: i32,
        /// 1 when the whole process ends, 0 when other threads live on.
        pub group_dead: u32,
        /// System call arguments.
        pub args: [u64; 6],
        /// Instruction pointer of the system call.
        pub ip: u64,
        /// Command name, NUL padded.
        pub comm: [u8; COMM_LEN],
    }
}

plain! {
    /// A cgroup. `cgroup_id` of the header is its own id. Tail: `path` from the root of the v2 hierarchy.
    pub struct CgroupRecord {
        /// Common part.
        pub header: Header,
        /// Bytes of the path, NUL included.
        pub path_len: u16,
        /// Zero.
        pub reserved: [u16; 3],
    }
}

plain! {
    /// A task moved to another cgroup. The header is the mover's; the moved task stands here.
    pub struct CgroupAttachRecord {
        /// Common part, of the task that wrote `cgroup.procs`.
        pub header: Header,
        /// Id of the cgroup that the task is in now.
        pub target_cgroup_id: u64,
        /// `start_boottime` of the moved task's process.
        pub target_start_ns: u64,
        /// Process id of the moved task.
        pub target_tgid: u32,
        /// 1 when the whole process moved.
        pub whole_process: u32,
    }
}

plain! {
    /// Seccomp sent SIGSYS (`si_code` `SYS_SECCOMP`).
    pub struct SigsysRecord {
        /// Common part.
        pub header: Header,
        /// `si_errno`: the data of the filter's return value.
        pub data: i32,
        /// `si_syscall`: number of the call.
        pub syscall: i32,
        /// `si_arch`: `AUDIT_ARCH_*` of the call.
        pub arch: u32,
        /// Zero.
        pub reserved: u32,
    }
}

plain! {
    /// A system call that a filter may have denied; the agent decides by running the filter chain itself.
    pub struct SeccompCallRecord {
        /// Common part.
        pub header: Header,
        /// What the call returned, as `sys_exit` shows it.
        pub ret: i64,
        /// Instruction pointer after the call.
        pub ip: u64,
        /// Arguments, at full width.
        pub args: [u64; 6],
        /// Address of the newest filter: with the generation its identity.
        pub filter: u64,
        /// When the newest filter was first seen; addresses are reused, pairs are not.
        pub filter_generation: u64,
        /// Number of the call in the table of its entry (see [`header_flag::COMPAT`]).
        pub nr: i32,
        /// Seccomp mode at exit: 2 filter, 3 killed.
        pub mode: u32,
        /// The task's ptrace flags: non-zero while traced.
        pub ptrace: u32,
        /// Bits of [`seccomp_flag`].
        pub flags: u32,
        /// Command name, NUL padded.
        pub comm: [u8; COMM_LEN],
    }
}

/// Bits of [`SeccompCallRecord::flags`].
pub mod seccomp_flag {
    /// The call itself installed a filter, so the newest filter did not judge it.
    pub const INSTALL: u32 = 1;
    /// Found by the enter/exit pair: it is known that the call was denied, but not by which action.
    pub const DENIED_BY_PAIR: u32 = 1 << 1;
}

plain! {
    /// A chunk of a filter's classic BPF program. Tail: the instructions, 8 bytes each (`struct sock_filter`).
    pub struct SeccompFilterRecord {
        /// Common part, of the task whose call needed it.
        pub header: Header,
        /// Address of the filter.
        pub filter: u64,
        /// When it was first seen.
        pub generation: u64,
        /// Address of the filter under it, or 0.
        pub previous: u64,
        /// Generation of the filter under it, or 0 if that one was not seen yet.
        pub previous_generation: u64,
        /// Instructions of the whole program; 0 where the kernel does not keep them.
        pub total: u32,
        /// Index of this chunk's first instruction.
        pub first: u32,
        /// Bytes of this chunk.
        pub instructions_len: u32,
        /// 1 when the filter was installed with `SECCOMP_FILTER_FLAG_LOG`.
        pub log: u32,
    }
}

plain! {
    /// The end of a system call, with what only the kernel knows of the descriptor that it is about. Tail: `socket` (a
    /// [`SocketFacts`] where the descriptor is one), `texts`, `structure`, `path`, `directories`.
    pub struct CallRecord {
        /// Common part.
        pub header: Header,
        /// Arguments, at full width.
        pub args: [u64; 6],
        /// What it returned. Behind the arguments, so that an index can name it like one of them.
        pub ret: i64,
        /// The file of the descriptor that the call is about; zero where there is none.
        pub file: FileFacts,
        /// Number of the call in the table of its entry (see [`header_flag::COMPAT`]).
        pub nr: i32,
        /// The descriptor that `file`, `socket` and `path` tell of, or -1.
        pub fd: i32,
        /// `f_flags` of the open file: `O_*` as `fcntl(2)` gives them.
        pub open_flags: u32,
        /// `f_mode` of the open file: `FMODE_*`.
        pub open_mode: u32,
        /// Command name of the thread, NUL padded.
        pub comm: [u8; COMM_LEN],
        /// Bytes of the socket's facts.
        pub socket_len: u16,
        /// Bytes of each text that the call was given, NUL included: user memory, read when the call ended.
        pub text_len: [u16; 3],
        /// Bytes of the structure that the call was given (a socket address, `struct open_how`): user memory, as the texts.
        /// Of a Unix socket, where the call was given none, the address that the kernel has.
        pub structure_len: u16,
        /// Bytes of the path of the open file, as [leaf-first components](self#paths).
        pub path_len: u16,
        /// Bytes of the paths of the directories that the first two texts are relative to; zero where they are not, and
        /// one empty name for the root.
        pub directory_len: [u16; 2],
        /// The processor.
        pub cpu: u16,
        /// What it is about, as [`Subject`](crate::subject::Subject) has it; zero where that is not to be asked.
        pub subject: [u16; 3],
    }
}

plain! {
    /// What the kernel knows of a socket. Addresses in network order, IPv4 in the first four bytes; ports in host order.
    pub struct SocketFacts {
        /// Its own address.
        pub local: [u8; 16],
        /// The peer's address.
        pub remote: [u8; 16],
        /// Its own port.
        pub local_port: u16,
        /// The peer's port.
        pub remote_port: u16,
        /// `AF_*`
        pub family: u16,
        /// `SOCK_*`
        pub ty: u16,
        /// `IPPROTO_*`
        pub protocol: u16,
        /// `TCP_*` states, which other protocols use, too.
        pub state: u16,
        /// Zero.
        pub reserved: u32,
    }
}

plain! {
    /// A process that existed when the sensor started. Tail: `arguments`, `executable`, `cwd` as in [`ExecRecord`].
    pub struct TaskRecord {
        /// Common part.
        pub header: Header,
        /// The task.
        pub task: TaskFacts,
        /// Its program.
        pub file: FileFacts,
        /// Bytes of the argument area.
        pub arguments_len: u16,
        /// Bytes of the program's path, leaf-first.
        pub executable_len: u16,
        /// Bytes of the working directory, leaf-first.
        pub cwd_len: u16,
        /// Zero.
        pub reserved: u16,
    }
}

plain! {
    /// Start of a stream. Tail: `hostname`, `kernel_release`, `boot_id`, `agent_version`, plain text without NUL.
    pub struct SessionRecord {
        /// Common part; `ktime_ns` is the time of the start.
        pub header: Header,
        /// Add to `ktime_ns` to get nanoseconds since 1970, as measured at the start.
        pub realtime_offset_ns: u64,
        /// [`ABI_VERSION`] of the writer.
        pub abi_version: u32,
        /// ELF machine number of the host (62 x86-64, 183 aarch64).
        pub machine: u32,
        /// Inode number of the host's mount namespace.
        pub host_mnt_ns: u32,
        /// Inode number of the host's pid namespace.
        pub host_pid_ns: u32,
        /// Bytes of the host name.
        pub hostname_len: u16,
        /// Bytes of the kernel release (`uname -r`).
        pub kernel_release_len: u16,
        /// Bytes of the boot id.
        pub boot_id_len: u16,
        /// Bytes of the agent's version.
        pub agent_version_len: u16,
    }
}

plain! {
    /// Records of one kind and, by the header, of one cgroup that were lost in the kernel since the last report. Cgroup 0:
    /// it is not known whose they were.
    pub struct LossRecord {
        /// Common part.
        pub header: Header,
        /// Lost because the ring was full.
        pub ring_full: u64,
        /// Lost because a kernel structure could not be read.
        pub unreadable: u64,
        /// Left out because their cgroup had used up its share of a ring that fills up.
        pub over_budget: u64,
        /// Kind of the lost records, or 0 for all kinds together.
        pub kind: Kind,
        /// Zero.
        pub reserved: [u16; 3],
    }
}

plain! {
    /// End of a stream.
    pub struct EndRecord {
        /// Common part.
        pub header: Header,
        /// Records in the stream, this one not counted.
        pub records: u64,
    }
}

plain! {
    /// Rules came into use: those of the start, and each time others take their place.
    pub struct RulesRecord {
        /// Common part; `ktime_ns` is the time of the change.
        pub header: Header,
        /// SHA-256 over the names and the contents of the rule files.
        pub digest: [u8; 32],
        /// How many rules there are.
        pub rules: u32,
        /// Zero.
        pub reserved: u32,
    }
}

plain! {
    /// System calls that the tasks of a cgroup, the header's, made since the last such record and never before: one bit each,
    /// by number. Calls that do not return (`exit`, a successful `rt_sigreturn`) are not seen.
    pub struct CallsMadeRecord {
        /// Common part.
        pub header: Header,
        /// Of the 64-bit table.
        pub native: [u64; 8],
        /// Of the 32-bit table.
        pub compat: [u64; 8],
    }
}

plain! {
    /// A user of the host, from its `passwd`. Tail: `name`, `home`, `shell`.
    pub struct UserRecord {
        /// Common part.
        pub header: Header,
        /// Its number.
        pub uid: u32,
        /// Its group.
        pub gid: u32,
        /// Bytes of the name.
        pub name_len: u16,
        /// Bytes of the home directory.
        pub home_len: u16,
        /// Bytes of the shell.
        pub shell_len: u16,
        /// Zero.
        pub reserved: u16,
    }
}

plain! {
    /// A group of the host. Tail: `name`.
    pub struct GroupRecord {
        /// Common part.
        pub header: Header,
        /// Its number.
        pub gid: u32,
        /// Bytes of the name.
        pub name_len: u16,
        /// Zero.
        pub reserved: u16,
    }
}

plain! {
    /// What a container's runtime was told. `cgroup_id` of the header is the container's. Tail: `document`, JSON in the layout
    /// of Falco's container plugin, with the runtime's promises beside it.
    pub struct ContainerRecord {
        /// Common part; `ktime_ns` is when it was read.
        pub header: Header,
        /// Bytes of the document.
        pub document_len: u32,
        /// Zero.
        pub reserved: u32,
    }
}

plain! {
    /// The seccomp profile of a container. `cgroup_id` of the header is the container's. Tail: `document`, JSON with the profile's
    /// name and digest, and all of it where that fits.
    pub struct SeccompProfileRecord {
        /// Common part; `ktime_ns` is when it was read.
        pub header: Header,
        /// Bytes of the document.
        pub document_len: u32,
        /// Zero.
        pub reserved: u32,
    }
}

plain! {
    /// Time has passed: what was to be told by now is told.
    pub struct ClockRecord {
        /// Common part; `ktime_ns` is the time.
        pub header: Header,
    }
}

plain! {
    /// What a file holds that may have drifted, read by the agent. It stands in front of the record that tells of the file, or
    /// behind it where reading took long. The header is that record's, but for kind, length and time.
    pub struct DigestRecord {
        /// Common part; `ktime_ns` is when it was read.
        pub header: Header,
        /// Inode number.
        pub ino: u64,
        /// Last change of the inode, nanoseconds since 1970: with device and inode number what makes the content one.
        pub ctime_ns: u64,
        /// Size in bytes.
        pub size_bytes: u64,
        /// Device number of the superblock.
        pub dev: u32,
        /// Bits of [`digest_flag`].
        pub flags: u32,
        /// SHA-256 of the content; zero where it was not read.
        pub sha256: [u8; 32],
    }
}

/// Bits of [`DigestRecord::flags`]. None: the file could not be read, or had changed.
pub mod digest_flag {
    /// The file was read, and had not changed.
    pub const READ: u32 = 1;
    /// The file is larger than what is read.
    pub const TOO_LARGE: u32 = 1 << 1;
    /// It is a copy of an image's file, and has the same content.
    pub const SAME_AS_LOWER: u32 = 1 << 2;
    /// It is a copy of an image's file, and has another content.
    pub const DIFFERS_FROM_LOWER: u32 = 1 << 3;
}

plain! {
    /// What the Kubernetes API says of a pod of this node. Tail: `document`, JSON.
    pub struct PodRecord {
        /// Common part; `ktime_ns` is when it was learned.
        pub header: Header,
        /// Bytes of the document.
        pub document_len: u32,
        /// Zero.
        pub reserved: u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_fits_a_record_and_is_eight_byte_aligned() {
        for kind in Kind::ALL {
            let bytes = kind.fixed_bytes().unwrap();
            assert!(bytes < MAX_RECORD_BYTES, "{} is {bytes} bytes", kind.name());
            assert_eq!(bytes % 8, 0, "{} is {bytes} bytes", kind.name());
        }
    }

    #[test]
    fn numbers_and_names_are_unique() {
        let mut numbers: Vec<_> = Kind::ALL.iter().map(|k| k.0).collect();
        let mut names: Vec<_> = Kind::ALL.iter().map(|k| k.name()).collect();
        numbers.dedup();
        names.sort_unstable();
        names.dedup();
        assert_eq!((numbers.len(), names.len()), (Kind::ALL.len(), Kind::ALL.len()));
    }
}
