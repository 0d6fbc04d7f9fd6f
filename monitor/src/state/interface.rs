//! Network interfaces: which addresses are this machine's, and which one a packet leaves by.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    descriptor::{Descriptor, Kind},
    socket::Address,
};
use crate::event::{address::Ends, listed::Interface};

/// Interfaces that are kept of each family.
const MAX_INTERFACES: usize = 4096;

/// The interfaces of a machine.
#[derive(Clone, Debug, Default)]
pub struct Interfaces {
    /// Address and netmask.
    ipv4: Vec<(Ipv4Addr, Ipv4Addr)>,
    ipv6: Vec<Ipv6Addr>,
}

impl Interfaces {
    /// Takes in one of a list.
    pub(super) fn list(&mut self, interface: &Interface<'_>) {
        match (interface.address, interface.netmask) {
            (IpAddr::V4(address), IpAddr::V4(netmask)) if self.ipv4.len() < MAX_INTERFACES => {
                self.ipv4.push((address, netmask));
            }
            (IpAddr::V6(address), _) if self.ipv6.len() < MAX_INTERFACES => self.ipv6.push(address),
            _ => {}
        }
    }

    /// Whether an address is one of the machine's.
    pub fn is_local(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.ipv4.iter().any(|(local, _)| *local == address),
            IpAddr::V6(address) => self.ipv6.iter().any(|local| is_near(address, *local)),
        }
    }

    /// Puts an interface's address in where a connection has none.
    pub(super) fn complete(&self, descriptor: &mut Descriptor) {
        match descriptor.kind {
            Kind::IPV4 => {
                let ends = completed(descriptor.socket.ipv4(), |other| self.towards_v4(other));
                descriptor.socket.set_ipv4(ends);
            }
            Kind::IPV6 => {
                let ends = completed(descriptor.socket.ipv6(), |other| self.towards_v6(other));
                descriptor.socket.set_ipv6(ends);
            }
            _ => {}
        }
    }

    /// The address by which packets leave for another: itself if it is local, one of the same network, or any.
    fn towards_v4(&self, other: Ipv4Addr) -> Ipv4Addr {
        let masked = |address: Ipv4Addr, netmask: Ipv4Addr| address.to_bits() & netmask.to_bits();
        let same = self.ipv4.iter().find(|(local, _)| *local == other);
        let near = || self.ipv4.iter().find(|(local, netmask)| masked(*local, *netmask) == masked(other, *netmask));
        let any = || self.ipv4.iter().find(|(local, _)| *local != Ipv4Addr::LOCALHOST);
        same.or_else(near).or_else(any).map_or(Ipv4Addr::UNSPECIFIED, |(local, _)| *local)
    }

    fn towards_v6(&self, other: Ipv6Addr) -> Ipv6Addr {
        let same = self.ipv6.iter().find(|local| **local == other);
        let near = || self.ipv6.iter().find(|local| is_near(**local, other));
        let any = || self.ipv6.iter().find(|local| **local != Ipv6Addr::LOCALHOST);
        same.or_else(near).or_else(any).copied().unwrap_or(Ipv6Addr::UNSPECIFIED)
    }
}

/// Falco takes the first 64 bits for the network.
fn is_near(a: Ipv6Addr, b: Ipv6Addr) -> bool {
    a.to_bits() >> 64 == b.to_bits() >> 64
}

fn completed<A: Address>(ends: Ends<A>, towards: impl Fn(A) -> A) -> Ends<A> {
    let is_same_port = ends.source_port == ends.destination_port;
    match (ends.source.is_zero(), ends.destination.is_zero()) {
        (false, false) => ends,
        (true, _) => {
            let source = towards(ends.destination);
            if source == ends.destination && is_same_port { ends } else { Ends { source, ..ends } }
        }
        (false, true) => {
            let destination = towards(ends.source);
            if destination == ends.source && is_same_port { ends } else { Ends { destination, ..ends } }
        }
    }
}
