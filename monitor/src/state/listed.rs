//! What a capture of another tool lists before its events.

use std::sync::Arc;

use super::{
    State,
    descriptor::{Descriptor, Kind, flag},
    socket::Transport,
    thread::{Capabilities, Executable, Image, Memory, Thread, ThreadKey, flag as thread_flag},
};
use crate::event::{
    address::Ends,
    listed::{self, DescriptorKind},
    path::concatenate,
};

impl State {
    /// Forgets everything: another capture begins.
    pub(super) fn begin_section(&mut self) {
        let session = std::mem::take(&mut self.session);
        *self = Self { session, ..Self::default() };
    }

    pub(super) fn machine(&mut self, machine: &listed::Machine<'_>) {
        self.session.hostname = String::from_utf8_lossy(machine.hostname).into_owned();
        self.session.identity = format!("{}/{}", self.session.hostname, machine.boot_ts_epoch_ns);
    }

    pub(super) fn listed_thread(&mut self, listed: &listed::Thread<'_>) {
        let key = ThreadKey::exact(listed.tid);
        let path = listed.exepath.strip_suffix(b" (deleted)").filter(|path| !path.is_empty()).unwrap_or(listed.exepath);
        let image = Image::new(listed.comm, listed.exe, listed.args, path);
        let mut thread = Thread {
            pid: listed.pid,
            parent: ThreadKey::exact(listed.ptid),
            sid: listed.sid,
            vpgid: listed.vpgid,
            pgid: listed.pgid,
            vtid: listed.vtid,
            vpid: listed.vpid,
            uid: listed.uid,
            gid: listed.gid,
            loginuid: listed.loginuid,
            tty: listed.tty,
            flags: listed.flags | thread_flag::ACTIVE,
            executable: Executable {
                writable: listed.exe_writable,
                upper_layer: listed.exe_upper_layer,
                lower_layer: listed.exe_lower_layer,
                from_memfd: listed.exe_from_memfd,
                ino: listed.exe_ino,
                ctime_ns: listed.exe_ino_ctime_ns,
                mtime_ns: listed.exe_ino_mtime_ns,
                ..Executable::default()
            },
            root: listed.root.into(),
            cgroups: self.containers.control_groups(listed.cgroups).unwrap_or_default(),
            descriptor_limit: listed.fdlimit,
            capabilities: Capabilities {
                inheritable: listed.cap_inheritable,
                permitted: listed.cap_permitted,
                effective: listed.cap_effective,
            },
            memory: Memory {
                size_kib: listed.vmsize_kb,
                resident_kib: listed.vmrss_kb,
                swapped_kib: listed.vmswap_kb,
                major_faults: listed.pfmajor,
                minor_faults: listed.pfminor,
            },
            pidns_start_ns: listed.pidns_init_start_ns,
            ..Thread::new(key, Arc::new(image))
        };
        thread.container = self.containers.of_control_groups(&thread.cgroups);
        self.users.meet(thread.uid, thread.gid);
        if thread.is_leader() {
            thread.environment = listed.env.strip_suffix(&[0]).unwrap_or(listed.env).into();
            thread.cwd = concatenate(b"", listed.cwd);
            if thread.cwd.last() != Some(&b'/') {
                thread.cwd.push(b'/');
            }
        }
        self.threads.list(thread);
    }

    pub(super) fn listed_descriptor(&mut self, listed: &listed::Descriptor<'_>) {
        let Some(mut descriptor) = descriptor(listed) else { return };
        if descriptor.kind.has_tuple() {
            descriptor.name = match descriptor.kind {
                Kind::IPV4 => descriptor.socket.ipv4().text(),
                _ => descriptor.socket.ipv6().text(),
            };
        }
        if let Some((_, port)) = descriptor.listening() {
            self.server_ports.insert(port);
        }
        if let Some(thread) = self.threads.get_mut(ThreadKey::exact(listed.tid)) {
            thread.descriptors.insert(listed.fd, Arc::new(descriptor));
        }
    }

    /// The lists are complete: relates threads, and says of listed connections which end is the client.
    pub(super) fn end_lists(&mut self) {
        self.threads.relate_listed();
        for thread in self.threads.all_mut() {
            let numbers: Vec<i64> = thread
                .descriptors
                .iter()
                .filter(|(_, descriptor)| descriptor.kind == Kind::IPV4)
                .map(|(fd, _)| fd)
                .collect();
            for fd in numbers {
                let Some(descriptor) = thread.descriptors.get_mut(fd) else { continue };
                if self.server_ports.contains(&descriptor.socket.ipv4().source_port) {
                    descriptor.swap_ends();
                    descriptor.name = descriptor.socket.ipv4().text();
                    descriptor.flags |= flag::SERVER;
                } else {
                    descriptor.flags |= flag::CLIENT;
                }
            }
        }
        self.server_ports.clear();
    }
}

fn descriptor(listed: &listed::Descriptor<'_>) -> Option<Descriptor> {
    let mut descriptor = Descriptor { ino: listed.ino, ..Descriptor::default() };
    let transport = match &listed.kind {
        DescriptorKind::Ipv4 { source, destination, l4proto } => {
            descriptor.kind = Kind::IPV4;
            descriptor.socket.set_ipv4(Ends {
                source: *source.ip(),
                source_port: source.port(),
                destination: *destination.ip(),
                destination_port: destination.port(),
            });
            *l4proto
        }
        DescriptorKind::Ipv6 { source, destination, l4proto } => {
            let ends = Ends {
                source: *source.ip(),
                source_port: source.port(),
                destination: *destination.ip(),
                destination_port: destination.port(),
            };
            if let Some(ends) = ends.mapped() {
                descriptor.kind = Kind::IPV4;
                descriptor.socket.set_ipv4(ends);
            } else {
                descriptor.kind = Kind::IPV6;
                descriptor.socket.set_ipv6(ends);
            }
            *l4proto
        }
        DescriptorKind::Ipv4Listen { address, l4proto } => {
            descriptor.kind = Kind::IPV4_SERVER;
            descriptor.socket.set_ipv4_server(*address.ip(), address.port());
            descriptor.name = address.to_string().into_bytes();
            *l4proto
        }
        DescriptorKind::Ipv6Listen { address, l4proto } => {
            descriptor.kind = Kind::IPV6_SERVER;
            descriptor.socket.set_ipv6_server(*address.ip(), address.port());
            descriptor.name = format!("{}:{}", address.ip(), address.port()).into_bytes();
            *l4proto
        }
        DescriptorKind::Unix { source, destination, name } => {
            descriptor.kind = Kind::UNIX;
            descriptor.socket.set_unix(*source, *destination);
            descriptor.name = name.to_vec();
            descriptor.flags |= if name.is_empty() { flag::CLIENT } else { flag::SERVER };
            return Some(descriptor);
        }
        DescriptorKind::File { open_flags, name, dev } => {
            descriptor.kind = Kind::FILE_V2;
            (descriptor.open_flags, descriptor.dev) = (*open_flags, *dev);
            descriptor.name = name.to_vec();
            return Some(descriptor);
        }
        DescriptorKind::Other { ty, name } => {
            descriptor.kind = Kind(ty.0);
            descriptor.name = name.to_vec();
            return (descriptor.kind != Kind::UNKNOWN).then_some(descriptor);
        }
    };
    let transport = Transport(transport);
    descriptor.socket.set_transport(descriptor.kind, transport);
    if descriptor.kind.has_tuple() && transport == Transport::TCP {
        descriptor.set_connected();
    }
    Some(descriptor)
}
