//! What is deployed is what the agent understands: the configuration and the arguments that the manifests give it.
use std::{fs, path::Path};

use anyhow::{Context as _, Result, anyhow};
use monitor::config::{Config, parse};
use tests::agent::monitor;

fn manifest() -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/manifests/monitor.yaml");
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

#[test]
fn the_configuration_of_the_manifests_is_one() -> Result<()> {
    let manifest = manifest()?;
    let (_, rest) = manifest.split_once("  monitor.yaml: |\n").context("no configuration in it")?;
    let lines = rest.lines().map_while(|line| line.strip_prefix("    "));
    let text = lines.collect::<Vec<_>>().join("\n");
    let config = Config::resolve(parse(&text).map_err(|error| anyhow!("{error}\n{text}"))?)?;
    assert_eq!(config.metrics.map(|address| address.to_string()).as_deref(), Some("0.0.0.0:9465"));
    assert_eq!(config.spool.map(|(directory, _)| directory), Some("/var/lib/monitor/spool".into()));
    Ok(())
}

#[test]
fn the_agent_takes_the_arguments_of_the_manifests() -> Result<()> {
    let manifest = manifest()?;
    let (_, rest) = manifest.split_once("          args:\n").context("no arguments in it")?;
    let arguments: Vec<_> = rest.lines().map_while(|line| line.strip_prefix("            - ")).collect();
    assert!(arguments.len() > 3 && arguments.first() == Some(&"run"), "{arguments:?}");
    // It stops behind the arguments, before anything is opened.
    let finished = monitor(arguments.iter().copied().chain(["--help"]))?.successful()?;
    assert!(finished.stdout_text().contains("--host-root"), "{}", finished.stdout_text());
    let wrong = monitor(arguments.iter().copied().chain(["--no-such-option"]))?;
    assert_eq!(wrong.status.code(), Some(2));
    assert!(wrong.stderr.contains("--no-such-option"), "{}", wrong.stderr);
    Ok(())
}
