//! Root: whether this process has it, and how a single command gets it where not.
//!
//! Builds never run as root unless the user is root; only package installation, the agent and the live tests do.

use anyhow::{Result, bail};

use crate::cmd::Cmd;

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether `sudo` works without a question.
pub(crate) fn sudo_is_silent() -> bool {
    Cmd::new("sudo").args(["-n", "true"]).probe().is_some()
}

/// The program as root: as it is for root, through `sudo` (which may ask for a password) for others.
///
/// `what` completes "root is needed to …".
pub(crate) fn command(program: &str, what: &str) -> Result<Cmd> {
    if is_root() {
        return Ok(Cmd::new(program));
    }
    if Cmd::new("sudo").arg("-V").probe().is_none() {
        bail!("root is needed to {what}, and this machine has no sudo: run this command again as root");
    }
    Ok(Cmd::new("sudo").arg("--").arg(program))
}
