//! Fields that Falco does not have: `drift.*`, `seccomp.*`, `pod_security.*`, and a few of processes. Tabular.

use super::{Source, errno_name, fields};
use crate::{
    context::Context,
    drift,
    event::{Body, address::Ends, value::Value},
    pod_security,
    seccomp::applied::Origin,
};

/// What is known of a violation's origin.
fn origin<'c>(context: &'c Context<'_>, part: fn(&Origin) -> &str) -> Option<Value<'c>> {
    context.violation.map(|violation| part(&violation.origin)).filter(|text| !text.is_empty()).map(Value::text)
}

fields! {
    "proc.is_host_pidns", Bool, [], None, "Whether the process is in the host's pid namespace.", "false"
        => Source::One(|c, _| c.thread.map(|p| Value::Bool(p.task.pid_ns == c.state.session.host_pid_ns)));
    "proc.exe_sha256", Text, [], None, "SHA-256 of the program's file, in hexadecimal, where the file is not the image's: other files are not read.", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        => Source::One(|c, _| {
            let digest = c.state.digests.get(&c.thread?.image.file)?;
            digest.sha256().map(|sha256| Value::owned(drift::hexadecimal(sha256)))
        });
    "thread.seccomp_mode", Uint, [], None, "Seccomp mode: 0 none, 1 strict, 2 filter, 3 killed.", "2"
        => Source::One(|c, _| c.seccomp_mode().map(|mode| Value::Uint(mode.into())));
    "thread.no_new_privs", Bool, [], None, "Whether the thread gave up gaining privileges by exec (`no_new_privs`).", "true"
        => Source::One(|c, _| c.thread.filter(|_| c.event.is_recorded()).map(|p| Value::Bool(p.task.no_new_privs != 0)));
    "drift.kind", Text, [], None, "How the executed program differs from the image: `new_executable`, `modified_executable`, `fileless`, `new_library`, `modified_library`, `script`, `interpreter_stdin`, `from_volume`, `metadata_only`; no value otherwise.", "new_executable"
        => Source::One(|c, _| c.drift.map(|drift| Value::text(drift::kind_name(drift.kind))));
    "drift.layer", Text, [], None, "`upper` or `lower` where the executed program, or what drifted, lies on an overlay file system.", "upper"
        => Source::One(|c, _| match (&c.drift, &c.event.body) {
            (Some(drift), _) => drift::layer(drift.file).map(Value::text),
            (None, Body::Exec(exec)) => drift::layer(&exec.file).map(Value::text),
            _ => None,
        });
    "drift.path", Text, [], None, "Path of what drifted: the program, the library, the script.", "/tmp/x"
        => Source::One(|c, _| c.drift.map(|drift| Value::owned(drift.path.to_absolute())));
    "drift.sha256", Text, [], None, "SHA-256 of what drifted, in hexadecimal, if it was read in time.", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        => Source::One(|c, _| c.drift.and_then(|drift| drift.sha256().map(|sha256| Value::owned(drift::hexadecimal(sha256)))));
    "drift.ctime", Time, [], None, "Last change of the inode of what drifted.", "1786272296000000000"
        => Source::One(|c, _| c.drift.map(|drift| Value::Uint(drift.file.ctime_ns)));
    "drift.mtime", Time, [], None, "Last change of the content of what drifted.", "1786272296000000000"
        => Source::One(|c, _| c.drift.map(|drift| Value::Uint(drift.file.mtime_ns)));
    "drift.mode", Text, [], None, "What the drift policy makes of it: `alert` or `observe`.", "alert"
        => Source::One(|c, _| c.verdict.map(|verdict| Value::text(verdict.mode.name())));
    "drift.policy", Text, [], None, "The rule of the drift policy that decided; no value where none did.", "build pods"
        => Source::One(|c, _| c.verdict.and_then(|verdict| verdict.rule).map(Value::text));
    "drift.writer.name", Text, [], None, "Command name of who opened the program for writing last, if seen.", "cp"
        => Source::One(|c, _| c.writer().map(|writer| Value::text(&writer.comm)));
    "drift.writer.pid", Int, [], None, "Process id of who opened the program for writing last, if seen.", "1200"
        => Source::One(|c, _| c.writer().map(|writer| Value::Int(writer.process.tid)));
    "drift.writer.cmdline", Text, [], None, "Command line of who opened the program for writing last, if seen.", "cp /bin/busybox /tmp/x"
        => Source::One(|c, _| c.writer().map(|writer| Value::text(writer.image.command_line())));
    "drift.writer.time", Time, [], None, "When it did.", "1786272296000000000"
        => Source::One(|c, _| c.writer().map(|writer| Value::Uint(c.state.unix_ns(writer.ktime_ns))));
    "drift.writer.ancestors", Text, [], None, "Command names of its ancestors then, the nearest first, joined by commas.", "sh,containerd-shim"
        => Source::One(|c, _| c.writer().map(|writer| {
            Value::owned(writer.ancestors.iter().map(|(_, image)| image.comm()).collect::<Vec<_>>().join(&b','))
        }));
    "drift.writer.connections", Text, [], None, "Internet connections that it had then, as far as a rule asks for connections and they were seen, joined by commas.", "10.0.0.5:41234->198.51.100.7:443"
        => Source::One(|c, _| c.writer().filter(|writer| !writer.connections.is_empty()).map(|writer| {
            Value::owned(writer.connections.iter().map(Ends::text).collect::<Vec<_>>().join(&b','))
        }));
    "seccomp.syscall", Text, [], None, "Name of the system call that seccomp did not simply allow.", "mkdir"
        => Source::One(|c, _| c.violation.map(|violation| Value::text(violation.syscall.as_ref())));
    "seccomp.arch", Text, [], None, "Architecture of its entry.", "x86_64"
        => Source::One(|c, _| c.violation.map(|violation| Value::text(violation.arch.name())));
    "seccomp.action", Text, [], None, "What the filter said: `errno`, `trap`, `trace`, `notified`, `log`, `kill_thread`, `kill_process`, or `denied` where only that is known.", "errno"
        => Source::One(|c, _| c.violation.map(|violation| Value::text(violation.action_name())));
    "seccomp.errno", Text, [], None, "Name of the errno that the caller saw.", "EPERM"
        => Source::One(|c, _| c.violation.and_then(|v| v.errno).map(|errno| Value::owned(errno_name(errno.into()))));
    "seccomp.signal", Text, [], None, "Signal that it got.", "SIGSYS"
        => Source::One(|c, _| c.violation.and_then(|violation| violation.signal).map(Value::text));
    "seccomp.profile", Text, [], None, "Seccomp profile of the container: `RuntimeDefault`, `Localhost/FILE`, `Unconfined`, `custom` for any other; no value where the runtime's bundle was not read.", "RuntimeDefault"
        => Source::One(|c, _| origin(c, |origin| &origin.profile));
    "seccomp.profile.digest", Text, [], None, "SHA-256 of that profile as the runtime was given it.", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
        => Source::One(|c, _| origin(c, |origin| &origin.digest));
    "seccomp.rule", Text, [], None, "Rule of the profile that decided about the call; no value where a filter of the program's own did.", "syscalls[3]: SCMP_ACT_ERRNO if arg0 == 0x28"
        => Source::One(|c, _| origin(c, |origin| &origin.rule));
    "seccomp.count", Uint, [PRINT_ONLY], None, "How many calls the finding stands for: the first of a container, system call and action is told by itself, those that follow within a window together (print only).", "25"
        => Source::One(|c, _| c.violation.map(|violation| Value::Uint(violation.occurrences.count)));
    "pod_security.check", Text, [], None, "What a pod's container may do or has, such as `privileged`: `monitor rules fields` and deploy/README.md list them.", "privileged"
        => Source::One(|c, _| c.breach.map(|breach| Value::text(breach.check)));
    "pod_security.level", Text, [], None, "Pod Security Standard that forbids it: `baseline` or `restricted`; no value where none does.", "baseline"
        => Source::One(|c, _| c.breach.and_then(|breach| pod_security::level_name(breach.level)).map(Value::text));
    "pod_security.field", Text, [], None, "Field of the pod specification that decides it; empty where the kernel's word is not the runtime's.", "spec.containers{app}.securityContext.privileged"
        => Source::One(|c, _| c.breach.map(|breach| Value::text(&breach.field)));
    "pod_security.actual", Text, [], None, "What was found there.", "/etc (rw)"
        => Source::One(|c, _| c.breach.map(|breach| Value::text(&breach.actual)));
}
