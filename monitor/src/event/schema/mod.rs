//! Falco's event table: which events there are, what they carry, and how to read and print it.
//!
//! Every lookup is an index into an array, because each event of a capture needs one. The tables are generated from the
//! facts about falcosecurity/libs 0.25.4 (Falco 0.44), event schema 4.5; nothing here knows how a capture is framed.

use super::EventType;

/// Declares the constants of [`Code`].
macro_rules! codes {
    ($($name:ident = $code:literal;)*) => {
        #[expect(missing_docs, reason = "Falco's own names, one for each event and version of it")]
        impl super::Code {
            $(pub const $name: super::Code = super::Code($code);)*
        }
    };
}

mod table;

/// Number of an event in Falco's event table (`PPME_*`). Even: entering a call, or no call at all; odd: leaving it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub u16);

impl Code {
    /// How many the table has, unused ones included.
    pub const COUNT: u16 = 454;

    /// What the table says about it; `None` for what is beyond the table or unused.
    pub fn info(self) -> Option<&'static EventInfo> {
        table::EVENTS.get(usize::from(self.0))?.as_ref()
    }

    /// Whether this is a notice of what exists; in front of all events of a capture it tells what existed when that began
    /// (libs 0.25.4, `sinsp::is_initialstate_event`).
    pub const fn is_notice_of_state(self) -> bool {
        matches!(
            self,
            Self::CONTAINER_JSON_2_E
                | Self::USER_ADDED_E
                | Self::USER_DELETED_E
                | Self::GROUP_ADDED_E
                | Self::GROUP_DELETED_E
                | Self::ASYNCEVENT_E
        )
    }

    /// Whether it is the odd one of its pair.
    pub const fn is_exit(self) -> bool {
        self.0 & 1 == 1
    }

    /// Whether it is the even one of its pair. Tracepoints and notices are, too.
    pub const fn is_enter(self) -> bool {
        !self.is_exit()
    }
}

/// An event of the table.
#[derive(Debug)]
pub struct EventInfo {
    /// Its number.
    pub code: Code,
    /// Its name, which several versions of an event share.
    pub name: &'static str,
    /// Its type as rules see it.
    pub event_type: EventType,
    /// What it is about.
    pub category: Category,
    /// What is special about it.
    pub flags: Flags,
    /// What it carries.
    pub params: &'static [ParamInfo],
}

impl EventInfo {
    const fn new(
        code: u16,
        name: &'static str,
        event_type: EventType,
        category: Category,
        flags: u16,
        params: &'static [ParamInfo],
    ) -> Self {
        Self { code: Code(code), name, event_type, category, flags: Flags(flags), params }
    }

    /// Where the parameter of this name stands.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.params.iter().position(|param| param.name == name)
    }
}

/// There is one of each code.
impl PartialEq for EventInfo {
    fn eq(&self, other: &Self) -> bool {
        self.code == other.code
    }
}

/// What is special about an event: bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Flags {
    /// It makes a descriptor.
    pub const CREATES_FD: u16 = 1;
    /// It closes a descriptor.
    pub const DESTROYS_FD: u16 = 1 << 1;
    /// It is about a descriptor.
    pub const USES_FD: u16 = 1 << 2;
    /// It reads from a descriptor.
    pub const READS_FROM_FD: u16 = 1 << 3;
    /// It writes to a descriptor.
    pub const WRITES_TO_FD: u16 = 1 << 4;
    /// It changes what is known about the machine.
    pub const MODIFIES_STATE: u16 = 1 << 5;
    /// Its call may wait.
    pub const WAITS: u16 = 1 << 6;
    /// It is not something that a thread does.
    pub const SKIPPARSERESET: u16 = 1 << 7;
    /// Newer captures have another one in its place.
    pub const OLD_VERSION: u16 = 1 << 8;
    /// Lengths of its parameters have four bytes instead of two.
    pub const LARGE_PAYLOAD: u16 = 1 << 9;
    /// Old captures have other parameters, from which it is upgraded.
    pub const CONVERTER_MANAGED: u16 = 1 << 10;

    /// Whether it has one of these bits.
    pub const fn has(self, bits: u16) -> bool {
        self.0 & bits != 0
    }
}

/// What an event is about, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Category {
    /// What it is about.
    pub kind: Kind,
    /// Where it comes from: bits.
    pub origin: u8,
}

impl Category {
    /// A system call.
    pub const SYSCALL: u8 = 1;
    /// A tracepoint.
    pub const TRACEPOINT: u8 = 1 << 1;
    /// A plugin.
    pub const PLUGIN: u8 = 1 << 2;
    /// Falco itself: a notice.
    pub const METAEVENT: u8 = 1 << 3;
    /// A kernel iterator over what exists.
    pub const ITER: u8 = 1 << 4;

    const fn new(kind: Kind, origin: u8) -> Self {
        Self { kind, origin }
    }

    /// Whether it comes from one of these.
    pub const fn is(self, origin: u8) -> bool {
        self.origin & origin != 0
    }
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nothing of the following.
    Other,
    /// Files.
    File,
    /// Sockets.
    Net,
    /// Communication between processes.
    Ipc,
    /// Memory.
    Memory,
    /// Processes.
    Process,
    /// Sleeping.
    Sleep,
    /// The system itself.
    System,
    /// Signals.
    Signal,
    /// Users and groups.
    User,
    /// Time.
    Time,
    /// Reading, from whatever the descriptor is.
    IoRead,
    /// Writing, to whatever the descriptor is.
    IoWrite,
    /// Work on a descriptor that moves no data.
    IoOther,
    /// Waiting.
    Wait,
    /// Scheduling.
    Scheduler,
    /// What libraries tell each other.
    Internal,
}

/// A parameter of an event.
#[derive(Debug)]
pub struct ParamInfo {
    /// Its name; empty for a variant.
    pub name: &'static str,
    /// How it is encoded.
    pub ty: ParamType,
    /// How it is printed.
    pub format: Format,
    /// Names of its values or bits, in the order in which they are tried; may be empty.
    pub flags: &'static [Flag],
    /// The parameter that holds the directory that this path is relative to.
    pub dirfd: Option<u8>,
    /// What a [`ParamType::Dyn`] may be, by the number that stands before the value.
    pub variants: &'static [ParamInfo],
}

const fn param(name: &'static str, ty: ParamType, format: Format) -> ParamInfo {
    ParamInfo { name, ty, format, flags: &[], dirfd: None, variants: &[] }
}

impl ParamInfo {
    const fn flags(self, flags: &'static [Flag]) -> Self {
        Self { flags, ..self }
    }

    const fn relative_to(self, dirfd: u8) -> Self {
        Self { dirfd: Some(dirfd), ..self }
    }

    const fn one_of(self, variants: &'static [ParamInfo]) -> Self {
        Self { variants, ..self }
    }
}

/// A name of a value, or of bits.
#[derive(Debug, PartialEq, Eq)]
pub struct Flag {
    /// The name.
    pub name: &'static str,
    /// What it stands for.
    pub value: u32,
}

/// How a parameter is encoded (`PT_*`). Numbers are little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParamType {
    /// 1 byte.
    Int8,
    /// 2 bytes.
    Int16,
    /// 4 bytes.
    Int32,
    /// 8 bytes.
    Int64,
    /// 1 byte.
    Uint8,
    /// 2 bytes.
    Uint16,
    /// 4 bytes.
    Uint32,
    /// 8 bytes.
    Uint64,
    /// Text, ended by NUL.
    CharBuf,
    /// Bytes.
    ByteBuf,
    /// 8 bytes; negative: an error number.
    Errno,
    /// Family and address.
    SockAddr,
    /// Family, and the addresses of both ends.
    SockTuple,
    /// A descriptor: 8 bytes; negative: an error number, or -100 for the working directory.
    Fd,
    /// 8 bytes.
    Pid,
    /// 2 bytes of count, then descriptors of 8 bytes and their flags of 2.
    FdList,
    /// A path, ended by NUL.
    FsPath,
    /// 2 bytes: a `PPM_SC` number.
    SyscallId,
    /// A signal: 1 byte.
    SigType,
    /// 8 bytes: nanoseconds.
    RelTime,
    /// 8 bytes: nanoseconds since 1970.
    AbsTime,
    /// 2 bytes.
    Port,
    /// 1 byte.
    L4Proto,
    /// 1 byte.
    SockFamily,
    /// 4 bytes.
    Bool,
    /// 4 bytes as they travel.
    Ipv4Addr,
    /// One of [`ParamInfo::variants`]: its number in 1 byte, then its value.
    Dyn,
    /// 1 byte of flags.
    Flags8,
    /// 2 bytes of flags.
    Flags16,
    /// 4 bytes of flags.
    Flags32,
    /// 4 bytes; all ones: none.
    Uid,
    /// 4 bytes; all ones: none.
    Gid,
    /// 8 bytes.
    Double,
    /// The first 32 signals of a set: 4 bytes.
    SigSet,
    /// Texts, each ended by NUL.
    CharBufArray,
    /// An address that means nothing outside the process that made it.
    CharBufPairArray,
    /// An address and the length of its prefix.
    Ipv4Net,
    /// 16 bytes as they travel.
    Ipv6Addr,
    /// An address and the length of its prefix.
    Ipv6Net,
    /// An address of either kind, told apart by its length.
    IpAddr,
    /// A network of either kind.
    IpNet,
    /// 4 bytes: mode of a file.
    Mode,
    /// A path relative to the directory in [`ParamInfo::dirfd`], ended by NUL.
    FsRelPath,
    /// 1 byte, one of the named values.
    EnumFlags8,
    /// 2 bytes, one of the named values.
    EnumFlags16,
    /// 4 bytes, one of the named values.
    EnumFlags32,
    /// A descriptor in 4 bytes.
    Fd32,
    /// A process in 4 bytes.
    Pid32,
}

impl ParamType {
    /// How many bytes a value has, unless it is one of varying length.
    pub const fn fixed_len(self) -> Option<usize> {
        match self {
            Self::Int8
            | Self::Uint8
            | Self::Flags8
            | Self::EnumFlags8
            | Self::SigType
            | Self::L4Proto
            | Self::SockFamily => Some(1),
            Self::Int16 | Self::Uint16 | Self::Flags16 | Self::EnumFlags16 | Self::SyscallId | Self::Port => Some(2),
            Self::Int32
            | Self::Uint32
            | Self::Flags32
            | Self::EnumFlags32
            | Self::Bool
            | Self::Uid
            | Self::Gid
            | Self::Mode
            | Self::SigSet
            | Self::Fd32
            | Self::Pid32
            | Self::Ipv4Addr => Some(4),
            Self::Int64
            | Self::Uint64
            | Self::Errno
            | Self::Fd
            | Self::Pid
            | Self::RelTime
            | Self::AbsTime
            | Self::Double => Some(8),
            Self::Ipv6Addr => Some(16),
            Self::CharBuf
            | Self::ByteBuf
            | Self::FsPath
            | Self::FsRelPath
            | Self::FdList
            | Self::Dyn
            | Self::SockAddr
            | Self::SockTuple
            | Self::CharBufArray
            | Self::CharBufPairArray
            | Self::Ipv4Net
            | Self::Ipv6Net
            | Self::IpAddr
            | Self::IpNet => None,
        }
    }
}

/// How a parameter is printed (`PF_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// As its type says.
    Na,
    /// In decimal.
    Dec,
    /// In hexadecimal.
    Hex,
    /// In decimal with ten digits.
    PaddedDec,
    /// In decimal without separators.
    Id,
    /// As `>` or `<`.
    Dir,
    /// In octal.
    Oct,
}

/// A system call that a generic event can be.
#[derive(Debug, PartialEq, Eq)]
pub struct Syscall {
    /// Its name.
    pub name: &'static str,
    /// Its type as rules see it.
    pub event_type: EventType,
    /// Its number on x86-64, if it has one there.
    pub x86_64: Option<u16>,
}

impl Syscall {
    #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "the table has nothing else")]
    const fn new(name: &'static str, event_type: EventType, x86_64: i32) -> Self {
        Self { name, event_type, x86_64: if x86_64 < 0 { None } else { Some(x86_64 as u16) } }
    }
}

/// The system call with this `PPM_SC` number.
pub fn syscall(ppm_sc: u16) -> Option<&'static Syscall> {
    table::SYSCALLS.get(usize::from(ppm_sc))?.as_ref()
}

/// `PPM_SC` number of the system call of this name.
pub fn syscall_id(name: &str) -> Option<u16> {
    let id = table::SYSCALLS.iter().position(|syscall| syscall.as_ref().is_some_and(|known| known.name == name))?;
    u16::try_from(id).ok()
}

/// Name of the system call with this `PPM_SC` number.
pub fn syscall_name(ppm_sc: u16) -> Option<&'static str> {
    syscall(ppm_sc).map(|syscall| syscall.name)
}

/// Type, as rules see it, of the system call with this `PPM_SC` number.
pub fn syscall_event_type(ppm_sc: u16) -> Option<EventType> {
    syscall(ppm_sc).map(|syscall| syscall.event_type)
}

/// Type, as rules see it, of the system call with this number on x86-64.
pub fn native_event_type(number: u16) -> Option<EventType> {
    table::SYSCALLS.iter().flatten().find(|syscall| syscall.x86_64 == Some(number)).map(|syscall| syscall.event_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_stands_at_its_code_and_has_the_type_of_its_name() {
        assert_eq!(table::EVENTS.len(), usize::from(Code::COUNT));
        for (code, info) in table::EVENTS.iter().enumerate() {
            let Some(info) = info else { continue };
            assert_eq!((usize::from(info.code.0), info.event_type.name()), (code, info.name));
        }
        for (id, syscall) in table::SYSCALLS.iter().enumerate() {
            let Some(syscall) = syscall else { continue };
            assert_eq!(
                (syscall.event_type.name(), syscall_name(id.try_into().unwrap())),
                (syscall.name, Some(syscall.name))
            );
        }
    }

    #[test]
    fn an_event_has_what_the_schema_says() {
        let openat = Code::SYSCALL_OPENAT_2_X.info().unwrap();
        assert_eq!((openat.code.0, openat.name, openat.event_type), (307, "openat", EventType::OPENAT));
        assert!(openat.code.is_exit() && openat.category.is(Category::SYSCALL));
        assert_eq!(openat.category.kind, Kind::File);
        assert!(openat.flags.has(Flags::CREATES_FD) && !openat.flags.has(Flags::OLD_VERSION | Flags::LARGE_PAYLOAD));
        let path = &openat.params[openat.position("name").unwrap()];
        assert_eq!((path.ty, path.format, path.dirfd), (ParamType::FsRelPath, Format::Na, Some(1)));
        let flags = &openat.params[3];
        assert_eq!((flags.ty, flags.format), (ParamType::Flags32, Format::Hex));
        assert!(flags.flags.contains(&Flag { name: "O_TRUNC", value: 256 }));
        let value = &Code::SOCKET_SETSOCKOPT_X.info().unwrap().params[4];
        assert_eq!((value.ty, value.variants.len(), value.variants[4].ty), (ParamType::Dyn, 5, ParamType::RelTime));
    }

    #[test]
    fn what_is_not_in_the_table_is_none() {
        assert!([17, 452, Code::COUNT, u16::MAX].iter().all(|code| Code(*code).info().is_none()));
        assert_eq!((syscall(u16::MAX), syscall_name(454), syscall_event_type(454)), (None, None, None));
        assert_eq!(syscall(2).map(|syscall| (syscall.name, syscall.x86_64)), Some(("exit", Some(60))));
    }
}
