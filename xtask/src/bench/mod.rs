//! `cargo xtask bench`: what the agent costs and how fast it is, on this machine.
//!
//! Times of different minutes are not comparable on a shared machine, ratios of neighbouring measurements are. So every
//! round measures all variants one after the other, in an order that rotates; a ratio is taken within its round, and
//! reported is the median over all rounds with its quartiles. The load has one CPU, the agent another.
//!
//! A number short of its aim is reported, not failed: this is a measurement, not a test.

mod agent;
mod calls;
mod delivery;
mod filter;
pub(crate) mod load;
mod machine;
mod memory;
mod replay;
mod report;
mod ring;
mod rules;
mod scap;
mod start;
mod statistics;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::ValueEnum;
use tempfile::TempDir;

use self::{load::Load, machine::Machine, report::Row};
use crate::{
    build::{self, Profile, Sensor},
    root,
};

/// Options of `cargo xtask bench`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sudo -E env PATH=\"$PATH\" cargo xtask bench\n  cargo xtask bench --json getppid ring > \
                        bench.json\n\nClose to nothing else should run on the machine meanwhile."
)]
pub(crate) struct Args {
    /// What to measure [default: everything]
    #[arg(value_name = "NAME")]
    names: Vec<Name>,
    /// Print JSON on standard output
    #[arg(long)]
    json: bool,
    /// How often every variant of a system call's cost is measured
    #[arg(long, value_name = "COUNT", default_value_t = 15, value_parser = clap::value_parser!(u16).range(3..))]
    rounds: u16,
}

/// A benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Cost of a call that nobody asks about
    Getppid,
    /// The same under a seccomp filter that allows it
    GetppidFiltered,
    /// Cost of reading and writing a byte
    ReadWrite,
    /// Cost of opening a file for reading
    OpenClose,
    /// Cost of opening a file for writing, which is recorded
    OpenWrite,
    /// Cost of a new process that runs a program, which is recorded
    ForkExec,
    /// Cost of a new process whose program loads 1,500 shared objects
    SharedObjects,
    /// What drift and seccomp cost those who start programs: fork-exec and shared-objects
    Detections,
    /// Cost of a connection over loopback
    Connect,
    /// Cost of sending a datagram over loopback
    UdpSend,
    /// Cost of compiling a file
    Compile,
    /// All of these costs of calls
    Overhead,
    /// Records per second from the kernel, and how many are lost
    Ring,
    /// Records per second from a capture
    Replay,
    /// Memory of the agent after load
    Memory,
    /// Events per second and memory of a replay of a .scap capture
    Scap,
    /// Time to readiness and to the first event
    Start,
    /// Cost of rules per event, by their number
    #[value(alias = "rules_scaling")]
    RulesScaling,
    /// What spool and sinks carry, and what a finding costs; takes some minutes
    Delivery,
}

impl Name {
    /// The loads whose cost it measures.
    fn loads(self) -> &'static [Load] {
        match self {
            Self::Getppid => &[Load::Getppid],
            Self::GetppidFiltered => &[Load::GetppidFiltered],
            Self::ReadWrite => &[Load::ReadWrite],
            Self::OpenClose => &[Load::OpenClose],
            Self::OpenWrite => &[Load::OpenWrite],
            Self::ForkExec => &[Load::ForkExec],
            Self::SharedObjects => &[Load::SharedObjects],
            Self::Detections => &[Load::ForkExec, Load::SharedObjects],
            Self::Connect => &[Load::Connect],
            Self::UdpSend => &[Load::UdpSend],
            Self::Compile => &[Load::Compile],
            Self::Overhead => Load::value_variants(),
            Self::Ring
            | Self::Replay
            | Self::Memory
            | Self::Scap
            | Self::Start
            | Self::RulesScaling
            | Self::Delivery => &[],
        }
    }
}

/// What every benchmark works with.
struct Bench {
    agent: PathBuf,
    machine: Machine,
    directory: TempDir,
    rounds: u16,
}

/// Measures and reports.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !root::is_root() {
        bail!("benchmarks load BPF programs and need root: sudo -E env PATH=\"$PATH\" cargo xtask bench");
    }
    let agent = build::agent(Profile::Release, Sensor::Bpf)?;
    let directory = tempfile::Builder::new().prefix("monitor-bench-").tempdir()?;
    let bench = Bench { agent, machine: Machine::new()?, directory, rounds: args.rounds };
    let names = if args.names.is_empty() { Name::value_variants() } else { &args.names };
    let rows = bench.measure(names)?;
    if args.json {
        println!("{}", report::json(&bench.machine, &rows));
    } else {
        print!("{}", report::text(&bench.machine, &rows));
    }
    Ok(())
}

impl Bench {
    fn measure(&self, names: &[Name]) -> Result<Vec<Row>> {
        let mut loads: Vec<Load> = Vec::new();
        for load in names.iter().flat_map(|name| name.loads()) {
            if !loads.contains(load) {
                loads.push(*load);
            }
        }
        let mut rows = if loads.is_empty() { Vec::new() } else { calls::measure(self, &loads)? };
        for name in names {
            rows.extend(match name {
                Name::Ring => ring::measure(self)?,
                Name::Replay => replay::measure(self)?,
                Name::Memory => memory::measure(self)?,
                Name::Scap => scap::measure(self)?,
                Name::Start => start::measure(self)?,
                Name::RulesScaling => rules::measure()?,
                Name::Delivery => delivery::measure(self)?,
                _ => Vec::new(),
            });
        }
        Ok(rows)
    }
}
