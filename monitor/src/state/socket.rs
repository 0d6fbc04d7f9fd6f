//! Addresses of sockets.
//!
//! The bytes are laid out as Falco's state has them: one place for the addresses of a connection, of a listener, and of a Unix
//! socket. What an operation leaves there, the next one finds; findings on captures must be those of Falco, and so must that be.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::descriptor::{Descriptor, Kind, flag};
use crate::event::address::{Ends, unix_text};

/// Transport protocol: numbers of Falco's captures (`scap_l4_proto`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport(pub u8);

impl Transport {
    /// Not known.
    pub const UNKNOWN: Transport = Transport(0);
    /// It has none.
    pub const NONE: Transport = Transport(1);
    /// TCP
    pub const TCP: Transport = Transport(2);
    /// UDP
    pub const UDP: Transport = Transport(3);
    /// ICMP
    pub const ICMP: Transport = Transport(4);
    /// Raw IP
    pub const RAW: Transport = Transport(5);

    /// `fd.l4proto`
    pub const fn name(self) -> &'static str {
        match self {
            Self::TCP => "tcp",
            Self::UDP => "udp",
            Self::ICMP => "icmp",
            Self::RAW => "raw",
            _ => "<NA>",
        }
    }
}

/// An address of either family.
pub trait Address: Copy + PartialEq + Into<IpAddr> {
    /// Whether it is all zero.
    fn is_zero(self) -> bool;
}

impl Address for Ipv4Addr {
    fn is_zero(self) -> bool {
        self.is_unspecified()
    }
}

impl Address for Ipv6Addr {
    fn is_zero(self) -> bool {
        self.is_unspecified()
    }
}

/// Where each member is.
mod at {
    pub(super) const IPV4: [usize; 5] = [0, 4, 8, 10, 12];
    pub(super) const IPV6: [usize; 5] = [0, 16, 32, 34, 36];
    pub(super) const IPV4_SERVER: [usize; 3] = [0, 4, 6];
    pub(super) const IPV6_SERVER: [usize; 3] = [0, 16, 18];
    pub(super) const UNIX: [usize; 2] = [0, 8];
}

/// The addresses of a socket; which of them count, its [`Kind`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket([u8; 40]);

impl Default for Socket {
    fn default() -> Self {
        Self([0; 40])
    }
}

impl Socket {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
    }

    fn put<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        if let Some(place) = self.0.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            *place = bytes;
        }
    }

    fn port(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    /// Addresses of a connection over IPv4.
    pub fn ipv4(&self) -> Ends<Ipv4Addr> {
        let [source, destination, source_port, destination_port, _] = at::IPV4;
        Ends {
            source: self.bytes(source).into(),
            source_port: self.port(source_port),
            destination: self.bytes(destination).into(),
            destination_port: self.port(destination_port),
        }
    }

    /// Sets them.
    pub fn set_ipv4(&mut self, tuple: Ends<Ipv4Addr>) {
        let [source, destination, source_port, destination_port, _] = at::IPV4;
        self.put(source, tuple.source.octets());
        self.put(source_port, tuple.source_port.to_le_bytes());
        self.put(destination, tuple.destination.octets());
        self.put(destination_port, tuple.destination_port.to_le_bytes());
    }

    /// Addresses of a connection over IPv6.
    pub fn ipv6(&self) -> Ends<Ipv6Addr> {
        let [source, destination, source_port, destination_port, _] = at::IPV6;
        Ends {
            source: self.bytes(source).into(),
            source_port: self.port(source_port),
            destination: self.bytes(destination).into(),
            destination_port: self.port(destination_port),
        }
    }

    /// Sets them.
    pub fn set_ipv6(&mut self, tuple: Ends<Ipv6Addr>) {
        let [source, destination, source_port, destination_port, _] = at::IPV6;
        self.put(source, tuple.source.octets());
        self.put(source_port, tuple.source_port.to_le_bytes());
        self.put(destination, tuple.destination.octets());
        self.put(destination_port, tuple.destination_port.to_le_bytes());
    }

    /// Address and port of a listener over IPv4.
    pub fn ipv4_server(&self) -> (Ipv4Addr, u16) {
        let [address, port, _] = at::IPV4_SERVER;
        (self.bytes(address).into(), self.port(port))
    }

    /// Sets them.
    pub fn set_ipv4_server(&mut self, address: Ipv4Addr, port_number: u16) {
        let [address_at, port, _] = at::IPV4_SERVER;
        self.put(address_at, address.octets());
        self.put(port, port_number.to_le_bytes());
    }

    /// Address and port of a listener over IPv6.
    pub fn ipv6_server(&self) -> (Ipv6Addr, u16) {
        let [address, port, _] = at::IPV6_SERVER;
        (self.bytes(address).into(), self.port(port))
    }

    /// Sets them.
    pub fn set_ipv6_server(&mut self, address: Ipv6Addr, port_number: u16) {
        let [address_at, port, _] = at::IPV6_SERVER;
        self.put(address_at, address.octets());
        self.put(port, port_number.to_le_bytes());
    }

    /// Kernel addresses of the two ends of a Unix socket.
    pub fn unix(&self) -> (u64, u64) {
        let [source, destination] = at::UNIX;
        (u64::from_le_bytes(self.bytes(source)), u64::from_le_bytes(self.bytes(destination)))
    }

    /// Sets them.
    pub fn set_unix(&mut self, source: u64, destination: u64) {
        let [source_at, destination_at] = at::UNIX;
        self.put(source_at, source.to_le_bytes());
        self.put(destination_at, destination.to_le_bytes());
    }

    /// Transport protocol, as a socket of this kind has it.
    pub fn transport(&self, kind: Kind) -> Transport {
        transport_at(kind).map_or(Transport::UNKNOWN, |at| Transport(self.bytes::<1>(at)[0]))
    }

    /// Sets it.
    pub fn set_transport(&mut self, kind: Kind, transport: Transport) {
        if let Some(at) = transport_at(kind) {
            self.put(at, [transport.0]);
        }
    }
}

fn transport_at(kind: Kind) -> Option<usize> {
    match kind {
        Kind::IPV4 => Some(at::IPV4[4]),
        Kind::IPV6 => Some(at::IPV6[4]),
        Kind::IPV4_SERVER => Some(at::IPV4_SERVER[2]),
        Kind::IPV6_SERVER => Some(at::IPV6_SERVER[2]),
        _ => None,
    }
}

impl Descriptor {
    /// Whether it is TCP over IPv4.
    pub fn is_ipv4_tcp(&self) -> bool {
        self.kind == Kind::IPV4 && self.socket.transport(self.kind) == Transport::TCP
    }

    /// Whether it is UDP over IPv4.
    pub fn is_ipv4_udp(&self) -> bool {
        self.kind == Kind::IPV4 && self.socket.transport(self.kind) == Transport::UDP
    }

    /// Its transport protocol as rules see it: none as long as it is neither client nor server.
    pub fn transport(&self) -> Transport {
        let transport = self.socket.transport(self.kind);
        match self.kind {
            Kind::IPV4 | Kind::IPV6 if transport == Transport::RAW => Transport::RAW,
            Kind::IPV4 | Kind::IPV6 if self.is_without_role() => Transport::NONE,
            Kind::IPV4 | Kind::IPV6 | Kind::IPV4_SERVER | Kind::IPV6_SERVER => transport,
            _ => Transport::NONE,
        }
    }

    /// Both ends of a connection.
    pub fn ends(&self) -> Option<Ends<IpAddr>> {
        match self.kind {
            Kind::IPV4 => Some(self.socket.ipv4().map(IpAddr::from)),
            Kind::IPV6 => Some(self.socket.ipv6().map(IpAddr::from)),
            _ => None,
        }
    }

    /// Address and port of a listener.
    pub fn listening(&self) -> Option<(IpAddr, u16)> {
        match self.kind {
            Kind::IPV4_SERVER => Some(self.socket.ipv4_server()).map(|(address, port)| (address.into(), port)),
            Kind::IPV6_SERVER => Some(self.socket.ipv6_server()).map(|(address, port)| (address.into(), port)),
            _ => None,
        }
    }

    /// The addresses of a connection as its name.
    pub fn tuple_text(&self) -> Vec<u8> {
        let transport = self.socket.transport(self.kind);
        let has_ports = matches!(transport, Transport::TCP | Transport::UDP);
        let has_none = transport == Transport::ICMP || (transport == Transport::RAW && self.kind == Kind::IPV4);
        match self.kind {
            Kind::IPV4 if has_ports => self.socket.ipv4().text(),
            Kind::IPV4 if has_none => self.socket.ipv4().text_without_ports(),
            Kind::IPV6 if has_ports => self.socket.ipv6().text(),
            Kind::IPV6 if has_none => {
                let ends = self.socket.ipv6();
                ends.mapped().map_or_else(|| ends.text_without_ports(), |mapped| mapped.text_without_ports())
            }
            Kind::UNIX => {
                let (source, destination) = self.socket.unix();
                unix_text(source, destination, b"")
            }
            _ => b"<unknown>".to_vec(),
        }
    }

    /// Exchanges source and destination.
    pub fn swap_ends(&mut self) {
        match self.kind {
            Kind::IPV4 => self.socket.set_ipv4(self.socket.ipv4().swapped()),
            _ => self.socket.set_ipv6(self.socket.ipv6().swapped()),
        }
    }

    /// Whether it may talk to others over a network.
    pub fn set_connected(&mut self) {
        self.flags |= flag::CONNECTED;
    }
}
