//! `monitor demo`: the bundled capture, and what to do next.

use std::io::Cursor;

use anyhow::Result;

use super::{
    Exit,
    capture::{ALWAYS, Capture},
    options::{FindingArgs, RuleArgs},
    replay,
};
use crate::{capture::Reader, drift::policy::Policy};

/// Made by this project on a container that copies a program and runs it, and calls what its seccomp profile denies.
static CAPTURE: &[u8] = include_bytes!("../../demo/container.mcap");

/// Options of `monitor demo`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    findings: FindingArgs,
}

/// Replays the bundled capture.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let selection = args.findings.selection(args.rules.load()?)?;
    eprintln!(
        "A container, recorded on a real node: it copies a program into itself and runs it, runs one from memory, and makes\n\
         system calls that its seccomp profile denies. These are the findings:\n"
    );
    let mut capture = Capture::Records(Reader::new(Cursor::new(CAPTURE))?);
    let replayed = replay::replay(&mut capture, selection, Policy::default(), &ALWAYS, &args.findings, 0)?;
    eprintln!(
        "\nNext:  sudo monitor run                watch this machine\n       \
         monitor tail                    follow a running agent over gRPC\n       \
         monitor rules list              the rules behind these findings\n       \
         monitor record -w FILE -- CMD   make a capture of your own, then: monitor replay FILE"
    );
    Ok(replayed.exit())
}
