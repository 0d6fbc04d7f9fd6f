//! A twin of each kind of call that the sensor tells of: the workload makes the call and says what it did, and the event says
//! the same. The workload's lines are the expectation; nothing of them stands here.
use std::{cell::Cell, collections::BTreeSet, fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{agent::Agent, environment::can_run_live, process, workload};

/// What stands for a value that only the kernel knows.
const ANY: &str = "?";

/// A call that the workload made.
struct Twin {
    event_type: String,
    returned: i64,
    fields: Vec<(String, String)>,
}

/// Runs the workload's calls below a directory that is empty.
fn make(directory: &Path) -> Result<Vec<Twin>> {
    let mut command = Command::new(workload::binary()?);
    command.arg("calls").arg(directory);
    let finished = process::run(&mut command, Duration::from_secs(30))?.successful()?;
    finished.stdout_text().lines().map(parse).collect()
}

fn parse(line: &str) -> Result<Twin> {
    let value: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
    let of = |name: &str| value.get(name).with_context(|| format!("no {name} in {line}"));
    let fields = of("fields")?.as_object().context("no fields")?;
    Ok(Twin {
        event_type: of("type")?.as_str().context("no type")?.to_owned(),
        returned: of("returned")?.as_i64().context("no result")?,
        fields: fields.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap_or(ANY).to_owned())).collect(),
    })
}

/// A rule that takes these calls of the workload and prints every field that one of them has an opinion on.
fn rule(twins: &[Twin]) -> String {
    let types: BTreeSet<_> = twins.iter().map(|twin| twin.event_type.as_str()).collect();
    let fields: BTreeSet<_> = twins.iter().flat_map(|twin| twin.fields.iter().map(|(name, _)| name.as_str())).collect();
    let output = fields.iter().map(|name| format!("%{name}")).collect::<Vec<_>>().join(" ");
    format!(
        "- rule: Twin\n  desc: d\n  condition: evt.type in ({}) and proc.args startswith \"calls \" and not (evt.type in (execve, execveat) and evt.rawres >= 0)\n  \
         output: \"%evt.type %evt.rawres {output}\"\n  priority: INFO\n",
        types.into_iter().collect::<Vec<_>>().join(", ")
    )
}

/// A field's value as text.
fn shown(finding: &Value, field: &str) -> String {
    match finding.get("output_fields").and_then(|fields| fields.get(field)) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "nothing".to_owned(),
    }
}

#[test]
fn every_call_is_told_as_it_was_made() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    let scratch = tempfile::Builder::new().prefix("monitor-calls-").tempdir()?;
    let directory = |name: &str| -> Result<_> {
        let path = scratch.path().canonicalize()?.join(name);
        fs::create_dir(&path)?;
        Ok(path)
    };
    let rules = scratch.path().join("rules.yaml");
    fs::write(&rules, rule(&make(&directory("before")?)?))?;
    let agent = Agent::start(&["-r", rules.to_str().context("path")?])?;
    let twins = make(&directory("told")?)?;
    let last = &twins.last().context("no calls")?.event_type;
    let left = Cell::new(twins.iter().filter(|twin| twin.event_type == *last).count());
    agent.wait_for("the last call", |finding| {
        left.set(left.get() - usize::from(shown(finding, "evt.type") == *last));
        left.get() == 0
    })?;
    let stopped = agent.stop()?;
    ensure!(stopped.summary.lost == 0, "{:?}", stopped.summary);

    let mut differences = Vec::new();
    let first = twins.first().context("no calls")?;
    let mut told = stopped.findings.iter().skip_while(|finding| shown(finding, "evt.type") != first.event_type);
    for (number, twin) in twins.iter().enumerate() {
        let what = format!("call {number}, {}", twin.event_type);
        let finding = told.next().with_context(|| format!("{what} was not told"))?;
        ensure!(shown(finding, "evt.type") == twin.event_type, "{what}: told as {finding:#}");
        for (field, expected) in &twin.fields {
            let shown = shown(finding, field);
            if shown == "null" || (expected != ANY && *expected != shown) {
                differences.push(format!("{what}: {field} is {shown:?}, not {expected:?}"));
            }
        }
        let has_result = !twin.fields.iter().any(|(field, _)| field == "evt.rawres" || field == "syscall.type");
        let returned = shown(finding, "evt.rawres");
        if has_result && returned != twin.returned.to_string() {
            differences.push(format!("{what}: returned {returned}, not {}", twin.returned));
        }
    }
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    ensure!(told.next().is_none(), "more calls were told than made");
    Ok(())
}

#[test]
fn an_exec_tells_its_environment_where_a_rule_asks_for_it() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    let scratch = tempfile::tempdir()?;
    let rules = scratch.path().join("rules.yaml");
    let rule = "- rule: Twin\n  desc: d\n  condition: evt.type = execve and proc.env[MONITOR_TWIN] = \"a b\"\n  \
                output: \"%proc.env[MONITOR_TWIN] %proc.pid\"\n  priority: INFO\n";
    fs::write(&rules, rule)?;
    let agent = Agent::start(&["-r", rules.to_str().context("path")?])?;
    let mut command = Command::new(workload::binary()?);
    process::run(command.env("MONITOR_TWIN", "a b"), Duration::from_secs(10))?.successful()?;
    agent.wait_for("the environment", |finding| shown(finding, "proc.env[MONITOR_TWIN]") == "a b")?;
    ensure!(agent.stop()?.findings.len() == 1);
    Ok(())
}
