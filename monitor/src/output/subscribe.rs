//! The gRPC service `Findings`: one task per subscriber, which moves what its subscription has into the stream.
//!
//! A response is taken from the subscription only when the stream has room for it, so that a consumer that does not read
//! holds one batch in memory and otherwise only falls behind in the hub's ring.

use std::sync::Arc;

use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    history,
    hub::{Hub, Subscription},
};
use crate::proto::v1::{
    ListRequest, ListResponse, Open, SubscribeRequest, SubscribeResponse,
    findings_server::{Findings, FindingsServer},
    subscribe_request,
};

/// Longest request that is read.
const MAX_REQUEST_BYTES: usize = 64 << 10;
/// Longest name of a consumer.
const MAX_CONSUMER_BYTES: usize = 256;

/// The service, ready to be added to a server.
pub(super) fn service(hub: Arc<Hub>) -> FindingsServer<impl Findings> {
    FindingsServer::new(Service { hub }).max_decoding_message_size(MAX_REQUEST_BYTES)
}

struct Service {
    hub: Arc<Hub>,
}

type Outgoing = mpsc::Sender<Result<SubscribeResponse, Status>>;

#[tonic::async_trait]
impl Findings for Service {
    type SubscribeStream = ReceiverStream<Result<SubscribeResponse, Status>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (outgoing, responses) = mpsc::channel(1);
        let hub = Arc::clone(&self.hub);
        // The answer does not wait for the first request: some clients send nothing before they have its headers.
        tokio::spawn(async move {
            let mut incoming = request.into_inner();
            if let Err(status) = converse(&hub, &mut incoming, &outgoing).await {
                // The consumer may be gone, which needs no telling.
                let _ = outgoing.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        Ok(Response::new(history::list(&self.hub, request.into_inner()).await?))
    }
}

/// Serves one subscriber until it goes away, breaks the protocol, or the hub has nothing more.
async fn converse(
    hub: &Arc<Hub>,
    incoming: &mut Streaming<SubscribeRequest>,
    outgoing: &Outgoing,
) -> Result<(), Status> {
    let within = hub.limits().open_within;
    let open = tokio::select! {
        open = timeout(within, first(incoming)) => {
            open.map_err(|_| Status::deadline_exceeded(format!("no open within {within:?}")))??
        }
        () = outgoing.closed() => return Ok(()),
    };
    let consumer = open.consumer.clone();
    let mut subscription = hub.subscribe(open)?;
    tracing::debug!(?consumer, "consumer subscribed");
    let result = stream(&mut subscription, incoming, outgoing).await;
    tracing::debug!(?consumer, ?result, "consumer left");
    result
}

/// The first request, which must open the subscription.
async fn first(incoming: &mut Streaming<SubscribeRequest>) -> Result<Open, Status> {
    let request = incoming.message().await.map_err(malformed)?;
    let request = request.ok_or_else(|| Status::invalid_argument("the stream ended before it was opened"))?;
    match request.request {
        Some(subscribe_request::Request::Open(open)) if open.consumer.len() > MAX_CONSUMER_BYTES => {
            Err(Status::invalid_argument(format!("open.consumer: longer than {MAX_CONSUMER_BYTES} bytes")))
        }
        Some(subscribe_request::Request::Open(open)) => Ok(open),
        Some(subscribe_request::Request::Credit(_)) | None => {
            Err(Status::invalid_argument("request: the first must be open"))
        }
    }
}

async fn stream(
    subscription: &mut Subscription,
    incoming: &mut Streaming<SubscribeRequest>,
    outgoing: &Outgoing,
) -> Result<(), Status> {
    let mut listening = true;
    loop {
        let Ok(room) = outgoing.reserve().await else { return Ok(()) };
        let request = tokio::select! {
            response = subscription.next() => match response {
                Some(response) => {
                    room.send(Ok(response));
                    continue;
                }
                None => return Ok(()),
            },
            request = incoming.message(), if listening => request.map_err(malformed)?,
            () = outgoing.closed() => return Ok(()),
        };
        match request.map(|request| request.request) {
            None => listening = false,
            Some(Some(subscribe_request::Request::Credit(credit))) if subscription.add_credit(credit.findings) => {}
            Some(Some(subscribe_request::Request::Credit(_))) => {
                return Err(Status::invalid_argument("request: credit without an open that asked for it"));
            }
            Some(_) => return Err(Status::invalid_argument("request: nothing but credit may follow open")),
        }
    }
}

/// What could not be decoded is the consumer's mistake; tonic calls it internal.
fn malformed(status: Status) -> Status {
    match status.code() {
        tonic::Code::Internal => Status::invalid_argument(format!("request: {}", status.message())),
        _ => status,
    }
}
