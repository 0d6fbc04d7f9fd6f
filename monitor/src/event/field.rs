//! The fields that rules and outputs can name: one table gives the rule language its names and types, `monitor rules fields`
//! its text, and outputs their keys.

use super::value::{Type, Value};

/// What may stand in brackets behind a field's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brackets {
    /// Nothing.
    None,
    /// A number must: `proc.aname[2]`.
    Index,
    /// A number may.
    OptionalIndex,
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
}

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
    pub fn info(self) -> &'static Info {
        &TABLE[usize::from(self.0)]
    }
}

/// Whatever can answer for an event's fields: the pipeline's context, or a table in a test.
pub trait Fields {
    /// The value, or `None` where this event does not have it.
    fn value(&self, field: Field, argument: Argument) -> Option<Value<'_>>;
}

macro_rules! fields {
    ($($name:literal, $ty:ident, $brackets:ident, $doc:literal, $example:literal;)*) => {
        static TABLE: &[Info] = &[$(Info {
            name: $name, ty: Type::$ty, brackets: Brackets::$brackets, doc: $doc, example: $example,
        }),*];
    };
}

fields! {
    "evt.num", Uint, None, "Number of the event in the stream, from 1.", "1";
    "evt.time", Time, None, "When it happened.", "1795408269588000000";
    "evt.type", Text, None, "Type of the event: the system call's name, or `seccomp_violation`.", "execve";
    "evt.res", Text, None, "`SUCCESS`, or the name of the errno.", "SUCCESS";
    "evt.rawres", Int, None, "What the system call returned.", "0";
    "evt.hostname", Text, None, "Name of the host.", "node-1";
    "evt.is_open_write", Bool, None, "Whether a file was opened for writing.", "true";
    "proc.name", Text, None, "Command name of the process, at most 15 bytes.", "bash";
    "proc.pid", Int, None, "Process id in the initial pid namespace.", "1234";
    "proc.vpid", Int, None, "Process id in the process's own pid namespace.", "7";
    "proc.ppid", Int, None, "Process id of the parent.", "1233";
    "proc.pname", Text, None, "Command name of the parent.", "sshd";
    "proc.aname", Text, Index, "Command name of an ancestor: [1] is the parent, [2] its parent.", "containerd-shim";
    "proc.exe", Text, None, "First argument: the name that the program was called by.", "ls";
    "proc.exepath", Text, None, "Path of the program.", "/bin/ls";
    "proc.pexepath", Text, None, "Path of the parent's program.", "/bin/bash";
    "proc.args", Text, None, "Arguments without the first, joined by blanks.", "-l /tmp";
    "proc.cmdline", Text, None, "Command name and arguments, joined by blanks.", "ls -l /tmp";
    "proc.pcmdline", Text, None, "Command line of the parent.", "bash -i";
    "proc.cwd", Text, None, "Working directory.", "/root";
    "proc.is_exe_upper_layer", Bool, None, "Whether the program lies in the upper layer of an overlay file system.", "true";
    "proc.is_exe_from_memfd", Bool, None, "Whether the program is a memory file.", "false";
    "proc.is_host_pidns", Bool, None, "Whether the process is in the host's pid namespace.", "false";
    "thread.tid", Int, None, "Thread id in the initial pid namespace.", "1234";
    "thread.seccomp_mode", Uint, None, "Seccomp mode: 0 none, 1 strict, 2 filter, 3 killed.", "2";
    "user.uid", Uint, None, "Real user id.", "0";
    "user.loginuid", Int, None, "Login user id, -1 where there is none.", "-1";
    "container.id", Text, None, "First 12 digits of the container id, or `host`.", "3ad7b26ded6d";
    "container.full_id", Text, None, "Container id.", "3ad7b26ded6d8e7b23da7d48fe889434573036c27ae5a74837233de441c3601e";
    "k8s.pod.uid", Text, None, "Uid of the pod, from the cgroup path.", "6a2f4c5e-0b1d-4f3a-9c7e-8d5b2a1f0e3c";
    "fd.name", Text, None, "Path of the file that was opened.", "/tmp/x";
    "drift.kind", Text, None, "How the executed program differs from the image: `new_executable`, `modified_executable`, `fileless`; null otherwise.", "new_executable";
    "drift.layer", Text, None, "`upper` or `lower` where the program lies on an overlay file system.", "upper";
    "drift.writer.name", Text, None, "Command name of who opened the program for writing last, if seen.", "cp";
    "drift.writer.pid", Int, None, "Process id of who opened the program for writing last, if seen.", "1200";
    "drift.writer.cmdline", Text, None, "Command line of who opened the program for writing last, if seen.", "cp /bin/busybox /tmp/x";
    "seccomp.syscall", Text, None, "Name of the system call that seccomp did not simply allow.", "mkdir";
    "seccomp.arch", Text, None, "Architecture of its entry.", "x86_64";
    "seccomp.action", Text, None, "What the filter said: `errno`, `trap`, `trace`, `notified`, `log`, `kill_thread`, `kill_process`, or `denied` where only that is known.", "errno";
    "seccomp.errno", Text, None, "Name of the errno that the caller saw.", "EPERM";
    "seccomp.signal", Text, None, "Signal that it got.", "SIGSYS";
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
}
