//! What gRPC peers of a running agent see: health, reflection, filters, and that a slow one holds up nobody.
use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use monitor::proto::v1::{Filter, GetInfoRequest, GetStatusRequest, Kind, Open, StartFrom, agent_client::AgentClient};
use tests::{
    agent::{Agent, PATIENCE},
    container::{Container, Runtime},
    environment::{can_run_live, can_run_live_with},
    seccomp::Profile,
    subscriber::{Received, Subscriber, connect, drain, subscribe},
};
use tokio_stream::StreamExt as _;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

/// More than the windows of a connection and the agent's own queue for a subscriber should hold.
const MANY: usize = 6000;

/// Findings made at once: few enough that who reads keeps up on a busy machine.
const PORTION: usize = 200;

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// Makes `count` findings in one container, and gives its id.
fn denied(count: usize) -> Result<String> {
    let profile = Profile::new().errno(&["getpgid"], 1);
    let container = Container::new(Runtime::any(), &["/bin/workload", "denied", &count.to_string()], Some(&profile))?;
    container.run()?.successful()?;
    Ok(container.id().to_owned())
}

/// Makes [`MANY`] findings in one container, and gives its id.
fn denied_in_portions() -> Result<String> {
    let profile = Profile::new().errno(&["getpgid"], 1);
    let portions = MANY / PORTION;
    let script = format!(
        "i=0; while [ $i -lt {portions} ]; do /bin/workload denied {PORTION} || exit 1; /bin/sleep 0.05; i=$((i+1)); done"
    );
    let container = Container::script(Runtime::any(), &script, Some(&profile))?;
    container.run()?.successful()?;
    Ok(container.id().to_owned())
}

async fn services(socket: PathBuf) -> Result<Vec<String>> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(connect(socket).await?);
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await?.into_inner();
    let answer = answers.next().await.context("no answer")??;
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        anyhow::bail!("{answer:?}")
    };
    Ok(list.service.into_iter().map(|service| service.name).collect())
}

#[test]
fn health_reflection_and_the_agents_own_account_are_served() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    let agent = Agent::start(&[])?;
    let socket = agent.socket();
    runtime()?.block_on(async {
        let channel = connect(socket.clone()).await?;
        for service in ["", "monitor.v1.Findings", "monitor.v1.Agent"] {
            let health =
                HealthClient::new(channel.clone()).check(HealthCheckRequest { service: service.to_owned() }).await?;
            assert_eq!(health.into_inner().status(), ServingStatus::Serving, "{service:?}");
        }
        let services = services(socket).await?;
        for service in ["monitor.v1.Findings", "monitor.v1.Agent", "grpc.health.v1.Health"] {
            assert!(services.iter().any(|name| name == service), "{service} is not among {services:?}");
        }
        let mut client = AgentClient::new(channel);
        let info = client.get_info(GetInfoRequest {}).await?.into_inner();
        assert!(!info.version.is_empty() && !info.epoch.is_empty() && !info.rules.is_empty(), "{info:?}");
        let status = client.get_status(GetStatusRequest {}).await?.into_inner();
        assert_eq!((status.subscribers, status.lost_records), (0, 0), "{status:?}");
        anyhow::Ok(())
    })?;
    ensure!(agent.stop()?.status.success());
    Ok(())
}

#[test]
fn a_subscriber_that_does_not_read_holds_up_nobody_and_learns_what_it_missed() -> Result<()> {
    if !can_run_live_with(Runtime::any()) {
        return Ok(());
    }
    // Each denial by itself, so that there are many findings.
    let agent = Agent::start(&["--seccomp-window", "0s"])?;
    let runtime = runtime()?;
    let open = Open { consumer: "slow".to_owned(), start_from: StartFrom::Earliest.into(), ..Default::default() };
    let mut slow = runtime.block_on(subscribe(agent.socket(), open))?;
    let quick = Subscriber::earliest(&agent.socket())?;
    let id = denied_in_portions()?;
    agent.fence()?;
    let of = |received: &Received| {
        received.findings.iter().filter(|finding| finding.container.as_ref().is_some_and(|c| c.id == id)).count()
    };
    let printed = agent.findings()?.len();
    let received = quick.wait("everything", |received| accounted(received) >= printed)?;
    assert_eq!(
        (&received.losses, of(&received)),
        (&Vec::new(), MANY),
        "who reads loses nothing, beside one who does not"
    );

    // The slow one reads at last: whatever it does not get, it is told of.
    let late = runtime.block_on(drain(&mut slow, PATIENCE, |late| accounted(late) >= printed))?;
    let sequences: Vec<u64> = late.findings.iter().map(|finding| finding.sequence).collect();
    assert!(sequences.is_sorted_by(|before, after| before < after), "in order, none twice");
    assert!(!late.losses.is_empty(), "more was made than the agent keeps");
    assert_eq!(accounted(&late), printed);
    let stopped = agent.stop()?;
    assert_eq!(stopped.summary.lost, 0, "a slow subscriber does not hold up the sensor");
    Ok(())
}

/// Findings that were received or reported lost.
fn accounted(received: &Received) -> usize {
    let lost: u64 = received.losses.iter().map(|loss| loss.findings).sum();
    received.findings.len() + usize::try_from(lost).unwrap_or(usize::MAX)
}

#[test]
fn a_filter_passes_only_what_it_names() -> Result<()> {
    if !can_run_live_with(Runtime::any()) {
        return Ok(());
    }
    let agent = Agent::start(&[])?;
    let drift =
        Subscriber::filtered(&agent.socket(), Filter { kinds: vec![Kind::Drift.into()], ..Default::default() })?;
    let seccomp = Subscriber::filtered(
        &agent.socket(),
        Filter { kinds: vec![Kind::SeccompViolation.into()], ..Default::default() },
    )?;
    let id = denied(2)?;
    agent.fence()?;
    agent.stop()?;
    let (drift, seccomp) = (drift.finish()?.findings, seccomp.finish()?.findings);
    assert!(!drift.is_empty() && drift.iter().all(|finding| finding.kind() == Kind::Drift));
    assert!(seccomp.iter().all(|finding| finding.kind() == Kind::SeccompViolation));
    let denials =
        seccomp.iter().filter(|finding| finding.container.as_ref().is_some_and(|container| container.id == id));
    assert_eq!(denials.count(), 2);
    Ok(())
}

#[test]
fn a_subscriber_that_goes_away_is_forgotten() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    let agent = Agent::start(&[])?;
    let runtime = runtime()?;
    let subscribers = || -> Result<u32> {
        runtime.block_on(async {
            let mut client = AgentClient::new(connect(agent.socket()).await?);
            Ok(client.get_status(GetStatusRequest {}).await?.into_inner().subscribers)
        })
    };
    let open = || Open { consumer: "brief".to_owned(), start_from: StartFrom::Tail.into(), ..Default::default() };
    // Connections of their own, which end with their runtime: a dropped response alone leaves the request half open.
    let consumers = self::runtime()?;
    let streams = (
        consumers.block_on(subscribe(agent.socket(), open()))?,
        consumers.block_on(subscribe(agent.socket(), open()))?,
    );
    assert_eq!(subscribers()?, 2);
    drop(streams);
    drop(consumers);
    let deadline = std::time::Instant::now() + PATIENCE;
    while subscribers()? > 0 {
        ensure!(std::time::Instant::now() < deadline, "{} subscribers are still counted", subscribers()?);
        std::thread::sleep(Duration::from_millis(20));
    }
    agent.stop()?;
    Ok(())
}

#[test]
fn a_subscription_that_does_not_begin_with_open_is_refused() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    let agent = Agent::start(&[])?;
    let refused = runtime()?.block_on(async {
        let mut client = monitor::proto::v1::findings_client::FindingsClient::new(connect(agent.socket()).await?);
        let requests = tokio_stream::once(monitor::proto::v1::SubscribeRequest { request: None });
        let answer = tokio::time::timeout(PATIENCE, client.subscribe(requests)).await.context("no answer")?;
        let status = match answer {
            Err(status) => Some(status),
            Ok(stream) => tokio::time::timeout(PATIENCE, stream.into_inner().message()).await.context("no end")?.err(),
        };
        anyhow::Ok(status.context("it was accepted")?)
    })?;
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused:?}");
    agent.stop()?;
    Ok(())
}
