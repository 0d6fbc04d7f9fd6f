//! `cargo xtask build`: the BPF object, then the agent with the object inside.
//!
//! The object is built apart, by another compiler and into a target directory of its own; `monitor/build.rs` takes it from
//! the path in `MONITOR_BPF_OBJECT`.

use std::path::PathBuf;

use anyhow::Result;

use crate::{cmd::Cmd, repository, toolchain};

/// Where the agent's build script finds the object.
pub(crate) const OBJECT_VARIABLE: &str = "MONITOR_BPF_OBJECT";

/// `--btf`: the loader needs type information; `debuginfo`: the linker makes it from that; `v3`: with 32-bit registers the
/// verifier keeps the bounds of 32-bit values, which it otherwise loses where they are widened.
const BPF_RUSTFLAGS: &str = "-C link-arg=--btf -C debuginfo=2 -C target-cpu=v3";

/// Options of `cargo xtask build`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Optimised, as it is shipped
    #[arg(long)]
    release: bool,
    #[command(flatten)]
    sensor: SensorArgs,
    /// Only the BPF object
    #[arg(long, conflicts_with_all = ["no_bpf", "release"])]
    object: bool,
}

#[derive(Clone, Debug, clap::Args)]
struct SensorArgs {
    /// With the BPF programs' debug lines (`monitor run --bpf-log`)
    #[arg(long, conflicts_with = "no_bpf")]
    bpf_log: bool,
    /// Without BPF programs: an agent that replays but cannot watch; needs no BPF toolchain
    #[arg(long)]
    no_bpf: bool,
}

/// How the agent is optimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Fast to build.
    Dev,
    /// As it is shipped.
    Release,
}

/// What the agent holds of the kernel side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sensor {
    /// Nothing.
    None,
    /// The BPF programs.
    Bpf,
    /// The BPF programs with their debug lines.
    BpfLog,
}

/// Builds and says where the results are.
pub(crate) fn run(args: &Args) -> Result<()> {
    let sensor = match (args.sensor.no_bpf, args.sensor.bpf_log) {
        (true, _) => Sensor::None,
        (false, false) => Sensor::Bpf,
        (false, true) => Sensor::BpfLog,
    };
    if args.object {
        println!("{}", object(args.sensor.bpf_log)?.display());
        return Ok(());
    }
    let profile = if args.release { Profile::Release } else { Profile::Dev };
    println!("{}", agent(profile, sensor)?.display());
    Ok(())
}

/// Builds the agent and returns its path.
pub(crate) fn agent(profile: Profile, sensor: Sensor) -> Result<PathBuf> {
    let mut cargo = Cmd::new("cargo").args(["build", "--package", "monitor"]);
    if profile == Profile::Release {
        // What is shipped has the Kubernetes client.
        cargo = cargo.args(["--release", "--features", "kubernetes"]);
    }
    cargo = match sensor {
        Sensor::None => cargo.env_remove(OBJECT_VARIABLE),
        Sensor::Bpf => cargo.env(OBJECT_VARIABLE, object(false)?),
        Sensor::BpfLog => cargo.env(OBJECT_VARIABLE, object(true)?).args(["--features", "bpf-log"]),
    };
    cargo.run()?;
    Ok(agent_path(profile))
}

/// Where the agent is once it is built.
pub(crate) fn agent_path(profile: Profile) -> PathBuf {
    repository::target().join(if profile == Profile::Release { "release" } else { "debug" }).join("monitor")
}

/// Builds the BPF object and returns its absolute path.
pub(crate) fn object(log: bool) -> Result<PathBuf> {
    let compiler = toolchain::complete()?;
    // A directory for each variant: a path that changes with the variant makes the agent's build script run again.
    let directory = repository::target().join(if log { "bpf-log" } else { "bpf" });
    let mut cargo = compiler
        .cargo_build()
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_RUSTFLAGS", BPF_RUSTFLAGS)
        .args(["--package", "monitor-ebpf", "--bin", "monitor-ebpf", "--profile", "bpf", "--target-dir"])
        .arg(&directory);
    if log {
        cargo = cargo.args(["--features", "bpf-log"]);
    }
    cargo.run()?;
    Ok(directory.join(toolchain::TARGET).join("bpf/monitor-ebpf"))
}
