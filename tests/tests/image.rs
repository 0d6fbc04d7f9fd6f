//! The image as the manifests run it on each node: its content, those capabilities and no others, a read-only root, the
//! configuration and the volumes, under a real runtime. Who builds it without a container engine: `cargo xtask dist`.
use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    agent::Agent,
    container::{Container, Runtime},
    containerd::Containerd,
    environment::{can_run_containerd, can_run_live, image},
    finding,
};

/// What the manifests say about the agent's pod.
struct Manifests {
    pod: Value,
    container: Value,
    /// The file that they configure it with.
    config: String,
}

impl Manifests {
    fn read() -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/manifests/monitor.yaml");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let document = |kind: &str| -> Result<Value> {
            let line = format!("\nkind: {kind}\n");
            let found = text.split("\n---\n").find(|document| document.contains(&line)).context(line.clone())?;
            Ok(serde_saphyr::from_str(found)?)
        };
        let pod = document("DaemonSet")?.pointer("/spec/template/spec").context("no pod")?.clone();
        let container = pod.pointer("/containers/0").context("no container")?.clone();
        let config = document("ConfigMap")?.pointer("/data/monitor.yaml").and_then(Value::as_str).map(str::to_owned);
        Ok(Self { pod, container, config: config.context("no configuration")? })
    }

    fn capabilities(&self) -> Vec<&str> {
        strings(&self.container, "/securityContext/capabilities/add")
    }

    /// Tells a runtime all that, as the kubelet would; hostPath volumes that are written to lie in `volumes`.
    fn tell(&self, config: &mut Value, capabilities: &[&str], volumes: &Path) -> Result<()> {
        let is = |path: &str| self.container.pointer(path).and_then(Value::as_bool).unwrap_or(false);
        let capabilities: Vec<_> = capabilities.iter().map(|name| format!("CAP_{name}")).collect();
        let args = [vec!["/usr/bin/monitor"], strings(&self.container, "/args")].concat();
        let env: Vec<_> = items(&self.container, "/env")
            .map(|variable| {
                let text = |path: &str| variable.pointer(path).and_then(Value::as_str);
                format!("{}={}", text("/name").unwrap_or_default(), text("/value").unwrap_or("node-1"))
            })
            .collect();
        let process = json!({
            "args": args,
            "cwd": "/",
            "env": env,
            "user": {"uid": 0, "gid": 0},
            "noNewPrivileges": !is("/securityContext/allowPrivilegeEscalation"),
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
        });
        *at(config, "/process")? = process;
        *at(config, "/root/readonly")? = is("/securityContext/readOnlyRootFilesystem").into();
        let mounts = at(config, "/mounts")?.as_array_mut().context("no mounts")?;
        mounts.push(json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}));
        for mount in items(&self.container, "/volumeMounts") {
            let text = |name: &str| mount.get(name).and_then(Value::as_str).with_context(|| name.to_owned());
            let source = self.volume(text("name")?, volumes)?;
            let mode = if mount.get("readOnly") == Some(&Value::Bool(true)) { "ro" } else { "rw" };
            mounts.push(json!({
                "destination": text("mountPath")?, "type": "bind", "source": source, "options": ["rbind", mode],
            }));
        }
        if self.pod.get("hostPID") == Some(&Value::Bool(true)) {
            let namespaces = at(config, "/linux/namespaces")?.as_array_mut().context("no namespaces")?;
            namespaces.retain(|namespace| namespace.get("type").is_none_or(|kind| kind != "pid"));
        }
        let memory = self.container.pointer("/resources/limits/memory").and_then(Value::as_str);
        let mebibytes: u64 = memory.and_then(|text| text.strip_suffix("Mi")).context("no limit")?.parse()?;
        let linux = at(config, "/linux")?.as_object_mut().context("no linux")?;
        linux.insert("resources".to_owned(), json!({"memory": {"limit": mebibytes << 20}}));
        Ok(())
    }

    /// Where a volume lies.
    fn volume(&self, name: &str, volumes: &Path) -> Result<String> {
        let is_it = |volume: &&Value| volume.get("name").is_some_and(|known| known == name);
        let volume = items(&self.pod, "/volumes").find(is_it).context(name.to_owned())?;
        let host = volume.pointer("/hostPath/path").and_then(Value::as_str);
        if let Some(path) = host.filter(|path| path.starts_with("/sys/")) {
            return Ok(path.to_owned());
        }
        let directory = volumes.join(name);
        fs::create_dir_all(&directory)?;
        if volume.get("configMap").is_some() {
            fs::write(directory.join("monitor.yaml"), &self.config)?;
        }
        Ok(directory.display().to_string())
    }
}

fn at<'v>(value: &'v mut Value, path: &str) -> Result<&'v mut Value> {
    value.pointer_mut(path).with_context(|| path.to_owned())
}

fn items<'v>(value: &'v Value, path: &str) -> impl Iterator<Item = &'v Value> {
    value.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

fn strings<'v>(value: &'v Value, path: &str) -> Vec<&'v str> {
    items(value, path).filter_map(Value::as_str).collect()
}

/// The agent's container with these capabilities.
fn container(content: &Path, capabilities: &[&str], volumes: &TempDir) -> Result<Container> {
    let manifests = Manifests::read()?;
    Container::of_image(Runtime::any(), &content.join("root"), |config| {
        manifests.tell(config, capabilities, volumes.path())
    })
}

#[test]
fn the_agent_works_with_what_the_manifests_give_it_and_no_more() -> Result<()> {
    let (true, Some(content)) = (can_run_live(), image()) else { return Ok(()) };
    let manifests = Manifests::read()?;
    let volumes = tempfile::tempdir()?;
    let container = container(&content, &manifests.capabilities(), &volumes)?;
    let agent = Agent::within(&container)?;
    let drifting = Container::script(Runtime::any(), "cp /bin/workload /tmp/new; /tmp/new noop", None)?;
    drifting.run()?.successful()?;
    agent.wait_for("drift", |finding| finding::text(finding, "/container/id") == drifting.id())?;
    let findings = agent.findings()?;
    let finding = findings.iter().find(|finding| finding::text(finding, "/container/id") == drifting.id());
    let pod = finding.map(|finding| finding::text(finding, "/container/pod_uid"));
    assert_eq!(pod, Some(drifting.pod_uid()), "{finding:?}");
    assert_eq!(finding.map(|finding| finding::text(finding, "/hostname")), Some("node-1"), "{finding:?}");
    let stopped = agent.stop()?;
    assert!(stopped.status.success(), "{}\n{}", stopped.status, stopped.stderr);
    assert!(fs::read_dir(volumes.path().join("spool/spool"))?.next().is_some(), "the spool is on the node");
    Ok(())
}

#[test]
fn without_a_capability_the_agent_says_which_and_what_for() -> Result<()> {
    let (true, Some(content)) = (can_run_live(), image()) else { return Ok(()) };
    let manifests = Manifests::read()?;
    let all = manifests.capabilities();
    ensure!(!all.is_empty(), "the manifests give none");
    for missing in &all {
        let volumes = tempfile::tempdir()?;
        let others: Vec<_> = all.iter().copied().filter(|name| name != missing).collect();
        let finished = container(&content, &others, &volumes)?.run()?;
        assert_eq!(finished.status.code(), Some(2), "without {missing}: {}", finished.stderr);
        assert!(finished.stderr.contains(&format!("CAP_{missing} (to ")), "without {missing}: {}", finished.stderr);
        let told = all.iter().filter(|name| finished.stderr.contains(&format!("CAP_{name} ")));
        assert_eq!(told.count(), 1, "without {missing}: {}", finished.stderr);
    }
    Ok(())
}

#[test]
fn the_image_can_be_imported() -> Result<()> {
    let (true, Some(content)) = (can_run_containerd(), image()) else { return Ok(()) };
    let images = Containerd::start()?.import(&content.join("image.tar"))?;
    let name = concat!("localhost/monitor:", env!("CARGO_PKG_VERSION"));
    assert!(images.contains(name), "{images}");
    Ok(())
}
