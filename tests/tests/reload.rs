//! Rules that change while the agent runs: they are followed as a `ConfigMap`, an editor and SIGHUP change them, and a bad
//! one never takes the place of a good one.
//!
//! Each test has a marker of its own in its rules, so that what other tests do matches none of them.
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use monitor::{
    capture::Reader,
    decode::decode,
    event::Body,
    proto::v1::{
        GetInfoRequest, GetInfoResponse, GetStatusRequest, GetStatusResponse, RulesChange, RulesOutcome,
        agent_client::AgentClient,
    },
    source::{Source as _, Status},
};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tests::{
    agent::{self, Agent, PATIENCE, Stopped, monitor},
    environment::can_run_live,
    finding::{comparable, parse, text, words},
    process,
    subscriber::{Subscriber, connect},
};

/// A rule of this name for programs that are run with the marker.
fn rule(name: &str, marker: &str) -> String {
    format!(
        "- rule: {name}\n  desc: A test.\n  condition: evt.type in (execve, execveat) and proc.cmdline contains {marker}\n  \
         output: found %proc.cmdline\n  priority: NOTICE\n"
    )
}

/// Runs a program with the marker and a number.
fn trigger(marker: &str, number: u32) -> Result<()> {
    process::run(Command::new("/bin/true").args([marker, &number.to_string()]), PATIENCE)?.successful()?;
    Ok(())
}

/// The same, and waits for the finding, which must be of this rule.
fn matched(agent: &Agent, marker: &str, number: u32, rule: &str) -> Result<()> {
    trigger(marker, number)?;
    let is_ours = |finding: &Value| words(finding, "/process/arguments") == format!("/bin/true {marker} {number}");
    agent.wait_for("the trigger", is_ours)?;
    let findings = agent.findings()?;
    let rules: Vec<_> =
        findings.iter().filter(|finding| is_ours(finding)).map(|finding| text(finding, "/rule")).collect();
    ensure!(rules == [rule], "trigger {number}: {rules:?} instead of {rule:?}");
    Ok(())
}

/// A directory as the kubelet lays out a `ConfigMap`: `..data` leads to the version in use, and files lead through `..data`.
struct ConfigMap {
    directory: TempDir,
    versions: u32,
}

impl ConfigMap {
    fn new(rules: &str) -> Result<Self> {
        let mut map = Self { directory: tempfile::tempdir()?, versions: 0 };
        map.swap(rules)?;
        symlink("..data/rules.yaml", map.path().join("rules.yaml"))?;
        Ok(map)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// In the kubelet's steps (`AtomicWriter` of Kubernetes).
    fn swap(&mut self, rules: &str) -> Result<()> {
        let version = |number: u32| format!("..2026_01_01_00_00_00.{number:09}");
        self.versions += 1;
        let new = self.path().join(version(self.versions));
        fs::create_dir(&new)?;
        fs::write(new.join("rules.yaml"), rules)?;
        let temporary = self.path().join("..data_tmp");
        symlink(version(self.versions), &temporary)?;
        fs::rename(temporary, self.path().join("..data"))?;
        if self.versions > 1 {
            fs::remove_dir_all(self.path().join(version(self.versions - 1)))?;
        }
        Ok(())
    }
}

/// What the agent says of itself.
fn account(agent: &Agent) -> Result<(GetInfoResponse, GetStatusResponse)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut client = AgentClient::new(connect(agent.socket()).await?);
        let info = client.get_info(GetInfoRequest {}).await?.into_inner();
        Ok((info, client.get_status(GetStatusRequest {}).await?.into_inner()))
    })
}

/// The agent's account must fit the change that it told of last: rules, digest, times reloaded and refused.
fn account_fits(agent: &Agent, change: &RulesChange, rules: &[&str], reloads: (u64, u64)) -> Result<()> {
    let (info, status) = account(agent)?;
    ensure!(info.rules == rules, "{:?} instead of {rules:?}", info.rules);
    ensure!(status.rules_digest == change.digest && change.digest.len() == 64, "{status:?} {change:?}");
    ensure!((status.rules_reloads, status.rules_reload_failures) == reloads, "{reloads:?} {status:?}");
    ensure!(usize::try_from(change.rules)? == rules.len(), "{change:?}");
    Ok(())
}

/// Waits for the change of this number.
fn nth_change(subscriber: &Subscriber, number: usize) -> Result<RulesChange> {
    let received = subscriber.wait("a change of the rules", |received| received.changes.len() >= number)?;
    let change = received.changes.get(number - 1).cloned().context("no such change")?;
    ensure!(change.number == u64::try_from(number)?, "{change:?}");
    Ok(change)
}

/// How many rules each rules record of a capture tells of.
fn rules_records(capture: &Path) -> Result<Vec<u32>> {
    let mut reader = Reader::open(capture)?;
    let mut rules = Vec::new();
    let mut each = |bytes: &[u8]| {
        if let Ok(Body::Rules(record)) = decode(bytes).map(|event| event.body) {
            rules.push(record.rules);
        }
    };
    while reader.drain(Duration::ZERO, &mut each)? == Status::Open {}
    Ok(rules)
}

/// The agent on the rules at a path.
fn start(rules: &Path) -> Result<Agent> {
    Agent::start(&["-r", rules.to_str().context("a path that is no text")?])
}

fn ended_well(agent: Agent) -> Result<Stopped> {
    let stopped = agent.stop()?;
    ensure!(stopped.status.success() && !stopped.stderr.contains("panicked"), "{}\n{}", stopped.status, stopped.stderr);
    ensure!(stopped.summary.lost == 0, "{:?}", stopped.summary);
    Ok(stopped)
}

/// The findings of a replay with the rules of the end are those of the live run from where these rules were in use.
fn replays_as_live(stopped: &Stopped, rules: &Path, from: usize, changes: usize) -> Result<()> {
    let rules = rules.to_str().context("a path that is no text")?;
    let replay = agent::replay(&stopped.capture, &["-r", rules])?.successful()?;
    ensure!(replay.stderr.contains(&format!("note: the rules changed {changes} time")), "{}", replay.stderr);
    let replayed = parse(&replay.stdout_text())?;
    ensure!(replayed.len() == stopped.findings.len(), "{replayed:#?}");
    for (live, replayed) in stopped.findings.iter().zip(&replayed).skip(from) {
        ensure!(comparable(live) == comparable(replayed), "{live:#?}\n{replayed:#?}");
    }
    Ok(())
}

#[test]
fn a_config_map_is_followed_and_a_broken_one_refused() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    let marker = format!("config-map-{}", std::process::id());
    let (a, b) = (rule("A", &marker), rule("B", &marker));
    let mut map = ConfigMap::new(&a)?;
    let agent = start(map.path())?;
    let subscriber = Subscriber::earliest(&agent.socket())?;
    let first = account(&agent)?;
    assert_eq!((first.0.rules, first.1.rules_reloads), (vec!["A".to_owned()], 0));
    matched(&agent, &marker, 1, "A")?;

    map.swap(&b)?;
    let loaded = nth_change(&subscriber, 1)?;
    assert_eq!((loaded.outcome(), loaded.errors, loaded.warnings), (RulesOutcome::Loaded, 0, 0), "{loaded:?}");
    assert_ne!(loaded.digest, first.1.rules_digest);
    account_fits(&agent, &loaded, &["B"], (1, 0))?;
    matched(&agent, &marker, 2, "B")?;

    map.swap(&b.replace("proc.cmdline contains", "proc.cmdlime contains"))?;
    let refused = nth_change(&subscriber, 2)?;
    assert_eq!((refused.outcome(), refused.errors), (RulesOutcome::Refused, 1), "{refused:?}");
    assert!(refused.messages.iter().any(|message| message.contains("proc.cmdlime")), "{refused:?}");
    assert_eq!(refused.digest, loaded.digest, "the rules in use are the same");
    account_fits(&agent, &refused, &["B"], (1, 1))?;
    matched(&agent, &marker, 3, "B")?;

    map.swap(&b)?;
    let again = nth_change(&subscriber, 3)?;
    assert_eq!((again.outcome(), &again.digest), (RulesOutcome::Loaded, &loaded.digest));
    agent.signal(Signal::HUP)?;
    let asked = nth_change(&subscriber, 4)?;
    assert_eq!((asked.outcome(), &asked.digest), (RulesOutcome::Loaded, &loaded.digest));
    account_fits(&agent, &asked, &["B"], (3, 1))?;
    matched(&agent, &marker, 4, "B")?;

    let endpoint = format!("unix:{}", agent.socket().display());
    let tail = monitor(["tail", "--endpoint", &endpoint, "--from", "earliest", "-n", "4"])?.successful()?;
    agent.wait_for_stderr("monitor: rules reloaded: 1 rule", 3)?;
    let stopped = ended_well(agent)?;
    for said in [&tail.stderr, &stopped.stderr] {
        let lines: Vec<_> = said.lines().filter(|line| line.starts_with("monitor: rules ")).collect();
        let (loaded, refused) = (
            "monitor: rules reloaded: 1 rule",
            "monitor: rules NOT reloaded, the 1 rule from before stays: 1 error in the rules",
        );
        assert_eq!(lines, [loaded, refused, loaded, loaded], "{said}");
        assert!(said.contains("proc.cmdlime"), "{said}");
    }
    assert_eq!(rules_records(&stopped.capture)?, [1; 4], "at the start and for each that came into use");
    replays_as_live(&stopped, map.path(), 1, 1)
}

/// The same rules under another digest, again and again: every record counts, and live and replay count the same.
#[test]
fn findings_around_many_changes_are_those_of_the_replay() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    let marker = format!("often-{}", std::process::id());
    let directory = tempfile::tempdir()?;
    let (file, new) = (directory.path().join("rules.yaml"), directory.path().join("new"));
    fs::write(&file, rule("A", &marker))?;
    let agent = start(&file)?;
    let subscriber = Subscriber::earliest(&agent.socket())?;
    for number in 1..=10 {
        trigger(&marker, 2 * number)?;
        fs::write(&new, format!("# {number}\n{}", rule("A", &marker)))?;
        fs::rename(&new, &file)?;
        agent.signal(Signal::HUP)?;
        trigger(&marker, 2 * number + 1)?;
        // The file's change may be told beside the answer to SIGHUP.
        let digests =
            |changes: &[RulesChange]| changes.iter().map(|change| change.digest.clone()).collect::<BTreeSet<_>>();
        let all = usize::try_from(number)?;
        subscriber.wait("rules of this digest", |received| digests(&received.changes).len() == all)?;
    }
    matched(&agent, &marker, 0, "A")?;
    let stopped = ended_well(agent)?;
    assert_eq!(stopped.findings.len(), 21, "{:#?}", stopped.findings);
    assert!(rules_records(&stopped.capture)?.len() >= 11, "at the start and for each change");
    replays_as_live(&stopped, &file, 0, 10)
}

#[test]
fn a_file_that_an_editor_replaces_is_followed() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    let marker = format!("editor-{}", std::process::id());
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("rules.yaml");
    fs::write(&file, rule("A", &marker))?;
    let agent = start(&file)?;
    matched(&agent, &marker, 1, "A")?;
    let swap: PathBuf = directory.path().join(".rules.yaml.swp");
    fs::write(&swap, rule("B", &marker) + "- list: unused\n  items: [x]\n")?;
    fs::rename(&swap, &file)?;
    agent.wait_for_stderr("monitor: rules reloaded: 1 rule (1 warning)", 1)?;
    matched(&agent, &marker, 2, "B")?;
    fs::write(&file, rule("C", &marker))?;
    agent.wait_for_stderr("monitor: rules reloaded: 1 rule", 2)?;
    matched(&agent, &marker, 3, "C")?;
    ended_well(agent)?;
    Ok(())
}

#[test]
fn a_directory_that_vanishes_ends_neither_the_agent_nor_its_rules() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    let marker = format!("vanishing-{}", std::process::id());
    let home = tempfile::tempdir()?;
    let (rules, away) = (home.path().join("rules"), home.path().join("away"));
    fs::create_dir(&rules)?;
    fs::write(rules.join("a.yaml"), rule("A", &marker))?;
    let agent = start(&rules)?;
    fs::rename(&rules, &away)?;
    agent.wait_for_stderr("monitor: rules NOT reloaded, the 1 rule from before stays", 1)?;
    assert!(agent.stderr().contains(&format!("cannot read rules {}", rules.display())), "{}", agent.stderr());
    matched(&agent, &marker, 1, "A")?;
    fs::create_dir(&rules)?;
    fs::write(rules.join("b.yaml"), rule("B", &marker))?;
    agent.wait_for_stderr("monitor: rules reloaded: 1 rule", 1)?;
    matched(&agent, &marker, 2, "B")?;
    ended_well(agent)?;
    Ok(())
}

#[test]
fn sighup_loads_the_built_in_rules_again_and_changes_nothing() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    let agent = Agent::start(&[])?;
    let (info, before) = account(&agent)?;
    agent.signal(Signal::HUP)?;
    agent.wait_for_stderr(&format!("monitor: rules reloaded: {} rules", info.rules.len()), 1)?;
    let (again, after) = account(&agent)?;
    assert_eq!((&again.rules, &after.rules_digest), (&info.rules, &before.rules_digest));
    assert_eq!((after.rules_reloads, after.rules_reload_failures), (1, 0));
    let stopped = ended_well(agent)?;
    let rules = u32::try_from(info.rules.len())?;
    assert_eq!(rules_records(&stopped.capture)?, [rules, rules]);
    let replay = agent::replay(&stopped.capture, &[])?.successful()?;
    assert!(!replay.stderr.contains("note:"), "the rules were the same throughout: {}", replay.stderr);
    Ok(())
}
