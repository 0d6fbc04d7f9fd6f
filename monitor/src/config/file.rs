//! The configuration as it is written: one typed structure, in which every key that is not known is an error.
//!
//! What each key means, costs and risks stands in the file that ships, `deploy/monitor.yaml`; a test reads that file and
//! holds its values against the defaults here.

use std::{net::SocketAddr, path::PathBuf};

use serde::Deserialize;

use crate::profile_sync::{DIRECTORY, KUBELET_ROOT};

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// Name of the cluster, for consumers.
    pub cluster_name: String,
    /// File with the drift policy; empty for none.
    pub drift_policy: PathBuf,
    /// What is hidden in findings.
    pub redaction: Redaction,
    /// Findings on the disk.
    pub spool: Option<Spool>,
    /// To whom findings are pushed.
    pub sinks: Vec<Sink>,
    /// Consumers over the network.
    pub serve: Option<Serve>,
    /// Metrics and health.
    pub metrics: Option<Metrics>,
    /// Seccomp profiles of the node.
    pub seccomp_profiles: Option<SeccompProfiles>,
    /// The Kubernetes API.
    pub kubernetes: Option<Kubernetes>,
}

/// `redaction`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redaction {
    /// Whether anything is hidden.
    pub enabled: bool,
    /// Patterns besides the built-in ones; what their group `secret` matches is hidden.
    pub patterns: Vec<String>,
}

impl Default for Redaction {
    fn default() -> Self {
        Self { enabled: true, patterns: Vec::new() }
    }
}

/// `spool`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spool {
    /// Where.
    pub directory: PathBuf,
    /// Most mebibytes on the disk.
    pub max_mib: u64,
    /// Most mebibytes in memory while the disk cannot be written.
    pub memory_mib: u32,
    /// Milliseconds after which the disk is told to keep what it was given.
    pub sync_ms: u64,
}

impl Default for Spool {
    fn default() -> Self {
        Self { directory: PathBuf::from("/var/lib/monitor/spool"), max_mib: 256, memory_mib: 16, sync_ms: 500 }
    }
}

/// One of `sinks`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sink {
    /// Its name.
    pub name: String,
    /// What it speaks.
    #[serde(default)]
    pub protocol: Protocol,
    /// Where it is.
    pub endpoint: String,
    /// What is trusted and shown.
    #[serde(default)]
    pub tls: ClientTls,
    /// A bearer token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// How requests are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// How findings are put together.
    #[serde(default)]
    pub batch: Batch,
    /// Most requests at a time.
    #[serde(default = "in_flight")]
    pub in_flight: usize,
    /// Milliseconds that an answer may take.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// Waits after failures.
    #[serde(default)]
    pub retry: Retry,
    /// Where a sink begins that is new.
    #[serde(default)]
    pub begin: Begin,
}

const fn in_flight() -> usize {
    4
}

const fn timeout_ms() -> u64 {
    10_000
}

/// `sinks[].protocol`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// `monitor.v1.FindingsSink`
    #[default]
    Monitor,
    /// OpenTelemetry's `LogsService`
    Otlp,
}

/// `sinks[].compression`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not.
    #[default]
    None,
    /// By gzip.
    Gzip,
}

/// `sinks[].begin`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Begin {
    /// With everything in the spool.
    #[default]
    Earliest,
    /// With what is made from now on.
    Latest,
}

/// `sinks[].tls`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientTls {
    /// Who may sign the sink's certificate.
    pub ca_file: Option<PathBuf>,
    /// What is shown to a sink that asks.
    pub certificate_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// What the sink's certificate must be for.
    pub server_name: Option<String>,
}

/// `sinks[].batch`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Batch {
    /// Most findings.
    pub findings: usize,
    /// Most kibibytes.
    pub kib: usize,
    /// Milliseconds that a finding may wait for others.
    pub linger_ms: u64,
}

impl Default for Batch {
    fn default() -> Self {
        Self { findings: 512, kib: 1024, linger_ms: 20 }
    }
}

/// `sinks[].retry`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Milliseconds before the second try.
    pub first_ms: u64,
    /// Milliseconds at most.
    pub longest_ms: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self { first_ms: 100, longest_ms: 5000 }
    }
}

/// `serve`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serve {
    /// Address and port.
    pub listen: SocketAddr,
    /// What is shown.
    pub certificate_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// Who may sign consumers' certificates.
    pub client_ca_file: PathBuf,
}

/// `metrics`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Address and port.
    pub listen: SocketAddr,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9465)) }
    }
}

/// `seccomp_profiles`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeccompProfiles {
    /// Directory with the profiles.
    pub from: PathBuf,
    /// The kubelet's directory.
    #[serde(default = "kubelet_root")]
    pub root: PathBuf,
    /// Name of the directory in it.
    #[serde(default = "directory")]
    pub directory: String,
    /// Seconds after which what was installed is looked at, whatever the kernel tells.
    #[serde(default = "look_every_s")]
    pub look_every_s: u64,
}

fn kubelet_root() -> PathBuf {
    PathBuf::from(KUBELET_ROOT)
}

fn directory() -> String {
    DIRECTORY.to_owned()
}

const fn look_every_s() -> u64 {
    30
}

/// `kubernetes`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kubernetes {
    /// Address of the API; empty for the one that pods are told of.
    pub server: String,
    /// Who may sign its certificate.
    pub ca_file: PathBuf,
    /// What is shown to it.
    pub token_file: PathBuf,
    /// Whether the node's pods are watched.
    pub pods: bool,
    /// What is said of the node.
    pub node: Option<Node>,
}

impl Default for Kubernetes {
    fn default() -> Self {
        const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
        let of_account = |file| PathBuf::from(format!("{ACCOUNT}/{file}"));
        Self {
            server: String::new(),
            ca_file: of_account("ca.crt"),
            token_file: of_account("token"),
            pods: true,
            node: None,
        }
    }
}

/// `kubernetes.node`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    /// Who removes the taint.
    pub mode: NodeMode,
    /// Its key.
    pub taint: String,
    /// Seconds that the agent may be unready before the node is opened all the same; 0 for never.
    pub fail_open_s: u64,
    /// Seconds between two looks at the node.
    pub check_s: u64,
    /// Seconds after which the condition is written although nothing has changed.
    pub heartbeat_s: u64,
    /// Where it is kept since when the agent has been unready.
    pub state_directory: PathBuf,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            mode: NodeMode::Own,
            taint: "monitor/agent-not-ready".to_owned(),
            fail_open_s: 300,
            check_s: 15,
            heartbeat_s: 300,
            state_directory: PathBuf::from("/run/monitor"),
        }
    }
}

/// `kubernetes.node.mode`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeMode {
    /// The agent.
    #[default]
    #[serde(rename = "self")]
    Own,
    /// A controller.
    Condition,
}
