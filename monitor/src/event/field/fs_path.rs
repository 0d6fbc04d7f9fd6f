//! `fs.path.*`: the paths that calls are about. Which parameter of which call, and what a relative path is relative to, is as
//! Falco has it: not always what the kernel makes of it.

use std::borrow::Cow;

use super::{Source, fd, fields, rendering};
use crate::{
    context::Context,
    event::{
        call::Call,
        path::concatenate,
        schema::{Code, ParamType},
        value::Value,
    },
    state::descriptor::{Descriptor, Kind},
};

fields! {
    "fs.path.name", Text, [], None, "Resolved path of single-path fs syscalls, only on success.", "/tmp/x"
        => Source::One(|c, _| resolved(c, Role::Name));
    "fs.path.nameraw", Text, [], None, "Same, as passed.", "x"
        => Source::One(|c, _| given(c, Role::Name).map(Value::Text));
    "fs.path.source", Text, [], None, "Resolved source path of two-path syscalls.", "/tmp/old"
        => Source::One(|c, _| resolved(c, Role::Source));
    "fs.path.sourceraw", Text, [], None, "Same, as passed.", "old"
        => Source::One(|c, _| given(c, Role::Source).map(Value::Text));
    "fs.path.target", Text, [], None, "Resolved target path.", "/tmp/new"
        => Source::One(|c, _| resolved(c, Role::Target));
    "fs.path.targetraw", Text, [], None, "Same, as passed.", "new"
        => Source::One(|c, _| given(c, Role::Target).map(Value::Text));
}

/// Falco's word for a directory that is not known.
const UNKNOWN: &[u8] = b"<UNKNOWN>";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Name,
    Source,
    Target,
}

/// Where a call has its paths.
enum Paths {
    One(&'static str),
    /// The path of its descriptor.
    Descriptor,
    /// Source and target.
    Two(&'static str, &'static str),
}

const fn paths(code: Code) -> Option<Paths> {
    Some(match code {
        Code::SYSCALL_MKDIR_2_X
        | Code::SYSCALL_MKDIRAT_X
        | Code::SYSCALL_RMDIR_2_X
        | Code::SYSCALL_UNLINK_2_X
        | Code::SYSCALL_CHOWN_X
        | Code::SYSCALL_LCHOWN_X => Paths::One("path"),
        Code::SYSCALL_UNLINKAT_2_X
        | Code::SYSCALL_OPEN_X
        | Code::SYSCALL_OPENAT_2_X
        | Code::SYSCALL_OPENAT2_X
        | Code::SYSCALL_UMOUNT_1_X
        | Code::SYSCALL_UMOUNT2_X => Paths::One("name"),
        Code::SYSCALL_FCHMODAT_X | Code::SYSCALL_CHMOD_X => Paths::One("filename"),
        Code::SYSCALL_FCHOWNAT_X => Paths::One("pathname"),
        Code::SYSCALL_QUOTACTL_X => Paths::One("special"),
        Code::SYSCALL_FCHMOD_X | Code::SYSCALL_FCHOWN_X => Paths::Descriptor,
        Code::SYSCALL_RENAME_X | Code::SYSCALL_RENAMEAT_X | Code::SYSCALL_RENAMEAT2_X => {
            Paths::Two("oldpath", "newpath")
        }
        Code::SYSCALL_LINK_2_X | Code::SYSCALL_LINKAT_2_X => Paths::Two("newpath", "oldpath"),
        Code::SYSCALL_SYMLINK_X | Code::SYSCALL_SYMLINKAT_X => Paths::Two("linkpath", "target"),
        Code::SYSCALL_MOUNT_X => Paths::Two("dev", "dir"),
        _ => return None,
    })
}

/// The path as it was given to a call that succeeded. An open counts as such unless it returned -1.
fn given<'c>(c: &'c Context<'_>, role: Role) -> Option<Cow<'c, [u8]>> {
    let call = c.event.call()?;
    let paths = paths(call.info.code)?;
    let opens = matches!(call.info.code, Code::SYSCALL_OPEN_X | Code::SYSCALL_OPENAT_2_X | Code::SYSCALL_OPENAT2_X);
    let returned = call.params.i64(call.info.position(if opens { "fd" } else { "res" })?)?;
    if if opens { returned == -1 } else { returned != 0 } {
        return None;
    }
    let name = match (paths, role) {
        (Paths::One(name), Role::Name) | (Paths::Two(name, _), Role::Source) | (Paths::Two(_, name), Role::Target) => {
            name
        }
        (Paths::Descriptor, Role::Name) => return fd::name(c),
        _ => return None,
    };
    let position = call.info.position(name)?;
    match call.info.params.get(position)?.ty {
        ParamType::CharBuf | ParamType::FsPath | ParamType::FsRelPath => {
            call.params.get(position).map(|bytes| Cow::Borrowed(rendering::text(bytes)))
        }
        _ => None,
    }
}

fn resolved<'c>(c: &'c Context<'_>, role: Role) -> Option<Value<'c>> {
    let path = given(c, role)?;
    let (thread, call) = (c.thread?, c.event.call()?);
    if path.starts_with(b"/") {
        return Some(Value::owned(concatenate(b"", &path)));
    }
    if let Some(directory) = told_directory(call, role) {
        return Some(Value::owned(concatenate(&directory, &path)));
    }
    let directory: Cow<'_, [u8]> = match call.info.code {
        Code::SYSCALL_OPENAT_2_X | Code::SYSCALL_OPENAT2_X => {
            // The descriptor has the whole path.
            let name = c.descriptor.map_or(UNKNOWN, |opened| &opened.name);
            return Some(Value::owned(concatenate(b"", name)));
        }
        Code::SYSCALL_FCHOWNAT_X | Code::SYSCALL_FCHMODAT_X | Code::SYSCALL_MKDIRAT_X | Code::SYSCALL_UNLINKAT_2_X => {
            directory(c.descriptor)
        }
        Code::SYSCALL_SYMLINKAT_X if role == Role::Source => directory(c.descriptor),
        Code::SYSCALL_SYMLINKAT_X => Cow::Borrowed(UNKNOWN),
        Code::SYSCALL_RENAMEAT2_X => {
            let fd = call.params.i64(if role == Role::Target { 3 } else { 1 })?;
            c.state.directory_or_unknown(thread, &path, fd)
        }
        _ => Cow::Borrowed(c.state.threads.cwd(thread)),
    };
    Some(Value::owned(concatenate(&directory, &path)))
}

/// The directory that the kernel told a path to be relative to, with a slash at its end.
fn told_directory(call: &Call<'_>, role: Role) -> Option<Vec<u8>> {
    // Of both paths of a link the second is the source here.
    let is_link = matches!(
        call.info.code,
        Code::SYSCALL_LINK_2_X | Code::SYSCALL_LINKAT_2_X | Code::SYSCALL_SYMLINK_X | Code::SYSCALL_SYMLINKAT_X
    );
    let is_second = role != Role::Name && (role == Role::Target) != is_link;
    let [first, second] = &call.told.as_ref()?.syscall.directories;
    let mut directory = if is_second { second } else { first }.as_ref()?.to_directory();
    if !directory.ends_with(b"/") {
        directory.push(b'/');
    }
    Some(directory)
}

/// The path of a directory, with a slash at its end.
fn directory(descriptor: Option<&Descriptor>) -> Cow<'_, [u8]> {
    match descriptor.filter(|known| known.kind == Kind::DIRECTORY).map(|known| &*known.name) {
        None => Cow::Borrowed(UNKNOWN),
        Some(name @ ([] | [.., b'/'])) => Cow::Borrowed(name),
        Some(name) => Cow::Owned([name, b"/"].concat()),
    }
}
