//! Fields of events of Falco's table, on calls made by hand.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::{Argument, Brackets, Field, Fields as _};
use crate::{
    context::{Context, Evidence},
    event::{
        Body, Event,
        call::{Call, Params},
        listed::{Descriptor, DescriptorKind, FdType, Interface, Thread, l4proto},
        schema::Code,
        value::Value,
    },
    rules::Condition,
    state::State,
};

/// The thread that does everything.
const TID: i64 = 7;
/// `PPM_SC_CHMOD`
const CHMOD: u16 = 13;
const TS_NS: u64 = 1_795_408_269_588_000_001;

/// `cat` in `/home/`, with a file (3), a connection (4), a directory (5), a listener (6), a pipe (8) and a log (9).
fn machine() -> State {
    let mut state = State::default();
    let mut apply = |body| state.apply(&Event::unrecorded(0, 0, body));
    let thread = Thread { tid: TID, pid: TID, ptid: 1, comm: b"cat", exe: b"cat", cwd: b"/home/", ..Thread::default() };
    apply(Body::ListedThread(thread));
    let at = |address: [u8; 4], port| SocketAddrV4::new(address.into(), port);
    let file = |name| DescriptorKind::File { open_flags: 0, name, dev: 0x0080_0103 };
    let kinds = [
        (3, file(b"/etc/passwd")),
        (
            4,
            DescriptorKind::Ipv4 {
                source: at([10, 0, 0, 1], 1000),
                destination: at([8, 8, 8, 8], 80),
                l4proto: l4proto::TCP,
            },
        ),
        (5, DescriptorKind::Other { ty: FdType::DIRECTORY, name: b"/var" }),
        (6, DescriptorKind::Ipv4Listen { address: at([0; 4], 22), l4proto: l4proto::TCP }),
        (8, DescriptorKind::Other { ty: FdType::FIFO, name: b"" }),
        (9, DescriptorKind::Unix { source: 1, destination: 2, name: b"/dev/log" }),
    ];
    for (fd, kind) in kinds {
        apply(Body::ListedDescriptor(Descriptor { tid: TID, fd, ino: 99, kind }));
    }
    let local = |address: [u8; 4]| Ipv4Addr::from(address).into();
    apply(Body::ListedInterface(Interface {
        name: b"eth0",
        address: local([10, 0, 0, 1]),
        netmask: local([255, 0, 0, 0]),
        broadcast: local([10, 255, 255, 255]),
        linkspeed: 0,
    }));
    state
}

/// Does something with an event after the state has it.
fn with<T>(code: Code, params: &[&[u8]], look: impl FnOnce(&Context<'_>) -> T) -> T {
    let mut state = machine();
    let lengths: Vec<u8> = params.iter().flat_map(|value| u16::try_from(value.len()).unwrap().to_le_bytes()).collect();
    let values = params.concat();
    let call = Call {
        info: code.info().unwrap(),
        ts_ns: TS_NS,
        tid: TID,
        cpu: 2,
        number: 1,
        state_only: false,
        params: Params::new(&lengths, &values, false),
        told: None,
    };
    let event = Event::unrecorded(TS_NS, TID, Body::Call(call));
    state.apply(&event);
    look(&Context::new(&state, &event, 1, Evidence::Event).unwrap())
}

/// A field as rules write it.
fn field(written: &str) -> (Field, Argument) {
    if let Some((name, rest)) = written.split_once('[') {
        let inner = rest.trim_end_matches(']');
        return (
            Field::find(name).unwrap(),
            inner.parse().map_or_else(|_| Argument::Key(inner.into()), Argument::Index),
        );
    }
    match Field::find_with_name(written).unwrap() {
        (field, Some(name)) if field.info().brackets == Brackets::Name => (field, Argument::Key(name.into())),
        (field, _) => (field, Argument::None),
    }
}

fn shown(value: Option<Value<'_>>) -> String {
    match value {
        None => "null".to_owned(),
        Some(Value::Text(text)) => String::from_utf8_lossy(&text).into_owned(),
        Some(Value::Int(number)) => number.to_string(),
        Some(Value::Uint(number)) => number.to_string(),
        Some(Value::Float(number)) => number.to_string(),
        Some(Value::Bool(truth)) => truth.to_string(),
        Some(Value::Ip(address)) => address.0.to_string(),
        Some(Value::List(items)) => items.into_iter().map(|item| shown(Some(item))).collect::<Vec<_>>().join(","),
    }
}

/// What some fields say of an event.
fn check(code: Code, params: &[&[u8]], expected: &[(&str, &str)]) {
    with(code, params, |c| {
        for (written, expected) in expected {
            let (field, argument) = field(written);
            assert_eq!(shown(c.value(field, &argument)), *expected, "{written} of {}", code.info().unwrap().name);
        }
    });
}

fn holds(code: Code, params: &[&[u8]], condition: &str) -> bool {
    let mut compiled = Condition::compile(condition, "c").unwrap_or_else(|errors| panic!("{condition}: {}", errors[0]));
    with(code, params, |c| compiled.matches(c.event_type, c))
}

fn i64(number: i64) -> [u8; 8] {
    number.to_le_bytes()
}

fn u32(number: u32) -> [u8; 4] {
    number.to_le_bytes()
}

#[test]
fn descriptors_are_told_with_what_they_are() {
    let read = |fd| {
        check(
            Code::SYSCALL_READ_X,
            &[&i64(2), b"a\n", &i64(fd), &u32(10)],
            &[(
                "evt.arg.fd",
                match fd {
                    3 => "<f>/etc/passwd",
                    4 => "<4t>10.0.0.1:1000->8.8.8.8:80",
                    5 => "<d>/var",
                    6 => "<4t>0.0.0.0:22",
                    8 => "<p>",
                    -100 => "AT_FDCWD",
                    -9 => "EBADF",
                    _ => "77",
                },
            )],
        );
    };
    [3, 4, 5, 6, 8, -100, -9, 77].into_iter().for_each(read);
    check(
        Code::SYSCALL_READ_X,
        &[&i64(2), b"a\n", &i64(3), &u32(10)],
        &[
            ("evt.args", "res=2 data=a. fd=3(<f>/etc/passwd) size=10"),
            ("evt.info", "res=2 data=a. fd=3(<f>/etc/passwd) size=10"),
            ("evt.arg[0]", "2"),
            ("evt.arg[3]", "10"),
            ("evt.arg[4]", "null"),
            ("evt.arg.flags", "null"),
            ("evt.arg.data", "a."),
            ("evt.buffer", "a\n"),
            ("evt.buflen", "2"),
            ("evt.buflen.in", "2"),
            ("evt.buflen.out", "null"),
            ("evt.buflen.file.in", "2"),
            ("evt.buflen.net", "null"),
            ("evt.res", "SUCCESS"),
            ("evt.rawres", "2"),
            ("evt.rawarg.size", "10"),
            ("evt.category", "file"),
            ("evt.cpu", "2"),
            ("evt.is_io", "true"),
            ("evt.is_io_write", "false"),
            ("evt.io_dir", "read"),
            ("evt.is_syslog", "false"),
            ("evt.reltime", "0"),
            ("evt.is_async", "false"),
            ("evt.asynctype", "null"),
            ("evt.is_open_read", "false"),
            ("syscall.type", "read"),
        ],
    );
}

#[test]
fn what_is_empty_has_a_word_of_its_own() {
    check(
        Code::SYSCALL_INIT_MODULE_X,
        &[&i64(-8), b"", &[0; 8], b"(NULL)\0"],
        &[("evt.args", "res=-8(ENOEXEC) img=NULL length=0 uargs=<NA>"), ("evt.res", "ENOEXEC"), ("evt.failed", "true")],
    );
    check(
        Code::SOCKET_CONNECT_X,
        &[&i64(-2), b"", &i64(9), b""],
        &[
            ("evt.args", "res=-2(ENOENT) tuple=NULL fd=9(<u>/dev/log) addr=<NA>"),
            ("evt.rawarg.res", "-2"),
            ("evt.count.error", "1"),
            ("evt.count.error.net", "1"),
            ("evt.count.error.file", "null"),
            ("evt.count.error.other", "null"),
        ],
    );
    check(Code::SYSCALL_CHROOT_X, &[b"", b"/x\0"], &[("evt.args", "res=<NA> path=/x"), ("evt.rawarg.res", "null")]);
    check(Code::GENERIC_X, &[&[0x4b, 0], &[1, 0]], &[("evt.args", ""), ("evt.res", "null"), ("evt.rawres", "null")]);
}

#[test]
fn numbers_are_printed_as_c_does() {
    let zero = [0; 8];
    check(
        Code::SYSCALL_MMAP_X,
        &[&i64(-12), &u32(1), &u32(2), &u32(u32::MAX), &i64(-12), &zero, &u32(3), &u32(2), &i64(-1), &zero],
        &[
            ("evt.arg.res", "ENOMEM"),
            ("evt.arg.vm_swap", "-1"),
            ("evt.rawarg.vm_swap", "4294967295"),
            ("evt.arg.addr", "FFFFFFFFFFFFFFF4"),
            ("evt.arg.prot", "PROT_READ|PROT_WRITE"),
            ("evt.arg.fd", "EPERM"),
            ("fd.num", "-1"),
        ],
    );
    check(
        Code::SYSCALL_CHMOD_X,
        &[&i64(0), b"x\0", &u32(0o4755)],
        &[
            (
                "evt.args",
                "res=0 filename=x(/home/x) mode=04755(S_IXOTH|S_IROTH|S_IXGRP|S_IRGRP|S_IXUSR|S_IWUSR|S_IRUSR|S_ISUID)",
            ),
            ("evt.rawarg.mode", "2541"),
        ],
    );
    check(Code::SYSCALL_MKDIRAT_X, &[&i64(0), &i64(-100), b"/d\0", &u32(0o755)], &[("evt.arg.mode", "1ED")]);
    check(
        Code::SYSCALL_SETRESUID_X,
        &[&i64(0), &u32(u32::MAX), &u32(0), &u32(u32::MAX - 1)],
        &[("evt.args", "res=0 ruid=-1(<NONE>) euid=0(root) suid=-2(<NA>)")],
    );
}

#[test]
fn flags_are_told_by_their_names() {
    for (flags, names) in [
        (0x1004_u32, "O_CREAT|O_CLOEXEC"),
        (0x107, "O_TRUNC|O_CREAT|O_RDWR"),
        (3, "O_RDWR"),
        (0x2401, "O_DIRECTORY|O_RDONLY|O_TMPFILE"),
        (0, "O_NONE"),
        (0x80_0000, "8388608"),
    ] {
        let params: &[&[u8]] = &[&i64(-2), b"/x\0", &u32(flags), &u32(0)];
        check(Code::SYSCALL_OPEN_X, params, &[("evt.arg.flags", names), ("evt.rawarg.flags", &flags.to_string())]);
    }
    for (domain, names) in [(1_u32, "AF_LOCAL|AF_UNIX"), (2, "AF_INET"), (99, "99")] {
        let params: &[&[u8]] = &[&i64(-1), &u32(domain), &u32(1), &u32(0)];
        check(Code::SOCKET_SOCKET_X, params, &[("evt.arg.domain", names), ("evt.arg.type", "1"), ("fd.typechar", "4")]);
    }
    check(
        Code::PROCEXIT_1_E,
        &[&i64(9), &i64(0), &[9], &[0], &i64(0)],
        &[
            ("evt.args", "status=9 ret=0 sig=9(SIGKILL) core=0 reaper_tid=0"),
            ("evt.dir", ">"),
            ("evt.count.exit", "null"),
        ],
    );
    check(Code::SYSCALL_KILL_X, &[&i64(0), &i64(TID), &[0]], &[("evt.args", "res=0 pid=7(cat) sig=0")]);
}

#[test]
fn variants_are_what_their_number_says() {
    let option = |value: &[u8], expected: &str| {
        let params: &[&[u8]] = &[&i64(0), &i64(4), &[1], &[20], value, &u32(8)];
        check(Code::SOCKET_SETSOCKOPT_X, params, &[("evt.arg.val", expected)]);
    };
    let with = |kind: u8, value: &[u8]| [&[kind], value].concat();
    option(&with(0, b"a\x01"), "a.");
    option(&with(1, &i64(-11)), "EAGAIN");
    option(&with(2, &u32(7)), "7");
    option(&with(3, &i64(8)), "8");
    for (ns, text) in [
        (1_500_000_000_u64, "1.5s"),
        (0, "0s"),
        (1_000, "1e-06s"),
        (123_456_789, "0.123457s"),
        (100_000, "0.0001s"),
        (2_000_000_000_000_000, "2e+06s"),
        (999_999_900_000_000, "1e+06s"),
        (u64::MAX, "none"),
    ] {
        option(&with(4, &ns.to_le_bytes()), text);
    }
    option(&with(9, b"x"), "INVALID DYNAMIC PARAMETER");
    option(b"", "NULL");
    option(&with(2, b""), "");
}

#[test]
fn addresses_and_lists_are_text() {
    let tuple = [&[2, 10, 0, 0, 1], &1000_u16.to_le_bytes()[..], &[8, 8, 8, 8], &53_u16.to_le_bytes()].concat();
    let address = [&[2, 8, 8, 8, 8], &53_u16.to_le_bytes()[..]].concat();
    check(
        Code::SOCKET_CONNECT_X,
        &[&i64(-111), &tuple, &i64(77), &address],
        &[
            ("evt.arg.tuple", "10.0.0.1:1000->8.8.8.8:53"),
            ("evt.arg.addr", "8.8.8.8:53"),
            ("fd.num", "77"),
            ("fd.name", "10.0.0.1:1000->8.8.8.8:53"),
            ("fd.typechar", "o"),
            ("fd.type", "null"),
        ],
    );
    check(
        Code::SOCKET_CONNECT_X,
        &[&i64(0), &[2, 1], &i64(77), &[99]],
        &[("evt.args", "res=0 tuple=INVALID IPv4 fd=77 addr=family 99")],
    );
    let fds = [&2_u16.to_le_bytes()[..], &i64(3), &[1, 0], &i64(77), &[0x1f, 0]].concat();
    check(
        Code::SYSCALL_POLL_X,
        &[&i64(1), &fds, &i64(5)],
        &[
            ("evt.arg.fds", "3:f1 77:?1f"),
            ("fdlist.nums", "3,77"),
            ("fdlist.names", "/etc/passwd,<NA>"),
            ("fdlist.cips", "null"),
            ("evt.is_wait", "true"),
        ],
    );
    let fds = [&2_u16.to_le_bytes()[..], &i64(4), &[1, 0], &i64(6), &[1, 0]].concat();
    let ends = [
        ("fdlist.cips", "10.0.0.1"),
        ("fdlist.sips", "8.8.8.8,0.0.0.0"),
        ("fdlist.cports", "1000"),
        ("fdlist.sports", "80"),
    ];
    check(Code::SYSCALL_POLL_X, &[&i64(1), &fds, &i64(5)], &ends);
}

#[test]
fn types_have_the_names_of_calls_and_notices() {
    check(
        Code::GENERIC_X,
        &[&2_u16.to_le_bytes(), &60_u16.to_le_bytes()],
        &[("evt.type", "exit"), ("syscall.type", "exit")],
    );
    check(Code::GENERIC_X, &[&[0, 0], &60_u16.to_le_bytes()], &[("evt.type", "exit")]);
    check(Code::GENERIC_X, &[&[0, 0], &[0xff; 2]], &[("evt.type", "unknown")]);
    // A call with an event of its own that came as another is not chosen by its name, but has it.
    let chmod: &[&[u8]] = &[&CHMOD.to_le_bytes(), &90_u16.to_le_bytes()];
    check(Code::GENERIC_X, chmod, &[("evt.type", "chmod"), ("syscall.type", "chmod")]);
    assert!(!holds(Code::GENERIC_X, chmod, "evt.type = chmod") && !holds(Code::GENERIC_X, chmod, "evt.type != chmod"));
    assert!(holds(Code::GENERIC_X, chmod, "evt.type = chmod or proc.name = nobody"));
    assert!(holds(Code::GENERIC_X, chmod, "evt.type in (chmod, exit_group)"), "the other one chooses it");
    assert!(holds(Code::GENERIC_X, chmod, "evt.type != open and evt.type startswith chmod"));
    assert!(!holds(Code::GENERIC_X, chmod, "evt.type != exit_group"), "all or none are chosen");
    let notice: &[&[u8]] = &[&u32(0), b"container\0", b"{}\0"];
    let expected =
        [("evt.type", "container"), ("evt.asynctype", "container"), ("evt.is_async", "true"), ("syscall.type", "null")];
    check(Code::ASYNCEVENT_E, notice, &expected);
    check(Code::ASYNCEVENT_E, &[&u32(0), b"other\0", b"\0"], &[("evt.type", "other")]);
    assert!(holds(Code::ASYNCEVENT_E, notice, "evt.type = container"));
    let close: &[&[u8]] = &[&i64(0), &i64(3)];
    let types = [("evt.type.is.close", "1"), ("evt.type.is.5", "1"), ("evt.type.is.4", "0"), ("evt.type.is.open", "0")];
    check(Code::SYSCALL_CLOSE_X, close, &types);
    check(Code::SYSCALL_EXECVE_19_X, &[], &[("evt.type.is.execve", "0"), ("evt.type", "execve")]);
}

#[test]
fn a_descriptor_is_told_by_its_parts() {
    check(
        Code::SYSCALL_CLOSE_X,
        &[&i64(0), &i64(3)],
        &[
            ("fd.num", "3"),
            ("fd.type", "file"),
            ("fd.typechar", "f"),
            ("fd.name", "/etc/passwd"),
            ("fd.nameraw", ""),
            ("fd.directory", "/etc"),
            ("fd.filename", "passwd"),
            ("fd.containername", ":/etc/passwd"),
            ("fd.containerdirectory", ":/etc"),
            ("fd.uid", "73"),
            ("fd.dev", "8388867"),
            ("fd.dev.major", "1"),
            ("fd.dev.minor", "2051"),
            ("fd.ino", "99"),
            ("fd.cip", "null"),
            ("fd.sockfamily", "null"),
            ("fd.l4proto", "<NA>"),
            ("fd.is_server", "false"),
            ("fd.connected", "false"),
            ("fd.name_changed", "false"),
            ("fd.types", "file,ipv4,directory,pipe,unix"),
            ("fd.types[5]", "directory"),
            ("fd.types[77]", "null"),
        ],
    );
    check(
        Code::SYSCALL_CLOSE_X,
        &[&i64(-9), &i64(77)],
        &[("fd.num", "77"), ("fd.name", ""), ("fd.directory", "/"), ("fd.filename", "null"), ("fd.typechar", "o")],
    );
    check(Code::SYSCALL_CHDIR_X, &[&i64(0), b"/\0"], &[("fd.num", "null"), ("fd.name", "null")]);
}

#[test]
fn both_ends_of_a_connection_are_told() {
    check(
        Code::SYSCALL_CLOSE_X,
        &[&i64(0), &i64(4)],
        &[
            ("fd.type", "ipv4"),
            ("fd.name", "10.0.0.1:1000->8.8.8.8:80"),
            ("fd.directory", "null"),
            ("fd.cip", "10.0.0.1"),
            ("fd.sip", "8.8.8.8"),
            ("fd.cport", "1000"),
            ("fd.sport", "80"),
            ("fd.lip", "10.0.0.1"),
            ("fd.rip", "8.8.8.8"),
            ("fd.lport", "1000"),
            ("fd.rport", "80"),
            ("fd.cproto", "1000"),
            ("fd.sproto", "80"),
            ("fd.lproto", "1000"),
            ("fd.rproto", "80"),
            ("fd.l4proto", "tcp"),
            ("fd.sockfamily", "ip"),
            ("fd.is_server", "false"),
            ("fd.connected", "true"),
        ],
    );
    let listener =
        [("fd.sip", "null"), ("fd.sport", "22"), ("fd.sproto", ""), ("fd.cport", "null"), ("fd.is_server", "true")];
    check(Code::SYSCALL_CLOSE_X, &[&i64(0), &i64(6)], &listener);
}

#[test]
fn either_end_may_fit() {
    let of = |fd, condition: &str| holds(Code::SYSCALL_CLOSE_X, &[&i64(0), &i64(fd)], condition);
    for condition in [
        "fd.ip = 8.8.8.8",
        "fd.ip = 10.0.0.1",
        "fd.ip in (1.1.1.1, 8.8.8.8)",
        "fd.ip != 1.1.1.1",
        "fd.ip != ::1",
        "fd.ip exists",
        "fd.port = 80 and fd.port = 1000 and fd.proto = http",
        "fd.port < 100 and fd.port > 900",
        "fd.port in (22, 80)",
        "fd.net = 10.0.0.0/8 and fd.net = 8.0.0.0/8",
        "fd.net != 192.168.0.0/16",
        "fd.net in (10.0.0.0/8, 192.168.0.0/16)",
        "fd.snet = 8.0.0.0/8 and fd.cnet = 10.0.0.0/8 and fd.lnet = 10.0.0.0/8 and fd.rnet = 8.0.0.0/8",
        "fd.sip.name != example.com",
    ] {
        assert!(of(4, condition), "{condition}");
    }
    for condition in [
        "fd.ip != 8.8.8.8",
        "fd.ip = ::1",
        "fd.port != 80",
        "fd.net != 10.0.0.0/8",
        // Falco looks at the first network only.
        "fd.net in (192.168.0.0/16, 10.0.0.0/8)",
        "fd.sip.name = example.com",
        "fd.sip.name in (example.com, example.org)",
    ] {
        assert!(!of(4, condition), "{condition}");
    }
    assert!(of(6, "fd.port = 22 and fd.ip = 0.0.0.0 and fd.ip != 1.1.1.1 and fd.net = 0.0.0.0/8"));
    assert!(of(3, "fd.ip exists and fd.port exists and fd.net exists"), "there is a descriptor");
    assert!(!of(3, "fd.ip != 1.1.1.1") && !of(3, "fd.port != 80") && !of(3, "fd.net != 10.0.0.0/8"));
    assert!(!of(77, "fd.ip exists"));
}

#[test]
fn arguments_are_compared_as_what_they_are() {
    let of = |condition: &str| holds(Code::SYSCALL_READ_X, &[&i64(-9), b"", &i64(-1), &u32(10)], condition);
    assert!(of("evt.rawarg.size = 10 and evt.rawarg.size >= 10 and evt.rawarg.fd = -1 and evt.rawarg.res < 0"));
    assert!(!of("evt.rawarg.size in (10, 11)"), "Falco finds no number in a list here");
    assert!(of("evt.arg.size = 10 and evt.arg.fd = EPERM and evt.arg.res in (EBADF)"));
    assert!(!of("evt.rawarg.flags = 0") && !of("evt.rawarg.flags exists"));
    assert!(of("evt.around[1795408269588000000] = 1 and not evt.around[1795408268000000000] = 1000"));
    for (condition, said) in [
        ("evt.rawarg[0] = 1", "a name only"),
        ("evt.rawarg.size = x", "not a valid number"),
        ("evt.around[1] > 1", "supports only"),
        ("evt.type.is.opne = 1", "unknown event type"),
    ] {
        let errors = Condition::compile(condition, "c").unwrap_err();
        assert!(errors[0].to_string().contains(said), "{condition}: {}", errors[0]);
    }
}

#[test]
fn files_that_could_not_be_opened_have_names() {
    let failed: &[&[u8]] = &[&i64(-2), &i64(-100), b"a//b\0", &u32(0x2), &u32(0), &u32(0), &[0; 8]];
    check(
        Code::SYSCALL_OPENAT_2_X,
        failed,
        &[
            ("fd.num", "-1"),
            ("fd.name", "/home/a/b"),
            ("fd.nameraw", "a/b"),
            ("fd.directory", "/home/a"),
            ("fd.filename", "null"),
            ("fd.typechar", "f"),
            ("evt.is_open_write", "true"),
            ("evt.is_open_read", "false"),
            ("evt.count.error.file", "1"),
            ("evt.abspath", "/home/a/b"),
            ("fs.path.name", "<UNKNOWN>"),
            ("fs.path.nameraw", "a//b"),
        ],
    );
    let made: &[&[u8]] = &[&i64(10), &i64(5), b"x\0", &u32(0x4007), &u32(0o755), &u32(0), &[0; 8]];
    check(
        Code::SYSCALL_OPENAT_2_X,
        made,
        &[
            ("fd.num", "10"),
            ("fd.name", "/var/x"),
            ("evt.arg.name", "/var/x"),
            ("evt.arg[2]", "/var/x"),
            ("evt.rawarg.name", "x"),
            ("evt.is_open_create", "true"),
            ("evt.is_open_exec", "true"),
            ("fs.path.name", "/var/x"),
            ("fd.name_changed", "true"),
        ],
    );
}

#[test]
fn paths_of_calls_are_those_that_falco_gives() {
    let paths = |code, params: &[&[u8]], source: &str, target: &str| {
        check(code, params, &[("fs.path.source", source), ("fs.path.target", target), ("fs.path.name", "null")]);
    };
    paths(Code::SYSCALL_RENAME_X, &[&i64(0), b"a\0", b"/b/../c\0"], "/home/a", "/c");
    paths(Code::SYSCALL_RENAME_X, &[&i64(-2), b"a\0", b"/b\0"], "null", "null");
    // Of the calls that take descriptors of directories, some are read as if they did not.
    paths(Code::SYSCALL_RENAMEAT_X, &[&i64(0), &i64(5), b"a\0", &i64(5), b"b\0"], "/home/a", "/home/b");
    paths(Code::SYSCALL_RENAMEAT2_X, &[&i64(0), &i64(5), b"a\0", &i64(77), b"b\0", &u32(0)], "/var/a", "<UNKNOWN>b");
    paths(Code::SYSCALL_LINK_2_X, &[&i64(0), b"/old\0", b"new\0"], "/home/new", "/old");
    paths(Code::SYSCALL_SYMLINK_X, &[&i64(0), b"/target\0", b"link\0"], "/home/link", "/target");
    paths(Code::SYSCALL_SYMLINKAT_X, &[&i64(0), b"target\0", &i64(5), b"link\0"], "/var/link", "<UNKNOWN>target");
    paths(Code::SYSCALL_MOUNT_X, &[&i64(0), b"proc\0", b"/proc\0", b"proc\0", &u32(0)], "/home/proc", "/proc");
    let name = |code, params: &[&[u8]], name: &str, raw: &str| {
        check(code, params, &[("fs.path.name", name), ("fs.path.nameraw", raw), ("fs.path.source", "null")]);
    };
    name(Code::SYSCALL_UMOUNT2_X, &[&i64(0), b".\0", &u32(2)], "/home", ".");
    name(Code::SYSCALL_MKDIRAT_X, &[&i64(0), &i64(5), b"d\0", &u32(0)], "/var/d", "d");
    name(Code::SYSCALL_MKDIRAT_X, &[&i64(0), &i64(-100), b"d\0", &u32(0)], "<UNKNOWN>d", "d");
    name(Code::SYSCALL_FCHMOD_X, &[&i64(0), &i64(3), &u32(0)], "/etc/passwd", "/etc/passwd");
    let linkat: &[&[u8]] = &[&i64(0), &i64(5), b"a\0", &i64(-100), b"b\0", &u32(0)];
    let expected = [("evt.abspath", "/var/a"), ("evt.abspath.src", "/var/a"), ("evt.abspath.dst", "/home/b")];
    check(Code::SYSCALL_LINKAT_2_X, linkat, &expected);
}
