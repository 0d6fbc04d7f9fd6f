//! Peers that others made: Python's gRPC as client and server, grpcurl, OTLP receivers, Prometheus; and hostile ones.
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    environment::python_tool,
    pki::Authority,
    process,
    producer::{Place, Running, status, wait},
};

const PATIENCE: Duration = Duration::from_mins(1);

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The stubs that Python makes of the contract, in a directory.
fn stubs(python: &Path, place: &Place) -> Result<PathBuf> {
    let directory = place.path("stubs");
    fs::create_dir_all(&directory)?;
    let proto = repository().join("monitor/proto");
    let mut command = Command::new(python);
    command.args(["-m", "grpc_tools.protoc", "-I"]).arg(&proto);
    command
        .arg(format!("--python_out={}", directory.display()))
        .arg(format!("--grpc_python_out={}", directory.display()));
    for file in ["finding", "findings", "delivery", "agent"] {
        command.arg(proto.join(format!("monitor/v1/{file}.proto")));
    }
    process::run(&mut command, PATIENCE)?.successful()?;
    Ok(directory)
}

/// A script that says `ready: port N`, and its port.
fn serve(command: &mut Command) -> Result<(Running, u16)> {
    let running = Running::start(command, "ready: port")?;
    let port = running.ready.rsplit(' ').next().context("no port")?.trim().parse()?;
    Ok((running, port))
}

fn sinks(port: u16, protocol: &str) -> String {
    format!(
        "sinks:\n  - name: peer\n    protocol: {protocol}\n    endpoint: http://127.0.0.1:{port}\n    retry: {{longest_ms: 200}}\n"
    )
}

fn delivered(place: &Place) -> Result<u64> {
    Ok(status(&place.path("agent.sock"))?.sinks.first().map_or(0, |sink| sink.delivered))
}

#[test]
fn python_takes_and_asks_for_findings_by_stubs_of_the_contract() -> Result<()> {
    let Some(python) = python_tool("python") else { return Ok(()) };
    let place = Place::new()?;
    let stubs = stubs(&python, &place)?;
    let example = |name: &str| repository().join("deploy/examples/python").join(name);
    let out = place.path("python.out");
    // Through a shell for the redirection: a running process has its standard output thrown away.
    let line =
        format!("exec {} {} 127.0.0.1:0 >{}", python.display(), example("sink_server.py").display(), out.display());
    let (_server, port) = serve(Command::new("sh").args(["-c", &line]).env("PYTHONPATH", &stubs))?;
    place.configure("", &sinks(port, "monitor"))?;
    let producer = place.produce(200, 100)?;
    wait("the sink in Python", PATIENCE, || Ok(delivered(&place)? == 100))?;
    let lines = fs::read_to_string(&out)?;
    let sequences: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).map(|finding| finding["sequence"].clone()))
        .collect::<Result<_, _>>()?;
    assert_eq!(sequences.len(), 100);

    let target = format!("unix://{}", place.path("agent.sock").display());
    let mut client = Command::new(&python);
    client.arg(example("tail_client.py")).arg(target).arg("100").env("PYTHONPATH", &stubs);
    let finished = process::run(&mut client, PATIENCE)?.successful()?;
    assert_eq!(finished.stdout_text().lines().count(), 100);
    ensure!(finished.stderr.contains("cursor: "), "{}", finished.stderr);
    producer.stop()?;
    Ok(())
}

#[test]
fn grpcurl_finds_its_way_by_reflection_alone() -> Result<()> {
    let Some(grpcurl) = python_tool("grpcurl") else { return Ok(()) };
    let place = Place::new()?;
    place.configure("", "")?;
    let producer = place.produce(500, 30)?;
    let socket = place.path("agent.sock");
    wait("findings", PATIENCE, || {
        Ok(status(&socket)?.spool.is_some_and(|spool| spool.entries >= 30 && spool.unsaved == 0))
    })?;
    let call = |data: &str, method: &str| {
        let mut command = Command::new(&grpcurl);
        command.args(["-plaintext", "-unix", "-authority", "localhost", "-d", data]).arg(&socket).arg(method);
        process::run(&mut command, PATIENCE)?.successful().map(|finished| finished.stdout_text())
    };
    let page: Value = serde_json::from_str(&call(
        r#"{"page_size": 20, "filter": {"where": "proc.name = unshare and proc.pid > 0"}, "fields": {"paths": ["rule", "time_unix_nano"]}}"#,
        "monitor.v1.Findings/List",
    )?)?;
    assert_eq!(page["findings"].as_array().map(Vec::len), Some(20), "{page}");
    ensure!(page["findings"][0].get("message").is_none(), "the mask is kept: {page}");
    let token = page["nextPageToken"].as_str().context("a second page")?;
    let next: Value =
        serde_json::from_str(&call(&format!(r#"{{"page_token": "{token}"}}"#), "monitor.v1.Findings/List")?)?;
    assert_eq!(next["findings"].as_array().map(Vec::len), Some(10), "{next}");
    ensure!(call(r#"{"service": "spool"}"#, "grpc.health.v1.Health/Check")?.contains("SERVING"));
    producer.stop()?;
    Ok(())
}

#[test]
fn otlp_reaches_a_receiver_in_python() -> Result<()> {
    let Some(python) = python_tool("python") else { return Ok(()) };
    let place = Place::new()?;
    let out = place.path("otlp.out");
    let script = repository().join("tests/python/otlp_receiver.py");
    let line = format!("exec {} {} >{}", python.display(), script.display(), out.display());
    let (_server, port) = serve(Command::new("sh").args(["-c", &line]))?;
    place.configure("", &sinks(port, "otlp"))?;
    let producer = place.produce(200, 50)?;
    wait("the receiver", PATIENCE, || Ok(delivered(&place)? == 50))?;
    let lines = fs::read_to_string(&out)?;
    assert_eq!(lines.lines().count(), 50);
    ensure!(
        lines.lines().all(|line| line.ends_with(" 5200 Warning test-node Seccomp denied a system call")),
        "{lines}"
    );
    producer.stop()?;
    Ok(())
}

/// A port that is free now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[test]
fn otlp_reaches_a_collector() -> Result<()> {
    let Some(rotel) = python_tool("rotel-agent") else { return Ok(()) };
    let place = Place::new()?;
    let (grpc, http) = (free_port()?, free_port()?);
    let out = fs::File::create(place.path("rotel.out"))?;
    let mut command = Command::new(rotel);
    command.args(["start", "--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")]);
    command.args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}"), "--exporter", "blackhole"]);
    command.args(["--debug-log", "logs", "--debug-log-verbosity", "detailed"]);
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    let _collector = process::Group::spawn(&mut command)?;
    place.configure("", &sinks(grpc, "otlp"))?;
    let producer = place.produce(200, 20)?;
    wait("the collector", PATIENCE, || Ok(delivered(&place)? == 20))?;
    let shown = || fs::read_to_string(place.path("rotel.out"));
    wait("its log", PATIENCE, || Ok(shown()?.contains("Seccomp denied a system call")))?;
    producer.stop()?;
    Ok(())
}

#[test]
fn prometheus_scrapes_and_promtool_has_nothing_to_say() -> Result<()> {
    if !Path::new("/usr/bin/promtool").exists() {
        eprintln!("SKIPPED (needs prometheus): promtool is not installed");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "cannot be skipped where CI=true");
        return Ok(());
    }
    let place = Place::new()?;
    let (port, own) = (free_port()?, free_port()?);
    place.configure("", &format!("metrics:\n  listen: 127.0.0.1:{port}\n"))?;
    let producer = place.produce(100, u64::MAX)?;
    let page = get(port, "/metrics")?;
    let (_, body) = page.split_once("\r\n\r\n").context("no body")?;
    let mut promtool = Command::new("promtool");
    let mut child = promtool
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no stdin")?.write_all(body.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}\n{body}", String::from_utf8_lossy(&output.stderr));
    ensure!(get(port, "/readyz")?.contains("ok        spool") && get(port, "/healthz")?.starts_with("HTTP/1.1 200"));
    ensure!(get(port, "/nothing")?.starts_with("HTTP/1.1 404"));

    let config = place.path("prometheus.yml");
    let scrape = format!(
        "scrape_configs:\n  - job_name: monitor\n    scrape_interval: 1s\n    static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    );
    fs::write(&config, scrape)?;
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", place.path("tsdb").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{own}"));
    let _prometheus = process::Group::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))?;
    wait("a sample in Prometheus", PATIENCE, || {
        Ok(get(own, "/api/v1/query?query=monitor_healthy").is_ok_and(|answer| answer.contains("\"part\":\"spool\"")))
    })?;
    producer.stop()?;
    Ok(())
}

fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn resident_mib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

#[test]
fn ten_thousand_connections_that_say_nothing_disturb_nobody() -> Result<()> {
    let place = Place::new()?;
    place.configure("", "")?;
    let producer = place.produce(100, u64::MAX)?;
    let socket = place.path("agent.sock");
    status(&socket)?;
    let before = resident_mib(producer.id())?;
    let mut open = std::collections::VecDeque::new();
    for number in 0..10_000 {
        // A full backlog makes the kernel say no, which is an answer too.
        if let Ok(mut stream) = UnixStream::connect(&socket) {
            // Some begin to speak, and stop in the middle of it.
            if number % 3 == 0 {
                let _ = stream.write_all(b"PRI * HTTP/2.0\r\n");
            }
            open.push_back(stream);
        }
        if open.len() > 500 {
            open.pop_front();
        }
        if number % 2500 == 1250 {
            status(&socket).with_context(|| format!("after {number} connections"))?;
        }
    }
    status(&socket)?;
    let after = resident_mib(producer.id())?;
    eprintln!("10000 connections: {before} MiB before, {after} MiB after");
    ensure!(after < before + 30, "{before} MiB before, {after} MiB after");
    ensure!(producer.said().contains("connection refused"), "it is told");
    producer.stop()?;
    Ok(())
}

/// Whether a TLS client with these options gets through to a server that asks for certificates.
fn openssl(port: &str, options: &[&str]) -> Result<String> {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-brief"]).args(options);
    let finished = process::run(&mut command, PATIENCE)?;
    Ok(format!("{}{}", finished.stdout_text(), finished.stderr))
}

#[test]
fn a_server_takes_neither_old_tls_nor_strangers_and_others_go_on() -> Result<()> {
    let place = Place::new()?;
    let (ca, stranger) = (Authority::new("ca")?, Authority::new("stranger")?);
    let path = |name: &str| place.path(name).display().to_string();
    ca.write(&place.path("ca.crt"))?;
    ca.issue("localhost")?.write(&place.path("tls.crt"), &place.path("tls.key"))?;
    stranger.issue("agent")?.write(&place.path("bad.crt"), &place.path("bad.key"))?;
    ca.expired("agent")?.write(&place.path("old.crt"), &place.path("old.key"))?;
    let (certificate, key, client_ca) = (path("tls.crt"), path("tls.key"), path("ca.crt"));
    let taker = tests::producer::sink(&[
        "--quiet",
        "--listen",
        "127.0.0.1:0",
        "--certificate",
        &certificate,
        "--key",
        &key,
        "--client-ca",
        &client_ca,
    ])?;
    let port = taker.ready.rsplit(':').next().context("no port")?.to_owned();
    let downgrade = openssl(&port, &["-tls1_2"])?;
    ensure!(downgrade.contains("protocol version") || downgrade.contains("alert"), "{downgrade}");
    for (crt, key) in [("bad.crt", "bad.key"), ("old.crt", "old.key")] {
        openssl(&port, &["-cert", &path(crt), "-key", &path(key)])?;
    }
    // Half a handshake, held open, and frames that are none.
    let mut slow = TcpStream::connect(format!("127.0.0.1:{port}"))?;
    slow.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01])?;
    let mut garbage = TcpStream::connect(format!("127.0.0.1:{port}"))?;
    garbage.write_all(&[0xff; 4096])?;
    ca.issue("agent")?.write(&place.path("agent.crt"), &place.path("agent.key"))?;
    let tls =
        format!("{{ca_file: {client_ca}, certificate_file: {}, key_file: {}}}", path("agent.crt"), path("agent.key"));
    place.configure("", &format!("sinks:\n  - name: s\n    endpoint: https://localhost:{port}\n    tls: {tls}\n"))?;
    let producer = place.produce(100, 50)?;
    wait("the good agent", PATIENCE, || Ok(delivered(&place)? == 50))?;
    producer.stop()?;
    thread::sleep(Duration::from_millis(50));
    ensure!(taker.said().contains("connection refused"), "the first is told at once");
    Ok(())
}
