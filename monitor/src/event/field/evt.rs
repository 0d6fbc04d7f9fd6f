//! `evt.*` and `syscall.*`: the event itself. Tabular.

use super::{Argument, Source, clock, fields};
use crate::{
    context::Context,
    event::{Body, EventType, value::Value},
};

const SECOND: u64 = 1_000_000_000;

/// `O_ACCMODE` and two of its values: `include/uapi/asm-generic/fcntl.h`.
const ACCESS_MODE: u32 = 3;
const READ_ONLY: u32 = 0;
const WRITE_ONLY: u32 = 1;

fields! {
    "evt.num", Uint, [], None, "1-based counter of events delivered by the reader.", "4711"
        => Source::One(|c, _| Some(Value::Uint(c.number)));
    "evt.time", Text, [], None, "Local wall clock HH:MM:SS.nnnnnnnnn; JSON value is integer ns since epoch.", "04:31:09.588000001"
        => Source::One(|c, _| Some(Value::owned(clock::time(c.time_ns(), true))));
    "evt.time.s", Text, [], None, "As evt.time without fraction; JSON integer ns.", "04:31:09"
        => Source::One(|c, _| Some(Value::owned(clock::time(c.time_ns(), false))));
    "evt.time.iso8601", Text, [], None, "UTC ISO-8601 with ns and +0000 offset; JSON integer ns.", "2026-11-23T04:31:09.588000001+0000"
        => Source::One(|c, _| Some(Value::owned(clock::iso8601(c.time_ns()))));
    "evt.datetime", Text, [], None, "Local date + time with ns; JSON integer ns.", "2026-11-23 04:31:09.588000001"
        => Source::One(|c, _| Some(Value::owned(clock::datetime(c.time_ns(), true))));
    "evt.datetime.s", Text, [], None, "Local date + time, whole seconds; JSON integer ns.", "2026-11-23 04:31:09"
        => Source::One(|c, _| Some(Value::owned(clock::datetime(c.time_ns(), false))));
    "evt.rawtime", Time, [], None, "Ns since epoch.", "1795408269588000000"
        => Source::One(|c, _| Some(Value::Uint(c.time_ns())));
    "evt.rawtime.s", Time, [], None, "Whole seconds since epoch.", "1795408269"
        => Source::One(|c, _| Some(Value::Uint(c.time_ns() / SECOND)));
    "evt.rawtime.ns", Time, [], None, "Sub-second ns part.", "588000001"
        => Source::One(|c, _| Some(Value::Uint(c.time_ns() % SECOND)));
    "evt.reltime", Duration, [], None, "Ns since first non-meta event of the capture.", "1500000000"
        => Source::Refused("it would make findings depend on what was looked at before");
    "evt.reltime.s", Duration, [], None, "Whole seconds since first event.", "1500000000"
        => Source::Refused("it would make findings depend on what was looked at before");
    "evt.reltime.ns", Duration, [], None, "Sub-second ns since first event.", "1500000000"
        => Source::Refused("it would make findings depend on what was looked at before");
    "evt.pluginname", Text, [], None, "Name of the source plugin (plugin events only).", "k8saudit"
        => Source::Refused("there are no plugins here");
    "evt.plugininfo", Text, [], None, "Plugin-rendered summary (plugin events only).", "get pods"
        => Source::Refused("there are no plugins here");
    "evt.source", Text, [], None, "Event source name, 'syscall' for kernel events.", "syscall"
        => Source::One(|_, _| Some(Value::text("syscall")));
    "evt.is_async", Bool, [], None, "True for meta-events (category METAEVENT).", "false"
        => Source::One(|_, _| Some(Value::Bool(false)));
    "evt.asynctype", Text, [], None, "Meta-event name (async name param, or event name).", "container"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.hostname", Text, [], None, "Hostname of machine-info block / live host.", "node-1"
        => Source::One(|c, _| Some(Value::text(&c.state.session.hostname)));
    "evt.latency", Duration, [DEPRECATED], None, "Deprecated, constant 0 since enter events were dropped.", "1500000000"
        => Source::One(|_, _| Some(Value::Uint(0)));
    "evt.latency.s", Duration, [DEPRECATED], None, "Deprecated, constant 0.", "1500000000"
        => Source::One(|_, _| Some(Value::Uint(0)));
    "evt.latency.ns", Duration, [DEPRECATED], None, "Deprecated, constant 0.", "1500000000"
        => Source::One(|_, _| Some(Value::Uint(0)));
    "evt.latency.quantized", Uint, [DEPRECATED], None, "Deprecated, constant 0, table only.", "1024"
        => Source::One(|_, _| Some(Value::Uint(0)));
    "evt.latency.human", Text, [DEPRECATED], None, "Deprecated, constant string 0ns.", "0ns"
        => Source::One(|_, _| Some(Value::text("0ns")));
    "evt.deltatime", Duration, [], None, "Ns between this and previously evaluated event (stateful per check).", "1500000000"
        => Source::Refused("it would make findings depend on what was looked at before");
    "evt.deltatime.s", Duration, [], None, "Seconds part of the delta.", "1500000000"
        => Source::Refused("it would make findings depend on what was looked at before");
    "evt.deltatime.ns", Duration, [], None, "Sub-second part of the delta.", "1500000000"
        => Source::Refused("it would make findings depend on what was looked at before");
    "evt.outputtime", Text, [PRINT_ONLY], None, "Time per the inspector output mode (print only).", "04:31:09.588000001"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.dir", Text, [DEPRECATED], None, "Deprecated; > for enter, < for exit (always < at rule level now).", "<"
        => Source::One(|_, _| Some(Value::text("<")));
    "evt.type", Text, [], None, "Event table name; for generic syscall events the syscall name; for async events the async name.", "execve"
        => Source::One(|c, _| Some(Value::text(c.event_type.name())));
    "evt.type.is", Uint32, [], Name, "Evt.type.is.NAME or .CODE gives 1/0.", "1"
        => Source::One(|c, argument| match argument {
            Argument::Key(name) => Some(Value::Uint((c.event_type.name() == &**name).into())),
            _ => None,
        });
    "syscall.type", Text, [], None, "Syscall name, null for non-syscall events.", "openat"
        => Source::One(|c, _| (!is_tracepoint(c)).then(|| Value::text(c.event_type.name())));
    "evt.category", Text, [], None, "Low-bits category name (file, net, IPC, memory, process...); I/O categories resolve by fd type to file/net/ipc.", "file"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.cpu", Int16, [], None, "CPU id stored with the event block.", "3"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.args", Text, [], None, "All params as name=value, resolved text in parentheses; empty for generic events.", "res=0 fd=3(<f>/etc/passwd)"
        => Source::Awaited;
    "evt.arg", Text, [], Name, "Param by name (evt.arg.NAME) or index (evt.arg[N]); resolved text preferred over raw text.", "O_RDONLY|O_CLOEXEC"
        => Source::Awaited;
    "evt.rawarg", Text, [NO_FIELD NO_TRANSFORMER], Name, "Param by name with native type; type taken from first longest name match in table, re-set per event.", "4096"
        => Source::Refused("the native types of arguments are not kept: use evt.arg or evt.rawres");
    "evt.info", Text, [], None, "Same as evt.args.", "res=0 fd=3(<f>/etc/passwd)"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.buffer", Bytes, [], None, "Bytes of the param named data.", "GET / HTTP/1.1"
        => Source::Awaited;
    "evt.buflen", Uint, [], None, "Return value of an I/O event when >= 0 and fd known.", "512"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.res", Text, [], None, "SUCCESS if result >= 0 else errno name of param 0.", "SUCCESS"
        => Source::One(|c, _| c.result().map(result_name));
    "evt.rawres", Int, [], None, "Signed return value (param 0), null if event has none.", "0"
        => Source::One(|c, _| c.result().map(Value::Int));
    "evt.failed", Bool, [], None, "Whether result < 0.", "false"
        => Source::One(|c, _| c.result().map(|ret| Value::Bool(ret < 0)));
    "evt.is_io", Bool, [], None, "Whether it is one of the events flagged reads or writes fd.", "true"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.is_io_read", Bool, [], None, "Whether it is one of the events flagged reads fd.", "true"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.is_io_write", Bool, [], None, "Whether it is one of the events flagged writes fd.", "true"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.io_dir", Text, [], None, "Text write or read (code), null otherwise.", "read"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.is_wait", Bool, [], None, "Whether it is one of the events flagged waits.", "true"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.wait_latency", Duration, [DEPRECATED], None, "Deprecated, constant 0.", "1500000000"
        => Source::One(|_, _| Some(Value::Uint(0)));
    "evt.is_syslog", Bool, [], None, "Whether a write to an fd whose name contains /dev/log.", "true"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.count", Uint32, [], None, "Constant 1.", "1"
        => Source::One(|_, _| Some(Value::Uint(1)));
    "evt.count.error", Uint32, [], None, "1 if failed.", "1"
        => Source::One(|c, _| Some(Value::Uint(c.result().is_some_and(|ret| ret < 0).into())));
    "evt.count.error.file", Uint32, [], None, "1 if failed and fd is file/dir, or open-family without fd.", "1"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.count.error.net", Uint32, [], None, "1 if failed and fd is socket, or accept/connect without fd.", "1"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.count.error.memory", Uint32, [], None, "1 if failed and category is memory.", "1"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.count.error.other", Uint32, [], None, "1 if failed and none of the above.", "1"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.count.exit", Uint32, [], None, "1 for exit events.", "1"
        => Source::One(|_, _| Some(Value::Uint(1)));
    "evt.count.procinfo", Uint32, [], None, "1 for procinfo of main threads (table only).", "1"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.count.threadinfo", Uint32, [], None, "1 for procinfo events (table only).", "1"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.around", Uint, [FILTER_ONLY NO_FIELD NO_TRANSFORMER], Needed, "Filter only: evt.around[T]=D, within D milliseconds of T (ns).", "5000"
        => Source::Refused("use --from and --to of a replay");
    "evt.abspath", Text, [], Name, "Absolute path from dirfd+name params; .src/.dst for two-path calls.", "/etc/passwd"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.buflen.in", Uint, [], None, "Buflen of read events (table only).", "1024"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.buflen.out", Uint, [], None, "Buflen of write events (table only).", "1024"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.buflen.file", Uint, [], None, "Buflen of file I/O (table only).", "1024"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.buflen.file.in", Uint, [], None, "Buflen of file reads (table only).", "1024"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.buflen.file.out", Uint, [], None, "Buflen of file writes (table only).", "1024"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.buflen.net", Uint, [], None, "Buflen of IP socket I/O (table only).", "1024"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.buflen.net.in", Uint, [], None, "Buflen of IP socket reads (table only).", "1024"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.buflen.net.out", Uint, [], None, "Buflen of IP socket writes (table only).", "1024"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "evt.is_open_read", Bool, [], None, "Whether open/openat/openat2/open_by_handle_at flags have the PPM RDONLY bit.", "true"
        => Source::One(|c, _| open_flags(c).map(|flags| Value::Bool(flags & ACCESS_MODE != WRITE_ONLY)));
    "evt.is_open_write", Bool, [], None, "Whether those flags have the PPM WRONLY bit (RDWR sets both).", "true"
        => Source::One(|c, _| open_flags(c).map(|flags| Value::Bool(flags & ACCESS_MODE != READ_ONLY)));
    "evt.infra.docker.name", Text, [], None, "Docker event name from an infra event (table only).", "start"
        => Source::Refused("infrastructure events were dropped by Docker integrations long ago");
    "evt.infra.docker.container.id", Text, [], None, "Container id from an infra event (table only).", "3ad7b26ded6d"
        => Source::Refused("infrastructure events were dropped by Docker integrations long ago");
    "evt.infra.docker.container.name", Text, [], None, "Container name from an infra event (table only).", "web"
        => Source::Refused("infrastructure events were dropped by Docker integrations long ago");
    "evt.infra.docker.container.image", Text, [], None, "Image from an infra event (table only).", "nginx"
        => Source::Refused("infrastructure events were dropped by Docker integrations long ago");
    "evt.is_open_exec", Bool, [], None, "Whether open with CREAT/TMPFILE (or creat) and mode has any x bit.", "true"
        => Source::Awaited;
    "evt.is_open_create", Bool, [], None, "Whether F_CREATED bit set, or TMPFILE and success.", "true"
        => Source::Refused("the arguments of events that it is made from are not decoded yet");
    "util.cnt", Uint, [], None, "Incrementing counter.", "1"
        => Source::Refused("a counter would make findings depend on what was looked at before");
}

fn open_flags(c: &Context<'_>) -> Option<u32> {
    match &c.event.body {
        Body::Open(open) => Some(open.open_flags),
        _ => None,
    }
}

/// Events that are no system calls.
fn is_tracepoint(c: &Context<'_>) -> bool {
    matches!(c.event_type, EventType::PROCEXIT | EventType::SECCOMP_VIOLATION)
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
        _ => Value::text("SUCCESS"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errnos_have_names() {
        assert_eq!(errno_name(1), "EPERM");
        assert_eq!(errno_name(4000), "E4000");
    }
}
