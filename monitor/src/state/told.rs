//! System calls as the sensor tells them. What a capture's reader has to have kept from earlier events, the kernel says with
//! each: the file or socket behind the descriptor, the directories that paths are relative to. It becomes what is known, and
//! then the call is taken in as one of a capture.

use std::net::IpAddr;

use monitor_ebpf::record::{FileFacts, Header, SocketFacts, file_flag};

use super::{
    State,
    descriptor::{Descriptor, Kind, flag},
    socket::Transport,
    thread::ThreadKey,
};
use crate::{
    event::{
        address::{Ends, SocketTuple},
        call::{Call, Told},
        path::RawPath,
    },
    syscall::tell,
};

/// `AT_FDCWD`
const WORKING_DIRECTORY: i64 = -100;
/// `FMODE_WRITE` of `struct file`.
const FMODE_WRITE: u32 = 2;
/// `TMPFS_MAGIC`
const TMPFS_MAGIC: u32 = 0x0102_1994;

/// File types: `include/uapi/linux/stat.h`.
mod file_type {
    pub(super) const MASK: u32 = 0o170_000;
    pub(super) const SOCKET: u32 = 0o140_000;
    pub(super) const REGULAR: u32 = 0o100_000;
    pub(super) const BLOCK: u32 = 0o060_000;
    pub(super) const DIRECTORY: u32 = 0o040_000;
    pub(super) const CHARACTER: u32 = 0o020_000;
    pub(super) const FIFO: u32 = 0o010_000;
}

impl State {
    /// Takes in a call of the sensor's.
    pub(super) fn told_call(&mut self, header: &Header, call: &Call<'_>, told: &Told<'_>) {
        let key = ThreadKey::of(header);
        let syscall = told.syscall;
        if self.known(header, &syscall.record.comm).is_none() {
            return;
        }
        for (directory, fd) in syscall.directories.iter().zip(told.directories) {
            if let Some(path) = directory {
                self.see_directory(key, fd, *path);
            }
        }
        let fd = i64::from(syscall.record.fd);
        let has_file = fd >= 0 && syscall.record.file != FileFacts::NONE;
        if has_file && !told.makes_descriptor {
            self.see(key, fd, call, told);
        }
        self.call(key, call);
        if has_file && told.makes_descriptor {
            self.made(key, fd, told);
        }
        self.note_writer(header, key, told);
        self.subject.is_script = self.opens_script(key, told);
    }

    /// A directory that a path is relative to.
    fn see_directory(&mut self, key: ThreadKey, fd: i64, path: RawPath<'_>) {
        let Some(process) = self.threads.get_mut(key) else { return };
        let mut name = path.to_directory();
        if fd == WORKING_DIRECTORY {
            if !name.ends_with(b"/") {
                name.push(b'/');
            }
            process.cwd = name;
        } else {
            process.descriptors.insert(fd, Descriptor { name, ..Descriptor::new(Kind::DIRECTORY) }.into());
        }
    }

    /// A descriptor that the call is about. One that is known keeps what is known of it, who began a connection, say, unless
    /// its socket talks to somebody else now.
    fn see(&mut self, key: ThreadKey, fd: i64, call: &Call<'_>, told: &Told<'_>) {
        let Some(process) = self.threads.get_mut(key) else { return };
        let file = &told.syscall.record.file;
        let tuple = call.info.position("tuple").and_then(|index| SocketTuple::parse(call.params.get(index)?));
        let is_known = process.descriptors.get(fd).is_some_and(|known| {
            (known.dev, known.ino) == (tell::device(file.dev), file.ino)
                && tuple.is_none_or(|tuple| is_between(known, tuple))
        });
        if !is_known {
            process.descriptors.insert(fd, seen(told).into());
        }
    }

    /// A descriptor that the call made: the kernel's path counts more than the caller's, through which links may lead.
    fn made(&mut self, key: ThreadKey, fd: i64, told: &Told<'_>) {
        let file = &told.syscall.record.file;
        let Some(process) = self.threads.get_mut(key) else { return };
        let Some(descriptor) = process.descriptors.get_mut(fd) else {
            process.descriptors.insert(fd, seen(told).into());
            self.subject.descriptor = Some((key, fd));
            return;
        };
        (descriptor.dev, descriptor.ino) = (tell::device(file.dev), file.ino);
        if descriptor.kind.is_file() || descriptor.kind == Kind::DIRECTORY {
            let given = descriptor.name_raw().to_vec();
            descriptor.kind = kind(file, told);
            descriptor.name = told.syscall.path.to_directory();
            descriptor.set_name_raw(&given);
        }
    }

    /// Remembers who opened a file for writing that may become a program which its container's image does not have.
    fn note_writer(&mut self, header: &Header, key: ThreadKey, told: &Told<'_>) {
        let record = &told.syscall.record;
        let is_on_watched = record.file.flags & file_flag::OVERLAY != 0 || record.file.fs_magic == TMPFS_MAGIC;
        if told.makes_descriptor
            && record.open_mode & FMODE_WRITE != 0
            && record.file.mode & file_type::MASK == file_type::REGULAR
            && is_on_watched
            && let Some(process) = self.threads.get(key)
        {
            self.writers.insert(header.ktime_ns, &self.threads, process, told.syscall);
        }
    }
}

/// Whether a socket is that of a connection, or of none yet.
fn is_between(descriptor: &Descriptor, tuple: SocketTuple<'_>) -> bool {
    let ends: Ends<IpAddr> = match tuple {
        SocketTuple::Inet(ends) => ends.map(Into::into),
        SocketTuple::Inet6(ends) => ends.mapped().map_or_else(|| ends.map(Into::into), |mapped| mapped.map(Into::into)),
        _ => return true,
    };
    let Some(known) = descriptor.ends().filter(|known| known.destination_port != 0) else { return true };
    let peer = |ends: Ends<IpAddr>| (ends.destination, ends.destination_port);
    peer(known) == peer(ends) || peer(known) == peer(ends.swapped())
}

/// A descriptor as the kernel shows it.
fn seen(told: &Told<'_>) -> Descriptor {
    let (syscall, file) = (told.syscall, &told.syscall.record.file);
    let mut descriptor = Descriptor { dev: tell::device(file.dev), ino: file.ino, ..Descriptor::new(kind(file, told)) };
    match &syscall.socket {
        Some(socket) => show_socket(&mut descriptor, socket),
        None if descriptor.kind == Kind::DIRECTORY => descriptor.name = syscall.path.to_directory(),
        None => descriptor.name = syscall.path.to_absolute(),
    }
    if file.flags & file_flag::OVERLAY != 0 {
        let is_upper = file.flags & file_flag::OVERLAY_UPPER != 0;
        descriptor.flags |= if is_upper { flag::UPPER } else { flag::LOWER };
    }
    descriptor
}

/// Protocol and, of a connection, both ends. Who began it is not known.
fn show_socket(descriptor: &mut Descriptor, socket: &SocketFacts) {
    let transport = match (u32::from(socket.protocol), socket.ty) {
        (number::TCP, _) => Transport::TCP,
        (number::UDP, _) => Transport::UDP,
        (number::ICMP, _) => Transport::ICMP,
        (_, number::SOCK_RAW) => Transport::RAW,
        _ => Transport::UNKNOWN,
    };
    descriptor.socket.set_transport(descriptor.kind, transport);
}

/// Protocols and types of sockets: `include/uapi/linux/in.h`, `include/linux/net.h`.
mod number {
    pub(super) const ICMP: u32 = 1;
    pub(super) const TCP: u32 = 6;
    pub(super) const UDP: u32 = 17;
    pub(super) const SOCK_RAW: u16 = 3;
    pub(super) const AF_UNIX: u16 = 1;
    pub(super) const AF_INET: u16 = 2;
    pub(super) const AF_INET6: u16 = 10;
    pub(super) const AF_NETLINK: u16 = 16;
}

/// Names that the kernel has for objects without a file system (`anon_inode_getfd`), and what they are.
const ANONYMOUS: &[(&[u8], Kind)] = &[
    (b"[eventfd]", Kind::EVENT),
    (b"[eventpoll]", Kind::EVENT_POLL),
    (b"[signalfd]", Kind::SIGNAL),
    (b"[timerfd]", Kind::TIMER),
    (b"inotify", Kind::INOTIFY),
    (b"[userfaultfd]", Kind::USERFAULT),
    (b"[io_uring]", Kind::IO_URING),
    (b"[pidfd]", Kind::PIDFD),
    (b"bpf-", Kind::BPF),
];

/// What a file is.
fn kind(file: &FileFacts, told: &Told<'_>) -> Kind {
    match file.mode & file_type::MASK {
        _ if file.flags & file_flag::MEMFD != 0 => Kind::MEMFD,
        file_type::REGULAR | file_type::BLOCK | file_type::CHARACTER => Kind::FILE_V2,
        file_type::DIRECTORY => Kind::DIRECTORY,
        file_type::FIFO => Kind::PIPE,
        file_type::SOCKET => match told.syscall.socket.map(|socket| socket.family) {
            Some(number::AF_UNIX) => Kind::UNIX,
            Some(number::AF_INET) => Kind::IPV4,
            Some(number::AF_INET6) => Kind::IPV6,
            Some(number::AF_NETLINK) => Kind::NETLINK,
            _ => Kind::UNKNOWN,
        },
        _ => {
            let name = told.syscall.path.to_absolute();
            let name = name.strip_prefix(b"/anon_inode:").or(name.strip_prefix(b"/")).unwrap_or(&name);
            ANONYMOUS.iter().find(|(prefix, _)| name.starts_with(prefix)).map_or(Kind::UNKNOWN, |(_, kind)| *kind)
        }
    }
}
