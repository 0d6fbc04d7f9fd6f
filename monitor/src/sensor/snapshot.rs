//! What exists when the sensor starts, as records: the session, cgroups, tasks.

use std::{
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use monitor_ebpf::record::{Kind, TaskRecord};
use zerocopy::FromBytes as _;

use super::{
    bundle::Bundles,
    ktime_ns,
    load::{Loaded, SensorError},
    realtime_ns,
};
use crate::record::{self, SessionFacts};

/// Cgroups that are looked at; a node has some hundreds.
const MAX_CGROUPS: usize = 65_536;
/// Depth of the cgroup tree that is followed.
const MAX_DEPTH: usize = 32;
/// Users and groups that are told of.
const MAX_USERS: usize = 4096;
/// Longest argument area that is read.
const ARGUMENTS_BYTES: u64 = 4095;
/// Inode number of the initial pid namespace: a constant of the kernel (`PROC_PID_INIT_INO`).
pub(super) const INITIAL_PID_NS: u32 = 0xEFFF_FFFC;
/// ELF machine numbers.
const EM_X86_64: u32 = 62;
const EM_AARCH64: u32 = 183;

/// Takes the snapshot.
pub(super) fn take(
    loaded: &mut Loaded,
    node_name: Option<&str>,
    bundles: &mut Bundles,
) -> Result<Vec<Vec<u8>>, SensorError> {
    let mut records = vec![record::session(&session(node_name))];
    if let Some(root) = cgroup2() {
        cgroups(&root, &mut records);
    }
    users(&host_file("/etc/passwd"), &mut records);
    groups(&host_file("/etc/group"), &mut records);
    // In front of the tasks: what a container is, is known before what runs in it.
    let mut containers = Vec::new();
    for record in &records {
        bundles.listed(record, &mut |container| containers.push(container.to_vec()));
    }
    records.append(&mut containers);
    let bytes = loaded.tasks()?;
    for chunk in bytes.chunks_exact(size_of::<TaskRecord>()) {
        if let Ok(fixed) = TaskRecord::read_from_bytes(chunk) {
            debug_assert_eq!(fixed.header.kind, Kind::TASK);
            records.push(task(fixed));
        }
    }
    Ok(records)
}

fn session(node_name: Option<&str>) -> SessionFacts {
    let uname = rustix::system::uname();
    let ktime = ktime_ns();
    SessionFacts {
        ktime_ns: ktime,
        realtime_offset_ns: realtime_ns().saturating_sub(ktime),
        machine: if cfg!(target_arch = "aarch64") { EM_AARCH64 } else { EM_X86_64 },
        host_mnt_ns: namespace("/proc/1/ns/mnt").unwrap_or(0),
        host_pid_ns: INITIAL_PID_NS,
        hostname: node_name.map_or_else(|| uname.nodename().to_string_lossy().into_owned(), str::to_owned),
        kernel_release: uname.release().to_string_lossy().into_owned(),
        boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// A file of the host, through its first process: the agent's own are those of its image. Where that may not be looked into,
/// the agent's own.
fn host_file(path: &str) -> String {
    fs::read_to_string(format!("/proc/1/root{path}")).or_else(|_| fs::read_to_string(path)).unwrap_or_default()
}

/// Users of the host: `passwd(5)`.
fn users(passwd: &str, records: &mut Vec<Vec<u8>>) {
    for line in passwd.lines().take(MAX_USERS) {
        let mut parts = line.split(':');
        let (name, _, uid, gid, _, home, shell) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next());
        let number = |text: Option<&str>| text.and_then(|text| text.parse().ok());
        if let (Some(name), Some(uid), Some(gid)) = (name, number(uid), number(gid)) {
            let texts = [Some(name), home, shell].map(|text| text.unwrap_or_default().as_bytes());
            records.push(record::user(ktime_ns(), uid, gid, texts));
        }
    }
}

/// Groups of the host: `group(5)`.
fn groups(group: &str, records: &mut Vec<Vec<u8>>) {
    for line in group.lines().take(MAX_USERS) {
        let mut parts = line.split(':');
        let (name, gid) = (parts.next(), parts.nth(1).and_then(|text| text.parse().ok()));
        if let (Some(name), Some(gid)) = (name, gid) {
            records.push(record::group(ktime_ns(), gid, name.as_bytes()));
        }
    }
}

/// Inode number in a link like `mnt:[4026531841]`.
fn namespace(path: &str) -> Option<u32> {
    let link = fs::read_link(path).ok()?;
    link.to_str()?.rsplit_once('[')?.1.strip_suffix(']')?.parse().ok()
}

/// Where the v2 hierarchy is mounted, if it is.
pub(super) fn cgroup2() -> Option<PathBuf> {
    cgroup2_mount(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// The same from the text of `mountinfo` (`proc_pid_mountinfo(5)`).
fn cgroup2_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        (file_system.split(' ').next() == Some("cgroup2")).then_some(())?;
        mount.split(' ').nth(4).map(PathBuf::from)
    })
}

/// Every cgroup below `root`; its id is the inode number of its directory.
fn cgroups(root: &Path, records: &mut Vec<Vec<u8>>) {
    let mut pending = vec![(root.to_path_buf(), 0)];
    let mut seen = 0;
    while let Some((directory, depth)) = pending.pop() {
        let Ok(metadata) = fs::symlink_metadata(&directory) else { continue };
        let path = directory.strip_prefix(root).map(|path| Path::new("/").join(path)).unwrap_or_default();
        records.push(record::cgroup(ktime_ns(), metadata.ino(), path.as_os_str().as_bytes()));
        seen += 1;
        if depth == MAX_DEPTH || seen == MAX_CGROUPS {
            continue;
        }
        let children = fs::read_dir(&directory).into_iter().flatten().flatten();
        pending.extend(
            children.filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir())).map(|entry| (entry.path(), depth + 1)),
        );
    }
}

/// Adds the strings to what the kernel told of a task. One that has ended since has none.
fn task(fixed: TaskRecord) -> Vec<u8> {
    let proc = PathBuf::from(format!("/proc/{}", fixed.header.tgid));
    let link =
        |name| fs::read_link(proc.join(name)).map(|path| path.as_os_str().as_bytes().to_vec()).unwrap_or_default();
    let mut arguments = Vec::new();
    if let Ok(file) = fs::File::open(proc.join("cmdline")) {
        let _ = std::io::Read::read_to_end(&mut std::io::Read::take(file, ARGUMENTS_BYTES), &mut arguments);
    }
    let executable = link("exe");
    // The kernel appends this to the name of a deleted file; the facts say it better.
    let executable = executable.strip_suffix(b" (deleted)").unwrap_or(&executable);
    record::task(fixed, &arguments, executable, &link("cwd"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_v2_hierarchy_is_found_beside_v1() {
        let hybrid = "25 20 0:22 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
                      26 25 0:23 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      27 25 0:24 / /sys/fs/cgroup/unified rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup2_mount(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(cgroup2_mount("nonsense\n"), None);
    }

    #[test]
    fn users_and_groups_are_told_and_odd_lines_are_not() {
        let mut records = Vec::new();
        users("root:x:0:0:root:/root:/bin/bash\nno numbers\nsvc:x:7:8::/:\n+::::::\n", &mut records);
        groups("root:x:0:\nodd\nadm:x:4:a,b\n", &mut records);
        let told: Vec<_> = records.iter().map(|bytes| crate::decode::decode(bytes).unwrap().body).collect();
        let names = told.iter().map(|body| match body {
            crate::event::Body::ListedUser(user) => (user.uid, user.name),
            crate::event::Body::ListedGroup(group) => (group.gid, group.name),
            other => panic!("{other:?}"),
        });
        assert_eq!(names.collect::<Vec<_>>(), [(0, &b"root"[..]), (7, b"svc"), (0, b"root"), (4, b"adm")]);
    }

    #[test]
    fn the_mount_namespace_of_this_process_has_a_number() {
        assert!(namespace("/proc/self/ns/mnt").is_some());
        assert_eq!(namespace("/proc/self/exe"), None);
    }
}
