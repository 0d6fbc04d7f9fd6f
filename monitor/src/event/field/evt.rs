//! `evt.*` and `syscall.*`: the event itself. Tabular.

use memchr::memmem;

use super::{Argument, Source, arguments, clock, fields, rendering};
use crate::{
    context::Context,
    event::{
        EventType,
        call::Call,
        path::concatenate,
        schema::{Category, Code, Flags, Kind},
        value::Value,
    },
    state::{
        descriptor::{Descriptor, Kind as FdKind},
        thread::Thread,
    },
};

const SECOND: u64 = 1_000_000_000;

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
    "evt.rawtime.ns", Time, [PADDED], None, "Sub-second ns part.", "588000001"
        => Source::One(|c, _| Some(Value::Uint(c.time_ns() % SECOND)));
    "evt.reltime", Duration, [PADDED CAPTURE], None, "Ns since first non-meta event of the capture.", "1500000000"
        => Source::One(|c, _| since_first(c).map(Value::Uint));
    "evt.reltime.s", Duration, [CAPTURE], None, "Whole seconds since first event.", "1500000000"
        => Source::One(|c, _| since_first(c).map(|ns| Value::Uint(ns / SECOND)));
    "evt.reltime.ns", Duration, [PADDED CAPTURE], None, "Sub-second ns since first event.", "1500000000"
        => Source::One(|c, _| since_first(c).map(|ns| Value::Uint(ns % SECOND)));
    "evt.pluginname", Text, [], None, "Name of the source plugin (plugin events only).", "k8saudit"
        => Source::Never;
    "evt.plugininfo", Text, [], None, "Plugin-rendered summary (plugin events only).", "get pods"
        => Source::Never;
    "evt.source", Text, [], None, "Event source name, 'syscall' for kernel events.", "syscall"
        => Source::One(|_, _| Some(Value::text("syscall")));
    "evt.is_async", Bool, [], None, "True for meta-events (category METAEVENT).", "false"
        => Source::One(|c, _| Some(Value::Bool(notice(c).is_some())));
    "evt.asynctype", Text, [CAPTURE], None, "Meta-event name (async name param, or event name).", "container"
        => Source::One(|c, _| notice(c).map(event_name));
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
    "evt.deltatime", Duration, [CAPTURE], None, "Ns since the event before.", "1500000000"
        => Source::One(|c, _| delta(c).map(Value::Uint));
    "evt.deltatime.s", Duration, [CAPTURE], None, "Whole seconds since the event before.", "1500000000"
        => Source::One(|c, _| delta(c).map(|ns| Value::Uint(ns / SECOND)));
    "evt.deltatime.ns", Duration, [PADDED CAPTURE], None, "Sub-second ns since the event before.", "1500000000"
        => Source::One(|c, _| delta(c).map(|ns| Value::Uint(ns % SECOND)));
    "evt.outputtime", Text, [PRINT_ONLY], None, "Time per the inspector output mode (print only).", "04:31:09.588000001"
        => Source::One(|c, _| Some(Value::owned(clock::time(c.time_ns(), true))));
    "evt.dir", Text, [DEPRECATED], None, "Deprecated; > for enter, < for exit (always < at rule level now).", "<"
        => Source::One(|c, _| {
            let is_enter = c.event.call().is_some_and(|call| call.info.code.is_enter());
            Some(Value::text(if is_enter { ">" } else { "<" }))
        });
    "evt.type", Text, [], None, "Event table name; for generic syscall events the syscall name; for async events the async name.", "execve"
        => Source::One(|c, _| Some(match c.event.call() {
            Some(call) if call.info.code == Code::ASYNCEVENT_E => event_name(call),
            _ => Value::text(c.event_type.name()),
        }));
    "evt.type.is", Uint32, [], Name, "Evt.type.is.NAME or .CODE gives 1/0.", "1"
        => Source::One(|c, argument| match argument {
            Argument::Key(name) => Some(Value::Uint(is_of_type(c, name).into())),
            _ => None,
        });
    "syscall.type", Text, [], None, "Syscall name, null for non-syscall events.", "openat"
        => Source::One(|c, _| is_syscall(c).then(|| Value::text(c.event_type.name())));
    "evt.category", Text, [], None, "Low-bits category name (file, net, IPC, memory, process...); I/O categories resolve by fd type to file/net/ipc.", "file"
        => Source::One(|c, _| Some(Value::text(category(c, c.event.call()?))));
    "evt.cpu", Int16, [], None, "CPU id stored with the event block.", "3"
        => Source::One(|c, _| c.event.call().map(|call| Value::Int(call.cpu.cast_signed().into())));
    "evt.args", Text, [], None, "All params as name=value, resolved text in parentheses; empty for generic events.", "res=0 fd=3(<f>/etc/passwd)"
        => Source::One(|c, _| arguments::all(c));
    "evt.arg", Text, [], Name, "Param by name (evt.arg.NAME) or index (evt.arg[N]); resolved text preferred over raw text.", "O_RDONLY|O_CLOEXEC"
        => Source::One(arguments::argument);
    "evt.rawarg", Text, [NO_FIELD NO_TRANSFORMER], Name, "Param by name with native type; type taken from first longest name match in table, re-set per event.", "4096"
        => Source::One(arguments::native);
    "evt.info", Text, [], None, "Same as evt.args.", "res=0 fd=3(<f>/etc/passwd)"
        => Source::One(|c, _| arguments::all(c));
    "evt.buffer", Bytes, [CAPTURE], None, "Bytes of the param named data.", "GET / HTTP/1.1"
        => Source::One(|c, _| arguments::buffer(c));
    "evt.buflen", Uint, [], None, "Return value of an I/O event when >= 0 and fd known.", "512"
        => Source::One(|c, _| moved_bytes(c, None, |_| true));
    "evt.res", Text, [], None, "SUCCESS if result >= 0 else errno name of param 0.", "SUCCESS"
        => Source::One(|c, _| result_text(c));
    "evt.rawres", Int, [], None, "Signed return value (param 0), null if event has none.", "0"
        => Source::One(|c, _| c.result().map(Value::Int));
    "evt.failed", Bool, [], None, "Whether result < 0.", "false"
        => Source::One(|c, _| c.result().map(|ret| Value::Bool(ret < 0)));
    "evt.is_io", Bool, [], None, "Whether it is one of the events flagged reads or writes fd.", "true"
        => Source::One(|c, _| c.event.call().map(|call| Value::Bool(call.info.flags.has(Flags::READS_FROM_FD | Flags::WRITES_TO_FD))));
    "evt.is_io_read", Bool, [], None, "Whether it is one of the events flagged reads fd.", "true"
        => Source::One(|c, _| c.event.call().map(|call| Value::Bool(call.info.flags.has(Flags::READS_FROM_FD))));
    "evt.is_io_write", Bool, [], None, "Whether it is one of the events flagged writes fd.", "true"
        => Source::One(|c, _| c.event.call().map(|call| Value::Bool(call.info.flags.has(Flags::WRITES_TO_FD))));
    "evt.io_dir", Text, [], None, "Text write or read (code), null otherwise.", "read"
        => Source::One(|c, _| {
            let flags = c.event.call()?.info.flags;
            let reads = flags.has(Flags::READS_FROM_FD).then(|| Value::text("read"));
            if flags.has(Flags::WRITES_TO_FD) { Some(Value::text("write")) } else { reads }
        });
    "evt.is_wait", Bool, [], None, "Whether it is one of the events flagged waits.", "true"
        => Source::One(|c, _| c.event.call().map(|call| Value::Bool(call.info.flags.has(Flags::WAITS))));
    "evt.wait_latency", Duration, [DEPRECATED], None, "Deprecated, constant 0.", "1500000000"
        => Source::One(|_, _| Some(Value::Uint(0)));
    "evt.is_syslog", Bool, [], None, "Whether a write to an fd whose name contains /dev/log.", "true"
        => Source::One(|c, _| {
            let writes = c.event.call()?.info.flags.has(Flags::WRITES_TO_FD);
            let is_log = |fd: &Descriptor| memmem::find(&fd.name, b"/dev/log").is_some();
            Some(Value::Bool(writes && c.descriptor.is_some_and(is_log)))
        });
    "evt.count", Uint32, [], None, "Constant 1.", "1"
        => Source::One(|_, _| Some(Value::Uint(1)));
    "evt.count.error", Uint32, [], None, "1 if failed.", "1"
        => Source::One(|c, _| failures(c));
    "evt.count.error.file", Uint32, [], None, "1 if failed and fd is file/dir, or open-family without fd.", "1"
        => Source::One(|c, _| match c.descriptor {
            Some(fd) => is_of_files(fd).then(|| failures(c)).flatten(),
            None => opens_file(c.event.call()?.info.code).then(|| failures(c)).flatten(),
        });
    "evt.count.error.net", Uint32, [], None, "1 if failed and fd is socket, or accept/connect without fd.", "1"
        => Source::One(|c, _| match c.descriptor {
            Some(fd) => is_socket(fd).then(|| failures(c)).flatten(),
            None => opens_connection(c.event.call()?.info.code).then(|| failures(c)).flatten(),
        });
    "evt.count.error.memory", Uint32, [], None, "1 if failed and category is memory.", "1"
        => Source::One(|c, _| (c.event.call()?.info.category.kind == Kind::Memory).then(|| failures(c)).flatten());
    "evt.count.error.other", Uint32, [], None, "1 if failed and none of the above.", "1"
        => Source::One(|c, _| {
            let info = c.event.call()?.info;
            let is_counted = match c.descriptor {
                Some(fd) => is_of_files(fd) || is_socket(fd),
                None => opens_file(info.code) || opens_connection(info.code) || info.category.kind == Kind::Memory,
            };
            if is_counted { None } else { failures(c) }
        });
    "evt.count.exit", Uint32, [], None, "1 for exit events.", "1"
        => Source::One(|c, _| c.event.call().is_none_or(|call| call.info.code.is_exit()).then_some(Value::Uint(1)));
    "evt.count.procinfo", Uint32, [], None, "1 for procinfo of main threads (table only).", "1"
        => Source::One(|c, _| {
            let is_procinfo = c.event.call()?.info.code == Code::PROCINFO_E;
            Some(Value::Uint((is_procinfo && c.thread.is_some_and(Thread::is_leader)).into()))
        });
    "evt.count.threadinfo", Uint32, [], None, "1 for procinfo events (table only).", "1"
        => Source::One(|c, _| c.event.call().map(|call| Value::Uint((call.info.code == Code::PROCINFO_E).into())));
    "evt.around", Uint, [FILTER_ONLY NO_FIELD NO_TRANSFORMER], Needed, "Filter only: evt.around[T]=D, within D milliseconds of T (ns).", "5000"
        => Source::One(|c, argument| {
            let around: u64 = match argument {
                Argument::Key(ns) => ns.parse().ok()?,
                Argument::Index(ns) => (*ns).into(),
                Argument::None => return None,
            };
            Some(Value::Uint(c.time_ns().abs_diff(around)))
        });
    "evt.abspath", Text, [], None, "Absolute path from dirfd+name params; .src/.dst for two-path calls.", "/etc/passwd"
        => Source::One(|c, _| absolute_path(c, false));
    "evt.abspath.src", Text, [], None, "Of a two-path call, the first path.", "/etc/passwd"
        => Source::One(|c, _| absolute_path(c, false));
    "evt.abspath.dst", Text, [], None, "Of a two-path call, the second path.", "/etc/passwd"
        => Source::One(|c, _| absolute_path(c, true));
    "evt.buflen.in", Uint, [], None, "Buflen of read events (table only).", "1024"
        => Source::One(|c, _| moved_bytes(c, Some(Kind::IoRead), |_| true));
    "evt.buflen.out", Uint, [], None, "Buflen of write events (table only).", "1024"
        => Source::One(|c, _| moved_bytes(c, Some(Kind::IoWrite), |_| true));
    "evt.buflen.file", Uint, [], None, "Buflen of file I/O (table only).", "1024"
        => Source::One(|c, _| moved_bytes(c, None, |fd| fd.kind.is_file()));
    "evt.buflen.file.in", Uint, [], None, "Buflen of file reads (table only).", "1024"
        => Source::One(|c, _| moved_bytes(c, Some(Kind::IoRead), |fd| fd.kind.is_file()));
    "evt.buflen.file.out", Uint, [], None, "Buflen of file writes (table only).", "1024"
        => Source::One(|c, _| moved_bytes(c, Some(Kind::IoWrite), |fd| fd.kind.is_file()));
    "evt.buflen.net", Uint, [], None, "Buflen of IP socket I/O (table only).", "1024"
        => Source::One(|c, _| moved_bytes(c, None, is_inet));
    "evt.buflen.net.in", Uint, [], None, "Buflen of IP socket reads (table only).", "1024"
        => Source::One(|c, _| moved_bytes(c, Some(Kind::IoRead), is_inet));
    "evt.buflen.net.out", Uint, [], None, "Buflen of IP socket writes (table only).", "1024"
        => Source::One(|c, _| moved_bytes(c, Some(Kind::IoWrite), is_inet));
    "evt.is_open_read", Bool, [], None, "Whether open/openat/openat2/open_by_handle_at flags have the PPM RDONLY bit.", "true"
        => Source::One(|c, _| Some(opened(c, |_, flags| flags & ppm::READ_ONLY != 0)));
    "evt.is_open_write", Bool, [], None, "Whether those flags have the PPM WRONLY bit (RDWR sets both).", "true"
        => Source::One(|c, _| Some(opened(c, |_, flags| flags & ppm::WRITE_ONLY != 0)));
    "evt.infra.docker.name", Text, [], None, "Docker event name from an infra event (table only).", "start"
        => Source::Refused("infrastructure events were dropped by Docker integrations long ago");
    "evt.infra.docker.container.id", Text, [], None, "Container id from an infra event (table only).", "3ad7b26ded6d"
        => Source::Refused("infrastructure events were dropped by Docker integrations long ago");
    "evt.infra.docker.container.name", Text, [], None, "Container name from an infra event (table only).", "web"
        => Source::Refused("infrastructure events were dropped by Docker integrations long ago");
    "evt.infra.docker.container.image", Text, [], None, "Image from an infra event (table only).", "nginx"
        => Source::Refused("infrastructure events were dropped by Docker integrations long ago");
    "evt.is_open_exec", Bool, [], None, "Whether open with CREAT/TMPFILE (or creat) and mode has any x bit.", "true"
        => Source::One(|c, _| Some(opened(c, is_made_executable)));
    "evt.is_open_create", Bool, [], None, "Whether F_CREATED bit set, or TMPFILE and success.", "true"
        => Source::One(|c, _| Some(opened(c, is_made)));
    "util.cnt", Uint, [], None, "Incrementing counter.", "1"
        => Source::Refused("a counter would make findings depend on what was looked at before");
}

/// Name of an errno, `E<number>` for one without.
pub fn errno_name(errno: u32) -> String {
    i32::try_from(errno)
        .ok()
        .and_then(|errno| syscalls::Errno::new(errno).name())
        .map_or_else(|| format!("E{errno}"), str::to_owned)
}

fn result_text<'c>(c: &'c Context<'_>) -> Option<Value<'c>> {
    let returned = c.result()?;
    if returned >= 0 {
        return Some(Value::text("SUCCESS"));
    }
    match c.event.call() {
        Some(_) => arguments::text_at(c, 0).map(Value::Text),
        None => u32::try_from(-returned).ok().map(|errno| Value::owned(errno_name(errno))),
    }
}

/// Nanoseconds since the event before that rules looked at; 0 for the first.
fn delta(c: &Context<'_>) -> Option<u64> {
    let now_ns = c.event.call()?.ts_ns;
    Some(if c.state.previous_ns == 0 { 0 } else { now_ns.wrapping_sub(c.state.previous_ns) })
}

/// Since the first event of a capture that is no notice.
fn since_first(c: &Context<'_>) -> Option<u64> {
    c.event.call().map(|call| call.ts_ns.wrapping_sub(c.state.first_ns))
}

/// The event, if it is a notice.
fn notice<'c>(c: &'c Context<'_>) -> Option<&'c Call<'c>> {
    c.event.call().filter(|call| call.info.category.is(Category::METAEVENT))
}

/// The name of an event; notices of plugins bring their own.
fn event_name<'c>(call: &'c Call<'c>) -> Value<'c> {
    match call.params.get(1).filter(|_| call.info.code == Code::ASYNCEVENT_E) {
        Some(name) => Value::text(rendering::text(name)),
        None => Value::text(call.info.name),
    }
}

/// Falco knows an event by the first code of its name, or by the code itself.
fn is_of_type(c: &Context<'_>, name: &str) -> bool {
    let Some(code) = c.event.call().map(|call| call.info.code) else { return c.event_type.name() == name };
    if let Ok(number) = name.parse::<u32>() {
        return number == u32::from(code.0);
    }
    let is_named = |code: Code| code.info().is_some_and(|info| info.name == name);
    is_named(code)
        && (0..Code::COUNT).map(Code).find(|code| is_named(*code)).is_some_and(|first| first.0 | 1 == code.0 | 1)
}

fn is_syscall(c: &Context<'_>) -> bool {
    match c.event.call() {
        Some(call) => call.info.category.is(Category::SYSCALL),
        None => !matches!(c.event_type, EventType::PROCEXIT | EventType::SECCOMP_VIOLATION),
    }
}

fn category(c: &Context<'_>, call: &Call<'_>) -> &'static str {
    match call.info.category.kind {
        Kind::Other => "other",
        Kind::File => "file",
        Kind::Net => "net",
        Kind::Ipc => "IPC",
        Kind::Memory => "memory",
        Kind::Process => "process",
        Kind::Sleep => "sleep",
        Kind::System => "system",
        Kind::Signal => "signal",
        Kind::User => "user",
        Kind::Time => "time",
        Kind::Wait => "wait",
        Kind::Scheduler => "scheduler",
        Kind::Internal => "internal",
        Kind::IoRead | Kind::IoWrite | Kind::IoOther => match c.descriptor {
            Some(fd) if is_of_files(fd) => "file",
            Some(fd) if is_inet(fd) => "net",
            Some(fd)
                if matches!(
                    fd.kind,
                    FdKind::PIPE | FdKind::UNIX | FdKind::EVENT | FdKind::SIGNAL | FdKind::INOTIFY | FdKind::USERFAULT
                ) =>
            {
                "ipc"
            }
            _ => "unknown",
        },
    }
}

fn is_of_files(fd: &Descriptor) -> bool {
    fd.kind.is_file() || fd.kind == FdKind::DIRECTORY
}

fn is_inet(fd: &Descriptor) -> bool {
    matches!(fd.kind, FdKind::IPV4 | FdKind::IPV6 | FdKind::IPV4_SERVER | FdKind::IPV6_SERVER)
}

fn is_socket(fd: &Descriptor) -> bool {
    is_inet(fd) || fd.kind == FdKind::UNIX
}

const fn opens_file(code: Code) -> bool {
    matches!(
        code,
        Code::SYSCALL_OPEN_X
            | Code::SYSCALL_CREAT_X
            | Code::SYSCALL_OPENAT_2_X
            | Code::SYSCALL_OPENAT2_X
            | Code::SYSCALL_OPEN_BY_HANDLE_AT_X
    )
}

const fn opens_connection(code: Code) -> bool {
    matches!(code, Code::SOCKET_ACCEPT_5_X | Code::SOCKET_ACCEPT4_6_X | Code::SOCKET_CONNECT_X)
}

/// 1 for a call that failed, 0 for one that did not.
fn failures<'c>(c: &Context<'_>) -> Option<Value<'c>> {
    c.result().map(|returned| Value::Uint((returned < 0).into()))
}

/// What a call that reads or writes returned, if its descriptor is of a kind.
fn moved_bytes<'c>(c: &Context<'_>, kind: Option<Kind>, of: impl Fn(&Descriptor) -> bool) -> Option<Value<'c>> {
    let found = c.event.call()?.info.category.kind;
    let moves = matches!(found, Kind::IoRead | Kind::IoWrite | Kind::IoOther);
    let fits = kind.map_or(moves, |wanted| wanted == found) && c.descriptor.is_some_and(of);
    c.result().filter(|_| fits).and_then(|returned| u64::try_from(returned).ok()).map(Value::Uint)
}

/// Flags of an open file in the numbers of Falco's captures (`PPM_O_*`).
mod ppm {
    pub(super) const READ_ONLY: u32 = 1;
    pub(super) const WRITE_ONLY: u32 = 1 << 1;
    pub(super) const CREATE: u32 = 1 << 2;
    pub(super) const TEMPORARY: u32 = 1 << 13;
    pub(super) const CREATED: u32 = 1 << 14;
}

/// Any may execute it.
const EXECUTABLE: u32 = 0o111;

/// What there is to ask of a file that is opened; other events have nothing of the kind.
fn opened<'c>(c: &Context<'_>, asked: impl Fn(&Call<'_>, u32) -> bool) -> Value<'c> {
    let Some(call) = c.event.call() else { return Value::Bool(false) };
    let flags = match call.info.code {
        Code::SYSCALL_OPEN_X | Code::SYSCALL_OPEN_BY_HANDLE_AT_X => call.params.u32(2),
        Code::SYSCALL_OPENAT_2_X | Code::SYSCALL_OPENAT2_X => call.params.u32(3),
        _ => None,
    };
    Value::Bool(asked(call, flags.unwrap_or_default()))
}

fn is_made(call: &Call<'_>, flags: u32) -> bool {
    let succeeds = || call.params.i64(0).is_some_and(|returned| returned >= 0);
    flags & ppm::CREATED != 0 || (flags & ppm::TEMPORARY != 0 && succeeds())
}

fn is_made_executable(call: &Call<'_>, flags: u32) -> bool {
    let mode = match call.info.code {
        Code::SYSCALL_CREAT_X => call.params.u32(2),
        _ if flags & (ppm::CREATE | ppm::TEMPORARY) == 0 => None,
        Code::SYSCALL_OPEN_X => call.params.u32(3),
        Code::SYSCALL_OPENAT_2_X | Code::SYSCALL_OPENAT2_X => call.params.u32(4),
        _ => None,
    };
    mode.is_some_and(|mode| mode & EXECUTABLE != 0)
}

/// The path of a call that names a directory's descriptor beside it.
fn absolute_path<'c>(c: &Context<'_>, second: bool) -> Option<Value<'c>> {
    let (call, thread) = (c.event.call()?, c.thread?);
    let (directory, path) = match call.info.code {
        Code::SYSCALL_RENAMEAT_X | Code::SYSCALL_RENAMEAT2_X if second => ("newdirfd", "newpath"),
        Code::SYSCALL_RENAMEAT_X | Code::SYSCALL_RENAMEAT2_X => ("olddirfd", "oldpath"),
        Code::SYSCALL_SYMLINKAT_X => ("linkdirfd", "linkpath"),
        Code::SYSCALL_OPENAT_2_X | Code::SYSCALL_OPENAT2_X | Code::SYSCALL_UNLINKAT_2_X => ("dirfd", "name"),
        Code::SYSCALL_LINKAT_2_X if second => ("newdir", "newpath"),
        Code::SYSCALL_LINKAT_2_X => ("olddir", "oldpath"),
        Code::SYSCALL_MKDIRAT_X => ("dirfd", "path"),
        Code::SYSCALL_FCHMODAT_X => ("dirfd", "filename"),
        Code::SYSCALL_FCHOWNAT_X => ("dirfd", "pathname"),
        Code::SYSCALL_OPEN_BY_HANDLE_AT_X => {
            call.params.i64(0).filter(|fd| *fd > 0)?;
            return Some(Value::owned(concatenate(b"", rendering::text(call.params.get(3)?))));
        }
        _ => return None,
    };
    let fd = call.params.i64(call.info.position(directory)?)?;
    let path = rendering::text(call.params.bytes(call.info.position(path)?)?);
    let known;
    let directory = match fd {
        _ if path.starts_with(b"/") => &b"."[..],
        rendering::WORKING_DIRECTORY => c.state.threads.cwd(thread),
        _ => {
            let name = c.state.descriptor_of(thread, fd).map_or(&b"<UNKNOWN>"[..], |fd| &fd.name);
            known = [name, b"/"].concat();
            &known
        }
    };
    Some(Value::owned(concatenate(directory, path)))
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
