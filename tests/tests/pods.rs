//! Real pods by a real containerd: who they are, what they may do, and that it is known from their first process on.
use std::{collections::BTreeSet, env, fs};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    agent::{Agent, Stopped, replay},
    cri::{Containerd, IMAGE, NAMESPACE, api},
    environment::can_run_pods,
    finding::{comparable, of_container, parse, text},
};

/// Every first process of a container.
const FIRST_PROCESSES: &str = r#"
- rule: First process
  desc: The first process of a container runs its program.
  condition: evt.type = execve and container.id != host and proc.vpid = 1 and proc.cmdline contains "usleep 50000"
  output: >
    First process (pod=%k8s.pod.name namespace=%k8s.ns.name uid=%k8s.pod.uid name=%container.name image=%container.image
    repository=%container.image.repository tag=%container.image.tag type=%container.type privileged=%container.privileged
    sandbox=%k8s.pod.sandbox_id)
  priority: NOTICE
"#;

fn node_network() -> api::SandboxSecurity {
    let namespaces = api::Namespaces { network: api::NODE, pid: api::CONTAINER, ipc: 0 };
    api::SandboxSecurity { namespaces: Some(namespaces), privileged: false }
}

fn agent(containerd: &Containerd, args: &[&str]) -> Result<Agent> {
    let tasks = containerd.tasks().display().to_string();
    Agent::start(&[&["--containerd-tasks", &tasks], args].concat())
}

fn field<'f>(finding: &'f Value, name: &str) -> &'f str {
    finding.get("output_fields").and_then(|fields| fields.get(name)?.as_str()).unwrap_or_default()
}

/// Whatever was found live is found in the capture.
fn replays(stopped: &Stopped, args: &[&str]) -> Result<()> {
    let again = parse(&replay(&stopped.capture, args)?.successful()?.stdout_text())?;
    let [live, again]: [Vec<Value>; 2] =
        [&stopped.findings, &again].map(|findings| findings.iter().map(comparable).collect());
    ensure!(live == again, "{} findings live, {} replayed", live.len(), again.len());
    Ok(())
}

/// Lives for 50 ms.
const SHORT: &[&str] = &["/bin/busybox", "usleep", "50000"];

/// 10 in an ordinary run; `MONITOR_TEST_PODS=200` for the figure.
fn how_many() -> Result<usize> {
    env::var("MONITOR_TEST_PODS").map_or(Ok(10), |number| number.parse().context("MONITOR_TEST_PODS"))
}

#[test]
fn containers_that_live_for_50_ms_are_identified_from_their_first_process_on() -> Result<()> {
    if !can_run_pods() {
        return Ok(());
    }
    let containerd = Containerd::start()?;
    let directory = tempfile::tempdir()?;
    let rules = directory.path().join("rules.yaml");
    fs::write(&rules, FIRST_PROCESSES)?;
    let rules = rules.display().to_string();
    let agent = agent(&containerd, &["-r", &rules])?;
    let pod = containerd.pod("short-lived", node_network())?;
    let (mut started, mut last) = (BTreeSet::new(), String::new());
    for number in 0..how_many()? {
        last = pod.run(&format!("app-{number}"), SHORT, |_| {})?;
        started.insert(last.clone());
    }
    let all = started.len();
    agent.wait_for("the last container's first process", |finding| text(finding, "/container/id") == last)?;
    let stopped = agent.stop()?;
    let complete = |finding: &&Value| {
        let container = |key: &str| text(finding, &format!("/container/{key}"));
        started.contains(container("id"))
            && container("pod_name") == "short-lived"
            && container("namespace") == NAMESPACE
            && container("pod_uid") == pod.uid()
            && container("name").starts_with("app-")
            && container("image") == IMAGE
            && field(finding, "k8s.pod.name") == "short-lived"
            && field(finding, "k8s.ns.name") == NAMESPACE
            && field(finding, "container.image.repository") == "registry.local/team/workload"
            && field(finding, "container.image.tag") == "1.0"
            && field(finding, "container.type") == "containerd"
            && field(finding, "k8s.pod.sandbox_id").len() == 12
    };
    let found = stopped.findings.iter().filter(complete).count();
    eprintln!("{found} of {all} first processes have their pod's and their container's identity");
    ensure!(
        found * 100 >= all * 99,
        "{found} of {all}: {:#?}",
        stopped.findings.iter().find(|finding| !complete(finding))
    );
    ensure!(stopped.summary.lost == 0, "{:?}", stopped.summary);
    replays(&stopped, &["-r", &rules])
}

/// What the rules that ship say of a container: rule and check.
fn said<'f>(findings: &'f [Value], id: &str) -> BTreeSet<(&'f str, &'f str)> {
    of_container(findings, id)
        .iter()
        .map(|finding| (text(finding, "/rule"), text(finding, "/pod_security/check")))
        .collect()
}

const NODE: &str = "Pod may take over its node";
const RESTRICTED: &str = "Pod breaks the restricted standard";

#[test]
fn what_a_pod_may_do_is_told_once_with_the_field_that_decides_it() -> Result<()> {
    if !can_run_pods() {
        return Ok(());
    }
    let containerd = Containerd::start()?;
    let before = containerd.pod("before", node_network())?;
    let running = before.run("app", &["/bin/busybox", "sleep", "1000"], |_| {})?;
    let agent = agent(&containerd, &["--enable-rule", RESTRICTED])?;
    let careless = containerd.pod("careless", api::SandboxSecurity { privileged: true, ..node_network() })?;
    let privileged = careless.run("tool", &["/bin/sh", "-c", "/bin/sh -c true; usleep 50000"], |container| {
        let mount = |path: &str| api::Mount {
            host_path: path.to_owned(),
            container_path: format!("/host{path}"),
            readonly: true,
        };
        container.mounts = vec![mount("/etc")];
        if let Some(security) = security(container) {
            (security.privileged, security.masked_paths, security.seccomp) = (true, Vec::new(), None);
        }
    })?;
    let added = careless.run("added", SHORT, |container| {
        if let Some(security) = security(container) {
            security.capabilities = Some(api::Capabilities { add: vec!["SYS_PTRACE".to_owned()], drop: Vec::new() });
            security.seccomp = Some(api::Profile { kind: api::UNCONFINED, ..Default::default() });
        }
    })?;
    let strict = careless.run("strict", SHORT, |container| {
        if let Some(security) = security(container) {
            security.capabilities = Some(api::Capabilities { add: Vec::new(), drop: vec!["ALL".to_owned()] });
            (security.no_new_privs, security.readonly_rootfs) = (true, true);
            security.run_as_user = Some(api::Int64 { value: 1000 });
        }
    })?;
    agent.fence()?;
    let stopped = agent.stop()?;
    let restricted = |checks: &[&'static str]| checks.iter().map(|check| (RESTRICTED, *check)).collect::<BTreeSet<_>>();
    let node = |checks: &[&'static str]| checks.iter().map(|check| (NODE, *check)).collect::<BTreeSet<_>>();
    let usual = restricted(&["root_user", "privilege_escalation", "capabilities_kept"]);
    let host_network = node(&["host_network"]);
    assert_eq!(said(&stopped.findings, &running), &usual | &host_network, "one that ran when the agent came");
    let expected = &node(&["host_network", "privileged", "sensitive_host_path"]) | &restricted(&["root_user"]);
    assert_eq!(said(&stopped.findings, &privileged), expected);
    let baseline = BTreeSet::from([("Pod breaks the baseline standard", "capabilities_added")]);
    let expected = &(&(&usual | &host_network) | &restricted(&["seccomp_unconfined"])) | &baseline;
    assert_eq!(said(&stopped.findings, &added), expected);
    assert_eq!(said(&stopped.findings, &strict), host_network);
    for id in [&running, &privileged, &added, &strict] {
        let found = of_container(&stopped.findings, id);
        assert_eq!(found.len(), said(&stopped.findings, id).len(), "each is said once: {found:#?}");
    }
    let of_privileged = of_container(&stopped.findings, &privileged);
    let field = |check: &str| {
        let found = of_privileged.iter().find(|finding| text(finding, "/pod_security/check") == check);
        found.map(|finding| {
            (
                text(finding, "/pod_security/field"),
                text(finding, "/pod_security/level"),
                text(finding, "/pod_security/actual"),
            )
        })
    };
    assert_eq!(field("privileged"), Some(("spec.containers{tool}.securityContext.privileged", "baseline", "true")));
    assert_eq!(field("sensitive_host_path"), Some(("spec.volumes[*].hostPath", "baseline", "/etc (ro)")));
    let first = of_privileged.first().context("no finding")?;
    ensure!(text(first, "/kind") == "pod_security" && text(first, "/container/pod_name") == "careless", "{first:#}");
    replays(&stopped, &["--enable-rule", RESTRICTED])
}

const LOCAL: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
  {"names": ["acct"], "action": "SCMP_ACT_KILL_PROCESS"},
  {"names": ["getsid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13, "comment": "no runtime keeps this",
   "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#;

#[test]
fn a_denied_call_is_told_with_the_profile_and_the_rule_that_decided() -> Result<()> {
    if !can_run_pods() {
        return Ok(());
    }
    let (containerd, node) = (Containerd::start()?, tempfile::tempdir()?);
    let profiles = node.path().join("var/lib/kubelet/seccomp/team");
    fs::create_dir_all(&profiles)?;
    fs::write(profiles.join("other.json"), r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#)?;
    let file = profiles.join("local.json");
    fs::write(&file, LOCAL)?;
    let agent = agent(&containerd, &["--host-root", &node.path().display().to_string()])?;
    let pod = containerd.pod("denied", node_network())?;
    let run = |name: &str, step: &[&str], profile: api::Profile| {
        pod.run(name, &[&["/bin/workload"], step].concat(), |container| {
            if let Some(security) = security(container) {
                security.seccomp = Some(profile);
            }
        })
    };
    let of_file = || api::Profile { kind: api::LOCALHOST, localhost_ref: file.display().to_string() };
    let unconfined = api::Profile { kind: api::UNCONFINED, ..Default::default() };
    let default = run("default", &["call", "acct", "3"], api::Profile::default())?;
    let local = run("local", &["call", "getsid", "1"], of_file())?;
    let killed = run("killed", &["call", "acct"], of_file())?;
    // Filters of the program's own, which no profile has a rule of.
    let own = run("own", &["nested", "getpgid"], api::Profile::default())?;
    let alone = run("alone", &["nested", "getpgid"], unconfined)?;
    agent.fence()?;
    let stopped = agent.stop()?;
    let told = |id: &str| -> Vec<_> {
        let found = of_container(&stopped.findings, id);
        let seccomp = found.into_iter().filter(|finding| text(finding, "/kind") == "seccomp_violation");
        let of = |name| move |finding: &Value| text(finding, &format!("/seccomp/{name}")).to_owned();
        seccomp.map(|finding| ["syscall", "profile", "rule"].map(|name| of(name)(finding))).collect()
    };
    let by_default = ["acct", "RuntimeDefault", "defaultAction: SCMP_ACT_ERRNO"];
    assert_eq!(told(&default), [by_default, by_default], "the first, and the other two");
    let local_rule = "syscalls[1]: SCMP_ACT_ERRNO if arg0 == 0x0";
    assert_eq!(told(&local), [["getsid", "Localhost/team/local.json", local_rule]]);
    assert_eq!(told(&killed), [["acct", "Localhost/team/local.json", "syscalls[0]: SCMP_ACT_KILL_PROCESS"]]);
    assert_eq!(told(&own), [["getpgid", "RuntimeDefault", ""]]);
    assert_eq!(told(&alone), [["getpgid", "Unconfined", ""]]);
    let shown =
        of_container(&stopped.findings, &local).into_iter().find(|found| text(found, "/rule").contains("denied"));
    let shown = text(shown.context("no finding")?, "/message");
    ensure!(shown.contains(&format!("count=1 profile=Localhost/team/local.json rule={local_rule}")), "{shown}");
    replays(&stopped, &[])
}

fn security(container: &mut api::Container) -> Option<&mut api::Security> {
    container.linux.as_mut()?.security.as_mut()
}
