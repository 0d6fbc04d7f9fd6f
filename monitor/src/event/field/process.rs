//! `proc.*` and `thread.*`: who did it, and its ancestors. Tabular.

use super::{Argument, Source, fields};
use crate::{
    context::Context,
    event::{capability, value::Value},
    state::thread::{Thread, flag},
};

/// A field of one ancestor, or of all.
macro_rules! of_ancestors {
    ($value:expr) => {
        Source::OneOrSeveral(
            |c, argument| match argument {
                Argument::Index(generations) => c.ancestor(*generations).and_then($value),
                _ => joined(c, $value),
            },
            |c, each| c.ancestors().filter_map($value).for_each(each),
        )
    };
}

fields! {
    "proc.exe", Text, [], None, "Argv[0] of the process.", "ls"
        => Source::One(|c, _| c.thread.and_then(called));
    "proc.pexe", Text, [], None, "Proc.exe of parent.", "bash"
        => Source::One(|c, _| c.ancestor(1).and_then(called));
    "proc.aexe", Text, [NO_FIELD NO_TRANSFORMER], Index, "Proc.exe of ancestor N; without index: any ancestor.", "bash"
        => of_ancestors!(called);
    "proc.exepath", Text, [], None, "Kernel-resolved executable path, trailing ' (deleted)' stripped.", "/usr/bin/ls"
        => Source::One(|c, _| c.thread.and_then(executable));
    "proc.pexepath", Text, [], None, "Proc.exepath of parent.", "/usr/bin/bash"
        => Source::One(|c, _| c.ancestor(1).and_then(executable));
    "proc.aexepath", Text, [NO_FIELD NO_TRANSFORMER], Index, "Proc.exepath of ancestor N; without index: any ancestor.", "/usr/sbin/sshd"
        => of_ancestors!(executable);
    "proc.name", Text, [], None, "Task comm (15 chars max).", "bash"
        => Source::One(|c, _| c.thread.and_then(command_name));
    "proc.pname", Text, [], None, "Comm of parent.", "sshd"
        => Source::One(|c, _| c.ancestor(1).and_then(command_name));
    "proc.aname", Text, [NO_FIELD NO_TRANSFORMER], Index, "Comm of ancestor N; without index: any ancestor.", "containerd-shim"
        => of_ancestors!(command_name);
    "proc.args", Text, [], Index, "Argv[1..] joined by blanks; [N] picks one (0 = argv[1]).", "-l /tmp"
        => Source::One(|c, argument| {
            let image = &c.thread?.image;
            match argument {
                Argument::Index(n) => Some(Value::text(image.further_arguments().nth(usize::try_from(*n).ok()?).unwrap_or_default())),
                _ => Some(Value::text(image.args_text())),
            }
        });
    "proc.aargs", Text, [], Index, "Args of ancestor N; without index all ancestors joined.", "-D"
        => Source::One(|c, argument| match argument {
            Argument::Index(n) => c.ancestor(*n).map(|p| Value::text(p.image.args_text())),
            _ => joined(c, |p| Some(Value::text(p.image.args_text()))),
        });
    "proc.cmdline", Text, [], None, "Comm + blank + args.", "ls -l /tmp"
        => Source::One(|c, _| c.thread.map(command_line));
    "proc.pcmdline", Text, [], None, "Cmdline of parent.", "bash -i"
        => Source::One(|c, _| c.ancestor(1).map(command_line));
    "proc.acmdline", Text, [NO_FIELD NO_TRANSFORMER], Index, "Cmdline of ancestor N; without index: any ancestor.", "sshd -D"
        => of_ancestors!(|p| Some(command_line(p)));
    "proc.cmdnargs", Uint, [], None, "Number of args.", "2"
        => Source::One(|c, _| c.thread.map(|p| Value::Uint(p.image.further_count() as u64)));
    "proc.cmdlenargs", Uint, [], None, "Sum of arg lengths.", "6"
        => Source::One(|c, _| c.thread.map(|p| Value::Uint(p.image.further_arguments().map(<[u8]>::len).sum::<usize>() as u64)));
    "proc.exeline", Text, [], None, "Exe + blank + args.", "/bin/ls -l /tmp"
        => Source::One(|c, _| c.thread.map(|p| Value::owned(p.image.exe_line())));
    "proc.env", Text, [], Key, "Environment joined by blanks; [NAME] one value.", "PATH=/usr/bin:/bin HOME=/root"
        => Source::One(|c, argument| {
            let owner = c.state.threads.environment_owner(c.thread?);
            Some(match argument {
                Argument::Key(name) => Value::text(owner.variable(name.as_bytes())),
                _ => environment(owner),
            })
        });
    "proc.aenv", Text, [NO_FIELD NO_TRANSFORMER], Key, "Ancestor environment; [N], [NAME] or any ancestor.", "PATH=/usr/bin:/bin HOME=/root"
        => Source::OneOrSeveral(ancestors_environment, |c, each| c.ancestors().map(|p| environment(c.state.threads.environment_owner(p))).for_each(each));
    "proc.cwd", Text, [], None, "Cwd of the main thread, always ends with /.", "/root/"
        => Source::One(|c, _| c.thread.map(|p| c.state.threads.cwd(p)).filter(|cwd| !cwd.is_empty() || is_captured(c)).map(Value::text));
    "proc.loginshellid", Int, [], None, "Pid of oldest ancestor whose comm ends in sh.", "1234"
        => Source::One(|c, _| c.thread.and_then(|p| login_shell(c, p)));
    "proc.tty", Uint32, [], None, "Controlling tty number, 0 = none.", "34816"
        => Source::One(|c, _| c.thread.map(|p| Value::Uint(p.tty.into())));
    "proc.pid", Int, [], None, "Process id (host pidns).", "1234"
        => Source::One(|c, _| c.thread.and_then(|p| id(p.pid)));
    "proc.ppid", Int, [], None, "Parent process id.", "1234"
        => Source::One(|c, _| c.ancestor(1).and_then(|p| id(p.pid)));
    "proc.apid", Int, [NO_FIELD NO_TRANSFORMER], Index, "Pid of ancestor N; filter without index: any ancestor.", "1234"
        => Source::OneOrSeveral(
            |c, argument| match argument {
                Argument::Index(generations) => c.ancestor(*generations).and_then(|p| id(p.pid)),
                _ => c.ancestor(0).and_then(|p| id(p.pid)),
            },
            |c, each| c.ancestors().map(|p| Value::Int(p.pid)).for_each(each),
        );
    "proc.vpid", Int, [], None, "Pid inside its pidns, null when -1.", "7"
        => Source::One(|c, _| c.thread.map(|p| p.vpid).filter(|vpid| *vpid != -1).map(Value::Int));
    "proc.pvpid", Int, [], None, "Vpid of parent.", "1"
        => Source::One(|c, _| c.thread.and_then(|p| c.state.threads.get(p.parent)).map(|p| Value::Int(p.vpid)));
    "proc.sid", Int, [], None, "Session id.", "1234"
        => Source::One(|c, _| c.thread.map(|p| Value::Int(p.sid)));
    "proc.sname", Text, [], None, "Comm of session leader, or of oldest ancestor with same sid.", "bash"
        => Source::One(|c, _| c.thread.map(|p| Value::text(leading(c, p, |p| p.sid, true).map_or(&[][..], |p| p.image.comm()))));
    "proc.sid.exe", Text, [], None, "Exe of session leader.", "-bash"
        => Source::One(|c, _| c.thread.map(|p| Value::text(leading(c, p, |p| p.sid, true).map_or(&[][..], |p| &p.image.exe))));
    "proc.sid.exepath", Text, [], None, "Exepath of session leader.", "/usr/bin/bash"
        => Source::One(|c, _| c.thread.map(|p| Value::text(leading(c, p, |p| p.sid, true).map_or(&[][..], |p| &p.image.executable))));
    "proc.vpgid", Int, [], None, "Process group id in pidns.", "1234"
        => Source::One(|c, _| c.thread.map(|p| Value::Int(p.vpgid)));
    "proc.vpgid.name", Text, [], None, "Comm of vpgid leader.", "bash"
        => Source::One(|c, _| c.thread.map(|p| Value::text(leading(c, p, |p| p.vpgid, true).map_or(&[][..], |p| p.image.comm()))));
    "proc.vpgid.exe", Text, [], None, "Exe of vpgid leader.", "-bash"
        => Source::One(|c, _| c.thread.map(|p| Value::text(leading(c, p, |p| p.vpgid, true).map_or(&[][..], |p| &p.image.exe))));
    "proc.vpgid.exepath", Text, [], None, "Exepath of vpgid leader.", "/usr/bin/bash"
        => Source::One(|c, _| c.thread.map(|p| Value::text(leading(c, p, |p| p.vpgid, true).map_or(&[][..], |p| &p.image.executable))));
    "proc.pgid", Int, [], None, "Process group id (host pidns).", "1234"
        => Source::One(|c, _| c.thread.map(|p| Value::Int(p.pgid)));
    "proc.pgid.name", Text, [], None, "Comm of pgid leader.", "bash"
        => Source::One(|c, _| c.thread.map(|p| Value::text(leading(c, p, |p| p.pgid, false).map_or(&[][..], |p| p.image.comm()))));
    "proc.pgid.exe", Text, [], None, "Exe of pgid leader.", "-bash"
        => Source::One(|c, _| c.thread.map(|p| Value::text(leading(c, p, |p| p.pgid, false).map_or(&[][..], |p| &p.image.exe))));
    "proc.pgid.exepath", Text, [], None, "Exepath of pgid leader.", "/usr/bin/bash"
        => Source::One(|c, _| c.thread.map(|p| Value::text(leading(c, p, |p| p.pgid, false).map_or(&[][..], |p| &p.image.executable))));
    "proc.duration", Duration, [], None, "Ns since clone, null if start unknown.", "1500000000"
        => Source::One(|c, _| c.thread.and_then(|p| age(c, p)));
    "proc.ppid.duration", Duration, [], None, "Ns since parent clone (falls through to fd count when unknown).", "1500000000"
        => Source::One(|c, _| {
            let parent = c.ancestor(1)?;
            age(c, parent).or_else(|| is_captured(c).then(|| Value::Uint(open_count(c))))
        });
    "proc.pid.ts", Duration, [], None, "Clone time in ns epoch.", "1500000000"
        => Source::One(|c, _| c.thread.map(|p| p.clone_ns).filter(|time| *time != 0).map(Value::Uint));
    "proc.ppid.ts", Duration, [], None, "Parent clone time.", "1500000000"
        => Source::One(|c, _| c.thread.and_then(|p| c.state.threads.get(p.parent)).map(|p| Value::Uint(p.clone_ns)));
    "proc.is_exe_writable", Bool, [CAPTURE], None, "Exe file writable by the spawning user (execve flag bit 0).", "true"
        => Source::One(|c, _| c.thread.map(|p| Value::Bool(p.executable.writable)));
    "proc.is_exe_upper_layer", Bool, [], None, "Exe on overlayfs upper layer (bit 1).", "true"
        => Source::One(|c, _| c.thread.map(|p| Value::Bool(p.executable.upper_layer)));
    "proc.is_exe_lower_layer", Bool, [], None, "Exe on overlayfs lower layer (bit 3).", "true"
        => Source::One(|c, _| c.thread.map(|p| Value::Bool(p.executable.lower_layer)));
    "proc.is_exe_from_memfd", Bool, [], None, "Exe is a memfd (bit 2).", "true"
        => Source::One(|c, _| c.thread.map(|p| Value::Bool(p.executable.from_memfd)));
    "proc.is_sid_leader", Bool, [], None, "Sid equals vpid.", "true"
        => Source::One(|c, _| c.thread.map(|p| Value::Bool(p.sid == p.vpid)));
    "proc.is_vpgid_leader", Bool, [], None, "Vpgid equals vpid.", "true"
        => Source::One(|c, _| c.thread.map(|p| Value::Bool(p.vpgid == p.vpid)));
    "proc.is_pgid_leader", Bool, [], None, "Pgid equals pid.", "true"
        => Source::One(|c, _| c.thread.map(|p| Value::Bool(p.pgid == p.pid)));
    "proc.exe_ino", Int, [], None, "Exe inode, null when 0.", "393231"
        => Source::One(|c, _| c.thread.map(|p| p.executable.ino).filter(|ino| *ino != 0).map(|ino| Value::Int(ino.cast_signed())));
    "proc.exe_ino.ctime", Time, [], None, "Exe inode ctime ns.", "1795408269588000000"
        => Source::One(|c, _| c.thread.map(|p| p.executable.ctime_ns).filter(|time| *time != 0).map(Value::Uint));
    "proc.exe_ino.mtime", Time, [], None, "Exe inode mtime ns.", "1795408269588000000"
        => Source::One(|c, _| c.thread.map(|p| p.executable.mtime_ns).filter(|time| *time != 0).map(Value::Uint));
    "proc.exe_ino.ctime_duration_proc_start", Time, [], None, "Clone time minus exe ctime.", "1795408269588000000"
        => Source::One(|c, _| c.thread.map(|p| p.executable.ctime_to_clone_ns).filter(|time| *time != 0).map(Value::Uint));
    "proc.exe_ino.ctime_duration_pidns_start", Time, [CAPTURE], None, "Exe ctime minus pidns start, if positive.", "1795408269588000000"
        => Source::One(|c, _| c.thread.map(|p| p.executable.pidns_start_to_ctime_ns).filter(|time| *time != 0).map(Value::Uint));
    "proc.pidns_init_start_ts", Uint, [CAPTURE], None, "Start of the pid namespace, ns epoch.", "1024"
        => Source::One(|c, _| c.thread.map(|p| p.pidns_start_ns).filter(|time| *time != 0).map(Value::Uint));
    "thread.cap_permitted", Text, [], None, "Permitted capability names joined by blanks.", "CAP_CHOWN CAP_SYS_ADMIN"
        => Source::One(|c, _| c.thread.map(|p| Value::owned(capability::names(p.capabilities.permitted))));
    "thread.cap_inheritable", Text, [CAPTURE], None, "Inheritable capability names.", "CAP_NET_RAW"
        => Source::One(|c, _| c.thread.map(|p| Value::owned(capability::names(p.capabilities.inheritable))));
    "thread.cap_effective", Text, [], None, "Effective capability names.", "CAP_CHOWN CAP_SYS_ADMIN"
        => Source::One(|c, _| c.thread.map(|p| Value::owned(capability::names(p.capabilities.effective))));
    "proc.fdopencount", Uint, [CAPTURE], None, "Open fd count.", "12"
        => Source::One(|c, _| c.thread.map(|_| Value::Uint(open_count(c))));
    "proc.fdlimit", Int, [CAPTURE], None, "RLIMIT_NOFILE.", "1024"
        => Source::One(|c, _| c.thread.map(|p| Value::Int(c.state.threads.leader(p).map_or(0, |leader| leader.descriptor_limit))));
    "proc.fdusage", Float, [CAPTURE], None, "Percent of fd limit used.", "1.2"
        => Source::One(|c, _| c.thread.map(|p| Value::Float(open_share(c, p))));
    "proc.vmsize", Uint, [CAPTURE], None, "VM size kB.", "1024"
        => Source::One(|c, _| c.thread.map(|p| Value::Uint(p.memory.size_kib.into())));
    "proc.vmrss", Uint, [CAPTURE], None, "RSS kB.", "1024"
        => Source::One(|c, _| c.thread.map(|p| Value::Uint(p.memory.resident_kib.into())));
    "proc.vmswap", Uint, [CAPTURE], None, "Swap kB.", "1024"
        => Source::One(|c, _| c.thread.map(|p| Value::Uint(p.memory.swapped_kib.into())));
    "thread.pfmajor", Uint, [CAPTURE], None, "Major faults.", "1024"
        => Source::One(|c, _| c.thread.map(|p| Value::Uint(p.memory.major_faults)));
    "thread.pfminor", Uint, [CAPTURE], None, "Minor faults.", "1024"
        => Source::One(|c, _| c.thread.map(|p| Value::Uint(p.memory.minor_faults)));
    "thread.tid", Int, [], None, "Tid of the event.", "1234"
        => Source::One(|c, _| id(c.tid()));
    "thread.ismain", Bool, [], None, "Tid equals pid or main-thread flag.", "true"
        => Source::One(|c, _| c.thread.map(|p| Value::Bool(if is_captured(c) { p.is_leader() } else { c.tid() == p.pid })));
    "thread.vtid", Int, [CAPTURE], None, "Tid in pidns, null when -1.", "1234"
        => Source::One(|c, _| c.thread.map(|p| p.vtid).filter(|vtid| *vtid != -1).map(Value::Int));
    "thread.nametid", Text, [CAPTURE], None, "Comm followed by tid (table only).", "bash 1234"
        => Source::One(|c, _| c.thread.map(|p| Value::owned([p.image.comm(), c.tid().to_string().as_bytes()].concat())));
    "thread.exectime", Duration, [], None, "CPU ns of last scheduled thread (switch events).", "1500000000"
        => Source::Refused("neither the sensor nor a capture of it tells memory and CPU figures");
    "thread.totexectime", Duration, [], None, "Accumulated CPU ns (switch events).", "1500000000"
        => Source::Refused("neither the sensor nor a capture of it tells memory and CPU figures");
    "thread.cgroups", Text, [CAPTURE], None, "All cgroups as subsys=path joined by blanks.", "memory=/kubepods/pod1 cpu=/kubepods/pod1"
        => Source::One(|c, _| c.thread.filter(|p| !p.cgroups.is_empty()).map(|p| Value::owned(with_blanks(&p.cgroups))));
    "thread.cgroup", Text, [CAPTURE], Name, "Path for one subsystem (thread.cgroup.NAME).", "/kubepods/pod1"
        => Source::One(|c, argument| match argument {
            Argument::Key(name) => c.thread?.control_groups().find(|(subsystem, _)| *subsystem == name.as_bytes()).map(|(_, path)| Value::text(path)),
            _ => None,
        });
    "proc.nthreads", Uint, [CAPTURE], None, "Alive threads including leader.", "1024"
        => Source::One(|c, _| c.thread.map(|p| Value::Uint(c.state.threads.alive(p))));
    "proc.nchilds", Uint, [CAPTURE], None, "Alive non-leader threads.", "1024"
        => Source::One(|c, _| c.thread.map(|p| Value::Uint(followers(c, p))));
    "thread.cpu", Float, [], None, "CPU percent (procinfo events).", "12.5"
        => Source::Refused("neither the sensor nor a capture of it tells memory and CPU figures");
    "thread.cpu.user", Float, [], None, "User CPU percent.", "10.0"
        => Source::Refused("neither the sensor nor a capture of it tells memory and CPU figures");
    "thread.cpu.system", Float, [], None, "System CPU percent.", "2.5"
        => Source::Refused("neither the sensor nor a capture of it tells memory and CPU figures");
    "thread.vmsize", Uint, [CAPTURE], None, "VM kB, 0 for non-main threads.", "1024"
        => Source::One(|c, _| c.thread.map(|p| Value::Uint(of_leader(p, p.memory.size_kib))));
    "thread.vmrss", Uint, [CAPTURE], None, "RSS kB, 0 for non-main threads.", "1024"
        => Source::One(|c, _| c.thread.map(|p| Value::Uint(of_leader(p, p.memory.resident_kib))));
    "thread.vmsize.b", Uint, [CAPTURE], None, "VM bytes (table only).", "1024"
        => Source::One(|c, _| c.thread.map(|p| Value::Uint(of_leader(p, p.memory.size_kib) * 1024)));
    "thread.vmrss.b", Uint, [CAPTURE], None, "RSS bytes (table only).", "1024"
        => Source::One(|c, _| c.thread.map(|p| Value::Uint(of_leader(p, p.memory.resident_kib) * 1024)));
    "proc.stdin.type", Text, [CAPTURE], None, "Type text of fd 0.", "pipe"
        => Source::One(|c, _| c.thread.and_then(|p| c.state.descriptor_of(p, 0)).map(|fd| Value::text(fd.kind.name())));
    "proc.stdout.type", Text, [CAPTURE], None, "Type text of fd 1.", "ipv4"
        => Source::One(|c, _| c.thread.and_then(|p| c.state.descriptor_of(p, 1)).map(|fd| Value::text(fd.kind.name())));
    "proc.stderr.type", Text, [CAPTURE], None, "Type text of fd 2.", "file"
        => Source::One(|c, _| c.thread.and_then(|p| c.state.descriptor_of(p, 2)).map(|fd| Value::text(fd.kind.name())));
    "proc.stdin.name", Text, [CAPTURE], None, "Name of fd 0.", "/dev/null"
        => Source::One(|c, _| c.thread.and_then(|p| c.state.descriptor_of(p, 0)).map(|fd| Value::text(&fd.name)));
    "proc.stdout.name", Text, [CAPTURE], None, "Name of fd 1.", "10.0.0.5:41000->10.0.0.6:443"
        => Source::One(|c, _| c.thread.and_then(|p| c.state.descriptor_of(p, 1)).map(|fd| Value::text(&fd.name)));
    "proc.stderr.name", Text, [CAPTURE], None, "Name of fd 2.", "/dev/null"
        => Source::One(|c, _| c.thread.and_then(|p| c.state.descriptor_of(p, 2)).map(|fd| Value::text(&fd.name)));
    "proc.is_container_healthcheck", Bool, [DEPRECATED], None, "Deprecated, null.", "true"
        => Source::Never;
    "proc.is_container_liveness_probe", Bool, [DEPRECATED], None, "Deprecated, null.", "true"
        => Source::Never;
    "proc.is_container_readiness_probe", Bool, [DEPRECATED], None, "Deprecated, null.", "true"
        => Source::Never;
}

/// Whether the stream is a capture of another tool, of which Falco's answers are expected where it does not tell something.
fn is_captured(c: &Context<'_>) -> bool {
    !c.event.is_recorded()
}

/// No value where only the existence of the process is known.
fn told<'a>(thread: &'a Thread, text: &'a [u8]) -> Option<Value<'a>> {
    (thread.image.is_told || !text.is_empty()).then(|| Value::text(text))
}

fn command_name(thread: &Thread) -> Option<Value<'_>> {
    told(thread, thread.image.comm())
}

fn command_line(thread: &Thread) -> Value<'_> {
    Value::text(thread.image.command_line())
}

/// The first argument.
fn called(thread: &Thread) -> Option<Value<'_>> {
    told(thread, &thread.image.exe)
}

fn executable(thread: &Thread) -> Option<Value<'_>> {
    told(thread, &thread.image.executable)
}

/// An id that the kernel can give.
fn id(id: i64) -> Option<Value<'static>> {
    (-1..=u32::MAX.into()).contains(&id).then_some(Value::Int(id))
}

/// Of all ancestors, joined by blanks; no value if that is empty.
fn joined<'c>(c: &'c Context<'_>, value: impl Fn(&'c Thread) -> Option<Value<'c>>) -> Option<Value<'c>> {
    let mut text = Vec::new();
    for value in c.ancestors().filter_map(value) {
        if !text.is_empty() {
            text.push(b' ');
        }
        text.extend_from_slice(value.as_text().unwrap_or_default());
    }
    (!text.is_empty()).then(|| Value::owned(text))
}

fn with_blanks(area: &[u8]) -> Vec<u8> {
    area.iter().map(|byte| if *byte == 0 { b' ' } else { *byte }).collect()
}

fn environment(thread: &Thread) -> Value<'static> {
    Value::owned(with_blanks(&thread.environment))
}

/// Generations in which a variable is looked for.
const VARIABLE_GENERATIONS: usize = 20;

/// The environment of an ancestor, or a variable of the nearest that has it.
fn ancestors_environment<'c>(c: &'c Context<'_>, argument: &Argument) -> Option<Value<'c>> {
    let (threads, thread) = (&c.state.threads, c.thread?);
    let parents = |first: &'c Thread| {
        std::iter::successors(Some(first), |thread| threads.get(thread.parent)).skip(1).take(VARIABLE_GENERATIONS)
    };
    match argument {
        Argument::None | Argument::Index(0) => Some(environment(threads.environment_owner(thread))),
        Argument::Index(generations) => {
            let above = usize::try_from(*generations).ok()?.checked_sub(1)?;
            parents(threads.leader(thread)?).nth(above).map(|p| environment(threads.environment_owner(p)))
        }
        Argument::Key(name) => {
            let Some(leader) = threads.leader(thread) else { return Some(Value::text("")) };
            let mut values = parents(leader).map(|p| threads.environment_owner(p).variable(name.as_bytes()));
            Some(Value::text(values.find(|value| !value.is_empty()).unwrap_or_default()))
        }
    }
}

/// Since it started.
fn age(c: &Context<'_>, thread: &Thread) -> Option<Value<'static>> {
    (thread.clone_ns != 0).then(|| c.time_ns().wrapping_sub(thread.clone_ns).cast_signed()).map(Value::Int)
}

/// The oldest ancestor whose name ends as those of shells do, or the process itself.
fn login_shell(c: &Context<'_>, thread: &Thread) -> Option<Value<'static>> {
    let leader = c.state.threads.leader(thread)?;
    let line = std::iter::once(leader).chain(c.ancestors());
    line.filter(|thread| thread.image.comm().ends_with(b"sh")).last().map(|shell| Value::Int(shell.pid))
}

/// The leader of a session or process group, or else the oldest ancestor in it without a gap.
fn leading<'c>(
    c: &'c Context<'_>,
    thread: &'c Thread,
    group: fn(&Thread) -> i64,
    is_virtual: bool,
) -> Option<&'c Thread> {
    let number = group(thread);
    if number == -1 {
        return None;
    }
    let threads = &c.state.threads;
    if !is_virtual || !thread.is_in_pid_namespace() {
        let leader = threads.get(crate::state::thread::ThreadKey { tid: number, ..thread.key });
        if leader.is_some() {
            return leader;
        }
    }
    threads.ancestors(thread).take_while(|ancestor| group(ancestor) == number).last()
}

fn open_count(c: &Context<'_>) -> u64 {
    let leader = c.thread.and_then(|thread| c.state.threads.leader(thread));
    leader.map_or(0, |leader| leader.descriptors.len() as u64)
}

/// Open descriptors in percent of the limit.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn open_share(c: &Context<'_>, thread: &Thread) -> f64 {
    let limit = c.state.threads.leader(thread).map_or(0, |leader| leader.descriptor_limit);
    let count = open_count(c);
    match u64::try_from(limit) {
        Ok(0) | Err(_) => 0.0,
        Ok(limit) if count <= limit => count as f64 * 100.0 / limit as f64,
        Ok(_) => 100.0,
    }
}

/// Threads of the process besides its leader.
fn followers(c: &Context<'_>, thread: &Thread) -> u64 {
    let alive = c.state.threads.alive(thread);
    match c.state.threads.leader(thread) {
        Some(leader) if !leader.has(flag::CLOSED) => alive.saturating_sub(1),
        _ => alive,
    }
}

/// A figure that the leader has for all threads of its process.
fn of_leader(thread: &Thread, figure: u32) -> u64 {
    if thread.is_leader() { figure.into() } else { 0 }
}
