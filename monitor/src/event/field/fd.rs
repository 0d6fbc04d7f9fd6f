//! `fd.*`, `fdlist.*` and `fs.path.*`: what it was done to. Tabular.

use super::{Source, fields};
use crate::{drift, event::value::Value};

fields! {
    "fd.num", Int, [], None, "Fd number of the event.", "3"
        => Source::One(|c, _| c.open().map(|open| Value::Int(open.fd.into())));
    "fd.type", Text, [], None, "File directory ipv4 ipv6 unix pipe event signalfd eventpoll inotify timerfd netlink bpf userfaultfd io_uring memfd pidfd.", "file"
        => Source::One(|c, _| c.open().map(|_| Value::text("file")));
    "fd.typechar", Text, [], None, "F d 4 6 u p e s l i t n b u(userfaultfd) r m P o X.", "f"
        => Source::One(|c, _| c.open().map(|_| Value::text("f")));
    "fd.name", Text, [], None, "Path or tuple text of the fd.", "/etc/passwd"
        => Source::One(|c, _| c.path.map(Value::text));
    "fd.directory", Text, [], None, "Directory part of a file fd name.", "/etc"
        => Source::One(|c, _| c.path.map(|path| Value::text(directory(path))));
    "fd.filename", Text, [], None, "Last component of a file fd name.", "passwd"
        => Source::One(|c, _| c.path.map(|path| Value::text(file_name(path))));
    "fd.ip", Ip, [FILTER_ONLY NO_FIELD NO_TRANSFORMER], None, "Filter only, client or server address.", "10.0.0.5"
        => Source::Awaited;
    "fd.cip", Ip, [], None, "Client address (source of tuple).", "10.0.0.5"
        => Source::Awaited;
    "fd.sip", Ip, [], None, "Server address (destination, or listening address).", "10.0.0.5"
        => Source::Awaited;
    "fd.lip", Ip, [], None, "Local address.", "10.0.0.5"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "fd.rip", Ip, [], None, "Remote address.", "10.0.0.5"
        => Source::Awaited;
    "fd.port", Port, [FILTER_ONLY NO_FIELD NO_TRANSFORMER], None, "Filter only, client or server port.", "443"
        => Source::Awaited;
    "fd.cport", Port, [], None, "Client port.", "51000"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "fd.sport", Port, [], None, "Server port.", "443"
        => Source::Awaited;
    "fd.lport", Port, [], None, "Local port.", "443"
        => Source::Awaited;
    "fd.rport", Port, [], None, "Remote port.", "51000"
        => Source::Awaited;
    "fd.l4proto", Text, [], None, "Tcp udp icmp raw or <NA>.", "tcp"
        => Source::Awaited;
    "fd.sockfamily", Text, [], None, "Ip or unix.", "ip"
        => Source::Awaited;
    "fd.is_server", Bool, [], None, "Listening socket, or destination is a local address.", "true"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "fd.uid", Text, [], None, "Tid and fd number concatenated.", "12343"
        => Source::One(|c, _| c.open().map(|open| Value::owned(format!("{}{}", c.event.header.tid, open.fd))));
    "fd.containername", Text, [], None, "Container id : fd name.", "3ad7b26ded6d:/etc/passwd"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "fd.containerdirectory", Text, [], None, "Container id : directory.", "3ad7b26ded6d:/etc"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "fd.proto", Port, [FILTER_ONLY NO_FIELD NO_TRANSFORMER], None, "Filter only, either port by service name.", "https"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "fd.cproto", Text, [], None, "Client port as text.", "51000"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "fd.sproto", Text, [], None, "Server port as text.", "https"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "fd.lproto", Text, [], None, "Local port as text.", "https"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "fd.rproto", Text, [], None, "Remote port as text.", "51000"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "fd.net", Net, [FILTER_ONLY NO_FIELD NO_TRANSFORMER], None, "Filter only, client or server in network.", "10.0.0.0/8"
        => Source::Awaited;
    "fd.cnet", Net, [FILTER_ONLY NO_FIELD NO_TRANSFORMER], None, "Filter only, client in network.", "10.0.0.0/8"
        => Source::Awaited;
    "fd.snet", Net, [FILTER_ONLY NO_FIELD NO_TRANSFORMER], None, "Filter only, server in network.", "10.0.0.0/8"
        => Source::Awaited;
    "fd.lnet", Net, [FILTER_ONLY NO_FIELD NO_TRANSFORMER], None, "Filter only, local in network.", "10.0.0.0/8"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "fd.rnet", Net, [FILTER_ONLY NO_FIELD NO_TRANSFORMER], None, "Filter only, remote in network.", "10.0.0.0/8"
        => Source::Awaited;
    "fd.connected", Bool, [], None, "Socket connected flag.", "true"
        => Source::Awaited;
    "fd.name_changed", Bool, [], None, "This event changed the fd name.", "true"
        => Source::Awaited;
    "fd.cip.name", Text, [NO_FIELD NO_TRANSFORMER], None, "Reverse/forward DNS name of client.", "client.example.com"
        => Source::Awaited;
    "fd.sip.name", Text, [NO_FIELD NO_TRANSFORMER], None, "DNS name of server.", "example.com"
        => Source::Awaited;
    "fd.lip.name", Text, [NO_FIELD NO_TRANSFORMER], None, "DNS name of local.", "node-1.example.com"
        => Source::Awaited;
    "fd.rip.name", Text, [NO_FIELD NO_TRANSFORMER], None, "DNS name of remote.", "example.com"
        => Source::Awaited;
    "fd.dev", Int32, [], None, "Device number hex.", "264241152"
        => Source::One(|c, _| c.open().map(|open| Value::Int(open.file.dev.into())));
    "fd.dev.major", Int32, [], None, "Major device.", "252"
        => Source::One(|c, _| c.open().map(|open| Value::Int((open.file.dev >> 20).into())));
    "fd.dev.minor", Int32, [], None, "Minor device.", "1"
        => Source::One(|c, _| c.open().map(|open| Value::Int((open.file.dev & 0xf_ffff).into())));
    "fd.ino", Int, [], None, "Inode.", "393231"
        => Source::One(|c, _| c.open().map(|open| Value::Int(open.file.ino.cast_signed())));
    "fd.nameraw", Text, [], None, "Path as given to the syscall, duplicate slashes removed.", "../etc/passwd"
        => Source::Awaited;
    "fd.types", Text, [LIST NO_FIELD], Index, "Distinct types of open fds, or of one fd.", "(file,ipv4)"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "fd.is_upper_layer", Bool, [], None, "File on overlay upper layer.", "true"
        => Source::One(|c, _| c.open().map(|open| Value::Bool(drift::layer(&open.file) == Some("upper"))));
    "fd.is_lower_layer", Bool, [], None, "File on overlay lower layer.", "true"
        => Source::One(|c, _| c.open().map(|open| Value::Bool(drift::layer(&open.file) == Some("lower"))));
    "fdlist.nums", Text, [], None, "Poll fds, comma list.", "3,4"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "fdlist.names", Text, [], None, "Poll fd names.", "/dev/null,10.0.0.5:41000->10.0.0.6:443"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "fdlist.cips", Text, [], None, "Poll client addresses.", "10.0.0.5"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "fdlist.sips", Text, [], None, "Poll server addresses.", "10.0.0.6"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "fdlist.cports", Text, [], None, "Poll client ports.", "41000"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "fdlist.sports", Text, [], None, "Poll server ports.", "443"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "fs.path.name", Text, [], None, "Resolved path of single-path fs syscalls, only on success.", "/tmp/x"
        => Source::One(|c, _| c.path.map(Value::text));
    "fs.path.nameraw", Text, [], None, "Same, as passed.", "x"
        => Source::Refused("the events that it is about are not decoded yet");
    "fs.path.source", Text, [], None, "Resolved source path of two-path syscalls.", "/tmp/old"
        => Source::Refused("the events that it is about are not decoded yet");
    "fs.path.sourceraw", Text, [], None, "Same, as passed.", "old"
        => Source::Refused("the events that it is about are not decoded yet");
    "fs.path.target", Text, [], None, "Resolved target path.", "/tmp/new"
        => Source::Refused("the events that it is about are not decoded yet");
    "fs.path.targetraw", Text, [], None, "Same, as passed.", "new"
        => Source::Refused("the events that it is about are not decoded yet");
}

/// What stands before the last slash, or `/`.
fn directory(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) if slash > 0 => path.get(..slash).unwrap_or_default(),
        _ => b"/",
    }
}

/// What stands behind the last slash.
fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}
