//! Findings reach their sinks whatever fails: kills, misbehaving and absent sinks, real disks that are full or read-only, load.
#![expect(clippy::indexing_slicing, reason = "a test that reads what is not there fails as it should")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use monitor::{
    output::consumer::ledger::{Ledger, Seen},
    proto::v1::{LossReport, Open, StartFrom},
};
use serde_json::Value;
use tests::{
    capture::Numbers,
    clock::Clock,
    producer::{Place, Running, count, lag, sink, status, wait},
    subscriber::Subscriber,
};

const PATIENCE: Duration = Duration::from_mins(1);
const ROUNDS: usize = 200;

/// Uids by run and sequence.
type Findings = BTreeMap<(String, u64), String>;

/// A sink of a configuration, with short waits.
fn to_sink(place: &Place) -> String {
    format!(
        "sinks:\n  - name: s\n    endpoint: unix:{}\n    batch: {{findings: 50, linger_ms: 1}}\n    timeout_ms: 300\n    \
         retry: {{first_ms: 5, longest_ms: 100}}\n",
        place.path("sink.sock").display()
    )
}

/// What a sink wrote: findings by run and sequence, and the ledger of it all.
fn received_by(path: &Path) -> Result<(Findings, Ledger)> {
    let (mut findings, mut ledger) = (BTreeMap::new(), Ledger::default());
    for line in fs::read_to_string(path)?.lines() {
        let record: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let epoch = record["epoch"].as_str().context("epoch")?.to_owned();
        let sequence = record["sequence"].as_u64().context("sequence")?;
        if let Some(loss) = record.get("loss") {
            let number = |name: &str| loss[name].as_u64().unwrap_or(0);
            let report = LossReport {
                findings: number("findings"),
                first_sequence: number("first_sequence"),
                epoch: loss["epoch"].as_str().unwrap_or_default().to_owned(),
                cause: loss["cause"].as_str().unwrap_or_default().to_owned(),
                ..LossReport::default()
            };
            ledger.loss(&epoch, sequence, &report);
            continue;
        }
        let uid = record["finding"]["uid"].as_str().context("uid")?.to_owned();
        let content = record["content"].as_u64().context("content")?;
        ensure!(ledger.finding(&epoch, sequence, &uid, content) != Seen::Differs, "{uid} came with another content");
        findings.insert((epoch, sequence), uid);
    }
    Ok((findings, ledger))
}

/// What the journal says was made and kept: everything that the spool told of when it was opened again, and all of the last run.
fn kept(journal: &Path) -> Result<Findings> {
    let (mut made, mut through) = (BTreeMap::new(), BTreeMap::new());
    let mut epoch = String::new();
    for line in fs::read_to_string(journal)?.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["recovered", of, sequence, _] => _ = through.insert(of.to_owned(), sequence.parse::<u64>()?),
            ["epoch", new] => new.clone_into(&mut epoch),
            ["made", sequence, uid] => _ = made.insert((epoch.clone(), sequence.parse()?), uid.to_owned()),
            _ => anyhow::bail!("{line:?} in the journal"),
        }
    }
    through.insert(epoch, u64::MAX);
    made.retain(|(epoch, sequence), _| through.get(epoch).is_some_and(|through| sequence <= through));
    Ok(made)
}

#[test]
fn two_hundred_kills_lose_nothing_that_was_kept_and_invent_nothing() -> Result<()> {
    const MISBEHAVIOUR: [&[&str]; 5] = [
        &[],
        &["--fail", "unavailable", "--fail-per-mille", "300"],
        &["--hang-per-mille", "200"],
        &["--accept-at-most", "7"],
        &["--fail", "resource_exhausted", "--fail-per-mille", "300", "--retry-after-ms", "10"],
    ];
    let place = Place::new()?;
    place.configure("", &to_sink(&place))?;
    let (out, journal) = (place.path("out.jsonl"), place.path("journal"));
    let writes = |more: &[&str]| place.sink(&[&["--write", out.to_str().unwrap_or_default()], more].concat());
    let mut numbers = Numbers::new(20_261_125);
    let mut taker = Some(writes(&[])?);
    for round in 0..ROUNDS {
        let producer = place.produce(4000, u64::MAX)?;
        // From its first finding on: on a busy machine that may take longer than the rest of the round.
        let begun = journal.metadata()?.len();
        wait("a finding", PATIENCE, || Ok(journal.metadata()?.len() > begun))?;
        thread::sleep(Duration::from_millis(numbers.below(40) as u64));
        match numbers.below(8) {
            // It goes, as hard as the producer does, and comes back as somebody else some rounds later.
            0 => taker.take().map_or(Ok(()), Running::kill)?,
            1 | 2 if taker.is_none() => taker = Some(writes(MISBEHAVIOUR[numbers.below(MISBEHAVIOUR.len())])?),
            _ => {}
        }
        producer.kill().with_context(|| format!("round {round}"))?;
    }
    if let Some(taker) = taker {
        taker.kill()?;
    }
    let taker = writes(&[])?;
    let last = place.produce(1000, 100)?;
    wait("the last of it", PATIENCE, || {
        let written = status(&place.path("agent.sock"))?.spool.is_some_and(|spool| spool.unsaved == 0);
        Ok(written && fs::read_to_string(&journal)?.lines().last().is_some_and(|line| line.starts_with("made 100 ")))
    })?;
    wait("the sink to have everything", PATIENCE, || Ok(lag(&place.path("agent.sock"))? == 0))?;
    last.stop()?;
    taker.stop()?;
    let (received, ledger) = received_by(&out)?;
    let kept = kept(&journal)?;
    let missing: Vec<_> = kept.keys().filter(|key| !received.contains_key(*key)).take(5).collect();
    let invented: Vec<_> = received.keys().filter(|key| !kept.contains_key(*key)).take(5).collect();
    ensure!(missing.is_empty() && invented.is_empty(), "missing {missing:?}, invented {invented:?}");
    assert_eq!(received, kept, "each with its own uid");
    assert_eq!(ledger.gaps(), [], "nothing is missing without a report");
    assert_eq!(ledger.counts.conflicts, 0);
    let runs: BTreeSet<_> = kept.keys().map(|(epoch, _)| epoch).collect();
    eprintln!("{ROUNDS} kills: {} findings of {} runs, {:?}", kept.len(), runs.len(), ledger.counts);
    ensure!(runs.len() > ROUNDS / 2 && ledger.counts.losses > 50, "the rounds did too little");
    Ok(())
}

/// A file system of its own, so small that it is soon full. Unmounted when it is dropped.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(path: std::path::PathBuf, kib: u32) -> Result<Self> {
        fs::create_dir_all(&path)?;
        let size = format!("size={kib}k");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).status()?;
        ensure!(mounted.success(), "cannot mount a tmpfs: run as root");
        Ok(Self(path))
    }

    /// Takes all the room that is left; gives it back when the file is removed.
    fn fill(&self) -> Result<std::path::PathBuf> {
        let path = self.0.join("filler");
        let mut file = fs::File::create(&path)?;
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
        Ok(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED (needs root): mounts");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "cannot be skipped where CI=true");
    }
    root
}

#[test]
fn a_disk_that_is_really_full_costs_the_oldest_and_a_reading_sink_nothing() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let place = Place::new()?;
    let _small = Small::mount(place.path("spool"), 1024)?;
    place.configure("", &to_sink(&place))?;
    let out = place.path("out.jsonl");
    let taker = place.sink(&["--write", out.to_str().unwrap_or_default()])?;
    let producer = place.produce(2000, 6000)?;
    let socket = place.path("agent.sock");
    wait("everything", PATIENCE, || {
        let sinks = status(&socket)?.sinks;
        Ok(sinks.iter().all(|sink| sink.delivered >= 6000 && sink.lag == 0))
    })?;
    let said = producer.stop()?;
    assert_eq!(count(&said, "made")?, 6000, "{said}");
    ensure!(count(&said, "slowest_us")? < 5000, "the flow waited: {said}");
    let summary = taker.stop()?;
    assert_eq!((count(&summary, "findings")?, count(&summary, "missing")?), (6000, 0), "{summary}");
    Ok(())
}

#[test]
fn a_disk_that_takes_nothing_is_told_and_taken_up_again() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let place = Place::new()?;
    let small = Small::mount(place.path("spool"), 64 << 10)?;
    place.configure("", &to_sink(&place))?;
    let taker = place.sink(&["--quiet"])?;
    let producer = place.produce(500, u64::MAX)?;
    let socket = place.path("agent.sock");
    wait("the first", PATIENCE, || Ok(status(&socket)?.sinks.iter().all(|sink| sink.delivered > 100)))?;
    // Its only segment is the one that is written: there is nothing to give up.
    let filler = small.fill()?;
    let failing = || Ok::<_, anyhow::Error>(status(&socket)?.spool.is_some_and(|spool| !spool.failing.is_empty()));
    wait("the trouble to be told", PATIENCE, failing)?;
    let before = status(&socket)?.sinks.first().map_or(0, |sink| sink.delivered);
    wait("findings all the same", PATIENCE, || {
        Ok(status(&socket)?.sinks.first().is_some_and(|sink| sink.delivered > before + 200))
    })?;
    fs::remove_file(filler)?;
    wait("the disk again", PATIENCE, || Ok(!failing()?))?;
    wait("the sink to have everything", PATIENCE, || Ok(lag(&socket)? < 100))?;
    producer.stop()?;
    let summary = taker.stop()?;
    assert_eq!((count(&summary, "missing")?, count(&summary, "conflicts")?), (0, 0), "{summary}");
    Ok(())
}

#[test]
fn a_second_agent_on_a_spool_is_refused() -> Result<()> {
    let place = Place::new()?;
    place.configure("", "")?;
    let first = place.produce(0, 0)?;
    let error = place.produce(0, 0).err().context("it was let in")?.to_string();
    ensure!(error.contains(&format!("in use by another agent (pid {})", first.id())), "{error}");
    Ok(())
}

#[test]
fn a_rejected_finding_is_a_dead_letter_and_the_others_go_on() -> Result<()> {
    let place = Place::new()?;
    place.configure("", &to_sink(&place))?;
    let taker = place.sink(&["--quiet", "--reject-rule", "Seccomp denied a system call"])?;
    let producer = place.produce(1000, 20)?;
    let socket = place.path("agent.sock");
    wait("all", PATIENCE, || {
        Ok(status(&socket)?.sinks.iter().all(|sink| sink.rejected == 20 && sink.lag == 0 && sink.delivered == 0))
    })?;
    producer.stop()?;
    taker.stop()?;
    assert_eq!(fs::read_to_string(place.path("spool/s.rejected.jsonl"))?.lines().count(), 20);
    Ok(())
}

#[test]
fn as_much_as_can_be_made_is_carried_and_nothing_lost() -> Result<()> {
    // How fast is measured by `cargo xtask bench delivery`.
    const FINDINGS: u64 = 20_000;
    let place = Place::new()?;
    let sink = to_sink(&place).replace("findings: 50, linger_ms: 1", "linger_ms: 5").replace("300", "5000");
    // Room for all of them, however slow the disk is beside other tests.
    place.configure("  memory_mib: 64\n", &sink)?;
    let taker = place.sink(&["--quiet"])?;
    let producer = place.produce(1_000_000, FINDINGS)?;
    let socket = place.path("agent.sock");
    wait("everything", PATIENCE, || Ok(status(&socket)?.sinks.iter().all(|sink| sink.delivered == FINDINGS)))?;
    let said = producer.stop()?;
    assert_eq!((count(&said, "made")?, count(&said, "dropped")?), (FINDINGS, 0), "{said}");
    let summary = taker.stop()?;
    let came = [count(&summary, "findings")?, count(&summary, "missing")?, count(&summary, "losses")?];
    assert_eq!(came, [FINDINGS, 0, 0], "{summary}");
    Ok(())
}

#[test]
fn a_sink_that_was_away_gets_all_that_it_missed() -> Result<()> {
    const MISSED: u64 = 5000;
    let place = Place::new()?;
    place.configure("", &to_sink(&place))?;
    let producer = place.produce(1000, MISSED)?;
    let socket = place.path("agent.sock");
    wait("all of it to wait for the sink", PATIENCE, || Ok(lag(&socket)? == MISSED))?;
    let taker = place.sink(&["--quiet"])?;
    wait("the sink to catch up", PATIENCE, || Ok(lag(&socket)? == 0))?;
    producer.stop()?;
    let summary = taker.stop()?;
    assert_eq!((count(&summary, "findings")?, count(&summary, "missing")?), (MISSED, 0), "{summary}");
    Ok(())
}

/// Observed times of the findings of a run that a sink wrote, in order.
fn observed(path: &Path, epoch: &str) -> Result<Vec<(u64, u64)>> {
    let mut times = Vec::new();
    for line in fs::read_to_string(path)?.lines() {
        let record: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        if record["epoch"] == epoch
            && let Some(time) = record["finding"]["observed_time_unix_nano"].as_u64()
        {
            times.push((record["sequence"].as_u64().context("sequence")?, time));
        }
    }
    times.sort_unstable();
    Ok(times)
}

#[test]
fn a_clock_that_steps_back_delays_reorders_and_loses_nothing() -> Result<()> {
    const HOUR: i64 = 3600;
    const HOUR_NS: u64 = 3_600_000_000_000;
    let place = Place::new()?;
    place.configure("", &to_sink(&place))?;
    let (out, journal, socket) = (place.path("out.jsonl"), place.path("journal"), place.path("agent.sock"));
    let clock = Clock::new(&place.path(""))?;
    let made = || anyhow::Ok(status(&socket)?.spool.map_or(0, |spool| spool.entries));
    // There is no sink yet: it steps back while the agent waits before its next try.
    let producer = place.produce_as(200, 2000, |command| clock.rule(command))?;
    wait("findings by the right time", PATIENCE, || Ok(made()? > 200))?;
    clock.set(-HOUR)?;
    wait("findings by the wrong time", PATIENCE, || Ok(made()? == 2000))?;
    let write = out.to_str().context("path")?;
    let taker = place.sink(&["--write", write, "--fail", "unavailable", "--fail-per-mille", "300"])?;
    wait("the sink to have what waited", PATIENCE, || Ok(lag(&socket)? == 0))?;
    producer.kill()?;
    // The agent comes back at an even earlier time: the name of its run is lower than that of the one before.
    clock.set(-2 * HOUR)?;
    let producer = place.produce_as(500, 300, |command| clock.rule(command))?;
    wait("the sink to have the second run", PATIENCE, || {
        // The report of the crash is an entry too.
        Ok(made()? == 2000 + 1 + 300 && lag(&socket)? == 0)
    })?;

    let epochs: Vec<String> = fs::read_to_string(&journal)?
        .lines()
        .filter_map(|line| line.strip_prefix("epoch ").map(str::to_owned))
        .collect();
    let [first, second] = &epochs[..] else { anyhow::bail!("{epochs:?}") };
    ensure!(second < first, "the clock did step back: {epochs:?}");
    let times = observed(&out, first)?;
    let step = times.windows(2).position(|pair| pair[0].1 > pair[1].1 + HOUR_NS / 2).context("a step")?;
    // A time between those before the step and those behind it.
    let since = times[step].1 - HOUR_NS / 2;
    let open = Open { start_from: StartFrom::Since.into(), since_unix_nano: since, ..Open::default() };
    let reader = Subscriber::open(&socket, open)?;
    let received = reader.wait("those of before the step", |received| received.findings.len() > step)?;
    let sequences: Vec<u64> = received.findings.iter().map(|finding| finding.sequence).collect();
    assert_eq!(sequences, (1..=step as u64 + 1).collect::<Vec<_>>(), "since compares the time of each finding");
    producer.stop()?;
    taker.stop()?;
    let (received, ledger) = received_by(&out)?;
    let kept = kept(&journal)?;
    let differing: Vec<_> = kept.iter().filter(|(key, uid)| received.get(*key) != Some(*uid)).take(5).collect();
    ensure!(
        differing.is_empty() && received.len() == kept.len(),
        "{} of {}: {differing:?}",
        received.len(),
        kept.len()
    );
    assert_eq!((ledger.gaps(), ledger.counts.conflicts), (vec![], 0));
    Ok(())
}

#[test]
fn certificates_are_followed_and_wrong_ones_told() -> Result<()> {
    let place = Place::new()?;
    let ca = tests::pki::Authority::new("ca")?;
    ca.write(&place.path("ca.crt"))?;
    let issue =
        |name: &str| ca.issue(name)?.write(&place.path(&format!("{name}.crt")), &place.path(&format!("{name}.key")));
    issue("localhost")?;
    issue("agent")?;
    let path = |name: &str| place.path(name).display().to_string();
    let start = |certificate: &str, ca: &str, listen: &str| {
        sink(&[
            "--quiet",
            "--listen",
            listen,
            "--certificate",
            &path(&format!("{certificate}.crt")),
            "--key",
            &path(&format!("{certificate}.key")),
            "--client-ca",
            &path(ca),
        ])
    };
    let taker = start("localhost", "ca.crt", "127.0.0.1:0")?;
    let address = taker.ready.rsplit(' ').next().context("no address")?.to_owned();
    let port = address.rsplit(':').next().context("no port")?.to_owned();
    let tls = format!(
        "{{ca_file: {}, certificate_file: {}, key_file: {}}}",
        path("ca.crt"),
        path("agent.crt"),
        path("agent.key")
    );
    place.configure(
        "",
        &format!(
            "sinks:\n  - name: s\n    endpoint: https://localhost:{port}\n    compression: gzip\n    tls: {tls}\n    timeout_ms: 2000\n    \
             retry: {{first_ms: 5, longest_ms: 50}}\n"
        ),
    )?;
    let producer = place.produce(100, u64::MAX)?;
    let socket = place.path("agent.sock");
    let delivered = || Ok::<_, anyhow::Error>(status(&socket)?.sinks.first().map_or(0, |sink| sink.delivered));
    wait("the first", PATIENCE, || Ok(delivered()? > 10))?;
    // Another authority takes over, as when everything is issued anew; the agent is not touched.
    taker.kill()?;
    let other = tests::pki::Authority::new("other")?;
    other.write(&place.path("other.crt"))?;
    other.issue("localhost")?.write(&place.path("new.crt"), &place.path("new.key"))?;
    let taker = start("new", "other.crt", &address)?;
    let failing =
        || Ok::<_, anyhow::Error>(status(&socket)?.sinks.first().map_or(String::new(), |sink| sink.failing.clone()));
    wait("the wrong authority to be told", PATIENCE, || Ok(failing()?.contains("UnknownIssuer")))?;
    other.issue("agent")?.write(&place.path("agent.crt"), &place.path("agent.key"))?;
    other.write(&place.path("ca.crt"))?;
    let before = delivered()?;
    wait("findings by the new certificates", PATIENCE, || Ok(delivered()? > before + 10))?;
    taker.kill()?;
    other.expired("localhost")?.write(&place.path("old.crt"), &place.path("old.key"))?;
    let _taker = start("old", "other.crt", &address)?;
    wait("the expired certificate to be told", PATIENCE, || Ok(failing()?.contains("xpired")))?;
    producer.stop()?;
    Ok(())
}

#[test]
fn readers_of_many_kinds_hold_up_nobody() -> Result<()> {
    let place = Place::new()?;
    place.configure("", "")?;
    // Each is sent every finding: 64 times as many in all.
    let producer = place.produce(100, u64::MAX)?;
    let socket = place.path("agent.sock");
    let open = || Open { consumer: "many".to_owned(), start_from: StartFrom::Tail.into(), ..Default::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    // Eight that never read, and those that do: 64 in all.
    let _silent: Vec<_> = (0..8)
        .map(|_| runtime.block_on(tests::subscriber::subscribe(socket.clone(), open())))
        .collect::<Result<_>>()?;
    let reading: Vec<_> = (0..56).map(|_| Subscriber::open(&socket, open())).collect::<Result<_>>()?;
    let refused = Subscriber::open(&socket, open())?.finish()?.ended.unwrap_or_default();
    ensure!(refused.contains("ResourceExhausted"), "{refused}");
    let begin = Instant::now();
    for reader in &reading {
        let received = reader.wait("500 findings", |received| received.findings.len() >= 500)?;
        assert_eq!(received.losses, [], "who reads loses nothing");
    }
    eprintln!("56 readers beside 8 that never read: 500 findings each after {:?}", begin.elapsed());
    drop(reading);
    producer.stop()?;
    Ok(())
}
