//! A storm: one container opens files as fast as the machine can, another forks without end, and a third does what must be
//! found. It is found, what is lost is the storm's, and the agent stays small.
use std::{fs, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;
use tests::{
    agent::Agent,
    container::{Container, Runtime},
    environment::can_run_live,
    finding::{of_container, text},
    process::Finished,
};

/// How long it opens, in milliseconds, and in how many processes.
const OPENING: [&str; 2] = ["30000", "4"];
const PROCESSES: i64 = 20_000;
/// The most memory that the agent may need meanwhile.
const MOST_MIB: u64 = 96;
/// Whole runs of containers in it.
const LIMIT: Duration = Duration::from_mins(3);

/// A rule that wants every open, so that all of them are sent.
const EVERY_OPEN: &str = "\
- rule: No such open
  desc: d
  condition: evt.type = openat and fd.name = /no/such/file
  output: o
  priority: INFO
";

/// What a workload's lines say that its calls returned, together.
fn returned(finished: &Finished) -> Result<i64> {
    let mut sum = 0;
    for line in finished.stdout_text().lines() {
        let said: Value = serde_json::from_str(line)?;
        sum += said.pointer("/returns/0").and_then(Value::as_i64).with_context(|| line.to_owned())?;
    }
    Ok(sum)
}

#[test]
fn a_storm_hides_nothing_and_the_agent_stays_small() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let rules = directory.path().join("rules.yaml");
    fs::write(&rules, [include_str!("../../monitor/rules/monitor_rules.yaml"), EVERY_OPEN].concat())?;
    // A small ring, so that there is loss on any machine.
    let agent = Agent::start(&["--no-push-down", "--ring-mib", "1", "-r", rules.to_str().context("path")?])?;
    let [milliseconds, processes] = OPENING;
    let flood = Container::new(Runtime::any(), &["/bin/workload", "flood", milliseconds, processes], None)?;
    let bomb = Container::new(Runtime::any(), &["/bin/workload", "bomb", &PROCESSES.to_string()], None)?;
    let intruder = Container::script(Runtime::any(), "cp /bin/workload /tmp/dropped; /tmp/dropped noop", None)?;
    let (opens, born) = std::thread::scope(|scope| -> Result<_> {
        let flooding = scope.spawn(|| flood.run_within(LIMIT)?.successful());
        let bombing = scope.spawn(|| bomb.run_within(LIMIT)?.successful());
        std::thread::sleep(Duration::from_secs(3));
        intruder.run_within(LIMIT)?.successful()?;
        let bombed = bombing.join().map_err(|_| anyhow!("the bomb panicked"))??;
        let flooded = flooding.join().map_err(|_| anyhow!("the flood panicked"))??;
        Ok((returned(&flooded)?, returned(&bombed)?))
    })?;
    ensure!(born == PROCESSES, "{born} processes");
    agent.wait_for("drift in the storm", |finding| text(finding, "/container/id") == intruder.id())?;
    let memory = agent.most_memory()?;
    let stopped = agent.stop()?;
    let lost = stopped.summary.lost;
    println!("{opens} opens, {born} processes: {} records, {lost} lost, {memory} MiB", stopped.summary.records);
    ensure!(stopped.status.success(), "{}", stopped.stderr);
    let found = of_container(&stopped.findings, intruder.id());
    let is_it =
        |finding: &&Value| text(finding, "/kind") == "drift" && text(finding, "/drift/writer/process/name") == "cp";
    ensure!(found.len() == 1 && found.iter().all(is_it), "not the drift alone: {found:#?}");
    // Whether anything is lost is up to the machine; if so, it is the storm's.
    let count = |line: &str| line.split_whitespace().nth(1).and_then(|count| count.parse::<u64>().ok());
    let most = stopped.stderr.lines().filter(|line| line.contains("were lost")).max_by_key(|line| count(line));
    let is_of = |container: &Container, line: &str| line.contains(container.id().get(..12).unwrap_or_default());
    let is_the_storm = most.is_none_or(|line| is_of(&flood, line) || is_of(&bomb, line));
    ensure!(is_the_storm, "somebody else than the storm lost most: {most:?}");
    ensure!(lost == 0 || most.is_some(), "{lost} were lost and nobody is named");
    ensure!(memory < MOST_MIB, "{memory} MiB");
    Ok(())
}
