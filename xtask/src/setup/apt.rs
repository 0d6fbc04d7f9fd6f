//! Debian packages: asked for by name, installed in one call, as root.

use anyhow::{Result, bail};

use crate::{cmd::Cmd, root};

/// Whether the package is installed, as dpkg sees it.
pub(super) fn is_installed(package: &str) -> bool {
    let status = Cmd::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}", package]).probe();
    status.as_deref() == Some("installed")
}

/// Whether apt is here and has all of these, with its lists as fresh as they need to be.
pub(super) fn offers(packages: &[&str]) -> bool {
    if !is_here() {
        return false;
    }
    if all_known(packages) {
        return true;
    }
    update().is_ok() && all_known(packages)
}

/// Installs packages without a question and returns the command. Nothing that is there already is removed or upgraded
/// unless a dependency forces it.
pub(super) fn install(packages: &[&str]) -> Result<String> {
    if !is_here() {
        bail!("this machine has no apt-get: install {} by other means and try again", packages.join(" "));
    }
    if !all_known(packages) {
        update()?;
    }
    let unknown: Vec<_> = packages.iter().filter(|package| !is_known(package)).copied().collect();
    if !unknown.is_empty() {
        bail!(
            "apt knows no package {}: add a source of packages that has it (Debian 12 and later have all; LLVM is at \
             apt.llvm.org), or use the agent without a sensor: `cargo xtask build --no-bpf`",
            unknown.join(", ")
        );
    }
    let line = get()?.args(packages).line();
    if get()?.args(packages).run().is_err() {
        // Lists that are older than the mirror name files that are gone.
        update()?;
        get()?.args(packages).mend("see what apt-get says above; `apt-get -f install` mends a broken state").run()?;
    }
    Ok(line)
}

fn is_here() -> bool {
    Cmd::new("apt-get").arg("--version").probe().is_some()
}

fn all_known(packages: &[&str]) -> bool {
    packages.iter().all(|package| is_known(package))
}

fn is_known(package: &str) -> bool {
    let policy = Cmd::new("apt-cache").args(["policy", package]).env("LC_ALL", "C").probe().unwrap_or_default();
    has_candidate(&policy)
}

/// `apt-cache policy` prints nothing for an unknown name, and `Candidate: (none)` where only its name is known.
fn has_candidate(policy: &str) -> bool {
    policy.lines().filter_map(|line| line.trim().strip_prefix("Candidate:")).any(|version| version.trim() != "(none)")
}

fn update() -> Result<()> {
    root::command("apt-get", "install packages")?.args(["--quiet", "update"]).run()
}

fn get() -> Result<Cmd> {
    // Through `env`, because sudo passes no environment on.
    let quiet = ["DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", "--option", "Dpkg::Use-Pty=0"];
    let install = ["install", "--yes", "--no-install-recommends"];
    Ok(root::command("env", "install packages")?.args(quiet).args(install).no_input())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_known_when_there_is_a_version_to_install() {
        assert!(has_candidate("runc:\n  Installed: (none)\n  Candidate: 1.1.5\n"));
        assert!(!has_candidate("runc:\n  Installed: (none)\n  Candidate: (none)\n"));
        assert!(!has_candidate(""));
    }
}
