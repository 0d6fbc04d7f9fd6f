//! A real Kubernetes API: etcd and kube-apiserver on loopback, with everything that they keep in a directory that goes with them.
//!
//! It is asked by kubectl: for curl it makes indented answers, in which a server of this age that a newer Go has compiled ends.
//! There is no kubelet, scheduler or controller: nodes and pods are objects that a test makes, and say what it makes them say.
use std::{
    env, fs,
    net::TcpListener,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    environment::python_tool,
    pki::Authority,
    process::{self, Finished, Group},
};

/// How long either may take to answer, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);
/// How long the API server may take to end.
const GRACE: Duration = Duration::from_mins(1);
/// How long a command of kubectl's may take.
const LIMIT: Duration = Duration::from_mins(1);
/// Who may do everything.
const ADMIN: &str = "admin-of-the-test";

/// etcd and the API server. Dropping it ends both.
#[derive(Debug)]
pub struct Cluster {
    api: Option<Group>,
    _etcd: Group,
    etcd_port: u16,
    port: u16,
    kubectl: PathBuf,
    program: PathBuf,
    directory: TempDir,
}

impl Cluster {
    /// Starts both, with the API server that `MONITOR_TEST_APISERVER` names.
    pub fn start() -> Result<Self> {
        let program =
            env::var_os("MONITOR_TEST_APISERVER").context("MONITOR_TEST_APISERVER: run `cargo xtask cluster`")?;
        let kubectl = python_tool("kubectl").context("no kubectl: run `cargo xtask setup`")?;
        let directory = tempfile::Builder::new().prefix("monitor-cluster-").tempdir()?;
        let [etcd_port, peer_port, port] = free_ports()?;
        let path = directory.path();
        fs::write(path.join("tokens.csv"), format!("{ADMIN},admin,1,system:masters\n"))?;
        let authority = Authority::new("cluster")?;
        authority.write(&path.join("ca.crt"))?;
        authority.issue("127.0.0.1")?.write(&path.join("api.crt"), &path.join("api.key"))?;
        authority.issue("tokens")?.write(&path.join("sa.crt"), &path.join("sa.key"))?;
        let [client, peer] = [etcd_port, peer_port].map(|port| format!("http://127.0.0.1:{port}"));
        let log = fs::File::create(path.join("etcd.log"))?;
        let mut etcd = Command::new("etcd");
        etcd.args(["--unsafe-no-fsync", "--data-dir"]).arg(path.join("etcd"));
        etcd.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        etcd.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        etcd.args(["--initial-cluster", &format!("default={peer}")]);
        let etcd = Group::spawn(etcd.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log))?;
        let program = program.into();
        let mut cluster = Self { api: None, _etcd: etcd, etcd_port, port, kubectl, program, directory };
        cluster.start_api()?;
        Ok(cluster)
    }

    /// Address of the API.
    pub fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// File with the certificate of who signed the API server's.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// Starts the API server and waits until it is ready.
    pub fn start_api(&mut self) -> Result<()> {
        let path = |name: &str| self.directory.path().join(name);
        let log = fs::File::options().create(true).append(true).open(path("api.log"))?;
        let mut api = Command::new(&self.program);
        let file = |option: &str, name: &str| format!("--{option}={}", path(name).display());
        api.args([
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            format!("--secure-port={}", self.port),
            file("cert-dir", "certificates"),
            file("tls-cert-file", "api.crt"),
            file("tls-private-key-file", "api.key"),
            file("token-auth-file", "tokens.csv"),
            file("service-account-key-file", "sa.crt"),
            file("service-account-signing-key-file", "sa.key"),
        ]);
        api.args([
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/24",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
            "--endpoint-reconciler-type=none",
            "--allow-privileged=true",
        ]);
        self.api = Some(Group::spawn(api.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log))?);
        let deadline = Instant::now() + PATIENCE;
        while self.kubectl(&["get", "--raw", "/readyz"])?.successful().is_err() {
            if Instant::now() > deadline {
                let log = |name| fs::read_to_string(path(name)).unwrap_or_default();
                bail!(
                    "the API server is not ready\n--- etcd\n{}\n--- kube-apiserver\n{}",
                    log("etcd.log"),
                    log("api.log")
                );
            }
            thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Ends the API server; etcd keeps what it knows.
    pub fn stop_api(&mut self) -> Result<()> {
        let Some(mut api) = self.api.take() else { return Ok(()) };
        // It waits for requests that are open, and a watch is one.
        api.signal(Signal::KILL)?;
        api.wait(GRACE)?.context("the API server does not end")?;
        Ok(())
    }

    /// kubectl as who may do everything.
    pub fn kubectl(&self, args: &[&str]) -> Result<Finished> {
        self.kubectl_as(ADMIN, args)
    }

    /// kubectl with this token.
    pub fn kubectl_as(&self, token: &str, args: &[&str]) -> Result<Finished> {
        let mut command = Command::new(&self.kubectl);
        command.arg("--server").arg(self.server()).arg("--certificate-authority").arg(self.ca_file());
        command.env("KUBECONFIG", "/dev/null").env("HOME", self.directory.path());
        process::run(command.arg("--token").arg(token).args(args), LIMIT)
    }

    /// Makes objects, or changes them to be so.
    pub fn apply(&self, object: &Value) -> Result<()> {
        let file = self.directory.path().join("object.json");
        fs::write(&file, object.to_string())?;
        self.kubectl(&["apply", "-f", &file.display().to_string()])?.successful()?;
        Ok(())
    }

    /// An object as it is.
    pub fn get(&self, args: &[&str]) -> Result<Value> {
        let shown = self.kubectl(&[&["get", "-o", "json"], args].concat())?.successful()?;
        Ok(serde_json::from_str(&shown.stdout_text())?)
    }

    /// A node with these taints.
    pub fn node(&self, name: &str, taints: &[(&str, &str)]) -> Result<()> {
        let taints: Vec<_> = taints.iter().map(|(key, effect)| json!({"key": key, "effect": effect})).collect();
        self.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"taints": taints}}))
    }

    /// Keys of a node's taints.
    pub fn taints(&self, node: &str) -> Result<Vec<String>> {
        let node = self.get(&["node", node])?;
        let taints = node.pointer("/spec/taints").and_then(Value::as_array);
        Ok(taints.into_iter().flatten().filter_map(|taint| Some(taint.get("key")?.as_str()?.to_owned())).collect())
    }

    /// A condition of a node.
    pub fn condition(&self, node: &str, kind: &str) -> Result<Option<Value>> {
        let node = self.get(&["node", node])?;
        let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
        let is_it = |condition: &&Value| condition.get("type").and_then(Value::as_str) == Some(kind);
        Ok(conditions.into_iter().flatten().find(is_it).cloned())
    }

    /// A token of a service account, by the `TokenRequest` API.
    pub fn token(&self, namespace: &str, account: &str) -> Result<String> {
        let made = self.kubectl(&["create", "token", account, "--namespace", namespace])?.successful()?;
        let token = made.stdout_text().trim().to_owned();
        ensure!(!token.is_empty(), "no token");
        Ok(token)
    }
}

fn free_ports() -> Result<[u16; 3]> {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(listeners) {
        *port = listener?.local_addr()?.port();
    }
    Ok(ports)
}
