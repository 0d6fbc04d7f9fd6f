//! `cargo xtask test`: every test of the workspace, the live ones as root.
//!
//! Everything is compiled by one `cargo build` first, with the features and the environment that `cargo test` has, so that
//! nothing is compiled twice and the agent's binary is there for the integration tests.

use std::{ffi::OsString, fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::{
    build::{self, OBJECT_VARIABLE, Profile},
    cmd::Cmd,
    conformance, image, kernels, manifests, repository, root, setup,
    steps::Steps,
};

/// Options of `cargo xtask test`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask test\n  cargo xtask test -- drift --nocapture\n\nLive tests need root: \
                        run this as root, or make `sudo` work without a question (`sudo -v`). What cannot run here is \
                        skipped with a message, and fails where CI=true."
)]
pub(crate) struct Args {
    /// Filters and options of the test binaries, as after `cargo test --`
    #[arg(last = true, value_name = "FILTER")]
    filter: Vec<OsString>,
}

/// What the tests are told about this build.
struct Environment {
    object: PathBuf,
    workload: PathBuf,
    image: PathBuf,
}

/// What runs elsewhere than here, such as on another kernel.
pub(crate) struct Binaries {
    /// The agent.
    pub(crate) agent: PathBuf,
    /// What test containers run.
    pub(crate) workload: PathBuf,
    /// Test binaries by name.
    pub(crate) tests: Vec<(String, PathBuf)>,
}

/// Builds the agent, the workload and these integration tests as the ordinary run does.
pub(crate) fn binaries(names: &[&str]) -> Result<Binaries> {
    let environment = Environment::new(build::object(false)?, workload()?);
    environment.cargo(&["build", "--workspace", "--all-targets"]).run()?;
    environment.binaries(names)
}

/// Sets up, builds, runs all tests, and shows a table of it all.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut steps = Steps::default();
    let result = all(&mut steps, args);
    eprintln!("\ncargo xtask test:\n{}", steps.table());
    result
}

fn all(steps: &mut Steps, args: &Args) -> Result<()> {
    steps.run("setup", || setup::install(setup::Group::Test))?;
    let object = steps.run("BPF object", || build::object(false))?;
    let workload = steps.run("test workload", workload)?;
    let environment = Environment::new(object, workload);
    steps.run("compile", || environment.cargo(&["build", "--workspace", "--all-targets"]).run())?;
    steps.run("image", || image::make(&build::agent_path(Profile::Dev), &environment.image))?;
    // One step's failing tests must not hide the next one's.
    let outcomes = [
        steps.run("tests", || tests(&environment, args)),
        steps.run("documentation tests", || environment.test("--doc", args).run()),
        steps.run("other kernels", || kernels::test(&environment.binaries(kernels::TESTS)?)),
        steps.run("manifests", manifests::test),
        steps.run("conformance", || conformance::test(&build::agent_path(Profile::Dev))),
    ];
    outcomes.into_iter().collect()
}

/// Integration tests start agents and containers: as root, where that can be had without a question. Unit tests go along,
/// because cargo selects features by targets and would compile half the workspace again for integration tests alone.
fn tests(environment: &Environment, args: &Args) -> Result<()> {
    let cargo = environment.test("--tests", args);
    if root::is_root() {
        return cargo.run();
    }
    if root::sudo_is_silent() {
        eprintln!("NOT ROOT: the tests run through sudo");
        return cargo.env(&runner_variable(), Environment::sudo()).run();
    }
    eprintln!(
        "NOT ROOT, and sudo would ask: live tests WILL BE SKIPPED. Run `sudo -v` first, or this command as root."
    );
    cargo.run()
}

impl Environment {
    fn new(object: PathBuf, workload: PathBuf) -> Self {
        Self { object, workload, image: repository::target().join("image") }
    }

    fn cargo(&self, args: &[&str]) -> Cmd {
        Cmd::new("cargo")
            .args(args)
            .env(OBJECT_VARIABLE, &self.object)
            .env("MONITOR_BIN", build::agent_path(Profile::Dev))
            .env("MONITOR_TEST_WORKLOAD", &self.workload)
            .env("MONITOR_TEST_IMAGE", &self.image)
    }

    fn test(&self, which: &str, args: &Args) -> Cmd {
        self.cargo(&["test", "--workspace", "--no-fail-fast", which]).arg("--").args(&args.filter)
    }

    /// What is built already, for elsewhere.
    fn binaries(&self, names: &[&str]) -> Result<Binaries> {
        let mut args = vec!["test", "--workspace", "--no-run", "--message-format", "json"];
        args.extend(names.iter().flat_map(|name| ["--test", name]));
        let messages = self.cargo(&args).output()?;
        let built = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let tests = built.filter_map(|message| {
            let name = message.pointer("/target/name")?.as_str()?.to_owned();
            let path = PathBuf::from(message.get("executable")?.as_str()?);
            names.contains(&&*name).then_some((name, path))
        });
        let tests: Vec<_> = tests.collect();
        ensure!(tests.len() == names.len(), "cargo built {tests:?} of {names:?}");
        Ok(Binaries { agent: build::agent_path(Profile::Dev), workload: self.workload.clone(), tests })
    }

    /// The prefix that runs a test binary as root with the variables that it reads.
    fn sudo() -> String {
        format!(
            "sudo -n --preserve-env={OBJECT_VARIABLE},MONITOR_BIN,MONITOR_TEST_WORKLOAD,MONITOR_TEST_IMAGE,CI,RUST_BACKTRACE"
        )
    }
}

/// `CARGO_TARGET_<TRIPLE>_RUNNER`: what cargo puts before a test binary. Setting it compiles nothing again.
fn runner_variable() -> String {
    format!("CARGO_TARGET_{}_UNKNOWN_LINUX_GNU_RUNNER", std::env::consts::ARCH.to_uppercase())
}

/// The program that the test containers run: static, by rustc alone, because images hold nothing else and cargo would
/// build every dependency of the tests a second time for it.
pub(crate) fn workload() -> Result<PathBuf> {
    let directory = repository::target().join("workload");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let binary = directory.join("static-workload");
    Cmd::new("rustc")
        .args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols", "-o"])
        .arg(&binary)
        .arg("tests/src/bin/workload/main.rs")
        .mend("a static binary needs the C library's archive, libc.a: Debian has it in libc6-dev")
        .run()?;
    Ok(binary)
}
