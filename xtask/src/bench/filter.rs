//! The seccomp filter of a measured load.

use std::env::consts::ARCH;

use anyhow::{Context as _, Result};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// As many comparisons as a container runtime's default profile makes before it allows a usual call.
const COMPARISONS: i64 = 60;
/// Numbers that no system call has, so that everything that the load does is allowed.
const FIRST_NUMBER: i64 = 4000;

/// Puts this thread under a filter that allows everything after [`COMPARISONS`] comparisons.
pub(super) fn install() -> Result<()> {
    seccompiler::apply_filter(&program()?).context("cannot install a seccomp filter")
}

fn program() -> Result<BpfProgram> {
    let arch = TargetArch::try_from(ARCH).with_context(|| format!("no seccomp filter for {ARCH}"))?;
    let denied = (FIRST_NUMBER..FIRST_NUMBER + COMPARISONS).map(|number| (number, Vec::new())).collect();
    let filter = SeccompFilter::new(denied, SeccompAction::Allow, SeccompAction::Errno(1), arch)?;
    Ok(filter.try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compares_as_often_as_it_says() {
        assert!(program().unwrap().len() >= usize::try_from(COMPARISONS).unwrap());
    }
}
