//! Real pods without Kubernetes: a containerd of the test's own, and the kubelet's calls to it.
//!
//! It keeps everything in a directory of its own and goes with its value. Pods have the node's network, so that no network
//! plugin is needed, and cgroup paths as the kubelet makes them with the cgroupfs driver.

pub mod api;
mod image;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use hyper_util::rt::TokioIo;
use prost::Message;
use tempfile::TempDir;
use tokio::{net::UnixStream, runtime::Runtime};
use tonic::{
    Request,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use crate::{
    cgroup,
    container::{self, random_uuid},
    process::{self, Group},
};

/// The one image.
pub const IMAGE: &str = "registry.local/team/workload:1.0";
/// Namespace of all pods.
pub const NAMESPACE: &str = "prod";
/// How long anything may take.
const LIMIT: Duration = Duration::from_mins(1);

/// A containerd. Dropping it ends its pods, itself and its files.
#[derive(Debug)]
pub struct Containerd {
    _daemon: Group,
    runtime: Runtime,
    channel: Channel,
    directory: TempDir,
    presence: cgroup::Presence,
}

impl Containerd {
    /// Starts it, and imports [`IMAGE`]: busybox and the workload, as in [`crate::container`].
    pub fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("monitor-containerd-").tempdir()?;
        let path = directory.path();
        fs::write(path.join("config.toml"), config(path))?;
        fs::create_dir(path.join("cni"))?;
        let log = fs::File::create(path.join("log"))?;
        let mut command = Command::new("containerd");
        command.arg("--config").arg(path.join("config.toml"));
        let daemon = Group::spawn(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log))?;
        let presence = cgroup::Presence::new()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let socket = path.join("containerd.sock");
        let channel = {
            let _guard = runtime.enter();
            Endpoint::from_static("http://containerd").timeout(LIMIT).connect_with_connector_lazy(tower::service_fn(
                move |_| {
                    let socket = socket.clone();
                    async move { UnixStream::connect(socket).await.map(TokioIo::new) }
                },
            ))
        };
        let containerd = Self { _daemon: daemon, runtime, channel, directory, presence };
        containerd.wait()?;
        containerd.import()?;
        Ok(containerd)
    }

    /// Where its tasks' bundles are: `NAMESPACE/ID/config.json`.
    pub fn tasks(&self) -> PathBuf {
        self.directory.path().join("state/io.containerd.runtime.v2.task")
    }

    /// Starts a pod.
    pub fn pod(&self, name: &str, security: api::SandboxSecurity) -> Result<Pod<'_>> {
        let uid = random_uuid()?;
        let labels = [("name", name), ("namespace", NAMESPACE), ("uid", &uid)];
        let labels = labels.map(|(key, value)| (format!("io.kubernetes.pod.{key}"), value.to_owned()));
        let config = api::Sandbox {
            metadata: Some(api::PodName { name: name.to_owned(), uid: uid.clone(), namespace: NAMESPACE.to_owned() }),
            log_directory: self.directory.path().join("logs").display().to_string(),
            labels: HashMap::from(labels),
            linux: Some(api::LinuxSandbox { cgroup_parent: format!("/kubepods/pod{uid}"), security: Some(security) }),
        };
        let request = api::RunPodSandbox { config: Some(config.clone()) };
        let api::Id { id } = self.call("RunPodSandbox", request).context("cannot run a pod")?;
        Ok(Pod { containerd: self, id, uid, config })
    }

    fn wait(&self) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        while let Err(error) = self.call::<_, api::Id>("Version", api::Id::default()) {
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                bail!("containerd does not answer: {error:#}\n{log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn import(&self) -> Result<()> {
        let path = self.directory.path();
        let root = path.join("image");
        fs::create_dir(&root)?;
        container::image(&root)?;
        let (archive, _) = image::pack(path, &root, IMAGE, &["/bin/busybox", "sleep", "100000"])?;
        let mut command = Command::new("ctr");
        command.arg("--address").arg(path.join("containerd.sock")).args(["--namespace", "k8s.io", "images", "import"]);
        process::run(command.arg(archive), LIMIT)?.successful().context("cannot import the image").map(drop)
    }

    fn call<Q, A>(&self, method: &str, request: Q) -> Result<A>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let path: PathAndQuery = format!("/runtime.v1.RuntimeService/{method}").parse()?;
        let mut client = Grpc::new(self.channel.clone());
        self.runtime.block_on(async {
            client.ready().await?;
            let answer = client.unary(Request::new(request), path, ProstCodec::<Q, A>::default()).await;
            Ok(answer.map_err(|status| anyhow::anyhow!("{method}: {}", status.message()))?.into_inner())
        })
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.presence.end(|| cgroup::remove_empty(&["/kubepods".to_owned()]));
    }
}

/// A pod. Dropping it ends it and its containers.
#[derive(Debug)]
pub struct Pod<'c> {
    containerd: &'c Containerd,
    id: String,
    uid: String,
    config: api::Sandbox,
}

impl Pod<'_> {
    /// Its uid.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// Starts a container and returns its id.
    pub fn run(&self, name: &str, command: &[&str], change: impl FnOnce(&mut api::Container)) -> Result<String> {
        let mut labels = self.config.labels.clone();
        labels.insert("io.kubernetes.container.name".to_owned(), name.to_owned());
        let mut config = api::Container {
            metadata: Some(api::ContainerName { name: name.to_owned() }),
            image: Some(api::Image { image: IMAGE.to_owned() }),
            command: command.iter().map(|argument| (*argument).to_owned()).collect(),
            labels,
            linux: Some(api::LinuxContainer { security: Some(self.security()) }),
            ..Default::default()
        };
        change(&mut config);
        let request = api::CreateContainer {
            sandbox_id: self.id.clone(),
            config: Some(config),
            sandbox: Some(self.config.clone()),
        };
        let created: api::Id = self.containerd.call("CreateContainer", request).context("cannot create a container")?;
        self.containerd.call::<_, api::Id>("StartContainer", created.clone()).context("cannot start a container")?;
        Ok(created.id)
    }

    /// What the kubelet asks for by default: the pod's namespaces, the usual masks.
    fn security(&self) -> api::Security {
        let of_pod = self.config.linux.as_ref().and_then(|linux| linux.security.as_ref()?.namespaces.clone());
        let masked_paths = ["/proc/kcore", "/proc/keys", "/sys/firmware"].map(str::to_owned).to_vec();
        api::Security { namespaces: of_pod, masked_paths, seccomp: Some(api::Profile::default()), ..Default::default() }
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        let id = || api::Id { id: self.id.clone() };
        let _ = self.containerd.call::<_, api::Id>("StopPodSandbox", id());
        let _ = self.containerd.call::<_, api::Id>("RemovePodSandbox", id());
        cgroup::remove(&format!("/kubepods/pod{}", self.uid));
    }
}

/// Everything below one directory; nothing of the machine's own containerd is touched.
fn config(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        r#"version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "{directory}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{IMAGE}"
  disable_tcp_service = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "{directory}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"#
    )
}
