//! Entries of the lists in front of the events: threads, descriptors, interfaces, users and groups.
//!
//! An entry that says how long it is may end early, which is how fields were added over the years, or go on with fields
//! of tomorrow. Older ones have exactly the fields of their list's version.

use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};

use super::{block::List, fields::Fields};
use crate::event::{
    Body,
    listed::{Descriptor, DescriptorKind, FdType, Group, Interface, Thread, User},
};

/// Longest name of a descriptor, and one more.
const MAX_NAME_BYTES: usize = 1024;
/// Bytes behind a thread's root directory in what libs before 0.10 wrote: they have the login user, whether the program
/// can be written, and the capabilities, but not the two fields that were later put in front of them.
const OLD_TAIL_BYTES: usize = 4 + 1 + 3 * 8;

/// An entry, and how many bytes it has. `None`: these bytes are no such entry.
pub(super) fn entry(list: List, tid: i64, bytes: &[u8]) -> Option<(Body<'_>, usize)> {
    match list {
        List::Threads(version) => thread(version, bytes).map(|(thread, len)| (Body::ListedThread(thread), len)),
        List::Descriptors(version) => {
            descriptor(version, tid, bytes).map(|(descriptor, len)| (Body::ListedDescriptor(descriptor), len))
        }
        List::Interfaces(version) => {
            interface(version, bytes).map(|(interface, len)| (Body::ListedInterface(interface), len))
        }
        List::Users(version) => user_or_group(version, bytes),
    }
}

/// Takes an entry's length, which counts itself, and ends the fields there.
fn sized(fields: &mut Fields<'_>) -> Option<usize> {
    let len = usize::try_from(fields.u32()?).ok()?;
    fields.end_at(len);
    Some(len)
}

/// How long an entry is: as long as it says, but not shorter than its fields.
fn length(said: Option<usize>, fields: &Fields<'_>) -> Option<usize> {
    match said {
        None | Some(0) => Some(fields.taken()),
        Some(said) => (said >= fields.taken()).then_some(said),
    }
}

fn thread(version: u8, bytes: &[u8]) -> Option<(Thread<'_>, usize)> {
    let mut fields = Fields::new(bytes);
    let said = if version >= 9 { Some(sized(&mut fields)?) } else { None };
    let mut thread = Thread { tid: fields.i64()?, pid: fields.i64()?, ptid: fields.i64()?, ..Thread::default() };
    if version >= 6 {
        thread.sid = fields.i64()?;
    }
    if version >= 8 {
        thread.vpgid = fields.i64()?;
    }
    thread.comm = fields.string()?;
    thread.exe = fields.string()?;
    if version >= 7 {
        thread.exepath = fields.string()?;
    }
    thread.args = fields.string()?;
    thread.cwd = fields.string()?;
    thread.fdlimit = fields.i64()?;
    thread.flags = fields.u32()?;
    thread.uid = fields.u32()?;
    thread.gid = fields.u32()?;
    if version >= 2 {
        thread.vmsize_kb = fields.u32()?;
        thread.vmrss_kb = fields.u32()?;
        thread.vmswap_kb = fields.u32()?;
        thread.pfmajor = fields.u64()?;
        thread.pfminor = fields.u64()?;
    }
    if version >= 3 {
        thread.env = fields.string()?;
    }
    if version >= 4 {
        thread.vtid = fields.i64()?;
        thread.vpid = fields.i64()?;
        thread.cgroups = fields.string()?;
    }
    if version >= 5 {
        thread.root = fields.string()?;
    }
    if let Some(said) = said.filter(|said| *said > 0) {
        let left = said.checked_sub(fields.taken())?;
        thread_tail(&mut thread, &mut fields, left <= OLD_TAIL_BYTES);
    }
    Some((thread, length(said, &fields)?))
}

/// The fields that a thread has if its entry is long enough. One that does not fit is left out, and so is not what the
/// following ones are read from.
fn thread_tail(thread: &mut Thread<'_>, fields: &mut Fields<'_>, old: bool) {
    if !old {
        thread.pidns_init_start_ns = fields.u64().unwrap_or_default();
        thread.tty = fields.u32().unwrap_or_default();
    }
    thread.loginuid = fields.u32().unwrap_or(u32::MAX);
    thread.exe_writable = fields.flag().unwrap_or_default();
    thread.cap_inheritable = fields.u64().unwrap_or_default();
    thread.cap_permitted = fields.u64().unwrap_or_default();
    thread.cap_effective = fields.u64().unwrap_or_default();
    thread.exe_upper_layer = fields.flag().unwrap_or_default();
    thread.exe_ino = fields.u64().unwrap_or_default();
    thread.exe_ino_ctime_ns = fields.u64().unwrap_or_default();
    thread.exe_ino_mtime_ns = fields.u64().unwrap_or_default();
    thread.exe_from_memfd = fields.flag().unwrap_or_default();
    thread.exe_lower_layer = fields.flag().unwrap_or_default();
    thread.pgid = fields.i64().unwrap_or(-1);
}

fn descriptor<'a>(version: u8, tid: i64, bytes: &'a [u8]) -> Option<(Descriptor<'a>, usize)> {
    let mut fields = Fields::new(bytes);
    let said = if version >= 2 { Some(sized(&mut fields)?) } else { None };
    let (fd, ino, ty) = (fields.i64()?, fields.u64()?, FdType(fields.u8()?));
    let name = |fields: &mut Fields<'a>| fields.string().filter(|name| name.len() < MAX_NAME_BYTES);
    let kind = match ty {
        FdType::IPV4 => {
            let (from, to) = (fields.ipv4()?, fields.ipv4()?);
            let source = SocketAddrV4::new(from, fields.u16()?);
            DescriptorKind::Ipv4 { source, destination: SocketAddrV4::new(to, fields.u16()?), l4proto: fields.u8()? }
        }
        FdType::IPV6 => {
            let (from, to) = (fields.ipv6()?, fields.ipv6()?);
            let source = SocketAddrV6::new(from, fields.u16()?, 0, 0);
            let destination = SocketAddrV6::new(to, fields.u16()?, 0, 0);
            DescriptorKind::Ipv6 { source, destination, l4proto: fields.u8()? }
        }
        FdType::IPV4_LISTEN => {
            let address = SocketAddrV4::new(fields.ipv4()?, fields.u16()?);
            DescriptorKind::Ipv4Listen { address, l4proto: fields.u8()? }
        }
        FdType::IPV6_LISTEN => {
            let address = SocketAddrV6::new(fields.ipv6()?, fields.u16()?, 0, 0);
            DescriptorKind::Ipv6Listen { address, l4proto: fields.u8()? }
        }
        FdType::UNIX => {
            DescriptorKind::Unix { source: fields.u64()?, destination: fields.u64()?, name: name(&mut fields)? }
        }
        FdType::FILE_V2 => {
            let (open_flags, name) = (fields.u32()?, name(&mut fields)?);
            let dev = if said.is_some_and(|said| said > 0) { fields.u32().unwrap_or_default() } else { 0 };
            DescriptorKind::File { open_flags, name, dev }
        }
        FdType(0 | 22..) => DescriptorKind::Other { ty, name: b"" },
        ty => DescriptorKind::Other { ty, name: name(&mut fields)? },
    };
    Some((Descriptor { tid, fd, ino, kind }, length(said, &fields)?))
}

fn interface(version: u8, bytes: &[u8]) -> Option<(Interface<'_>, usize)> {
    let mut fields = Fields::new(bytes);
    // Here, and only here, the length does not count itself.
    let said = if version >= 2 { Some(usize::try_from(fields.u32()?).ok()?.checked_add(4)?) } else { None };
    if let Some(said) = said {
        fields.end_at(said);
    }
    let (ty, name_len) = (fields.u16()?, fields.u16()?);
    let address = |fields: &mut Fields<'_>| match ty {
        1 | 3 => fields.ipv4().map(IpAddr::from),
        2 | 4 => fields.ipv6().map(IpAddr::from),
        _ => None,
    };
    let interface = Interface {
        address: address(&mut fields)?,
        netmask: address(&mut fields)?,
        broadcast: address(&mut fields)?,
        linkspeed: if ty <= 2 { fields.u64()? } else { 0 },
        name: fields.take(name_len.into())?,
    };
    Some((interface, length(said, &fields)?))
}

fn user_or_group(version: u8, bytes: &[u8]) -> Option<(Body<'_>, usize)> {
    /// What stands in front of a user; anything else stands in front of a group.
    const USER: u8 = 0;
    let mut fields = Fields::new(bytes);
    let said = if version >= 2 { Some(sized(&mut fields)?) } else { None };
    let body = if fields.u8()? == USER {
        Body::ListedUser(User {
            uid: fields.u32()?,
            gid: fields.u32()?,
            name: fields.string()?,
            home: fields.string()?,
            shell: fields.string()?,
        })
    } else {
        Body::ListedGroup(Group { gid: fields.u32()?, name: fields.string()? })
    };
    Some((body, length(said, &fields)?))
}
