//! Observations: records that the agent makes, so that what it learns outside the kernel's stream is captured and replayed
//! with the rest.

use monitor_ebpf::record::{
    ABI_VERSION, CgroupRecord, ContainerRecord, EndRecord, Header, Kind, LossRecord, RulesRecord, SessionRecord,
    TaskRecord, header_flag,
};
use zerocopy::{FromZeros as _, Immutable, IntoBytes};

use crate::event::path::to_components;

/// Longest argument area that a task record carries.
const ARGUMENTS_BYTES: usize = 4095;
/// Longest path that a task record carries.
const PATH_BYTES: usize = 4096;
/// Longest document of a container record. One that is longer is no document when it is cut, so whoever makes it keeps to it.
pub const DOCUMENT_BYTES: usize = 16 << 10;
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

/// Records lost in the kernel since the last such report.
pub fn loss(ktime_ns: u64, kind: Kind, ring_full: u64, unreadable: u64) -> Vec<u8> {
    let header = header(Kind::LOSS, ktime_ns);
    assemble(LossRecord { header, ring_full, unreadable, kind, reserved: [0; 3] }, &[])
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
        CgroupAttachRecord, ExecRecord, ExitRecord, FileFacts, ForkRecord, OpenRecord, SeccompCallRecord,
        SeccompFilterRecord, SigsysRecord,
    };
    use zerocopy::FromBytes as _;

    use super::*;

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

    pub(crate) fn open(tgid: u32, path: &str, file: FileFacts) -> Vec<u8> {
        let mut fixed = OpenRecord::new_zeroed();
        (fixed.header, fixed.file, fixed.nr) = (of(Kind::OPEN, tgid), file, 257);
        let components = to_components(path.as_bytes());
        fixed.path_len = len16(&components);
        assemble(fixed, &[&components])
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
            loss(9, Kind(0), 1, 2),
            end(10, 12),
            rules(11, [7; 32], 3),
            container(12, 9, br#"{"container":{"id":"3ad7b26ded6d"}}"#),
        ];
        assert_eq!(all.len(), Kind::ALL.len(), "one record of each kind");
        all
    }
}
