//! What is known of a container besides its id: what its runtime said when the capture was made.
//!
//! Falco's container plugin puts it into captures as JSON, and our sensor does the same. A document that the plugin would
//! refuse, because a value has another type than it should, is refused here as well, for the plugin then knows nothing of the
//! container either.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::{Map, Value};

/// The longest document that is read.
const MAX_JSON: usize = 1 << 20;
/// Id and name of the entry that stands for everything outside of containers.
const HOST: &str = "host";

/// What runs a container, as Falco numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Engine(pub u32);

impl Engine {
    /// Docker.
    pub const DOCKER: Self = Self(0);
    /// LXC.
    pub const LXC: Self = Self(1);
    /// LXC, started by libvirt.
    pub const LIBVIRT_LXC: Self = Self(2);
    /// containerd.
    pub const CONTAINERD: Self = Self(7);
    /// CRI-O.
    pub const CRIO: Self = Self(8);
    /// BOSH process manager.
    pub const BPM: Self = Self(9);
    /// Podman.
    pub const PODMAN: Self = Self(11);
    /// Not a container.
    pub const HOST: Self = Self(0xfffe);
    /// Not known.
    pub const UNKNOWN: Self = Self(0xffff);

    /// Its name; empty where Falco has none for it.
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "docker",
            1 => "lxc",
            2 => "libvirt-lxc",
            3 => "mesos",
            4 => "rkt",
            6 => "cri",
            7 => "containerd",
            8 => "cri-o",
            9 => "bpm",
            11 => "podman",
            0xfffe => HOST,
            _ => "",
        }
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

/// A part of another file system that the container sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// What is seen.
    pub source: String,
    /// Where.
    pub destination: String,
    /// As it was asked for.
    pub mode: String,
    /// Whether it can be written.
    pub is_writable: bool,
    /// Whether further mounts are seen on either side.
    pub propagation: String,
}

impl Mount {
    /// As Falco prints it.
    pub fn text(&self) -> String {
        let Self { source, destination, mode, is_writable, propagation } = self;
        format!("{source}:{destination}:{mode}:{is_writable}:{propagation}")
    }
}

/// A container's labels, in order.
pub type Labels = BTreeMap<String, String>;

/// What is known of a container. What was not told is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "facts that have nothing to do with each other")]
pub struct Metadata {
    /// The id, as it is shown.
    pub id: String,
    /// All of the id.
    pub full_id: String,
    /// What runs it.
    pub engine: Engine,
    /// Its name.
    pub name: String,
    /// The image, as it was asked for.
    pub image: String,
    /// The image's id.
    pub image_id: String,
    /// The image's name.
    pub image_repository: String,
    /// The image's tag.
    pub image_tag: String,
    /// The image's digest.
    pub image_digest: String,
    /// The user that it runs as.
    pub user: String,
    /// Its IPv4 address.
    pub ip: String,
    /// What the network plugin said of the pod.
    pub cni_json: String,
    /// Whether it may do everything.
    pub is_privileged: bool,
    /// Whether it is in the host's pid namespace.
    pub has_host_pid: bool,
    /// Whether it is in the host's network namespace.
    pub has_host_network: bool,
    /// Whether it is in the host's IPC namespace.
    pub has_host_ipc: bool,
    /// What it has mounted.
    pub mounts: Vec<Mount>,
    /// Its labels.
    pub labels: Labels,
    /// Whether it is itself the one that stands for its pod.
    pub is_sandbox: bool,
    /// All of the id of the container that stands for its pod.
    pub sandbox_id: String,
    /// The pod's labels.
    pub sandbox_labels: Labels,
}

static HOST_METADATA: LazyLock<Metadata> = LazyLock::new(|| Metadata {
    id: HOST.to_owned(),
    full_id: HOST.to_owned(),
    name: HOST.to_owned(),
    engine: Engine::HOST,
    ..Metadata::default()
});

impl Metadata {
    /// What stands for everything outside of containers.
    pub(super) fn host() -> &'static Self {
        &HOST_METADATA
    }

    /// What an engine tells by a path alone.
    pub(super) fn bare(id: &str, engine: Engine) -> Self {
        Self { id: id.to_owned(), engine, ..Self::default() }
    }

    /// Reads a document of the plugin; `None` for what the plugin would refuse.
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        if json.len() > MAX_JSON {
            return None;
        }
        Self::of_document(&serde_json::from_slice(json).ok()?)
    }

    /// The same of a document that has been parsed.
    pub(super) fn of_document(document: &Value) -> Option<Self> {
        let container = Object(document.get("container")?.as_object()?);
        container.has_well_formed_rest()?;
        Some(Self {
            id: container.text("id")?,
            full_id: container.text("full_id")?,
            engine: container.engine()?,
            name: container.text("name")?,
            image: container.text("image")?,
            image_id: container.text("imageid")?,
            image_repository: container.text("imagerepo")?,
            image_tag: container.text("imagetag")?,
            image_digest: container.text("imagedigest")?,
            user: container.text("User")?,
            ip: container.text("ip")?,
            cni_json: container.text("cni_json")?,
            is_privileged: container.truth("privileged")?,
            has_host_pid: container.truth("host_pid")?,
            has_host_network: container.truth("host_network")?,
            has_host_ipc: container.truth("host_ipc")?,
            mounts: container.mounts()?,
            labels: container.labels("labels")?,
            is_sandbox: container.truth("is_pod_sandbox")?,
            sandbox_id: container.text("pod_sandbox_id")?,
            sandbox_labels: container.labels("pod_sandbox_labels")?,
        })
    }

    /// One label; empty where it is not there.
    pub fn label(&self, key: &str) -> &str {
        self.labels.get(key).map_or("", String::as_str)
    }

    /// The mount of a number.
    pub fn mount(&self, index: u32) -> Option<&Mount> {
        self.mounts.get(usize::try_from(index).ok()?)
    }
}

/// An object of a document. Each reader gives the default where the key is absent, and `None` where the type is wrong.
#[derive(Clone, Copy)]
struct Object<'a>(&'a Map<String, Value>);

impl<'a> Object<'a> {
    fn text(self, key: &str) -> Option<String> {
        self.0.get(key).map_or(Some(String::new()), |value| value.as_str().map(str::to_owned))
    }

    fn truth(self, key: &str) -> Option<bool> {
        self.0.get(key).map_or(Some(false), Value::as_bool)
    }

    fn has_number(self, key: &str) -> bool {
        self.0.get(key).is_none_or(Value::is_number)
    }

    fn engine(self) -> Option<Engine> {
        let Some(value) = self.0.get("type") else { return Some(Engine::UNKNOWN) };
        let number = value.is_number().then_some(value)?;
        Some(number.as_u64().and_then(|number| u32::try_from(number).ok()).map_or(Engine::UNKNOWN, Engine))
    }

    /// An array whose absence, and null in its place, are an empty one.
    fn array(self, key: &str) -> Option<&'a [Value]> {
        match self.0.get(key) {
            None | Some(Value::Null) => Some(&[]),
            Some(value) => value.as_array().map(Vec::as_slice),
        }
    }

    fn labels(self, key: &str) -> Option<Labels> {
        match self.0.get(key) {
            None | Some(Value::Null) => Some(Labels::new()),
            Some(value) => {
                let pairs = value.as_object()?.iter();
                pairs.map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
            }
        }
    }

    fn mounts(self) -> Option<Vec<Mount>> {
        let mount = |value: &Value| {
            let mount = Object(value.as_object()?);
            Some(Mount {
                source: mount.text("Source")?,
                destination: mount.text("Destination")?,
                mode: mount.text("Mode")?,
                is_writable: mount.truth("RW")?,
                propagation: mount.text("Propagation")?,
            })
        };
        self.array("Mounts")?.iter().map(mount).collect()
    }

    /// Whether what no field shows has the types that it should.
    fn has_well_formed_rest(self) -> Option<()> {
        const NUMBERS: [&str; 8] = [
            "cpu_period",
            "cpu_quota",
            "cpu_shares",
            "cpuset_cpu_count",
            "created_time",
            "size",
            "memory_limit",
            "swap_limit",
        ];
        let is_probe = |probe: &Value| {
            let probe = Object(probe.as_object()?);
            probe.text("exe")?;
            probe.array("args")?.iter().all(Value::is_string).then_some(())
        };
        let is_port = |port: &Value| {
            let numbers = ["HostIp", "HostPort", "ContainerPort"];
            port.as_object().is_some_and(|port| numbers.into_iter().all(|key| Object(port).has_number(key)))
        };
        for probe in ["Healthcheck", "LivenessProbe", "ReadinessProbe"] {
            self.0.get(probe).map_or(Some(()), is_probe)?;
        }
        let is_well_formed = NUMBERS.into_iter().all(|key| self.has_number(key))
            && self.array("env")?.iter().all(Value::is_string)
            && self.array("port_mappings")?.iter().all(is_port);
        is_well_formed.then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"{"container":{"type":7,"id":"3ad7b26ded6d","name":"app","image":"registry.example.com/team/web:1.4",
        "imagedigest":"sha256:2a0c6f1b","imageid":"5b1c9a2e7f10","imagerepo":"registry.example.com/team/web","imagetag":"1.4",
        "User":"1000","cni_json":"{}","cpu_period":100000,"cpu_quota":0,"cpu_shares":1024,"cpuset_cpu_count":0,
        "created_time":1795408271,"env":["A=b"],
        "full_id":"3ad7b26ded6d8e7b23da7d48fe889434573036c27ae5a74837233de441c3601e","host_ipc":false,"host_network":true,
        "host_pid":false,"ip":"10.244.1.7","size":-1,"is_pod_sandbox":false,
        "labels":{"io.kubernetes.pod.name":"web-0","app":"web"},"memory_limit":0,"swap_limit":0,
        "pod_sandbox_id":"77aa02cc10be8e7b","privileged":true,"pod_sandbox_labels":{"tier":"front"},
        "port_mappings":[{"HostIp":0,"HostPort":80,"ContainerPort":8080}],
        "Mounts":[{"Source":"/etc","Destination":"/host/etc","Mode":"","RW":true,"Propagation":"private"}],
        "Healthcheck":{"exe":"true","args":["x"]}}}"#;

    #[test]
    fn every_value_of_a_document_is_read() {
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Labels>()
        };
        let expected = Metadata {
            id: "3ad7b26ded6d".into(),
            full_id: "3ad7b26ded6d8e7b23da7d48fe889434573036c27ae5a74837233de441c3601e".into(),
            engine: Engine(7),
            name: "app".into(),
            image: "registry.example.com/team/web:1.4".into(),
            image_id: "5b1c9a2e7f10".into(),
            image_repository: "registry.example.com/team/web".into(),
            image_tag: "1.4".into(),
            image_digest: "sha256:2a0c6f1b".into(),
            user: "1000".into(),
            ip: "10.244.1.7".into(),
            cni_json: "{}".into(),
            is_privileged: true,
            has_host_pid: false,
            has_host_network: true,
            has_host_ipc: false,
            mounts: vec![Mount {
                source: "/etc".into(),
                destination: "/host/etc".into(),
                mode: String::new(),
                is_writable: true,
                propagation: "private".into(),
            }],
            labels: labels(&[("app", "web"), ("io.kubernetes.pod.name", "web-0")]),
            is_sandbox: false,
            sandbox_id: "77aa02cc10be8e7b".into(),
            sandbox_labels: labels(&[("tier", "front")]),
        };
        assert_eq!(Metadata::parse(FULL.as_bytes()), Some(expected));
        assert_eq!(Metadata::parse(FULL.as_bytes()).unwrap().mount(0).unwrap().text(), "/etc:/host/etc::true:private");
        assert_eq!(Metadata::parse(FULL.as_bytes()).unwrap().mount(1), None);
    }

    #[test]
    fn old_documents_have_less_and_null_for_nothing() {
        let old = br#"{"container":{"id":"ad8301db070e","image":"nginx:latest","labels":null,"Mounts":null,"type":0,
            "Healthcheck":{"Interval":30,"Test":["CMD-SHELL","x"]}}}
"#;
        let expected = Metadata {
            id: "ad8301db070e".into(),
            image: "nginx:latest".into(),
            engine: Engine(0),
            ..Metadata::default()
        };
        assert_eq!(Metadata::parse(old), Some(expected));
        assert_eq!(Metadata::parse(br#"{"container":{}}"#).unwrap().engine.name(), "");
    }

    #[test]
    fn documents_that_the_plugin_refuses_are_refused() {
        for wrong in [
            "",
            "{",
            "[]",
            "{}",
            r#"{"container":[]}"#,
            r#"{"container":{"id":null}}"#,
            r#"{"container":{"id":1}}"#,
            r#"{"container":{"type":"docker"}}"#,
            r#"{"container":{"privileged":1}}"#,
            r#"{"container":{"labels":{"a":1}}}"#,
            r#"{"container":{"labels":[]}}"#,
            r#"{"container":{"Mounts":[1]}}"#,
            r#"{"container":{"Mounts":[{"RW":"rw"}]}}"#,
            r#"{"container":{"env":[1]}}"#,
            r#"{"container":{"size":"1"}}"#,
            r#"{"container":{"port_mappings":[{"HostPort":"80"}]}}"#,
            r#"{"container":{"Healthcheck":{"args":[1]}}}"#,
            r#"{"container":{}} x"#,
        ] {
            assert_eq!(Metadata::parse(wrong.as_bytes()), None, "{wrong}");
        }
        let long = format!(r#"{{"container":{{"name":"{}"}}}}"#, "x".repeat(MAX_JSON));
        assert_eq!(Metadata::parse(long.as_bytes()), None);
    }

    #[test]
    fn engines_have_falcos_names() {
        let names = [0, 1, 5, 6, 7, 8, 9, 10, 11, 0xfffe].map(|number| Engine(number).name());
        assert_eq!(names, ["docker", "lxc", "", "cri", "containerd", "cri-o", "bpm", "", "podman", "host"]);
    }
}
