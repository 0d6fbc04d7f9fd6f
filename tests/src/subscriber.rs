//! A gRPC client of the agent's unix socket, on a thread of its own, that keeps what it receives.
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use hyper_util::rt::TokioIo;
use monitor::proto::v1::{
    self, Filter, Finding, LossReport, Open, ProfilesChange, RulesChange, StartFrom, SubscribeRequest,
    findings_client::FindingsClient, subscribe_request, subscribe_response::Response,
};
use tokio::net::UnixStream;
use tokio_stream::StreamExt as _;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint, Uri},
};
use tower::service_fn;

use crate::agent::PATIENCE;

/// What a subscriber has received.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Findings, in the order of their arrival.
    pub findings: Vec<Finding>,
    /// What the agent said is missing.
    pub losses: Vec<LossReport>,
    /// Changes of the rules.
    pub changes: Vec<RulesChange>,
    /// Changes of the node's seccomp profiles.
    pub profiles: Vec<ProfilesChange>,
    /// How the stream ended: the status' code and message, empty for a clean end; `None` while it is open.
    pub ended: Option<String>,
}

/// A subscription to an agent's findings.
#[derive(Debug)]
pub struct Subscriber(Arc<(Mutex<Received>, Condvar)>);

impl Subscriber {
    /// Subscribes to everything from the earliest finding on, and begins to read. Returns when the agent has answered.
    pub fn earliest(socket: &Path) -> Result<Self> {
        Self::open(
            socket,
            Open { consumer: "tests".to_owned(), start_from: StartFrom::Earliest.into(), ..Default::default() },
        )
    }

    /// As [`earliest`](Self::earliest), with a filter.
    pub fn filtered(socket: &Path, filter: Filter) -> Result<Self> {
        Self::open(
            socket,
            Open {
                consumer: "tests".to_owned(),
                start_from: StartFrom::Earliest.into(),
                filter: Some(filter),
                ..Default::default()
            },
        )
    }

    /// Subscribes as `open` says, and begins to read.
    pub fn open(socket: &Path, open: Open) -> Result<Self> {
        let shared = Arc::new((Mutex::new(Received::default()), Condvar::new()));
        let subscriber = Self(Arc::clone(&shared));
        let socket = socket.to_owned();
        let (opened, answer) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                match subscribe(socket, open).await {
                    Ok(stream) => {
                        let _ = opened.send(Ok(()));
                        Self(shared).read(stream).await;
                    }
                    Err(error) => _ = opened.send(Err(error)),
                }
            });
        });
        answer.recv_timeout(PATIENCE).context("the agent does not answer a subscription")??;
        Ok(subscriber)
    }

    async fn read(&self, mut stream: Streaming<v1::SubscribeResponse>) {
        let ended = loop {
            match stream.next().await {
                Some(Ok(response)) => self.update(|received| take(received, response)),
                Some(Err(status)) => break format!("{:?}: {}", status.code(), status.message()),
                None => break String::new(),
            }
        };
        self.update(|received| received.ended = Some(ended));
    }

    fn update(&self, change: impl FnOnce(&mut Received)) {
        change(&mut self.lock());
        self.0.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Received> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has arrived so far.
    pub fn received(&self) -> Received {
        self.lock().clone()
    }

    /// Waits until `done`; an error after [`PATIENCE`] or at the end of the stream.
    pub fn wait(&self, what: &str, mut done: impl FnMut(&Received) -> bool) -> Result<Received> {
        let waited =
            self.0.1.wait_timeout_while(self.lock(), PATIENCE, |received| !done(received) && received.ended.is_none());
        let received = waited.unwrap_or_else(PoisonError::into_inner).0.clone();
        if !done(&received) {
            bail!(
                "{what}: not among {} findings, losses {:?}, changes {:?}, {:?}, ended {:?}",
                received.findings.len(),
                received.losses,
                received.changes,
                received.profiles,
                received.ended
            );
        }
        Ok(received)
    }

    /// Waits for the end of the stream.
    pub fn finish(&self) -> Result<Received> {
        self.wait("the end of the stream", |received| received.ended.is_some())
    }
}

/// Sorts a response into what was received.
fn take(received: &mut Received, response: v1::SubscribeResponse) {
    match response.response {
        Some(Response::Batch(batch)) => received.findings.extend(batch.findings),
        Some(Response::Loss(loss)) => received.losses.push(loss),
        Some(Response::RulesChange(change)) => received.changes.push(change),
        Some(Response::ProfilesChange(change)) => received.profiles.push(change),
        Some(Response::Heartbeat(_)) | None => {}
    }
}

/// A channel to the socket.
pub async fn connect(socket: PathBuf) -> Result<Channel> {
    let connector = service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Ok(Endpoint::from_static("http://localhost").connect_timeout(PATIENCE).connect_with_connector(connector).await?)
}

/// Opens a subscription; the request half stays open as long as the response half is read.
pub async fn subscribe(socket: PathBuf, open: Open) -> Result<Streaming<v1::SubscribeResponse>> {
    let first = SubscribeRequest { request: Some(subscribe_request::Request::Open(open)) };
    let requests = tokio_stream::once(first).chain(tokio_stream::pending());
    let mut client = FindingsClient::new(connect(socket).await?);
    Ok(tokio::time::timeout(PATIENCE, client.subscribe(requests)).await.context("no answer")??.into_inner())
}

/// Reads until `done` or until nothing more comes for `quiet`.
pub async fn drain(
    stream: &mut Streaming<v1::SubscribeResponse>,
    quiet: Duration,
    done: impl Fn(&Received) -> bool,
) -> Result<Received> {
    let mut received = Received::default();
    while !done(&received) {
        match tokio::time::timeout(quiet, stream.next()).await.context("nothing more comes")? {
            Some(response) => take(&mut received, response?),
            None => received.ended = Some(String::new()),
        }
        if received.ended.is_some() {
            break;
        }
    }
    Ok(received)
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use monitor::proto::v1::{
        Batch, SubscribeResponse,
        findings_server::{Findings, FindingsServer},
    };
    use tokio_stream::Stream;
    use tonic::{Request, Response as Reply, Status, transport::Server};

    use super::*;

    /// A server that sends two findings and a loss report, and ends.
    struct Brief;

    #[tonic::async_trait]
    impl Findings for Brief {
        type SubscribeStream = Pin<Box<dyn Stream<Item = Result<SubscribeResponse, Status>> + Send>>;

        async fn subscribe(
            &self,
            request: Request<Streaming<SubscribeRequest>>,
        ) -> Result<Reply<Self::SubscribeStream>, Status> {
            let first = request.into_inner().message().await?.and_then(|first| first.request);
            let Some(subscribe_request::Request::Open(open)) = first else {
                return Err(Status::invalid_argument("no open"));
            };
            let finding = |sequence| Finding { sequence, rule: open.consumer.clone(), ..Default::default() };
            let batch = Response::Batch(Batch { findings: vec![finding(1), finding(2)], cursor: String::new() });
            let cause = "expired".to_owned();
            let loss = Response::Loss(LossReport { findings: 3, cause, ..LossReport::default() });
            let responses = [batch, loss].map(|response| Ok(SubscribeResponse { response: Some(response) }));
            Ok(Reply::new(Box::pin(tokio_stream::iter(responses))))
        }

        async fn list(&self, _: Request<v1::ListRequest>) -> Result<Reply<v1::ListResponse>, Status> {
            Err(Status::unimplemented("list"))
        }
    }

    #[test]
    fn everything_up_to_the_end_of_the_stream_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("brief.sock");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _inside = runtime.enter();
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
        runtime.spawn(Server::builder().add_service(FindingsServer::new(Brief)).serve_with_incoming(incoming));
        let received = Subscriber::earliest(&socket).unwrap().finish().unwrap();
        let sequences: Vec<u64> = received.findings.iter().map(|finding| finding.sequence).collect();
        assert_eq!((sequences, received.losses.len(), received.ended.as_deref()), (vec![1, 2], 1, Some("")));
        assert!(received.findings.iter().all(|finding| finding.rule == "tests"));
    }

    #[test]
    fn a_socket_that_nobody_serves_is_an_error() {
        assert!(Subscriber::earliest(Path::new("/nonexistent.sock")).is_err());
    }
}
