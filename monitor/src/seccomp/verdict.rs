//! What became of a call: the filters' answer, checked against what `sys_exit` showed.
//!
//! An answer that does not fit what was seen is no denial: the filter may have been installed while the call was inside
//! (another thread with `TSYNC`), or the registers may not be the call's any more. Semantics: `__seccomp_filter` in
//! `kernel/seccomp.c` (v6.12).

use std::borrow::Cow;

use monitor_ebpf::record::{ExitRecord, Header, SeccompCallRecord, header_flag, seccomp_flag};

use super::{
    applied::Origin,
    classic::{self, Data},
    filters::Programs,
    window::Occurrences,
};
use crate::{
    proto::v1::SeccompAction,
    syscall::{self, Arch},
};

/// `SECCOMP_RET_*`: the upper half of a filter's answer.
mod action {
    pub(super) const KILL_THREAD: u32 = 0;
    pub(super) const TRAP: u32 = 0x0003_0000;
    pub(super) const ERRNO: u32 = 0x0005_0000;
    pub(super) const USER_NOTIF: u32 = 0x7fc0_0000;
    pub(super) const TRACE: u32 = 0x7ff0_0000;
    pub(super) const LOG: u32 = 0x7ffc_0000;
    pub(super) const ALLOW: u32 = 0x7fff_0000;
}

const ACTION_MASK: u32 = 0xffff_0000;
/// `MAX_ERRNO`: larger data of `SECCOMP_RET_ERRNO` is cut to it.
const MAX_ERRNO: u16 = 4095;
/// `ENOSYS`, the result of `SECCOMP_RET_TRACE` without a tracer.
const ENOSYS: i64 = 38;
/// `SECCOMP_MODE_DEAD`: seccomp killed the thread.
const MODE_DEAD: u32 = 3;
const SIGKILL: u32 = 9;
const SIGNAL_MASK: u32 = 0x7f;

/// How a violation is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The kernel's own filter programs were run.
    Filter,
    /// The end of the thread.
    Exit,
    /// `sys_exit` without `sys_enter`.
    Pair,
}

impl Evidence {
    /// The word in findings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Exit => "exit",
            Self::Pair => "pair",
        }
    }
}

/// A call that seccomp did not simply allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name.
    pub syscall: Cow<'static, str>,
    /// Its number.
    pub nr: i32,
    /// Whose table the number is of.
    pub arch: Arch,
    /// What the filter said; unspecified where only "denied" is known.
    pub action: SeccompAction,
    /// What the caller got, if an errno; 0 is a success that did nothing.
    pub errno: Option<u16>,
    /// The signal that it got.
    pub signal: Option<&'static str>,
    /// Arguments.
    pub args: [u64; 6],
    /// Instruction pointer after the call.
    pub ip: u64,
    /// How it is known.
    pub evidence: Evidence,
    /// Which profile and rule it is the doing of; the owner of the profiles fills it in.
    pub origin: Origin,
    /// How often it happened; whoever counts fills it in.
    pub occurrences: Occurrences,
}

impl Violation {
    /// The action's word in rules.
    pub const fn action_name(&self) -> &'static str {
        match self.action {
            SeccompAction::Unspecified => "denied",
            SeccompAction::KillProcess => "kill_process",
            SeccompAction::KillThread => "kill_thread",
            SeccompAction::Trap => "trap",
            SeccompAction::Errno => "errno",
            SeccompAction::Notified => "notified",
            SeccompAction::Trace => "trace",
            SeccompAction::Log => "log",
        }
    }

    /// Whether the thread did not survive it.
    pub const fn kills(&self) -> bool {
        matches!(self.action, SeccompAction::KillProcess | SeccompAction::KillThread)
    }

    fn new(arch: Arch, call: &SeccompCallRecord, outcome: &Outcome, evidence: Evidence) -> Self {
        Self {
            syscall: syscall::name(arch, call.nr),
            nr: call.nr,
            arch,
            action: outcome.action,
            errno: outcome.errno,
            signal: outcome.signal,
            args: call.args,
            ip: call.ip,
            evidence,
            origin: Origin::default(),
            occurrences: Occurrences::once(call.header.ktime_ns),
        }
    }
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The filters let it pass, or did not judge it.
    Allowed,
    /// They did not.
    Violation(Violation),
    /// Their answer does not fit what was seen.
    Mismatch,
}

impl Verdict {
    /// The violation, if it is one.
    pub const fn violation(&self) -> Option<&Violation> {
        match self {
            Self::Violation(violation) => Some(violation),
            Self::Allowed | Self::Mismatch => None,
        }
    }
}

/// Action and its effect on the caller.
struct Outcome {
    action: SeccompAction,
    errno: Option<u16>,
    signal: Option<&'static str>,
}

impl Outcome {
    const fn plain(action: SeccompAction) -> Self {
        Self { action, errno: None, signal: None }
    }

    const fn errno(action: SeccompAction, errno: u16) -> Self {
        Self { action, errno: Some(errno), signal: None }
    }

    const fn sigsys(action: SeccompAction) -> Self {
        Self { action, errno: None, signal: Some("SIGSYS") }
    }
}

/// Table of a record's call.
pub fn arch(machine: u32, header: &Header) -> Arch {
    Arch::of(machine, header.flags & header_flag::COMPAT != 0)
}

/// Judges a call by the filters that judged it, newest first.
pub fn by_filters(machine: u32, call: &SeccompCallRecord, programs: &Programs) -> Verdict {
    let arch = arch(machine, &call.header);
    if after_exec(arch, call) {
        return Verdict::Allowed;
    }
    // A call that installs a filter was judged by those under it.
    let skip = usize::from(call.flags & seccomp_flag::INSTALL != 0);
    let data = Data { nr: call.nr, arch: arch.audit(), ip: call.ip, args: call.args };
    let Some(answer) = strictest(programs, skip, &data) else { return Verdict::Mismatch };
    match outcome(answer, call) {
        Ok(None) => Verdict::Allowed,
        Ok(Some(outcome)) => Verdict::Violation(Violation::new(arch, call, &outcome, Evidence::Filter)),
        Err(Misfit) => Verdict::Mismatch,
    }
}

/// The smallest action wins, compared as signed numbers; of equals the newest.
fn strictest(programs: &Programs, skip: usize, data: &Data) -> Option<u32> {
    let rank = |answer: u32| (answer & ACTION_MASK).cast_signed();
    let mut strictest = action::ALLOW;
    for program in programs.iter().skip(skip) {
        let answer = classic::run(program, data)?;
        if rank(answer) < rank(strictest) {
            strictest = answer;
        }
    }
    Some(strictest)
}

/// The filters' answer does not fit what was seen.
struct Misfit;

/// What an answer did to the call; nothing if it allowed it.
#[expect(clippy::cast_possible_truncation, reason = "the data of an answer is its lower half")]
fn outcome(answer: u32, call: &SeccompCallRecord) -> Result<Option<Outcome>, Misfit> {
    let data = answer as u16;
    let rolled_back = call.ret == i64::from(call.nr);
    let killed = call.mode == MODE_DEAD || rolled_back;
    let if_seen = |seen: bool, outcome: Outcome| if seen { Ok(outcome) } else { Err(Misfit) };
    let outcome = match answer & ACTION_MASK {
        action::ALLOW => return Ok(None),
        action::LOG => Outcome::plain(SeccompAction::Log),
        action::ERRNO => {
            let errno = data.min(MAX_ERRNO);
            if_seen(call.ret == -i64::from(errno), Outcome::errno(SeccompAction::Errno, errno))?
        }
        action::TRAP => if_seen(rolled_back, Outcome::sigsys(SeccompAction::Trap))?,
        // With a tracer it is the tracer that decides, and what it decided is not known.
        action::TRACE if call.ptrace != 0 => return Ok(None),
        action::TRACE => if_seen(call.ret == -ENOSYS, Outcome::errno(SeccompAction::Trace, 38))?,
        action::USER_NOTIF => Outcome { errno: errno(call.ret), ..Outcome::plain(SeccompAction::Notified) },
        action::KILL_THREAD => if_seen(killed, Outcome::sigsys(SeccompAction::KillThread))?,
        // KILL_PROCESS, and every action that the kernel does not know.
        _ => if_seen(killed, Outcome::sigsys(SeccompAction::KillProcess))?,
    };
    Ok(Some(outcome))
}

fn errno(ret: i64) -> Option<u16> {
    u16::try_from(-ret).ok().filter(|errno| (1..=MAX_ERRNO).contains(errno))
}

/// A successful exec leaves empty registers: nothing can be said about the arguments that the filter saw.
fn after_exec(arch: Arch, call: &SeccompCallRecord) -> bool {
    call.ret == 0
        && call.args.iter().all(|argument| *argument == 0)
        && ["execve", "execveat"].iter().any(|name| syscall::name(arch, call.nr).ends_with(name))
}

/// Judges a call that passed `sys_exit` without `sys_enter`. `sigsys` tells whether the thread got SIGSYS for it.
pub fn by_pair(machine: u32, call: &SeccompCallRecord, sigsys: bool) -> Verdict {
    // A tracer can skip calls, too.
    if call.ptrace != 0 {
        return Verdict::Allowed;
    }
    let outcome = if call.mode == MODE_DEAD {
        Outcome::sigsys(SeccompAction::KillProcess)
    } else if sigsys {
        Outcome::sigsys(SeccompAction::Trap)
    } else if call.ret == 0 {
        Outcome::errno(SeccompAction::Errno, 0)
    } else {
        match errno(call.ret) {
            Some(errno) => Outcome::errno(SeccompAction::Errno, errno),
            // A value of its own: only a supervisor gives one.
            None => Outcome::plain(SeccompAction::Notified),
        }
    };
    Verdict::Violation(Violation::new(arch(machine, &call.header), call, &outcome, Evidence::Pair))
}

/// What the end of a thread that seccomp killed tells: a thread among others never passes `sys_exit`.
pub fn by_exit(machine: u32, exit: &ExitRecord) -> Option<Violation> {
    if exit.seccomp_mode != MODE_DEAD {
        return None;
    }
    let arch = arch(machine, &exit.header);
    // Strict mode kills with SIGKILL, a filter with SIGSYS.
    let strict = exit.exit_code & SIGNAL_MASK == SIGKILL;
    Some(Violation {
        syscall: syscall::name(arch, exit.syscall),
        nr: exit.syscall,
        arch,
        action: if exit.group_dead != 0 && !strict { SeccompAction::KillProcess } else { SeccompAction::KillThread },
        errno: None,
        signal: Some(if strict { "SIGKILL" } else { "SIGSYS" }),
        args: exit.args,
        ip: exit.ip,
        evidence: Evidence::Exit,
        origin: Origin::default(),
        occurrences: Occurrences::once(exit.header.ktime_ns),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use zerocopy::FromZeros as _;

    use super::*;
    use crate::seccomp::classic::tests::deny;

    const X86_64: u32 = 62;

    fn call(nr: i32, ret: i64) -> SeccompCallRecord {
        SeccompCallRecord { nr, ret, mode: 2, args: [1; 6], ..SeccompCallRecord::new_zeroed() }
    }

    fn judge(answer: u32, call: &SeccompCallRecord) -> Verdict {
        by_filters(X86_64, call, &vec![Arc::new(deny(83, answer))])
    }

    fn action(verdict: &Verdict) -> Option<(&'static str, Option<u16>)> {
        verdict.violation().map(|violation| (violation.action_name(), violation.errno))
    }

    #[test]
    fn each_action_is_recognised_by_what_it_leaves() {
        let killed = SeccompCallRecord { mode: 3, ..call(83, 83) };
        assert_eq!(action(&judge(0x5_0001, &call(83, -1))), Some(("errno", Some(1))));
        assert_eq!(action(&judge(0x5_0000, &call(83, 0))), Some(("errno", Some(0))));
        assert_eq!(action(&judge(0x5_ffff, &call(83, -4095))), Some(("errno", Some(4095))), "cut to MAX_ERRNO");
        assert_eq!(action(&judge(0x3_0007, &call(83, 83))), Some(("trap", None)));
        assert_eq!(action(&judge(0x7ff0_0000, &call(83, -38))), Some(("trace", Some(38))));
        assert_eq!(action(&judge(0x7fc0_0000, &call(83, -13))), Some(("notified", Some(13))));
        assert_eq!(action(&judge(0x7ffc_0000, &call(83, 0))), Some(("log", None)));
        assert_eq!(action(&judge(0, &killed)), Some(("kill_thread", None)));
        assert_eq!(action(&judge(0x8000_0000, &killed)), Some(("kill_process", None)));
        assert_eq!(action(&judge(0x1234_0000, &killed)), Some(("kill_process", None)), "an unknown action kills");
    }

    #[test]
    fn allowed_calls_and_other_results_are_no_denials() {
        assert_eq!(judge(0x5_0001, &call(84, -1)), Verdict::Allowed, "another call that failed by itself");
        assert_eq!(judge(0x5_0001, &call(83, -9)), Verdict::Mismatch, "another errno than the filter's");
        assert_eq!(judge(0x5_0001, &call(83, 5)), Verdict::Mismatch, "it succeeded: the filter came later");
        let traced = SeccompCallRecord { ptrace: 1, ..call(83, -38) };
        assert_eq!(judge(0x7ff0_0000, &traced), Verdict::Allowed, "the tracer decided");
    }

    #[test]
    fn a_successful_exec_is_not_judged_by_empty_registers() {
        let exec = SeccompCallRecord { args: [0; 6], ..call(59, 0) };
        assert_eq!(by_filters(X86_64, &exec, &vec![Arc::new(deny(59, 0x5_0000))]), Verdict::Allowed);
        let denied = SeccompCallRecord { args: [0; 6], ..call(59, -13) };
        assert!(by_filters(X86_64, &denied, &vec![Arc::new(deny(59, 0x5_000d))]).violation().is_some());
    }

    #[test]
    fn the_strictest_filter_of_a_chain_wins_and_an_installing_call_is_judged_by_the_older() {
        let (newest, older) = (Arc::new(deny(317, 0x5_0001)), Arc::new(deny(83, 0x5_0002)));
        let chain = vec![newest, Arc::clone(&older), Arc::new(deny(83, 0x3_0000))];
        assert_eq!(action(&by_filters(X86_64, &call(83, 83), &chain)), Some(("trap", None)));
        let install = SeccompCallRecord { flags: seccomp_flag::INSTALL, ..call(317, 0) };
        assert_eq!(by_filters(X86_64, &install, &chain), Verdict::Allowed);
    }

    #[test]
    fn int_80_is_judged_and_named_by_the_32_bit_table() {
        let mut int80 = call(39, -1);
        int80.header.flags = header_flag::COMPAT;
        let verdict = by_filters(X86_64, &int80, &vec![Arc::new(deny(39, 0x5_0001))]);
        let violation = verdict.violation().unwrap();
        assert_eq!((&*violation.syscall, violation.arch), ("mkdir", Arch::I386));
    }

    #[test]
    fn the_pair_tells_errno_from_trap_and_leaves_tracers_alone() {
        assert_eq!(action(&by_pair(X86_64, &call(83, -1), false)), Some(("errno", Some(1))));
        assert_eq!(action(&by_pair(X86_64, &call(83, 83), true)), Some(("trap", None)));
        let killed = SeccompCallRecord { mode: 3, ..call(83, 83) };
        assert_eq!(action(&by_pair(X86_64, &killed, true)), Some(("kill_process", None)));
        let traced = SeccompCallRecord { ptrace: 1, ..call(83, -1) };
        assert_eq!(by_pair(X86_64, &traced, false), Verdict::Allowed);
    }

    #[test]
    fn a_thread_killed_among_others_is_known_by_its_end() {
        let exit = ExitRecord { exit_code: 31, seccomp_mode: 3, syscall: 83, ..ExitRecord::new_zeroed() };
        let violation = by_exit(X86_64, &exit).unwrap();
        assert_eq!((violation.action_name(), violation.signal), ("kill_thread", Some("SIGSYS")));
        assert_eq!(by_exit(X86_64, &ExitRecord { seccomp_mode: 2, ..exit }), None);
        let strict = ExitRecord { exit_code: 9, group_dead: 1, ..exit };
        assert_eq!(by_exit(X86_64, &strict).unwrap().signal, Some("SIGKILL"));
    }
}
