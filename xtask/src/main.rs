//! `cargo xtask`: everything around the agent that cargo alone does not do. One file per command.
//!
//! Every command works from a fresh clone, prints what it runs, and says what to do where it fails.

mod bench;
mod build;
mod cluster;
mod cmd;
mod conformance;
mod demo;
mod dist;
mod image;
mod kernels;
mod manifests;
mod repository;
mod root;
mod run;
mod setup;
mod steps;
mod tables;
mod test;
mod tidy;
mod toolchain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Build, test and measure `monitor`.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
#[command(after_help = "First steps:\n  cargo xtask demo     a look at the findings: no root, nothing to install\n  \
                        cargo xtask run      install what is missing, build, watch this machine")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what building and testing need and this machine lacks
    Setup(setup::Args),
    /// Build the BPF programs and the agent with them inside
    Build(build::Args),
    /// Install what the build needs, build, and watch this machine; asks for root for the agent alone
    Run(run::Args),
    /// Build, and replay the bundled capture: no root, no BPF toolchain
    Demo(demo::Args),
    /// Run every test: units, replays, the live agent on this kernel with real containers
    Test(test::Args),
    /// Check what the compiler does not: lengths, layers, where unsafe may stand, links
    Tidy,
    /// Measure the agent's cost and speed on this machine, as ratios to doing without it; needs root
    Bench(bench::Args),
    /// Boot other kernels under QEMU, load the programs there and run live tests
    Kernels(kernels::Args),
    /// Start a real Kubernetes API server and run the tests of the agent against it; builds the server the first time
    Cluster(cluster::Args),
    /// Replay captures and compare the alerts with those that Falco gave
    Conformance(conformance::Args),
    /// Make the tables of event names from the facts about Falco's event schema
    Tables(tables::Args),
    /// Render the plain manifests from the chart, and check all that Kubernetes reads
    Manifests(manifests::Args),
    /// Make the release archive and its checksum in target/dist
    Dist,
    #[command(hide = true)]
    BenchLoad(bench::load::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Setup(args) => setup::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Tidy => tidy::run(),
        Command::Bench(args) => bench::run(&args),
        Command::Kernels(args) => kernels::run(&args),
        Command::Cluster(args) => cluster::run(&args),
        Command::Conformance(args) => conformance::run(&args),
        Command::Tables(args) => tables::run(&args),
        Command::Manifests(args) => manifests::run(&args),
        Command::Dist => dist::run(),
        Command::BenchLoad(args) => bench::load::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
