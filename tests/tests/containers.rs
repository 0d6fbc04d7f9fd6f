//! The test containers themselves: profiles really deny, and nothing is left behind. No agent takes part.
use std::{
    panic,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::Value;
use tests::{
    container::{Container, Runtime},
    environment::can_run_containers,
    process::Finished,
    seccomp::Profile,
};

const EPERM: u32 = 1;

fn profile() -> Profile {
    Profile::new().errno(&["getpgid"], EPERM).kill_process(&["acct"]).log(&["getsid"])
}

fn returns(finished: &Finished, step: &str) -> Vec<i64> {
    let text = finished.stdout_text();
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let line = lines.iter().find(|line| line.pointer("/step").and_then(Value::as_str) == Some(step));
    let returns = line.and_then(|line| line.pointer("/returns")).and_then(Value::as_array);
    returns.map(|list| list.iter().filter_map(Value::as_i64).collect()).unwrap_or_default()
}

fn run(runtime: Runtime, args: &[&str], profile: Option<&Profile>) -> Result<Finished> {
    let container = Container::new(runtime, args, profile)?;
    let traces = container.traces();
    let finished = container.run()?;
    drop(container);
    assert_eq!(traces.remaining(), Vec::<String>::new());
    Ok(finished)
}

fn a_profile_denies_logs_and_kills(runtime: Runtime) -> Result<()> {
    if !can_run_containers(runtime) {
        return Ok(());
    }
    let denied = run(runtime, &["/bin/workload", "denied", "3"], Some(&profile()))?.successful()?;
    assert_eq!(returns(&denied, "denied"), [-1, -1, -1]);
    let allowed = run(runtime, &["/bin/workload", "denied", "1"], None)?.successful()?;
    assert_eq!(returns(&allowed, "denied"), [1], "the first process of a container leads its group");
    let logged = run(runtime, &["/bin/workload", "logged", "2"], Some(&profile()))?.successful()?;
    assert_eq!(returns(&logged, "logged").len(), 2);
    let killed = run(runtime, &["/bin/workload", "killed"], Some(&profile()))?;
    assert_eq!(killed.status.code(), Some(128 + 31), "{}", killed.stderr);
    Ok(())
}

fn the_churn_of_the_workload_is_allowed_whatever_it_returns(runtime: Runtime) -> Result<()> {
    if !can_run_containers(runtime) {
        return Ok(());
    }
    let churn = run(runtime, &["/bin/workload", "churn"], Some(&profile()))?.successful()?;
    let returns = returns(&churn, "churn");
    assert!(returns.contains(&-1), "a refusal by the kernel itself is part of it: {returns:?}");
    assert!(returns.contains(&31), "a SIGSYS that seccomp did not send is part of it: {returns:?}");
    assert!(returns.ends_with(&[0, 0, 0, 0]), "every nested step ends well: {returns:?}");
    Ok(())
}

fn a_container_in_the_background_is_entered_and_removed(runtime: Runtime) -> Result<()> {
    if !can_run_containers(runtime) {
        return Ok(());
    }
    let container = Container::new(runtime, &["/bin/sleep", "1000"], None)?;
    container.start()?;
    let inside = container.exec(&["/bin/cat", "/proc/1/cmdline"])?.successful()?;
    assert_eq!(inside.stdout, b"/bin/sleep\x001000\0");
    let traces = container.traces();
    assert!(
        traces.remaining().iter().any(|trace| trace.contains("unified") || trace.contains("/sys/fs/cgroup")),
        "{traces:?}"
    );
    drop(container);
    assert_eq!(traces.remaining(), Vec::<String>::new());
    Ok(())
}

#[test]
fn runc_profile_denies_logs_and_kills() -> Result<()> {
    a_profile_denies_logs_and_kills(Runtime::Runc)
}

#[test]
fn crun_profile_denies_logs_and_kills() -> Result<()> {
    a_profile_denies_logs_and_kills(Runtime::Crun)
}

#[test]
fn runc_churn_is_allowed() -> Result<()> {
    the_churn_of_the_workload_is_allowed_whatever_it_returns(Runtime::Runc)
}

#[test]
fn crun_churn_is_allowed() -> Result<()> {
    the_churn_of_the_workload_is_allowed_whatever_it_returns(Runtime::Crun)
}

#[test]
fn runc_container_in_the_background() -> Result<()> {
    a_container_in_the_background_is_entered_and_removed(Runtime::Runc)
}

#[test]
fn crun_container_in_the_background() -> Result<()> {
    a_container_in_the_background_is_entered_and_removed(Runtime::Crun)
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_32_bit_table_is_denied_by_its_own_numbers() -> Result<()> {
    if can_run_containers(Runtime::Runc) {
        let denied = run(Runtime::Runc, &["/bin/workload", "denied-int80", "2"], Some(&profile()))?.successful()?;
        assert_eq!(returns(&denied, "denied-int80"), [-1, -1]);
    }
    Ok(())
}

#[test]
fn files_run_from_every_place_that_drift_tells_apart() -> Result<()> {
    if !can_run_containers(Runtime::Runc) {
        return Ok(());
    }
    let script = "/opt/program noop; cp /bin/workload /tmp/new; /tmp/new noop; echo more >> /opt/program; /opt/program noop; \
                  /bin/workload memfd; /bin/workload deleted";
    let container = Container::script(Runtime::Runc, script, None)?;
    let finished = container.run()?.successful()?;
    assert_eq!(finished.stdout_text().matches("noop").count(), 5, "{}", finished.stdout_text());
    assert!(container.upper().join("opt/program").exists() && container.upper().join("tmp/new").exists());
    Ok(())
}

#[test]
fn a_container_that_hangs_is_reported_and_removed() -> Result<()> {
    for runtime in [Runtime::Runc, Runtime::Crun] {
        if !can_run_containers(runtime) {
            continue;
        }
        let container = Container::script(runtime, "echo begun; sleep 1000", None)?;
        let traces = container.traces();
        let error = format!("{:#}", container.run_within(Duration::from_secs(3)).unwrap_err());
        assert!(error.contains("still ran") && error.contains("begun"), "{error}");
        let begin = Instant::now();
        drop(container);
        assert_eq!(traces.remaining(), Vec::<String>::new());
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
    Ok(())
}

#[test]
fn a_test_that_panics_leaves_nothing() -> Result<()> {
    if !can_run_containers(Runtime::Runc) {
        return Ok(());
    }
    let container = Container::new(Runtime::Runc, &["/bin/sleep", "1000"], None)?;
    container.start()?;
    let traces = container.traces();
    let outcome = panic::catch_unwind(panic::AssertUnwindSafe(move || {
        let _held = container;
        panic::resume_unwind(Box::new("on purpose"));
    }));
    assert!(outcome.is_err());
    assert_eq!(traces.remaining(), Vec::<String>::new());
    Ok(())
}
