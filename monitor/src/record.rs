//! Observations: records that the agent makes, so that what it learns outside the kernel's stream is captured and replayed
//! with the rest.

use monitor_ebpf::record::{
    ABI_VERSION, CallsMadeRecord, CgroupRecord, ClockRecord, ContainerRecord, DigestRecord, EndRecord, FileFacts,
    GroupRecord, Header, Kind, LossRecord, PodRecord, RulesRecord, SeccompProfileRecord, SessionRecord, TaskRecord,
    UserRecord, header_flag,
};
use monitor_ebpf::settings::Made;
use zerocopy::{FromZeros as _, Immutable, IntoBytes};

use crate::event::path::to_components;

/// Longest argument area that a task record carries.
const ARGUMENTS_BYTES: usize = 4095;
/// Longest path that a task record carries.
const PATH_BYTES: usize = 4096;
/// Longest document of a container record. One that is longer is no document when it is cut, so whoever makes it keeps to it.
pub const DOCUMENT_BYTES: usize = 16 << 10;
/// Longest document of a profile record; the same goes for it.
pub const PROFILE_BYTES: usize = 18 << 10;
/// Longest plain text of a session record.
const TEXT_BYTES: usize = 256;

/// What a session record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFacts {
    /// Start, `CLOCK_BOOTTIME`.
    pub ktime_ns: u64,
    /// `CLOCK_REALTIME` minus `CLOCK_BOOTTIME`.
    pub realtime_offset_ns: u64,
    /// ELF machine number.
    pub machine: u32,
    /// Inode number of the host's mount namespace.
    pub host_mnt_ns: u32,
    /// Inode number of the host's pid namespace.
    pub host_pid_ns: u32,
    /// Host name.
    pub hostname: String,
    /// Kernel release.
    pub kernel_release: String,
    /// Boot id.
    pub boot_id: String,
    /// Version of the agent.
    pub agent_version: String,
}

/// The record that starts a stream.
pub fn session(facts: &SessionFacts) -> Vec<u8> {
    let [hostname, kernel_release, boot_id, agent_version] =
        [&facts.hostname, &facts.kernel_release, &facts.boot_id, &facts.agent_version]
            .map(|text| cut(text.as_bytes(), TEXT_BYTES));
    let fixed = SessionRecord {
        header: header(Kind::SESSION, facts.ktime_ns),
        realtime_offset_ns: facts.realtime_offset_ns,
        abi_version: ABI_VERSION,
        machine: facts.machine,
        host_mnt_ns: facts.host_mnt_ns,
        host_pid_ns: facts.host_pid_ns,
        hostname_len: len16(hostname),
        kernel_release_len: len16(kernel_release),
        boot_id_len: len16(boot_id),
        agent_version_len: len16(agent_version),
    };
    assemble(fixed, &[hostname, kernel_release, boot_id, agent_version])
}

/// A cgroup that existed when the sensor started.
pub fn cgroup(ktime_ns: u64, id: u64, path: &[u8]) -> Vec<u8> {
    let path = cut(path, PATH_BYTES);
    let mut header = header(Kind::CGROUP, ktime_ns);
    header.cgroup_id = id;
    header.flags = header_flag::SNAPSHOT;
    assemble(CgroupRecord { header, path_len: len16(path), reserved: [0; 3] }, &[path])
}

/// A task that existed when the sensor started: the kernel's facts and the strings from `/proc`.
pub fn task(mut fixed: TaskRecord, arguments: &[u8], executable: &[u8], cwd: &[u8]) -> Vec<u8> {
    let (executable, cwd) = (to_components(executable), to_components(cwd));
    let (arguments, executable, cwd) =
        (cut(arguments, ARGUMENTS_BYTES), cut(&executable, PATH_BYTES), cut(&cwd, PATH_BYTES));
    fixed.arguments_len = len16(arguments);
    fixed.executable_len = len16(executable);
    fixed.cwd_len = len16(cwd);
    assemble(fixed, &[arguments, executable, cwd])
}

/// System calls that the tasks of a cgroup made for the first time.
pub fn calls_made(ktime_ns: u64, cgroup_id: u64, made: &Made) -> Vec<u8> {
    let header = Header { cgroup_id, ..header(Kind::CALLS_MADE, ktime_ns) };
    assemble(CallsMadeRecord { header, native: made.native, compat: made.compat }, &[])
}

/// A user of the host.
pub fn user(ktime_ns: u64, uid: u32, gid: u32, [name, home, shell]: [&[u8]; 3]) -> Vec<u8> {
    let [name, home, shell] = [name, home, shell].map(|text| cut(text, TEXT_BYTES));
    let (name_len, home_len, shell_len) = (len16(name), len16(home), len16(shell));
    let header = header(Kind::USER, ktime_ns);
    assemble(UserRecord { header, uid, gid, name_len, home_len, shell_len, reserved: 0 }, &[name, home, shell])
}

/// A group of the host.
pub fn group(ktime_ns: u64, gid: u32, name: &[u8]) -> Vec<u8> {
    let name = cut(name, TEXT_BYTES);
    let header = header(Kind::GROUP, ktime_ns);
    assemble(GroupRecord { header, gid, name_len: len16(name), reserved: 0 }, &[name])
}

/// Records of a kind and a cgroup lost in the kernel since the last such report.
pub fn loss(ktime_ns: u64, kind: Kind, cgroup_id: u64, [ring_full, unreadable, over_budget]: [u64; 3]) -> Vec<u8> {
    let header = Header { cgroup_id, ..header(Kind::LOSS, ktime_ns) };
    assemble(LossRecord { header, ring_full, unreadable, over_budget, kind, reserved: [0; 3] }, &[])
}

/// The record that ends a stream.
pub fn end(ktime_ns: u64, records: u64) -> Vec<u8> {
    assemble(EndRecord { header: header(Kind::END, ktime_ns), records }, &[])
}

/// Rules that apply to the records behind this one.
pub fn rules(ktime_ns: u64, digest: [u8; 32], rules: u32) -> Vec<u8> {
    assemble(RulesRecord { header: header(Kind::RULES, ktime_ns), digest, rules, reserved: 0 }, &[])
}

/// What is known of the container whose cgroup this is.
pub fn container(ktime_ns: u64, cgroup_id: u64, document: &[u8]) -> Vec<u8> {
    let document = cut(document, DOCUMENT_BYTES);
    let header = Header { cgroup_id, ..header(Kind::CONTAINER, ktime_ns) };
    let document_len = u32::try_from(document.len()).unwrap_or(u32::MAX);
    assemble(ContainerRecord { header, document_len, reserved: 0 }, &[document])
}

/// What is known of the seccomp profile of the container whose cgroup this is.
pub fn seccomp_profile(ktime_ns: u64, cgroup_id: u64, document: &[u8]) -> Vec<u8> {
    let document = cut(document, PROFILE_BYTES);
    let header = Header { cgroup_id, ..header(Kind::SECCOMP_PROFILE, ktime_ns) };
    let document_len = u32::try_from(document.len()).unwrap_or(u32::MAX);
    assemble(SeccompProfileRecord { header, document_len, reserved: 0 }, &[document])
}

/// What the Kubernetes API says of a pod.
pub fn pod(ktime_ns: u64, document: &[u8]) -> Vec<u8> {
    let document = cut(document, DOCUMENT_BYTES);
    let document_len = u32::try_from(document.len()).unwrap_or(u32::MAX);
    assemble(PodRecord { header: header(Kind::POD, ktime_ns), document_len, reserved: 0 }, &[document])
}

/// It is this late.
pub fn clock(ktime_ns: u64) -> Vec<u8> {
    assemble(ClockRecord { header: header(Kind::CLOCK, ktime_ns) }, &[])
}

/// What a file holds. `teller` is the header of the record that tells of it.
pub fn digest(ktime_ns: u64, teller: &Header, file: &FileFacts, flags: u32, sha256: [u8; 32]) -> Vec<u8> {
    let header = Header { kind: Kind::DIGEST, flags: 0, ktime_ns, ..*teller };
    let FileFacts { ino, ctime_ns, size_bytes, dev, .. } = *file;
    assemble(DigestRecord { header, ino, ctime_ns, size_bytes, dev, flags, sha256 }, &[])
}

fn header(kind: Kind, ktime_ns: u64) -> Header {
    Header { kind, ktime_ns, ..Header::new_zeroed() }
}

fn cut(bytes: &[u8], max: usize) -> &[u8] {
    bytes.get(..max).unwrap_or(bytes)
}

fn len16(piece: &[u8]) -> u16 {
    u16::try_from(piece.len()).unwrap_or(u16::MAX)
}

/// Puts fixed part and pieces together and sets the header's length.
#[expect(clippy::needless_pass_by_value, reason = "callers build the fixed part for this alone")]
fn assemble<T: IntoBytes + Immutable>(fixed: T, pieces: &[&[u8]]) -> Vec<u8> {
    let mut bytes = fixed.as_bytes().to_vec();
    for piece in pieces {
        bytes.extend_from_slice(piece);
    }
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    // The length is the header's third member, behind two of two bytes.
    if let Some(field) = bytes.get_mut(4..8) {
        field.copy_from_slice(&len.to_le_bytes());
    }
    bytes
}

/// Kernel records for tests: each function fills in what its test is about, the rest is zero.
#[cfg(test)]
pub(crate) mod builder {
    use monitor_ebpf::record::{
        CallRecord, CgroupAttachRecord, ExecRecord, ExitRecord, FileFacts, ForkRecord, SeccompCallRecord,
        SeccompFilterRecord, SigsysRecord, SocketFacts,
    };
    use zerocopy::FromBytes as _;

    use super::*;
    use crate::{
        decode::decode,
        event::{Body, Event},
        state::State,
        syscall::tell::{Room, tell},
    };

    pub(crate) fn exec(tgid: u32, parent: u32, path: &str, args: &[&str]) -> Vec<u8> {
        exec_with(tgid, parent, path, args, |_| {})
    }

    pub(crate) fn exec_with(
        tgid: u32,
        parent: u32,
        path: &str,
        args: &[&str],
        edit: impl FnOnce(&mut ExecRecord),
    ) -> Vec<u8> {
        let mut fixed = ExecRecord::new_zeroed();
        fixed.header = of(Kind::EXEC, tgid);
        fixed.task.parent_tgid = parent;
        fixed.task.parent_start_ns = u64::from(parent);
        fixed.task.vpid = tgid;
        let name = path.rsplit('/').next().unwrap().as_bytes();
        let len = name.len().min(15);
        fixed.task.comm[..len].copy_from_slice(&name[..len]);
        let filename = [path.as_bytes(), b"\0"].concat();
        let arguments: Vec<u8> = args.iter().flat_map(|a| [a.as_bytes(), b"\0"].concat()).collect();
        let (executable, cwd) = (to_components(path.as_bytes()), to_components(b"/root"));
        fixed.filename_len = len16(&filename);
        fixed.arguments_len = len16(&arguments);
        fixed.executable_len = len16(&executable);
        fixed.cwd_len = len16(&cwd);
        edit(&mut fixed);
        assemble(fixed, &[&filename, &arguments, &executable, &cwd])
    }

    /// A header of the process whose start time equals its id, at time 1000.
    pub(crate) fn of(kind: Kind, tgid: u32) -> Header {
        Header { kind, ktime_ns: 1000, start_ns: u64::from(tgid), tgid, tid: tgid, ..Header::new_zeroed() }
    }

    pub(crate) fn fork(tgid: u32, child: u32) -> Vec<u8> {
        let header = of(Kind::FORK, tgid);
        let (child_start_ns, child_tgid) = (u64::from(child), child);
        assemble(
            ForkRecord { header, child_start_ns, child_tgid, child_vpid: child, child_pid_ns: 0, reserved: 0 },
            &[],
        )
    }

    pub(crate) fn exit(tgid: u32) -> Vec<u8> {
        let mut fixed = ExitRecord::new_zeroed();
        fixed.header = of(Kind::EXIT, tgid);
        fixed.group_dead = 1;
        assemble(fixed, &[])
    }

    /// A file opened for writing, as `openat(AT_FDCWD, path, O_WRONLY)` that returned 3.
    pub(crate) fn open(tgid: u32, path: &str, mut file: FileFacts) -> Vec<u8> {
        const S_IFREG: u32 = 0o100_000;
        const TMPFS_MAGIC: u32 = 0x0102_1994;
        file.mode |= S_IFREG;
        if file.fs_magic == 0 {
            file.fs_magic = TMPFS_MAGIC;
        }
        call(tgid, 257, &[-100, 0, 1], 3, |call| {
            (call.record.file, call.record.open_mode) = (file, 2);
            call.texts[0] = path.as_bytes();
            call.path = path.as_bytes();
        })
    }

    /// Lets a state take in a record of any kind, as the flow does.
    pub(crate) fn apply(state: &mut State, bytes: &[u8]) {
        let event = decode(bytes).unwrap();
        let mut room = Room::default();
        let Body::Syscall(syscall) = &event.body else { return state.apply(&event) };
        let call = tell(syscall, state.session.machine, event.header.ktime_ns, 1, &mut room).unwrap();
        state.apply(&Event { header: event.header, body: Body::Call(call) });
    }

    /// What a call's record has besides numbers, with paths from the root on.
    #[derive(Default)]
    pub(crate) struct Pieces<'a> {
        pub(crate) record: Fixed,
        pub(crate) socket: Option<SocketFacts>,
        pub(crate) texts: [&'a [u8]; 3],
        pub(crate) structure: &'a [u8],
        pub(crate) path: &'a [u8],
        pub(crate) directories: [&'a [u8]; 2],
    }

    /// A system call of x86-64 with these arguments and this result.
    pub(crate) fn call<'a>(tgid: u32, nr: i32, args: &[i64], ret: i64, edit: impl FnOnce(&mut Pieces<'a>)) -> Vec<u8> {
        let mut pieces = Pieces::default();
        let fixed = &mut pieces.record.0;
        (fixed.header, fixed.nr, fixed.ret) = (of(Kind::CALL, tgid), nr, ret);
        for (slot, value) in fixed.args.iter_mut().zip(args) {
            *slot = value.cast_unsigned();
        }
        fixed.fd = i32::try_from(ret).unwrap_or(-1);
        edit(&mut pieces);
        let mut fixed = pieces.record.0;
        let socket = pieces.socket.map(|socket| socket.as_bytes().to_vec()).unwrap_or_default();
        let texts = pieces.texts.map(|text| if text.is_empty() { Vec::new() } else { [text, b"\0"].concat() });
        let path = to_components(pieces.path);
        let directories = pieces.directories.map(|directory| match directory {
            b"/" => vec![0],
            directory => to_components(directory),
        });
        fixed.socket_len = len16(&socket);
        fixed.text_len = [len16(&texts[0]), len16(&texts[1]), len16(&texts[2])];
        fixed.structure_len = len16(pieces.structure);
        fixed.path_len = len16(&path);
        fixed.directory_len = [len16(&directories[0]), len16(&directories[1])];
        let [first, second, third] = &texts;
        let [from, to] = &directories;
        assemble(fixed, &[&socket, first, second, third, pieces.structure, &path, from, to])
    }

    /// The fixed part.
    pub(crate) struct Fixed(CallRecord);

    impl Default for Fixed {
        fn default() -> Self {
            Self(CallRecord::new_zeroed())
        }
    }

    impl std::ops::Deref for Fixed {
        type Target = CallRecord;

        fn deref(&self) -> &CallRecord {
            &self.0
        }
    }

    impl std::ops::DerefMut for Fixed {
        fn deref_mut(&mut self) -> &mut CallRecord {
            &mut self.0
        }
    }

    pub(crate) fn session() -> Vec<u8> {
        super::session(&SessionFacts {
            ktime_ns: 500,
            realtime_offset_ns: 1_700_000_000_000_000_000,
            machine: 62,
            host_mnt_ns: 1,
            host_pid_ns: 2,
            hostname: "node-1".into(),
            kernel_release: "6.12.0".into(),
            boot_id: "0fd1".into(),
            agent_version: "0.1.0".into(),
        })
    }

    pub(crate) fn one_of_each() -> Vec<Vec<u8>> {
        fn plain<T: IntoBytes + Immutable + zerocopy::FromBytes>(kind: Kind) -> Vec<u8> {
            let mut bytes = assemble(T::new_zeroed(), &[]);
            bytes[..2].copy_from_slice(&kind.0.to_le_bytes());
            bytes
        }
        let mut filter = SeccompFilterRecord::new_zeroed();
        filter.header = of(Kind::SECCOMP_FILTER, 1);
        (filter.total, filter.instructions_len) = (1, 8);
        let all = vec![
            exec(7, 1, "/usr/bin/env", &["env", "x"]),
            fork(1, 2),
            exit(7),
            cgroup(5, 9, b"/a/b\0"),
            plain::<CgroupAttachRecord>(Kind::CGROUP_ATTACH),
            plain::<SigsysRecord>(Kind::SIGSYS),
            plain::<SeccompCallRecord>(Kind::SECCOMP_CALL),
            assemble(filter, &[&[6, 0, 0, 0, 0, 0, 0xff, 0x7f]]),
            open(7, "/tmp/x", FileFacts::read_from_bytes(&[0; size_of::<FileFacts>()]).unwrap()),
            task(TaskRecord { header: of(Kind::TASK, 3), ..TaskRecord::new_zeroed() }, b"init\0", b"/sbin/init", b"/"),
            session(),
            loss(9, Kind(0), 7, [1, 2, 3]),
            end(10, 12),
            rules(11, [7; 32], 3),
            seccomp_profile(12, 7, b"{}"),
            clock(13),
            calls_made(12, 7, &Made { native: [1, 0, 0, 0, 0, 0, 0, 1 << 63], compat: [0; 8] }),
            user(12, 1, 2, [b"daemon", b"/usr/sbin", b"/usr/sbin/nologin"]),
            group(13, 2, b"daemon"),
            container(12, 9, br#"{"container":{"id":"3ad7b26ded6d"}}"#),
            digest(14, &of(Kind::EXEC, 7), &FileFacts::NONE, 1, [7; 32]),
            pod(15, br#"{"uid":"6a2f4c5e-0b1d-4f3a-9c7e-8d5b2a1f0e3c"}"#),
        ];
        assert_eq!(all.len(), Kind::ALL.len(), "one record of each kind");
        all
    }
}
