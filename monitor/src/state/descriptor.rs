//! Descriptors: what a process has open, as it was told or seen.
//!
//! A table belongs to a process; threads use their leader's. A fork copies it, which costs a count until one of the two
//! changes something.

use std::sync::Arc;

use hashbrown::HashMap;

/// Descriptors of one process: Linux allows more, and a capture can claim any number.
const MAX_DESCRIPTORS: usize = 4096;
/// Numbers below this are looked up by position.
const DENSE: usize = 1024;

/// What a descriptor refers to: numbers of Falco's captures (`scap_fd_type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kind(pub u8);

macro_rules! kinds {
    ($($number:literal => $constant:ident, $character:literal, $name:literal;)*) => {
        impl Kind {
            $(#[doc = concat!("`", $name, "`")] pub const $constant: Kind = Kind($number);)*

            /// `fd.typechar`
            pub const fn character(self) -> u8 {
                match self { $(Kind::$constant => $character,)* _ => b'?' }
            }

            /// `fd.type`
            pub const fn name(self) -> &'static str {
                match self { $(Kind::$constant => $name,)* _ => "<NA>" }
            }
        }
    };
}

kinds! {
    0 => UNKNOWN, b'o', "<NA>";
    1 => FILE, b'f', "file";
    2 => DIRECTORY, b'd', "directory";
    3 => IPV4, b'4', "ipv4";
    4 => IPV6, b'6', "ipv6";
    5 => IPV4_SERVER, b'4', "ipv4";
    6 => IPV6_SERVER, b'6', "ipv6";
    7 => PIPE, b'p', "pipe";
    8 => UNIX, b'u', "unix";
    9 => EVENT, b'e', "event";
    10 => UNSUPPORTED, b'X', "<NA>";
    11 => SIGNAL, b's', "signalfd";
    12 => EVENT_POLL, b'l', "eventpoll";
    13 => INOTIFY, b'i', "inotify";
    14 => TIMER, b't', "timerfd";
    15 => NETLINK, b'n', "netlink";
    16 => FILE_V2, b'f', "file";
    17 => BPF, b'b', "bpf";
    18 => USERFAULT, b'u', "userfaultfd";
    19 => IO_URING, b'r', "io_uring";
    20 => MEMFD, b'm', "memfd";
    21 => PIDFD, b'P', "pidfd";
}

impl Kind {
    /// Whether it is a file and no directory.
    pub const fn is_file(self) -> bool {
        matches!(self, Kind::FILE | Kind::FILE_V2)
    }

    /// Whether it is a socket with a source and a destination address.
    pub const fn has_tuple(self) -> bool {
        matches!(self, Kind::IPV4 | Kind::IPV6)
    }
}

/// Bits of [`Descriptor::flags`].
pub mod flag {
    /// It began a connection.
    pub const CLIENT: u8 = 1;
    /// It accepts connections, or was accepted.
    pub const SERVER: u8 = 1 << 1;
    /// It is connected.
    pub const CONNECTED: u8 = 1 << 2;
    /// The file is in a container's writable layer.
    pub const UPPER: u8 = 1 << 3;
    /// The file is in an image's layer.
    pub const LOWER: u8 = 1 << 4;
}

/// `O_CLOEXEC` and its kin, in the numbers of Falco's captures.
mod close_on_exec {
    pub(super) const OPEN: u32 = 1 << 12;
    pub(super) const EPOLL: u32 = 1;
    pub(super) const MEMFD: u32 = 1;
}

/// One open file, socket, pipe or other object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Descriptor {
    /// What it is.
    pub kind: Kind,
    /// Bits of [`flag`].
    pub flags: u8,
    /// Flags of the open, `O_*` in the numbers of Falco's captures.
    pub open_flags: u32,
    /// Addresses, where it is a socket.
    pub socket: super::socket::Socket,
    /// Path, tuple or name.
    pub name: Vec<u8>,
    /// Path as it was given to the call.
    pub(super) name_raw: Raw,
    /// Device number.
    pub dev: u32,
    /// Inode number.
    pub ino: u64,
    /// The process that a pidfd refers to.
    pub pid: i64,
}

/// A name as it was given to a call. It is often the one that became of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Raw {
    #[default]
    None,
    Same,
    Other(Box<[u8]>),
}

impl Descriptor {
    /// Path as it was given to the call that opened it; empty if none was.
    pub fn name_raw(&self) -> &[u8] {
        match &self.name_raw {
            Raw::None => b"",
            Raw::Same => &self.name,
            Raw::Other(name) => name,
        }
    }

    /// Sets it, after the name.
    pub fn set_name_raw(&mut self, name: &[u8]) {
        self.name_raw = if self.name == name { Raw::Same } else { Raw::Other(name.into()) };
    }

    /// An object of a kind.
    pub fn new(kind: Kind) -> Self {
        Self { kind, ..Self::default() }
    }

    /// Whether a flag is set.
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether it is neither client nor server.
    pub const fn is_without_role(&self) -> bool {
        !self.has(flag::CLIENT | flag::SERVER)
    }

    /// Whether an exec closes it.
    pub fn is_close_on_exec(&self) -> bool {
        self.open_flags & close_on_exec::OPEN != 0
            || (self.kind == Kind::EVENT_POLL && self.open_flags & close_on_exec::EPOLL != 0)
            || (self.kind == Kind::MEMFD && self.open_flags & close_on_exec::MEMFD != 0)
    }

    /// Says whether an exec closes it.
    pub fn set_close_on_exec(&mut self, close: bool) {
        self.open_flags &= !(close_on_exec::OPEN | close_on_exec::EPOLL | close_on_exec::MEMFD);
        if close {
            self.open_flags |= close_on_exec::OPEN;
        }
    }
}

/// Descriptors by number. Cloning it is cheap.
#[derive(Clone, Debug, Default)]
pub struct Descriptors(Arc<Table>);

#[derive(Clone, Debug, Default)]
struct Table {
    dense: Vec<Option<Arc<Descriptor>>>,
    sparse: HashMap<i64, Arc<Descriptor>>,
    len: usize,
}

impl Descriptors {
    /// The descriptor of a number.
    pub fn get(&self, fd: i64) -> Option<&Descriptor> {
        let position = usize::try_from(fd).ok()?;
        match self.0.dense.get(position) {
            Some(slot) => slot.as_deref(),
            None if position < DENSE => None,
            None => self.0.sparse.get(&fd).map(|descriptor| &**descriptor),
        }
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, fd: i64) -> Option<&mut Descriptor> {
        self.get(fd)?;
        let table = Arc::make_mut(&mut self.0);
        let slot = match table.dense.get_mut(usize::try_from(fd).ok()?) {
            Some(slot) => slot.as_mut()?,
            None => table.sparse.get_mut(&fd)?,
        };
        Some(Arc::make_mut(slot))
    }

    /// Puts one in, in place of what has that number. A table that is full takes no new number.
    pub fn insert(&mut self, fd: i64, descriptor: Arc<Descriptor>) -> bool {
        let Ok(position) = usize::try_from(fd) else { return false };
        let known = self.get(fd).is_some();
        if !known && self.0.len >= MAX_DESCRIPTORS {
            return false;
        }
        let table = Arc::make_mut(&mut self.0);
        table.len += usize::from(!known);
        if position >= DENSE {
            table.sparse.insert(fd, descriptor);
            return true;
        }
        if table.dense.len() <= position {
            table.dense.resize(position + 1, None);
        }
        if let Some(slot) = table.dense.get_mut(position) {
            *slot = Some(descriptor);
        }
        true
    }

    /// A descriptor that two numbers or processes can share.
    pub fn share(&self, fd: i64) -> Option<Arc<Descriptor>> {
        match self.0.dense.get(usize::try_from(fd).ok()?) {
            Some(slot) => slot.clone(),
            None => self.0.sparse.get(&fd).cloned(),
        }
    }

    /// Takes one out.
    pub fn remove(&mut self, fd: i64) {
        if self.get(fd).is_none() {
            return;
        }
        let table = Arc::make_mut(&mut self.0);
        match usize::try_from(fd).ok().and_then(|position| table.dense.get_mut(position)) {
            Some(slot) => drop(slot.take()),
            None => drop(table.sparse.remove(&fd)),
        }
        table.len -= 1;
    }

    /// Keeps those that satisfy a condition.
    pub fn retain(&mut self, keep: impl Fn(i64, &Descriptor) -> bool) {
        if self.iter().all(|(fd, descriptor)| keep(fd, descriptor)) {
            return;
        }
        let table = Arc::make_mut(&mut self.0);
        for (fd, slot) in (0..).zip(&mut table.dense) {
            if slot.as_ref().is_some_and(|descriptor| !keep(fd, descriptor)) {
                *slot = None;
            }
        }
        table.sparse.retain(|fd, descriptor| keep(*fd, descriptor));
        table.len = table.dense.iter().flatten().count() + table.sparse.len();
    }

    /// Changes those in a range of numbers.
    pub fn change(&mut self, first: u32, last: u32, change: impl Fn(&mut Descriptor)) {
        let numbers: Vec<i64> =
            self.iter().map(|(fd, _)| fd).filter(|fd| (i64::from(first)..=i64::from(last)).contains(fd)).collect();
        for fd in numbers {
            self.get_mut(fd).map(&change);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Descriptor)> {
        let dense = (0..).zip(&self.0.dense).filter_map(|(fd, slot)| Some((fd, slot.as_deref()?)));
        dense.chain(self.0.sparse.iter().map(|(fd, descriptor)| (*fd, &**descriptor)))
    }
}
