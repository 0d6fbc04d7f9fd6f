//! One call of each kind that the sensor tells of. After each a JSON line says which event it must become and what its fields
//! must hold, so that a test compares what was done with what was told and knows neither numbers nor paths itself.
//!
//! `"?"` stands for a value that only the kernel knows.

use std::{
    ffi::{CString, c_void},
    io,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::fd::AsRawFd as _,
};

use super::{call, leave, number, wait};

const AT_FDCWD: i64 = -100;
const O_RDWR_CREAT_EXCL_CLOEXEC: i64 = 0o2_000_302;
const O_DIRECTORY: i64 = 0o200_000;

/// Numbers of the system calls.
mod nr {
    pub(super) const OPEN: i64 = 2;
    pub(super) const CLOSE: i64 = 3;
    pub(super) const DUP: i64 = 32;
    pub(super) const DUP2: i64 = 33;
    pub(super) const SOCKET: i64 = 41;
    pub(super) const CONNECT: i64 = 42;
    pub(super) const ACCEPT: i64 = 43;
    pub(super) const SENDTO: i64 = 44;
    pub(super) const RECVFROM: i64 = 45;
    pub(super) const SENDMSG: i64 = 46;
    pub(super) const RECVMSG: i64 = 47;
    pub(super) const BIND: i64 = 49;
    pub(super) const LISTEN: i64 = 50;
    pub(super) const RENAME: i64 = 82;
    pub(super) const MKDIR: i64 = 83;
    pub(super) const RMDIR: i64 = 84;
    pub(super) const CREAT: i64 = 85;
    pub(super) const LINK: i64 = 86;
    pub(super) const UNLINK: i64 = 87;
    pub(super) const SYMLINK: i64 = 88;
    pub(super) const CHMOD: i64 = 90;
    pub(super) const FCHMOD: i64 = 91;
    pub(super) const CHOWN: i64 = 92;
    pub(super) const FCHOWN: i64 = 93;
    pub(super) const LCHOWN: i64 = 94;
    pub(super) const PTRACE: i64 = 101;
    pub(super) const SETUID: i64 = 105;
    pub(super) const SETGID: i64 = 106;
    pub(super) const SETPGID: i64 = 109;
    pub(super) const SETSID: i64 = 112;
    pub(super) const SETREUID: i64 = 113;
    pub(super) const SETREGID: i64 = 114;
    pub(super) const SETRESUID: i64 = 117;
    pub(super) const SETRESGID: i64 = 119;
    pub(super) const MKNOD: i64 = 133;
    pub(super) const CHROOT: i64 = 161;
    pub(super) const MOUNT: i64 = 165;
    pub(super) const INIT_MODULE: i64 = 175;
    pub(super) const DELETE_MODULE: i64 = 176;
    pub(super) const TGKILL: i64 = 234;
    pub(super) const KEYCTL: i64 = 250;
    pub(super) const OPENAT: i64 = 257;
    pub(super) const MKDIRAT: i64 = 258;
    pub(super) const MKNODAT: i64 = 259;
    pub(super) const FCHOWNAT: i64 = 260;
    pub(super) const UNLINKAT: i64 = 263;
    pub(super) const RENAMEAT: i64 = 264;
    pub(super) const LINKAT: i64 = 265;
    pub(super) const SYMLINKAT: i64 = 266;
    pub(super) const FCHMODAT: i64 = 268;
    pub(super) const UNSHARE: i64 = 272;
    pub(super) const ACCEPT4: i64 = 288;
    pub(super) const DUP3: i64 = 292;
    pub(super) const OPEN_BY_HANDLE_AT: i64 = 304;
    pub(super) const SETNS: i64 = 308;
    pub(super) const PROCESS_VM_READV: i64 = 310;
    pub(super) const PROCESS_VM_WRITEV: i64 = 311;
    pub(super) const FINIT_MODULE: i64 = 313;
    pub(super) const RENAMEAT2: i64 = 316;
    pub(super) const BPF: i64 = 321;
    pub(super) const USERFAULTFD: i64 = 323;
    pub(super) const IO_URING_SETUP: i64 = 425;
    pub(super) const OPENAT2: i64 = 437;
}

/// Makes one call and says what it must be told as. Fields that every event has come first.
fn make(name: &str, number: i64, args: [i64; 6], fields: &[(&str, &str)]) -> i64 {
    let returned = call(number, args);
    say(name, returned, fields);
    returned
}

fn say(name: &str, returned: i64, fields: &[(&str, &str)]) {
    let fields: Vec<_> = fields
        .iter()
        .map(|(field, value)| format!("\"{field}\":\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")))
        .collect();
    println!("{{\"type\":\"{name}\",\"returned\":{returned},\"fields\":{{{}}}}}", fields.join(","));
}

/// A text as an argument. It lives as long as the process.
fn text(text: &str) -> i64 {
    CString::new(text).map_or(0, |text| text.into_raw() as i64)
}

fn pointer<T>(value: &T) -> i64 {
    std::ptr::from_ref(value).cast::<c_void>() as i64
}

/// `struct sockaddr_in` of a port on the loopback.
fn loopback(port: u16) -> [u8; 16] {
    let mut address = [0; 16];
    address[..2].copy_from_slice(&2_u16.to_le_bytes());
    address[2..4].copy_from_slice(&port.to_be_bytes());
    address[4..8].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
    address
}

/// All of them, with names below `directory`.
pub(super) fn make_all(directory: &str) -> io::Result<()> {
    std::env::set_current_dir(directory)?;
    let here = |name: &str| format!("{directory}/{name}");
    files(directory, &here);
    names(directory, &here);
    sockets(&here)?;
    identities();
    kernel();
    compat(directory, &here);
    Ok(())
}

fn files(directory: &str, here: &impl Fn(&str) -> String) {
    let made = [
        ("fd.name", &*here("a")),
        ("fd.nameraw", "a"),
        ("fd.typechar", "f"),
        ("evt.is_open_write", "true"),
        ("evt.is_open_read", "true"),
        ("evt.arg.mode", "0640"),
        ("evt.arg.flags", "O_EXCL|O_CREAT|O_RDWR|O_CLOEXEC|O_F_CREATED"),
    ];
    let fd = make("open", nr::OPEN, [text("a"), O_RDWR_CREAT_EXCL_CLOEXEC, 0o640, 0, 0, 0], &made);
    let read = [("fd.name", &*here("a")), ("fd.nameraw", &*here("./a")), ("evt.is_open_write", "false")];
    make("openat", nr::OPENAT, [AT_FDCWD, text(&here("./a")), 0, 0, 0, 0], &read);
    let dirfd = call(nr::OPENAT, [AT_FDCWD, text(directory), O_DIRECTORY, 0, 0, 0]);
    let opened = [("fd.name", directory), ("fd.typechar", "d"), ("fd.type", "directory")];
    say("openat", dirfd, &opened);
    make("openat", nr::OPENAT, [dirfd, text("a"), 1, 0, 0, 0], &[("fd.name", &here("a")), ("fd.nameraw", "a")]);
    let missing = [("fd.name", &*here("none")), ("evt.res", "ENOENT"), ("fd.num", "-1")];
    make("openat", nr::OPENAT, [dirfd, text("none"), 0, 0, 0, 0], &missing);
    let how = [0_u64, 0, 8];
    let beneath = [("fd.name", &*here("a")), ("evt.arg.resolve", "RESOLVE_BENEATH"), ("evt.is_open_read", "true")];
    make("openat2", nr::OPENAT2, [dirfd, text("a"), pointer(&how), 24, 0, 0], &beneath);
    let created = [("fd.name", &*here("created")), ("fd.nameraw", "created")];
    make("creat", nr::CREAT, [text("created"), 0o600, 0, 0, 0, 0], &created);
    make("open_by_handle_at", nr::OPEN_BY_HANDLE_AT, [AT_FDCWD, 0, 0, 0, 0, 0], &[("evt.res", "EFAULT")]);
    let memory = [("evt.arg.name", "twin"), ("evt.arg.flags", "MFD_CLOEXEC"), ("fd.type", "memfd")];
    make("memfd_create", number::MEMFD_CREATE, [text("twin"), 1, 0, 0, 0, 0], &memory);
    let same = [("fd.name", &*here("a")), ("fd.typechar", "f")];
    let copy = make("dup", nr::DUP, [fd, 0, 0, 0, 0, 0], &same);
    make("dup2", nr::DUP2, [fd, 100, 0, 0, 0, 0], &[("fd.num", "100"), ("fd.name", &here("a"))]);
    make("dup3", nr::DUP3, [fd, 101, 0o2_000_000, 0, 0, 0], &[("fd.num", "101"), ("fd.name", &here("a"))]);
    make("fchmod", nr::FCHMOD, [fd, 0o4755, 0, 0, 0, 0], &[("fd.name", &here("a")), ("fd.typechar", "f")]);
    make("fchown", nr::FCHOWN, [fd, 0, 0, 0, 0, 0], &[("fd.name", &here("a")), ("evt.arg.uid", "0")]);
    for number in [fd, copy, dirfd, 100, 101] {
        call(nr::CLOSE, [number, 0, 0, 0, 0, 0]);
    }
}

fn names(directory: &str, here: &impl Fn(&str) -> String) {
    let at = call(nr::OPENAT, [AT_FDCWD, text(directory), O_DIRECTORY, 0, 0, 0]);
    say("openat", at, &[("fd.name", directory)]);
    let (a, b) = (text("a"), text("b"));
    let both = |from: &str, to: &str| (here(from), here(to));
    let (from, to) = both("a", "b");
    let paths = [("fs.path.source", &*from), ("fs.path.target", &*to)];
    // Falco calls the new name of a link its source.
    let linked = [("fs.path.source", &*to), ("fs.path.target", &*from)];
    make("link", nr::LINK, [a, b, 0, 0, 0, 0], &linked);
    make("unlink", nr::UNLINK, [b, 0, 0, 0, 0, 0], &[("fs.path.name", &to), ("evt.arg.path", "?")]);
    make("linkat", nr::LINKAT, [at, a, at, b, 0, 0], &linked);
    make("unlinkat", nr::UNLINKAT, [at, b, 0, 0, 0, 0], &[("fs.path.name", &to)]);
    make("symlink", nr::SYMLINK, [a, b, 0, 0, 0, 0], &[("evt.arg.target", "a"), ("fs.path.target", "?")]);
    call(nr::UNLINK, [b, 0, 0, 0, 0, 0]);
    say("unlink", 0, &[("fs.path.name", &to)]);
    make("symlinkat", nr::SYMLINKAT, [a, at, b, 0, 0, 0], &[("evt.arg.target", "a")]);
    make("unlink", nr::UNLINK, [b, 0, 0, 0, 0, 0], &[("fs.path.name", &to)]);
    make("rename", nr::RENAME, [a, b, 0, 0, 0, 0], &paths);
    let (to, from) = both("b", "a");
    let back = [("fs.path.source", &*to), ("fs.path.target", &*from)];
    make("renameat", nr::RENAMEAT, [at, b, AT_FDCWD, a, 0, 0], &back);
    let flags = [("fs.path.source", &*from), ("fs.path.target", &*to), ("evt.arg.flags", "RENAME_NOREPLACE")];
    make("renameat2", nr::RENAMEAT2, [at, a, at, b, 1, 0], &flags);
    let sub = here("sub");
    make("mkdir", nr::MKDIR, [text("sub"), 0o700, 0, 0, 0, 0], &[("fs.path.name", &sub)]);
    make("rmdir", nr::RMDIR, [text("sub"), 0, 0, 0, 0, 0], &[("fs.path.name", &sub)]);
    make("mkdirat", nr::MKDIRAT, [at, text("sub"), 0o700, 0, 0, 0], &[("fs.path.name", &sub)]);
    let removed = [("fs.path.name", &*sub), ("evt.arg.flags", "AT_REMOVEDIR")];
    make("unlinkat", nr::UNLINKAT, [at, text("sub"), 0x200, 0, 0, 0], &removed);
    make("chmod", nr::CHMOD, [b, 0o4711, 0, 0, 0, 0], &[("fs.path.name", &to), ("evt.arg.mode", "?")]);
    make("fchmodat", nr::FCHMODAT, [at, b, 0o600, 0, 0, 0], &[("fs.path.name", &to)]);
    make("chown", nr::CHOWN, [b, 0, 0, 0, 0, 0], &[("evt.arg.uid", "0")]);
    make("lchown", nr::LCHOWN, [b, 0, 0, 0, 0, 0], &[("evt.arg.gid", "0")]);
    make("fchownat", nr::FCHOWNAT, [at, b, 0, 0, 0x100, 0], &[("evt.arg.flags", "AT_SYMLINK_NOFOLLOW")]);
    make("mknod", nr::MKNOD, [text("pipe"), 0o10_600, 0, 0, 0, 0], &[("evt.arg.path", "?")]);
    make("mknodat", nr::MKNODAT, [at, text("pipe2"), 0o10_600, 0, 0, 0], &[("evt.arg.path", "?")]);
}

fn sockets(here: &impl Fn(&str) -> String) -> io::Result<()> {
    let stream = [("fd.type", "ipv4"), ("evt.arg.domain", "AF_INET")];
    let server = make("socket", nr::SOCKET, [2, 1, 0, 0, 0, 0], &stream);
    make("bind", nr::BIND, [server, pointer(&loopback(0)), 16, 0, 0, 0], &[("evt.arg.addr", "127.0.0.1:0")]);
    make("listen", nr::LISTEN, [server, 5, 0, 0, 0, 0], &[("evt.arg.backlog", "5"), ("fd.type", "ipv4")]);
    // A listener whose port is known, for connections to have an address that can be named here.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    for event in ["socket", "bind", "listen"] {
        say(event, 0, &[("evt.rawres", "?")]);
    }
    let (port, listening) = (listener.local_addr()?.port(), i64::from(listener.as_raw_fd()));
    let (address, wanted) = (loopback(port), port.to_string());
    for accept in [("accept", nr::ACCEPT), ("accept4", nr::ACCEPT4)] {
        let client = make("socket", nr::SOCKET, [2, 1, 0, 0, 0, 0], &stream);
        let ends = [("fd.sip", "127.0.0.1"), ("fd.sport", &*wanted), ("fd.l4proto", "tcp"), ("fd.cip", "127.0.0.1")];
        make("connect", nr::CONNECT, [client, pointer(&address), 16, 0, 0, 0], &ends);
        make(accept.0, accept.1, [listening, 0, 0, 0, 0, 0], &ends);
    }
    let datagrams = UdpSocket::bind("127.0.0.1:0")?;
    for event in ["socket", "bind"] {
        say(event, 0, &[("evt.rawres", "?")]);
    }
    let (port, receiver) = (datagrams.local_addr()?.port(), i64::from(datagrams.as_raw_fd()));
    let (address, wanted) = (loopback(port), port.to_string());
    let sender = make("socket", nr::SOCKET, [2, 2, 0, 0, 0, 0], &stream);
    let sent = [("fd.sip", "127.0.0.1"), ("fd.sport", &*wanted), ("fd.l4proto", "udp"), ("fd.name_changed", "true")];
    make("sendto", nr::SENDTO, [sender, text("x"), 1, 0, pointer(&address), 16], &sent);
    let again = [("fd.sport", &*wanted), ("fd.name_changed", "false")];
    let vector = [text("y"), 1];
    let message = [pointer(&address), 16, pointer(&vector), 1, 0, 0, 0];
    make("sendmsg", nr::SENDMSG, [sender, pointer(&message), 0, 0, 0, 0], &again);
    let mut room = [0_u8; 16];
    make("recvfrom", nr::RECVFROM, [receiver, room.as_mut_ptr() as i64, 16, 0, 0, 0], &[("fd.l4proto", "udp")]);
    let vector = [room.as_mut_ptr() as i64, 16];
    let message = [0, 0, pointer(&vector), 1, 0, 0, 0];
    make("recvmsg", nr::RECVMSG, [receiver, pointer(&message), 0, 0, 0, 0], &[("fd.l4proto", "udp")]);
    let refused = make("socket", nr::SOCKET, [2, 1, 0, 0, 0, 0], &stream);
    let nobody = [("evt.res", "ECONNREFUSED"), ("evt.arg.addr", "127.0.0.1:1")];
    make("connect", nr::CONNECT, [refused, pointer(&loopback(1)), 16, 0, 0, 0], &nobody);
    let local = make("socket", nr::SOCKET, [1, 1, 0, 0, 0, 0], &[("fd.type", "unix")]);
    let path = here("none.sock");
    let name = [&1_u16.to_le_bytes()[..], path.as_bytes(), &[0]].concat();
    let absent = [("evt.res", "ENOENT"), ("evt.arg.addr", &*path)];
    let len = i64::try_from(name.len()).unwrap_or(0);
    make("connect", nr::CONNECT, [local, name.as_ptr() as i64, len, 0, 0, 0], &absent);
    let packets = make("socket", nr::SOCKET, [17, 3, 0, 0, 0, 0], &[("evt.arg.domain", "AF_PACKET")]);
    call(nr::CLOSE, [packets, 0, 0, 0, 0, 0]);
    Ok(())
}

/// A call: its event, its number, its arguments, and what the event's fields must hold.
type Called<'a> = (&'a str, i64, [i64; 6], &'a [(&'a str, &'a str)]);

/// Calls that change who a process is: each in a child of its own.
fn identities() {
    let calls: [Called<'_>; 10] = [
        ("setuid", nr::SETUID, [1234, 0, 0, 0, 0, 0], &[("evt.rawarg.uid", "1234"), ("user.uid", "1234")]),
        ("setgid", nr::SETGID, [1234, 0, 0, 0, 0, 0], &[("evt.rawarg.gid", "1234")]),
        ("setreuid", nr::SETREUID, [7, 8, 0, 0, 0, 0], &[("evt.rawarg.ruid", "7"), ("evt.rawarg.euid", "8")]),
        ("setregid", nr::SETREGID, [7, 8, 0, 0, 0, 0], &[("evt.rawarg.rgid", "7"), ("evt.rawarg.egid", "8")]),
        ("setresuid", nr::SETRESUID, [7, 8, 9, 0, 0, 0], &[("evt.rawarg.suid", "9"), ("user.uid", "8")]),
        ("setresgid", nr::SETRESGID, [7, 8, 9, 0, 0, 0], &[("evt.rawarg.sgid", "9")]),
        ("setsid", nr::SETSID, [0; 6], &[("evt.rawres", "?")]),
        ("setpgid", nr::SETPGID, [0, 0, 0, 0, 0, 0], &[("evt.arg.pgid", "?")]),
        ("unshare", nr::UNSHARE, [0x0400_0000, 0, 0, 0, 0, 0], &[("evt.arg.flags", "CLONE_NEWUTS")]),
        ("chroot", nr::CHROOT, [text("."), 0, 0, 0, 0, 0], &[("evt.arg.path", "?")]),
    ];
    for (name, number, args, fields) in calls {
        let child = call(number::CLONE, [17, 0, 0, 0, 0, 0]);
        if child == 0 {
            let returned = call(number, args);
            leave(i64::from(returned < 0));
        }
        let status = wait(child, 0);
        say(name, if status == 0 { 0 } else { -1 }, fields);
    }
}

/// What is asked of the kernel itself. All of it fails, or does no harm.
fn kernel() {
    make(
        "setns",
        nr::SETNS,
        [-1, 0x4000_0000, 0, 0, 0, 0],
        &[("evt.arg.nstype", "CLONE_NEWNET"), ("evt.res", "EBADF")],
    );
    make(
        "ptrace",
        nr::PTRACE,
        [16, 0x7fff_fff0, 0, 0, 0, 0],
        &[("evt.arg.request", "PTRACE_ATTACH"), ("evt.res", "ESRCH")],
    );
    make("process_vm_readv", nr::PROCESS_VM_READV, [0x7fff_fff0, 0, 0, 0, 0, 0], &[("evt.rawres", "?")]);
    make("process_vm_writev", nr::PROCESS_VM_WRITEV, [0x7fff_fff0, 0, 0, 0, 0, 0], &[("evt.rawres", "?")]);
    make("kill", number::KILL, [0x7fff_fff0, 0, 0, 0, 0, 0], &[("evt.res", "ESRCH")]);
    make("tgkill", nr::TGKILL, [0x7fff_fff0, 0x7fff_fff0, 0, 0, 0, 0], &[("evt.res", "ESRCH")]);
    let mount = [text("none"), text("missing"), text("tmpfs"), 1, 0, 0];
    let mounted = [("evt.arg.dev", "none"), ("evt.arg.type", "tmpfs"), ("evt.arg.dir", "?"), ("evt.res", "ENOENT")];
    make("mount", nr::MOUNT, mount, &mounted);
    make("umount2", number::UMOUNT2, [text("missing"), 2, 0, 0, 0, 0], &[("evt.arg.flags", "DETACH")]);
    make("bpf", nr::BPF, [17, 0, 0, 0, 0, 0], &[("evt.arg.cmd", "BPF_RAW_TRACEPOINT_OPEN"), ("evt.failed", "true")]);
    make("init_module", nr::INIT_MODULE, [0, 0, text("option=1"), 0, 0, 0], &[("evt.arg.uargs", "option=1")]);
    make("finit_module", nr::FINIT_MODULE, [-1, text("option=2"), 2, 0, 0, 0], &[("evt.arg.uargs", "option=2")]);
    make(
        "delete_module",
        nr::DELETE_MODULE,
        [text("no_such_module"), 0, 0, 0, 0, 0],
        &[("evt.arg.name", "no_such_module")],
    );
    make("userfaultfd", nr::USERFAULTFD, [-1, 0, 0, 0, 0, 0], &[("evt.res", "EINVAL")]);
    make("io_uring_setup", nr::IO_URING_SETUP, [8, 0, 0, 0, 0, 0], &[("evt.arg.entries", "8"), ("evt.failed", "true")]);
    make("keyctl", nr::KEYCTL, [11, -1, 0, 0, 0, 0], &[("evt.arg.operation", "KEYCTL_READ")]);
    make("prctl", number::PRCTL, [38, 0, 0, 0, 0, 0], &[("evt.arg.option", "PR_SET_NO_NEW_PRIVS")]);
    make("personality", number::PERSONALITY, [0xffff_ffff, 0, 0, 0, 0, 0], &[("syscall.type", "personality")]);
    let execve = [text("missing"), 0, 0, 0, 0, 0];
    make("execve", number::EXECVE, execve, &[("evt.res", "ENOENT"), ("evt.arg.filename", "?")]);
    make("execveat", number::EXECVEAT, [AT_FDCWD, text("missing"), 0, 0, 0, 0], &[("evt.res", "ENOENT")]);
}

/// Calls of the 32-bit table, which become the same events as those of the 64-bit one.
fn compat(directory: &str, here: &impl Fn(&str) -> String) {
    const MAP_PRIVATE_ANONYMOUS_32BIT: i64 = 0x62;
    // Such a call takes pointers of 32 bits alone: texts go to the lower end of memory.
    let low = call(9, [0, 4096, 3, MAP_PRIVATE_ANONYMOUS_32BIT, -1, 0]);
    if low < 0 {
        return;
    }
    let mut next = low;
    let mut low_text = |text: &str| {
        let place = next;
        let len = i64::try_from(text.len()).unwrap_or(0);
        // SAFETY: the page is this function's alone, and the few short texts fit it.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr(), place as *mut u8, text.len());
            *((place + len) as *mut u8) = 0;
        }
        next += len + 1;
        place
    };
    let sub = here("compat");
    let make = |name: &str, number: i32, args: [i64; 4], fields: &[(&str, &str)]| {
        let returned = int80(number, args);
        say(name, returned, fields);
        returned
    };
    make("mkdir", 39, [low_text("compat"), 0o700, 0, 0], &[("fs.path.name", &sub)]);
    make("rmdir", 40, [low_text("compat"), 0, 0, 0], &[("fs.path.name", &sub)]);
    let at = [AT_FDCWD, low_text(directory), O_DIRECTORY, 0];
    make("openat", 295, at, &[("fd.name", directory), ("fd.typechar", "d")]);
    make("open", 5, [low_text("missing"), 0, 0, 0], &[("fd.name", &here("missing")), ("evt.res", "ENOENT")]);
    make("unlink", 10, [low_text("missing"), 0, 0, 0], &[("evt.res", "ENOENT"), ("evt.arg.path", "?")]);
    let renamed = [("evt.arg.oldpath", "?"), ("evt.arg.newpath", "?"), ("evt.res", "ENOENT")];
    make("rename", 38, [low_text("missing"), low_text("gone"), 0, 0], &renamed);
    make("socket", 359, [2, 1, 0, 0], &[("fd.type", "ipv4"), ("evt.arg.domain", "AF_INET")]);
}

/// A call of the 32-bit table.
fn int80(number: i32, [first, second, third, fourth]: [i64; 4]) -> i64 {
    let mut returned = i64::from(number);
    // SAFETY: rbx, which asm operands cannot name, is saved and restored; the caller's pointers lead to live memory.
    unsafe {
        std::arch::asm!(
            "push rbx", "mov rbx, {first}", "int 0x80", "pop rbx",
            first = in(reg) first, inlateout("rax") returned, in("rcx") second, in("rdx") third, in("rsi") fourth,
            in("rdi") 0, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    #[expect(clippy::cast_possible_truncation, reason = "the upper half of the register means nothing")]
    let returned = returned as i32;
    i64::from(returned)
}
