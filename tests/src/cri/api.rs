//! The part of Kubernetes' container runtime interface that the tests speak: `runtime.v1` of
//! <https://github.com/kubernetes/cri-api/blob/v0.34.0/pkg/apis/runtime/v1/api.proto>, with its field numbers.

use std::collections::HashMap;

use prost::Message;

/// Namespace of its own (0 is the pod's).
pub const CONTAINER: i32 = 1;
/// The node's namespace.
pub const NODE: i32 = 2;

/// A profile of the node's.
pub const LOCALHOST: i32 = 2;
/// No seccomp profile.
pub const UNCONFINED: i32 = 1;

/// `RunPodSandboxRequest`
#[derive(Clone, PartialEq, Message)]
pub struct RunPodSandbox {
    /// `config`
    #[prost(message, optional, tag = "1")]
    pub config: Option<Sandbox>,
}

/// Every request and response that has an id as its first field, and nothing else that is of use.
#[derive(Clone, PartialEq, Message)]
pub struct Id {
    /// `pod_sandbox_id` or `container_id`
    #[prost(string, tag = "1")]
    pub id: String,
}

/// `PodSandboxConfig`
#[derive(Clone, PartialEq, Message)]
pub struct Sandbox {
    /// `metadata`
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<PodName>,
    /// `log_directory`
    #[prost(string, tag = "3")]
    pub log_directory: String,
    /// `labels`
    #[prost(map = "string, string", tag = "6")]
    pub labels: HashMap<String, String>,
    /// `linux`
    #[prost(message, optional, tag = "8")]
    pub linux: Option<LinuxSandbox>,
}

/// `PodSandboxMetadata`
#[derive(Clone, PartialEq, Message)]
pub struct PodName {
    /// `name`
    #[prost(string, tag = "1")]
    pub name: String,
    /// `uid`
    #[prost(string, tag = "2")]
    pub uid: String,
    /// `namespace`
    #[prost(string, tag = "3")]
    pub namespace: String,
}

/// `LinuxPodSandboxConfig`
#[derive(Clone, PartialEq, Message)]
pub struct LinuxSandbox {
    /// `cgroup_parent`
    #[prost(string, tag = "1")]
    pub cgroup_parent: String,
    /// `security_context`
    #[prost(message, optional, tag = "2")]
    pub security: Option<SandboxSecurity>,
}

/// `LinuxSandboxSecurityContext`
#[derive(Clone, PartialEq, Message)]
pub struct SandboxSecurity {
    /// `namespace_options`
    #[prost(message, optional, tag = "1")]
    pub namespaces: Option<Namespaces>,
    /// `privileged`: whether containers of the pod may be.
    #[prost(bool, tag = "6")]
    pub privileged: bool,
}

/// `NamespaceOption`
#[derive(Clone, PartialEq, Message)]
pub struct Namespaces {
    /// `network`
    #[prost(int32, tag = "1")]
    pub network: i32,
    /// `pid`
    #[prost(int32, tag = "2")]
    pub pid: i32,
    /// `ipc`
    #[prost(int32, tag = "3")]
    pub ipc: i32,
}

/// `CreateContainerRequest`
#[derive(Clone, PartialEq, Message)]
pub struct CreateContainer {
    /// `pod_sandbox_id`
    #[prost(string, tag = "1")]
    pub sandbox_id: String,
    /// `config`
    #[prost(message, optional, tag = "2")]
    pub config: Option<Container>,
    /// `sandbox_config`
    #[prost(message, optional, tag = "3")]
    pub sandbox: Option<Sandbox>,
}

/// `ContainerConfig`
#[derive(Clone, PartialEq, Message)]
pub struct Container {
    /// `metadata`
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<ContainerName>,
    /// `image`
    #[prost(message, optional, tag = "2")]
    pub image: Option<Image>,
    /// `command`
    #[prost(string, repeated, tag = "3")]
    pub command: Vec<String>,
    /// `mounts`
    #[prost(message, repeated, tag = "7")]
    pub mounts: Vec<Mount>,
    /// `labels`
    #[prost(map = "string, string", tag = "9")]
    pub labels: HashMap<String, String>,
    /// `linux`
    #[prost(message, optional, tag = "15")]
    pub linux: Option<LinuxContainer>,
}

/// `ContainerMetadata`
#[derive(Clone, PartialEq, Message)]
pub struct ContainerName {
    /// `name`
    #[prost(string, tag = "1")]
    pub name: String,
}

/// `ImageSpec`
#[derive(Clone, PartialEq, Message)]
pub struct Image {
    /// `image`
    #[prost(string, tag = "1")]
    pub image: String,
}

/// `Mount`
#[derive(Clone, PartialEq, Message)]
pub struct Mount {
    /// `container_path`
    #[prost(string, tag = "1")]
    pub container_path: String,
    /// `host_path`
    #[prost(string, tag = "2")]
    pub host_path: String,
    /// `readonly`
    #[prost(bool, tag = "3")]
    pub readonly: bool,
}

/// `LinuxContainerConfig`
#[derive(Clone, PartialEq, Message)]
pub struct LinuxContainer {
    /// `security_context`
    #[prost(message, optional, tag = "2")]
    pub security: Option<Security>,
}

/// `LinuxContainerSecurityContext`
#[derive(Clone, PartialEq, Message)]
pub struct Security {
    /// `capabilities`
    #[prost(message, optional, tag = "1")]
    pub capabilities: Option<Capabilities>,
    /// `privileged`
    #[prost(bool, tag = "2")]
    pub privileged: bool,
    /// `namespace_options`
    #[prost(message, optional, tag = "3")]
    pub namespaces: Option<Namespaces>,
    /// `run_as_user`
    #[prost(message, optional, tag = "5")]
    pub run_as_user: Option<Int64>,
    /// `readonly_rootfs`
    #[prost(bool, tag = "7")]
    pub readonly_rootfs: bool,
    /// `no_new_privs`
    #[prost(bool, tag = "11")]
    pub no_new_privs: bool,
    /// `masked_paths`
    #[prost(string, repeated, tag = "13")]
    pub masked_paths: Vec<String>,
    /// `seccomp`
    #[prost(message, optional, tag = "15")]
    pub seccomp: Option<Profile>,
}

/// `Int64Value`
#[derive(Clone, PartialEq, Message)]
pub struct Int64 {
    /// `value`
    #[prost(int64, tag = "1")]
    pub value: i64,
}

/// `Capability`
#[derive(Clone, PartialEq, Message)]
pub struct Capabilities {
    /// `add_capabilities`
    #[prost(string, repeated, tag = "1")]
    pub add: Vec<String>,
    /// `drop_capabilities`
    #[prost(string, repeated, tag = "2")]
    pub drop: Vec<String>,
}

/// `SecurityProfile`
#[derive(Clone, PartialEq, Message)]
pub struct Profile {
    /// `profile_type`: 0 is the runtime's default.
    #[prost(int32, tag = "1")]
    pub kind: i32,
    /// File of a profile of the node's.
    #[prost(string, tag = "2")]
    pub localhost_ref: String,
}
