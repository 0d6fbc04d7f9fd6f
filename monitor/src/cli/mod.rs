//! The command line: one file per command, options that several share in [`options`].
//!
//! Findings go to stdout, everything else to stderr. Exit codes are in [`Exit`].

mod account;
mod capture;
mod check;
mod demo;
mod drift;
mod events;
mod kubernetes;
mod live;
#[cfg(feature = "kubernetes")]
mod node;
mod options;
mod profile_sync;
mod profiles_change;
mod record;
mod reload;
mod replay;
mod rule_files;
mod rules;
mod rules_change;
mod run;
mod seccomp;
mod server;
mod sink;
mod spool;
mod status;
mod tail;
mod watch;

use std::{fmt::Display, io::Write as _, process::ExitCode};

use clap::{Parser, Subcommand};

/// Runtime security monitor for Kubernetes nodes: Falco rules, container drift, seccomp violations.
#[derive(Debug, Parser)]
#[command(name = "monitor", version, max_term_width = 100, propagate_version = true)]
#[command(after_help = "Exit codes: 0 done; 1 a finding at or above --fail-on; 2 usage, configuration or rule error; \
                        3 damaged input (what came before the damage is still reported).")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[expect(clippy::doc_markdown, reason = "these lines are the help text")]
#[derive(Debug, Subcommand)]
enum Command {
    /// Replay a bundled capture: no root, no Kubernetes, a first look
    Demo(demo::Args),
    /// Watch this machine; needs root or CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH
    Run(run::Args),
    /// Give the findings of captures, as a live run would have given them
    Replay(replay::Args),
    /// Write what happens on this machine to a capture
    Record(record::Args),
    /// Check rules and look into them; needs no privileges
    Rules(rules::Args),
    /// Check drift policies, make them from what is seen, and explain findings of drift
    Drift(drift::Args),
    /// Check and compare seccomp profiles, try them on captures or on what runs, make them from what was seen, put them on this node
    Seccomp(seccomp::Args),
    /// Follow the findings of a running agent over gRPC
    Tail(tail::Args),
    /// Take findings that agents push: the reference consumer
    Sink(sink::Args),
    /// Look into a spool of findings, also beside a running agent
    Spool(spool::Args),
    /// Undo what agents have done to nodes of a Kubernetes cluster
    #[cfg(feature = "kubernetes")]
    Node(node::Args),
    /// Tell what this kernel and machine offer
    Check(check::Args),
    /// Attach an empty program to sys_exit until told to stop: the baseline of `cargo xtask bench`
    #[command(hide = true)]
    BenchBaseline,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done.
    Done,
    /// Done, and there was a finding at or above `--fail-on`.
    Found,
    /// Usage, configuration or rules are wrong, or the machine cannot do it.
    Usage,
    /// The input is damaged.
    Damaged,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Found => 1,
            Exit::Usage => 2,
            Exit::Damaged => 3,
        })
    }
}

impl Cli {
    /// Runs the command.
    pub fn run(self) -> ExitCode {
        start_log();
        let result = match self.command {
            Command::Demo(args) => demo::run(&args),
            Command::Run(args) => run::run(args),
            Command::Replay(args) => replay::run(&args),
            Command::Record(args) => record::run(&args),
            Command::Rules(args) => rules::run(&args),
            Command::Drift(args) => drift::run(&args),
            Command::Seccomp(args) => seccomp::run(&args),
            Command::Tail(args) => tail::run(args),
            Command::Sink(args) => sink::run(&args),
            Command::Spool(args) => spool::run(&args),
            #[cfg(feature = "kubernetes")]
            Command::Node(args) => node::run(&args),
            Command::Check(args) => check::run(&args),
            Command::BenchBaseline => live::baseline(),
        };
        match result {
            Ok(exit) => exit.into(),
            Err(error) => {
                anstream::eprintln!("monitor: {}", chain(&error));
                Exit::Usage.into()
            }
        }
    }
}

/// An error with its causes, leaving out those that the text before quotes already.
fn chain(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |text, cause| match cause.to_string() {
        cause if text.is_empty() => cause,
        cause if text.contains(&cause) => text,
        cause => format!("{text}: {cause}"),
    })
}

/// Says it on stderr, with colours where that shows them. That nobody can hear it is no reason for an agent to end.
fn say(text: impl Display) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// The agent's own log: stderr, warnings by default, `MONITOR_LOG` for more. Lines of the BPF programs only come where they
/// were asked for.
pub fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("MONITOR_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,monitor_ebpf=debug"));
    let colour = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour).init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("disk full").context("cannot write: disk full").context("no capture");
        assert_eq!(super::chain(&error), "no capture: cannot write: disk full");
    }

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
