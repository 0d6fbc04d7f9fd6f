//! What the sensor's own records tell, as the parameters that Falco's events of these kinds have: `evt.arg.flags` of an exec,
//! `evt.arg.status` of an end.
//!
//! Other calls become events of Falco's table when they are decoded ([`crate::syscall::tell`]). Exec, fork and end are records of
//! their own; few rules ask for their parameters, so these are made when one does. What the sensor does not know is empty.

use crate::{
    context::Context,
    event::{
        Body,
        call::{Call, Params},
        schema::{Code, EventInfo, ParamInfo},
        value::Value,
    },
    state::thread::Thread,
};

/// The parameters of an event, made for the occasion.
struct Told {
    info: &'static EventInfo,
    lengths: Vec<u8>,
    values: Vec<u8>,
}

/// Calls `each` with the record at hand as an event of Falco's table, if it is one of these.
pub(super) fn with(
    c: &Context<'_>,
    each: impl for<'x> FnOnce(&'x Context<'x>, &'x Call<'x>) -> Option<Value<'x>>,
) -> Option<Value<'static>> {
    let told = Told::new(c)?;
    each(c, &told.call(c)).map(Value::into_owned)
}

impl Told {
    fn new(c: &Context<'_>) -> Option<Self> {
        let code = match &c.event.body {
            Body::Exec(_) => Code::SYSCALL_EXECVE_19_X,
            Body::Fork(_) => Code::SYSCALL_CLONE_20_X,
            Body::Exit(_) => Code::PROCEXIT_1_E,
            _ => return None,
        };
        let (info, thread) = (code.info()?, c.thread?);
        let mut told = Self { info, lengths: Vec::new(), values: Vec::new() };
        for param in info.params {
            let before = told.values.len();
            write(c, thread, param, &mut told.values);
            // A length has two bytes: what is longer ends there.
            let len = u16::try_from(told.values.len() - before).unwrap_or(u16::MAX);
            told.values.truncate(before + usize::from(len));
            told.lengths.extend_from_slice(&len.to_le_bytes());
        }
        Some(told)
    }

    fn call(&self, c: &Context<'_>) -> Call<'_> {
        Call {
            info: self.info,
            number: c.number,
            ts_ns: c.time_ns(),
            tid: c.tid(),
            cpu: 0,
            state_only: false,
            params: Params::new(&self.lengths, &self.values, false),
            told: None,
        }
    }
}

/// Writes the value of a parameter; nothing where there is none.
fn write(c: &Context<'_>, thread: &Thread, param: &ParamInfo, values: &mut Vec<u8>) {
    let number = match (param.name, &c.event.body) {
        ("exe", _) => return text(&thread.image.exe, values),
        ("args", _) => {
            for argument in thread.image.further_arguments() {
                text(argument, values);
            }
            return;
        }
        ("comm", _) => return text(thread.image.comm(), values),
        ("cwd", _) => return text(&thread.cwd, values),
        ("env", _) => return values.extend_from_slice(&thread.environment),
        ("trusted_exepath", _) => return text(&thread.image.executable, values),
        ("filename", Body::Exec(exec)) => return text(exec.filename, values),
        ("res", Body::Fork(fork)) => fork.child_tgid.into(),
        ("res", _) => 0,
        ("tid", _) => c.tid().cast_unsigned(),
        ("pid", _) => thread.pid.cast_unsigned(),
        ("ptid", _) => thread.parent.tid.cast_unsigned(),
        ("vtid", _) => thread.vtid.cast_unsigned(),
        ("vpid", _) => thread.vpid.cast_unsigned(),
        ("pgid", _) => thread.pgid.cast_unsigned(),
        ("vpgid", _) => thread.vpgid.cast_unsigned(),
        ("tty", _) => thread.tty.into(),
        ("uid", _) => thread.uid.into(),
        ("gid", _) => thread.gid.into(),
        ("loginuid", _) => thread.loginuid.into(),
        ("cap_inheritable", _) => thread.capabilities.inheritable,
        ("cap_permitted", _) => thread.capabilities.permitted,
        ("cap_effective", _) => thread.capabilities.effective,
        ("exe_ino", _) => thread.executable.ino,
        ("exe_ino_ctime", _) => thread.executable.ctime_ns,
        ("exe_ino_mtime", _) => thread.executable.mtime_ns,
        ("flags", Body::Exec(_)) => program_flags(thread, param),
        ("status", Body::Exit(exit)) => exit.exit_code.into(),
        // As `wait(2)` divides the status.
        ("ret", Body::Exit(exit)) => (exit.exit_code >> 8 & 0xff).into(),
        ("sig", Body::Exit(exit)) => (exit.exit_code & 0x7f).into(),
        ("core", Body::Exit(exit)) => (exit.exit_code >> 7 & 1).into(),
        _ => return,
    };
    let bytes = number.to_le_bytes();
    values.extend_from_slice(param.ty.fixed_len().and_then(|len| bytes.get(..len)).unwrap_or_default());
}

/// A text with its NUL.
fn text(text: &[u8], values: &mut Vec<u8>) {
    values.extend_from_slice(text);
    values.push(0);
}

/// What the program's file is like, in Falco's bits.
fn program_flags(thread: &Thread, param: &ParamInfo) -> u64 {
    let facts = [
        ("EXE_WRITABLE", thread.executable.writable),
        ("EXE_UPPER_LAYER", thread.executable.upper_layer),
        ("EXE_LOWER_LAYER", thread.executable.lower_layer),
        ("EXE_FROM_MEMFD", thread.executable.from_memfd),
    ];
    let bit = |name: &str| param.flags.iter().find(|flag| flag.name == name).map_or(0, |flag| u64::from(flag.value));
    facts.iter().filter(|(_, holds)| *holds).fold(0, |bits, (name, _)| bits | bit(name))
}

#[cfg(test)]
mod tests {
    use monitor_ebpf::record::{ExitRecord, FileFacts, file_flag};
    use zerocopy::{FromBytes as _, FromZeros as _, IntoBytes as _};

    use super::super::{Argument, Field, Fields as _};
    use crate::{
        context::{Context, Evidence},
        decode::decode,
        record::builder,
        state::State,
    };

    fn ask(records: &[Vec<u8>], fields: &[&str]) -> Vec<Option<String>> {
        let mut state = State::default();
        let (last, before) = records.split_last().unwrap();
        for record in before {
            builder::apply(&mut state, record);
        }
        builder::apply(&mut state, last);
        let event = decode(last).unwrap();
        let context = Context::new(&state, &event, 1, Evidence::Event).unwrap();
        let ask = |name: &&str| {
            let (field, rest) = Field::find_with_name(name).unwrap();
            let argument = rest.map_or(Argument::None, |rest| Argument::Key(rest.into()));
            context.value(field, &argument).map(|value| String::from_utf8_lossy(value.as_text().unwrap()).into_owned())
        };
        fields.iter().map(ask).collect()
    }

    #[test]
    fn an_exec_has_the_parameters_of_falcos() {
        let file =
            FileFacts { ino: 9, flags: file_flag::OVERLAY | file_flag::OVERLAY_UPPER, ..FileFacts::new_zeroed() };
        let exec = builder::exec_with(5, 1, "/bin/cp", &["cp", "a", "b c"], |record| record.file = file);
        let told = ask(
            &[exec],
            &[
                "evt.arg.exe",
                "evt.arg.args",
                "evt.arg.flags",
                "evt.arg.pid",
                "evt.arg.trusted_exepath",
                "evt.arg.fdlimit",
            ],
        );
        let told: Vec<_> = told.iter().map(|value| value.as_deref().unwrap_or("(none)")).collect();
        assert_eq!(told[..2], ["cp", "a.b c."]);
        assert_eq!(told[2], "EXE_UPPER_LAYER");
        assert!(told[3].starts_with('5'), "{told:?}");
        assert_eq!(told[4], "/bin/cp");
        assert!(told[5].is_empty() || told[5] == "<NA>", "the sensor does not know it: {told:?}");
    }

    #[test]
    fn a_fork_tells_the_child_and_an_end_how_it_came() {
        let parent = || builder::exec(5, 1, "/bin/sh", &["sh"]);
        let told = ask(&[parent(), builder::fork(5, 6)], &["evt.arg.res", "evt.arg.exe", "evt.arg.comm"]);
        assert!(told[0].as_ref().is_some_and(|child| child.starts_with('6')), "{told:?}");
        assert_eq!(told[1..], [Some("sh".to_owned()), Some("sh".to_owned())]);
        let ended = |status: u32| {
            let (mut record, _) = ExitRecord::read_from_prefix(&builder::exit(5)).unwrap();
            record.exit_code = status;
            ask(&[parent(), record.as_bytes().to_vec()], &["evt.arg.ret", "evt.arg.sig", "evt.arg.core"])
        };
        let exited = ended(3 << 8);
        assert!(exited[0].as_ref().is_some_and(|ret| ret.starts_with('3')), "{exited:?}");
        let killed = ended(0x8b);
        assert!(killed[1].as_ref().is_some_and(|signal| signal.contains("SIGSEGV")), "{killed:?}");
        assert_eq!(killed[2].as_deref(), Some("1"));
    }
}
