//! The fields that rules and outputs can name.
//!
//! One table gives the rule language its names and types, `monitor rules fields` its text, outputs their keys, and each
//! field its value. A field is null (`None`) where the event does not have it; it is never silently empty.

use std::borrow::Cow;

use monitor_ebpf::record::file_flag;

use super::{
    Body,
    value::{Type, Value},
};
use crate::{context::Context, drift, state::process::Process};

/// What may stand in brackets behind a field's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brackets {
    /// Nothing.
    None,
    /// A number must: `proc.aname[2]`.
    Index,
}

/// What stood there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Argument {
    /// No brackets.
    None,
    /// A number.
    Index(u32),
}

/// One row of the table.
#[derive(Debug)]
pub struct Info {
    /// Full name, e.g. `proc.name`.
    pub name: &'static str,
    /// Type of its values.
    pub ty: Type,
    /// What may stand in brackets.
    pub brackets: Brackets,
    /// One sentence for users.
    pub doc: &'static str,
    /// A value as it may look.
    pub example: &'static str,
    extract: Extract,
}

/// How a field's value is found.
type Extract = for<'c> fn(&'c Context<'_>, Argument) -> Option<Value<'c>>;

/// A field: an index into the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Field(u16);

impl Field {
    /// The field of this name.
    pub fn find(name: &str) -> Option<Field> {
        TABLE.iter().position(|info| info.name == name).and_then(|i| u16::try_from(i).ok()).map(Field)
    }

    /// Every field, in the table's order.
    pub fn all() -> impl Iterator<Item = Field> {
        (0..TABLE.len()).filter_map(|i| u16::try_from(i).ok()).map(Field)
    }

    /// Its row.
    #[expect(clippy::indexing_slicing, reason = "a Field is made from the table's indices only")]
    pub fn info(self) -> &'static Info {
        &TABLE[usize::from(self.0)]
    }
}

/// Whatever can answer for an event's fields: the pipeline's context, or a table in a test.
pub trait Fields {
    /// The value, or `None` where this event does not have it.
    fn value(&self, field: Field, argument: Argument) -> Option<Value<'_>>;
}

impl Fields for Context<'_> {
    fn value(&self, field: Field, argument: Argument) -> Option<Value<'_>> {
        (field.info().extract)(self, argument)
    }
}

macro_rules! fields {
    ($($name:literal, $ty:ident, $brackets:ident, $doc:literal, $example:literal => $extract:expr;)*) => {
        static TABLE: &[Info] = &[$(Info {
            name: $name, ty: Type::$ty, brackets: Brackets::$brackets, doc: $doc, example: $example, extract: $extract,
        }),*];
    };
}

fields! {
    "evt.num", Uint, None, "Number of the event in the stream, from 1.", "1"
        => |c, _| Some(Value::Uint(c.number));
    "evt.time", Time, None, "When it happened.", "1795408269588000000"
        => |c, _| Some(Value::Uint(c.time_ns()));
    "evt.type", Text, None, "Type of the event: the system call's name, or `seccomp_violation`.", "execve"
        => |c, _| Some(Value::text(c.event_type.name()));
    "evt.res", Text, None, "`SUCCESS`, or the name of the errno.", "SUCCESS"
        => |c, _| c.result().map(|ret| result_name(ret));
    "evt.rawres", Int, None, "What the system call returned.", "0"
        => |c, _| c.result().map(Value::Int);
    "evt.hostname", Text, None, "Name of the host.", "node-1"
        => |c, _| Some(Value::text(&c.state.session.hostname));
    "evt.is_open_write", Bool, None, "Whether a file was opened for writing.", "true"
        => |c, _| matches!(c.event.body, Body::Open(_)).then_some(Value::Bool(true));
    "proc.name", Text, None, "Command name of the process, at most 15 bytes.", "bash"
        => |c, _| c.process.and_then(command_name);
    "proc.pid", Int, None, "Process id in the initial pid namespace.", "1234"
        => |c, _| Some(Value::Int(c.event.header.tgid.into()));
    "proc.vpid", Int, None, "Process id in the process's own pid namespace.", "7"
        => |c, _| c.process.map(|p| Value::Int(p.task.vpid.into()));
    "proc.ppid", Int, None, "Process id of the parent.", "1233"
        => |c, _| c.process.map(|p| Value::Int(p.parent.tgid.into()));
    "proc.pname", Text, None, "Command name of the parent.", "sshd"
        => |c, _| c.ancestor(1).and_then(command_name);
    "proc.aname", Text, Index, "Command name of an ancestor: [1] is the parent, [2] its parent.", "containerd-shim"
        => |c, argument| match argument {
            Argument::Index(generation) => c.ancestor(generation).and_then(command_name),
            Argument::None => None,
        };
    "proc.exe", Text, None, "First argument: the name that the program was called by.", "ls"
        => |c, _| c.process.and_then(|p| p.image.arguments().next()).map(Value::text);
    "proc.exepath", Text, None, "Path of the program.", "/bin/ls"
        => |c, _| c.process.and_then(executable);
    "proc.pexepath", Text, None, "Path of the parent's program.", "/bin/bash"
        => |c, _| c.ancestor(1).and_then(executable);
    "proc.args", Text, None, "Arguments without the first, joined by blanks.", "-l /tmp"
        => |c, _| c.process.map(|p| Value::owned(p.image.args_text()));
    "proc.cmdline", Text, None, "Command name and arguments, joined by blanks.", "ls -l /tmp"
        => |c, _| c.process.map(|p| Value::owned(p.image.command_line()));
    "proc.pcmdline", Text, None, "Command line of the parent.", "bash -i"
        => |c, _| c.ancestor(1).map(|p| Value::owned(p.image.command_line()));
    "proc.cwd", Text, None, "Working directory, as of the last exec.", "/root"
        => |c, _| c.process.map(|p| &p.image.cwd).filter(|cwd| !cwd.is_empty()).map(Value::text);
    "proc.is_exe_upper_layer", Bool, None, "Whether the program lies in the upper layer of an overlay file system.", "true"
        => |c, _| c.process.map(|p| Value::Bool(p.image.file.flags & file_flag::OVERLAY_UPPER != 0));
    "proc.is_exe_from_memfd", Bool, None, "Whether the program is a memory file.", "false"
        => |c, _| c.process.map(|p| Value::Bool(p.image.file.flags & file_flag::MEMFD != 0));
    "proc.is_host_pidns", Bool, None, "Whether the process is in the host's pid namespace.", "false"
        => |c, _| c.process.map(|p| Value::Bool(p.task.pid_ns == c.state.session.host_pid_ns));
    "thread.tid", Int, None, "Thread id in the initial pid namespace.", "1234"
        => |c, _| Some(Value::Int(c.event.header.tid.into()));
    "thread.seccomp_mode", Uint, None, "Seccomp mode: 0 none, 1 strict, 2 filter, 3 killed.", "2"
        => |c, _| c.seccomp_mode().map(|mode| Value::Uint(mode.into()));
    "user.uid", Uint, None, "Real user id.", "0"
        => |c, _| c.process.map(|p| Value::Uint(p.task.uid.into()));
    "user.loginuid", Int, None, "Login user id, -1 where there is none.", "-1"
        => |c, _| c.process.map(|p| Value::Int(if p.task.loginuid == u32::MAX { -1 } else { p.task.loginuid.into() }));
    "container.id", Text, None, "First 12 digits of the container id, or `host`.", "3ad7b26ded6d"
        => |c, _| Some(Value::text(c.container.map_or("host", |container| container.short_id())));
    "container.full_id", Text, None, "Container id.", "3ad7b26ded6d8e7b23da7d48fe889434573036c27ae5a74837233de441c3601e"
        => |c, _| c.container.map(|container| Value::text(&container.id));
    "k8s.pod.uid", Text, None, "Uid of the pod, from the cgroup path.", "6a2f4c5e-0b1d-4f3a-9c7e-8d5b2a1f0e3c"
        => |c, _| c.container.map(|container| &container.pod_uid).filter(|uid| !uid.is_empty()).map(Value::text);
    "fd.name", Text, None, "Path of the file that was opened.", "/tmp/x"
        => |c, _| match &c.event.body {
            Body::Open(open) => Some(Value::owned(open.path.to_absolute())),
            _ => None,
        };
    "drift.kind", Text, None, "How the executed program differs from the image: `new_executable`, `modified_executable`, `fileless`; null otherwise.", "new_executable"
        => |c, _| c.drift.map(|drift| Value::text(drift::kind_name(drift.kind)));
    "drift.layer", Text, None, "`upper` or `lower` where the executed program lies on an overlay file system.", "upper"
        => |c, _| match &c.event.body {
            Body::Exec(exec) => drift::layer(&exec.file).map(Value::text),
            _ => None,
        };
    "drift.writer.name", Text, None, "Command name of who opened the program for writing last, if seen.", "cp"
        => |c, _| c.writer().map(|writer| Value::text(&writer.comm));
    "drift.writer.pid", Int, None, "Process id of who opened the program for writing last, if seen.", "1200"
        => |c, _| c.writer().map(|writer| Value::Int(writer.process.tgid.into()));
    "drift.writer.cmdline", Text, None, "Command line of who opened the program for writing last, if seen.", "cp /bin/busybox /tmp/x"
        => |c, _| c.writer().map(|writer| Value::owned(writer.image.command_line()));
    "seccomp.syscall", Text, None, "Name of the system call that seccomp did not simply allow.", "mkdir"
        => |c, _| c.violation.map(|violation| Value::text(violation.syscall.as_ref()));
    "seccomp.arch", Text, None, "Architecture of its entry.", "x86_64"
        => |c, _| c.violation.map(|violation| Value::text(violation.arch.name()));
    "seccomp.action", Text, None, "What the filter said: `errno`, `trap`, `trace`, `notified`, `log`, `kill_thread`, `kill_process`, or `denied` where only that is known.", "errno"
        => |c, _| c.violation.map(|violation| Value::text(violation.action_name()));
    "seccomp.errno", Text, None, "Name of the errno that the caller saw.", "EPERM"
        => |c, _| c.violation.and_then(|violation| violation.errno).map(|errno| Value::owned(errno_name(errno.into())));
    "seccomp.signal", Text, None, "Signal that it got.", "SIGSYS"
        => |c, _| c.violation.and_then(|violation| violation.signal).map(Value::text);
}

/// Name of an errno, `E<number>` for one without.
pub fn errno_name(errno: u32) -> String {
    i32::try_from(errno)
        .ok()
        .and_then(|errno| syscalls::Errno::new(errno).name())
        .map_or_else(|| format!("E{errno}"), str::to_owned)
}

fn result_name(ret: i64) -> Value<'static> {
    match u32::try_from(-ret) {
        Ok(errno) if errno > 0 => Value::owned(errno_name(errno)),
        _ => Value::Text(Cow::Borrowed(b"SUCCESS")),
    }
}

/// Empty where only the existence of the process is known.
fn command_name(process: &Process) -> Option<Value<'_>> {
    (!process.image.comm.is_empty()).then(|| Value::text(&process.image.comm))
}

fn executable(process: &Process) -> Option<Value<'_>> {
    (!process.image.executable.is_empty()).then(|| Value::text(&process.image.executable))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_found_by_its_name() {
        for field in Field::all() {
            assert_eq!(Field::find(field.info().name), Some(field));
        }
    }

    #[test]
    fn errnos_have_names() {
        assert_eq!(errno_name(1), "EPERM");
        assert_eq!(errno_name(4000), "E4000");
    }
}
