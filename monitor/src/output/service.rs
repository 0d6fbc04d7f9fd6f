//! The agent's gRPC server: findings, what the agent says of itself, health, reflection.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::timeout,
};
use tokio_stream::Stream;
use tonic::{
    Request, Response,
    transport::{Server, server::Connected},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::{
    hub::Hub,
    listen::{Bounds, Listener, connections},
    metrics::Page,
    socket::Socket,
    subscribe,
};
use crate::proto::v1::{
    FILE_DESCRIPTOR_SET, GetInfoRequest, GetInfoResponse, GetStatusRequest, GetStatusResponse, ListRulesRequest,
    ListRulesResponse,
    agent_server::{Agent, AgentServer},
};

/// How long consumers have to take what is left when the agent ends.
const FAREWELL: Duration = Duration::from_secs(1);
/// After how long in silence a connection is asked whether it still lives, and how long it may take to answer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// How often health looks at the parts that do not report by themselves.
const LOOK_AT_PARTS: Duration = Duration::from_secs(1);
/// Bytes that a consumer may send ahead: requests are small.
const WINDOWS: (u32, u32) = (64 << 10, 128 << 10);
/// Requests that one connection may have open.
const CONCURRENT_STREAMS: u32 = 64;

/// Name of the health service that tells whether the sensor delivers.
pub const SENSOR_SERVICE: &str = "sensor";
/// Services that are healthy as long as they answer.
pub const ANSWERING_SERVICES: [&str; 2] = ["monitor.v1.Findings", "monitor.v1.Agent"];

/// What the agent knows of itself. Both are asked for by any consumer at any time: cheap, and without waiting.
pub trait Status: Send + Sync + 'static {
    /// Who it is. The epoch is the hub's and need not be filled in.
    fn info(&self) -> GetInfoResponse;

    /// How it is doing. Subscribers need not be filled in.
    fn status(&self) -> GetStatusResponse;

    /// The rules in use.
    fn rules(&self) -> ListRulesResponse;

    /// Whether the sensor delivers, for `grpc.health.v1`; followed until its sender is dropped, which counts as "no".
    fn sensor(&self) -> watch::Receiver<bool>;

    /// The parts, and why one is not well.
    fn parts(&self) -> Vec<Part> {
        Vec::new()
    }

    /// Puts what it counts on a page.
    fn metrics(&self, _page: &mut Page) {}
}

/// A part of the agent, as health has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is called; also its service in `grpc.health.v1`.
    pub name: String,
    /// Why it is not well, if it is not.
    pub why: Option<String>,
    /// Whether the agent is of use without it: no.
    pub needed: bool,
    /// Whether restarting the agent may mend it.
    pub vital: bool,
}

/// Why serving ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The listener could not be used.
    #[error("the gRPC socket cannot be used: {0}")]
    Listener(#[source] io::Error),
    /// The descriptors do not describe a service. They are built in, so this is a fault of the build.
    #[error("gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The server failed.
    #[error("gRPC server: {0}")]
    Server(#[from] tonic::transport::Error),
}

/// Serves on a unix socket until `shutdown` is ready, then closes the hub, gives consumers a second to take what is left,
/// and removes the socket.
pub async fn serve(
    socket: Socket,
    hub: Arc<Hub>,
    status: Arc<dyn Status>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let listener = socket.listener().map_err(ServeError::Listener)?;
    let result = serve_listener(Listener::Unix(listener), hub, status, shutdown).await;
    drop(socket);
    result
}

/// The same on any listener. What it takes in is bounded.
pub async fn serve_listener(
    listener: Listener,
    hub: Arc<Hub>,
    status: Arc<dyn Status>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    serve_connections(connections(listener, Bounds::default()), hub, status, shutdown).await
}

/// The same on any source of connections.
pub async fn serve_connections<C>(
    connections: impl Stream<Item = io::Result<C>>,
    hub: Arc<Hub>,
    status: Arc<dyn Status>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError>
where
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let (reporter, health) = tonic_health::server::health_reporter();
    for service in ANSWERING_SERVICES {
        reporter.set_service_status(service, ServingStatus::Serving).await;
    }
    let (reflection, older_reflection) = (reflection(), reflection().build_v1alpha()?);
    let (ending, mut ended) = watch::channel(false);
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .max_concurrent_streams(CONCURRENT_STREAMS)
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .http2_max_header_list_size(16 << 10)
        .add_service(subscribe::service(Arc::clone(&hub)))
        .add_service(AgentServer::new(Service { hub: Arc::clone(&hub), status: Arc::clone(&status) }))
        .add_service(health)
        .add_service(reflection.build_v1()?)
        .add_service(older_reflection)
        .serve_with_incoming_shutdown(connections, async move {
            // A dropped sender ends serving too.
            let _ = ended.wait_for(|ended| *ended).await;
        });
    tokio::pin!(server, shutdown);
    tokio::select! {
        result = &mut server => return Ok(result?),
        never = follow(&reporter, &*status) => match never {},
        () = &mut shutdown => {}
    }
    hub.close();
    ending.send_replace(true);
    // A consumer that does not read must not keep the agent from ending.
    timeout(FAREWELL, server).await.unwrap_or(Ok(()))?;
    Ok(())
}

/// What describes the contract to whoever asks. Served in both versions: tools of some years ago know the older one alone.
pub(super) fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Keeps the health of the sensor, and of the agent as a whole, as the sensor reports it, and looks at the other parts.
async fn follow(reporter: &HealthReporter, status: &dyn Status) -> Infallible {
    let mut sensor = status.sensor();
    loop {
        let delivers = *sensor.borrow_and_update();
        announce(reporter, delivers).await;
        for part in status.parts().iter().filter(|part| part.name != SENSOR_SERVICE) {
            let status = if part.why.is_none() { ServingStatus::Serving } else { ServingStatus::NotServing };
            reporter.set_service_status(&part.name, status).await;
        }
        if let Ok(Err(_)) = timeout(LOOK_AT_PARTS, sensor.changed()).await {
            announce(reporter, false).await;
            return std::future::pending().await;
        }
    }
}

async fn announce(reporter: &HealthReporter, delivers: bool) {
    let status = if delivers { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in ["", SENSOR_SERVICE] {
        reporter.set_service_status(service, status).await;
    }
}

struct Service {
    hub: Arc<Hub>,
    status: Arc<dyn Status>,
}

#[tonic::async_trait]
impl Agent for Service {
    async fn get_info(&self, _: Request<GetInfoRequest>) -> Result<Response<GetInfoResponse>, tonic::Status> {
        Ok(Response::new(GetInfoResponse { epoch: self.hub.epoch().to_owned(), ..self.status.info() }))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, tonic::Status> {
        let subscribers = u32::try_from(self.hub.subscribers()).unwrap_or(u32::MAX);
        Ok(Response::new(GetStatusResponse { subscribers, ..self.status.status() }))
    }

    async fn list_rules(&self, _: Request<ListRulesRequest>) -> Result<Response<ListRulesResponse>, tonic::Status> {
        Ok(Response::new(self.status.rules()))
    }
}
