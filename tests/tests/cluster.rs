//! The agent on a real Kubernetes API server: what it learns of pods, what it says of its node, and what it may not do.
use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tests::{
    agent::{self, Agent, PATIENCE, replay},
    cluster::Cluster,
    container::Container,
    environment::{can_run_live_with, python_tool},
    finding::{comparable, of_container, parse, text},
    process,
};

const NODE: &str = "node-1";
const OTHER_NODE: &str = "node-2";
const TAINT: &str = "monitor/agent-not-ready";
const NAMESPACE: &str = "monitor";
const DIGEST: &str = "sha256:2a0c6f1b2a0c6f1b2a0c6f1b2a0c6f1b2a0c6f1b2a0c6f1b2a0c6f1b2a0c6f1b";
/// What runs in the pods: a new program.
const DRIFT: &str = "cp /bin/workload /tmp/new; /tmp/new noop";

/// Rules that see what the API alone tells.
const RULES: &str = r"
- rule: Program of the web front
  desc: A pod with this label runs a program.
  condition: evt.type = execve and k8s.pod.label[app] = web and proc.name = new
  output: >
    Program (labels=%k8s.pod.labels digest=%container.image.digest ip=%k8s.pod.ip set=%k8smeta.rs.name pod=%k8smeta.pod.name
    tier=%k8s.pod.label[tier])
  priority: NOTICE
";
const POLICY: &str = "drift: {rules: [{name: front, pod_labels: {tier: 'fr*'}, mode: observe}]}\n";

/// A cluster with the chart's account, and an agent's files.
struct Place {
    cluster: Cluster,
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Result<Self> {
        let place = Self { cluster: Cluster::start()?, directory: tempfile::tempdir()? };
        place.cluster.kubectl(&["create", "namespace", NAMESPACE])?.successful()?;
        place.write("rules.yaml", RULES)?;
        place.write("policy.yaml", POLICY)?;
        Ok(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.path(name), text)?)
    }

    /// Puts the chart's objects into the cluster that say what the agent may do, and takes a token of its account.
    fn install(&self, values: &Value) -> Result<()> {
        for object in rendered(values, "1.29.0")? {
            let kind = text(&object, "/kind");
            if ["ServiceAccount", "ClusterRole", "ClusterRoleBinding"].contains(&kind) {
                self.cluster.apply(&object)?;
            }
        }
        self.write("token", &self.cluster.token(NAMESPACE, "monitor")?)
    }

    /// The agent's configuration, with these keys of `kubernetes`.
    fn configure(&self, more: &str) -> Result<String> {
        let (server, ca, token) = (self.cluster.server(), self.cluster.ca_file(), self.shown("token"));
        let file =
            format!("kubernetes:\n  server: {server}\n  ca_file: {}\n  token_file: {token}\n{more}", ca.display());
        self.write("config.yaml", &file)?;
        Ok(self.shown("config.yaml"))
    }

    fn node_section(&self, more: &str) -> String {
        format!("  node: {{check_s: 1, heartbeat_s: 10, state_directory: {}{more}}}\n", self.shown("state"))
    }

    fn agent(&self, config: &str) -> Result<Agent> {
        let (rules, policy) = (self.shown("rules.yaml"), self.shown("policy.yaml"));
        let builtin = concat!(env!("CARGO_MANIFEST_DIR"), "/../monitor/rules/monitor_rules.yaml");
        let args = ["-c", config, "--node-name", NODE, "-r", builtin, "-r", &rules, "--drift-policy", &policy];
        Agent::start(&[&args[..], &["--rule-matching", "all"]].concat())
    }

    /// A pod on the node; its uid.
    fn pod(&self, name: &str, labels: &Value) -> Result<String> {
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d4b9c", "controller": true,
            "uid": "0b1d4f3a-9c7e-8d5b-2a1f-0e3c6a2f4c5e"});
        let container = json!({"name": "app", "image": "registry.example.com/team/web:1.4",
            "env": [{"name": "PASSWORD", "value": "secret"}]});
        self.cluster.apply(&json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": labels, "ownerReferences": [owner]},
            "spec": {"nodeName": NODE, "serviceAccountName": "web", "containers": [container]}}))?;
        Ok(text(&self.cluster.get(&["pod", name])?, "/metadata/uid").to_owned())
    }

    /// What a kubelet says when a container runs.
    fn runs(&self, pod: &str, container_id: &str) -> Result<()> {
        let status = json!({"name": "app", "containerID": format!("containerd://{container_id}"), "image": "web", "ready": true,
            "imageID": format!("registry.example.com/team/web@{DIGEST}"), "restartCount": 0});
        let patch =
            json!({"status": {"phase": "Running", "podIP": "10.244.1.7", "containerStatuses": [status]}}).to_string();
        self.cluster.kubectl(&["patch", "pod", pod, "--subresource=status", "-p", &patch])?.successful()?;
        Ok(())
    }
}

/// The page of metrics.
fn page(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").context("no page")?.1.to_owned())
}

/// Waits until it is so.
fn wait(what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// The chart's objects.
fn rendered(values: &Value, version: &str) -> Result<Vec<Value>> {
    let helm = python_tool("helm").context("no helm")?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("values.json");
    fs::write(&file, values.to_string())?;
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/chart");
    let mut command = Command::new(helm);
    command
        .args(["template", "monitor", chart, "--namespace", NAMESPACE, "--kube-version", version, "--values"])
        .arg(&file);
    documents(&process::run(&mut command, PATIENCE)?.successful()?.stdout_text())
}

/// Every document of a file of YAML.
fn documents(yaml: &str) -> Result<Vec<Value>> {
    let documents = format!("\n{yaml}").split("\n---").map(str::to_owned).collect::<Vec<_>>();
    let read = |text: &String| serde_saphyr::from_str::<Value>(text).with_context(|| text.clone());
    let is_empty =
        |text: &&String| text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    documents.iter().filter(|text| !is_empty(text)).map(read).collect()
}

/// The findings of one container, by one rule.
fn found<'f>(findings: &'f [Value], container: &str, rule: &str) -> Result<&'f Value> {
    let of_container = of_container(findings, container);
    let found = of_container.into_iter().find(|finding| text(finding, "/rule") == rule);
    found.with_context(|| format!("no finding {rule:?} of {container} in {findings:#?}"))
}

#[test]
fn labels_owner_and_digest_are_in_rules_policies_and_findings_and_in_a_replay() -> Result<()> {
    if !can_run_live_with(tests::container::Runtime::any()) {
        return Ok(());
    }
    let place = Place::new()?;
    place.install(&json!({"kubernetes": {"enabled": true}}))?;
    let uid = place.pod("web-0", &json!({"app": "web", "tier": "front"}))?;
    place.pod("elsewhere", &json!({"app": "web"}))?;
    let container = Container::script_in(&uid, DRIFT)?;
    place.runs("web-0", container.id())?;
    let agent = place.agent(&place.configure("")?)?;
    // The list comes some moments after the agent is ready: nothing waits for it.
    wait("a finding with labels", || {
        let probe = Container::script_in(&uid, DRIFT)?;
        probe.run()?.successful()?;
        agent.fence()?;
        let findings = agent.findings()?;
        Ok(of_container(&findings, probe.id())
            .iter()
            .any(|finding| text(finding, "/container/pod/labels/app") == "web"))
    })?;
    container.run()?.successful()?;
    agent.fence()?;
    let stopped = agent.stop()?;
    let own = found(&stopped.findings, container.id(), "Program of the web front")?;
    let pod = json!({"labels": {"app": "web", "tier": "front"}, "owner_kind": "ReplicaSet", "owner_name": "web-7d4b9c",
        "service_account": "web", "ip": "10.244.1.7"});
    assert_eq!(own.pointer("/container/pod"), Some(&pod));
    assert_eq!(text(own, "/container/image_digest"), DIGEST);
    assert_eq!((text(own, "/container/pod_name"), text(own, "/container/namespace")), ("web-0", "default"));
    let field = |name: &str| own.get("output_fields").and_then(|fields| fields.get(name)?.as_str()).unwrap_or_default();
    let fields =
        ["k8s.pod.labels", "container.image.digest", "k8s.pod.ip", "k8smeta.rs.name", "k8smeta.pod.name"].map(field);
    assert_eq!(fields, ["app:web, tier:front", DIGEST, "10.244.1.7", "web-7d4b9c", "web-0"]);
    let drift = of_container(&stopped.findings, container.id());
    let drift =
        drift.iter().find(|finding| text(finding, "/drift/policy_rule") == "front").context("the policy's rule")?;
    assert_eq!(text(drift, "/priority"), "informational", "the policy knows the label");
    let (rules, policy) = (place.shown("rules.yaml"), place.shown("policy.yaml"));
    let builtin = concat!(env!("CARGO_MANIFEST_DIR"), "/../monitor/rules/monitor_rules.yaml");
    let args = ["-r", builtin, "-r", &rules, "--drift-policy", &policy, "--rule-matching", "all"];
    let again = parse(&replay(&stopped.capture, &args)?.successful()?.stdout_text())?;
    let [live, again]: [Vec<Value>; 2] =
        [&stopped.findings, &again].map(|findings| findings.iter().map(comparable).collect());
    assert_eq!(live, again, "the capture holds what the API said");
    let capture = fs::read(&stopped.capture)?;
    let holds = |text: &str| capture.windows(text.len()).any(|part| part == text.as_bytes());
    ensure!(holds("web-7d4b9c") && !holds("PASSWORD"), "what is not used is not kept");
    Ok(())
}

#[test]
fn the_watch_survives_restarts_of_the_api_and_a_token_that_is_bad_for_a_while() -> Result<()> {
    if !can_run_live_with(tests::container::Runtime::any()) {
        return Ok(());
    }
    let mut place = Place::new()?;
    place.install(&json!({"kubernetes": {"enabled": true}}))?;
    let uid = place.pod("web-0", &json!({"app": "web", "release": "one"}))?;
    let token = fs::read_to_string(place.path("token"))?;
    place.write("token", "not-a-token")?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let metrics = format!("metrics: {{listen: '127.0.0.1:{port}'}}\n");
    let agent = place.agent(&place.configure(&metrics)?)?;
    agent.wait_for_stderr("pods are not watched: the Kubernetes API says 401", 1)?;
    let is_watching = |wanted: bool| -> Result<bool> {
        let page = page(port)?;
        let shown = page.lines().find_map(|line| line.strip_prefix("monitor_kubernetes_watching "));
        Ok((shown.context("no such metric")?.trim().parse::<f64>()? > 0.5) == wanted)
    };
    wait("the metric says that it is not", || is_watching(false))?;
    place.write("token", &token)?;
    agent.wait_for_stderr("pods are watched again: 1 known", 1)?;
    wait("the metric says that it is", || is_watching(true))?;
    let architecture = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../ARCHITECTURE.md"))?;
    let page = page(port)?;
    let described = page.lines().filter_map(|line| line.strip_prefix("# HELP monitor_")?.split(' ').next());
    let own: Vec<_> = described.filter(|name| name.starts_with("kubernetes_") || name.starts_with("node_")).collect();
    ensure!(own.len() == 8, "{own:?}");
    for name in own {
        let name = name.strip_suffix("_total").unwrap_or(name);
        ensure!(architecture.contains(&format!("`{name}")), "ARCHITECTURE.md does not list {name}");
    }
    ensure!(page.contains("monitor_kubernetes_failures_total{kind=\"unauthorized\"}"), "{page}");
    let label = |agent: &Agent| -> Result<String> {
        let container = Container::script_in(&uid, DRIFT)?;
        container.run()?.successful()?;
        agent.fence()?;
        Ok(text(
            found(&agent.findings()?, container.id(), "Program of the web front")?,
            "/container/pod/labels/release",
        )
        .to_owned())
    };
    assert_eq!(label(&agent)?, "one");
    place.cluster.stop_api()?;
    agent.wait_for_stderr("pods are not watched: cannot reach the Kubernetes API", 1)?;
    assert_eq!(label(&agent)?, "one", "what was known is known, and findings do not wait");
    place.cluster.start_api()?;
    place.cluster.kubectl(&["label", "pod", "web-0", "--overwrite", "release=two"])?.successful()?;
    agent.wait_for_stderr("pods are watched again", 2)?;
    wait("the new label", || Ok(label(&agent)? == "two"))?;
    let said = agent.stderr().lines().filter(|line| line.contains("monitor: kubernetes:")).count();
    ensure!(said <= 8, "{said} lines\n{}", agent.stderr());
    agent.stop()?;
    Ok(())
}

#[test]
fn the_condition_says_ready_and_the_startup_taint_goes_each_time_that_it_comes() -> Result<()> {
    if !can_run_live_with(tests::container::Runtime::any()) {
        return Ok(());
    }
    let place = Place::new()?;
    place.install(&json!({"kubernetes": {"enabled": true, "node": {"enabled": true}}}))?;
    place.cluster.node(NODE, &[("other", "NoExecute"), (TAINT, "NoSchedule")])?;
    place.cluster.node(OTHER_NODE, &[(TAINT, "NoSchedule")])?;
    let agent = place.agent(&place.configure(&place.node_section(""))?)?;
    let has_taint = || Ok::<_, anyhow::Error>(place.cluster.taints(NODE)?.contains(&TAINT.to_owned()));
    wait("the taint is gone", || Ok(!has_taint()?))?;
    let condition = || place.cluster.condition(NODE, "MonitorReady")?.context("no condition");
    wait("ready", || Ok(text(&condition()?, "/status") == "True"))?;
    let before = condition()?;
    place.cluster.kubectl(&["taint", "node", NODE, &format!("{TAINT}=:NoSchedule")])?.successful()?;
    wait("the taint is gone again", || Ok(!has_taint()?))?;
    assert_eq!(place.cluster.taints(NODE)?, ["other"], "other taints stay");
    assert_eq!(place.cluster.taints(OTHER_NODE)?, [TAINT], "other nodes are let be");
    wait("a heartbeat", || Ok(text(&condition()?, "/lastHeartbeatTime") > text(&before, "/lastHeartbeatTime")))?;
    assert_eq!(text(&condition()?, "/lastTransitionTime"), text(&before, "/lastTransitionTime"));
    agent.stop()?;
    let last = condition()?;
    assert_eq!((text(&last, "/status"), text(&last, "/reason")), ("False", "AgentStopped"));
    Ok(())
}

#[test]
fn the_node_stays_closed_until_its_seccomp_profiles_are_there() -> Result<()> {
    if !can_run_live_with(tests::container::Runtime::any()) {
        return Ok(());
    }
    let place = Place::new()?;
    place.install(&json!({"kubernetes": {"enabled": true, "node": {"enabled": true}}}))?;
    place.cluster.node(NODE, &[(TAINT, "NoSchedule")])?;
    let (from, root) = (place.shown("profiles"), place.shown("kubelet"));
    let profiles = format!("seccomp_profiles: {{from: {from}, root: {root}, look_every_s: 1}}\n");
    let agent = place.agent(&place.configure(&(place.node_section("") + &profiles))?)?;
    let says = |what: &str| {
        let condition = place.cluster.condition(NODE, "MonitorReady")?;
        Ok(condition.is_some_and(|condition| text(&condition, "/message").starts_with(what)))
    };
    wait("the profiles are missed", || says("seccomp_profiles: "))?;
    thread::sleep(Duration::from_secs(3));
    assert_eq!(place.cluster.taints(NODE)?, [TAINT], "the agent runs, but pods may need a profile");
    fs::create_dir(&from)?;
    place.write("profiles/web.json", r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#)?;
    wait("the taint is gone", || Ok(place.cluster.taints(NODE)?.is_empty()))?;
    ensure!(place.path("kubelet/monitor/web.json").exists(), "the profile is not there");
    wait("ready", || says("the node is watched"))?;
    agent.stop()?;
    Ok(())
}

#[test]
fn in_the_mode_condition_the_taint_is_left_to_a_controller() -> Result<()> {
    if !can_run_live_with(tests::container::Runtime::any()) {
        return Ok(());
    }
    let place = Place::new()?;
    place.install(&json!({"kubernetes": {"enabled": true, "node": {"enabled": true, "mode": "condition"}}}))?;
    place.cluster.node(NODE, &[(TAINT, "NoSchedule")])?;
    let token = fs::read_to_string(place.path("token"))?;
    let refused = place.cluster.kubectl_as(&token, &["taint", "node", NODE, &format!("{TAINT}-")])?;
    ensure!(
        !refused.status.success() && refused.stderr.contains("cannot patch resource \"nodes\""),
        "{}",
        refused.stderr
    );
    let agent = place.agent(&place.configure(&place.node_section(", mode: condition"))?)?;
    wait("ready", || {
        let condition = place.cluster.condition(NODE, "MonitorReady")?;
        Ok(condition.is_some_and(|condition| text(&condition, "/status") == "True"))
    })?;
    assert_eq!(place.cluster.taints(NODE)?, [TAINT]);
    agent.stop()?;
    Ok(())
}

#[test]
fn an_agent_that_never_starts_opens_its_node_after_a_while_and_release_undoes_everything() -> Result<()> {
    if !can_run_live_with(tests::container::Runtime::any()) {
        return Ok(());
    }
    let place = Place::new()?;
    place.install(&json!({"kubernetes": {"enabled": true, "node": {"enabled": true}}}))?;
    place.cluster.node(NODE, &[(TAINT, "NoSchedule"), ("other", "NoSchedule")])?;
    let config = place.configure(&place.node_section(", fail_open_s: 20"))?;
    place.write("bad.yaml", "- rule: Bad\n  condition: no.such = field\n")?;
    let bad = place.shown("bad.yaml");
    let begin = Instant::now();
    let run = || agent::monitor(["run", "-c", &config, "--node-name", NODE, "-r", &bad, "--no-socket"]);
    let first = run()?;
    ensure!(first.status.code() == Some(2), "{}", first.stderr);
    ensure!(begin.elapsed() < Duration::from_secs(20), "this machine is too slow for the test: {:?}", begin.elapsed());
    assert_eq!(place.cluster.taints(NODE)?, [TAINT, "other"], "it has not waited yet\n{}", first.stderr);
    let condition = || place.cluster.condition(NODE, "MonitorReady")?.context("no condition");
    let said = condition()?;
    assert_eq!((text(&said, "/status"), text(&said, "/reason")), ("False", "NotReady"));
    // As a kubelet does it: again and again.
    let mut last = first;
    while begin.elapsed() < Duration::from_secs(22) {
        thread::sleep(Duration::from_secs(1));
        last = run()?;
    }
    ensure!(last.stderr.contains("FAIL OPEN") || place.cluster.taints(NODE)? == ["other"], "{}", last.stderr);
    assert_eq!(place.cluster.taints(NODE)?, ["other"]);
    assert_eq!(text(&condition()?, "/reason"), "FailedOpen");
    place.cluster.kubectl(&["taint", "node", NODE, &format!("{TAINT}=:NoSchedule")])?.successful()?;
    let released = agent::monitor(["node", "release", "-c", &config, NODE])?.successful()?;
    ensure!(released.stdout_text().contains(NODE), "{}", released.stdout_text());
    assert_eq!(place.cluster.taints(NODE)?, ["other"]);
    ensure!(place.cluster.condition(NODE, "MonitorReady")?.is_none(), "the condition is still there");
    Ok(())
}

/// RBAC knows names of objects but not "the own one": a role that may patch nodes may patch all of them. What keeps an agent to its
/// node is the `ValidatingAdmissionPolicy` of the chart, which this API server is too old for, or a role for each node.
#[test]
fn what_roles_can_refuse_and_what_they_cannot() -> Result<()> {
    let place = Place::new()?;
    place.install(&json!({"kubernetes": {"enabled": true, "node": {"enabled": true}}}))?;
    place.cluster.node(NODE, &[])?;
    place.cluster.node(OTHER_NODE, &[])?;
    let token = fs::read_to_string(place.path("token"))?;
    let may = |what: &[&str]| -> Result<bool> {
        let answer = place.cluster.kubectl_as(&token, &[&["auth", "can-i"], what].concat())?;
        Ok(answer.stdout_text().trim() == "yes")
    };
    for allowed in [
        &["watch", "pods"][..],
        &["get", "node/node-1"],
        &["patch", "nodes", "--subresource=status"],
        &["patch", "node/node-1"],
        &["patch", "node/node-2"],
    ] {
        ensure!(may(allowed)?, "{allowed:?}");
    }
    for refused in [
        &["create", "pods"][..],
        &["delete", "pods"],
        &["get", "secrets"],
        &["list", "nodes"],
        &["delete", "node/node-1"],
        &["update", "node/node-1"],
        &["create", "pods", "--subresource=exec"],
        &["get", "configmaps"],
    ] {
        ensure!(!may(refused)?, "{refused:?}");
    }
    // A role for each node does it.
    let account = |name: &str| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAMESPACE}});
    place.cluster.apply(&account("of-node-1"))?;
    let rule = json!({"apiGroups": [""], "resources": ["nodes", "nodes/status"], "resourceNames": [NODE], "verbs": ["get", "patch"]});
    let api = "rbac.authorization.k8s.io";
    place
        .cluster
        .apply(&json!({"apiVersion": format!("{api}/v1"), "kind": "ClusterRole", "metadata": {"name": "of-node-1"},
        "rules": [rule]}))?;
    place.cluster.apply(
        &json!({"apiVersion": format!("{api}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "of-node-1"},
        "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": "of-node-1"},
        "subjects": [{"kind": "ServiceAccount", "name": "of-node-1", "namespace": NAMESPACE}]}),
    )?;
    let token = place.cluster.token(NAMESPACE, "of-node-1")?;
    let taint = |node: &str| place.cluster.kubectl_as(&token, &["taint", "node", node, "a=:NoSchedule"]);
    taint(NODE)?.successful()?;
    let refused = taint(OTHER_NODE)?;
    ensure!(refused.stderr.contains("Forbidden") || refused.stderr.contains("forbidden"), "{}", refused.stderr);
    assert_eq!(place.cluster.taints(OTHER_NODE)?, [""; 0]);
    Ok(())
}

/// Kinds that this API server does not know yet.
const TOO_NEW: &[&str] =
    &["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "PodMonitor", "PrometheusRule"];

#[test]
fn the_api_server_takes_every_manifest_that_it_knows_the_kind_of() -> Result<()> {
    let place = Place::new()?;
    let all = json!({"kubernetes": {"enabled": true, "node": {"enabled": true, "admissionPolicy": true}}, "rules": {"aks": true,
        "custom": {"a.yaml": "- list: a\n  items: [b]\n"}}, "networkPolicy": {"enabled": true},
        "metrics": {"podMonitor": {"enabled": true}, "prometheusRule": {"enabled": true}, "dashboard": {"enabled": true}}});
    let (mut taken, mut unknown) = (Vec::new(), Vec::new());
    for values in [json!({}), json!({"kubernetes": {"enabled": true}}), all] {
        // The field for AppArmor, which came with 1.30, is an annotation before.
        for object in rendered(&values, "1.29.0")? {
            let kind = text(&object, "/kind").to_owned();
            let file = place.path("object.json");
            fs::write(&file, object.to_string())?;
            let file = file.display().to_string();
            let answer = place.cluster.kubectl(&["apply", "--dry-run=server", "--validate=true", "-f", &file])?;
            match (answer.status.success(), TOO_NEW.contains(&&*kind)) {
                (true, _) => taken.push(kind),
                (false, true) if answer.stderr.contains("no matches for kind") => unknown.push(kind),
                _ => bail!("{kind}: {}", answer.stderr),
            }
        }
    }
    taken.sort_unstable();
    taken.dedup();
    unknown.sort_unstable();
    unknown.dedup();
    eprintln!("taken: {}; not known: {}", taken.join(", "), unknown.join(", "));
    ensure!(taken.contains(&"DaemonSet".to_owned()) && taken.contains(&"ClusterRole".to_owned()), "{taken:?}");
    // It does look: the same with a key that does not exist is refused.
    let mut wrong = rendered(&json!({}), "1.29.0")?
        .into_iter()
        .find(|object| text(object, "/kind") == "DaemonSet")
        .context("it")?;
    wrong
        .pointer_mut("/spec/template/spec")
        .and_then(Value::as_object_mut)
        .context("a pod")?
        .insert("hostPIDD".into(), true.into());
    let file = place.path("wrong.json");
    fs::write(&file, wrong.to_string())?;
    let answer = place.cluster.kubectl(&["apply", "--dry-run=server", "-f", &file.display().to_string()])?;
    ensure!(!answer.status.success() && answer.stderr.contains("hostPIDD"), "{}", answer.stderr);
    Ok(())
}
