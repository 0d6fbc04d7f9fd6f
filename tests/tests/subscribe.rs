//! What a consumer asks a running agent for is what it gets: over mutual TLS, since a time, by credit, and no more fields than
//! it wants.
use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use monitor::proto::v1::{
    Credit, Filter, Finding, Open, StartFrom, SubscribeRequest, SubscribeResponse, findings_client::FindingsClient,
    subscribe_request::Request, subscribe_response::Response,
};
use serde_json::Value;
use tests::{
    agent::{Agent, PATIENCE, monitor},
    container::{Container, Runtime},
    environment::can_run_live_with,
    finding,
    pki::Authority,
    process::{self, Finished},
    producer::{Place, wait},
    seccomp::Profile,
    subscriber::{Subscriber, connect},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Denied calls that the container makes.
const DENIED: usize = 12;

/// Tells each denial by itself, so that there are as many findings as calls.
const EACH: [&str; 2] = ["--seccomp-window", "0s"];

/// Makes so many findings in one container, and gives its id.
fn denied(count: usize) -> Result<String> {
    let profile = Profile::new().errno(&["getpgid"], 1);
    let container = Container::new(Runtime::any(), &["/bin/workload", "denied", &count.to_string()], Some(&profile))?;
    container.run()?.successful()?;
    Ok(container.id().to_owned())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Findings of one container: beside it others run, those of other tests too.
fn of(container: &str) -> Filter {
    Filter { r#where: format!("container.full_id = {container}"), ..Filter::default() }
}

/// `monitor tail` on a port, with these certificates, to its end.
fn tail(place: &Place, port: u16, ca: &str, identity: Option<&str>, args: &[&str]) -> Result<Finished> {
    let path = |name: &str| place.path(name).display().to_string();
    let mut words = vec!["tail".to_owned(), "--once".to_owned(), "-o".to_owned(), "json".to_owned()];
    words.extend(["--endpoint".to_owned(), format!("https://localhost:{port}"), "--ca".to_owned(), path(ca)]);
    if let Some(name) = identity {
        let (certificate, key) = (path(&format!("{name}.crt")), path(&format!("{name}.key")));
        words.extend(["--certificate".to_owned(), certificate, "--key".to_owned(), key]);
    }
    monitor(words.iter().map(String::as_str).chain(args.iter().copied()))
}

#[test]
fn tail_follows_an_agent_by_mutual_tls_and_strangers_are_not_let_in() -> Result<()> {
    if !can_run_live_with(Runtime::any()) {
        return Ok(());
    }
    let (place, port) = (Place::new()?, free_port()?);
    let (ca, stranger) = (Authority::new("ca")?, Authority::new("stranger")?);
    ca.write(&place.path("ca.crt"))?;
    stranger.write(&place.path("other.crt"))?;
    let issue = |authority: &Authority, host: &str, name: &str| {
        authority.issue(host)?.write(&place.path(&format!("{name}.crt")), &place.path(&format!("{name}.key")))
    };
    issue(&ca, "localhost", "agent")?;
    issue(&ca, "consumer", "consumer")?;
    issue(&stranger, "consumer", "stranger")?;
    let path = |name: &str| place.path(name).display().to_string();
    let serve = format!(
        "serve: {{listen: '127.0.0.1:{port}', certificate_file: {}, key_file: {}, client_ca_file: {}}}\n",
        path("agent.crt"),
        path("agent.key"),
        path("ca.crt")
    );
    place.configure("", &serve)?;
    let agent = Agent::start(&["-c", &path("config.yaml"), "--seccomp-window", "0s"])?;
    let id = denied(DENIED)?;
    agent.fence()?;
    let of_container = |findings: Vec<Value>| -> Vec<Value> {
        findings.into_iter().filter(|finding| finding::text(finding, "/container/id") == id).collect()
    };
    let printed = of_container(agent.findings()?);
    assert_eq!(printed.len(), DENIED);

    let count = agent.findings()?.len().to_string();
    for from in [["--from", "earliest"], ["--since", "10m"]] {
        let args = [&from[..], &["-n", &count]].concat();
        let finished = tail(&place, port, "ca.crt", Some("consumer"), &args)?.successful()?;
        let tailed = of_container(finding::parse(&finished.stdout_text())?);
        assert_eq!(tailed, printed, "{from:?}: what is tailed is what was printed");
    }
    let refused = |ca: &str, identity: Option<&str>| -> Result<String> {
        let finished = tail(&place, port, ca, identity, &["--from", "earliest", "-n", "1"])?;
        ensure!(!finished.status.success() && finished.stdout.is_empty(), "{finished:?}");
        Ok(finished.stderr)
    };
    refused("ca.crt", None)?;
    refused("ca.crt", Some("stranger"))?;
    let told = refused("other.crt", Some("consumer"))?;
    ensure!(told.contains("UnknownIssuer"), "who asks does not trust this agent: {told}");
    // In the clear there is nothing: not a byte comes back.
    let mut clear = TcpStream::connect(("127.0.0.1", port))?;
    clear.set_read_timeout(Some(PATIENCE))?;
    clear.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
    let mut answer = Vec::new();
    // The agent hangs up, orderly or not.
    let _ = clear.read_to_end(&mut answer);
    ensure!(!String::from_utf8_lossy(&answer).contains("monitor"), "{answer:?}");
    agent.wait_for_stderr("connection refused", 1)?;
    ensure!(agent.stop()?.status.success());
    Ok(())
}

#[test]
fn a_consumer_gets_what_was_observed_since_its_time_and_the_fields_that_it_wants() -> Result<()> {
    if !can_run_live_with(Runtime::any()) {
        return Ok(());
    }
    let agent = Agent::start(&EACH)?;
    let id = denied(DENIED)?;
    agent.fence()?;
    let open = Open { start_from: StartFrom::Earliest.into(), filter: Some(of(&id)), ..Open::default() };
    let all = Subscriber::open(&agent.socket(), open.clone())?;
    let all = all.wait("all", |received| received.findings.len() >= DENIED)?.findings;
    let since = all.get(DENIED / 2).context("the middle one")?.observed_time_unix_nano;
    let expected: Vec<u64> =
        all.iter().filter(|finding| finding.observed_time_unix_nano >= since).map(|finding| finding.sequence).collect();
    ensure!((1..all.len()).contains(&expected.len()), "the middle one is neither the first nor behind the last");
    let fields = prost_types::FieldMask { paths: vec!["rule".to_owned(), "container".to_owned()] };
    let open = Open { start_from: StartFrom::Since.into(), since_unix_nano: since, fields: Some(fields), ..open };
    let late = Subscriber::open(&agent.socket(), open)?;
    let late = late.wait("the later ones", |received| received.findings.len() >= expected.len())?.findings;
    let sequences: Vec<u64> = late.iter().map(|finding| finding.sequence).collect();
    assert_eq!(sequences, expected);
    for finding in &late {
        let whole = all.iter().find(|whole| whole.uid == finding.uid).context("the same uid")?;
        let asked_for = Finding {
            uid: whole.uid.clone(),
            sequence: whole.sequence,
            rule: whole.rule.clone(),
            container: whole.container.clone(),
            ..Finding::default()
        };
        assert_eq!(*finding, asked_for);
    }
    agent.stop()?;
    Ok(())
}

#[test]
fn an_agent_sends_no_more_than_there_is_credit_for() -> Result<()> {
    if !can_run_live_with(Runtime::any()) {
        return Ok(());
    }
    let agent = Agent::start(&EACH)?;
    let id = denied(DENIED)?;
    agent.fence()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (requests, stream) = mpsc::channel(4);
        let open = Open {
            start_from: StartFrom::Earliest.into(),
            filter: Some(of(&id)),
            initial_credit: 5,
            ..Open::default()
        };
        requests.send(SubscribeRequest { request: Some(Request::Open(open)) }).await?;
        let mut client = FindingsClient::new(connect(agent.socket()).await?);
        let mut responses = client.subscribe(ReceiverStream::new(stream)).await?.into_inner();
        let mut next = async || -> Result<Response> {
            let response: Option<SubscribeResponse> =
                tokio::time::timeout(PATIENCE, responses.message()).await.context("nothing comes")??;
            response.and_then(|response| response.response).context("the end")
        };
        let mut sequences = Vec::new();
        for (granted, expected) in [(0, 5), (4, 9), (1, 10)] {
            if granted > 0 {
                let credit = Credit { findings: granted };
                requests.send(SubscribeRequest { request: Some(Request::Credit(credit)) }).await?;
            }
            while sequences.len() < expected {
                if let Response::Batch(batch) = next().await? {
                    sequences.extend(batch.findings.iter().map(|finding| finding.sequence));
                }
            }
            assert_eq!(sequences.len(), expected, "not one more than there is credit for");
            // The next thing is a sign of life: the agent has more, and waits.
            let next = next().await?;
            ensure!(matches!(next, Response::Heartbeat(_)), "{next:?}");
        }
        assert!(sequences.is_sorted_by(|before, after| before < after), "in order, none twice: {sequences:?}");
        anyhow::Ok(())
    })?;
    agent.stop()?;
    Ok(())
}

/// Names of metrics that a page describes, without the suffix that counters have.
fn described(page: &str) -> BTreeSet<&str> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE monitor_"));
    let names = types.filter_map(|line| line.split_whitespace().next());
    names.map(|name| name.strip_suffix("_total").unwrap_or(name)).collect()
}

/// Names of metrics that `ARCHITECTURE.md` lists.
fn documented(architecture: &str) -> Result<BTreeSet<&str>> {
    let (_, list) = architecture.split_once("**Metrics**").context("the list")?;
    let list = list.split("*Test").next().unwrap_or_default();
    let words = list.split('`').skip(1).step_by(2).filter_map(|word| word.split('{').next());
    let names = words.filter(|word| *word != "_total");
    Ok(names.map(|name| name.strip_prefix("monitor_").unwrap_or(name)).collect())
}

fn page(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").context("no page")?.1.to_owned())
}

#[test]
fn the_metrics_of_an_agent_are_those_that_are_documented() -> Result<()> {
    // Several times as many as events of which one is timed.
    const MANY: usize = 5000;
    if !can_run_live_with(Runtime::any()) {
        return Ok(());
    }
    let (place, port) = (Place::new()?, free_port()?);
    let sink = place.path("sink.sock").display().to_string();
    let profiles = format!("{{from: {0}, root: {0}/seccomp}}", place.path("").display());
    fs::write(place.path("p.json"), r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#)?;
    let sinks = format!("sinks:\n  - name: s\n    endpoint: unix:{sink}\nseccomp_profiles: {profiles}\n");
    place.configure("", &format!("metrics:\n  listen: 127.0.0.1:{port}\n{sinks}"))?;
    let agent = Agent::start(&["-c", &place.path("config.yaml").display().to_string()])?;
    denied(MANY)?;
    wait("a rule that was timed", PATIENCE, || Ok(page(port)?.contains("monitor_rule_timed_seconds_total{rule=")))?;
    let page = page(port)?;
    let architecture = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../ARCHITECTURE.md"))?;
    assert_eq!(described(&page), documented(&architecture)?, "ARCHITECTURE.md lists what an agent shows");
    let seconds = page.lines().find_map(|line| line.strip_prefix("monitor_event_timed_seconds_total{event="));
    let seconds = seconds.and_then(|line| line.rsplit(' ').next()).context("a timed event")?.parse::<f64>()?;
    ensure!(seconds > 0.0, "{seconds} s for the rules on these events");
    promtool(&page)?;
    agent.stop()?;
    Ok(())
}

/// What Prometheus' own checker says of a page.
fn promtool(page: &str) -> Result<()> {
    if !std::path::Path::new("/usr/bin/promtool").exists() {
        eprintln!("SKIPPED (needs prometheus): promtool is not installed");
        ensure!(std::env::var("CI").as_deref() != Ok("true"), "cannot be skipped where CI=true");
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("page");
    fs::write(&path, page)?;
    let mut shell = Command::new("sh");
    shell.args(["-c", "promtool check metrics <\"$0\""]).arg(&path);
    process::run(&mut shell, Duration::from_mins(1))?.successful()?;
    Ok(())
}
