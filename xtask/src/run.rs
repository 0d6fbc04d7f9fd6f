//! `cargo xtask run`: from a fresh clone to a watching agent.

use std::ffi::OsString;

use anyhow::Result;

use crate::{
    build::{self, Profile, Sensor},
    root, setup,
};

/// Options of `cargo xtask run`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask run\n  cargo xtask run -- -o json --min-priority warning")]
pub(crate) struct Args {
    /// Options of `monitor run`
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

/// Builds as this user and becomes the agent as root, so that signals and the exit code are the agent's.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::install(setup::Group::Build)?;
    let agent = build::agent(Profile::Release, Sensor::Bpf)?;
    root::command(&agent.to_string_lossy(), "load BPF programs")?.arg("run").args(&args.args).exec()
}
