//! `cargo xtask setup`: what building and testing need and this machine lacks.
//!
//! A need is met when the thing itself is there and works, never because a marker file says so. So a second run installs
//! nothing, and a run after somebody removed a package puts it back.

mod apt;
mod need;
mod programs;
mod python;

pub(crate) use python::tool as python_tool;

use anyhow::{Result, bail};

use self::need::{NEEDS, Need, Source};
use crate::{
    cmd::Cmd,
    toolchain::{self, Compiler},
};

/// Options of `cargo xtask setup`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Each line of the report is: ok (was there), installed (and by which command), or missing.\n\
                        Packages are installed as root: by sudo where you are not root.")]
pub(crate) struct Args {
    /// Install nothing; fail if something is missing
    #[arg(long)]
    check: bool,
    /// Only what building needs, not what the tests need
    #[arg(long)]
    build: bool,
}

/// What is needed for what. A later group contains the earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// To build the agent with its BPF programs.
    Build,
    /// To run the tests.
    Test,
    /// To run them against a Kubernetes API server, which is built first.
    Cluster,
}

/// Installs everything, or only looks.
pub(crate) fn run(args: &Args) -> Result<()> {
    let group = if args.build { Group::Build } else { Group::Test };
    if !args.check {
        return install(group);
    }
    let missing = survey(group);
    for need in &missing {
        report("missing", need.name, "run `cargo xtask setup`");
    }
    if !missing.is_empty() {
        bail!("{} missing: run `cargo xtask setup`", count(missing.len()));
    }
    Ok(())
}

/// Installs what is missing of a group, and says line by line what was there and what was not.
pub(crate) fn install(group: Group) -> Result<()> {
    let missing = survey(group);
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        eprintln!("{} is missing and will be installed", need.name);
    }
    let commands = obtain(&missing)?;
    for need in &missing {
        match need.found() {
            Some(what) => report("installed", need.name, &what),
            None => report("missing", need.name, "the commands above did not bring it"),
        }
    }
    for command in commands {
        eprintln!("  with: {command}");
    }
    if let Some(need) = missing.iter().find(|need| need.found().is_none()) {
        bail!("{} is still missing: {}", need.name, need.by_hand());
    }
    Ok(())
}

/// Reports what is there and returns what is not.
fn survey(group: Group) -> Vec<&'static Need> {
    let mut missing = Vec::new();
    for need in NEEDS.iter().filter(|need| need.group <= group) {
        match need.found() {
            Some(what) => report("ok", need.name, &what),
            None => missing.push(need),
        }
    }
    missing
}

fn report(state: &str, name: &str, what: &str) {
    eprintln!("{state:9}  {name:14}  {what}");
}

fn count(things: usize) -> String {
    if things == 1 { "1 thing is".to_owned() } else { format!("{things} things are") }
}

/// Runs the commands that bring the needs: all packages at once, then what is built from source. Returns the commands.
fn obtain(missing: &[&Need]) -> Result<Vec<String>> {
    let mut packages = Vec::new();
    let mut commands = Vec::new();
    for need in missing {
        match need.source {
            Source::Packages(names) => packages.extend_from_slice(names),
            Source::Compiler if apt::offers(need::COMPILER_PACKAGES) => {
                packages.extend_from_slice(need::COMPILER_PACKAGES);
            }
            Source::Compiler => commands.push(compiler_from_rustup()?),
            Source::Linker => packages.extend_from_slice(need::LINKER_PACKAGES),
            Source::Programs => {}
            Source::Python => {
                packages.extend(python::PACKAGES.iter().copied().filter(|package| apt::offers(&[*package])));
            }
        }
    }
    packages.retain(|package| !apt::is_installed(package));
    if !packages.is_empty() {
        commands.push(apt::install(&packages)?);
    }
    if missing.iter().any(|need| matches!(need.source, Source::Linker)) {
        commands.push(linker_from_source()?);
    }
    if missing.iter().any(|need| matches!(need.source, Source::Python)) {
        commands.push(python::install()?);
    }
    if missing.iter().any(|need| matches!(need.source, Source::Programs)) {
        commands.push(programs::install()?);
    }
    Ok(commands)
}

/// Where no package brings a `core` for BPF, a rustup toolchain with the library's sources does.
fn compiler_from_rustup() -> Result<String> {
    if Cmd::new("rustup").arg("--version").probe().is_none() {
        bail!(
            "neither apt nor rustup is here to bring a compiler for {}: install rustup (https://rustup.rs) and run \
             `cargo xtask setup` again",
            toolchain::TARGET
        );
    }
    let pinned = Cmd::new("rustup").args(["component", "add", "rust-src"]);
    let line = pinned.line();
    if pinned.run().is_ok() && Compiler::find().is_some() {
        return Ok(line);
    }
    let nightly = Cmd::new("rustup")
        .args(["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"])
        .mend("this needs the network; on Debian the packages rustc-web and libstd-rust-web-dev-bpf do as well");
    let line = nightly.line();
    nightly.run()?;
    Ok(line)
}

/// Builds bpf-linker, which takes a minute or two.
fn linker_from_source() -> Result<String> {
    let prefix = format!("/usr/lib/llvm-{}", toolchain::LINKER_LLVM);
    let path = std::env::var("PATH").unwrap_or_default();
    let install = Cmd::new("cargo")
        .args(["install", "bpf-linker", "--version", toolchain::LINKER_VERSION, "--locked", "--force"])
        .args(["--no-default-features", "--features", &format!("llvm-{}", toolchain::LINKER_LLVM)])
        .mend("it needs the LLVM packages named above, and cargo's bin directory in PATH");
    let line = install.line();
    eprintln!("building bpf-linker takes a minute or two");
    install
        .env("PATH", format!("{prefix}/bin:{path}"))
        .env("LLVM_PREFIX", &prefix)
        .env(&format!("LLVM_SYS_{}1_PREFIX", toolchain::LINKER_LLVM), &prefix)
        .run()?;
    Ok(line)
}
