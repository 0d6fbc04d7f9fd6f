//! Socket addresses and tuples as parameters of events carry them, and as text.
//!
//! A family in one byte, then for IPv4 and IPv6 addresses in network order with ports in the machine's, and for Unix sockets
//! kernel addresses and a path that ends with NUL. A value that is too short for its family is none.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::path::until_nul;

/// Families in the numbers of Falco's captures.
mod family {
    pub(super) const UNIX: u8 = 1;
    pub(super) const INET: u8 = 2;
    pub(super) const INET6: u8 = 10;
}

/// One end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketAddress<'a> {
    /// Address and port.
    Inet(Ipv4Addr, u16),
    /// Address and port.
    Inet6(Ipv6Addr, u16),
    /// Path.
    Unix(&'a [u8]),
    /// Another family.
    Other(u8),
}

impl<'a> SocketAddress<'a> {
    /// Reads one.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (family, rest) = bytes.split_first()?;
        Some(match *family {
            family::INET => {
                let (address, port) = (array::<4>(rest, 0)?, array(rest, 4)?);
                Self::Inet(address.into(), u16::from_le_bytes(port))
            }
            family::INET6 => {
                let (address, port) = (array::<16>(rest, 0)?, array(rest, 16)?);
                Self::Inet6(address.into(), u16::from_le_bytes(port))
            }
            family::UNIX => Self::Unix(until_nul(rest.strip_suffix(&[0]).map(|_| rest)?)),
            other => Self::Other(other),
        })
    }

    /// As Falco writes it.
    pub fn text(&self) -> Vec<u8> {
        match self {
            Self::Inet(address, port) => format!("{address}:{port}").into_bytes(),
            Self::Inet6(address, port) => format!("{address}:{port}").into_bytes(),
            Self::Unix(path) => path.to_vec(),
            Self::Other(family) => format!("family {family}").into_bytes(),
        }
    }
}

/// Both ends: the client's or the one that called first, and the server's or the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketTuple<'a> {
    /// Source and destination, address and port.
    Inet(Ends<Ipv4Addr>),
    /// Source and destination, address and port.
    Inet6(Ends<Ipv6Addr>),
    /// Kernel addresses of source and destination, and a path.
    Unix(u64, u64, &'a [u8]),
    /// Another family.
    Other(u8),
}

/// Addresses and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends<A> {
    /// Address of the client.
    pub source: A,
    /// Port of the client.
    pub source_port: u16,
    /// Address of the server.
    pub destination: A,
    /// Port of the server.
    pub destination_port: u16,
}

impl<A> Ends<A> {
    /// The other way round.
    #[must_use]
    pub fn swapped(self) -> Self {
        Self {
            source: self.destination,
            source_port: self.destination_port,
            destination: self.source,
            destination_port: self.source_port,
        }
    }

    /// The same with other addresses.
    pub fn map<B>(self, convert: impl Fn(A) -> B) -> Ends<B> {
        Ends {
            source: convert(self.source),
            source_port: self.source_port,
            destination: convert(self.destination),
            destination_port: self.destination_port,
        }
    }
}

impl Ends<Ipv6Addr> {
    /// The IPv4 addresses, where both are such. No address of either family counts as one of IPv4.
    pub fn mapped(&self) -> Option<Ends<Ipv4Addr>> {
        let mapped = |address: Ipv6Addr| match address {
            Ipv6Addr::UNSPECIFIED => Some(Ipv4Addr::UNSPECIFIED),
            address => address.to_ipv4_mapped(),
        };
        Some(Ends {
            source: mapped(self.source)?,
            source_port: self.source_port,
            destination: mapped(self.destination)?,
            destination_port: self.destination_port,
        })
    }
}

impl<A: Into<IpAddr> + Copy> Ends<A> {
    /// `source:port->destination:port`
    pub fn text(&self) -> Vec<u8> {
        let (source, destination): (IpAddr, IpAddr) = (self.source.into(), self.destination.into());
        format!("{source}:{}->{destination}:{}", self.source_port, self.destination_port).into_bytes()
    }

    /// `source->destination`
    pub fn text_without_ports(&self) -> Vec<u8> {
        let (source, destination): (IpAddr, IpAddr) = (self.source.into(), self.destination.into());
        format!("{source}->{destination}").into_bytes()
    }
}

impl<'a> SocketTuple<'a> {
    /// Reads one.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (family, rest) = bytes.split_first()?;
        Some(match *family {
            family::INET => Self::Inet(Ends {
                source: array::<4>(rest, 0)?.into(),
                source_port: u16::from_le_bytes(array(rest, 4)?),
                destination: array::<4>(rest, 6)?.into(),
                destination_port: u16::from_le_bytes(array(rest, 10)?),
            }),
            family::INET6 => Self::Inet6(Ends {
                source: array::<16>(rest, 0)?.into(),
                source_port: u16::from_le_bytes(array(rest, 16)?),
                destination: array::<16>(rest, 18)?.into(),
                destination_port: u16::from_le_bytes(array(rest, 34)?),
            }),
            family::UNIX => {
                let path = rest.get(16..)?;
                path.strip_suffix(&[0])?;
                let (source, destination) = (array(rest, 0)?, array(rest, 8)?);
                Self::Unix(u64::from_le_bytes(source), u64::from_le_bytes(destination), until_nul(path))
            }
            other => Self::Other(other),
        })
    }

    /// As Falco writes it.
    pub fn text(&self) -> Vec<u8> {
        match self {
            Self::Inet(ends) => ends.text(),
            Self::Inet6(ends) => ends.mapped().map_or_else(|| ends.text(), |mapped| mapped.text()),
            Self::Unix(source, destination, path) => unix_text(*source, *destination, path),
            Self::Other(family) => format!("family {family}").into_bytes(),
        }
    }
}

/// `source->destination path`, the kernel addresses in hexadecimal.
pub fn unix_text(source: u64, destination: u64, path: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(path.len() + 35);
    // Writing to memory does not fail.
    let _ = write!(text, "{source:x}->{destination:x} ");
    text.extend_from_slice(path);
    text
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
