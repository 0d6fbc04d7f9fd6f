//! Errors and help of the command line: what is wrong, where, and the exit code for it. Needs no privileges.
use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use tests::{
    agent::{self, PATIENCE, monitor},
    process::{self, Finished},
};

const NOBODY: u32 = 65534;

/// A usage, configuration or rule error: exit code 2, said on standard error alone, with every one of `words`.
fn usage_error(finished: &Finished, words: &[&str]) -> Result<()> {
    ensure!(finished.status.code() == Some(2), "{}\n{}", finished.status, finished.stderr);
    ensure!(finished.stdout.is_empty(), "errors go to standard error: {}", finished.stdout_text());
    ensure!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    for word in words {
        ensure!(finished.stderr.contains(word), "{word:?} is missing: {}", finished.stderr);
    }
    Ok(())
}

/// A directory with a file in it.
fn file(name: &str, contents: &str) -> Result<(TempDir, PathBuf)> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join(name);
    fs::write(&path, contents)?;
    Ok((directory, path))
}

/// The agent's binary, as a user without privileges.
fn as_nobody(args: &[&str]) -> Result<Finished> {
    let binary = agent::binary()?;
    if !rustix::process::geteuid().is_root() {
        return process::run(Command::new(binary).args(args), PATIENCE);
    }
    // A copy, because the directories above the original may be closed to others.
    let directory = tempfile::tempdir()?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    let copy = directory.path().join("monitor");
    fs::copy(binary, &copy)?;
    process::run(Command::new(&copy).args(args).current_dir("/").uid(NOBODY).gid(NOBODY), PATIENCE)
}

#[test]
fn run_without_privileges_says_what_is_missing() -> Result<()> {
    let finished = as_nobody(&["run"])?;
    usage_error(&finished, &[])?;
    let stderr = finished.stderr.to_lowercase();
    ensure!(stderr.contains("root") && stderr.contains("cap_bpf"), "both ways out are named: {}", finished.stderr);
    Ok(())
}

#[test]
fn rules_and_help_need_no_privileges() -> Result<()> {
    let listed = as_nobody(&["rules", "list"])?.successful()?.stdout_text().to_lowercase();
    ensure!(listed.contains("drift") && listed.contains("seccomp"), "the built-in rules are listed: {listed}");
    let version = as_nobody(&["--version"])?.successful()?.stdout_text();
    ensure!(version.starts_with("monitor "), "{version}");
    Ok(())
}

/// A rule file, the line that is wrong, and text that the message must quote.
const MALFORMED: [(&str, &str, usize, &str); 5] = [
    (
        "condition",
        "- rule: A\n  desc: d\n  condition: >\n    proc.name = a and\n    or proc.name = b\n  output: o\n  priority: WARNING\n",
        5,
        "or",
    ),
    (
        "field",
        "- rule: A\n  desc: d\n  condition: proc.nonsense = a\n  output: o\n  priority: WARNING\n",
        3,
        "proc.nonsense",
    ),
    (
        "macro",
        "- rule: A\n  desc: d\n  condition: proc.name = a and no_such_macro\n  output: o\n  priority: WARNING\n",
        3,
        "no_such_macro",
    ),
    ("priority", "- rule: A\n  desc: d\n  condition: proc.name = a\n  output: o\n  priority: URGENT\n", 5, "URGENT"),
    ("yaml", "- rule: A\n  desc: @bad\n  condition: proc.name = a\n", 2, "@bad"),
];

/// `FILE:LINE:COLUMN` with the given line, or an error with the message.
fn position(stderr: &str, path: &Path, line: usize) -> Result<()> {
    let place = format!("{}:", path.display());
    let found = stderr.split(&place).skip(1).find_map(|rest| {
        let mut numbers = rest.split(|character: char| !character.is_ascii_digit());
        Some((numbers.next()?.parse::<usize>().ok()?, numbers.next()?.parse::<usize>().ok()?))
    });
    let (at, column) = found.with_context(|| format!("no {place}LINE:COLUMN: {stderr}"))?;
    ensure!(at == line && column > 0, "line {line} is wrong, not {at}:{column}: {stderr}");
    ensure!(stderr.lines().any(|line| line.contains('^')), "no caret: {stderr}");
    Ok(())
}

#[test]
fn a_malformed_rule_file_is_shown_with_its_place() -> Result<()> {
    for (what, contents, line, quoted) in MALFORMED {
        let (_directory, path) = file("rules.yaml", contents)?;
        let finished = monitor([Path::new("rules"), Path::new("check"), &path])?;
        usage_error(&finished, &[quoted]).and_then(|()| position(&finished.stderr, &path, line)).context(what)?;
    }
    Ok(())
}

#[test]
fn every_command_that_reads_rules_refuses_a_malformed_file() -> Result<()> {
    let (_, contents, line, quoted) = MALFORMED[0];
    let (directory, path) = file("rules.yaml", contents)?;
    let capture = directory.path().join("any.mcap");
    fs::write(&capture, "")?;
    let mut commands = vec![vec![Path::new("replay"), &capture]];
    if rustix::process::geteuid().is_root() {
        commands.push(vec![Path::new("run")]);
    }
    for command in commands {
        let finished = monitor(command.iter().copied().chain([Path::new("-r"), path.as_path()]))?;
        usage_error(&finished, &[quoted])
            .and_then(|()| position(&finished.stderr, &path, line))
            .with_context(|| format!("{command:?}"))?;
    }
    Ok(())
}

#[test]
fn a_good_rule_file_is_accepted() -> Result<()> {
    let rules = "- list: shells\n  items: [sh, bash]\n- macro: in_container\n  condition: container.id != host\n\
                 - rule: A\n  desc: d\n  condition: in_container and proc.name in (shells)\n  output: a %proc.name\n  priority: WARNING\n";
    let (_directory, path) = file("rules.yaml", rules)?;
    monitor([Path::new("rules"), Path::new("check"), &path])?.successful()?;
    Ok(())
}

#[test]
fn a_missing_file_is_named() -> Result<()> {
    usage_error(&monitor(["rules", "check", "/nonexistent/rules.yaml"])?, &["/nonexistent/rules.yaml"])?;
    usage_error(&monitor(["replay", "/nonexistent/a.mcap"])?, &["/nonexistent/a.mcap"])
}

#[test]
fn an_input_of_unknown_format_is_named() -> Result<()> {
    for (name, contents) in [
        ("notes.txt", "these are notes, long enough for any header\n"),
        ("empty", ""),
        ("zeros", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
    ] {
        let (_directory, path) = file(name, contents)?;
        let finished = monitor([Path::new("replay"), &path])?;
        ensure!(
            finished.status.code().is_some_and(|code| code == 2 || code == 3),
            "{name}: {}\n{}",
            finished.status,
            finished.stderr
        );
        ensure!(finished.stderr.contains(&path.display().to_string()), "{name}: {}", finished.stderr);
        ensure!(finished.stdout.is_empty() && !finished.stderr.contains("panicked"), "{name}: {finished:?}");
    }
    Ok(())
}

#[test]
fn tail_without_an_agent_names_the_endpoint() -> Result<()> {
    let finished = monitor(["tail", "--endpoint", "unix:/nonexistent/monitor.sock"])?;
    ensure!(finished.status.code().is_some_and(|code| code != 0), "{finished:?}");
    ensure!(
        finished.stderr.contains("/nonexistent/monitor.sock") && !finished.stderr.contains("panicked"),
        "{}",
        finished.stderr
    );
    Ok(())
}

#[test]
fn an_unknown_option_is_a_usage_error() -> Result<()> {
    for command in ["run", "replay", "tail", "rules"] {
        usage_error(&monitor([command, "--no-such-option"])?, &["--no-such-option"]).context(command)?;
    }
    Ok(())
}

/// The subcommands that a help text lists.
fn subcommands(help: &str) -> Vec<String> {
    let listed =
        help.lines().skip_while(|line| line.trim() != "Commands:").skip(1).take_while(|line| !line.trim().is_empty());
    // A description that is wrapped stands deeper than the names.
    let names = listed
        .filter(|line| line.len() - line.trim_start().len() <= 4)
        .filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

fn help_of(command: &[String], depth: usize) -> Result<Vec<String>> {
    let finished = monitor(command.iter().map(String::as_str).chain(["--help"]))?
        .successful()
        .with_context(|| format!("{command:?}"))?;
    let help = finished.stdout_text();
    ensure!(help.contains("Usage:"), "{command:?}: {help}");
    let mut all = vec![command.join(" ")];
    for name in subcommands(&help).into_iter().filter(|_| depth > 0) {
        all.extend(help_of(&[command, &[name]].concat(), depth - 1)?);
    }
    Ok(all)
}

#[test]
fn every_subcommand_has_help() -> Result<()> {
    let all = help_of(&[], 3)?;
    for command in ["run", "replay", "record", "rules check", "rules list", "tail", "check", "demo"] {
        ensure!(all.iter().any(|name| name == command), "{command} is not among {all:?}");
    }
    Ok(())
}

#[test]
fn the_demo_shows_drift_and_seccomp_without_privileges() -> Result<()> {
    let finished = as_nobody(&["demo"])?.successful()?;
    let shown = finished.stdout_text().to_lowercase();
    ensure!(shown.contains("drift") && shown.contains("seccomp"), "{shown}");
    Ok(())
}
