//! The system calls that the sensor tells of: what the kernel side collects of each, and what of it becomes which parameter
//! of which event. Tabular.
//!
//! A call that is not here can be told all the same, by its number alone: [`super::tell`].

use monitor_ebpf::settings::{Plan, plan_flag};

use super::flags::{self, Names};
use crate::event::schema::Code;

/// A system call that the sensor tells of.
#[derive(Debug)]
pub struct CallInfo {
    /// Its name in the system call table.
    pub name: &'static str,
    /// The event that it becomes.
    pub code: Code,
    /// What is collected.
    pub plan: Plan,
    /// Where parameters come from, by name. Those that are not listed stay empty.
    pub sources: &'static [(&'static str, Source)],
}

/// Where a parameter comes from. Numbers are those of the call's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// What the call returned.
    Result,
    /// An argument as it is.
    Argument(u8),
    /// A descriptor, or `AT_FDCWD`: an `int`.
    Descriptor(u8),
    /// A text, by its place among the plan's.
    Text(u8),
    /// `O_*` flags, and what the kernel found.
    OpenFlags(u8),
    /// The same, within `struct open_how`.
    OpenHow,
    /// `mode` of `struct open_how`.
    OpenHowMode,
    /// `resolve` of `struct open_how`.
    OpenHowResolve,
    /// Permission bits, which count only where the flags in the other argument make a file.
    OpenMode(u8, u8),
    /// Layers of an overlay, where `creat` has them.
    Layers,
    /// Device of the file.
    Device,
    /// Inode of the file.
    Inode,
    /// Path of the open file.
    Path,
    /// Bits that have names.
    Bits(u8, Names),
    /// A value that has a name.
    Value(u8, Names),
    /// Type of a socket without the flags that go with it.
    SocketType(u8),
    /// Socket address that the call was given.
    Address,
    /// Both ends of the socket, this machine's first.
    TupleOut,
    /// The same, the peer first.
    TupleIn,
    /// A variant of which the first kind is a number.
    Number(u8),
}

use Source::{
    Address, Argument, Bits, Descriptor, Device, Inode, Layers, Number, OpenFlags, OpenHow, OpenHowMode,
    OpenHowResolve, OpenMode, Path, Result, SocketType, Text, TupleIn, TupleOut, Value,
};

/// Builds plans.
#[derive(Clone, Copy)]
struct Build(Plan);

const fn plan() -> Build {
    Build(Plan::EMPTY)
}

impl Build {
    /// The call is about the descriptor in this argument.
    const fn about(mut self, argument: u8) -> Self {
        self.0.descriptor = argument;
        self
    }

    /// The call makes a descriptor.
    const fn makes(mut self) -> Self {
        self.0.descriptor = Plan::RESULT;
        self
    }

    /// These arguments are texts.
    const fn texts<const N: usize>(mut self, arguments: [u8; N]) -> Self {
        let mut at = 0;
        while at < N {
            #[expect(clippy::indexing_slicing, reason = "evaluated when compiling")]
            let _: () = self.0.texts[at] = arguments[at];
            at += 1;
        }
        self
    }

    /// The text at this place is relative to a directory: the one in an argument, or the working directory.
    const fn relative(mut self, text: usize, directory: u8) -> Self {
        #[expect(clippy::indexing_slicing, reason = "evaluated when compiling")]
        let _: () = self.0.directories[text] = directory;
        self
    }

    /// A path, relative to the working directory.
    const fn path(self, argument: u8) -> Self {
        self.texts([argument]).relative(0, Plan::WORKING_DIRECTORY)
    }

    /// A path, relative to the directory in another argument.
    const fn path_at(self, directory: u8, argument: u8) -> Self {
        self.texts([argument]).relative(0, directory)
    }

    /// This argument points to a structure, the next one has its length.
    const fn structure(mut self, argument: u8) -> Self {
        self.0.structure = argument;
        self
    }

    /// It opens a file, with flags in this argument.
    const fn opens(mut self, flags: u8) -> Self {
        self.0.open_flags = flags;
        self.flags(plan_flag::OPENS).makes()
    }

    const fn flags(mut self, flags: u8) -> Self {
        self.0.flags |= flags;
        self
    }
}

const CWD: u8 = Plan::WORKING_DIRECTORY;

macro_rules! calls {
    ($($name:literal => $code:ident, $plan:expr, { $($param:ident: $source:expr),* $(,)? };)*) => {
        /// All of them.
        pub static CALLS: &[CallInfo] = &[$(CallInfo {
            name: $name,
            code: Code::$code,
            plan: $plan.0,
            sources: &[$((stringify!($param), $source)),*],
        }),*];
    };
}

calls! {
    "open" => SYSCALL_OPEN_X, plan().path(0).opens(1),
        { fd: Result, name: Text(0), flags: OpenFlags(1), mode: OpenMode(1, 2), dev: Device, ino: Inode };
    "openat" => SYSCALL_OPENAT_2_X, plan().path_at(0, 1).opens(2),
        { fd: Result, dirfd: Descriptor(0), name: Text(0), flags: OpenFlags(2), mode: OpenMode(2, 3), dev: Device, ino: Inode };
    "openat2" => SYSCALL_OPENAT2_X, plan().path_at(0, 1).structure(2).opens(Plan::ABSENT),
        { fd: Result, dirfd: Descriptor(0), name: Text(0), flags: OpenHow, mode: OpenHowMode, resolve: OpenHowResolve, dev: Device, ino: Inode };
    "creat" => SYSCALL_CREAT_X, plan().path(0).opens(Plan::ABSENT),
        { fd: Result, name: Text(0), mode: Argument(1), dev: Device, ino: Inode, creat_flags: Layers };
    "open_by_handle_at" => SYSCALL_OPEN_BY_HANDLE_AT_X, plan().opens(2),
        { fd: Result, mountfd: Descriptor(0), flags: OpenFlags(2), path: Path, dev: Device, ino: Inode };
    "memfd_create" => SYSCALL_MEMFD_CREATE_X, plan().texts([0]).makes(),
        { fd: Result, name: Text(0), flags: Bits(1, flags::MEMFD) };
    "dup" => SYSCALL_DUP_1_X, plan().about(0), { res: Result, oldfd: Descriptor(0) };
    "dup2" => SYSCALL_DUP2_X, plan().about(0), { res: Result, oldfd: Descriptor(0), newfd: Descriptor(1) };
    "dup3" => SYSCALL_DUP3_X, plan().about(0),
        { res: Result, oldfd: Descriptor(0), newfd: Descriptor(1), flags: Bits(2, flags::OPEN) };

    "link" => SYSCALL_LINK_2_X, plan().texts([0, 1]).relative(0, CWD).relative(1, CWD),
        { res: Result, oldpath: Text(0), newpath: Text(1) };
    "linkat" => SYSCALL_LINKAT_2_X, plan().texts([1, 3]).relative(0, 0).relative(1, 2),
        { res: Result, olddir: Descriptor(0), oldpath: Text(0), newdir: Descriptor(2), newpath: Text(1), flags: Bits(4, flags::AT) };
    "symlink" => SYSCALL_SYMLINK_X, plan().texts([0, 1]).relative(1, CWD),
        { res: Result, target: Text(0), linkpath: Text(1) };
    "symlinkat" => SYSCALL_SYMLINKAT_X, plan().texts([0, 2]).relative(1, 1),
        { res: Result, target: Text(0), linkdirfd: Descriptor(1), linkpath: Text(1) };
    "rename" => SYSCALL_RENAME_X, plan().texts([0, 1]).relative(0, CWD).relative(1, CWD),
        { res: Result, oldpath: Text(0), newpath: Text(1) };
    "renameat" => SYSCALL_RENAMEAT_X, plan().texts([1, 3]).relative(0, 0).relative(1, 2),
        { res: Result, olddirfd: Descriptor(0), oldpath: Text(0), newdirfd: Descriptor(2), newpath: Text(1) };
    "renameat2" => SYSCALL_RENAMEAT2_X, plan().texts([1, 3]).relative(0, 0).relative(1, 2),
        { res: Result, olddirfd: Descriptor(0), oldpath: Text(0), newdirfd: Descriptor(2), newpath: Text(1), flags: Argument(4) };
    "unlink" => SYSCALL_UNLINK_2_X, plan().path(0), { res: Result, path: Text(0) };
    "unlinkat" => SYSCALL_UNLINKAT_2_X, plan().path_at(0, 1),
        { res: Result, dirfd: Descriptor(0), name: Text(0), flags: Bits(2, flags::AT) };
    "mkdir" => SYSCALL_MKDIR_2_X, plan().path(0), { res: Result, path: Text(0), mode: Argument(1) };
    "mkdirat" => SYSCALL_MKDIRAT_X, plan().path_at(0, 1),
        { res: Result, dirfd: Descriptor(0), path: Text(0), mode: Argument(2) };
    "rmdir" => SYSCALL_RMDIR_2_X, plan().path(0), { res: Result, path: Text(0) };
    "mknod" => SYSCALL_MKNOD_X, plan().path(0), { res: Result, path: Text(0), mode: Argument(1), dev: Argument(2) };
    "mknodat" => SYSCALL_MKNODAT_X, plan().path_at(0, 1),
        { res: Result, dirfd: Descriptor(0), path: Text(0), mode: Argument(2), dev: Argument(3) };
    "chmod" => SYSCALL_CHMOD_X, plan().path(0), { res: Result, filename: Text(0), mode: Argument(1) };
    "fchmod" => SYSCALL_FCHMOD_X, plan().about(0), { res: Result, fd: Descriptor(0), mode: Argument(1) };
    "fchmodat" => SYSCALL_FCHMODAT_X, plan().path_at(0, 1),
        { res: Result, dirfd: Descriptor(0), filename: Text(0), mode: Argument(2) };
    "chown" => SYSCALL_CHOWN_X, plan().path(0),
        { res: Result, path: Text(0), uid: Argument(1), gid: Argument(2) };
    "lchown" => SYSCALL_LCHOWN_X, plan().path(0),
        { res: Result, path: Text(0), uid: Argument(1), gid: Argument(2) };
    "fchown" => SYSCALL_FCHOWN_X, plan().about(0),
        { res: Result, fd: Descriptor(0), uid: Argument(1), gid: Argument(2) };
    "fchownat" => SYSCALL_FCHOWNAT_X, plan().path_at(0, 1),
        { res: Result, dirfd: Descriptor(0), pathname: Text(0), uid: Argument(2), gid: Argument(3), flags: Bits(4, flags::AT) };
    "chdir" => SYSCALL_CHDIR_X, plan().path(0), { res: Result, path: Text(0) };
    "fchdir" => SYSCALL_FCHDIR_X, plan().about(0), { res: Result, fd: Descriptor(0) };
    "chroot" => SYSCALL_CHROOT_X, plan().path(0), { res: Result, path: Text(0) };
    "mount" => SYSCALL_MOUNT_X, plan().texts([0, 1, 2]).relative(1, CWD),
        { res: Result, dev: Text(0), dir: Text(1), type: Text(2), flags: Argument(3) };
    "umount2" => SYSCALL_UMOUNT2_X, plan().path(0), { res: Result, name: Text(0), flags: Argument(1) };

    "socket" => SOCKET_SOCKET_X, plan().makes(),
        { fd: Result, domain: Argument(0), type: SocketType(1), proto: Argument(2), flags: Bits(1, flags::OPEN) };
    "bind" => SOCKET_BIND_X, plan().about(0).structure(1), { res: Result, addr: Address, fd: Descriptor(0) };
    "listen" => SOCKET_LISTEN_X, plan().about(0), { res: Result, fd: Descriptor(0), backlog: Argument(1) };
    "connect" => SOCKET_CONNECT_X, plan().about(0).structure(1),
        { res: Result, tuple: TupleOut, fd: Descriptor(0), addr: Address };
    "accept" => SOCKET_ACCEPT_5_X, plan().makes(), { fd: Result, tuple: TupleIn };
    "accept4" => SOCKET_ACCEPT4_6_X, plan().makes(), { fd: Result, tuple: TupleIn, flags: Argument(3) };
    "sendto" => SOCKET_SENDTO_X, plan().about(0).structure(4).flags(plan_flag::DATAGRAM),
        { res: Result, fd: Descriptor(0), size: Argument(2), tuple: TupleOut };
    "sendmsg" => SOCKET_SENDMSG_X, plan().about(0).structure(1).flags(plan_flag::DATAGRAM | plan_flag::MESSAGE),
        { res: Result, fd: Descriptor(0), tuple: TupleOut };
    "recvfrom" => SOCKET_RECVFROM_X, plan().about(0).flags(plan_flag::DATAGRAM),
        { res: Result, fd: Descriptor(0), size: Argument(2), tuple: TupleIn };
    "recvmsg" => SOCKET_RECVMSG_X, plan().about(0).structure(1).flags(plan_flag::DATAGRAM | plan_flag::MESSAGE),
        { res: Result, fd: Descriptor(0), tuple: TupleIn };

    "setuid" => SYSCALL_SETUID_X, plan(), { res: Result, uid: Argument(0) };
    "setgid" => SYSCALL_SETGID_X, plan(), { res: Result, gid: Argument(0) };
    "setreuid" => SYSCALL_SETREUID_X, plan(), { res: Result, ruid: Argument(0), euid: Argument(1) };
    "setregid" => SYSCALL_SETREGID_X, plan(), { res: Result, rgid: Argument(0), egid: Argument(1) };
    "setresuid" => SYSCALL_SETRESUID_X, plan(),
        { res: Result, ruid: Argument(0), euid: Argument(1), suid: Argument(2) };
    "setresgid" => SYSCALL_SETRESGID_X, plan(),
        { res: Result, rgid: Argument(0), egid: Argument(1), sgid: Argument(2) };
    "setns" => SYSCALL_SETNS_X, plan().about(0),
        { res: Result, fd: Descriptor(0), nstype: Bits(1, flags::CLONE) };
    "unshare" => SYSCALL_UNSHARE_X, plan(), { res: Result, flags: Bits(0, flags::CLONE) };
    "prctl" => SYSCALL_PRCTL_X, plan(), { res: Result, option: Argument(0), arg2_int: Argument(1) };
    "ptrace" => SYSCALL_PTRACE_X, plan(),
        { res: Result, addr: Number(2), data: Number(3), request: Value(0, flags::PTRACE), pid: Argument(1) };
    "process_vm_readv" => SYSCALL_PROCESS_VM_READV_X, plan(), { res: Result, pid: Argument(0) };
    "process_vm_writev" => SYSCALL_PROCESS_VM_WRITEV_X, plan(), { res: Result, pid: Argument(0) };
    "kill" => SYSCALL_KILL_X, plan(), { res: Result, pid: Argument(0), sig: Argument(1) };
    "tgkill" => SYSCALL_TGKILL_X, plan(), { res: Result, pid: Argument(0), tid: Argument(1), sig: Argument(2) };
    "setsid" => SYSCALL_SETSID_X, plan(), { res: Result };
    "setpgid" => SYSCALL_SETPGID_X, plan(), { res: Result, pid: Argument(0), pgid: Argument(1) };

    "bpf" => SYSCALL_BPF_2_X, plan(), { fd: Result, cmd: Argument(0) };
    "init_module" => SYSCALL_INIT_MODULE_X, plan().texts([2]),
        { res: Result, length: Argument(1), uargs: Text(0) };
    "finit_module" => SYSCALL_FINIT_MODULE_X, plan().about(0).texts([1]),
        { res: Result, fd: Descriptor(0), uargs: Text(0), flags: Bits(2, flags::MODULE) };
    "delete_module" => SYSCALL_DELETE_MODULE_X, plan().texts([0]),
        { res: Result, name: Text(0), flags: Bits(1, flags::OPEN) };
    "userfaultfd" => SYSCALL_USERFAULTFD_X, plan().makes(), { res: Result, flags: Bits(0, flags::OPEN) };
    "io_uring_setup" => SYSCALL_IO_URING_SETUP_X, plan().makes(), { res: Result, entries: Argument(0) };
    "keyctl" => SYSCALL_KEYCTL_X, plan(), { res: Result, operation: Argument(0) };
    "mmap" => SYSCALL_MMAP_X, plan().about(4).flags(plan_flag::MAPS),
        { res: Result, addr: Argument(0), length: Argument(1), prot: Bits(2, flags::PROT), flags: Bits(3, flags::MAP), fd: Descriptor(4), offset: Argument(5) };
    "mmap2" => SYSCALL_MMAP2_X, plan().about(4).flags(plan_flag::MAPS),
        { res: Result, addr: Argument(0), length: Argument(1), prot: Bits(2, flags::PROT), flags: Bits(3, flags::MAP), fd: Descriptor(4), pgoffset: Argument(5) };
    "mprotect" => SYSCALL_MPROTECT_X, plan().flags(plan_flag::PROTECTS),
        { res: Result, addr: Argument(0), length: Argument(1), prot: Bits(2, flags::PROT) };

    "execve" => SYSCALL_EXECVE_19_X, plan().path(0).flags(plan_flag::FAILED), { res: Result, filename: Text(0) };
    "execveat" => SYSCALL_EXECVEAT_X, plan().path_at(0, 1).flags(plan_flag::FAILED), { res: Result };
}
