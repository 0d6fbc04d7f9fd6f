//! `cargo xtask dist`: the release archive, and the image's content.

use std::{env::consts::ARCH, fs, path::Path};

use anyhow::{Context as _, Result};

use crate::{
    build::{self, Profile, Sensor},
    cmd::Cmd,
    image, repository,
};

/// What goes along with the binary, where the repository has it.
const FILES: &[&str] = &[
    "LICENSE",
    "README.md",
    "monitor/rules/monitor_rules.yaml",
    "monitor/rules/pod_security.yaml",
    "monitor/rules/aks.yaml",
    "deploy/manifests/monitor.yaml",
    "deploy/systemd/monitor.service",
];

/// Builds `target/dist/monitor-VERSION-ARCH-linux.tar.gz` and its `.sha256`, and `target/dist/image`.
pub(crate) fn run() -> Result<()> {
    let agent = build::agent(Profile::Release, Sensor::Bpf)?;
    let name = format!("monitor-{}-{ARCH}-linux", env!("CARGO_PKG_VERSION"));
    let dist = repository::target().join("dist");
    let staging = dist.join(&name);
    if staging.exists() {
        fs::remove_dir_all(&staging).with_context(|| format!("cannot empty {}", staging.display()))?;
    }
    fs::create_dir_all(&staging).with_context(|| format!("cannot make {}", staging.display()))?;
    copy(&agent, &staging)?;
    for file in FILES.iter().map(|file| repository::root().join(file)).filter(|file| file.exists()) {
        copy(&file, &staging)?;
    }
    archive(&dist, &name)?;
    let directory = dist.join("image");
    image::make(&agent, &directory)?;
    println!("{}", directory.join("root").display());
    println!("{}", directory.join("image.tar").display());
    Ok(())
}

fn copy(file: &Path, directory: &Path) -> Result<()> {
    let name = file.file_name().with_context(|| format!("{}: not a file", file.display()))?;
    fs::copy(file, directory.join(name)).with_context(|| format!("cannot copy {}", file.display()))?;
    Ok(())
}

/// Same input, same bytes: names sorted, no owner, the commit's time.
fn archive(dist: &Path, name: &str) -> Result<()> {
    let archive = format!("{name}.tar.gz");
    Cmd::new("tar")
        .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime"])
        .arg(image::commit_time()?)
        .args(["--use-compress-program", "gzip -n", "-cf", &archive, name])
        .directory(dist)
        .run()?;
    // Named without a directory, so that `sha256sum -c` works wherever the two files lie.
    let sum = Cmd::new("sha256sum").arg(&archive).directory(dist).output()?;
    let sum_path = dist.join(format!("{archive}.sha256"));
    fs::write(&sum_path, sum + "\n").with_context(|| format!("cannot write {}", sum_path.display()))?;
    println!("{}", dist.join(archive).display());
    println!("{}", sum_path.display());
    Ok(())
}
