//! What `monitor run` serves: gRPC on a unix socket and, where configured, over the network; metrics and health over HTTP.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{net::TcpListener, sync::watch};

use super::{run::Args, say, status::AgentStatus};
use crate::{
    config::Config,
    output::{
        hub::Hub,
        listen::Listener,
        metrics,
        service::{self, Status},
        socket::Socket,
        tls::Reloading,
    },
};

/// Everything bound, nothing served yet: what can fail cheaply fails first.
pub(super) struct Server {
    runtime: tokio::runtime::Runtime,
    socket: Option<Socket>,
    network: Option<Listener>,
    metrics: Option<TcpListener>,
}

impl Server {
    pub(super) fn bind(args: &Args, config: &Config) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("grpc")
            .enable_all()
            .build()
            .context("cannot start the gRPC server")?;
        let socket = (!args.no_socket).then(|| runtime.block_on(Socket::bind(&args.socket))).transpose()?;
        let listen = |address| {
            runtime.block_on(TcpListener::bind(address)).with_context(|| format!("cannot listen on {address}"))
        };
        let network = match &config.serve {
            None => None,
            Some((address, files)) => Some(Listener::Tls(listen(*address)?, Arc::new(Reloading::new(files.clone())?))),
        };
        let metrics = config.metrics.map(listen).transpose()?;
        Ok(Self { runtime, socket, network, metrics })
    }

    pub(super) fn start(self, hub: &Arc<Hub>, status: &Arc<AgentStatus>) -> Serving {
        let (end, _) = watch::channel(false);
        let mut tasks = Vec::new();
        let ended = || {
            let mut ended = end.subscribe();
            async move {
                // A dropped sender ends serving too.
                let _ = ended.wait_for(|ended| *ended).await;
            }
        };
        if let Some(socket) = self.socket {
            let (hub, status, ended) = (Arc::clone(hub), Arc::clone(status), ended());
            tasks.push(self.runtime.spawn(async move { tell(service::serve(socket, hub, status, ended).await) }));
        }
        if let Some(listener) = self.network {
            let (hub, status, ended) = (Arc::clone(hub), Arc::clone(status), ended());
            tasks.push(
                self.runtime.spawn(async move { tell(service::serve_listener(listener, hub, status, ended).await) }),
            );
        }
        if let Some(listener) = self.metrics {
            let status: Arc<dyn Status> = status.clone();
            tasks.push(self.runtime.spawn(metrics::serve(listener, status, ended())));
        }
        Serving { runtime: self.runtime, end, tasks }
    }
}

fn tell(result: Result<(), service::ServeError>) {
    if let Err(error) = result {
        say(format_args!("monitor: {error}"));
    }
}

/// The servers at work.
pub(super) struct Serving {
    runtime: tokio::runtime::Runtime,
    end: watch::Sender<bool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Serving {
    /// Gives consumers a moment to take what is left.
    pub(super) fn finish(self) {
        self.end.send_replace(true);
        for task in self.tasks {
            let _ = self.runtime.block_on(task);
        }
        self.runtime.shutdown_timeout(Duration::from_millis(100));
    }
}
