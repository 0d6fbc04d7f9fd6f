//! Verdicts of seccomp against the kernel's own: what a filter denied never passes `sys_enter`.
//!
//! Two sensors watch the same calls. One judges from `sys_exit` alone, by running the filters; the other sees which calls passed
//! `sys_exit` without `sys_enter`, and is the judge of the first. Nothing but a kernel is needed.
#![cfg(target_arch = "x86_64")]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use monitor::{proto::v1::SeccompAction, sensor::load::SeccompChoice};
use serde_json::Value;
use tests::{
    environment::can_run_live,
    process,
    sensor::{Denied, Thread, Told, Watch},
    workload,
};

/// Calls of filtered tasks that are compared, unless `MONITOR_TEST_ORACLE_CALLS` says how many.
const CALLS: u64 = 500_000;
const LIMIT: Duration = Duration::from_mins(4);
const SECCOMP_CALLS: [i32; 2] = [317, 354];
const SECCOMP_SET_MODE_FILTER: u64 = 1;

fn wanted_calls() -> Result<u64> {
    Ok(env::var("MONITOR_TEST_ORACLE_CALLS").map_or(Ok(CALLS), |text| text.parse())?)
}

/// Runs the workload; its pid and what it says.
fn work(args: &[&str]) -> Result<(u32, Vec<u64>)> {
    let finished = process::run(Command::new(workload::binary()?).args(args), LIMIT)?.successful()?;
    let said: Value = serde_json::from_str(&finished.stdout_text())?;
    let pid = said.get("pid").and_then(Value::as_u64).context("no pid")?;
    let returns = said.get("returns").and_then(Value::as_array).context("no returns")?;
    Ok((pid.try_into()?, returns.iter().filter_map(Value::as_u64).collect()))
}

/// Violations of threads with this name that kept a call from being made, by thread.
fn by_thread<'t>(told: &'t Told, name: &str) -> BTreeMap<Thread, Vec<&'t Denied>> {
    let mut threads: BTreeMap<Thread, Vec<&Denied>> = BTreeMap::new();
    let named = |denied: &&Denied| denied.comm.starts_with(name.as_bytes()) && denied.comm.get(name.len()) == Some(&0);
    for denied in told.denied.iter().filter(named).filter(|denied| denied.violation.action != SeccompAction::Log) {
        threads.entry(denied.thread).or_default().push(denied);
    }
    threads
}

/// Whether two sensors tell of the same call.
fn is_same(exact: &Denied, seen: &Denied) -> bool {
    let (one, other) = (&exact.violation, &seen.violation);
    (exact.ret, one.nr, one.arch, one.args) == (seen.ret, other.nr, other.arch, other.args)
}

/// Whether what the judge saw of a call fits the action that the filters are said to have taken.
fn fits(exact: &Denied, seen: &Denied) -> bool {
    let (action, errno) = (seen.violation.action, seen.violation.errno);
    match exact.violation.action {
        SeccompAction::Errno | SeccompAction::Trace => {
            action == SeccompAction::Errno && errno == exact.violation.errno && exact.violation.errno.is_some()
        }
        SeccompAction::Trap => action == SeccompAction::Trap,
        SeccompAction::KillThread | SeccompAction::KillProcess => action == SeccompAction::KillProcess,
        _ => false,
    }
}

/// The documented case: a filter answers the installation of another with success, and nothing tells that from one.
fn looks_installed(denied: &Denied) -> bool {
    let call = &denied.violation;
    SECCOMP_CALLS.contains(&call.nr) && denied.ret == 0 && call.args.first() == Some(&SECCOMP_SET_MODE_FILTER)
}

#[derive(Debug, Default)]
struct Comparison {
    agreed: BTreeMap<String, u64>,
    documented: u64,
    differing: Vec<String>,
}

impl Comparison {
    /// Walks both sides of a thread. A call that only one side has is the one that comes first.
    fn thread(&mut self, exact: &[&Denied], seen: &[&Denied]) {
        let (mut exact, mut seen) = (exact.iter().peekable(), seen.iter().peekable());
        while let Some(ktime_ns) = exact.peek().into_iter().chain(seen.peek()).map(|denied| denied.ktime_ns).min() {
            match (exact.peek().copied(), seen.peek().copied()) {
                (Some(one), Some(other)) if is_same(one, other) => {
                    self.met(one, other);
                    exact.next();
                    seen.next();
                }
                _ => match exact.next_if(|denied| denied.ktime_ns == ktime_ns) {
                    Some(one) => self.differing.push(format!("not denied: {one:?}")),
                    None => seen.next().into_iter().for_each(|other| self.missed(other)),
                },
            }
        }
    }

    fn met(&mut self, one: &Denied, other: &Denied) {
        if fits(one, other) {
            *self.agreed.entry(one.violation.action_name().to_owned()).or_default() += 1;
        } else {
            self.differing.push(format!("another outcome: {one:?}, but {other:?}"));
        }
    }

    fn missed(&mut self, other: &Denied) {
        if looks_installed(other) {
            self.documented += 1;
        } else {
            self.differing.push(format!("denied, and not told: {other:?}"));
        }
    }
}

#[test]
fn random_filters_are_judged_as_the_kernel_did() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    let wanted = wanted_calls()?;
    let (exact, pair) = (Watch::start(SeccompChoice::Exit)?, Watch::start(SeccompChoice::Pair)?);
    let (pid, said) = work(&["stacks", "1", &wanted.to_string()])?;
    let (exact, pair) = (exact.finish()?, pair.finish()?);
    let [stacks, filters, calls] = said[..] else { anyhow::bail!("{said:?}") };
    ensure!((exact.lost, pair.lost, exact.unjudged) == (0, 0, 0), "records are missing");

    let name = format!("o{pid}");
    let (judged, denied) = (by_thread(&exact, &name), by_thread(&pair, &name));
    let mut comparison = Comparison::default();
    for thread in judged.keys().chain(denied.keys()).collect::<BTreeSet<_>>() {
        let of = |threads: &BTreeMap<Thread, Vec<_>>| threads.get(thread).cloned().unwrap_or_default();
        comparison.thread(&of(&judged), &of(&denied));
    }
    let logged = exact.denied.iter().filter(|denied| denied.violation.action == SeccompAction::Log).count();
    println!(
        "{calls} calls under {filters} filters in {stacks} stacks: {} told by the kernel; denied and judged so: {:?}; let pass \
         and logged: {logged}; misfits: {}; documented cases: {}; differing: {}",
        exact.calls,
        comparison.agreed,
        exact.misfits,
        comparison.documented,
        comparison.differing.len()
    );
    let shown: Vec<_> = comparison.differing.iter().take(5).collect();
    ensure!(
        comparison.differing.is_empty(),
        "{} of {calls} calls differ, such as {shown:#?}",
        comparison.differing.len()
    );
    let kinds: BTreeSet<_> = comparison.agreed.keys().map(String::as_str).collect();
    ensure!(calls >= wanted && logged > 0, "{calls} calls, {logged} logged");
    ensure!(
        kinds.is_superset(&BTreeSet::from(["errno", "trap", "trace", "kill_process"])),
        "not every action was met: {kinds:?}"
    );
    Ok(())
}

/// A case of the workload, and what each method must tell of it.
struct Case {
    name: &'static str,
    /// As `SYSCALL ACTION OUTCOME`, and how often.
    exact: &'static [(&'static str, usize)],
    pair: &'static [(&'static str, usize)],
}

const fn both(name: &'static str, told: &'static [(&'static str, usize)]) -> Case {
    Case { name, exact: told, pair: told }
}

/// The pair knows no actions but what their outcomes tell.
const CASES: &[Case] = &[
    both("errno", &[("getpgid errno EPERM", 3)]),
    both("errno-0", &[("getpgid errno 0", 2)]),
    both("errno-too-large", &[("getpgid errno 4095", 1)]),
    both("trap", &[("getpgid trap SIGSYS", 2)]),
    Case { name: "trace-without-tracer", exact: &[("getpgid trace ENOSYS", 2)], pair: &[("getpgid errno ENOSYS", 2)] },
    Case { name: "log", exact: &[("getpgid log", 2)], pair: &[] },
    both("kill-process", &[("getpgid kill_process SIGSYS", 1)]),
    Case {
        name: "kill-thread",
        exact: &[("getpgid kill_thread SIGSYS", 1)],
        pair: &[("getpgid kill_process SIGSYS", 1)],
    },
    both("kill-unknown-action", &[("getpgid kill_process SIGSYS", 1)]),
    // Neither passes sys_exit: the ends of the threads tell.
    both("kill-thread-among-siblings", &[("getpgid kill_thread SIGSYS", 1)]),
    both("strict", &[("getpid kill_thread SIGKILL", 1)]),
    both("kill-among-siblings", &[("getpgid kill_process SIGSYS", 1)]),
    // The pair sees that the second call was made after all.
    Case {
        name: "notified",
        exact: &[("getpgid notified", 1), ("getpgid notified EACCES", 1)],
        pair: &[("getpgid errno EACCES", 1)],
    },
    both("traced", &[]),
    both("skipped", &[]),
    both("emulated", &[]),
    both("compat", &[("getpgid errno EPERM", 2)]),
    both("x32", &[("x32:getpgid errno EPERM", 1)]),
    both("no-such-call", &[("syscall_1000 errno EPERM", 1)]),
    both("children", &[]),
    both("no-clone", &[("clone errno EPERM", 1)]),
    both("exec-arguments", &[("execve errno EPERM", 5)]),
    both("exec-arguments-0", &[("execve errno 0", 5)]),
    both("genuine-errno", &[("close errno EBADF", 1)]),
    both("signals", &[("getpgid errno EINTR", 200)]),
    both("user-dispatch", &[]),
    both("tsync", &[]),
    both("stacked", &[("acct errno 4", 1), ("getpgid errno EPERM", 1), ("getsid errno 2", 1)]),
    both("no-filters", &[("seccomp errno EPERM", 1)]),
    // A filter that answers the installation of another with success looks as if that were installed.
    Case { name: "no-filters-0", exact: &[], pair: &[("seccomp errno 0", 1)] },
    Case { name: "no-prctl-0", exact: &[("prctl errno 0", 1)], pair: &[("prctl errno 0", 2)] },
    Case { name: "prctl-logged", exact: &[("prctl log", 2)], pair: &[] },
    both("exec-from-thread", &[]),
];

/// What was told of a process and its children, each kind once and counted.
fn told_of(told: &Told, process: u32) -> BTreeMap<String, usize> {
    let family = told.family(process);
    let mut counts = BTreeMap::new();
    for Denied { violation, .. } in told.denied.iter().filter(|denied| family.contains(&denied.thread.1)) {
        let errno = violation.errno.map(|errno| match errno {
            1 => "EPERM".to_owned(),
            4 if violation.syscall == "getpgid" => "EINTR".to_owned(),
            9 => "EBADF".to_owned(),
            13 => "EACCES".to_owned(),
            38 => "ENOSYS".to_owned(),
            other => other.to_string(),
        });
        let outcome = violation.signal.map(str::to_owned).or(errno).unwrap_or_default();
        let line = format!("{} {} {outcome}", violation.syscall, violation.action_name());
        *counts.entry(line.trim_end().to_owned()).or_default() += 1;
    }
    counts
}

#[test]
fn what_only_looks_denied_is_not_told_and_all_else_is() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    // Inside of a call, under a filter, when the programs are attached.
    let mut early = Command::new(workload::binary()?);
    let mut early =
        early.args(["case", "early"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    BufReader::new(early.stderr.take().context("stderr")?).read_line(&mut String::new())?;
    let (exact, pair) = (Watch::start(SeccompChoice::Exit)?, Watch::start(SeccompChoice::Pair)?);
    drop(early.stdin.take());
    let mut processes = vec![(both("early", &[("getpgid errno EPERM", 2)]), early.id())];
    ensure!(early.wait()?.success(), "the early process failed");
    for case in CASES {
        let (pid, _) = work(&["case", case.name]).with_context(|| case.name)?;
        processes.push((Case { ..*case }, pid));
    }
    let (exact, pair) = (exact.finish()?, pair.finish()?);
    ensure!((exact.lost, pair.lost) == (0, 0), "records are missing");
    let mut differing = Vec::new();
    for (case, pid) in &processes {
        for (method, told, expected) in [("exit", &exact, case.exact), ("pair", &pair, case.pair)] {
            let told = told_of(told, *pid);
            let expected: BTreeMap<_, _> = expected.iter().map(|(line, count)| ((*line).to_owned(), *count)).collect();
            if told != expected {
                differing.push(format!("{} by {method}: told {told:?}, not {expected:?}", case.name));
            }
        }
    }
    println!("{} cases by two methods, {} misfits", processes.len(), exact.misfits);
    ensure!(differing.is_empty(), "{}", differing.join("\n"));
    Ok(())
}
