//! `fd.*`: the descriptor that it was done to. Tabular.
//!
//! A descriptor that is not known has a name all the same where the event tells one, such as an open that failed.

use std::{borrow::Cow, net::IpAddr};

use super::{Argument, Source, arguments, fields, rendering};
use crate::{
    context::Context,
    event::{
        address::Ends,
        path::concatenate,
        schema::{Code, Flags},
        value::{Address, Value},
    },
    state::{
        descriptor::{Descriptor, Kind, flag},
        thread::Thread,
    },
};

fields! {
    "fd.num", Int, [], None, "Fd number of the event.", "3"
        => Source::One(|c, _| thread(c).map(|thread| Value::Int(thread.event_fd)));
    "fd.type", Text, [], None, "File directory ipv4 ipv6 unix pipe event signalfd eventpoll inotify timerfd netlink bpf userfaultfd io_uring memfd pidfd.", "file"
        => Source::One(|c, _| descriptor(c).map(|fd| Value::text(fd.kind.name())));
    "fd.typechar", Text, [], None, "F d 4 6 u p e s l i t n b u(userfaultfd) r m P o X.", "f"
        => Source::One(|c, _| kind_character(c));
    "fd.name", Text, [], None, "Path or tuple text of the fd.", "/etc/passwd"
        => Source::One(|c, _| name(c).map(Value::Text));
    "fd.directory", Text, [], None, "Directory part of a file fd name.", "/etc"
        => Source::One(|c, _| directory(c).map(Value::Text));
    "fd.filename", Text, [], None, "Last component of a file fd name.", "passwd"
        => Source::One(|c, _| descriptor(c).filter(|fd| fd.kind.is_file()).map(|fd| Value::text(last_component(&fd.name))));
    "fd.ip", Ip, [FILTER_ONLY NO_FIELD NO_TRANSFORMER], None, "Filter only, client or server address.", "10.0.0.5"
        => Source::OneOrSeveral(is_known, addresses);
    "fd.cip", Ip, [], None, "Client address (source of tuple).", "10.0.0.5"
        => Source::One(|c, _| ends(c).map(|ends| ip(ends.source)));
    "fd.sip", Ip, [], None, "Server address (destination, or listening address).", "10.0.0.5"
        => Source::One(|c, _| server_address(c).map(ip));
    "fd.lip", Ip, [], None, "Local address.", "10.0.0.5"
        => Source::One(|c, _| sides(c).map(|(local, _)| ip(local.0)));
    "fd.rip", Ip, [], None, "Remote address.", "10.0.0.5"
        => Source::One(|c, _| sides(c).map(|(_, remote)| ip(remote.0)));
    "fd.port", Port, [FILTER_ONLY NO_FIELD NO_TRANSFORMER], None, "Filter only, client or server port.", "443"
        => Source::OneOrSeveral(is_known, ports);
    "fd.cport", Port, [], None, "Client port.", "51000"
        => Source::One(|c, _| ends(c).map(|ends| port(ends.source_port)));
    "fd.sport", Port, [], None, "Server port.", "443"
        => Source::One(|c, _| server_port(c).map(port));
    "fd.lport", Port, [], None, "Local port.", "443"
        => Source::One(|c, _| sides(c).map(|(local, _)| port(local.1)));
    "fd.rport", Port, [], None, "Remote port.", "51000"
        => Source::One(|c, _| sides(c).map(|(_, remote)| port(remote.1)));
    "fd.l4proto", Text, [], None, "Tcp udp icmp raw or <NA>.", "tcp"
        => Source::One(|c, _| descriptor(c).map(|fd| Value::text(fd.transport().name())));
    "fd.sockfamily", Text, [], None, "Ip or unix.", "ip"
        => Source::One(|c, _| match descriptor(c)?.kind {
            Kind::IPV4 | Kind::IPV6 | Kind::IPV4_SERVER | Kind::IPV6_SERVER => Some(Value::text("ip")),
            Kind::UNIX => Some(Value::text("unix")),
            _ => None,
        });
    "fd.is_server", Bool, [], None, "Listening socket, or destination is a local address.", "true"
        => Source::One(|c, _| {
            let fd = descriptor(c)?;
            let is_server = fd.listening().is_some() || fd.ends().is_some_and(|ends| c.is_local(ends.destination));
            Some(Value::Bool(is_server))
        });
    "fd.uid", Text, [], None, "Tid and fd number concatenated.", "12343"
        => Source::One(|c, _| thread(c).map(|thread| Value::owned(format!("{}{}", thread.key.tid, thread.event_fd))));
    "fd.containername", Text, [], None, "Container id : fd name.", "3ad7b26ded6d:/etc/passwd"
        => Source::One(|c, _| in_container(c, &name(c)?));
    "fd.containerdirectory", Text, [], None, "Container id : directory.", "3ad7b26ded6d:/etc"
        => Source::One(|c, _| in_container(c, &directory(c)?));
    "fd.proto", Port, [FILTER_ONLY NO_FIELD NO_TRANSFORMER], None, "Filter only, either port by service name.", "https"
        => Source::OneOrSeveral(is_known, ports);
    "fd.cproto", Text, [], None, "Client port as text.", "51000"
        => Source::One(|c, _| {
            let fd = descriptor(c).filter(|fd| !fd.is_without_role())?;
            Some(Value::owned(fd.ends().map(|ends| ends.source_port.to_string()).unwrap_or_default()))
        });
    "fd.sproto", Text, [], None, "Server port as text.", "https"
        => Source::One(|c, _| {
            let port = server_port(c)?;
            // Falco says nothing of listeners here.
            Some(Value::owned(ends(c).map(|_| port.to_string()).unwrap_or_default()))
        });
    "fd.lproto", Text, [], None, "Local port as text.", "https"
        => Source::One(|c, _| sides(c).map(|(local, _)| Value::owned(local.1.to_string())));
    "fd.rproto", Text, [], None, "Remote port as text.", "51000"
        => Source::One(|c, _| sides(c).map(|(_, remote)| Value::owned(remote.1.to_string())));
    "fd.net", Net, [FILTER_ONLY NO_FIELD NO_TRANSFORMER], None, "Filter only, client or server in network.", "10.0.0.0/8"
        => Source::OneOrSeveral(is_known, addresses);
    "fd.cnet", Net, [FILTER_ONLY NO_FIELD NO_TRANSFORMER], None, "Filter only, client in network.", "10.0.0.0/8"
        => Source::One(|c, _| ends(c).map(|ends| ip(ends.source)));
    "fd.snet", Net, [FILTER_ONLY NO_FIELD NO_TRANSFORMER], None, "Filter only, server in network.", "10.0.0.0/8"
        => Source::One(|c, _| server_address(c).map(ip));
    "fd.lnet", Net, [FILTER_ONLY NO_FIELD NO_TRANSFORMER], None, "Filter only, local in network.", "10.0.0.0/8"
        => Source::One(|c, _| sides(c).map(|(local, _)| ip(local.0)));
    "fd.rnet", Net, [FILTER_ONLY NO_FIELD NO_TRANSFORMER], None, "Filter only, remote in network.", "10.0.0.0/8"
        => Source::One(|c, _| sides(c).map(|(_, remote)| ip(remote.0)));
    "fd.connected", Bool, [], None, "Socket connected flag.", "true"
        => Source::One(|c, _| descriptor(c).map(|fd| Value::Bool(fd.has(flag::CONNECTED))));
    "fd.name_changed", Bool, [], None, "This event changed the fd name.", "true"
        => Source::One(|c, _| descriptor(c).map(|_| Value::Bool(c.state.is_descriptor_renamed())));
    "fd.cip.name", Text, [NO_FIELD NO_TRANSFORMER UNRESOLVED], None, "Reverse/forward DNS name of client.", "client.example.com"
        => Source::One(unresolved);
    "fd.sip.name", Text, [NO_FIELD NO_TRANSFORMER UNRESOLVED], None, "DNS name of server.", "example.com"
        => Source::One(unresolved);
    "fd.lip.name", Text, [NO_FIELD NO_TRANSFORMER UNRESOLVED], None, "DNS name of local.", "node-1.example.com"
        => Source::One(unresolved);
    "fd.rip.name", Text, [NO_FIELD NO_TRANSFORMER UNRESOLVED], None, "DNS name of remote.", "example.com"
        => Source::One(unresolved);
    "fd.dev", Int32, [HEX], None, "Device number hex.", "264241152"
        => Source::One(|c, _| descriptor(c).map(|fd| Value::Int(fd.dev.cast_signed().into())));
    "fd.dev.major", Int32, [], None, "Major device.", "252"
        => Source::One(|c, _| descriptor(c).map(|fd| Value::Int((fd.dev >> 8 & 0xfff).into())));
    "fd.dev.minor", Int32, [], None, "Minor device.", "1"
        => Source::One(|c, _| descriptor(c).map(|fd| Value::Int((fd.dev & 0xff | fd.dev >> 12 & 0xf_ff00).into())));
    "fd.ino", Int, [], None, "Inode.", "393231"
        => Source::One(|c, _| descriptor(c).map(|fd| Value::Int(fd.ino.cast_signed())));
    "fd.nameraw", Text, [], None, "Path as given to the syscall, duplicate slashes removed.", "../etc/passwd"
        => Source::One(|c, _| raw_name(c).map(Value::Text));
    "fd.types", Text, [LIST NO_FIELD CAPTURE], Index, "Distinct types of open fds, or of one fd.", "(file,ipv4)"
        => Source::One(|c, argument| match argument {
            Argument::Index(fd) => {
                let fd = c.state.descriptor_of(thread(c)?, (*fd).into())?;
                Some(Value::List(vec![Value::text(fd.kind.name())]))
            }
            _ => kinds(c),
        });
    "fd.is_upper_layer", Bool, [], None, "File on overlay upper layer.", "true"
        => Source::One(|c, _| descriptor(c).map(|fd| Value::Bool(fd.has(flag::UPPER))));
    "fd.is_lower_layer", Bool, [], None, "File on overlay lower layer.", "true"
        => Source::One(|c, _| descriptor(c).map(|fd| Value::Bool(fd.has(flag::LOWER))));
}

/// The thread of an event that is about a descriptor.
fn thread<'c>(c: &'c Context<'_>) -> Option<&'c Thread> {
    let call = c.event.call()?;
    c.thread.filter(|_| call.info.flags.has(Flags::CREATES_FD | Flags::USES_FD | Flags::DESTROYS_FD))
}

/// The descriptor, if it is known.
fn descriptor<'c>(c: &'c Context<'_>) -> Option<&'c Descriptor> {
    let thread = thread(c)?;
    c.descriptor.or_else(|| c.state.descriptor_of(thread, thread.event_fd))
}

fn is_known<'c>(c: &'c Context<'_>, _: &Argument) -> Option<Value<'c>> {
    descriptor(c).map(|_| Value::Bool(true))
}

/// `fd.name`
pub(super) fn name<'c>(c: &'c Context<'_>) -> Option<Cow<'c, [u8]>> {
    let thread = thread(c)?;
    match descriptor(c) {
        Some(fd) => Some(Cow::Borrowed(&fd.name)),
        None => told(c, thread, false),
    }
}

fn raw_name<'c>(c: &'c Context<'_>) -> Option<Cow<'c, [u8]>> {
    let thread = thread(c)?;
    let name = match descriptor(c) {
        Some(fd) => Cow::Borrowed(fd.name_raw()),
        None => told(c, thread, true)?,
    };
    if !name.windows(2).any(|pair| pair == b"//") {
        return Some(name);
    }
    let mut name = name.into_owned();
    name.dedup_by(|a, b| *a == b'/' && *b == b'/');
    Some(Cow::Owned(name))
}

/// The name that the event itself tells; empty where it tells none.
fn told<'c>(c: &'c Context<'_>, thread: &Thread, raw: bool) -> Option<Cow<'c, [u8]>> {
    let call = c.event.call()?;
    match call.info.code {
        code if code.is_enter() => None,
        Code::SYSCALL_OPEN_X
        | Code::SYSCALL_CREAT_X
        | Code::SOCKET_ACCEPT_5_X
        | Code::SOCKET_ACCEPT4_6_X
        | Code::SOCKET_CONNECT_X => arguments::text_at(c, 1),
        Code::SYSCALL_OPENAT_2_X | Code::SYSCALL_OPENAT2_X => {
            let name = rendering::text(call.params.bytes(2)?);
            if raw {
                return Some(Cow::Borrowed(name));
            }
            let directory = c.state.directory_or_unknown(thread, name, call.params.i64(1)?);
            Some(Cow::Owned(concatenate(&directory, name)))
        }
        Code::SYSCALL_OPEN_BY_HANDLE_AT_X => call.params.get(3).map(|name| Cow::Borrowed(rendering::text(name))),
        _ => Some(Cow::Borrowed(b"")),
    }
}

fn directory<'c>(c: &'c Context<'_>) -> Option<Cow<'c, [u8]>> {
    match descriptor(c) {
        None => name(c).map(parent),
        Some(fd) if fd.kind == Kind::DIRECTORY => Some(Cow::Borrowed(&fd.name)),
        Some(fd) if fd.kind.is_file() => Some(parent(Cow::Borrowed(&fd.name))),
        Some(_) => None,
    }
}

/// What stands before the last slash, or `/`. A path that ends with a slash stays as it is.
fn parent(path: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    let end = match path.iter().rposition(|byte| *byte == b'/') {
        None | Some(0) => return Cow::Borrowed(b"/"),
        Some(slash) if slash + 1 == path.len() => path.len(),
        Some(slash) => slash,
    };
    match path {
        Cow::Borrowed(path) => Cow::Borrowed(path.get(..end).unwrap_or_default()),
        Cow::Owned(mut path) => {
            path.truncate(end);
            Cow::Owned(path)
        }
    }
}

/// What stands behind the last slash; where there is none, `/`. A path that ends with a slash stays as it is.
fn last_component(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|byte| *byte == b'/') {
        None => b"/",
        Some(slash) if slash + 1 == path.len() => path,
        Some(slash) => path.get(slash + 1..).unwrap_or_default(),
    }
}

/// A letter for what it is. Of a descriptor that is not known the event says something.
fn kind_character<'c>(c: &'c Context<'_>) -> Option<Value<'c>> {
    thread(c)?;
    let character = match descriptor(c) {
        Some(fd) => fd.kind.character(),
        None => made_character(c.event.call()?.info.code),
    };
    let at = memchr::memchr(character, LETTERS)?;
    Some(Value::text(LETTERS.get(at..=at)?))
}

/// All that there are, to borrow one from.
const LETTERS: &[u8] = b"fd46pueslitnbrmPoX?";

/// The letter of what a call would have made.
const fn made_character(code: Code) -> u8 {
    match Code(code.0 | 1) {
        Code::SYSCALL_OPENAT_2_X | Code::SYSCALL_OPENAT2_X | Code::SYSCALL_CREAT_X => b'f',
        Code::SOCKET_SOCKET_X | Code::SOCKET_ACCEPT_5_X | Code::SOCKET_ACCEPT4_6_X => b'4',
        Code::SYSCALL_PIPE_X | Code::SYSCALL_PIPE2_X => b'p',
        Code::SYSCALL_EVENTFD_X | Code::SYSCALL_EVENTFD2_X => b'e',
        Code::SYSCALL_SIGNALFD_X | Code::SYSCALL_SIGNALFD4_X => b's',
        Code::SYSCALL_TIMERFD_CREATE_X => b't',
        Code::SYSCALL_INOTIFY_INIT_X | Code::SYSCALL_INOTIFY_INIT1_X => b'i',
        _ => b'o',
    }
}

/// Both ends of a connection of which it is known who began it.
fn ends(c: &Context<'_>) -> Option<Ends<IpAddr>> {
    descriptor(c).filter(|fd| !fd.is_without_role())?.ends()
}

fn server_address(c: &Context<'_>) -> Option<IpAddr> {
    let fd = descriptor(c).filter(|fd| !fd.is_without_role())?;
    fd.ends().map(|ends| ends.destination).or_else(|| fd.listening().map(|(address, _)| address))
}

fn server_port(c: &Context<'_>) -> Option<u16> {
    let listening = descriptor(c)?.listening().map(|(_, port)| port);
    listening.or_else(|| ends(c).map(|ends| ends.destination_port))
}

/// The end that is this machine's, and the other.
fn sides(c: &Context<'_>) -> Option<((IpAddr, u16), (IpAddr, u16))> {
    let ends = ends(c)?;
    let source = (ends.source, ends.source_port);
    let destination = (ends.destination, ends.destination_port);
    Some(if c.is_local(ends.source) { (source, destination) } else { (destination, source) })
}

/// Addresses of both ends, whoever began it.
fn addresses(c: &Context<'_>, each: &mut dyn FnMut(Value<'_>)) {
    let Some(fd) = descriptor(c) else { return };
    if let Some(ends) = fd.ends() {
        each(ip(ends.source));
        each(ip(ends.destination));
    } else if let Some((address, _)) = fd.listening() {
        each(ip(address));
    }
}

/// Ports of both ends, whoever began it.
fn ports(c: &Context<'_>, each: &mut dyn FnMut(Value<'_>)) {
    let Some(fd) = descriptor(c) else { return };
    if let Some(ends) = fd.ends() {
        each(port(ends.source_port));
        each(port(ends.destination_port));
    } else if let Some((_, number)) = fd.listening() {
        each(port(number));
    }
}

/// No address has a name here, so that it differs from every name.
fn unresolved<'c>(c: &'c Context<'_>, _: &Argument) -> Option<Value<'c>> {
    ends(c).map(|_| Value::text(b""))
}

const fn ip<'c>(address: IpAddr) -> Value<'c> {
    Value::Ip(Address(address))
}

fn port<'c>(number: u16) -> Value<'c> {
    Value::Uint(number.into())
}

fn in_container<'c>(c: &Context<'_>, name: &[u8]) -> Option<Value<'c>> {
    Some(Value::owned([c.container_id()?.as_bytes(), b":", name].concat()))
}

/// What the process has open, each kind once.
fn kinds<'c>(c: &'c Context<'_>) -> Option<Value<'c>> {
    let owner = c.state.threads.descriptor_owner(thread(c)?);
    let mut kinds: Vec<Value<'_>> = Vec::new();
    for (_, fd) in owner.into_iter().flat_map(|owner| owner.descriptors.iter()) {
        let kind = Value::text(fd.kind.name());
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    Some(Value::List(kinds))
}
