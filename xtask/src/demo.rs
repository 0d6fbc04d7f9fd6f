//! `cargo xtask demo`: a first look at the findings, with nothing but cargo.

use std::ffi::OsString;

use anyhow::Result;

use crate::{
    build::{self, Profile, Sensor},
    cmd::Cmd,
    toolchain,
};

/// Options of `cargo xtask demo`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example: cargo xtask demo -- -o json")]
pub(crate) struct Args {
    /// Options of `monitor demo`
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

/// Builds, with BPF programs only where that needs no installation, and becomes `monitor demo`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let sensor = if toolchain::is_complete() { Sensor::Bpf } else { Sensor::None };
    let agent = build::agent(Profile::Dev, sensor)?;
    Cmd::new(agent).arg("demo").args(&args.args).exec()
}
