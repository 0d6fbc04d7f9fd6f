//! `proc.*` and `thread.*`: who did it, and its ancestors. Tabular.

use monitor_ebpf::record::file_flag;

use super::{Argument, Source, fields};
use crate::{context::Context, drift, event::value::Value, state::process::Process};

/// A field of one ancestor, or of all.
macro_rules! of_ancestors {
    ($value:expr) => {
        Source::OneOrSeveral(
            |c, argument| match argument {
                Argument::Index(generation) => c.ancestor(*generation).and_then($value),
                _ => None,
            },
            |c, each| c.ancestors().filter_map($value).for_each(each),
        )
    };
}

fields! {
    "proc.exe", Text, [], None, "Argv[0] of the process.", "ls"
        => Source::One(|c, _| c.process.and_then(called));
    "proc.pexe", Text, [], None, "Proc.exe of parent.", "bash"
        => Source::One(|c, _| c.ancestor(1).and_then(called));
    "proc.aexe", Text, [NO_FIELD NO_TRANSFORMER], Index, "Proc.exe of ancestor N; without index: any ancestor.", "bash"
        => of_ancestors!(called);
    "proc.exepath", Text, [], None, "Kernel-resolved executable path, trailing ' (deleted)' stripped.", "/usr/bin/ls"
        => Source::One(|c, _| c.process.and_then(executable));
    "proc.pexepath", Text, [], None, "Proc.exepath of parent.", "/usr/bin/bash"
        => Source::One(|c, _| c.ancestor(1).and_then(executable));
    "proc.aexepath", Text, [NO_FIELD NO_TRANSFORMER], Index, "Proc.exepath of ancestor N; without index: any ancestor.", "/usr/sbin/sshd"
        => of_ancestors!(executable);
    "proc.name", Text, [], None, "Task comm (15 chars max).", "bash"
        => Source::One(|c, _| c.process.and_then(command_name));
    "proc.pname", Text, [], None, "Comm of parent.", "sshd"
        => Source::One(|c, _| c.ancestor(1).and_then(command_name));
    "proc.aname", Text, [NO_FIELD NO_TRANSFORMER], Index, "Comm of ancestor N; without index: any ancestor.", "containerd-shim"
        => of_ancestors!(command_name);
    "proc.args", Text, [], Index, "Argv[1..] joined by blanks; [N] picks one (0 = argv[1]).", "-l /tmp"
        => Source::One(|c, argument| match argument {
            Argument::Index(n) => c.process?.image.arguments().nth(usize::try_from(*n).ok()? + 1).map(Value::text),
            _ => c.process.map(|p| Value::text(p.image.args_text())),
        });
    "proc.aargs", Text, [], Index, "Args of ancestor N; without index all ancestors joined.", "-D"
        => Source::Refused("nothing tells it yet");
    "proc.cmdline", Text, [], None, "Comm + blank + args.", "ls -l /tmp"
        => Source::One(|c, _| c.process.map(command_line));
    "proc.pcmdline", Text, [], None, "Cmdline of parent.", "bash -i"
        => Source::One(|c, _| c.ancestor(1).map(command_line));
    "proc.acmdline", Text, [NO_FIELD NO_TRANSFORMER], Index, "Cmdline of ancestor N; without index: any ancestor.", "sshd -D"
        => of_ancestors!(|p| Some(command_line(p)));
    "proc.cmdnargs", Uint, [], None, "Number of args.", "2"
        => Source::One(|c, _| c.process.map(|p| Value::Uint(p.image.arguments().skip(1).count() as u64)));
    "proc.cmdlenargs", Uint, [], None, "Sum of arg lengths.", "6"
        => Source::One(|c, _| c.process.map(|p| Value::Uint(p.image.arguments().skip(1).map(<[u8]>::len).sum::<usize>() as u64)));
    "proc.exeline", Text, [], None, "Exe + blank + args.", "/bin/ls -l /tmp"
        => Source::One(|c, _| c.process.map(|p| Value::owned(p.image.exe_line())));
    "proc.env", Text, [], Key, "Environment joined by blanks; [NAME] one value.", "PATH=/usr/bin:/bin HOME=/root"
        => Source::Awaited;
    "proc.aenv", Text, [NO_FIELD NO_TRANSFORMER], Key, "Ancestor environment; [N], [NAME] or any ancestor.", "PATH=/usr/bin:/bin HOME=/root"
        => Source::Refused("nothing tells it yet");
    "proc.cwd", Text, [], None, "Cwd of the main thread, always ends with /.", "/root/"
        => Source::One(|c, _| c.process.map(|p| &p.image.cwd).filter(|cwd| !cwd.is_empty()).map(Value::text));
    "proc.loginshellid", Int, [], None, "Pid of oldest ancestor whose comm ends in sh.", "1234"
        => Source::One(|c, _| c.process.and_then(|p| login_shell(c, p)));
    "proc.tty", Uint32, [], None, "Controlling tty number, 0 = none.", "34816"
        => Source::Awaited;
    "proc.pid", Int, [], None, "Process id (host pidns).", "1234"
        => Source::One(|c, _| Some(Value::Int(c.event.header.tgid.into())));
    "proc.ppid", Int, [], None, "Parent process id.", "1234"
        => Source::One(|c, _| c.process.map(|p| Value::Int(p.parent.tgid.into())));
    "proc.apid", Int, [NO_FIELD NO_TRANSFORMER], Index, "Pid of ancestor N; filter without index: any ancestor.", "1234"
        => of_ancestors!(|p| Some(Value::Int(p.key.tgid.into())));
    "proc.vpid", Int, [], None, "Pid inside its pidns, null when -1.", "7"
        => Source::One(|c, _| c.process.map(|p| Value::Int(p.task.vpid.into())));
    "proc.pvpid", Int, [], None, "Vpid of parent.", "1"
        => Source::One(|c, _| c.ancestor(1).map(|p| Value::Int(p.task.vpid.into())));
    "proc.sid", Int, [], None, "Session id.", "1234"
        => Source::Refused("sessions and process groups are not kept yet");
    "proc.sname", Text, [], None, "Comm of session leader, or of oldest ancestor with same sid.", "bash"
        => Source::Awaited;
    "proc.sid.exe", Text, [], None, "Exe of session leader.", "-bash"
        => Source::Refused("sessions and process groups are not kept yet");
    "proc.sid.exepath", Text, [], None, "Exepath of session leader.", "/usr/bin/bash"
        => Source::Refused("sessions and process groups are not kept yet");
    "proc.vpgid", Int, [], None, "Process group id in pidns.", "1234"
        => Source::Refused("sessions and process groups are not kept yet");
    "proc.vpgid.name", Text, [], None, "Comm of vpgid leader.", "bash"
        => Source::Refused("sessions and process groups are not kept yet");
    "proc.vpgid.exe", Text, [], None, "Exe of vpgid leader.", "-bash"
        => Source::Refused("sessions and process groups are not kept yet");
    "proc.vpgid.exepath", Text, [], None, "Exepath of vpgid leader.", "/usr/bin/bash"
        => Source::Refused("sessions and process groups are not kept yet");
    "proc.pgid", Int, [], None, "Process group id (host pidns).", "1234"
        => Source::Refused("sessions and process groups are not kept yet");
    "proc.pgid.name", Text, [], None, "Comm of pgid leader.", "bash"
        => Source::Refused("sessions and process groups are not kept yet");
    "proc.pgid.exe", Text, [], None, "Exe of pgid leader.", "-bash"
        => Source::Refused("sessions and process groups are not kept yet");
    "proc.pgid.exepath", Text, [], None, "Exepath of pgid leader.", "/usr/bin/bash"
        => Source::Refused("sessions and process groups are not kept yet");
    "proc.duration", Duration, [], None, "Ns since clone, null if start unknown.", "1500000000"
        => Source::One(|c, _| c.process.and_then(|p| age(c, p)));
    "proc.ppid.duration", Duration, [], None, "Ns since parent clone (falls through to fd count when unknown).", "1500000000"
        => Source::One(|c, _| c.ancestor(1).and_then(|p| age(c, p)));
    "proc.pid.ts", Duration, [], None, "Clone time in ns epoch.", "1500000000"
        => Source::One(|c, _| c.process.map(|p| Value::Uint(c.state.unix_ns(p.key.start_ns))));
    "proc.ppid.ts", Duration, [], None, "Parent clone time.", "1500000000"
        => Source::One(|c, _| c.ancestor(1).map(|p| Value::Uint(c.state.unix_ns(p.key.start_ns))));
    "proc.is_exe_writable", Bool, [], None, "Exe file writable by the spawning user (execve flag bit 0).", "true"
        => Source::Refused("nothing tells it yet");
    "proc.is_exe_upper_layer", Bool, [], None, "Exe on overlayfs upper layer (bit 1).", "true"
        => Source::One(|c, _| c.process.map(|p| has(p, file_flag::OVERLAY_UPPER)));
    "proc.is_exe_lower_layer", Bool, [], None, "Exe on overlayfs lower layer (bit 3).", "true"
        => Source::One(|c, _| c.process.map(|p| Value::Bool(drift::layer(&p.image.file) == Some("lower"))));
    "proc.is_exe_from_memfd", Bool, [], None, "Exe is a memfd (bit 2).", "true"
        => Source::One(|c, _| c.process.map(|p| has(p, file_flag::MEMFD)));
    "proc.is_sid_leader", Bool, [], None, "Sid equals vpid.", "true"
        => Source::Refused("sessions and process groups are not kept yet");
    "proc.is_vpgid_leader", Bool, [], None, "Vpgid equals vpid.", "true"
        => Source::Awaited;
    "proc.is_pgid_leader", Bool, [], None, "Pgid equals pid.", "true"
        => Source::Refused("sessions and process groups are not kept yet");
    "proc.exe_ino", Int, [], None, "Exe inode, null when 0.", "393231"
        => Source::One(|c, _| c.process.map(|p| p.image.file.ino).filter(|ino| *ino != 0).map(|ino| Value::Int(ino.cast_signed())));
    "proc.exe_ino.ctime", Time, [], None, "Exe inode ctime ns.", "1795408269588000000"
        => Source::One(|c, _| c.process.map(|p| p.image.file.ctime_ns).filter(|time| *time != 0).map(Value::Uint));
    "proc.exe_ino.mtime", Time, [], None, "Exe inode mtime ns.", "1795408269588000000"
        => Source::One(|c, _| c.process.map(|p| p.image.file.mtime_ns).filter(|time| *time != 0).map(Value::Uint));
    "proc.exe_ino.ctime_duration_proc_start", Time, [], None, "Clone time minus exe ctime.", "1795408269588000000"
        => Source::One(|c, _| c.process.and_then(|p| c.state.unix_ns(p.key.start_ns).checked_sub(p.image.file.ctime_ns).filter(|_| p.image.file.ctime_ns != 0)).map(Value::Uint));
    "proc.exe_ino.ctime_duration_pidns_start", Time, [], None, "Exe ctime minus pidns start, if positive.", "1795408269588000000"
        => Source::Refused("nothing tells it yet");
    "proc.pidns_init_start_ts", Uint, [], None, "Start of the pid namespace, ns epoch.", "1024"
        => Source::Refused("nothing tells it yet");
    "thread.cap_permitted", Text, [], None, "Permitted capability names joined by blanks.", "CAP_CHOWN CAP_SYS_ADMIN"
        => Source::One(|c, _| c.process.map(|p| Value::owned(capabilities(p.task.cap_permitted))));
    "thread.cap_inheritable", Text, [], None, "Inheritable capability names.", "CAP_NET_RAW"
        => Source::Refused("nothing tells it yet");
    "thread.cap_effective", Text, [], None, "Effective capability names.", "CAP_CHOWN CAP_SYS_ADMIN"
        => Source::One(|c, _| c.process.map(|p| Value::owned(capabilities(p.task.cap_effective))));
    "proc.fdopencount", Uint, [], None, "Open fd count.", "12"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "proc.fdlimit", Int, [], None, "RLIMIT_NOFILE.", "1024"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "proc.fdusage", Float, [], None, "Percent of fd limit used.", "1.2"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "proc.vmsize", Uint, [], None, "VM size kB.", "1024"
        => Source::Refused("neither the sensor nor a capture of it tells memory and CPU figures");
    "proc.vmrss", Uint, [], None, "RSS kB.", "1024"
        => Source::Refused("neither the sensor nor a capture of it tells memory and CPU figures");
    "proc.vmswap", Uint, [], None, "Swap kB.", "1024"
        => Source::Refused("neither the sensor nor a capture of it tells memory and CPU figures");
    "thread.pfmajor", Uint, [], None, "Major faults.", "1024"
        => Source::Refused("neither the sensor nor a capture of it tells memory and CPU figures");
    "thread.pfminor", Uint, [], None, "Minor faults.", "1024"
        => Source::Refused("neither the sensor nor a capture of it tells memory and CPU figures");
    "thread.tid", Int, [], None, "Tid of the event.", "1234"
        => Source::One(|c, _| Some(Value::Int(c.event.header.tid.into())));
    "thread.ismain", Bool, [], None, "Tid equals pid or main-thread flag.", "true"
        => Source::One(|c, _| Some(Value::Bool(c.event.header.tid == c.event.header.tgid)));
    "thread.vtid", Int, [], None, "Tid in pidns, null when -1.", "1234"
        => Source::Refused("nothing tells it yet");
    "thread.nametid", Text, [], None, "Comm followed by tid (table only).", "bash 1234"
        => Source::Refused("nothing tells it yet");
    "thread.exectime", Duration, [], None, "CPU ns of last scheduled thread (switch events).", "1500000000"
        => Source::Refused("neither the sensor nor a capture of it tells memory and CPU figures");
    "thread.totexectime", Duration, [], None, "Accumulated CPU ns (switch events).", "1500000000"
        => Source::Refused("neither the sensor nor a capture of it tells memory and CPU figures");
    "thread.cgroups", Text, [], None, "All cgroups as subsys=path joined by blanks.", "memory=/kubepods/pod1 cpu=/kubepods/pod1"
        => Source::Refused("nothing tells it yet");
    "thread.cgroup", Text, [], Name, "Path for one subsystem (thread.cgroup.NAME).", "/kubepods/pod1"
        => Source::Refused("nothing tells it yet");
    "proc.nthreads", Uint, [], None, "Alive threads including leader.", "1024"
        => Source::Refused("nothing tells it yet");
    "proc.nchilds", Uint, [], None, "Alive non-leader threads.", "1024"
        => Source::Refused("nothing tells it yet");
    "thread.cpu", Float, [], None, "CPU percent (procinfo events).", "12.5"
        => Source::Refused("neither the sensor nor a capture of it tells memory and CPU figures");
    "thread.cpu.user", Float, [], None, "User CPU percent.", "10.0"
        => Source::Refused("neither the sensor nor a capture of it tells memory and CPU figures");
    "thread.cpu.system", Float, [], None, "System CPU percent.", "2.5"
        => Source::Refused("neither the sensor nor a capture of it tells memory and CPU figures");
    "thread.vmsize", Uint, [], None, "VM kB, 0 for non-main threads.", "1024"
        => Source::Refused("neither the sensor nor a capture of it tells memory and CPU figures");
    "thread.vmrss", Uint, [], None, "RSS kB, 0 for non-main threads.", "1024"
        => Source::Refused("neither the sensor nor a capture of it tells memory and CPU figures");
    "thread.vmsize.b", Uint, [], None, "VM bytes (table only).", "1024"
        => Source::Refused("neither the sensor nor a capture of it tells memory and CPU figures");
    "thread.vmrss.b", Uint, [], None, "RSS bytes (table only).", "1024"
        => Source::Refused("neither the sensor nor a capture of it tells memory and CPU figures");
    "proc.stdin.type", Text, [], None, "Type text of fd 0.", "pipe"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "proc.stdout.type", Text, [], None, "Type text of fd 1.", "ipv4"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "proc.stderr.type", Text, [], None, "Type text of fd 2.", "file"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "proc.stdin.name", Text, [], None, "Name of fd 0.", "/dev/null"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "proc.stdout.name", Text, [], None, "Name of fd 1.", "10.0.0.5:41000->10.0.0.6:443"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "proc.stderr.name", Text, [], None, "Name of fd 2.", "/dev/null"
        => Source::Refused("it needs the table of open descriptors, which is not kept yet");
    "proc.is_container_healthcheck", Bool, [DEPRECATED], None, "Deprecated, null.", "true"
        => Source::Never;
    "proc.is_container_liveness_probe", Bool, [DEPRECATED], None, "Deprecated, null.", "true"
        => Source::Never;
    "proc.is_container_readiness_probe", Bool, [DEPRECATED], None, "Deprecated, null.", "true"
        => Source::Never;
}

/// Empty where only the existence of the process is known.
fn command_name(process: &Process) -> Option<Value<'_>> {
    (!process.image.comm().is_empty()).then(|| Value::text(process.image.comm()))
}

fn command_line(process: &Process) -> Value<'_> {
    Value::text(process.image.command_line())
}

/// The first argument.
fn called(process: &Process) -> Option<Value<'_>> {
    process.image.arguments().next().map(Value::text)
}

fn executable(process: &Process) -> Option<Value<'_>> {
    (!process.image.executable.is_empty()).then(|| Value::text(&process.image.executable))
}

fn has(process: &Process, flag: u32) -> Value<'static> {
    Value::Bool(process.image.file.flags & flag != 0)
}

/// Since it started.
fn age(c: &Context<'_>, process: &Process) -> Option<Value<'static>> {
    c.event.header.ktime_ns.checked_sub(process.key.start_ns).map(Value::Uint)
}

/// The oldest ancestor whose name ends as those of shells do, or the process itself.
fn login_shell(c: &Context<'_>, process: &Process) -> Option<Value<'static>> {
    let mut line = std::iter::once(process).chain(c.ancestors());
    let is_shell = |process: &&Process| process.image.comm().ends_with(b"sh");
    let mut oldest = line.by_ref().find(is_shell)?;
    for shell in line.filter(is_shell) {
        oldest = shell;
    }
    Some(Value::Int(oldest.key.tgid.into()))
}

/// Names of capabilities in order of number: `include/uapi/linux/capability.h`.
const CAPABILITIES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Names of a set of capabilities, joined by blanks.
fn capabilities(set: u64) -> String {
    let names = CAPABILITIES.iter().enumerate().filter(|(bit, _)| set >> bit & 1 != 0);
    names.map(|(_, name)| format!("CAP_{name}")).collect::<Vec<_>>().join(" ")
}
