//! Tests of the whole reader, on captures that are put together here.

use std::{
    io::{Cursor, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddrV4, SocketAddrV6},
    path::Path,
};

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;

use super::{
    Counters, Reader,
    builder::{BOOT_NS, Body as Fields, Capture, THREAD_STRINGS, descriptor, event, one_of_each, tail, thread},
};
use crate::{
    event::{
        Body,
        listed::{Descriptor, DescriptorKind, FdType, Group, Interface, Machine, Thread, User},
        schema::{Category, Code},
    },
    source::SourceError,
};

const TS: u64 = 1_700_000_000_123_456_789;
const FD: [u8; 8] = 3_i64.to_le_bytes();
const ZERO: [u8; 8] = [0; 8];

/// What came out, in short.
#[derive(Debug, Default)]
struct Read {
    /// Codes of events, their numbers, whether rules look at them, and their parameters.
    events: Vec<(Code, u64, bool, Vec<Vec<u8>>)>,
    /// Everything else, as its debug format has it.
    listed: Vec<String>,
    error: Option<SourceError>,
    counters: Counters,
}

fn read(bytes: &[u8]) -> Read {
    let mut read = Read::default();
    let mut reader = match Reader::new(Cursor::new(bytes.to_vec())) {
        Ok(reader) => reader,
        Err(error) => return Read { error: Some(error), ..read },
    };
    loop {
        let item = reader.next().map(|event| {
            event.map(|event| match event.body {
                Body::Call(call) => {
                    assert_eq!((call.ts_ns, call.info.code.info()), (event.header.ktime_ns, Some(call.info)));
                    let params = call.params.iter().map(<[u8]>::to_vec).collect::<Vec<_>>();
                    assert_eq!(params.len(), call.params.len(), "every parameter is there");
                    Ok((call.info.code, call.state_only, params))
                }
                body => Err(format!("{body:?}")),
            })
        });
        match item {
            Ok(Some(Ok((code, state_only, params)))) => read.events.push((code, reader.number(), !state_only, params)),
            Ok(Some(Err(listed))) => read.listed.push(listed),
            Ok(None) => break,
            Err(error) => {
                read.error = Some(error);
                break;
            }
        }
    }
    read.counters = reader.counters();
    read
}

/// What came out of a capture that nothing is wrong with.
fn good(capture: &Capture) -> Read {
    let read = read(&capture.bytes);
    assert!(read.error.is_none(), "{:?}", read.error);
    assert_eq!(
        (read.counters.bytes, read.counters.file_bytes),
        (capture.bytes.len() as u64, capture.bytes.len() as u64)
    );
    read
}

/// The reason for which reading ended, and how many events came before.
fn bad(bytes: &[u8]) -> (String, usize) {
    let read = read(bytes);
    (read.error.expect("damage").to_string(), read.events.len())
}

/// A capture with what is given and an event, without which there is none.
fn with_event(capture: Capture) -> Capture {
    capture.event(TS, 10, Code::SYSCALL_GETUID_X, &[&[0; 4]])
}

fn shown(body: &Body<'_>) -> String {
    format!("{body:?}")
}

#[test]
fn the_machine_comes_out() {
    let read = good(&with_event(Capture::new().machine()));
    let machine = Machine {
        num_cpus: 8,
        memory_bytes: 1 << 34,
        max_pid: 4_194_304,
        hostname: b"node-1",
        boot_ts_epoch_ns: BOOT_NS,
        flags: 5,
    };
    assert_eq!(read.listed, [shown(&Body::Machine(machine))]);
}

/// The thread of the builder's lists, in a list of this version.
fn expected_thread(version: u8, tid: i64) -> Thread<'static> {
    let [comm, exe, exepath, args, cwd, env, cgroups] = THREAD_STRINGS;
    let mut thread = Thread { tid, pid: 10, ptid: 1, comm, exe, args, cwd, ..Thread::default() };
    (thread.fdlimit, thread.flags, thread.uid, thread.gid) = (1024, 0x40, 1000, 1001);
    if version >= 2 {
        (thread.vmsize_kb, thread.vmrss_kb, thread.vmswap_kb) = (21, 22, 23);
        (thread.pfmajor, thread.pfminor) = (24, 25);
    }
    thread.env = if version >= 3 { env } else { b"" };
    if version >= 4 {
        (thread.vtid, thread.vpid, thread.cgroups) = (41, 42, cgroups);
    }
    thread.root = if version >= 5 { b"/" } else { b"" };
    thread.sid = if version >= 6 { 11 } else { -1 };
    thread.exepath = if version >= 7 { exepath } else { b"" };
    thread.vpgid = if version >= 8 { 12 } else { -1 };
    thread
}

/// The same in a list of version 9, which may have more.
fn whole_thread(tid: i64) -> Thread<'static> {
    Thread {
        pidns_init_start_ns: 91,
        tty: 92,
        loginuid: 93,
        exe_writable: true,
        cap_inheritable: 94,
        cap_permitted: 95,
        cap_effective: 96,
        exe_upper_layer: true,
        exe_ino: 97,
        exe_ino_ctime_ns: 98,
        exe_ino_mtime_ns: 99,
        exe_from_memfd: false,
        exe_lower_layer: true,
        pgid: 100,
        ..expected_thread(9, tid)
    }
}

#[test]
fn threads_of_every_version_come_out_with_defaults_for_what_it_lacks() {
    for version in 1..=9 {
        let read = good(&with_event(Capture::new().threads(version, &[10, 11])));
        let expected = [10, 11].map(|tid| {
            shown(&Body::ListedThread(if version == 9 { whole_thread(tid) } else { expected_thread(version, tid) }))
        });
        assert_eq!(read.listed, expected, "version {version}");
    }
    for (old, version) in [(0x8000_abcd, 1), (0x8013_abcd, 2), (0x8014_abcd, 3)] {
        let read = good(&with_event(Capture::new().block(old, thread(version, 10, &Fields::default()))));
        assert_eq!(read.listed, [shown(&Body::ListedThread(expected_thread(version, 10)))]);
    }
}

#[test]
fn a_thread_may_have_fewer_fields_than_today_or_more() {
    let tail = tail().0;
    let list = |tail: &[u8]| {
        let entry = thread(9, 10, &Fields::default().raw(tail));
        let mut listed =
            good(&with_event(Capture::new().block(0x215, Fields::default().raw(&entry.0).raw(&entry.0)))).listed;
        assert_eq!(listed.len(), 2);
        assert_eq!(listed.pop(), listed.first().cloned());
        listed.remove(0)
    };
    assert_eq!(list(&[]), shown(&Body::ListedThread(expected_thread(9, 10))));
    // As libs before 0.10 wrote it: 29 bytes and two fields fewer in front of them.
    let old = Thread {
        loginuid: 93,
        exe_writable: true,
        cap_inheritable: 94,
        cap_permitted: 95,
        cap_effective: 96,
        ..expected_thread(9, 10)
    };
    assert_eq!(list(&tail[12..41]), shown(&Body::ListedThread(old)));
    let without_pgid = Thread { pgid: -1, ..whole_thread(10) };
    assert_eq!(list(&tail[..tail.len() - 8]), shown(&Body::ListedThread(without_pgid)));
    // Fields of tomorrow, and so many that they are longer than what is looked at for one entry.
    for more in [7, 300_000] {
        let tail = [tail.clone(), vec![0xff; more]].concat();
        assert_eq!(list(&tail), shown(&Body::ListedThread(whole_thread(10))));
    }
}

#[test]
fn descriptors_of_every_type_come_out() {
    let v6 = |last| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let (from, to) = (SocketAddrV4::new([10, 0, 0, 1].into(), 4000), SocketAddrV4::new([10, 0, 0, 2].into(), 443));
    let (from6, to6) = (SocketAddrV6::new(v6(1).into(), 4000, 0, 0), SocketAddrV6::new(v6(2).into(), 443, 0, 0));
    let cases = [
        (
            descriptor(1, 3).raw(&[10, 0, 0, 1, 10, 0, 0, 2]).u16(4000).u16(443).u8(2),
            DescriptorKind::Ipv4 { source: from, destination: to, l4proto: 2 },
        ),
        (
            descriptor(2, 4).raw(&v6(1)).raw(&v6(2)).u16(4000).u16(443).u8(3),
            DescriptorKind::Ipv6 { source: from6, destination: to6, l4proto: 3 },
        ),
        (
            descriptor(3, 5).raw(&[10, 0, 0, 1]).u16(4000).u8(2),
            DescriptorKind::Ipv4Listen { address: from, l4proto: 2 },
        ),
        (descriptor(4, 6).raw(&v6(1)).u16(4000).u8(2), DescriptorKind::Ipv6Listen { address: from6, l4proto: 2 }),
        (
            descriptor(5, 8).u64(7).u64(8).string(b"/run/s"),
            DescriptorKind::Unix { source: 7, destination: 8, name: b"/run/s" },
        ),
        (descriptor(6, 16).u32(9).string(b"/f"), DescriptorKind::File { open_flags: 9, name: b"/f", dev: 0 }),
        (descriptor(7, 7).string(b"pipe:[1]"), DescriptorKind::Other { ty: FdType::FIFO, name: b"pipe:[1]" }),
        (descriptor(8, 21).string(b""), DescriptorKind::Other { ty: FdType::PIDFD, name: b"" }),
        (descriptor(9, 77), DescriptorKind::Other { ty: FdType(77), name: b"" }),
    ];
    let entries: Vec<_> = cases.iter().map(|(entry, _)| entry.clone()).collect();
    let expected: Vec<_> = cases
        .iter()
        .zip(1..)
        .map(|((_, kind), fd)| Descriptor { tid: 10, fd, ino: fd.unsigned_abs() + 1000, kind: kind.clone() })
        .map(|descriptor| shown(&Body::ListedDescriptor(descriptor)))
        .collect();
    for version in [1, 2] {
        assert_eq!(good(&with_event(Capture::new().descriptors(version, 10, &entries))).listed, expected, "{version}");
    }
    let body = entries.iter().fold(Fields::default().i64(10), |body, entry| body.raw(&entry.0));
    assert_eq!(good(&with_event(Capture::new().block(0x8001_abcd, body))).listed, expected);
}

#[test]
fn a_descriptor_may_have_more_fields_than_in_the_beginning() {
    let entries = [descriptor(6, 16).u32(9).string(b"/f").u32(5).u64(1), descriptor(7, 77).raw(b"of tomorrow")];
    let kinds = [
        DescriptorKind::File { open_flags: 9, name: b"/f", dev: 5 },
        DescriptorKind::Other { ty: FdType(77), name: b"" },
    ];
    let expected: Vec<_> = kinds
        .into_iter()
        .zip([6, 7])
        .map(|(kind, fd)| {
            shown(&Body::ListedDescriptor(Descriptor { tid: 10, fd, ino: fd.unsigned_abs() + 1000, kind }))
        })
        .collect();
    assert_eq!(good(&with_event(Capture::new().descriptors(2, 10, &entries))).listed, expected);
}

#[test]
fn interfaces_come_out_with_and_without_a_speed() {
    let v4 = |body: Fields| body.raw(&[10, 0, 0, 1, 255, 255, 255, 0, 10, 0, 0, 255]);
    let v6 = |body: Fields| body.raw(&[0x11; 16]).raw(&[0xff; 16]).raw(&[0; 16]);
    let head = |ty: u16| Fields::default().u16(ty).u16(4);
    let entries = [
        v4(head(1)).u64(9).raw(b"eth0"),
        v6(head(2)).u64(9).raw(b"eth0"),
        v4(head(3)).raw(b"eth0"),
        v6(head(4)).raw(b"eth0"),
    ];
    let expected = [(false, 9), (true, 9), (false, 0), (true, 0)].map(|(is_v6, linkspeed)| {
        let [address, netmask, broadcast] = if is_v6 {
            [[0x11; 16], [0xff; 16], [0; 16]].map(IpAddr::from)
        } else {
            [[10, 0, 0, 1], [255, 255, 255, 0], [10, 0, 0, 255]].map(|ip| IpAddr::from(Ipv4Addr::from(ip)))
        };
        shown(&Body::ListedInterface(Interface { name: b"eth0", address, netmask, broadcast, linkspeed }))
    });
    let plain = entries.iter().fold(Fields::default(), |body, entry| body.raw(&entry.0));
    let sized = entries.iter().fold(Fields::default(), |body, entry| {
        body.u32(u32::try_from(entry.0.len()).unwrap() + 3).raw(&entry.0).raw(&[1, 2, 3])
    });
    for (ty, body) in [(0x205, plain.clone()), (0x8011_abcd, plain), (0x219, sized)] {
        assert_eq!(good(&with_event(Capture::new().block(ty, body))).listed, expected, "{ty:#x}");
    }
}

#[test]
fn users_and_groups_come_out() {
    let user = Fields::default().u8(0).u32(1000).u32(1001).string(b"ana").string(b"/home/ana").string(b"/bin/sh");
    let group = Fields::default().u8(1).u32(4).string(b"adm");
    let expected = [
        shown(&Body::ListedUser(User { uid: 1000, gid: 1001, name: b"ana", home: b"/home/ana", shell: b"/bin/sh" })),
        shown(&Body::ListedGroup(Group { gid: 4, name: b"adm" })),
    ];
    let plain = Fields::default().raw(&user.0).raw(&group.0);
    let sized = Fields::default().raw(&user.raw(b"more").sized().0).raw(&group.sized().0);
    for (ty, body) in [(0x206, plain.clone()), (0x8012_abcd, plain), (0x220, sized)] {
        assert_eq!(good(&with_event(Capture::new().block(ty, body))).listed, expected, "{ty:#x}");
    }
}

#[test]
fn an_event_is_the_same_in_every_kind_of_block() {
    let params: [&[u8]; 3] = [&ZERO, b"/tmp/x\0", &0o644_u32.to_le_bytes()];
    let code = Code::SYSCALL_CHMOD_X;
    let plain = Capture::new();
    let cases = [
        (plain.clone().event(TS, 10, code, &params), true),
        (plain.clone().flagged_event(0, TS, 10, code, &params), true),
        (plain.clone().flagged_event(1, TS, 10, code, &params), false),
        (plain.clone().v1_event(None, TS, 10, code, &params), true),
        (plain.clone().v1_event(Some(1), TS, 10, code, &params), false),
        (plain.clone().block(0x221, Fields::default().u16(3).raw(&event(TS, 10, code, &params, false))), true),
        (plain.block(0x222, Fields::default().u16(3).u32(1).raw(&event(TS, 10, code, &params, false))), false),
    ];
    for (capture, shown) in cases {
        let read = good(&capture);
        assert_eq!(read.events, [(code, 1, shown, params.map(<[u8]>::to_vec).to_vec())]);
        let mut reader = Reader::new(Cursor::new(capture.bytes)).unwrap();
        let event = reader.next().unwrap().unwrap();
        let Body::Call(call) = event.body else { panic!("{event:?}") };
        assert_eq!((call.ts_ns, call.tid, call.cpu, event.header.tid), (TS, 10, 3, 10));
        assert!(call.info.category.is(Category::SYSCALL));
    }
}

#[test]
fn a_large_event_may_be_longer_than_the_window() {
    let json = [vec![b'x'; 3 << 20], vec![0]].concat();
    let read = good(&Capture::new().event(TS, -1, Code::CONTAINER_JSON_2_E, &[&json]).event(
        TS,
        1,
        Code::SYSCALL_GETUID_X,
        &[&[0; 4]],
    ));
    assert_eq!(read.events[0].3, [json]);
    assert_eq!(read.events[1].0, Code::SYSCALL_GETUID_X);
}

#[test]
fn options_behind_an_event_and_in_a_section_header_are_passed_over() {
    let header = Fields::default().u32(0x1a2b_3c4d).u16(1).u16(0).u64(u64::MAX).raw(&[1; 64]);
    let event = event(TS, 10, Code::SYSCALL_GETUID_X, &[&[0; 4]], false);
    let event = Fields::default().u16(0).raw(&event).raw(b"a comment");
    let read = good(&Capture::default().block(0x0a0d_0d0a, header).block(0x216, event));
    assert_eq!(read.events.len(), 1);
}

#[test]
fn the_number_of_parameters_of_old_events_is_recovered() {
    let now = [&ZERO[..], b"/a\0", &[1; 4]];
    for params in [&now[..], &now[..2], &now[..1], &[]] {
        let read = read(&Capture::new().v1_event(None, TS, 10, Code::SYSCALL_CHMOD_X, params).bytes);
        assert_eq!(read.events[0].3, params);
    }
    // These said that they were three bytes longer than they are.
    for code in [Code::NOTIFICATION_E, Code::INFRASTRUCTURE_EVENT_E] {
        let mut capture = Capture::new().v1_event(None, TS, 10, code, &[b"id\0", b"text\0"]);
        let len = capture.bytes.len();
        let at = len - 4 - (2 + 22 + 4 + 8_usize).next_multiple_of(4) + 2 + 16;
        capture.bytes[at] += 3;
        capture.bytes.splice(len - 4..len - 4, [0; 4]);
        let total = capture.bytes[28 + 4] + 4;
        capture.bytes[28 + 4] = total;
        *capture.bytes.iter_mut().rev().nth(3).unwrap() = total;
        assert_eq!(good(&capture).events[0].3, [&b"id\0"[..], b"text\0"]);
    }
}

#[test]
fn a_leaving_event_of_old_captures_is_completed_from_the_entering_one() {
    let size = 100_u32.to_le_bytes();
    let five = 5_i64.to_le_bytes();
    let enter = |capture: Capture, tid| capture.event(TS, tid, Code::SYSCALL_READ_E, &[&FD, &size]);
    let exit = |capture: Capture, tid| capture.event(TS, tid, Code::SYSCALL_READ_X, &[&five, b"hello"]);
    let capture = exit(exit(exit(enter(enter(Capture::new(), 10), 11), 10), 10), 11);
    let read = good(&capture);
    let whole: Vec<&[u8]> = vec![&five, b"hello", &FD, &size];
    let default: Vec<&[u8]> = vec![&five, b"hello", &ZERO, &[0; 4]];
    let params: Vec<_> = read.events.iter().map(|event| event.3.clone()).collect();
    assert_eq!(params, [whole.clone(), default, whole]);
    assert_eq!(read.events.iter().map(|event| event.1).collect::<Vec<_>>(), [1, 2, 3], "what is kept has no number");
    assert_eq!((read.counters.events, read.counters.events_merged, read.counters.exits_unpaired), (3, 2, 0));
}

#[test]
fn a_leaving_event_takes_nothing_from_another_call() {
    let enter = Capture::new().event(TS, 10, Code::SYSCALL_CLOSE_E, &[&FD]);
    let read = good(&enter.event(TS, 10, Code::SYSCALL_READ_X, &[&ZERO, b""]));
    assert_eq!(read.events[0].3, [&ZERO[..], b"", &ZERO, &[0; 4]]);
    assert_eq!(read.counters.exits_unpaired, 1);
}

#[test]
fn an_event_of_long_ago_becomes_the_one_of_today_step_by_step() {
    let name = b"/bin/true\0";
    let enter = Capture::new().event(TS, 10, Code::SYSCALL_EXECVE_18_E, &[name]);
    let read =
        good(&enter.event(TS, 10, Code::SYSCALL_EXECVE_8_X, &[&ZERO, b"true\0", b"-v\0", &FD, &FD, &FD, b"/\0", &FD]));
    let Some((code, number, true, params)) = read.events.last() else { panic!("{read:?}") };
    assert_eq!((*code, *number), (Code::SYSCALL_EXECVE_19_X, read.events.len() as u64));
    assert_eq!(params.len(), code.info().unwrap().params.len());
    assert_eq!(params[..6], [&ZERO[..], b"true\0", b"-v\0", &FD, &FD, &FD]);
}

#[test]
fn a_container_of_long_ago_becomes_its_json() {
    let params: [&[u8]; 4] = [b"abc\0", &[0; 4], b"na\"me\0", b"image\0"];
    let read = good(&Capture::new().event(TS, -1, Code::CONTAINER_E, &params));
    let json = &b"{\"id\":\"abc\",\"type\":0,\"name\":\"na\\\"me\",\"image\":\"image\"}\0"[..];
    assert_eq!(read.events, [(Code::CONTAINER_JSON_2_E, 1, false, vec![json.to_vec()])]);
}

#[test]
fn what_has_no_place_today_is_dropped_and_counted() {
    let capture = Capture::new()
        .event(TS, 10, Code(17), &[])
        .event(TS, 10, Code(9999), &[])
        .event(TS, 10, Code::SYSCALL_CHMOD_E, &[])
        .block(0x7777, Fields::default().raw(&vec![1; 400_000]));
    let read = good(&with_event(capture));
    assert_eq!(read.events.len(), 1);
    let counters = read.counters;
    assert_eq!(
        (counters.events_dropped, counters.events_unknown, counters.blocks_unknown, counters.events),
        (2, 1, 1, 1)
    );
}

#[test]
fn entering_events_that_only_check_the_leaving_ones_are_numbered_and_not_shown() {
    let flags = [0; 4];
    let capture = Capture::new().event(TS, 10, Code::SYSCALL_OPEN_E, &[b"/a\0", &flags, &flags]);
    let read = good(&capture.event(TS, 10, Code::SYSCALL_OPEN_X, &[&FD, b"/a\0", &flags, &flags, &flags, &ZERO]));
    let short: Vec<_> = read.events.iter().map(|(code, number, shown, _)| (*code, *number, *shown)).collect();
    assert_eq!(short, [(Code::SYSCALL_OPEN_E, 1, false), (Code::SYSCALL_OPEN_X, 2, true)]);
}

#[test]
fn notices_in_front_of_a_sections_events_are_not_shown_and_numbered_in_the_first_section_only() {
    let notice = |capture: Capture| capture.event(TS, -1, Code::CONTAINER_JSON_2_E, &[b"{}\0"]);
    let section = |capture: Capture| notice(with_event(notice(notice(capture))));
    let read = good(&section(section(Capture::new()).section(1, 2).threads(9, &[10])));
    let short: Vec<_> = read.events.iter().map(|(_, number, shown, _)| (*number, *shown)).collect();
    assert_eq!(short[..4], [(1, false), (2, false), (3, true), (4, true)]);
    assert_eq!(short[4..], [(4, false), (4, false), (5, true), (6, true)]);
    assert_eq!(read.listed[0], shown(&Body::Section));
    assert_eq!(read.listed.len(), 2);
}

#[test]
fn a_section_knows_nothing_of_the_one_before_it() {
    let capture = with_event(Capture::new().event(TS, 10, Code::SYSCALL_CLOSE_E, &[&FD])).section(1, 2);
    let read = good(&capture.event(TS, 10, Code::SYSCALL_CLOSE_X, &[&ZERO]));
    assert_eq!(read.events[1].3, [ZERO, ZERO]);
}

#[test]
fn a_packed_capture_reads_the_same() {
    let plain = one_of_each().bytes;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&plain).unwrap();
    let packed = encoder.finish().unwrap();
    let (expected, got) = (read(&plain), read(&packed));
    assert_eq!((&expected.events, &expected.listed), (&got.events, &got.listed));
    assert_eq!((got.counters.bytes, got.counters.file_bytes), (plain.len() as u64, packed.len() as u64));
}

#[test]
fn what_is_no_capture_says_what_it_is() {
    let big_endian = Fields::default().u32(0x4d3c_2b1a).raw(&[0; 12]);
    for (bytes, part) in [
        (vec![], "the file is empty"),
        (b"MONITOR\0and so on".to_vec(), "does not begin with a section header"),
        (Capture::default().section(2, 0).bytes, "format version 2.0"),
        (Capture::default().block(0x0a0d_0d0a, big_endian).bytes, "big-endian"),
        (Capture::default().block(0x0a0d_0d0a, Fields::default().raw(&[7; 16])).bytes, "magic number 0x7070707"),
    ] {
        let read = read(&bytes);
        assert!(matches!(&read.error, Some(SourceError::Format(why)) if why.contains(part)), "{part}: {read:?}");
    }
}

#[test]
fn damage_is_told_after_what_came_before_it() {
    let before = with_event(Capture::new());
    let event = event(TS, 10, Code::SYSCALL_CHMOD_X, &[&ZERO, b"/a\0", &[0; 4]], false);
    let changed = |at: usize, value: u8| {
        let mut event = event.clone();
        event[at] = value;
        before.clone().block(0x216, Fields::default().u16(0).raw(&event)).bytes
    };
    let uncounted = Fields::default().u16(0).raw(&event[..16]).u32(22 + 2 + 8).raw(&event[20..22]).u16(4).u64(u64::MAX);
    let uncounted = before.clone().block(0x204, uncounted);
    let mut trailer = before.clone().block(0x7777, Fields::default().u64(1)).bytes;
    *trailer.last_mut().unwrap() = 9;
    let cases = [
        (changed(16, 25), "an event (chmod) says that it has 25 bytes"),
        (changed(16, 200), "an event (chmod) says that it has 200 bytes"),
        (changed(22, 99), "the parameters of an event (chmod) are longer"),
        (changed(26, 99), "the parameters of an event (chmod) are longer"),
        (before.clone().block(0x216, Fields::default()).bytes, "too short for an event"),
        (uncounted.bytes, "no number of parameters"),
        (trailer, "in front of it and"),
        (before.clone().block(0x216, Fields::default().raw(&vec![0; 70_000])).bytes, "at most 65544 are read"),
        (before.clone().block(0x201, Fields::default()).bytes, "impossible length"),
        (
            before.clone().block(0x215, Fields::default().u32(8).u64(0)).bytes,
            "an entry of the list of processes is not",
        ),
        (before.clone().block(0x218, Fields::default().u32(0)).bytes, "a list of descriptors is too short"),
        (
            before.clone().block(0x206, Fields::default().u8(0).u64(0).u16(9)).bytes,
            "an entry of the list of users is not",
        ),
        (before.clone().event(TS, 1, Code::SYSCALL_READ_X, &[&ZERO]).bytes, "which no recorder ever wrote"),
        (before.clone().event(TS, 1, Code::SYSCALL_READ_X, &[&[][..]; 5]).bytes, "has 5 parameters, and there are 4"),
        (before.clone().section(3, 0).bytes, "format version 3.0"),
        (before.clone().section(1, 0).bytes, "ends before its first event"),
        ([before.bytes.clone(), vec![1, 2, 3]].concat(), "the file ends inside a block"),
        ([&before.bytes[..], &0x215_u32.to_le_bytes(), &[0xff; 4]].concat(), "the file ends inside a block"),
        ([&before.bytes[..], &0x222_u32.to_le_bytes(), &[0xff; 4]].concat(), "at most 8388608 are read"),
        ([&before.bytes[..], &0x215_u32.to_le_bytes(), &[3, 0, 0, 0]].concat(), "fewer than any block"),
    ];
    for (bytes, part) in cases {
        let (why, events) = bad(&bytes);
        assert!(why.contains(part) && events == 1, "{part}: {events} events, {why}");
        assert!(why.contains("damaged at byte"), "{why}");
    }
}

#[test]
fn a_capture_cut_anywhere_gives_what_came_before_the_cut() {
    let whole = one_of_each().bytes;
    let all = good(&one_of_each());
    let boundaries = {
        let mut reader = Reader::new(Cursor::new(whole.clone())).unwrap();
        let mut boundaries = Vec::new();
        while let Some(event) = reader.next().unwrap() {
            let is_event = matches!(event.body, Body::Call(_));
            boundaries.extend(is_event.then_some(reader.counters().bytes));
        }
        boundaries
    };
    for len in 0..whole.len() {
        let read = read(&whole[..len]);
        assert_eq!(read.events[..], all.events[..read.events.len()]);
        assert_eq!(read.listed[..], all.listed[..read.listed.len()]);
        assert_eq!(read.events.len(), boundaries.iter().filter(|end| **end <= len as u64).count(), "cut at {len}");
    }
}

#[test]
fn a_capture_with_a_long_list_is_read_in_little_memory() {
    let entry = thread(9, 10, &Fields::default().raw(&tail().0).raw(&vec![0; 20_000]));
    let body = Fields(entry.0.repeat(500));
    let read = good(&with_event(Capture::new().block(0x215, body)));
    assert_eq!(read.listed.len(), 500);
}

/// The seeds of the fuzz target `scap`, which are made here. `BLESS=1` writes them.
#[test]
fn the_fuzz_corpus_is_what_is_made_here() {
    let lists = (1..=9).fold(Capture::new(), |capture, version| capture.threads(version, &[10]));
    let old = Capture::new()
        .event(TS, 10, Code::SYSCALL_EXECVE_18_E, &[b"/bin/true\0"])
        .event(TS, 10, Code::SYSCALL_EXECVE_8_X, &[&ZERO, b"true\0", b"-v\0", &FD, &FD, &FD, b"/\0", &FD])
        .event(TS, 10, Code::CONTAINER_E, &[b"abc\0", &[0; 4], b"name\0", b"image\0"])
        .event(TS, 10, Code::SYSCALL_CLOSE_E, &[&FD])
        .v1_event(None, TS, 10, Code::SYSCALL_CLOSE_X, &[&ZERO]);
    let sections = with_event(with_event(Capture::new()).section(1, 2));
    let seeds = [
        ("one-of-each", one_of_each().bytes),
        ("threads-of-every-version", with_event(lists).bytes),
        ("old-events", old.bytes),
        ("sections", sections.bytes),
    ];
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/scap");
    for (name, seed) in seeds {
        let path = directory.join(name);
        if std::env::var_os("BLESS").is_some() {
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(&path, &seed).unwrap();
        }
        assert_eq!(std::fs::read(&path).ok(), Some(seed), "{name}: BLESS=1 writes it");
    }
}

proptest! {
    #[test]
    fn flipped_bytes_never_panic_and_what_came_before_is_the_same(
        flips in prop::collection::vec((0..4096_usize, any::<u8>()), 1..6),
    ) {
        let whole = one_of_each().bytes;
        let mut bytes = whole.clone();
        let first = flips.iter().map(|(at, _)| at % whole.len()).min().unwrap_or_default();
        for (at, value) in flips {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        let (all, got) = (good(&one_of_each()), read(&bytes));
        let same = read(&whole[..first]);
        prop_assert_eq!(&got.events[..same.events.len()], &all.events[..same.events.len()]);
    }

    #[test]
    fn any_bytes_behind_a_section_header_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        read(&[Capture::new().bytes, bytes].concat());
    }
}
