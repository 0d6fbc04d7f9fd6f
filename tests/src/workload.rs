//! Where the workload binary is: named by `MONITOR_TEST_WORKLOAD`, else built here once, by rustc alone.
//!
//! Cargo would build every dependency of this package a second time for a static binary; the source needs none of them.
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::process;

/// The statically linked workload.
pub fn binary() -> Result<PathBuf> {
    if let Some(named) = env::var_os("MONITOR_TEST_WORKLOAD") {
        return Ok(named.into());
    }
    build(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/workload"), &profile_directory()?)
}

/// The directory that cargo puts this profile's binaries in.
pub(crate) fn profile_directory() -> Result<PathBuf> {
    let program = env::current_exe()?;
    // Tests are one directory deeper than binaries.
    let directory = program.ancestors().skip(1).find(|directory| !directory.ends_with("deps"));
    directory.map(Path::to_owned).context("the test binary is in no target directory")
}

/// Compiles unless the binary is newer than its sources. Test processes run at once, so one builds and the others wait for it.
fn build(source: &Path, directory: &Path) -> Result<PathBuf> {
    let binary = directory.join("static-workload");
    let lock = fs::File::create(directory.join("static-workload.lock"))?;
    lock.lock()?;
    let sources = fs::read_dir(source)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    if sources.iter().all(|source| is_newer(&binary, source)) {
        return Ok(binary);
    }
    let unfinished = directory.join("static-workload.new");
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols", "-o"]);
    rustc.arg(&unfinished).arg(source.join("main.rs")).current_dir(env!("CARGO_MANIFEST_DIR"));
    process::run(&mut rustc, Duration::from_mins(2))?.successful().context("cannot build the workload")?;
    fs::rename(&unfinished, &binary)?;
    Ok(binary)
}

/// Whether what was built was built from the source as it is.
pub(crate) fn is_newer(built: &Path, source: &Path) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
    changed(built).is_ok_and(|built| changed(source).is_ok_and(|written| written < built))
}
