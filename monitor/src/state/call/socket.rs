//! Calls about sockets: who talks to whom.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::returned;
use crate::{
    event::{
        address::{Ends, SocketAddress, SocketTuple, unix_text},
        call::Call,
        schema::Code,
    },
    state::{
        State,
        descriptor::{Descriptor, Kind, flag},
        socket::{Address, Transport},
    },
};

/// `EINPROGRESS`: `include/uapi/asm-generic/errno.h`.
const IN_PROGRESS: i64 = -115;
/// `O_CLOEXEC` in the numbers of Falco's captures.
const CLOSE_ON_EXEC: u32 = 1 << 12;

/// Families, types and protocols that `socket` is called with: `include/linux/socket.h`, `include/uapi/linux/in.h`.
mod number {
    pub(super) const AF_UNIX: u32 = 1;
    pub(super) const AF_INET: u32 = 2;
    pub(super) const AF_INET6: u32 = 10;
    pub(super) const AF_NETLINK: u32 = 16;
    pub(super) const SOCK_STREAM: u32 = 1;
    pub(super) const SOCK_DGRAM: u32 = 2;
    pub(super) const SOCK_RAW: u32 = 3;
    pub(super) const IPPROTO_IP: u32 = 0;
    pub(super) const IPPROTO_ICMP: u32 = 1;
    pub(super) const IPPROTO_TCP: u32 = 6;
    pub(super) const IPPROTO_UDP: u32 = 17;
    pub(super) const IPPROTO_RAW: u32 = 255;
}

/// Events that may give a socket another name.
pub(super) const fn can_rename(code: Code) -> bool {
    moves_data(code) || matches!(code, Code::SOCKET_BIND_X | Code::SOCKET_CONNECT_X)
}

/// Events that name the peer of data.
pub(super) const fn moves_data(code: Code) -> bool {
    matches!(
        code,
        Code::SOCKET_RECV_X
            | Code::SOCKET_RECVFROM_X
            | Code::SOCKET_RECVMSG_X
            | Code::SOCKET_RECVMMSG_X
            | Code::SOCKET_SEND_X
            | Code::SOCKET_SENDTO_X
            | Code::SOCKET_SENDMSG_X
            | Code::SOCKET_SENDMMSG_X
    )
}

/// Which way data goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

impl State {
    /// Calls about sockets, and reading and writing, which tell that one is connected. `false` for others.
    pub(super) fn change_socket(&mut self, code: Code, call: &Call<'_>) -> bool {
        match code {
            Code::SYSCALL_READ_X | Code::SYSCALL_READV_X | Code::SYSCALL_PREAD_X | Code::SYSCALL_PREADV_X => {
                self.moved_data(call, Direction::In, None);
            }
            Code::SYSCALL_WRITE_X | Code::SYSCALL_WRITEV_X | Code::SYSCALL_PWRITE_X | Code::SYSCALL_PWRITEV_X => {
                self.moved_data(call, Direction::Out, None);
            }
            Code::SOCKET_RECVFROM_X => self.moved_data(call, Direction::In, Some(2)),
            Code::SOCKET_RECVMSG_X => self.moved_data(call, Direction::In, Some(3)),
            Code::SOCKET_RECV_X | Code::SOCKET_RECVMMSG_X => self.moved_data(call, Direction::In, Some(4)),
            Code::SOCKET_SEND_X | Code::SOCKET_SENDTO_X | Code::SOCKET_SENDMSG_X | Code::SOCKET_SENDMMSG_X => {
                if code != Code::SOCKET_SENDMMSG_X && self.subject.descriptor.is_none() {
                    self.presume_datagram_socket(call);
                }
                self.moved_data(call, Direction::Out, Some(4));
            }
            Code::SOCKET_SOCKET_X => {
                let number = |index| call.params.u32(index).unwrap_or_default();
                if let Some(fd) = returned(call).filter(|fd| *fd >= 0) {
                    self.open_socket(fd, number(1), number(2), number(3), number(4));
                }
            }
            Code::SOCKET_BIND_X => self.bound(call),
            Code::SOCKET_CONNECT_X => self.connected(call),
            Code::SOCKET_ACCEPT_5_X => self.accepted(call, 0),
            Code::SOCKET_ACCEPT4_6_X => self.accepted(call, call.params.u32(5).unwrap_or_default()),
            Code::SOCKET_SOCKETPAIR_X => self.paired(call),
            _ => return false,
        }
        true
    }

    fn open_socket(&mut self, fd: i64, domain: u32, ty: u32, protocol: u32, open_flags: u32) {
        let kind = match domain {
            number::AF_UNIX => Kind::UNIX,
            number::AF_INET => Kind::IPV4,
            number::AF_INET6 => Kind::IPV6,
            number::AF_NETLINK => Kind::NETLINK,
            _ => Kind::UNKNOWN,
        };
        let mut descriptor = Descriptor { open_flags, ..Descriptor::new(kind) };
        descriptor.socket.set_transport(kind, transport(ty, protocol));
        self.open(fd, descriptor);
    }

    /// Data is sent through a descriptor that is not known: its socket was made unseen, and is UDP presumably.
    fn presume_datagram_socket(&mut self, call: &Call<'_>) {
        let tuple = call.params.get(4).unwrap_or_default();
        let (Some(ret), Some(fd), Some(family)) = (returned(call), call.params.i64(2), tuple.first()) else { return };
        let domain = u32::from(*family);
        if ret >= 0 && self.subject.thread.is_some() && matches!(domain, number::AF_INET | number::AF_INET6) {
            self.open_socket(fd, domain, number::SOCK_DGRAM, number::IPPROTO_UDP, 0);
        }
    }

    fn bound(&mut self, call: &Call<'_>) {
        if returned(call).is_none_or(|ret| ret < 0) {
            return;
        }
        let Some(address) = call.params.get(1).and_then(SocketAddress::parse) else { return };
        let Some(descriptor) = self.descriptor_mut() else { return };
        let name = address.text();
        match address {
            SocketAddress::Inet(ip, port) if port > 0 => descriptor.listen_v4(ip, port),
            SocketAddress::Inet6(ip, port) if port > 0 => match ip.to_ipv4_mapped() {
                Some(ip) => {
                    let transport = descriptor.socket.transport(Kind::IPV6);
                    descriptor.socket.set_transport(Kind::IPV4, transport);
                    descriptor.listen_v4(ip, port);
                }
                None => {
                    let transport = descriptor.socket.transport(Kind::IPV6);
                    descriptor.kind = Kind::IPV6_SERVER;
                    descriptor.socket.set_ipv6_server(ip, port);
                    descriptor.socket.set_transport(Kind::IPV6_SERVER, transport);
                    descriptor.flags |= flag::SERVER;
                }
            },
            _ => {}
        }
        descriptor.name = name;
    }

    fn connected(&mut self, call: &Call<'_>) {
        let Some(ret) = returned(call) else { return };
        if self.subject.thread.is_none() || (ret < 0 && ret != IN_PROGRESS) {
            return;
        }
        let begun = self.has_begun(call.info.code).then(|| self.thread()).flatten();
        let begun = begun.map(|thread| thread.begun.get(1).to_vec()).unwrap_or_default();
        let begun = SocketAddress::parse(&begun);
        let ended = call.params.get(3).and_then(SocketAddress::parse);
        let tuple = call.params.bytes(1);
        let Some(descriptor) = self.descriptor_mut() else { return };
        descriptor.set_connected();
        let Some(tuple) = tuple else {
            if let Some(address) = begun {
                descriptor.set_destination(&address, tuple_text(call));
            }
            return;
        };
        let Some(tuple) = SocketTuple::parse(tuple) else { return };
        match tuple {
            SocketTuple::Inet(ends) => {
                let ends = match (ended, begun) {
                    (Some(SocketAddress::Inet(ip, port)), Some(SocketAddress::Inet(first_ip, first_port)))
                        if (ip, port) == (ends.destination, ends.destination_port) =>
                    {
                        Ends { destination: first_ip, destination_port: first_port, ..ends }
                    }
                    _ => ends,
                };
                descriptor.connect_v4(ends);
            }
            SocketTuple::Inet6(ends) => {
                let ends = match (ended, begun) {
                    (Some(SocketAddress::Inet6(ip, port)), Some(SocketAddress::Inet6(first_ip, first_port)))
                        if (ip, port) == (ends.destination, ends.destination_port) =>
                    {
                        Ends { destination: first_ip, destination_port: first_port, ..ends }
                    }
                    _ => ends,
                };
                descriptor.connect_v6(ends);
            }
            SocketTuple::Unix(source, destination, path) if descriptor.kind == Kind::UNIX => {
                let path = match (ended, begun) {
                    (Some(SocketAddress::Unix(ended)), Some(SocketAddress::Unix(begun))) if ended == path => begun,
                    _ => path,
                };
                descriptor.socket.set_unix(source, destination);
                descriptor.name = unix_text(source, destination, path);
            }
            _ => return,
        }
        if descriptor.is_without_role() {
            descriptor.flags |= flag::CLIENT;
        }
    }

    fn accepted(&mut self, call: &Call<'_>, flags: u32) {
        let Some(fd) = returned(call).filter(|fd| *fd >= 0) else { return };
        let Some(thread) = self.subject_mut() else { return };
        thread.event_fd = fd;
        let Some(tuple) = call.params.get(1).and_then(SocketTuple::parse) else { return };
        let mut descriptor = Descriptor::default();
        match tuple {
            SocketTuple::Inet(ends) => descriptor.accept_v4(ends),
            SocketTuple::Inet6(ends) => match ends.mapped() {
                Some(ends) => descriptor.accept_v4(ends),
                None => {
                    descriptor.kind = Kind::IPV6;
                    descriptor.socket.set_ipv6(ends);
                    descriptor.socket.set_transport(Kind::IPV6, Transport::TCP);
                }
            },
            SocketTuple::Unix(source, destination, _) => {
                descriptor.kind = Kind::UNIX;
                descriptor.socket.set_unix(source, destination);
            }
            SocketTuple::Other(_) => return,
        }
        descriptor.name = tuple.text();
        descriptor.open_flags = flags & CLOSE_ON_EXEC;
        descriptor.flags = flag::SERVER | flag::CONNECTED;
        self.open(fd, descriptor);
    }

    fn paired(&mut self, call: &Call<'_>) {
        if returned(call).is_none_or(|ret| ret < 0) || self.subject.thread.is_none() {
            return;
        }
        let (Some(first), Some(second)) = (call.params.i64(1), call.params.i64(2)) else { return };
        if first == second {
            self.subject.descriptor = None;
            return;
        }
        let mut descriptor = Descriptor::new(Kind::UNIX);
        descriptor.socket.set_unix(call.params.u64(3).unwrap_or_default(), call.params.u64(4).unwrap_or_default());
        self.open(first, descriptor.clone());
        let seen = self.subject;
        self.open(second, descriptor);
        self.subject = seen;
    }

    /// Data came in or went out. Sockets that are not TCP over IPv4 may have another peer each time.
    fn moved_data(&mut self, call: &Call<'_>, direction: Direction, tuple: Option<usize>) {
        if returned(call).is_none_or(|ret| ret < 0) {
            return;
        }
        let Some(descriptor) = self.descriptor() else { return };
        let is_socket = descriptor.kind.has_tuple();
        let is_settled = descriptor.is_ipv4_tcp() && !descriptor.name.is_empty();
        if is_socket
            && !descriptor.has(flag::CONNECTED)
            && let Some(descriptor) = self.descriptor_mut()
        {
            descriptor.set_connected();
        }
        let Some(index) = tuple.filter(|_| !is_settled) else { return };
        let Some(tuple) = call.params.bytes(index).and_then(SocketTuple::parse) else { return };
        if !self.has_other_peer(tuple) {
            return;
        }
        let role = self.presumed_role(direction);
        let Some(descriptor) = self.descriptor_mut() else { return };
        if !descriptor.kind.has_tuple() {
            descriptor.name = tuple.text();
            return;
        }
        if descriptor.is_without_role() {
            descriptor.flags |= role;
        }
        let swaps = match direction {
            Direction::In => flag::CLIENT,
            Direction::Out => flag::SERVER,
        };
        if descriptor.has(swaps) {
            descriptor.swap_ends();
        }
        descriptor.name = descriptor.tuple_text();
    }

    /// Takes in the addresses of a datagram. `false` if they are known already.
    fn has_other_peer(&mut self, tuple: SocketTuple<'_>) -> bool {
        let interfaces = std::mem::take(&mut self.interfaces);
        let is_other = self.descriptor_mut().is_some_and(|descriptor| {
            let is_other = match tuple {
                SocketTuple::Inet(ends) => {
                    if descriptor.kind == Kind::IPV4_SERVER {
                        let transport = descriptor.socket.transport(Kind::IPV4_SERVER);
                        descriptor.socket.set_transport(Kind::IPV4, transport);
                    }
                    descriptor.kind = Kind::IPV4;
                    descriptor.update_v4(ends, false)
                }
                SocketTuple::Inet6(ends) => match ends.mapped() {
                    Some(ends) => {
                        descriptor.kind = Kind::IPV4;
                        descriptor.update_v4(ends, false)
                    }
                    None => descriptor.update_v6(ends, false),
                },
                SocketTuple::Unix(source, destination, path) => {
                    descriptor.kind = Kind::UNIX;
                    descriptor.socket.set_unix(source, destination);
                    descriptor.name = path.to_vec();
                    return true;
                }
                SocketTuple::Other(_) => true,
            };
            if is_other {
                if descriptor.kind.has_tuple() && descriptor.socket.transport(descriptor.kind) == Transport::UNKNOWN {
                    descriptor.socket.set_transport(descriptor.kind, Transport::UDP);
                }
                interfaces.complete(descriptor);
            }
            is_other
        });
        self.interfaces = interfaces;
        is_other
    }

    /// Whether a socket that is neither client nor server is the one or the other, by the ports that its process uses.
    fn presumed_role(&self, direction: Direction) -> u8 {
        let (Some(thread), Some(descriptor)) = (self.thread(), self.descriptor()) else { return flag::CLIENT };
        let Some(owner) = self.threads.descriptor_owner(thread) else { return flag::CLIENT };
        let ends = descriptor.socket.ipv4();
        let is_bound = owner.descriptors.iter().any(|(_, other)| match other.kind {
            Kind::IPV4 => other.socket.ipv4().destination_port == ends.destination_port,
            Kind::IPV4_SERVER => other.socket.ipv4_server().1 == ends.destination_port,
            _ => false,
        });
        let is_used = || {
            let mut others = owner.descriptors.iter();
            others.any(|(_, other)| other.kind == Kind::IPV4 && other.socket.ipv4().source_port == ends.source_port)
        };
        match direction {
            _ if !is_bound => flag::CLIENT,
            _ if !is_used() => flag::SERVER,
            Direction::In => flag::SERVER,
            Direction::Out => flag::CLIENT,
        }
    }
}

impl Descriptor {
    fn listen_v4(&mut self, ip: Ipv4Addr, port: u16) {
        let transport = self.socket.transport(Kind::IPV4);
        self.kind = Kind::IPV4_SERVER;
        self.socket.set_ipv4_server(ip, port);
        self.socket.set_transport(Kind::IPV4_SERVER, transport);
        self.flags |= flag::SERVER;
    }

    fn accept_v4(&mut self, ends: Ends<Ipv4Addr>) {
        self.kind = Kind::IPV4;
        self.socket.set_ipv4(ends);
        self.socket.set_transport(Kind::IPV4, Transport::TCP);
    }

    fn connect_v4(&mut self, ends: Ends<Ipv4Addr>) {
        self.kind = Kind::IPV4;
        let changed = self.update_v4(ends, true);
        if changed && self.has(flag::SERVER) && self.is_ipv4_udp() {
            self.swap_ends();
        }
        self.name = self.tuple_text();
    }

    fn connect_v6(&mut self, ends: Ends<Ipv6Addr>) {
        if let Some(ends) = ends.mapped() {
            self.connect_v4(ends);
            return;
        }
        self.kind = Kind::IPV6;
        self.update_v6(ends, true);
        self.name = self.tuple_text();
    }

    /// The address that a connection goes to, where both ends are not told.
    fn set_destination(&mut self, address: &SocketAddress<'_>, name: Vec<u8>) {
        match address {
            SocketAddress::Inet(ip, port) => self.set_destination_v4(*ip, *port),
            SocketAddress::Inet6(ip, port) => match ip.to_ipv4_mapped() {
                Some(ip) => self.set_destination_v4(ip, *port),
                None => {
                    self.kind = Kind::IPV6;
                    let ends = self.socket.ipv6();
                    self.socket.set_ipv6(Ends { destination: *ip, destination_port: *port, ..ends });
                }
            },
            SocketAddress::Unix(_) | SocketAddress::Other(_) => self.name = name,
        }
    }

    fn set_destination_v4(&mut self, destination: Ipv4Addr, destination_port: u16) {
        self.kind = Kind::IPV4;
        let ends = self.socket.ipv4();
        self.socket.set_ipv4(Ends { destination, destination_port, ..ends });
    }

    fn update_v4(&mut self, ends: Ends<Ipv4Addr>, overwrites: bool) -> bool {
        let Some(updated) = updated(self.socket.ipv4(), ends, overwrites, self.kind == Kind::IPV4) else {
            return false;
        };
        self.socket.set_ipv4(updated);
        true
    }

    fn update_v6(&mut self, ends: Ends<Ipv6Addr>, overwrites: bool) -> bool {
        let Some(updated) = updated(self.socket.ipv6(), ends, overwrites, self.kind == Kind::IPV6) else {
            return false;
        };
        self.socket.set_ipv6(updated);
        true
    }
}

/// Addresses with what is new; `None` if nothing is. A destination that is known stays unless it is to be overwritten.
fn updated<A: Address>(known: Ends<A>, new: Ends<A>, overwrites: bool, is_same_kind: bool) -> Option<Ends<A>> {
    if is_same_kind && (known == new || known == new.swapped()) {
        return None;
    }
    let mut updated = Ends { source: new.source, source_port: new.source_port, ..known };
    if known.destination.is_zero() || overwrites {
        updated.destination = new.destination;
    }
    if known.destination_port == 0 || overwrites {
        updated.destination_port = new.destination_port;
    }
    (updated != known).then_some(updated)
}

/// The tuple of a connection as Falco writes it where there is none.
fn tuple_text(call: &Call<'_>) -> Vec<u8> {
    call.params.bytes(1).and_then(SocketTuple::parse).map_or_else(|| b"NULL".to_vec(), |tuple| tuple.text())
}

fn transport(ty: u32, protocol: u32) -> Transport {
    let or_raw = |transport| if ty == number::SOCK_RAW { Transport::RAW } else { transport };
    match protocol {
        number::IPPROTO_TCP => or_raw(Transport::TCP),
        number::IPPROTO_UDP => or_raw(Transport::UDP),
        number::IPPROTO_ICMP => or_raw(Transport::ICMP),
        number::IPPROTO_RAW => Transport::RAW,
        number::IPPROTO_IP => match ty & 0xff {
            number::SOCK_STREAM => Transport::TCP,
            number::SOCK_DGRAM => Transport::UDP,
            _ => Transport::UNKNOWN,
        },
        _ => Transport::UNKNOWN,
    }
}
