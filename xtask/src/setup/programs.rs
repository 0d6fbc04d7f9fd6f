//! Programs of Debian's that test containers run: unpacked into a root file system of their own in `target/programs`, never installed,
//! so that nothing of them runs or is configured here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{cmd::Cmd, repository};

/// What is asked for; everything that it needs comes along.
pub(super) const PACKAGES: &[&str] =
    &["nginx-light", "redis-server", "postgresql", "python3", "curl", "apt", "bash", "coreutils"];
/// A file of each, or the directory of one whose path has a version.
const FILES: &[&str] = &[
    "usr/sbin/nginx",
    "usr/bin/redis-server",
    "usr/lib/postgresql",
    "usr/bin/python3",
    "usr/bin/curl",
    "usr/bin/apt-get",
    "lib64/ld-linux-x86-64.so.2",
];

fn root() -> PathBuf {
    repository::target().join("programs/root")
}

/// Where they are, if they are there.
pub(super) fn found() -> Option<String> {
    let root = root();
    FILES.iter().all(|file| root.join(file).symlink_metadata().is_ok()).then(|| root.display().to_string())
}

/// Downloads and unpacks them, as if nothing were installed, and returns the command.
pub(super) fn install() -> Result<String> {
    let directory = repository::target().join("programs");
    let archives = directory.join("archives");
    fs::create_dir_all(archives.join("partial"))?;
    let status = directory.join("status");
    fs::write(&status, "")?;
    let option = |name: &str, path: &Path| format!("{name}={}", path.display());
    let download = Cmd::new("apt-get")
        .args(["--quiet", "--yes", "--no-install-recommends", "--download-only", "-o", "Debug::NoLocking=1"])
        .args(["-o", &option("Dir::State::status", &status), "-o", &option("Dir::Cache::archives", &archives)])
        .arg("install")
        .args(PACKAGES)
        .mend("this needs apt's lists: `apt-get update` brings them");
    let line = download.line();
    download.run()?;
    let root = root();
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(&root)?;
    for entry in fs::read_dir(&archives).context("no archives")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            Cmd::new("dpkg-deb").arg("--extract").arg(&path).arg(&root).no_input().output()?;
        }
    }
    fs::remove_dir_all(&archives)?;
    Ok(line)
}
