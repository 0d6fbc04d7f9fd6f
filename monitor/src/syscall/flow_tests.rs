//! System calls as the sensor tells them, through the whole flow to what a rule's output says of them.

use monitor_ebpf::record::{FileFacts, SocketFacts, file_flag};
use zerocopy::FromZeros as _;

use crate::{
    pipeline::{Pipeline, Selection},
    proto::v1::Priority,
    record::builder::{self, Pieces},
    report::Mode,
    rules::{Options, RuleSet, Source},
};

const WRITABLE: u32 = 2;
const REGULAR: u32 = 0o100_644;
const DIRECTORY: u32 = 0o040_755;
const SOCKET: u32 = 0o140_777;
const CWD: i64 = -100;
const ENOENT: i64 = -2;

/// What a rule that takes every call says of these records.
fn say(records: &[Vec<u8>], output: &str) -> Vec<String> {
    let text = format!(
        "- rule: call\n  desc: d\n  condition: evt.type != execve and evt.type exists\n  output: \"{output}\"\n  priority: INFO\n"
    );
    let loaded = RuleSet::load(&[Source { name: "r".into(), text: text.into() }], &Options::default());
    let rules = loaded.rules.unwrap();
    let mut pipeline =
        Pipeline::new(Selection { rules, filter: None, min_priority: Priority::Debug }, Mode::Replay, || 0);
    let mut said = Vec::new();
    let shell = builder::exec(5, 1, "/bin/sh", &["sh"]);
    for record in [builder::session(), shell].iter().chain(records) {
        pipeline.record(record, &mut |finding| said.push(finding.message));
    }
    said
}

fn file(ino: u64, mode: u32) -> FileFacts {
    FileFacts { ino, dev: 254 << 20 | 1, mode, ..FileFacts::new_zeroed() }
}

fn inet(local: [u8; 4], local_port: u16, remote: [u8; 4], remote_port: u16, protocol: u16) -> SocketFacts {
    let mut facts = SocketFacts { family: 2, ty: 1, protocol, local_port, remote_port, ..SocketFacts::new_zeroed() };
    facts.local[..4].copy_from_slice(&local);
    facts.remote[..4].copy_from_slice(&remote);
    facts
}

/// `struct sockaddr_in`
fn address(ip: [u8; 4], port: u16) -> Vec<u8> {
    [&2_u16.to_le_bytes()[..], &port.to_be_bytes(), &ip, &[0; 8]].concat()
}

/// `connect` of descriptor 4, a socket of inode 9.
fn connect(ret: i64, socket: SocketFacts, given: &[u8]) -> Vec<u8> {
    builder::call(5, 42, &[4, 1, 16], ret, |call: &mut Pieces<'_>| {
        (call.record.fd, call.record.file) = (4, file(9, SOCKET));
        call.socket = Some(socket);
        call.structure = given;
    })
}

#[test]
fn an_open_has_the_kernels_path_and_the_callers() {
    let open = builder::call(5, 257, &[CWD, 1, 0o2_001_101, 0o644], 3, |call| {
        call.record.file = FileFacts { flags: file_flag::OVERLAY | file_flag::OVERLAY_UPPER, ..file(77, REGULAR) };
        (call.record.open_mode, call.record.cpu) = (WRITABLE | 0x10_0000, 1);
        call.texts[0] = b"link/passwd";
        call.path = b"/etc/passwd";
        call.directories[0] = b"/tmp";
    });
    let output = "%evt.type %evt.res %fd.num %fd.name %fd.nameraw %fd.typechar %fd.ino %fd.dev.major:%fd.dev.minor \
                  %evt.is_open_write %evt.is_open_read %evt.arg.flags %evt.arg.mode %evt.cpu %proc.cwd";
    assert_eq!(
        say(&[open], output),
        ["openat SUCCESS 3 /etc/passwd link/passwd f 77 254:1 true false \
          O_TRUNC|O_CREAT|O_WRONLY|O_CLOEXEC|O_F_CREATED|FD_UPPER_LAYER 0644 1 /tmp/"]
    );
}

#[test]
fn an_open_that_fails_has_the_name_that_was_asked_for() {
    let relative = builder::call(5, 257, &[CWD, 1, 0], ENOENT, |call| {
        call.texts[0] = b"../nothing";
        call.directories[0] = b"/srv/data";
    });
    let in_directory = builder::call(5, 257, &[7, 1, 0], ENOENT, |call| {
        call.texts[0] = b"nothing";
        call.directories[0] = b"/var/lib";
    });
    let at_root = builder::call(5, 2, &[1, 0], ENOENT, |call| {
        call.texts[0] = b"nothing";
        call.directories[0] = b"/";
    });
    assert_eq!(
        say(&[relative, in_directory, at_root], "%evt.type %evt.res %fd.name"),
        ["openat ENOENT /srv/nothing", "openat ENOENT /var/lib/nothing", "open ENOENT /nothing"]
    );
}

#[test]
fn flags_of_openat2_come_from_its_structure() {
    let how: Vec<u8> = [0o2_u64, 0o600, 8].iter().flat_map(|word| word.to_le_bytes()).collect();
    let open = builder::call(5, 437, &[CWD, 1, 2, 24], 3, |call| {
        call.record.file = file(7, DIRECTORY);
        call.texts[0] = b"/srv";
        call.structure = &how;
        call.path = b"/srv";
    });
    assert_eq!(
        say(&[open], "%evt.type %evt.arg.flags %evt.arg.resolve %fd.typechar %fd.name"),
        ["openat2 O_RDWR RESOLVE_BENEATH d /srv"]
    );
}

#[test]
fn names_are_relative_to_the_directory_that_the_kernel_tells() {
    let rename = builder::call(5, 264, &[7, 1, CWD, 2], 0, |call| {
        call.texts = [b"a", b"b", b""];
        call.directories = [b"/one", b"/two"];
    });
    let unlink = builder::call(5, 263, &[7, 1, 0x200], 0, |call| {
        call.texts[0] = b"c";
        call.directories[0] = b"/one";
    });
    let output = "%evt.type %fs.path.name %fs.path.source %fs.path.target %evt.arg.flags";
    assert_eq!(
        say(&[rename, unlink], output),
        ["renameat <NA> /one/a /two/b <NA>", "unlinkat /one/c <NA> <NA> AT_REMOVEDIR"]
    );
}

#[test]
fn a_connection_has_the_kernels_addresses_and_a_refused_one_the_callers() {
    let given = address([10, 0, 0, 9], 443);
    let made = connect(0, inet([10, 0, 0, 5], 41_000, [10, 0, 0, 9], 443, 6), &given);
    let refused = connect(-111, inet([0; 4], 0, [0; 4], 0, 6), &given);
    let output = "%evt.res %fd.name %fd.cip %fd.sip %fd.sport %fd.l4proto %evt.arg.addr";
    assert_eq!(
        say(&[made, refused], output),
        [
            "SUCCESS 10.0.0.5:41000->10.0.0.9:443 10.0.0.5 10.0.0.9 443 tcp 10.0.0.9:443",
            "ECONNREFUSED 10.0.0.5:41000->10.0.0.9:443 10.0.0.5 10.0.0.9 443 tcp 10.0.0.9:443",
        ]
    );
}

#[test]
fn a_datagram_to_the_same_peer_changes_no_name() {
    let send = |ip: [u8; 4]| {
        let given = address(ip, 53);
        builder::call(5, 44, &[4, 1, 8, 0, 1, 16], 8, |call| {
            (call.record.fd, call.record.file) = (4, file(9, SOCKET));
            call.socket = Some(SocketFacts { ty: 2, ..inet([0; 4], 4000, [0; 4], 0, 17) });
            call.structure = given.leak();
        })
    };
    let records = [send([10, 0, 0, 1]), send([10, 0, 0, 1]), send([10, 0, 0, 2])];
    assert_eq!(
        say(&records, "%fd.sip %fd.l4proto %fd.name_changed"),
        ["10.0.0.1 udp true", "10.0.0.1 udp false", "10.0.0.2 udp true"]
    );
}

#[test]
fn a_copy_of_a_descriptor_is_what_it_was_made_from() {
    let dup = builder::call(5, 33, &[4, 1], 1, |call| {
        (call.record.fd, call.record.file) = (4, file(9, SOCKET));
        call.socket = Some(inet([10, 0, 0, 5], 41_000, [10, 0, 0, 9], 443, 6));
    });
    assert_eq!(say(&[dup], "%evt.type %evt.rawres %fd.num %fd.type"), ["dup2 1 1 ipv4"]);
}

#[test]
fn a_call_of_the_32_bit_table_is_the_same_event() {
    let mut unlink = builder::call(5, 10, &[1], ENOENT, |call| {
        call.texts[0] = b"/tmp/x";
        call.record.header.flags = monitor_ebpf::record::header_flag::COMPAT;
    });
    assert_eq!(say(std::slice::from_ref(&unlink), "%evt.type %evt.arg.path"), ["unlink /tmp/x"]);
    unlink[2] = 0;
    assert_eq!(say(&[unlink], "%evt.type"), ["mprotect"], "the 64-bit table has another call there");
}

#[test]
fn a_call_that_falco_has_no_event_for_is_told_by_its_name() {
    let personality = builder::call(5, 135, &[0], 0, |_| {});
    assert_eq!(say(&[personality], "%evt.type %syscall.type"), ["personality personality"]);
}
