//! `monitor rules` as users and their CI meet it: explain, test, check as JSON, fields. Needs no privileges.
use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tests::agent::monitor;

const RULES: &str = "\
- list: shells
  items: [sh, bash]
- macro: shell
  condition: proc.name in (shells)
- rule: Shell
  desc: A shell.
  condition: evt.type in (execve, read) and shell and proc.stdin.name contains x
  output: a shell (%proc.cmdline)
  priority: NOTICE
";

fn file(name: &str, contents: &str) -> Result<(TempDir, PathBuf)> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join(name);
    fs::write(&path, contents)?;
    Ok((directory, path))
}

fn demo() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../monitor/demo/container.mcap")
}

/// The rules as a library, without a sensor: `monitor/examples/evaluate_rules.rs`.
#[test]
fn the_example_evaluates_rules_on_events_of_its_own() -> Result<()> {
    let tests = std::env::current_exe()?;
    let example = tests.ancestors().nth(2).context("no target directory")?.join("examples/evaluate_rules");
    ensure!(example.is_file(), "{} is not built: cargo build --workspace --all-targets", example.display());
    let shown = std::process::Command::new(&example).output()?;
    let text = String::from_utf8_lossy(&shown.stdout);
    let lines: Vec<_> = text.lines().collect();
    ensure!(
        shown.status.success()
            && lines.len() == 2
            && lines.iter().any(|line| line.starts_with("Warning: Shell in container (command=sh -c id"))
            && lines.iter().any(|line| line.starts_with("Critical: Shell history removed")),
        "{text}"
    );
    Ok(())
}

#[test]
fn explain_shows_the_condition_with_everything_put_in() -> Result<()> {
    let (_directory, path) = file("rules.yaml", RULES)?;
    let rules = path.to_string_lossy();
    let shown = monitor(["rules", "explain", "Shell", "-r", &rules])?;
    let text = shown.stdout_text();
    for part in
        ["proc.name in (sh, bash)", "execve; not sent yet: read", "proc.stdin.name", "the sensor does not tell it yet"]
    {
        ensure!(text.contains(part), "{part:?} is missing:\n{text}");
    }
    let json: Value = serde_json::from_slice(&monitor(["rules", "explain", "Shell", "-r", &rules, "--json"])?.stdout)?;
    ensure!(json["kernel_does_not_send"] == serde_json::json!(["read"]), "{json}");
    ensure!(json["condition"]["and"][1] == "proc.name in (sh, bash)", "{json}");
    let misspelt = monitor(["rules", "explain", "Shel", "-r", &rules])?;
    ensure!(
        misspelt.status.code() == Some(2) && misspelt.stderr.contains("did you mean `Shell`"),
        "{}",
        misspelt.stderr
    );
    Ok(())
}

#[test]
fn check_says_what_rules_will_miss_and_tells_programs_in_json() -> Result<()> {
    let (_directory, path) = file("rules.yaml", &(RULES.to_owned() + "- macro: unused\n  condition: proc.nmae = x\n"))?;
    let path = path.to_string_lossy();
    let checked = monitor(["rules", "check", &path])?;
    ensure!(checked.status.code() == Some(0), "{}", checked.stderr);
    for part in ["LOAD_UNUSED_MACRO", "does not send read", "valid: 1 rule"] {
        ensure!(checked.stderr.contains(part), "{part:?} is missing: {}", checked.stderr);
    }
    let report: Value = serde_json::from_slice(&monitor(["rules", "check", "-o", "json", &path])?.stdout)?;
    ensure!(report["valid"] == true && report["problems"][0]["line"] == 10, "{report}");
    Ok(())
}

#[test]
fn counts_of_a_capture_are_printed_and_compared() -> Result<()> {
    let demo = demo();
    let capture = demo.to_string_lossy();
    let found = monitor(["rules", "test", "--capture", &capture])?;
    ensure!(found.stdout_text().contains("\"Drift in container\": 1"), "{}", found.stdout_text());
    let (_directory, expected) = file("expected.yaml", &found.stdout_text())?;
    let same = monitor(["rules", "test", "--capture", &capture, "--expect", &expected.to_string_lossy()])?;
    ensure!(same.status.code() == Some(0), "{}", same.stderr);
    fs::write(&expected, "Drift in container: 2\n")?;
    let differs = monitor(["rules", "test", "--capture", &capture, "--expect", &expected.to_string_lossy()])?;
    ensure!(differs.status.code() == Some(1), "{}", differs.status);
    for part in ["Drift in container: expected 2, found 1", "Fileless execution: expected 0, found 1"] {
        ensure!(differs.stderr.contains(part), "{part:?} is missing: {}", differs.stderr);
    }
    fs::write(&expected, "Drift in contaner: 1\n")?;
    let misspelt = monitor(["rules", "test", "--capture", &capture, "--expect", &expected.to_string_lossy()])?;
    ensure!(misspelt.status.code() == Some(2) && misspelt.stderr.contains("did you mean"), "{}", misspelt.stderr);
    Ok(())
}

#[test]
fn every_field_is_documented_with_type_and_example() -> Result<()> {
    let fields: Vec<Value> = serde_json::from_slice(&monitor(["rules", "fields", "--json"])?.stdout)?;
    ensure!(fields.len() > 300, "{}", fields.len());
    for field in &fields {
        for key in ["name", "type", "description", "example"] {
            let text = field[key].as_str().context("a column is missing")?;
            ensure!(!text.is_empty(), "{field}");
        }
        let why = field["note"].as_str().is_some();
        ensure!(field["supported"] == true || why, "what is not supported says why: {field}");
    }
    Ok(())
}

#[test]
fn falco_output_ends_with_the_fields_that_falco_suggests() -> Result<()> {
    let demo = demo();
    let first = |args: &[&str]| -> Result<String> {
        let capture = demo.to_string_lossy();
        let all: Vec<&str> =
            ["replay", &capture, "-o", "falco", "-n", "1"].into_iter().chain(args.iter().copied()).collect();
        let line: Value = serde_json::from_str(&monitor(all)?.stdout_text())?;
        Ok(line["output"].as_str().unwrap_or_default().to_owned())
    };
    ensure!(first(&[])?.contains(" container_image_tag="), "{}", first(&[])?);
    ensure!(!first(&["--append-output", "none"])?.contains(" container_image_tag="));
    ensure!(
        first(&["--append-output", "on %evt.hostname"])?.contains(" on "),
        "{}",
        first(&["--append-output", "on %evt.hostname"])?
    );
    Ok(())
}
