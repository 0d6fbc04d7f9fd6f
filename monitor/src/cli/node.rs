//! `monitor node`: what the agent has done to nodes, undone.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Subcommand;
use serde_json::json;

use super::Exit;
use crate::{
    config::{Config, file},
    kubernetes::{
        release::{self, Released},
        settings::{Access, is_node_name},
    },
};

/// Options of `monitor node`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Remove the startup taint and the condition of agents from nodes, when they are uninstalled
    Release(ReleaseArgs),
}

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  monitor node release node-1 node-2\n  monitor node release --all --json\n\n\
                        An agent that still runs on a node writes the condition again.")]
struct ReleaseArgs {
    /// Names of nodes
    #[arg(value_name = "NODE", required_unless_present = "all", conflicts_with = "all")]
    nodes: Vec<String>,
    /// Every node of the cluster
    #[arg(long)]
    all: bool,
    /// Configuration of the agent: how the API is reached, and the key of the taint [default: as a pod reaches it]
    #[arg(short = 'c', long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Key of the taint [default: that of the configuration]
    #[arg(long, value_name = "KEY")]
    taint: Option<String>,
    /// Seconds to wait before, for agents that are just ending
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=600))]
    delay: u64,
    /// One JSON object a node
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let Command::Release(args) = &args.command;
    let config = match &args.config {
        Some(path) => Config::load(Some(path))?,
        None => Config::resolve(file::File { kubernetes: Some(file::Kubernetes::default()), ..file::File::default() })?,
    };
    let settings = config.kubernetes.context("the configuration has no section `kubernetes`")?;
    let of_config = settings.node.map(|node| node.taint);
    let taint = args.taint.clone().or(of_config).unwrap_or_else(|| file::Node::default().taint);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(release(args, &settings.access, &taint))
}

/// Every node, also behind one that fails.
async fn release(args: &ReleaseArgs, access: &Access, taint: &str) -> Result<Exit> {
    tokio::time::sleep(Duration::from_secs(args.delay)).await;
    let nodes = if args.all { release::names(access).await? } else { args.nodes.clone() };
    let mut failed = 0;
    for node in &nodes {
        ensure!(is_node_name(node), "{node:?} cannot be the name of a node");
        match release::release(access, node, taint).await {
            Ok(released) => println!("{}", line(args, node, released)),
            Err(error) => {
                failed += 1;
                eprintln!("monitor: {node}: {error}");
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {} nodes were not released: run this again", nodes.len());
    }
    Ok(Exit::Done)
}

fn line(args: &ReleaseArgs, node: &str, released: Released) -> String {
    let Released { taint, condition } = released;
    if args.json {
        return json!({"node": node, "taint_removed": taint, "condition_removed": condition}).to_string();
    }
    let what = match (taint, condition) {
        (true, true) => "taint and condition removed",
        (true, false) => "taint removed",
        (false, true) => "condition removed",
        (false, false) => "nothing to remove",
    };
    format!("{node}: {what}")
}
