//! From a system call as the sensor tells it to an event of Falco's table: the same event, with the same parameters, that a
//! capture of Falco would hold.

use std::sync::LazyLock;

use monitor_ebpf::record::file_flag;

use super::{
    Arch,
    calls::{CALLS, CallInfo, Source},
    flags::{self, Names},
    name, number,
};
use crate::event::{
    call::{Call, Params, Told},
    path::until_nul,
    schema::{self, Code, EventInfo, ParamInfo, ParamType},
    syscall::Syscall,
};

/// Numbers of calls that have a row: the sensor's tables are as long.
const NUMBERS: usize = monitor_ebpf::settings::CALLS;
/// `FMODE_CREATED`: this open made the file (`include/linux/fs.h`).
const FMODE_CREATED: u32 = 0x10_0000;
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// `AT_FDCWD`
const WORKING_DIRECTORY: i64 = -100;

/// Room for the parameters of an event, kept from one to the next.
#[derive(Debug, Default)]
pub struct Room {
    lengths: Vec<u8>,
    values: Vec<u8>,
}

/// A call with its event looked up.
struct Row {
    call: &'static CallInfo,
    info: &'static EventInfo,
    /// Where each parameter of the event comes from, in its order.
    sources: Box<[Option<Source>]>,
}

impl Row {
    fn new(call: &'static CallInfo) -> Option<Self> {
        let info = call.code.info()?;
        let source = |param: &ParamInfo| call.sources.iter().find(|(name, _)| *name == param.name).map(|(_, s)| *s);
        Some(Self { call, info, sources: info.params.iter().map(source).collect() })
    }
}

/// All of them, and by number where each architecture has it.
struct Rows {
    rows: Vec<Row>,
    by_number: [Vec<Option<u16>>; 4],
}

static ROWS: LazyLock<Rows> = LazyLock::new(|| {
    let rows: Vec<_> = CALLS.iter().filter_map(Row::new).collect();
    let by_number = Arch::ALL.map(|arch| {
        let mut numbers = vec![None; NUMBERS];
        for (index, row) in rows.iter().enumerate() {
            let slot = number(arch, row.call.name).and_then(|nr| numbers.get_mut(usize::try_from(nr).ok()?));
            if let Some(slot) = slot {
                *slot = u16::try_from(index).ok();
            }
        }
        numbers
    });
    Rows { rows, by_number }
});

fn row(arch: Arch, nr: i32) -> Option<&'static Row> {
    let numbers = ROWS.by_number.get(arch as usize)?;
    let index = (*numbers.get(usize::try_from(nr).ok()?)?)?;
    ROWS.rows.get(usize::from(index))
}

/// The event that a call is. `ts_ns` is when, in nanoseconds since 1970, `count` its number in the stream, and `machine` the
/// ELF machine number of where it was.
pub fn tell<'a>(
    syscall: &'a Syscall<'a>,
    machine: u32,
    ts_ns: u64,
    count: u64,
    room: &'a mut Room,
) -> Option<Call<'a>> {
    let record = &syscall.record;
    let arch = Arch::of(machine, syscall.is_compat());
    room.lengths.clear();
    room.values.clear();
    let (info, told) = if let Some(row) = row(arch, record.nr) {
        for (param, source) in row.info.params.iter().zip(&row.sources) {
            let before = room.values.len();
            if let Some(source) = source {
                write(syscall, param, *source, &mut room.values);
            }
            let len = u16::try_from(room.values.len() - before).unwrap_or(u16::MAX);
            room.lengths.extend_from_slice(&len.to_le_bytes());
        }
        (row.info, Told::new(syscall, row.call))
    } else {
        by_number(&name(arch, record.nr), record.nr, room);
        (Code::GENERIC_X.info()?, Told { syscall, directories: [WORKING_DIRECTORY; 2], makes_descriptor: false })
    };
    Some(Call {
        info,
        number: count,
        ts_ns,
        tid: record.header.tid.into(),
        cpu: record.cpu,
        state_only: false,
        params: Params::new(&room.lengths, &room.values, false),
        told: Some(told),
    })
}

impl<'a> Told<'a> {
    fn new(syscall: &'a Syscall<'a>, call: &CallInfo) -> Self {
        let directories = call.plan.directories.map(|index| match index {
            0..6 => descriptor(syscall.number(index)),
            _ => WORKING_DIRECTORY,
        });
        Self { syscall, directories, makes_descriptor: call.plan.descriptor == monitor_ebpf::settings::Plan::RESULT }
    }
}

/// A call that Falco has no event of its own for.
fn by_number(name: &str, nr: i32, room: &mut Room) {
    let id = schema::syscall_id(name).unwrap_or_default();
    for value in [id, u16::try_from(nr).unwrap_or_default()] {
        room.lengths.extend_from_slice(&2_u16.to_le_bytes());
        room.values.extend_from_slice(&value.to_le_bytes());
    }
}

/// An `int`, at full width.
#[expect(clippy::cast_possible_truncation, reason = "the upper half of the register means nothing")]
const fn descriptor(value: u64) -> i64 {
    value as i32 as i64
}

/// Writes the value of a parameter; nothing where there is none.
fn write(syscall: &Syscall<'_>, param: &ParamInfo, source: Source, values: &mut Vec<u8>) {
    let record = &syscall.record;
    let number = match source {
        Source::Result if syscall.is_compat() => descriptor(record.ret.cast_unsigned()).cast_unsigned(),
        Source::Result => record.ret.cast_unsigned(),
        Source::Argument(index) if matches!(param.ty, ParamType::Pid) => {
            descriptor(syscall.number(index)).cast_unsigned()
        }
        Source::Argument(index) => syscall.number(index),
        Source::Descriptor(index) => descriptor(syscall.number(index)).cast_unsigned(),
        Source::OpenFlags(index) => open_flags(syscall, param, syscall.number(index)),
        Source::OpenHow => open_flags(syscall, param, open_how(syscall, 0)),
        Source::OpenHowMode => open_mode(open_how(syscall, 0), open_how(syscall, 1)),
        Source::OpenHowResolve => bits(open_how(syscall, 2), flags::RESOLVE, param),
        Source::OpenMode(given, mode) => open_mode(syscall.number(given), syscall.number(mode)),
        Source::Layers => match layers(syscall) {
            Some(true) => named("FD_UPPER_LAYER_CREAT", param),
            Some(false) => named("FD_LOWER_LAYER_CREAT", param),
            None => 0,
        },
        Source::Device => device(record.file.dev).into(),
        Source::Inode => record.file.ino,
        Source::Bits(index, names) => bits(syscall.number(index), names, param),
        Source::Value(index, names) => {
            let value = syscall.number(index);
            names.iter().find(|(known, _)| *known == value).map_or(0, |(_, name)| named(name, param))
        }
        Source::SocketType(index) => syscall.number(index) & SOCK_TYPE_MASK,
        Source::Text(index) => return text(syscall.texts.get(usize::from(index)).copied().unwrap_or_default(), values),
        Source::Path => return text(&syscall.path.to_absolute(), values),
        Source::Address => return address(syscall.structure, values),
        Source::TupleOut => return tuple(syscall, true, values),
        Source::TupleIn => return tuple(syscall, false, values),
        Source::Number(index) => {
            values.push(0);
            values.extend_from_slice(&syscall.number(index).to_le_bytes());
            return;
        }
    };
    let bytes = number.to_le_bytes();
    values.extend_from_slice(param.ty.fixed_len().and_then(|len| bytes.get(..len)).unwrap_or_default());
}

/// `SOCK_TYPE_MASK` of `include/linux/net.h`.
const SOCK_TYPE_MASK: u64 = 0xf;

/// A text with its NUL; none where it could not be read.
fn text(text: &[u8], values: &mut Vec<u8>) {
    if !text.is_empty() {
        values.extend_from_slice(text);
        values.push(0);
    }
}

/// Falco's number for a name.
fn named(name: &str, param: &ParamInfo) -> u64 {
    param.flags.iter().find(|flag| flag.name == name).map_or(0, |flag| flag.value.into())
}

/// Falco's bits for the kernel's.
fn bits(value: u64, names: Names, param: &ParamInfo) -> u64 {
    let set = names.iter().filter(|(bits, _)| value & bits == *bits);
    set.fold(0, |set, (_, name)| set | named(name, param))
}

/// A word of the `struct open_how` that the call was given.
fn open_how(syscall: &Syscall<'_>, word: usize) -> u64 {
    let words = syscall.structure.as_chunks().0;
    words.get(word).copied().map_or(0, u64::from_le_bytes)
}

fn open_flags(syscall: &Syscall<'_>, param: &ParamInfo, given: u64) -> u64 {
    const ACCESS_MODE: u64 = 3;
    let access = flags::ACCESS.iter().find(|(mode, _)| *mode == given & ACCESS_MODE);
    let mut found = bits(given, flags::OPEN, param) | access.map_or(0, |(_, name)| named(name, param));
    if syscall.record.open_mode & FMODE_CREATED != 0 {
        found |= named("O_F_CREATED", param);
    }
    match layers(syscall) {
        Some(true) => found | named("FD_UPPER_LAYER", param),
        Some(false) => found | named("FD_LOWER_LAYER", param),
        None => found,
    }
}

/// Whether the file is in an overlay's upper layer; `None` where it is on no overlay.
const fn layers(syscall: &Syscall<'_>) -> Option<bool> {
    let flags = syscall.record.file.flags;
    if flags & file_flag::OVERLAY == 0 { None } else { Some(flags & file_flag::OVERLAY_UPPER != 0) }
}

/// Permission bits count where the call may make the file.
const fn open_mode(given: u64, mode: u64) -> u64 {
    const O_CREAT: u64 = 0o100;
    /// `__O_TMPFILE`
    const O_TMPFILE: u64 = 0o20_000_000;
    const PERMISSIONS: u64 = 0o7777;
    if given & (O_CREAT | O_TMPFILE) == 0 { 0 } else { mode & PERMISSIONS }
}

/// A device number as `stat(2)` has it (`new_encode_dev` of `include/linux/kdev_t.h`), from the kernel's own.
pub const fn device(dev: u32) -> u32 {
    let (major, minor) = (dev >> 20, dev & 0xf_ffff);
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

/// A socket address in Falco's encoding, from the one that the call was given.
fn address(given: &[u8], values: &mut Vec<u8>) {
    match Given::parse(given) {
        Some(Given::Inet(ip, port)) => {
            values.push(2);
            values.extend_from_slice(ip);
            values.extend_from_slice(&port.to_le_bytes());
        }
        Some(Given::Inet6(ip, port)) => {
            values.push(10);
            values.extend_from_slice(ip);
            values.extend_from_slice(&port.to_le_bytes());
        }
        Some(Given::Unix(path)) => {
            values.push(1);
            unix_path(path, values);
        }
        Some(Given::Other(family)) => values.push(family.to_le_bytes()[0]),
        None => {}
    }
}

/// `struct sockaddr` of the caller's.
enum Given<'a> {
    Inet(&'a [u8; 4], u16),
    Inet6(&'a [u8; 16], u16),
    Unix(&'a [u8]),
    Other(u16),
}

impl<'a> Given<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (family, rest) = bytes.split_first_chunk()?;
        let port = || rest.first_chunk().map(|port| u16::from_be_bytes(*port));
        Some(match u16::from_le_bytes(*family) {
            AF_INET => Self::Inet(rest.get(2..)?.first_chunk()?, port()?),
            // Four bytes of flow information stand between.
            AF_INET6 => Self::Inet6(rest.get(6..)?.first_chunk()?, port()?),
            AF_UNIX => Self::Unix(rest),
            family => Self::Other(family),
        })
    }
}

/// The path of a Unix socket, `@` in front of an abstract one.
fn unix_path(path: &[u8], values: &mut Vec<u8>) {
    match path.split_first() {
        Some((0, name)) if !name.is_empty() => {
            values.push(b'@');
            values.extend_from_slice(until_nul(name));
        }
        _ => values.extend_from_slice(until_nul(path)),
    }
    values.push(0);
}

/// Both ends of the call's socket in Falco's encoding. The kernel's addresses, but for a peer that it does not know: the
/// connection was refused, or the socket has a peer for each message.
fn tuple(syscall: &Syscall<'_>, out: bool, values: &mut Vec<u8>) {
    let Some(socket) = &syscall.socket else { return };
    let given = Given::parse(syscall.structure);
    match socket.family {
        AF_INET => {
            let (mut remote, mut port) = (first(&socket.remote), socket.remote_port);
            if let (0, Some(Given::Inet(ip, given_port))) = (port, given) {
                (remote, port) = (*ip, given_port);
            }
            values.push(2);
            ends((&first(&socket.local), socket.local_port), (&remote, port), out, values);
        }
        AF_INET6 => {
            let (mut remote, mut port) = (socket.remote, socket.remote_port);
            if let (0, Some(Given::Inet6(ip, given_port))) = (port, given) {
                (remote, port) = (*ip, given_port);
            }
            values.push(10);
            ends((&socket.local, socket.local_port), (&remote, port), out, values);
        }
        AF_UNIX => {
            values.push(1);
            // Addresses of kernel objects, which the sensor keeps to itself.
            values.extend_from_slice(&[0; 16]);
            unix_path(if let Some(Given::Unix(path)) = given { path } else { &[] }, values);
        }
        _ => {}
    }
}

fn first(address: &[u8; 16]) -> [u8; 4] {
    address.first_chunk().copied().unwrap_or_default()
}

fn ends(local: (&[u8], u16), remote: (&[u8], u16), out: bool, values: &mut Vec<u8>) {
    for (address, port) in if out { [local, remote] } else { [remote, local] } {
        values.extend_from_slice(address);
        values.extend_from_slice(&port.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_an_event_with_the_parameters_that_it_names() {
        for call in CALLS {
            let info = call.code.info().unwrap_or_else(|| panic!("{} has no event", call.name));
            assert!(info.code.is_exit() && info.event_type.name() == call.name, "{}: {}", call.name, info.name);
            for (name, source) in call.sources {
                let position = info.position(name);
                let param = &info.params[position.unwrap_or_else(|| panic!("{} has no {name}", call.name))];
                if let Source::Text(index) = source {
                    assert!(call.plan.texts[usize::from(*index)] < 6, "{}: {name} is not collected", call.name);
                }
                if let Source::Bits(_, names) | Source::Value(_, names) = source {
                    let known = names.iter().any(|(_, name)| param.flags.iter().any(|flag| flag.name == *name));
                    assert!(known, "{}: no flag of {name} has a name of the kernel's", call.name);
                }
            }
        }
    }

    #[test]
    fn numbers_lead_to_rows_on_every_architecture() {
        assert_eq!(row(Arch::X86_64, 257).map(|row| row.call.name), Some("openat"));
        assert_eq!(row(Arch::I386, 295).map(|row| row.call.name), Some("openat"));
        assert_eq!(row(Arch::Aarch64, 56).map(|row| row.call.name), Some("openat"));
        assert!(row(Arch::X86_64, -1).is_none() && row(Arch::X86_64, 100_000).is_none());
    }

    #[test]
    fn devices_are_numbered_as_stat_does() {
        assert_eq!(device(8 << 20 | 1), 0x801);
        assert_eq!(device(259 << 20 | 0x12345), 0x45 | 259 << 8 | 0x12300 << 12);
    }
}
