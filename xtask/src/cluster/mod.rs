//! `cargo xtask cluster`: the agent on a real kube-apiserver and etcd.
//!
//! The API server is built once, which takes long; so this is no part of `cargo xtask test`. The tests start and end it and etcd
//! themselves, on loopback, each in a directory of its own.

mod build;

use std::{ffi::OsString, fs};

use anyhow::{Context as _, Result};

use crate::{
    build::{OBJECT_VARIABLE, Profile, agent_path, object},
    cmd::Cmd,
    repository, setup, test,
};

/// An agent with the client, and tests that need it.
const FEATURES: &str = "monitor/kubernetes,tests/kubernetes";

/// Options of `cargo xtask cluster`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask cluster\n  cargo xtask cluster -- taint --nocapture\n\nRun it as root: the \
                        agent is a real one."
)]
pub(crate) struct Args {
    /// Build the API server and go no further
    #[arg(long)]
    build_only: bool,
    /// Filters and options of the test binary, as after `cargo test --`
    #[arg(last = true, value_name = "FILTER")]
    filter: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    setup::install(setup::Group::Cluster)?;
    let server = build::server()?;
    if args.build_only {
        println!("{}", server.program.display());
        return Ok(());
    }
    let workload = test::workload()?;
    let cargo = |command: &str| {
        // The whole workspace, so that dependencies are those of an ordinary build.
        let cargo = Cmd::new("cargo").args([command, "--workspace", "--test", "cluster", "--features", FEATURES]);
        Ok::<_, anyhow::Error>(cargo.env(OBJECT_VARIABLE, object(false)?))
    };
    cargo("build")?.args(["--bin", "monitor"]).run()?;
    // The next ordinary build puts its own agent there.
    let agent = repository::target().join("cluster/monitor");
    fs::copy(agent_path(Profile::Dev), &agent).context("cannot keep the agent")?;
    eprintln!("on Kubernetes {}", server.version);
    cargo("test")?
        .args(["--", "--test-threads=1"])
        .args(&args.filter)
        .env("MONITOR_BIN", agent)
        .env("MONITOR_TEST_WORKLOAD", workload)
        .env("MONITOR_TEST_APISERVER", server.program)
        .run()
}
