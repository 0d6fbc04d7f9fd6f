//! What events of Falco's table change, one behaviour a test.

use super::*;
use crate::{
    event::{Body, Event, call::Params, listed},
    state::descriptor::Kind,
};

/// A parameter as bytes.
trait Encode {
    fn encode(&self) -> Vec<u8>;
}

macro_rules! numbers {
    ($($ty:ty),*) => {
        $(impl Encode for $ty {
            fn encode(&self) -> Vec<u8> {
                self.to_le_bytes().to_vec()
            }
        })*
    };
}
numbers!(u8, u16, u32, i64, u64);

impl Encode for &str {
    fn encode(&self) -> Vec<u8> {
        [self.as_bytes(), b"\0"].concat()
    }
}

impl Encode for &[u8] {
    fn encode(&self) -> Vec<u8> {
        self.to_vec()
    }
}

/// No value.
const NONE: &[u8] = &[];

macro_rules! params {
    ($($value:expr),* $(,)?) => { vec![$(Encode::encode(&$value)),*] };
}

/// A state with one process, `init` (1), and one that it made, `sh` (10), which runs in `/root/`.
struct Machine {
    state: State,
    now_ns: u64,
}

impl Machine {
    fn new() -> Self {
        let mut machine = Self { state: State::default(), now_ns: 1_000_000_000_000 };
        for (tid, ptid, comm) in [(1, 0, &b"init"[..]), (10, 1, b"sh")] {
            let thread = listed::Thread {
                tid,
                pid: tid,
                ptid,
                comm,
                exe: comm,
                cwd: b"/root",
                vtid: tid,
                vpid: tid,
                fdlimit: 1024,
                ..listed::Thread::default()
            };
            machine.state.apply(&Event::unrecorded(0, tid, Body::ListedThread(thread)));
        }
        machine
    }

    fn event(&mut self, tid: i64, code: Code, params: impl IntoIterator<Item = Vec<u8>>) {
        let params: Vec<Vec<u8>> = params.into_iter().collect();
        self.now_ns += 1000;
        let lengths: Vec<u8> =
            params.iter().flat_map(|value| u16::try_from(value.len()).unwrap().to_le_bytes()).collect();
        let values = params.concat();
        let info = code.info().unwrap();
        let params = Params::new(&lengths, &values, false);
        let call = Call { info, number: 1, ts_ns: self.now_ns, tid, cpu: 0, state_only: false, params, told: None };
        self.state.apply(&Event::unrecorded(self.now_ns, tid, Body::Call(call)));
    }

    /// `clone` by `caller`, told by the caller.
    fn clone_by(&mut self, caller: i64, child: i64, flags: u32) {
        self.event(caller, Code::SYSCALL_CLONE_20_X, clone_params(child, caller, caller, flags));
    }

    fn thread(&self, tid: i64) -> &Thread {
        self.state.threads.get(ThreadKey::exact(tid)).unwrap()
    }

    fn has(&self, tid: i64) -> bool {
        self.state.threads.get(ThreadKey::exact(tid)).is_some()
    }

    fn open(&mut self, tid: i64, fd: i64, name: &str, flags: u32) {
        self.event(tid, Code::SYSCALL_OPENAT_2_X, params![fd, -100_i64, name, flags, 0_u32, 7_u32, 99_u64]);
    }

    fn name_of(&self, tid: i64, fd: i64) -> Option<String> {
        let descriptor = self.state.descriptor_of(self.thread(tid), fd)?;
        Some(String::from_utf8(descriptor.name.clone()).unwrap())
    }
}

fn clone_params(ret: i64, tid: i64, ptid: i64, flags: u32) -> Vec<Vec<u8>> {
    params![
        ret,
        "sh",
        &b"-c\0x\0"[..],
        tid,
        tid,
        ptid,
        "",
        1024_u64,
        0_u64,
        0_u64,
        0_u32,
        0_u32,
        0_u32,
        "sh",
        &b"cpu=/\0"[..],
        flags,
        7_u32,
        8_u32,
        tid,
        tid,
        0_u64
    ]
}

fn exec_params(pid: i64, path: &str) -> Vec<Vec<u8>> {
    params![
        0_i64,
        "ls",
        &b"-l\0/tmp\0"[..],
        pid,
        pid,
        1_i64,
        "",
        1024_u64,
        0_u64,
        0_u64,
        0_u32,
        0_u32,
        0_u32,
        "ls",
        &b"cpu=/\0"[..],
        &b"A=1\0B= 2 \0"[..],
        5_u32,
        pid,
        1000_u32,
        3_u32,
        1_u64,
        2_u64,
        3_u64,
        11_u64,
        12_u64,
        13_u64,
        33_u32,
        path,
        pid,
        34_u32,
        path
    ]
}

#[test]
fn a_child_has_what_its_maker_has_and_its_own_ids() {
    let mut machine = Machine::new();
    machine.open(10, 3, "x", 1);
    machine.clone_by(10, 11, 0);
    let child = machine.thread(11);
    assert_eq!((child.pid, child.parent.tid, child.uid, child.gid), (11, 10, 7, 8));
    assert_eq!((child.image.command_line(), &child.cwd[..]), (&b"sh -c x"[..], &b"/root/"[..]));
    assert_eq!(machine.name_of(11, 3).as_deref(), Some("/root/x"));
    machine.open(11, 4, "/y", 1);
    assert_eq!((machine.name_of(11, 4).as_deref(), machine.name_of(10, 4)), (Some("/y"), None));
}

#[test]
fn a_thread_uses_its_leaders_descriptors_and_directory() {
    let mut machine = Machine::new();
    machine.event(10, Code::SYSCALL_CLONE_20_X, clone_params(12, 10, 10, flag::CLONE_THREAD | flag::CLONE_FILES));
    assert_eq!((machine.thread(12).pid, machine.thread(12).parent.tid), (10, 1));
    machine.open(12, 5, "a", 1);
    assert_eq!(machine.name_of(10, 5).as_deref(), Some("/root/a"));
    machine.event(12, Code::SYSCALL_CHDIR_X, params![0_i64, "/tmp"]);
    assert_eq!(machine.state.threads.cwd(machine.thread(10)), b"/tmp/");
    assert_eq!(machine.state.threads.alive(machine.thread(10)), 2);
}

#[test]
fn an_exec_replaces_the_program_and_closes_what_it_should() {
    let mut machine = Machine::new();
    machine.open(10, 3, "/keep", 1);
    machine.open(10, 4, "/close", 1 | 1 << 12);
    machine.event(10, Code::SYSCALL_EXECVE_19_X, exec_params(10, "/usr/bin/ls (deleted)"));
    let thread = machine.thread(10);
    assert_eq!((thread.image.command_line(), &thread.image.executable[..]), (&b"ls -l /tmp"[..], &b"/usr/bin/ls"[..]));
    assert_eq!((thread.uid, thread.gid, thread.tty, thread.loginuid), (33, 34, 5, 1000));
    assert_eq!((thread.variable(b"A"), thread.variable(b"B"), thread.variable(b"C")), (&b"1"[..], &b"2"[..], &b""[..]));
    assert!(thread.executable.writable && thread.executable.upper_layer && !thread.executable.lower_layer);
    assert_eq!((machine.name_of(10, 3).as_deref(), machine.name_of(10, 4)), (Some("/keep"), None));
}

#[test]
fn a_failed_exec_changes_nothing() {
    let mut machine = Machine::new();
    let mut params = exec_params(10, "/usr/bin/ls");
    params[0] = (-2_i64).encode();
    machine.event(10, Code::SYSCALL_EXECVE_19_X, params);
    assert_eq!(machine.thread(10).image.comm(), b"sh");
}

#[test]
fn what_ended_is_there_for_its_own_event_and_gone_for_the_next() {
    let mut machine = Machine::new();
    machine.clone_by(10, 11, 0);
    machine.clone_by(11, 12, 0);
    machine.event(11, Code::PROCEXIT_1_E, params![0_i64, 0_i64, 0_u8, 0_u8, 0_i64]);
    assert!(machine.state.thread().is_some(), "it is the subject of its end");
    machine.event(10, Code::SYSCALL_GETCWD_X, params![0_i64, "/root"]);
    assert!(!machine.has(11));
    assert_eq!(machine.thread(12).parent.tid, 1, "init takes its child over");
}

#[test]
fn the_kernel_says_who_takes_children_over() {
    let mut machine = Machine::new();
    machine.clone_by(10, 11, 0);
    machine.clone_by(11, 12, 0);
    machine.event(11, Code::PROCEXIT_1_E, params![0_i64, 0_i64, 0_u8, 0_u8, 10_i64]);
    machine.event(10, Code::SYSCALL_GETCWD_X, params![0_i64, "/root"]);
    assert_eq!(machine.thread(12).parent.tid, 10);
}

#[test]
fn a_closed_descriptor_is_there_for_its_own_event() {
    let mut machine = Machine::new();
    machine.open(10, 3, "/f", 1);
    machine.event(10, Code::SYSCALL_CLOSE_X, params![0_i64, 3_i64]);
    assert_eq!(machine.state.descriptor().map(|descriptor| &descriptor.name[..]), Some(&b"/f"[..]));
    machine.event(10, Code::SYSCALL_GETCWD_X, params![0_i64, "/root"]);
    assert_eq!(machine.name_of(10, 3), None);
}

#[test]
fn the_beginning_of_an_open_counts_more_than_its_end() {
    let mut machine = Machine::new();
    machine.event(10, Code::SYSCALL_OPENAT_2_E, params![-100_i64, "/etc/passwd", 1_u32, 0_u32]);
    machine.event(
        10,
        Code::SYSCALL_OPENAT_2_X,
        params![3_i64, -100_i64, "/tmp/harmless", 1_u32 | 1 << 14, 0_u32, 0_u32, 0_u64],
    );
    assert_eq!(machine.name_of(10, 3).as_deref(), Some("/etc/passwd"));
    assert_eq!(machine.state.descriptor().unwrap().open_flags, 1 | 1 << 14);
    machine.open(10, 4, "/tmp/harmless", 1);
    assert_eq!(machine.name_of(10, 4).as_deref(), Some("/tmp/harmless"), "it counts once");
}

#[test]
fn a_path_that_is_relative_to_an_unknown_directory_says_so() {
    let mut machine = Machine::new();
    machine.event(10, Code::SYSCALL_OPENAT_2_X, params![3_i64, 77_i64, "x", 1_u32, 0_u32, 0_u32, 0_u64]);
    assert_eq!(machine.name_of(10, 3).as_deref(), Some("<UNKNOWN>x"));
}

fn tuple_v4(source: [u8; 4], source_port: u16, destination: [u8; 4], destination_port: u16) -> Vec<u8> {
    [&[2][..], &source, &source_port.to_le_bytes(), &destination, &destination_port.to_le_bytes()].concat()
}

#[test]
fn a_connection_has_a_client_a_server_and_a_name() {
    let mut machine = Machine::new();
    machine.event(10, Code::SOCKET_SOCKET_X, params![3_i64, 2_u32, 1_u32, 0_u32, 0_u32]);
    assert!(!machine.state.is_descriptor_renamed());
    let tuple = tuple_v4([10, 0, 0, 5], 4000, [10, 0, 0, 6], 443);
    machine.event(10, Code::SOCKET_CONNECT_X, params![0_i64, &tuple[..], 3_i64, NONE]);
    let descriptor = machine.state.descriptor().unwrap();
    assert_eq!((descriptor.kind, &descriptor.name[..]), (Kind::IPV4, &b"10.0.0.5:4000->10.0.0.6:443"[..]));
    assert_eq!(descriptor.transport().name(), "tcp");
    assert!(machine.state.is_descriptor_renamed());
}

#[test]
fn a_refused_connection_changes_nothing() {
    let mut machine = Machine::new();
    machine.event(10, Code::SOCKET_SOCKET_X, params![3_i64, 2_u32, 1_u32, 0_u32, 0_u32]);
    let tuple = tuple_v4([10, 0, 0, 5], 4000, [10, 0, 0, 6], 443);
    machine.event(10, Code::SOCKET_CONNECT_X, params![-111_i64, &tuple[..], 3_i64, NONE]);
    assert_eq!(machine.name_of(10, 3).as_deref(), Some(""));
}

#[test]
fn a_datagram_renames_its_socket_once_for_each_peer() {
    let mut machine = Machine::new();
    machine.event(10, Code::SOCKET_SOCKET_X, params![3_i64, 2_u32, 2_u32, 17_u32, 0_u32]);
    let tuple = tuple_v4([10, 0, 0, 5], 4000, [8, 8, 8, 8], 53);
    let send = || params![12_i64, &b"data"[..], 3_i64, 12_u32, &tuple[..]];
    machine.event(10, Code::SOCKET_SENDTO_X, send());
    assert_eq!(machine.name_of(10, 3).as_deref(), Some("10.0.0.5:4000->8.8.8.8:53"));
    assert!(machine.state.is_descriptor_renamed());
    machine.event(10, Code::SOCKET_SENDTO_X, send());
    assert!(!machine.state.is_descriptor_renamed());
}

#[test]
fn an_unknown_thread_is_made_up_for_calls_and_not_for_ends() {
    let mut machine = Machine::new();
    machine.event(77, Code::SYSCALL_GETCWD_X, params![0_i64, "/"]);
    assert_eq!((machine.thread(77).image.comm(), machine.thread(77).uid), (&b"<NA>"[..], u32::MAX));
    machine.event(78, Code::PROCEXIT_1_E, params![0_i64, 0_i64, 0_u8, 0_u8, 0_i64]);
    assert!(machine.state.thread().is_none());
}

#[test]
fn a_copy_of_a_descriptor_survives_the_original_and_an_exec() {
    let mut machine = Machine::new();
    machine.open(10, 3, "/f", 1 | 1 << 12);
    machine.event(10, Code::SYSCALL_DUP2_X, params![1_i64, 3_i64, 1_i64]);
    assert!(!machine.state.is_descriptor_renamed(), "it has the name of the other");
    machine.event(10, Code::SYSCALL_EXECVE_19_X, exec_params(10, "/bin/ls"));
    assert_eq!((machine.name_of(10, 1).as_deref(), machine.name_of(10, 3)), (Some("/f"), None));
}

#[test]
fn tables_are_bounded_whatever_a_capture_claims() {
    let mut machine = Machine::new();
    for fd in 0..10_000_i64 {
        machine.open(10, fd * 1_000_003, "/f", 1);
    }
    assert_eq!(machine.thread(10).descriptors.len(), 4096);
    for tid in 0..300_000_i64 {
        machine.event(1_000 + tid, Code::SYSCALL_GETCWD_X, params![0_i64, "/"]);
    }
    assert_eq!(machine.state.threads.len(), 262_144);
}

#[test]
fn arbitrary_parameters_never_panic() {
    let mut machine = Machine::new();
    let mut number = 1_u64;
    for round in 0..40_000_u64 {
        let code = Code(u16::try_from(round % u64::from(Code::COUNT)).unwrap());
        let Some(info) = code.info() else { continue };
        let params = info.params.iter().map(|_| {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let len = usize::try_from(number >> 60).unwrap();
            let small = (number >> 32) % 20;
            let mut bytes = small.to_le_bytes().repeat(2);
            bytes.truncate(len);
            bytes
        });
        let tid = i64::try_from(round % 24).unwrap();
        machine.event(tid, code, params);
    }
    assert!(machine.state.threads.len() < 1000);
}
