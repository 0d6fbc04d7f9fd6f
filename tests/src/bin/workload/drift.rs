//! Ways to run a program that the image does not have, each of which somebody has hidden from a monitor with.
//!
//! The program is a copy of the workload itself in most cases, run as `noop`.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
};

use super::{SELF, call, execute, number, uring};

const CLONE_NEWUSER: i64 = 0x1000_0000;
const CLONE_NEWNS: i64 = 0x0002_0000;
const MS_BIND: i64 = 0x1000;
const MS_REC_PRIVATE: i64 = 0x4_4000;
const O_TMPFILE: i32 = 0o20_200_000;
const PROT_READ: i64 = 1;
const PROT_EXEC: i64 = 4;
const MAP_PRIVATE: i64 = 2;

/// Where most of them put the program.
const DROPPED: &str = "/tmp/dropped";

/// One of them, by name. Returns only where it failed, but for mappings.
pub(super) fn run(name: &str, path: Option<&String>) -> io::Result<Vec<i64>> {
    let path = path.map_or(DROPPED, String::as_str);
    match name {
        "fd" => copied(|fd| execute(fd, "", "by-fd")),
        "proc-fd" => copied(|fd| execute(-1, &format!("/proc/self/fd/{fd}"), "by-proc-fd")),
        "tmpfile" => tmpfile(),
        "bind" => bind(),
        "overlay-upper" => overlay_upper(),
        "overlay-lower" => overlay_lower(),
        "io-uring" => io_uring(),
        "i386" => i386(),
        "mprotect" => mprotect(path),
        other => Err(io::Error::other(format!("no such way: {other}"))),
    }
}

/// Leaves a copy of itself, and goes on with a descriptor of that.
fn copied(then: impl FnOnce(i64) -> i64) -> io::Result<Vec<i64>> {
    fs::copy(SELF, DROPPED)?;
    let file = File::open(DROPPED)?;
    Ok(vec![then(i64::from(file.as_raw_fd()))])
}

/// A file that never had a name. What is open for writing cannot be executed, so it is opened a second time.
fn tmpfile() -> io::Result<Vec<i64>> {
    let mut file = File::options().read(true).write(true).mode(0o700).custom_flags(O_TMPFILE).open("/tmp")?;
    io::copy(&mut File::open(SELF)?, &mut file)?;
    let again = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    drop(file);
    Ok(vec![execute(i64::from(again.as_raw_fd()), "", "without-name")])
}

/// Root of a user namespace of its own, with a mount namespace in which it may mount. Below a `chroot` there are no user
/// namespaces: whoever is root there, and may mount, does without.
fn become_root() -> io::Result<()> {
    if call(number::UNSHARE, [CLONE_NEWUSER | CLONE_NEWNS, 0, 0, 0, 0, 0]) < 0 {
        check("unshare", call(number::UNSHARE, [CLONE_NEWNS, 0, 0, 0, 0, 0]))?;
        return mount("none", "/", "", MS_REC_PRIVATE, "");
    }
    fs::write("/proc/self/uid_map", "0 0 1")?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/gid_map", "0 0 1")?;
    mount("none", "/", "", MS_REC_PRIVATE, "")
}

fn mount(source: &str, target: &str, kind: &str, flags: i64, data: &str) -> io::Result<()> {
    let [source, path, kind, data] = [source, target, kind, data].map(|text| format!("{text}\0"));
    let pointer = |text: &str| text.as_ptr() as i64;
    check(target, call(number::MOUNT, [pointer(&source), pointer(&path), pointer(&kind), flags, pointer(&data), 0]))
}

fn check(what: &str, returned: i64) -> io::Result<()> {
    if returned >= 0 {
        return Ok(());
    }
    let error = io::Error::from_raw_os_error(i32::try_from(-returned).unwrap_or(0));
    Err(io::Error::new(error.kind(), format!("{what}: {error}")))
}

/// The image's program is covered by another one.
fn bind() -> io::Result<Vec<i64>> {
    fs::copy(SELF, DROPPED)?;
    become_root()?;
    mount(DROPPED, "/opt/program", "", MS_BIND, "")?;
    Ok(vec![execute(-1, "/opt/program", "covered")])
}

/// An overlay of its own whose upper layer has the program.
fn overlay_upper() -> io::Result<Vec<i64>> {
    become_root()?;
    fs::create_dir_all("/tmp/own")?;
    mount("tmpfs", "/tmp/own", "tmpfs", 0, "mode=755")?;
    fs::create_dir("/tmp/own/upper")?;
    fs::create_dir("/tmp/own/work")?;
    mount("overlay", "/opt", "overlay", 0, "lowerdir=/opt,upperdir=/tmp/own/upper,workdir=/tmp/own/work")?;
    fs::copy(SELF, "/opt/dropped")?;
    Ok(vec![execute(-1, "/opt/dropped", "own-upper")])
}

/// An overlay of its own in which the program is part of what looks like the image.
fn overlay_lower() -> io::Result<Vec<i64>> {
    fs::create_dir_all("/tmp/low")?;
    fs::copy(SELF, "/tmp/low/program")?;
    become_root()?;
    mount("overlay", "/opt", "overlay", 0, "lowerdir=/tmp/low:/opt")?;
    Ok(vec![execute(-1, "/opt/program", "own-lower")])
}

/// Written without any system call that opens or writes.
fn io_uring() -> io::Result<Vec<i64>> {
    uring::write_program(DROPPED, &fs::read(SELF)?)?;
    Ok(vec![execute(-1, DROPPED, "by-ring")])
}

/// A 32-bit program: `exit(0)`, and the least that an ELF file needs.
fn i386() -> io::Result<Vec<i64>> {
    const ADDRESS: u32 = 0x0804_8000;
    const HEADERS: u32 = 52 + 32;
    const CODE: [u8; 9] = [0xb8, 1, 0, 0, 0, 0x31, 0xdb, 0xcd, 0x80];
    let size = HEADERS + 9;
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |elf: &mut Vec<u8>, values: &[u16]| elf.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    let word = |elf: &mut Vec<u8>, values: &[u32]| elf.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    half(&mut elf, &[2, 3]);
    word(&mut elf, &[1, ADDRESS + HEADERS, 52, 0, 0]);
    half(&mut elf, &[52, 32, 1, 0, 0, 0]);
    word(&mut elf, &[1, 0, ADDRESS, ADDRESS, size, size, 5, 0x1000]);
    elf.extend(CODE);
    File::options().write(true).create(true).truncate(true).mode(0o755).open(DROPPED)?.write_all(&elf)?;
    Ok(vec![execute(-1, DROPPED, "thirty-two")])
}

/// Maps a file to be read, closes it, and makes code of it afterwards.
fn mprotect(path: &str) -> io::Result<Vec<i64>> {
    let file = File::open(path)?;
    let place = call(number::MMAP, [0, 4096, PROT_READ, MAP_PRIVATE, i64::from(file.as_raw_fd()), 0]);
    drop(file);
    let made = call(number::MPROTECT, [place, 4096, PROT_READ | PROT_EXEC, 0, 0, 0]);
    check("mprotect", made)?;
    Ok(vec![made])
}
