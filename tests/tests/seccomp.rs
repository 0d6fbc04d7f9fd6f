//! `monitor seccomp` as users meet it, and its profiles under real runtimes.
use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use monitor::seccomp::profile::{
    Abi, Filter, KernelVersion, Target,
    diff::{Side, diff},
    parse,
    runtime_default::{self, Containerd as Line},
    select::{Selected, select},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    agent::{self, Agent, monitor},
    container::{Container, Runtime},
    containerd::Containerd,
    environment::{can_run_containerd, can_run_live_with},
    process::{Finished, Group},
    seccomp::Profile,
};

const ALLOW_SOME: &str = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
  {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
  {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
   "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}]}"#;
const ALLOW_MOUNT: &str = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
  {"names": ["read", "write", "mount"], "action": "SCMP_ACT_ALLOW"}]}"#;

fn files(files: &[(&str, &str)]) -> Result<(TempDir, Vec<PathBuf>)> {
    let directory = tempfile::tempdir()?;
    let paths: Vec<_> = files.iter().map(|(name, _)| directory.path().join(name)).collect();
    for (path, (_, text)) in paths.iter().zip(files) {
        fs::write(path, text)?;
    }
    Ok((directory, paths))
}

fn seccomp(args: &[&str], paths: &[&Path]) -> Result<Finished> {
    let paths = paths.iter().map(|path| path.as_os_str());
    monitor(["seccomp"].iter().chain(args).map(AsRef::as_ref).chain(paths))
}

/// Our capture of a node, by Falco's own recorder.
fn scenario() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("conformance/node_scenario_a.scap")
}

#[test]
fn problems_are_told_with_their_place() -> Result<()> {
    let broken = "{\n  \"defaultAction\": \"SCMP_ACT_ALOW\",\n  \"syscals\": []\n}";
    let conflict = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
      {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
      {"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}]}"#;
    let (_directory, paths) =
        files(&[("good.json", ALLOW_SOME), ("broken.json", broken), ("conflict.json", conflict)])?;
    let [good, broken, conflict] = &paths[..] else { panic!() };
    let checked = seccomp(&["check"], &[good])?;
    assert_eq!((checked.status.code(), checked.stderr.contains("valid")), (Some(0), true), "{}", checked.stderr);
    let checked = seccomp(&["check"], &[good, broken, conflict])?;
    assert_eq!(checked.status.code(), Some(2));
    for told in [
        "broken.json:2:20",
        "did you mean `SCMP_ACT_ALLOW`",
        "did you mean `syscalls`",
        "another rule gives the same arguments",
    ] {
        assert!(checked.stderr.contains(told), "{told} is not in {}", checked.stderr);
    }
    let report: Value = serde_json::from_str(&seccomp(&["check", "-o", "json"], &[broken])?.stdout_text())?;
    let problem = report.pointer("/0/problems/1").or_else(|| report.pointer("/0/problems/0")).context("a problem")?;
    assert_eq!(report.pointer("/0/valid"), Some(&json!(false)));
    assert!(problem.get("line").is_some_and(Value::is_u64), "{report:#}");
    Ok(())
}

#[test]
fn files_that_are_no_profiles_are_clear_errors() -> Result<()> {
    let directory = tempfile::tempdir()?;
    for path in [directory.path(), Path::new("/nonexistent/p.json"), Path::new("/dev/zero")] {
        let checked = seccomp(&["check"], &[path])?;
        assert_eq!(checked.status.code(), Some(2), "{}: {}", path.display(), checked.stderr);
        assert!(!checked.stderr.contains("panicked"), "{}", checked.stderr);
    }
    Ok(())
}

#[test]
fn differences_are_told_in_words_and_as_json() -> Result<()> {
    let (_directory, paths) = files(&[("permitted.json", ALLOW_SOME), ("mount.json", ALLOW_MOUNT)])?;
    let [permitted, mount] = &paths[..] else { panic!() };
    let shown = seccomp(&["diff", "--arch", "x86_64"], &[permitted, mount])?.successful()?.stdout_text();
    for told in [
        "clone (SCMP_ARCH_X86_64)",
        "allowed if arg0 & 0x7e020000 == 0x0; otherwise fails with EPERM",
        "mount (SCMP_ARCH_X86_64)",
    ] {
        assert!(shown.contains(told), "{told} is not in {shown}");
    }
    let json: Value = serde_json::from_str(
        &seccomp(&["diff", "-o", "json", "--arch", "x86_64"], &[permitted, mount])?.successful()?.stdout_text(),
    )?;
    assert_eq!(json.pointer("/only_second_allows/0/call"), Some(&json!("mount")));
    let same = seccomp(&["diff"], &[permitted, permitted])?.successful()?.stdout_text();
    assert!(same.contains("the same answer"), "{same}");
    let lines =
        monitor(["seccomp", "diff", "runtime-default@1.6", "runtime-default@2.0", "--arch", "x86_64"])?.successful()?;
    assert!(lines.stdout_text().contains("io_uring_setup"), "{}", lines.stdout_text());
    Ok(())
}

#[test]
fn a_capture_of_falcos_tells_what_a_profile_would_deny() -> Result<()> {
    let deny = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
      {"names": ["openat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
      {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]},
      {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 17, "op": "SCMP_CMP_EQ"}]}]}"#;
    let (_directory, paths) = files(&[("deny.json", deny)])?;
    let profile = paths[0].display().to_string();
    let args = ["simulate", "-o", "json", "--arch", "x86_64", "--fail-on-denied", "-p", &profile];
    let simulated = seccomp(&args, &[&scenario()])?;
    assert_eq!(simulated.status.code(), Some(1), "{}", simulated.stderr);
    let simulated: Value = serde_json::from_str(&simulated.stdout_text())?;
    let containers = simulated.get("containers").and_then(Value::as_array).context("containers")?;
    let denied = |call: &str, is_certain: bool| {
        let all = containers.iter().filter_map(|container| container.get("denied")?.as_array()).flatten();
        let of_call = all.filter(|denied| denied.get("call") == Some(&json!(call)));
        of_call.filter(|denied| denied.get("is_certain") == Some(&json!(is_certain))).count()
    };
    assert!(!containers.is_empty() && containers.iter().all(|container| container.get("id") != Some(&json!(""))));
    assert!(denied("openat", true) > 0 && denied("openat", false) == 0, "{simulated:#}");
    assert!(
        denied("clone", true) == 0 && denied("clone", false) > 0,
        "its arguments are not in the capture: {simulated:#}"
    );
    assert_eq!(denied("socket", false), 0, "the family of a socket is in the capture: {simulated:#}");
    Ok(())
}

const SCRIPT: &str = "mkdir /tmp/d; cp /bin/workload /tmp/d/; /bin/workload call getsid 2; echo done";

fn with_profile(script: &str, profile: Value) -> Result<Finished> {
    Container::script(Runtime::Runc, script, Some(&Profile::from(profile)))?.run()
}

/// A profile that only logs tells every call of a container. What is made of them runs it, and nothing less does.
#[test]
fn a_generated_profile_runs_what_it_was_made_from_and_no_more() -> Result<()> {
    if !can_run_live_with(Runtime::Runc) {
        return Ok(());
    }
    let agent = Agent::start(&[])?;
    let container = Container::script(Runtime::Runc, SCRIPT, Some(&Profile::of_default("SCMP_ACT_LOG")))?;
    container.run()?.successful()?;
    agent.fence()?;
    let stopped = agent.stop()?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("generated.json");
    let written = path.display().to_string();
    let capture = stopped.capture.as_path();
    seccomp(&["generate", "--container", container.id(), "-w", &written], &[capture])?.successful()?;
    let profile: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
    let evidence = fs::read_to_string(path.with_extension("md"))?;
    assert!(evidence.contains("| getsid | 2 | `/bin/workload` (2) |"), "{evidence}");
    let names = profile.pointer("/syscalls/0/names").and_then(Value::as_array).context("names")?;
    assert!(
        names.contains(&json!("mkdir")) && names.contains(&json!("getsid")) && !names.contains(&json!("mount")),
        "{names:?}"
    );

    let ran = with_profile(SCRIPT, profile.clone())?.successful()?;
    assert!(ran.stdout_text().ends_with("done\n"), "{}", ran.stdout_text());

    let mut smaller = profile.clone();
    let names = smaller.pointer_mut("/syscalls/0/names").and_then(Value::as_array_mut).context("names")?;
    names.retain(|name| name != "getsid");
    let denied = with_profile("/bin/workload call getsid 1", smaller.clone())?.successful()?;
    assert!(denied.stdout_text().contains("\"returns\":[-1]"), "{}", denied.stdout_text());

    // A call that no rule names and that is newer than all of them fails with ENOSYS: runc's own doing.
    fs::write(&path, smaller.to_string())?;
    let simulated = seccomp(&["simulate", "--container", container.id(), "-o", "json", "-p", &written], &[capture])?;
    let simulated: Value = serde_json::from_str(&simulated.successful()?.stdout_text())?;
    let denied = simulated.pointer("/containers/0/denied").and_then(Value::as_array).context("denied")?;
    let calls: Vec<_> = denied.iter().filter_map(|denied| denied.get("call")?.as_str()).collect();
    assert_eq!(calls, ["getsid"], "{simulated:#}");
    Ok(())
}

/// `monitor seccomp ARGS --live`, which watches from now on.
fn watch(args: &[&str]) -> Result<(Group, ChildStdout)> {
    let mut command = Command::new(agent::binary()?);
    command.args(["seccomp"]).args(args).args(["--live", "-o", "json"]);
    let mut watching = Group::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let (stdout, stderr) = watching.outputs();
    let said = BufReader::new(stderr.context("no stderr")?).lines().map_while(Result::ok);
    let is_ready = said.into_iter().any(|line| line.contains("monitor: ready"));
    ensure!(is_ready, "{args:?} is never ready");
    Ok((watching, stdout.context("no stdout")?))
}

/// Stops it, and returns what it says then.
fn said((mut watching, mut stdout): (Group, ChildStdout)) -> Result<(Option<i32>, Value)> {
    watching.signal(Signal::TERM)?;
    let mut text = String::new();
    stdout.read_to_string(&mut text)?;
    let status = watching.wait(agent::PATIENCE)?.context("it does not end")?;
    Ok((status.code(), serde_json::from_str(&text).with_context(|| text.clone())?))
}

#[test]
fn a_profile_is_tried_on_a_container_while_it_runs() -> Result<()> {
    if !can_run_live_with(Runtime::Runc) {
        return Ok(());
    }
    let deny =
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getsid"], "action": "SCMP_ACT_ERRNO"}]}"#;
    let (_directory, paths) = files(&[("deny.json", deny)])?;
    let profile = paths[0].display().to_string();
    let container = Container::script(Runtime::Runc, SCRIPT, None)?;
    let simulating = watch(&["simulate", "--fail-on-denied", "-p", &profile, "--container", container.id()])?;
    let observing = watch(&["observe", "--container", container.id()])?;
    let ran = container.run()?.successful()?;
    ensure!(ran.stdout_text().contains("done"), "nothing is enforced: {}", ran.stdout_text());
    let (status, simulated) = said(simulating)?;
    ensure!(status == Some(1), "{status:?}: {simulated:#}");
    let denied = simulated.pointer("/containers/0/denied").and_then(Value::as_array).context("denied")?;
    let [denied] = &denied[..] else { anyhow::bail!("{simulated:#}") };
    let facts =
        ["/call", "/count", "/is_certain", "/programs/~1bin~1workload"].map(|fact| denied.pointer(fact).cloned());
    assert_eq!(facts, [Some(json!("getsid")), Some(json!(2)), Some(json!(true)), Some(json!(2))], "{denied:#}");
    let (status, observed) = said(observing)?;
    let names = observed.pointer("/0/names").and_then(Value::as_array).context("names")?;
    let has = |name: &str| names.contains(&json!(name));
    ensure!(status == Some(0) && has("getsid") && has("mkdir") && !has("acct"), "{observed:#}");
    assert_eq!(observed.pointer("/0/containers"), Some(&json!(1)), "{observed:#}");
    Ok(())
}

/// Rules and filter of a profile for a container with these capabilities.
fn filter(profile: &monitor::seccomp::profile::Profile, target: &Target) -> Result<(Selected, Filter)> {
    let selected = select(profile, target);
    let filter = Filter::for_libseccomp(&selected)?;
    Ok((selected, filter))
}

#[cfg(target_arch = "x86_64")]
#[test]
fn our_runtime_default_is_that_of_the_installed_containerd() -> Result<()> {
    if !can_run_containerd() {
        return Ok(());
    }
    let version = Containerd::version().context("a version")?;
    let line = Line::parse(&version).with_context(|| format!("containerd {version}"))?;
    let containerd = Containerd::start()?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let capabilities = [
        "CAP_SYS_ADMIN",
        "CAP_SYS_PTRACE",
        "CAP_SYS_NICE",
        "CAP_BPF",
        "CAP_PERFMON",
        "CAP_SYSLOG",
        "CAP_SYS_TIME",
        "CAP_SYS_MODULE",
        "CAP_SYS_BOOT",
        "CAP_SYS_PACCT",
        "CAP_SYS_RAWIO",
        "CAP_SYS_TTY_CONFIG",
        "CAP_DAC_READ_SEARCH",
    ];
    let everything: Vec<_> = capabilities.iter().flat_map(|name| ["--cap-add", name]).collect();
    let mut cases: Vec<Vec<&str>> = vec![vec![], everything, vec!["--cap-drop", "CAP_SYS_CHROOT"]];
    cases.extend(capabilities.iter().map(|name| vec!["--cap-add", *name]));
    for (number, options) in cases.iter().enumerate() {
        let spec = containerd.spec(&format!("c{number}"), options)?;
        let theirs = spec.pointer("/linux/seccomp").context("a profile")?;
        let parsed = parse("containerd", theirs.to_string().as_bytes());
        let theirs = parsed.profile.with_context(|| format!("{:?}", parsed.problems))?;
        let bounding =
            spec.pointer("/process/capabilities/bounding").and_then(Value::as_array).context("capabilities")?;
        let target = Target {
            capabilities: bounding.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            kernel: KernelVersion::parse(&release),
            ..Target::new(Abi::X86_64)
        };
        let (ours, theirs) = (filter(&runtime_default::profile(line, &target), &target)?, filter(&theirs, &target)?);
        let side = |(selected, filter)| Side { selected, filter };
        let differences = diff(side((&ours.0, &ours.1)), side((&theirs.0, &theirs.1)));
        ensure!(differences.is_empty(), "{options:?}: {}", differences.text("ours", "containerd's"));
    }
    println!("containerd {version}: {} sets of capabilities", cases.len());
    Ok(())
}
