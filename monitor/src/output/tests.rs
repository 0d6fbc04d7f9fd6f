//! A real server and a real client over a real socket.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, UnixStream},
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use super::{
    hub::{Hub, Limits},
    sample, service,
    socket::Socket,
    tail::{self, End, Endpoint, Event, Options, Outcome, TailError},
};
use crate::proto::v1::{
    Finding, GetInfoRequest, GetInfoResponse, GetStatusRequest, GetStatusResponse, ListRulesRequest, ListRulesResponse,
    Open, RuleInUse, StartFrom, SubscribeRequest, SubscribeResponse, agent_client::AgentClient,
    findings_client::FindingsClient, subscribe_request, subscribe_response::Response,
};

mod malformed;

/// Nothing here takes as long on any machine.
const LONG: Duration = Duration::from_secs(30);

struct TestStatus(watch::Receiver<bool>);

impl service::Status for TestStatus {
    fn info(&self) -> GetInfoResponse {
        GetInfoResponse { version: "1.2.3".to_owned(), rules: vec!["Drift Execution".to_owned()], ..Default::default() }
    }

    fn status(&self) -> GetStatusResponse {
        GetStatusResponse { records: 10, findings: 2, ..Default::default() }
    }

    fn rules(&self) -> ListRulesResponse {
        let rule = RuleInUse { name: "Drift Execution".to_owned(), ..Default::default() };
        ListRulesResponse { rules: vec![rule] }
    }

    fn sensor(&self) -> watch::Receiver<bool> {
        self.0.clone()
    }
}

struct Agent {
    hub: Arc<Hub>,
    sensor: watch::Sender<bool>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), service::ServeError>>,
}

impl Agent {
    async fn start(path: &Path, hub: Arc<Hub>) -> Agent {
        let socket = Socket::bind(path).await.unwrap();
        let (sensor, delivers) = watch::channel(false);
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move { stopped.await.unwrap() };
        let served = tokio::spawn(service::serve(socket, Arc::clone(&hub), Arc::new(TestStatus(delivers)), shutdown));
        Agent { hub, sensor, stop, served }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.served.await.unwrap().unwrap();
    }
}

/// A directory with a socket path in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("monitor.sock");
    (directory, path)
}

fn options(path: &Path, start_from: StartFrom) -> Options {
    let endpoint = Endpoint::Unix(path.to_owned());
    Options { endpoint, consumer: "test".to_owned(), start_from, once: true, ..Options::default() }
}

async fn channel(path: &Path) -> Channel {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
    });
    tonic::transport::Endpoint::from_static("http://agent").connect_with_connector(connector).await.unwrap()
}

fn open(start_from: StartFrom) -> SubscribeRequest {
    let open = Open { start_from: start_from.into(), ..Open::default() };
    SubscribeRequest { request: Some(subscribe_request::Request::Open(open)) }
}

/// Reads until the tail ends by itself.
async fn collect(options: Options) -> (Outcome, Vec<Finding>) {
    let mut findings = Vec::new();
    let outcome = tail::run(options, |event| {
        if let Event::Finding(finding) = event {
            findings.push(finding.clone());
        }
        ControlFlow::Continue(())
    });
    let outcome = tokio::time::timeout(LONG, outcome).await.unwrap().unwrap();
    (outcome, findings)
}

#[tokio::test]
async fn a_consumer_gets_the_published_findings_in_order_and_unchanged() {
    let (_directory, path) = place();
    let agent = Agent::start(&path, Hub::new("e")).await;
    let published: Vec<Finding> =
        (1..=1000).map(|n| if n % 2 == 0 { sample::drift(n) } else { sample::seccomp(n) }).collect();
    agent.hub.publish(Arc::new(sample::drift(1)));
    let before = agent.hub.subscribers();
    let early = collect(Options { count: Some(1), ..options(&path, StartFrom::Earliest) }).await;
    assert_eq!(early.1, [sample::drift(1)]);
    assert_eq!((before, early.0.end, early.0.findings), (0, End::Count, 1));

    let (subscribed, standing) = oneshot::channel();
    let mut subscribed = Some(subscribed);
    let mut received = Vec::new();
    let reading = tail::run(options(&path, StartFrom::Tail), |event| {
        match event {
            Event::Subscribed => subscribed.take().unwrap().send(()).unwrap(),
            Event::Finding(finding) => received.push(finding.clone()),
            Event::Heartbeat(_) => {}
            other => panic!("{other:?}"),
        }
        ControlFlow::Continue(())
    });
    let driving = async {
        standing.await.unwrap();
        let (hub, findings) = (Arc::clone(&agent.hub), published[1..].to_vec());
        // From a plain thread, as the pipeline does.
        let pipeline = thread::spawn(move || findings.into_iter().for_each(|finding| hub.publish(Arc::new(finding))));
        tokio::task::spawn_blocking(|| pipeline.join().unwrap()).await.unwrap();
        agent.stop().await;
    };
    let (outcome, ()) = tokio::time::timeout(LONG, async { tokio::join!(reading, driving) }).await.unwrap();
    assert_eq!(outcome.unwrap().end, End::AgentStopped);
    assert_eq!(received, published[1..]);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_consumer_starts_over_or_goes_on_at_its_cursor() {
    let (_directory, path) = place();
    let agent = Agent::start(&path, Hub::new("e")).await;
    (1..=600).for_each(|n| agent.hub.publish(Arc::new(sample::drift(n))));
    let mut cursor = String::new();
    let mut seen = 0;
    let outcome = tail::run(options(&path, StartFrom::Earliest), |event| match event {
        Event::Finding(finding) if finding.sequence == 300 => ControlFlow::Break(()),
        Event::Finding(_) => {
            seen += 1;
            ControlFlow::Continue(())
        }
        _ => ControlFlow::Continue(()),
    });
    let outcome = tokio::time::timeout(LONG, outcome).await.unwrap().unwrap();
    assert_eq!((outcome.end, outcome.findings, seen), (End::Stopped, 300, 299));
    cursor.push_str(outcome.cursor.as_deref().unwrap());
    // The batch that it broke off in comes again: at least once.
    let (outcome, findings) = collect(Options { cursor, count: Some(344), ..options(&path, StartFrom::Cursor) }).await;
    assert_eq!(outcome.end, End::Count);
    let sequences: Vec<u64> = findings.iter().map(|finding| finding.sequence).collect();
    assert_eq!(sequences, (257..=600).collect::<Vec<_>>());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_never_reads_slows_nobody_and_is_told_the_exact_loss() {
    const MADE: u64 = 100_000;
    let (_directory, path) = place();
    let agent = Agent::start(&path, Hub::new("e")).await;
    let mut client = FindingsClient::new(channel(&path).await);
    let mut responses = client.subscribe(tokio_stream::once(open(StartFrom::Tail))).await.unwrap().into_inner();
    assert!(matches!(responses.message().await.unwrap().unwrap().response, Some(Response::Heartbeat(_))));

    // Nothing reads until all are published: if publishing waited for the reader, this would never end.
    let hub = Arc::clone(&agent.hub);
    let finding = sample::drift(0);
    let publishing = thread::spawn(move || {
        (1..=MADE).for_each(|sequence| hub.publish(Arc::new(Finding { sequence, ..finding.clone() })));
    });
    tokio::task::spawn_blocking(|| publishing.join().unwrap()).await.unwrap();
    agent.hub.close();

    let (mut received, mut lost, mut reached) = (0, 0, 0);
    while let Some(response) = tokio::time::timeout(LONG, responses.message()).await.unwrap().unwrap() {
        match response.response.unwrap() {
            Response::Batch(batch) => {
                for finding in batch.findings {
                    reached += 1;
                    assert_eq!(finding.sequence, reached);
                    received += 1;
                }
            }
            Response::Loss(report) => {
                assert_eq!(report.cause, "slow_subscriber");
                reached += report.findings;
                lost += report.findings;
            }
            other @ (Response::RulesChange(_) | Response::ProfilesChange(_)) => panic!("{other:?}"),
            Response::Heartbeat(_) => {}
        }
    }
    assert_eq!(received + lost, MADE);
    assert!(lost > MADE / 2, "the ring holds 4096: {lost}");
    assert!(received >= 4096, "what the ring holds is sent: {received}");
    agent.stop().await;
}

#[tokio::test]
async fn a_consumer_comes_back_when_the_agent_is_restarted() {
    let (_directory, path) = place();
    let agent = Agent::start(&path, Hub::new("first")).await;
    agent.hub.publish(Arc::new(sample::drift(1)));
    let (said, mut heard) = mpsc::unbounded_channel();
    let read = Options { once: false, count: Some(3), ..options(&path, StartFrom::Earliest) };
    let reading = tokio::spawn(tail::run(read, move |event| {
        said.send(match event {
            Event::Subscribed => "subscribed".to_owned(),
            Event::Finding(finding) => format!("finding {}", finding.sequence),
            Event::Loss(loss) => format!("loss {} {}", loss.cause, loss.findings),
            Event::RulesChange(change) => format!("rules {}", change.number),
            Event::ProfilesChange(change) => format!("profiles {}", change.number),
            Event::Heartbeat(_) => return ControlFlow::Continue(()),
            Event::Disconnected { reason, .. } => format!("disconnected: {reason}"),
        })
        .unwrap();
        ControlFlow::Continue(())
    }));
    let mut hear = async || tokio::time::timeout(LONG, heard.recv()).await.unwrap().unwrap();
    assert_eq!(hear().await, "subscribed");
    assert_eq!(hear().await, "finding 1");
    agent.stop().await;
    assert_eq!(hear().await, "disconnected: the agent stopped");
    // It may try in vain a few times before the new agent serves.
    let agent = Agent::start(&path, Hub::new("second")).await;
    agent.hub.publish(Arc::new(sample::drift(1)));
    agent.hub.publish(Arc::new(sample::drift(2)));
    let mut next = hear().await;
    while next.starts_with("disconnected: no socket at") || next.starts_with("disconnected: nobody serves") {
        next = hear().await;
    }
    assert_eq!(next, "subscribed");
    assert_eq!(hear().await, "loss expired 0");
    assert_eq!(hear().await, "finding 1");
    assert_eq!(hear().await, "finding 2");
    assert_eq!(reading.await.unwrap().unwrap().end, End::Count);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_ends_in_time_although_a_consumer_does_not_read() {
    let (_directory, path) = place();
    let agent = Agent::start(&path, Hub::new("e")).await;
    let mut client = FindingsClient::new(channel(&path).await);
    let _responses = client.subscribe(tokio_stream::once(open(StartFrom::Earliest))).await.unwrap();
    (1..=4000).for_each(|n| agent.hub.publish(Arc::new(sample::drift(n))));
    let started = Instant::now();
    agent.stop().await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(!path.exists());
}

#[tokio::test]
async fn health_follows_the_sensor() {
    let (_directory, path) = place();
    let agent = Agent::start(&path, Hub::new("e")).await;
    let mut health = HealthClient::new(channel(&path).await);
    let request = |service: &str| HealthCheckRequest { service: service.to_owned() };
    let mut watching = health.watch(request("sensor")).await.unwrap().into_inner();
    assert_eq!(watching.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    agent.sensor.send_replace(true);
    assert_eq!(watching.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    for service in ["", "monitor.v1.Findings", "sensor"] {
        let status = health.check(request(service)).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }
    assert_eq!(health.check(request("other")).await.unwrap_err().code(), Code::NotFound);
    drop(agent.sensor);
    assert_eq!(watching.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
}

#[tokio::test]
async fn reflection_lists_the_services_and_describes_findings() {
    let (_directory, path) = place();
    let agent = Agent::start(&path, Hub::new("e")).await;
    let mut reflection = ServerReflectionClient::new(channel(&path).await);
    let ask = |message_request| ServerReflectionRequest { host: String::new(), message_request: Some(message_request) };
    let requests = tokio_stream::iter([
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("monitor.v1.Finding".to_owned())),
    ]);
    let mut answers = reflection.server_reflection_info(requests).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = answers.message().await.unwrap().unwrap().message_response
    else {
        panic!()
    };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    for name in
        ["monitor.v1.Findings", "monitor.v1.Agent", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"]
    {
        assert!(names.iter().any(|listed| listed == name), "{name} in {names:?}");
    }
    let Some(MessageResponse::FileDescriptorResponse(file)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!()
    };
    assert_eq!(file.file_descriptor_proto.len(), 1);
    agent.stop().await;
}

#[tokio::test]
async fn the_agent_says_who_it_is_and_how_it_does() {
    let (_directory, path) = place();
    let agent = Agent::start(&path, Hub::new("e")).await;
    let mut client = AgentClient::new(channel(&path).await);
    let info = client.get_info(GetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.version.as_str(), info.epoch.as_str()), ("1.2.3", "e"));
    let _subscription = agent.hub.subscribe(Open::default()).unwrap();
    let status = client.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    let rules = client.list_rules(ListRulesRequest {}).await.unwrap().into_inner().rules;
    assert_eq!(rules.first().map(|rule| rule.name.as_str()), Some("Drift Execution"));
    assert_eq!(status, GetStatusResponse { records: 10, findings: 2, subscribers: 1, ..Default::default() });
    agent.stop().await;
}

#[tokio::test]
async fn a_loopback_port_serves_the_same() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint: Endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let hub = Hub::new("e");
    hub.publish(Arc::new(sample::drift(1)));
    let (_sensor, delivers) = watch::channel(true);
    let status = Arc::new(TestStatus(delivers));
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(service::serve_connections(TcpListenerStream::new(listener), hub, status, async {
        stopped.await.unwrap();
    }));
    let read = Options { endpoint, start_from: StartFrom::Earliest, count: Some(1), ..Options::default() };
    assert_eq!(collect(read).await.1, [sample::drift(1)]);
    stop.send(()).unwrap();
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_consumer_without_an_agent_is_told_what_to_do() {
    let (directory, path) = place();
    let fail = async |path: &Path| {
        let read = Options { once: false, ..options(path, StartFrom::Tail) };
        let reading = tail::run(read, |event| panic!("{event:?}"));
        tokio::time::timeout(LONG, reading).await.unwrap().unwrap_err()
    };
    let error = fail(&path).await;
    assert_eq!(
        error.to_string(),
        format!("no socket at {path:?}: is the agent running? start it with: sudo monitor run")
    );
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let error = fail(&path).await;
    assert!(matches!(error, TailError::NobodyServes(_)), "{error}");

    let other = directory.path().join("other.sock");
    let listener = tokio::net::UnixListener::bind(&other).unwrap();
    let answering = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 mail.example ESMTP\r\n").await.unwrap();
    });
    let error = fail(&other).await;
    assert!(matches!(error, TailError::NotAnAgent { .. }), "{error:?}");
    answering.await.unwrap();

    let agent = Agent::start(&path, Hub::new("e")).await;
    let read = Options { cursor: "nonsense".to_owned(), ..options(&path, StartFrom::Cursor) };
    let error = tail::run(read, |_| ControlFlow::Continue(())).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the agent refused the subscription: open.cursor: not a cursor of an agent (InvalidArgument)"
    );
    let outcome = tail::run(Options { count: Some(0), ..options(&path, StartFrom::Tail) }, |_| panic!()).await.unwrap();
    assert_eq!(outcome.end, End::Count);
    agent.stop().await;
}

#[tokio::test]
async fn a_lost_connection_is_an_error_to_who_reads_once_and_a_break_to_others() {
    let (_directory, path) = place();
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let upstream = path.with_extension("real");
    let agent = Agent::start(&upstream, Hub::new("e")).await;
    agent.hub.publish(Arc::new(sample::drift(1)));
    // A proxy that can be cut without the agent's word.
    let cuts: Arc<Mutex<Vec<oneshot::Sender<()>>>> = Arc::default();
    let proxy = tokio::spawn({
        let cuts = Arc::clone(&cuts);
        async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (cut, cutting) = oneshot::channel();
                cuts.lock().unwrap().push(cut);
                let mut server = UnixStream::connect(&upstream).await.unwrap();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = cutting => {}
                    }
                });
            }
        }
    });
    let cut = || drop(cuts.lock().unwrap().pop());
    let error = tail::run(options(&path, StartFrom::Earliest), |event| {
        if let Event::Finding(_) = event {
            cut();
        }
        ControlFlow::Continue(())
    });
    let error = tokio::time::timeout(LONG, error).await.unwrap().unwrap_err();
    assert!(matches!(error, TailError::Broken(_)), "{error:?}");

    let mut seen = Vec::new();
    let reading = tail::run(Options { once: false, count: Some(2), ..options(&path, StartFrom::Earliest) }, |event| {
        match event {
            Event::Finding(finding) => {
                seen.push(finding.sequence.to_string());
                cut();
            }
            Event::Disconnected { .. } => {
                seen.push("disconnected".to_owned());
                agent.hub.publish(Arc::new(sample::drift(2)));
            }
            other @ (Event::Loss(_) | Event::RulesChange(_) | Event::ProfilesChange(_)) => panic!("{other:?}"),
            Event::Subscribed | Event::Heartbeat(_) => {}
        }
        ControlFlow::Continue(())
    });
    tokio::time::timeout(LONG, reading).await.unwrap().unwrap();
    assert_eq!(seen, ["1", "disconnected", "2"]);
    proxy.abort();
    agent.stop().await;
}

#[test]
fn responses_fit_into_what_consumers_accept_by_default() {
    use prost::Message as _;
    let hub = Hub::new("e");
    let message = "x".repeat(64 << 10);
    (1..=120).for_each(|n| hub.publish(Arc::new(Finding { message: message.clone(), ..sample::drift(n) })));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let responses: Vec<SubscribeResponse> = runtime.block_on(async {
        let mut subscription =
            hub.subscribe(Open { start_from: StartFrom::Earliest.into(), ..Open::default() }).unwrap();
        hub.close();
        let mut responses = Vec::new();
        while let Some(response) = subscription.next().await {
            responses.push(response);
        }
        responses
    });
    assert!(responses.len() > 7);
    assert!(responses.iter().all(|response| response.encoded_len() < 4 << 20));
}
