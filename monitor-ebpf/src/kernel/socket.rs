//! What the kernel knows of a socket: family, protocol, and both ends.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use monitor_ebpf::{offsets::MISSING, record::SocketFacts};

use super::{globals::offset, read::probed, tail::Tail};

/// `AF_UNIX`, `AF_INET`, `AF_INET6`: `include/linux/socket.h`.
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// `IPPROTO_TCP`
const IPPROTO_TCP: u16 = 6;

/// The `struct sock *` of a socket's file.
#[inline(always)]
pub fn of(file: u64) -> u64 {
    let socket: u64 = probed(file, offset!(file_private_data));
    probed(socket, offset!(socket_sk))
}

/// Facts of a `struct sock *`.
#[inline(always)]
pub fn facts(sock: u64) -> SocketFacts {
    let family: u16 = probed(sock, offset!(sock_family));
    let mut facts = SocketFacts {
        local: [0; 16],
        remote: [0; 16],
        local_port: probed(sock, offset!(sock_local_port)),
        remote_port: u16::from_be(probed(sock, offset!(sock_remote_port))),
        family,
        ty: probed(sock, offset!(sock_type)),
        protocol: probed(sock, offset!(sock_protocol)),
        state: u16::from(probed::<u8>(sock, offset!(sock_state))),
        reserved: 0,
    };
    if family == AF_INET6 && offset!(sock_local6) != MISSING {
        facts.local = probed(sock, offset!(sock_local6));
        facts.remote = probed(sock, offset!(sock_remote6));
    } else if family == AF_INET {
        let (local, remote): ([u8; 4], [u8; 4]) =
            (probed(sock, offset!(sock_local4)), probed(sock, offset!(sock_remote4)));
        facts.local[..4].copy_from_slice(&local);
        facts.remote[..4].copy_from_slice(&remote);
    } else {
        (facts.local_port, facts.remote_port) = (0, 0);
    }
    facts
}

/// Whether it is a socket of the internet whose every message may have another peer.
#[inline(always)]
pub fn is_datagram(sock: u64) -> bool {
    let family: u16 = probed(sock, offset!(sock_family));
    (family == AF_INET || family == AF_INET6) && probed::<u16>(sock, offset!(sock_protocol)) != IPPROTO_TCP
}

/// Copies the name that a Unix socket is bound to.
#[inline(always)]
pub fn unix_name(tail: Tail, sock: u64) -> u16 {
    if probed::<u16>(sock, offset!(sock_family)) != AF_UNIX || offset!(unix_address) == MISSING {
        return 0;
    }
    let address: u64 = probed(sock, offset!(unix_address));
    let len: u32 = probed(address, offset!(unix_address_len));
    if address == 0 { 0 } else { tail.kernel_address(address + u64::from(offset!(unix_address_name)), len) }
}

/// Where a `struct msghdr` of the caller says that the address is, and its length.
#[inline(always)]
pub fn message_name(message: u64, compat: bool) -> (u64, u64) {
    let mut words = [0_u64; 2];
    // SAFETY: the helper takes any source and writes no more than it is told.
    unsafe { bpf_probe_read_user((&raw mut words).cast::<c_void>(), 16, message as *const c_void) };
    if compat { (words[0] & 0xffff_ffff, words[0] >> 32) } else { (words[0], words[1] & 0xffff_ffff) }
}
