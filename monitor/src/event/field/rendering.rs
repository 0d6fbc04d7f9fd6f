//! Parameters of events as text.
//!
//! Each has two: the raw one, such as a number, and what it stands for, such as a path or a flag's name, which is empty where
//! there is nothing to say. Both are, byte for byte, what Falco 0.44 makes of them (`sinsp_evt::get_param_as_str`).

use std::{borrow::Cow, fmt::Write as _};

use crate::{
    context::Context,
    event::{
        address::{SocketAddress, SocketTuple},
        call::Call,
        names,
        path::{concatenate, until_nul},
        schema::{self, Flag, Format, ParamInfo, ParamType as P},
    },
    state::{
        descriptor::Descriptor,
        socket::Transport,
        thread::{NOT_AVAILABLE, ThreadKey},
    },
};

/// `AT_FDCWD` in the numbers of Falco's captures.
pub(super) const WORKING_DIRECTORY: i64 = -100;
/// Falco's buffer for the text of a list of descriptors: what does not fit is cut.
const MAX_LIST: usize = 1023;

/// A parameter of the event at hand.
pub(super) struct Parameter<'c> {
    c: &'c Context<'c>,
    call: &'c Call<'c>,
    info: &'static ParamInfo,
    /// What it is: of a [`P::Dyn`], what it turned out to be.
    ty: P,
    bytes: &'c [u8],
    /// Whether nothing was told. Texts have a word of their own for that.
    is_empty: bool,
}

impl<'c> Parameter<'c> {
    /// The one at a position; `None` where the event has fewer.
    pub(super) fn new(c: &'c Context<'_>, call: &'c Call<'_>, position: usize) -> Option<Self> {
        let (c, call): (&Context<'c>, &Call<'c>) = (c, call);
        let info = call.info.params.get(position)?;
        let bytes = call.params.get(position)?;
        let is_empty = bytes.is_empty() && !matches!(info.ty, P::CharBuf | P::FsPath | P::FsRelPath);
        let variant = bytes.split_first().filter(|_| info.ty == P::Dyn);
        let variant = variant.and_then(|(kind, value)| Some((info.variants.get(usize::from(*kind))?.ty, value)));
        let (ty, bytes) = variant.unwrap_or((info.ty, bytes));
        Some(Self { c, call, info, ty, bytes, is_empty })
    }

    /// What it stands for, or if there is nothing of the kind the raw text.
    pub(super) fn text(&self) -> Cow<'c, [u8]> {
        let resolved = self.resolved();
        if resolved.is_empty() { self.raw() } else { resolved }
    }

    fn number<const BYTES: usize>(&self) -> Option<[u8; BYTES]> {
        self.bytes.first_chunk().copied()
    }

    fn i64(&self) -> Option<i64> {
        self.number().map(i64::from_le_bytes)
    }

    fn u32(&self) -> Option<u32> {
        self.number().map(u32::from_le_bytes)
    }

    fn u16(&self) -> Option<u16> {
        self.number().map(u16::from_le_bytes)
    }

    fn u8(&self) -> Option<u8> {
        self.bytes.first().copied()
    }

    /// The value of flags, of any width.
    fn flags(&self) -> Option<u32> {
        match self.ty {
            P::Flags8 | P::EnumFlags8 => self.u8().map(u32::from),
            P::Flags16 | P::EnumFlags16 => self.u16().map(u32::from),
            _ => self.u32(),
        }
    }

    /// The raw text.
    pub(super) fn raw(&self) -> Cow<'c, [u8]> {
        if self.is_empty {
            return Cow::Borrowed(match self.info.ty {
                P::ByteBuf | P::SockTuple | P::FdList | P::CharBufArray | P::CharBufPairArray | P::Dyn => b"NULL",
                _ => NOT_AVAILABLE,
            });
        }
        match self.ty {
            P::CharBuf | P::FsPath | P::FsRelPath => Cow::Borrowed(text(self.bytes)),
            P::ByteBuf => dots(self.bytes),
            P::SockAddr => Cow::Owned(address(self.bytes)),
            P::SockTuple => Cow::Owned(tuple(self.bytes)),
            P::FdList => Cow::Owned(self.descriptors()),
            P::SigSet => Cow::Owned(signals(self.u32().unwrap_or_default())),
            P::Dyn => Cow::Borrowed(b"INVALID DYNAMIC PARAMETER"),
            P::CharBufArray | P::CharBufPairArray => Cow::Borrowed(b""),
            _ => self.raw_number().map_or(Cow::Borrowed(b""), |text| Cow::Owned(text.into_bytes())),
        }
    }

    /// As C prints it: numbers of less than 64 bits as an `int`, which makes large unsigned ones negative.
    fn raw_number(&self) -> Option<String> {
        let format = self.info.format;
        Some(match self.ty {
            P::Int8 => narrow(i32::from(self.u8()?.cast_signed()), format),
            P::Int16 => narrow(i32::from(self.u16()?.cast_signed()), format),
            P::Int32 | P::Uint32 | P::Mode => narrow(self.u32()?.cast_signed(), format),
            P::Uint8 => narrow(i32::from(self.u8()?), format),
            P::Uint16 => narrow(i32::from(self.u16()?), format),
            P::Int64 | P::Uint64 => wide(self.i64()?, format),
            P::Fd | P::Pid | P::Errno => self.i64()?.to_string(),
            P::SigType => self.u8()?.to_string(),
            P::SyscallId => {
                let id = self.u16()?;
                if schema::syscall(id).is_some() { id.to_string() } else { "<unknown syscall>".to_owned() }
            }
            P::RelTime => match self.i64()?.cast_unsigned() {
                u64::MAX => "none".to_owned(),
                ns => ns.to_string(),
            },
            P::AbsTime => super::clock::datetime(self.i64()?.cast_unsigned(), true),
            P::Uid | P::Gid => self.u32()?.cast_signed().to_string(),
            P::Flags8 | P::Flags16 | P::Flags32 | P::EnumFlags8 | P::EnumFlags16 | P::EnumFlags32 => {
                self.flags()?.to_string()
            }
            _ => "(n.a.)".to_owned(),
        })
    }

    /// What it stands for; empty where there is nothing to say.
    pub(super) fn resolved(&self) -> Cow<'c, [u8]> {
        if self.is_empty {
            return Cow::Borrowed(b"");
        }
        let found = match self.ty {
            P::Fd => self.i64().map(|fd| self.descriptor(fd)),
            P::Pid => self
                .i64()
                .and_then(|tid| self.c.state.threads.get(ThreadKey::exact(tid)))
                .map(|thread| Cow::Borrowed(thread.image.comm())),
            P::Errno => self.i64().and_then(names::error).map(borrowed),
            P::FsPath | P::FsRelPath => self.absolute_path().map(Cow::Owned),
            P::SyscallId => self.u16().and_then(schema::syscall_name).map(borrowed),
            P::SigType => self.u8().and_then(names::signal).map(borrowed),
            P::RelTime => {
                self.i64().filter(|ns| *ns != -1).map(|ns| Cow::Owned(seconds(ns.cast_unsigned()).into_bytes()))
            }
            P::Flags8 | P::Flags16 | P::Flags32 => {
                self.flags().map(|value| Cow::Owned(flag_names(value, self.info.flags)))
            }
            P::EnumFlags8 | P::EnumFlags16 | P::EnumFlags32 => {
                self.flags().map(|value| value_names(value, self.info.flags))
            }
            P::Mode => self.u32().map(|value| Cow::Owned(mode_names(value, self.info.flags))),
            P::Uid => self.u32().map(|uid| owner(uid, self.c.user_name(uid))),
            P::Gid => self.u32().map(|gid| owner(gid, self.c.group_name(gid))),
            _ => None,
        };
        found.unwrap_or_default()
    }

    /// What a descriptor is and its name, or why there is none.
    fn descriptor(&self, fd: i64) -> Cow<'c, [u8]> {
        let Some(thread) = self.c.thread else { return Cow::Borrowed(b"") };
        match fd {
            0.. => self.c.state.descriptor_of(thread, fd).map(|known| Cow::Owned(with_kind(known))),
            WORKING_DIRECTORY => Some(borrowed("AT_FDCWD")),
            _ => names::error(fd).map(borrowed),
        }
        .unwrap_or_default()
    }

    /// The absolute path that a relative one stands for.
    fn absolute_path(&self) -> Option<Vec<u8>> {
        let path = text(self.bytes);
        if path == NOT_AVAILABLE || path.is_empty() || path.starts_with(b"/") {
            return None;
        }
        let thread = self.c.thread?;
        let directory = self.info.dirfd.filter(|_| self.ty == P::FsRelPath).map(usize::from);
        let is_descriptor = |at: &usize| self.call.info.params.get(*at).is_some_and(|param| param.ty == P::Fd);
        let fd = directory.filter(is_descriptor).map(|at| self.call.params.i64(at));
        let fd = match fd {
            None => return Some(concatenate(self.c.state.threads.cwd(thread), path)),
            Some(fd) => fd?,
        };
        if fd == WORKING_DIRECTORY {
            return Some(concatenate(self.c.state.threads.cwd(thread), path));
        }
        let directory = self.c.state.descriptor_of(thread, fd).map_or(&b""[..], |known| &known.name);
        match directory.last() {
            None | Some(b'/') => Some(concatenate(directory, path)),
            Some(_) => Some(concatenate(&[directory, b"/"].concat(), path)),
        }
    }

    /// Descriptors that are waited for: number, kind and flags of each.
    fn descriptors(&self) -> Vec<u8> {
        let mut text = String::new();
        let Some(thread) = self.c.thread else { return Vec::new() };
        let (Some(count), Some(entries)) = (self.u16(), self.bytes.get(2..)) else { return Vec::new() };
        let (entries, _) = entries.as_chunks::<10>();
        for (position, [a, b, c, d, e, f, g, h, low, high]) in entries.iter().take(usize::from(count)).enumerate() {
            let fd = i64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            let flags = i32::from(i16::from_le_bytes([*low, *high]));
            let kind = self.c.state.descriptor_of(thread, fd).map_or(b'?', |known| known.kind.character());
            let separator = if position > 0 { " " } else { "" };
            // Writing to memory does not fail.
            let _ = write!(text, "{separator}{}:{}{flags:x}", fd.cast_unsigned(), char::from(kind));
        }
        text.truncate(MAX_LIST);
        text.into_bytes()
    }
}

/// The name of a user or group.
fn owner(id: u32, name: Option<&[u8]>) -> Cow<'_, [u8]> {
    Cow::Borrowed(match name {
        _ if id == u32::MAX => b"<NONE>",
        Some(name) if !name.is_empty() => name,
        _ => NOT_AVAILABLE,
    })
}

const fn borrowed(text: &str) -> Cow<'_, [u8]> {
    Cow::Borrowed(text.as_bytes())
}

/// A text up to its NUL, with Falco's word for what the kernel had no address of.
pub(super) fn text(bytes: &[u8]) -> &[u8] {
    if bytes.is_empty() || bytes == b"(NULL)\0" { NOT_AVAILABLE } else { until_nul(bytes) }
}

/// Bytes as text: what is not printable is a dot.
pub(super) fn dots(bytes: &[u8]) -> Cow<'_, [u8]> {
    let is_printable = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    if bytes.iter().all(is_printable) {
        return Cow::Borrowed(bytes);
    }
    bytes.iter().map(|byte| if is_printable(byte) { *byte } else { b'.' }).collect()
}

/// `<kind>name`, with a letter for the transport behind the kind.
fn with_kind(descriptor: &Descriptor) -> Vec<u8> {
    let transport: &[u8] = match descriptor.transport() {
        Transport::TCP => b"t",
        Transport::UDP => b"u",
        Transport::ICMP => b"i",
        Transport::RAW => b"r",
        _ => b"",
    };
    [&[b'<', descriptor.kind.character()], transport, b">", &descriptor.name].concat()
}

fn address(bytes: &[u8]) -> Vec<u8> {
    match SocketAddress::parse(bytes) {
        Some(address) => address.text(),
        None => invalid(bytes, "SOCKADDR"),
    }
}

fn tuple(bytes: &[u8]) -> Vec<u8> {
    match SocketTuple::parse(bytes) {
        Some(tuple) => tuple.text(),
        None => invalid(bytes, "SOCKTUPLE"),
    }
}

/// What Falco says of an address that is too short for its family.
fn invalid(bytes: &[u8], what: &str) -> Vec<u8> {
    let what = match bytes.first() {
        Some(1) => "PATH",
        Some(2) => "IPv4",
        Some(10) => "IPv6",
        _ => what,
    };
    format!("INVALID {what}").into_bytes()
}

/// Names of the signals of a set.
fn signals(set: u32) -> Vec<u8> {
    let names: Vec<&str> = (0..32).filter(|bit| set >> bit & 1 != 0).filter_map(|bit| names::signal(bit + 1)).collect();
    names.join(" ").into_bytes()
}

/// A number of up to 32 bits as C prints an `int`.
fn narrow(number: i32, format: Format) -> String {
    match format {
        Format::Oct => octal(number.cast_unsigned().into()),
        Format::Hex => format!("{number:X}"),
        Format::PaddedDec => format!("{number:09}"),
        _ => number.to_string(),
    }
}

/// A number of 64 bits as C prints a `long`.
fn wide(number: i64, format: Format) -> String {
    match format {
        Format::Oct => octal(number.cast_unsigned()),
        Format::Hex => format!("{number:X}"),
        Format::PaddedDec => format!("{number:09}"),
        _ => number.to_string(),
    }
}

/// With a leading zero, of which zero itself has no other.
fn octal(number: u64) -> String {
    if number == 0 { "0".to_owned() } else { format!("0{number:o}") }
}

/// Seconds with six significant digits, as C's `%g` writes them, and an `s`.
#[expect(clippy::cast_precision_loss, reason = "six digits are shown")]
fn seconds(ns: u64) -> String {
    let seconds = ns as f64 / 1e9;
    let scientific = format!("{seconds:.5e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let trimmed = |text: &str| {
        let end = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text };
        end.to_owned()
    };
    if (-4..6).contains(&exponent) {
        let decimals = usize::try_from(5 - exponent).unwrap_or_default();
        return trimmed(&format!("{seconds:.decimals$}")) + "s";
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}s", trimmed(digits), exponent.unsigned_abs())
}

/// Names of the bits of a value. What a name stands for counts as said; none is said of zero unless that has a name.
fn flag_names(value: u32, flags: &[Flag]) -> Vec<u8> {
    let mut rest = value;
    let mut names = Vec::new();
    for flag in flags {
        let is_zero = flag.value == 0 && value == 0;
        if is_zero || (flag.value != 0 && rest & flag.value == flag.value) {
            rest &= !flag.value;
            push_name(&mut names, flag.name);
            if flag.value == value {
                break;
            }
        }
    }
    names
}

/// Names of a value: some have several.
fn value_names(value: u32, flags: &'static [Flag]) -> Cow<'static, [u8]> {
    let mut fitting = flags.iter().filter(|flag| flag.value == value);
    match (fitting.next(), fitting.next()) {
        (None, _) => Cow::Borrowed(b""),
        (Some(one), None) => borrowed(one.name),
        (Some(one), Some(other)) => {
            let mut names = one.name.as_bytes().to_vec();
            for flag in std::iter::once(other).chain(fitting) {
                push_name(&mut names, flag.name);
            }
            Cow::Owned(names)
        }
    }
}

/// Names of the bits of a file's mode; one that the value equals ends the list.
fn mode_names(value: u32, modes: &[Flag]) -> Vec<u8> {
    let mut rest = value;
    let mut names = Vec::new();
    for mode in modes {
        if mode.value == value {
            push_name(&mut names, mode.name);
            break;
        }
        if mode.value != 0 && rest & mode.value == mode.value {
            push_name(&mut names, mode.name);
            rest &= !mode.value;
        }
    }
    names
}

fn push_name(names: &mut Vec<u8>, name: &str) {
    if !names.is_empty() {
        names.push(b'|');
    }
    names.extend_from_slice(name.as_bytes());
}
