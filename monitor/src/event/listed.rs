//! What a capture lists before its events: the machine, and the threads, descriptors, interfaces, users and groups that were
//! there when it began.
//!
//! Strings are as the capture has them. What its version does not have is at the default that each field names.

use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine<'a> {
    /// Processors.
    pub num_cpus: u32,
    /// Memory.
    pub memory_bytes: u64,
    /// Highest process id.
    pub max_pid: u64,
    /// Its name.
    pub hostname: &'a [u8],
    /// When it was started, in nanoseconds since 1970; 0: not known.
    pub boot_ts_epoch_ns: u64,
    /// What the recorder says of itself.
    pub flags: u64,
}

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "four facts that have nothing to do with each other")]
pub struct Thread<'a> {
    /// Its id in the initial pid namespace.
    pub tid: i64,
    /// Its process: the id of its main thread.
    pub pid: i64,
    /// Its parent process.
    pub ptid: i64,
    /// Session; default -1.
    pub sid: i64,
    /// Process group in its own pid namespace; default -1.
    pub vpgid: i64,
    /// Process group; default -1.
    pub pgid: i64,
    /// Command name.
    pub comm: &'a [u8],
    /// First argument.
    pub exe: &'a [u8],
    /// Path of the program.
    pub exepath: &'a [u8],
    /// Further arguments, separated by NUL.
    pub args: &'a [u8],
    /// Working directory.
    pub cwd: &'a [u8],
    /// How many descriptors it may have.
    pub fdlimit: i64,
    /// `PPM_CL_*` bits.
    pub flags: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Memory that it maps.
    pub vmsize_kb: u32,
    /// Memory that it uses.
    pub vmrss_kb: u32,
    /// Memory of it that is swapped out.
    pub vmswap_kb: u32,
    /// Page faults that read from a disk.
    pub pfmajor: u64,
    /// Other page faults.
    pub pfminor: u64,
    /// Environment, separated by NUL.
    pub env: &'a [u8],
    /// Its id in its own pid namespace; default -1.
    pub vtid: i64,
    /// Its process in its own pid namespace; default -1.
    pub vpid: i64,
    /// Control groups as `subsystem=path`, separated by NUL.
    pub cgroups: &'a [u8],
    /// Root directory.
    pub root: &'a [u8],
    /// When its pid namespace began, in nanoseconds since the machine did.
    pub pidns_init_start_ns: u64,
    /// Terminal.
    pub tty: u32,
    /// User that logged in; default all ones: none.
    pub loginuid: u32,
    /// Whether it may write to its program's file.
    pub exe_writable: bool,
    /// Capabilities that a program it runs keeps.
    pub cap_inheritable: u64,
    /// Capabilities that it may make effective.
    pub cap_permitted: u64,
    /// Capabilities in effect.
    pub cap_effective: u64,
    /// Whether its program is in the upper layer of an overlay.
    pub exe_upper_layer: bool,
    /// Whether its program is in the lower layer of an overlay.
    pub exe_lower_layer: bool,
    /// Whether its program is a memory file.
    pub exe_from_memfd: bool,
    /// Inode number of its program.
    pub exe_ino: u64,
    /// When the program's inode changed, in nanoseconds since 1970.
    pub exe_ino_ctime_ns: u64,
    /// When the program's data changed, in nanoseconds since 1970.
    pub exe_ino_mtime_ns: u64,
}

impl Default for Thread<'_> {
    fn default() -> Self {
        Self {
            tid: 0,
            pid: 0,
            ptid: 0,
            sid: -1,
            vpgid: -1,
            pgid: -1,
            comm: b"",
            exe: b"",
            exepath: b"",
            args: b"",
            cwd: b"",
            fdlimit: 0,
            flags: 0,
            uid: 0,
            gid: 0,
            vmsize_kb: 0,
            vmrss_kb: 0,
            vmswap_kb: 0,
            pfmajor: 0,
            pfminor: 0,
            env: b"",
            vtid: -1,
            vpid: -1,
            cgroups: b"",
            root: b"",
            pidns_init_start_ns: 0,
            tty: 0,
            loginuid: u32::MAX,
            exe_writable: false,
            cap_inheritable: 0,
            cap_permitted: 0,
            cap_effective: 0,
            exe_upper_layer: false,
            exe_lower_layer: false,
            exe_from_memfd: false,
            exe_ino: 0,
            exe_ino_ctime_ns: 0,
            exe_ino_mtime_ns: 0,
        }
    }
}

/// A descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor<'a> {
    /// The thread that has it.
    pub tid: i64,
    /// Its number.
    pub fd: i64,
    /// Inode number.
    pub ino: u64,
    /// What it is.
    pub kind: DescriptorKind<'a>,
}

/// What a descriptor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DescriptorKind<'a> {
    /// An IPv4 socket with both its ends.
    Ipv4 {
        /// This end.
        source: SocketAddrV4,
        /// The other end.
        destination: SocketAddrV4,
        /// Protocol: see [`l4proto`].
        l4proto: u8,
    },
    /// An IPv6 socket with both its ends.
    Ipv6 {
        /// This end.
        source: SocketAddrV6,
        /// The other end.
        destination: SocketAddrV6,
        /// Protocol: see [`l4proto`].
        l4proto: u8,
    },
    /// An IPv4 socket that waits for connections.
    Ipv4Listen {
        /// Its end.
        address: SocketAddrV4,
        /// Protocol: see [`l4proto`].
        l4proto: u8,
    },
    /// An IPv6 socket that waits for connections.
    Ipv6Listen {
        /// Its end.
        address: SocketAddrV6,
        /// Protocol: see [`l4proto`].
        l4proto: u8,
    },
    /// A Unix socket.
    Unix {
        /// Address of this end in the kernel.
        source: u64,
        /// Address of the other end in the kernel.
        destination: u64,
        /// Its path.
        name: &'a [u8],
    },
    /// A file.
    File {
        /// `PPM_O_*` bits.
        open_flags: u32,
        /// Its path.
        name: &'a [u8],
        /// Its device; 0: not known.
        dev: u32,
    },
    /// Something else that has a name.
    Other {
        /// What.
        ty: FdType,
        /// Its name.
        name: &'a [u8],
    },
}

/// Protocols of sockets, as captures number them.
pub mod l4proto {
    /// Not known.
    pub const UNKNOWN: u8 = 0;
    /// None.
    pub const NONE: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 2;
    /// UDP.
    pub const UDP: u8 = 3;
    /// ICMP.
    pub const ICMP: u8 = 4;
    /// Raw IP.
    pub const RAW: u8 = 5;
}

/// Type of a descriptor, as captures number them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FdType(pub u8);

impl FdType {
    /// A file, without its flags: captures of long ago.
    pub const FILE: Self = Self(1);
    /// A directory.
    pub const DIRECTORY: Self = Self(2);
    /// An IPv4 socket with both its ends.
    pub const IPV4: Self = Self(3);
    /// An IPv6 socket with both its ends.
    pub const IPV6: Self = Self(4);
    /// An IPv4 socket that waits for connections.
    pub const IPV4_LISTEN: Self = Self(5);
    /// An IPv6 socket that waits for connections.
    pub const IPV6_LISTEN: Self = Self(6);
    /// A pipe.
    pub const FIFO: Self = Self(7);
    /// A Unix socket.
    pub const UNIX: Self = Self(8);
    /// A counter of events.
    pub const EVENT: Self = Self(9);
    /// Something that the recorder does not know.
    pub const UNSUPPORTED: Self = Self(10);
    /// Signals.
    pub const SIGNAL: Self = Self(11);
    /// An epoll instance.
    pub const EVENTPOLL: Self = Self(12);
    /// An inotify instance.
    pub const INOTIFY: Self = Self(13);
    /// A timer.
    pub const TIMER: Self = Self(14);
    /// A netlink socket.
    pub const NETLINK: Self = Self(15);
    /// A file.
    pub const FILE_V2: Self = Self(16);
    /// A BPF object.
    pub const BPF: Self = Self(17);
    /// Page faults in user space.
    pub const USERFAULT: Self = Self(18);
    /// An `io_uring` instance.
    pub const IO_URING: Self = Self(19);
    /// A memory file.
    pub const MEMFD: Self = Self(20);
    /// A process.
    pub const PIDFD: Self = Self(21);
}

/// A network interface with one of its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// The address.
    pub address: IpAddr,
    /// Which of its bits are the network's.
    pub netmask: IpAddr,
    /// The address of all in the network.
    pub broadcast: IpAddr,
    /// Speed in bits per second; 0: not known.
    pub linkspeed: u64,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User<'a> {
    /// Its number.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its name.
    pub name: &'a [u8],
    /// Its home directory.
    pub home: &'a [u8],
    /// Its shell.
    pub shell: &'a [u8],
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// Its number.
    pub gid: u32,
    /// Its name.
    pub name: &'a [u8],
}
