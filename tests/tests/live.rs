//! The main job of the agent on the real kernel, with real containers: something bad happens, and exactly that is found.
//!
//! Containers of other tests run at the same time: an assertion looks at the findings of its own containers, by id.
use std::{collections::BTreeMap, fs, os::unix::net::UnixListener, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;
use tests::{
    agent::{self, Agent, GRACE, PATIENCE, Stopped},
    container::{Container, Runtime},
    environment::{can_run_live, can_run_live_with},
    finding::{comparable, from_message, number, of_container, parse, text, words},
    process::{self, Finished},
    seccomp::Profile,
    subscriber::Subscriber,
};

const EPERM: u32 = 1;

fn profile() -> Profile {
    Profile::new().errno(&["getpgid"], EPERM).kill_process(&["acct"])
}

/// Runs a container that is expected to end well, and returns it.
fn run(runtime: Runtime, args: &[&str], profile: Option<&Profile>) -> Result<Container> {
    let container = Container::new(runtime, args, profile)?;
    container.run()?.successful()?;
    Ok(container)
}

fn script(runtime: Runtime, script: &str) -> Result<Container> {
    run(runtime, &["/bin/sh", "-euc", script], None)
}

/// The container's findings, which must be exactly `N`, each with the container's identity.
fn expect<'a, const N: usize>(stopped: &'a Stopped, container: &Container, what: &str) -> Result<[&'a Value; N]> {
    let found = of_container(&stopped.findings, container.id());
    for finding in &found {
        ensure!(text(finding, "/container/pod_uid") == container.pod_uid(), "{what}: pod uid: {finding:#}");
        ensure!(text(finding, "/container/runtime") == "cri-containerd", "{what}: runtime: {finding:#}");
        ensure!(text(finding, "/container/cgroup_path") == container.cgroup_path(), "{what}: cgroup path: {finding:#}");
    }
    <[&Value; N]>::try_from(found)
        .map_err(|found| anyhow!("{what}: {N} findings expected, not {}: {found:#?}", found.len()))
}

/// Some facts of a finding, by JSON pointer, against what they must be.
fn check(finding: &Value, what: &str, facts: &[(&str, &str)]) -> Result<()> {
    for (pointer, expected) in facts {
        ensure!(text(finding, pointer) == *expected, "{what}: {pointer} is not {expected:?}: {finding:#}");
    }
    Ok(())
}

/// Nothing was lost, or counts mean nothing.
fn nothing_lost(stopped: &Stopped) -> Result<()> {
    ensure!(stopped.status.success(), "{}\n{}", stopped.status, stopped.stderr);
    ensure!(stopped.summary.lost == 0, "{:?}\n{}", stopped.summary, stopped.stderr);
    Ok(())
}

/// No finding says that a runtime itself drifts: both run from a memory file or a bind mount of their own binary.
fn runtimes_are_no_drift(stopped: &Stopped) -> Result<()> {
    let is_runtime = |finding: &&Value| {
        ["runc", "crun", "exe", "init"].iter().any(|name| words(finding, "/process/arguments").starts_with(name))
    };
    let drift: Vec<_> =
        stopped.findings.iter().filter(|finding| text(finding, "/kind") == "drift").filter(is_runtime).collect();
    ensure!(drift.is_empty(), "a runtime's own start: {drift:#?}");
    Ok(())
}

fn drift(runtime: Runtime) -> Result<()> {
    if !can_run_live_with(runtime) {
        return Ok(());
    }
    let agent = Agent::start(&[])?;
    let unchanged =
        script(runtime, "/opt/program noop; /bin/workload noop; cp /bin/workload /tmp/never-run; ls / >/dev/null")?;
    let new = script(runtime, "/bin/cp /bin/workload /tmp/dropped; /tmp/dropped noop first; true")?;
    // The shell's own cp: a forked shell that renames itself and executes nothing.
    let builtin = script(runtime, "cp /bin/workload /tmp/dropped; /tmp/dropped noop; true")?;
    let modified = script(runtime, "/opt/program noop; echo more >> /opt/program; /opt/program noop; true")?;
    let memory = run(runtime, &["/bin/workload", "memfd"], None)?;
    let deleted = run(runtime, &["/bin/workload", "deleted"], None)?;
    agent.fence()?;
    let stopped = agent.stop()?;
    nothing_lost(&stopped)?;
    let [] = expect(&stopped, &unchanged, "programs of the image")?;

    let [found] = expect(&stopped, &new, "a new program")?;
    let facts = [
        ("/kind", "drift"),
        ("/drift/kind", "new_executable"),
        ("/drift/file/path", "/tmp/dropped"),
        ("/drift/file/layer", "upper"),
        ("/drift/writer/process/name", "cp"),
        ("/drift/writer/path", "/tmp/dropped"),
        ("/process/executable", "/tmp/dropped"),
        ("/process/name", "dropped"),
        ("/process/working_directory", "/"),
    ];
    check(found, "a new program", &facts)?;
    assert_eq!(words(found, "/drift/writer/process/arguments"), "/bin/cp /bin/workload /tmp/dropped");
    assert_eq!(words(found, "/process/arguments"), "/tmp/dropped noop first");
    let size = fs::metadata(new.upper().join("tmp/dropped"))?.len();
    assert_eq!(number(found, "/drift/file/size_bytes"), size, "{found:#}");

    let [found] = expect(&stopped, &builtin, "a new program by a builtin")?;
    check(found, "a new program by a builtin", &[("/drift/writer/process/name", "cp")])?;
    assert!(words(found, "/drift/writer/process/arguments").starts_with("/bin/sh -euc"), "{found:#}");

    let [found] = expect(&stopped, &modified, "a changed program of the image")?;
    let facts = [
        ("/drift/kind", "modified_executable"),
        ("/drift/file/path", "/opt/program"),
        ("/drift/writer/process/name", "sh"),
    ];
    check(found, "a changed program of the image", &facts)?;

    let [found] = expect(&stopped, &memory, "a program from memory")?;
    check(found, "a program from memory", &[("/kind", "drift"), ("/drift/kind", "fileless")])?;
    assert!(text(found, "/drift/file/path").contains("memfd:payload"), "{found:#}");
    assert_eq!(words(found, "/process/arguments"), "from-memory noop");
    let [found] = expect(&stopped, &deleted, "a deleted program")?;
    check(found, "a deleted program", &[("/kind", "drift"), ("/drift/kind", "fileless")])?;
    runtimes_are_no_drift(&stopped)
}

/// The facts of a denied call that do not depend on how it was detected.
fn denied_facts(finding: &Value, what: &str, syscall: &str, arch: &str) -> Result<()> {
    check(
        finding,
        what,
        &[
            ("/kind", "seccomp_violation"),
            ("/seccomp/syscall", syscall),
            ("/seccomp/arch", arch),
            ("/process/name", "workload"),
        ],
    )
}

fn errno_facts(finding: &Value, what: &str, arch: &str) -> Result<()> {
    denied_facts(finding, what, "getpgid", arch)?;
    check(finding, what, &[("/seccomp/action", "errno"), ("/seccomp/errno_name", "EPERM")])?;
    ensure!(number(finding, "/seccomp/errno") == u64::from(EPERM), "{what}: errno: {finding:#}");
    ensure!(text(finding, "/seccomp/signal").is_empty(), "{what}: no signal was sent: {finding:#}");
    Ok(())
}

fn killed_facts(finding: &Value, what: &str) -> Result<()> {
    denied_facts(finding, what, "acct", native())?;
    check(finding, what, &[("/seccomp/action", "kill_process"), ("/seccomp/signal", "SIGSYS")])
}

fn native() -> &'static str {
    if cfg!(target_arch = "aarch64") { "aarch64" } else { "x86_64" }
}

fn killed(runtime: Runtime) -> Result<Container> {
    let container = Container::new(runtime, &["/bin/workload", "killed"], Some(&profile()))?;
    let finished = container.run()?;
    ensure!(finished.status.code() == Some(128 + 31), "{finished:?}");
    Ok(container)
}

/// What both detection methods must find.
fn seccomp(runtime: Runtime, method: &[&str]) -> Result<()> {
    if !can_run_live_with(runtime) {
        return Ok(());
    }
    let agent = Agent::start(method)?;
    let profile = profile();
    let once = run(runtime, &["/bin/workload", "denied", "1"], Some(&profile))?;
    let often = run(runtime, &["/bin/workload", "denied", "25"], Some(&profile))?;
    let killed = killed(runtime)?;
    let churn = run(runtime, &["/bin/workload", "churn"], Some(&profile))?;
    let unconfined = run(runtime, &["/bin/workload", "denied", "3"], None)?;
    let compatible = if cfg!(target_arch = "x86_64") {
        Some(run(runtime, &["/bin/workload", "denied-int80", "2"], Some(&profile))?)
    } else {
        None
    };
    agent.fence()?;
    let stopped = agent.stop()?;
    nothing_lost(&stopped)?;
    let [denied] = expect(&stopped, &once, "one denial")?;
    errno_facts(denied, "one denial", native())?;
    let [first, others] = expect(&stopped, &often, "25 denials")?;
    for (finding, count) in [(denied, 1), (first, 1), (others, 24)] {
        errno_facts(finding, "25 denials", native())?;
        ensure!(number(finding, "/seccomp/count") == count, "{count} calls: {finding:#}");
    }
    let time = |finding: &Value, which: &str| number(finding, &format!("/seccomp/{which}_time_unix_nano"));
    ensure!(
        time(first, "last") <= time(others, "first") && time(others, "first") < time(others, "last"),
        "{first:#}{others:#}"
    );
    let [kill] = expect(&stopped, &killed, "a kill")?;
    killed_facts(kill, "a kill")?;
    let [] = expect(&stopped, &churn, "allowed oddities")?;
    let [] = expect(&stopped, &unconfined, "no profile")?;
    if let Some(compatible) = &compatible {
        for finding in expect::<2>(&stopped, compatible, "denials in the 32-bit table")? {
            errno_facts(finding, "denials in the 32-bit table", "i386")?;
            assert_eq!(number(finding, "/seccomp/number"), 132, "{finding:#}");
        }
    }
    Ok(())
}

#[test]
fn runc_drift_is_found_once_and_nothing_else() -> Result<()> {
    drift(Runtime::Runc)
}

#[test]
fn crun_drift_is_found_once_and_nothing_else() -> Result<()> {
    drift(Runtime::Crun)
}

#[test]
fn runc_denied_calls_are_found_and_allowed_ones_are_not() -> Result<()> {
    seccomp(Runtime::Runc, &[])
}

#[test]
fn crun_denied_calls_are_found_and_allowed_ones_are_not() -> Result<()> {
    seccomp(Runtime::Crun, &[])
}

#[test]
fn runc_denied_calls_are_found_by_the_fallback_too() -> Result<()> {
    seccomp(Runtime::Runc, &["--seccomp", "pair"])
}

#[test]
fn crun_denied_calls_are_found_by_the_fallback_too() -> Result<()> {
    seccomp(Runtime::Crun, &["--seccomp", "pair"])
}

#[test]
fn logged_calls_are_found_as_logged() -> Result<()> {
    let runtime = Runtime::any();
    if !can_run_live_with(runtime) {
        return Ok(());
    }
    let agent = Agent::start(&[])?;
    let logged = run(runtime, &["/bin/workload", "logged", "2"], Some(&Profile::new().log(&["getsid"])))?;
    agent.fence()?;
    let stopped = agent.stop()?;
    nothing_lost(&stopped)?;
    for finding in expect::<2>(&stopped, &logged, "logged calls")? {
        denied_facts(finding, "logged calls", "getsid", native())?;
        check(
            finding,
            "logged calls",
            &[("/seccomp/action", "log"), ("/seccomp/errno_name", ""), ("/seccomp/signal", "")],
        )?;
    }
    Ok(())
}

/// A filter and its container that were there before the agent: the first snapshot and the first sight of a filter.
#[test]
fn a_container_that_runs_before_the_agent_is_known() -> Result<()> {
    let runtime = Runtime::any();
    if !can_run_live_with(runtime) {
        return Ok(());
    }
    let container = Container::new(runtime, &["/bin/sleep", "1000"], Some(&profile()))?;
    container.start()?;
    let agent = Agent::start(&[])?;
    container.exec(&["/bin/workload", "denied", "2"])?.successful()?;
    container.exec(&["/bin/sh", "-euc", "cp /bin/workload /tmp/late; /tmp/late noop; true"])?.successful()?;
    agent.fence()?;
    let stopped = agent.stop()?;
    nothing_lost(&stopped)?;
    // The second is held until the window ends, here with the agent.
    let [first, late, second] = expect(&stopped, &container, "an older container")?;
    errno_facts(first, "an older container", native())?;
    errno_facts(second, "an older container", native())?;
    check(late, "an older container", &[("/drift/kind", "new_executable"), ("/drift/file/path", "/tmp/late")])
}

fn by_sequence(findings: impl IntoIterator<Item = Value>) -> BTreeMap<u64, Value> {
    findings.into_iter().map(|finding| (number(&finding, "/sequence"), comparable(&finding))).collect()
}

fn same(left: &BTreeMap<u64, Value>, right: &BTreeMap<u64, Value>, what: &str) -> Result<()> {
    for sequence in left.keys().chain(right.keys()) {
        let (left, right) = (left.get(sequence), right.get(sequence));
        ensure!(left == right, "{what}: finding {sequence} differs\n{left:#?}\n{right:#?}");
    }
    Ok(())
}

#[test]
fn printed_streamed_and_replayed_findings_are_the_same() -> Result<()> {
    let runtime = Runtime::any();
    if !can_run_live_with(runtime) {
        return Ok(());
    }
    let agent = Agent::start(&[])?;
    let early = script(runtime, "cp /bin/workload /tmp/early; /tmp/early noop; true")?;
    let subscriber = Subscriber::earliest(&agent.socket())?;
    let denied = run(runtime, &["/bin/workload", "denied", "5"], Some(&profile()))?;
    let killed = killed(runtime)?;
    let memory = run(runtime, &["/bin/workload", "memfd"], None)?;
    agent.fence()?;
    let stopped = agent.stop()?;
    nothing_lost(&stopped)?;
    for (container, count) in [(&early, 1), (&denied, 2), (&killed, 1), (&memory, 1)] {
        assert_eq!(of_container(&stopped.findings, container.id()).len(), count, "{:#?}", stopped.findings);
    }
    let printed = by_sequence(stopped.findings.iter().cloned());
    assert_eq!(printed.len(), stopped.findings.len(), "every finding has a sequence of its own");
    assert_eq!(
        printed.keys().copied().collect::<Vec<_>>(),
        (1..=printed.len() as u64).collect::<Vec<_>>(),
        "sequences have no gap"
    );

    let received = subscriber.finish()?;
    assert_eq!(received.losses, []);
    same(&printed, &by_sequence(received.findings.iter().map(from_message)), "printed and streamed")?;
    let uids = |findings: &[Value]| findings.iter().map(|finding| text(finding, "/uid").to_owned()).collect::<Vec<_>>();
    let streamed: Vec<_> = received.findings.iter().map(from_message).collect();
    assert_eq!(uids(&stopped.findings), uids(&streamed), "the same finding has the same uid everywhere");

    let first = agent::replay(&stopped.capture, &[])?.successful()?;
    let replayed = parse(&first.stdout_text())?;
    assert_eq!(replayed.len(), stopped.findings.len());
    same(&printed, &by_sequence(replayed), "printed and replayed")?;
    let second = agent::replay(&stopped.capture, &[])?.successful()?;
    assert!(first.stdout == second.stdout, "replay gives the same bytes each time");
    Ok(())
}

#[test]
fn sigterm_drains_what_happened_and_sums_up() -> Result<()> {
    let runtime = Runtime::any();
    if !can_run_live_with(runtime) {
        return Ok(());
    }
    let agent = Agent::start(&[])?;
    let socket = agent.socket();
    let container = script(runtime, "cp /bin/workload /tmp/last; /tmp/last noop; true")?;
    // No fence: what the ring holds when the signal comes must still be found.
    let stopped = agent.stop()?;
    assert!(stopped.elapsed < GRACE, "{:?}", stopped.elapsed);
    nothing_lost(&stopped)?;
    let [_] = expect(&stopped, &container, "a finding just before the end")?;
    assert_eq!(stopped.summary.findings, stopped.findings.len() as u64);
    assert!(
        stopped.summary.records >= stopped.summary.findings && stopped.summary.records > 0,
        "{:?}",
        stopped.summary
    );
    assert!(!socket.exists(), "the socket goes with the agent");
    let replayed = agent::replay(&stopped.capture, &[])?;
    assert_eq!(replayed.status.code(), Some(0), "the capture is complete: {}", replayed.stderr);
    Ok(())
}

#[test]
fn an_agent_that_is_killed_leaves_a_capture_that_replays_up_to_there() -> Result<()> {
    let runtime = Runtime::any();
    if !can_run_live_with(runtime) {
        return Ok(());
    }
    let agent = Agent::start(&[])?;
    let container = script(runtime, "cp /bin/workload /tmp/last; /tmp/last noop; true")?;
    agent.fence()?;
    let directory = agent.kill()?;
    let replayed = agent::replay(&directory.path().join("run.mcap"), &[])?;
    assert_eq!(replayed.status.code(), Some(3), "a capture without its end is damaged: {}", replayed.stderr);
    assert!(!replayed.stderr.contains("panicked"), "{}", replayed.stderr);
    let found = parse(&replayed.stdout_text())?;
    assert!(of_container(&found, container.id()).len() <= 1, "{found:#?}");
    Ok(())
}

/// `monitor run --socket PATH`, which must end by itself.
fn run_with_socket(socket: &Path) -> Result<Finished> {
    process::run(Command::new(agent::binary()?).args(["run", "-o", "json", "--socket"]).arg(socket), PATIENCE)
}

#[test]
fn a_socket_path_that_cannot_be_used_is_a_clear_error() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let occupied = directory.path().join("occupied.sock");
    let _listener = UnixListener::bind(&occupied)?;
    let file = directory.path().join("file");
    fs::write(&file, "precious")?;
    let missing = directory.path().join("no/such/directory.sock");
    let long = directory.path().join("x".repeat(200));
    for path in [&occupied, &file, &missing, &long, &directory.path().to_owned()] {
        let finished = run_with_socket(path)?;
        assert_eq!(finished.status.code(), Some(2), "{}: {}", path.display(), finished.stderr);
        assert!(finished.stderr.contains(&path.display().to_string()), "the path is named: {}", finished.stderr);
        assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    }
    assert_eq!(fs::read(&file)?, b"precious");
    assert!(std::os::unix::net::UnixStream::connect(&occupied).is_ok(), "the other's socket still works");
    Ok(())
}

#[test]
fn a_socket_that_a_dead_agent_left_is_taken_over() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let stale = directory.path().join("stale.sock");
    drop(UnixListener::bind(&stale)?);
    assert!(stale.exists());
    let agent = Agent::start_at(&stale, &[])?;
    let subscriber = Subscriber::earliest(&stale)?;
    assert_eq!(agent.stop()?.status.code(), Some(0));
    subscriber.finish()?;
    Ok(())
}

#[test]
fn counts_and_priorities_end_a_run() -> Result<()> {
    let runtime = Runtime::any();
    if !can_run_live_with(runtime) {
        return Ok(());
    }
    let agent = Agent::start(&["-n", "1", "--fail-on", "debug"])?;
    script(runtime, "cp /bin/workload /tmp/one; /tmp/one noop; true")?;
    let ended = agent.wait_end(Duration::from_secs(10))?;
    assert_eq!((ended.status.code(), ended.findings.len()), (Some(1), 1), "{}", ended.stderr);
    Ok(())
}

/// A container with a dynamic loader, a C library, another library and a program that needs them.
fn dynamic_container(script: &str) -> Result<Container> {
    let container = Container::script(Runtime::any(), script, None)?;
    let lower = container.lower();
    for directory in ["lib", "lib64"] {
        fs::create_dir(lower.join(directory))?;
    }
    for (from, to) in [
        ("/lib64/ld-linux-x86-64.so.2", "lib64/ld-linux-x86-64.so.2"),
        ("/lib/x86_64-linux-gnu/libc.so.6", "lib/libc.so.6"),
        ("/lib/x86_64-linux-gnu/libm.so.6", "lib/libm.so.6"),
        ("/bin/true", "opt/dynamic"),
    ] {
        fs::copy(from, lower.join(to)).with_context(|| from.to_owned())?;
    }
    Ok(container)
}

#[cfg(target_arch = "x86_64")]
#[test]
fn code_that_is_loaded_without_being_executed_is_drift() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    let agent = Agent::start(&[])?;
    let run = |script: &str| -> Result<Container> {
        let container = dynamic_container(&format!("export LD_LIBRARY_PATH=/lib; {script}; true"))?;
        container.run()?.successful()?;
        Ok(container)
    };
    let unchanged = run("/opt/dynamic; LD_PRELOAD=/lib/libm.so.6 /opt/dynamic; cp /lib/libm.so.6 /tmp/unused.so")?;
    let by_loader = run("cp /opt/dynamic /tmp/payload; /lib64/ld-linux-x86-64.so.2 /tmp/payload")?;
    let preloaded = run("cp /lib/libm.so.6 /tmp/evil.so; LD_PRELOAD=/tmp/evil.so /opt/dynamic")?;
    let modified = run("echo more >> /lib/libm.so.6; LD_PRELOAD=/lib/libm.so.6 /opt/dynamic")?;
    agent.fence()?;
    let stopped = agent.stop()?;
    nothing_lost(&stopped)?;
    let [] = expect(&stopped, &unchanged, "libraries of the image")?;
    for (container, kind, path, writer, program) in [
        (&by_loader, "new_library", "/tmp/payload", "cp", "/lib64/ld-linux-x86-64.so.2"),
        (&preloaded, "new_library", "/tmp/evil.so", "cp", "/opt/dynamic"),
        (&modified, "modified_library", "/lib/libm.so.6", "sh", "/opt/dynamic"),
    ] {
        let [found] = expect(&stopped, container, path)?;
        let facts = [
            ("/kind", "drift"),
            ("/rule", "Library drift in container"),
            ("/drift/kind", kind),
            ("/drift/file/path", path),
            ("/drift/writer/process/name", writer),
            ("/process/executable", program),
        ];
        check(found, path, &facts)?;
    }
    Ok(())
}
