//! The real libseccomp and the real kernel, as judges of our evaluator: a program in C that makes filters and calls.
//!
//! It is compiled when a test first needs it, as the [workload](crate::workload) is, and is asked in batches: lines in, lines
//! out.
use std::{
    env,
    fmt::Write as _,
    fs,
    io::{Seek as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use monitor::seccomp::{
    classic::{INSTRUCTION_BYTES, Instruction},
    profile::{Abi, Condition, Operator},
};

use crate::{process, workload};

/// How long a batch may take.
const LIMIT: Duration = Duration::from_mins(2);

/// What libseccomp makes of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exported {
    /// A program.
    Program(Vec<Instruction>),
    /// It refuses them with this errno.
    Refused(i32),
    /// It comes to no end.
    Endless,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It returned this.
    Returned(i64),
    /// Its thread got a SIGSYS that it could handle.
    Trapped,
    /// Its thread was killed by SIGSYS.
    Killed,
}

/// Questions to ask, as lines of the program.
#[derive(Clone, Debug, Default)]
pub struct Batch(String);

impl Batch {
    /// Begins a filter.
    pub fn init(&mut self, default_action: u32) {
        self.line(&format!("init {default_action:x}"));
    }

    /// Lets the filter cover another architecture.
    pub fn arch(&mut self, abi: Abi) {
        self.line(&format!("arch {:x}", token(abi)));
    }

    /// Lets the filter find calls by a binary tree, as runc does for many.
    pub fn optimize(&mut self) {
        self.line("optimize 2");
    }

    /// Adds a rule. Two conditions on one argument are refused.
    pub fn rule(&mut self, action: u32, name: &str, conditions: &[Condition]) {
        let mut line = format!("rule {action:x} {name} {}", conditions.len());
        for Condition { index, operator, value, value_two } in conditions {
            let _ = write!(line, " {index} {} {value:x} {value_two:x}", comparison(*operator));
        }
        self.line(&line);
    }

    /// Asks for the filter's program.
    pub fn export(&mut self) {
        self.line("export");
    }

    /// Asks for the number of a call.
    pub fn resolve(&mut self, abi: Abi, name: &str) {
        self.line(&format!("resolve {:x} {name}", token(abi)));
    }

    /// The filter of the calls that follow.
    pub fn load(&mut self, program: &[Instruction]) {
        let bytes = program.iter().flat_map(|instruction| instruction.to_bytes());
        let line = bytes.fold("load ".to_owned(), |mut line, byte| {
            let _ = write!(line, "{byte:02x}");
            line
        });
        self.line(&line);
    }

    /// Makes a call in a process of its own under the filter; `entry` is 64 or 32.
    pub fn call(&mut self, entry: u32, nr: u32, args: &[u64; 6]) {
        let line = args.iter().fold(format!("call {entry} {nr:x}"), |mut line, arg| {
            let _ = write!(line, " {arg:x}");
            line
        });
        self.line(&line);
    }

    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// The answers, in order.
    fn ask(&self) -> Result<Vec<String>> {
        let mut questions = tempfile::tempfile()?;
        questions.write_all(self.0.as_bytes())?;
        questions.rewind()?;
        let mut command = Command::new(binary()?);
        let answers = process::run_with_input(&mut command, Stdio::from(questions), LIMIT)?.successful()?;
        Ok(answers.stdout_text().lines().map(str::to_owned).collect())
    }

    /// The programs of all filters that were asked for.
    pub fn programs(&self) -> Result<Vec<Exported>> {
        self.ask()?.iter().map(|line| exported(line).with_context(|| format!("{line:?}"))).collect()
    }

    /// The outcomes of all calls.
    pub fn outcomes(&self) -> Result<Vec<Outcome>> {
        self.ask()?
            .iter()
            .map(|line| match line.split_once(' ') {
                Some(("returned", value)) => Ok(Outcome::Returned(value.parse()?)),
                None if line == "trapped" => Ok(Outcome::Trapped),
                None if line == "killed" => Ok(Outcome::Killed),
                _ => bail!("{line:?} is no outcome"),
            })
            .collect()
    }

    /// The numbers of all calls that were asked for; `None` where libseccomp has none.
    pub fn numbers(&self) -> Result<Vec<Option<u32>>> {
        self.ask()?.iter().map(|line| Ok(u32::try_from(line.parse::<i64>()?).ok())).collect()
    }
}

fn exported(line: &str) -> Result<Exported> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "ok" => {
            let byte = |at: usize| u8::from_str_radix(rest.get(at..at + 2).unwrap_or_default(), 16);
            let bytes = (0..rest.len()).step_by(2).map(byte).collect::<Result<Vec<_>, _>>()?;
            let (instructions, rest) = bytes.as_chunks::<INSTRUCTION_BYTES>();
            ensure!(rest.is_empty() && !instructions.is_empty(), "{} bytes", bytes.len());
            Ok(Exported::Program(instructions.iter().copied().map(Instruction::from_bytes).collect()))
        }
        "refused" => Ok(Exported::Refused(rest.parse()?)),
        "endless" => Ok(Exported::Endless),
        _ => bail!("no answer"),
    }
}

/// `SCMP_ARCH_*`: those of `AUDIT_ARCH_*`, but for x32.
fn token(abi: Abi) -> u32 {
    match abi {
        Abi::X32 => 0x4000_003e,
        _ => abi.arch().audit(),
    }
}

/// Number of an `scmp_compare`.
fn comparison(operator: Operator) -> u32 {
    match operator {
        Operator::NotEqual => 1,
        Operator::Less => 2,
        Operator::LessOrEqual => 3,
        Operator::Equal => 4,
        Operator::GreaterOrEqual => 5,
        Operator::Greater => 6,
        Operator::MaskedEqual => 7,
    }
}

/// Compiles unless the binary is newer than its source; one process builds and the others wait for it.
fn binary() -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/libseccomp/filters.c");
    let directory = workload::profile_directory()?;
    let binary = directory.join("libseccomp-filters");
    let lock = fs::File::create(directory.join("libseccomp-filters.lock"))?;
    lock.lock()?;
    if workload::is_newer(&binary, &source) {
        return Ok(binary);
    }
    let unfinished = directory.join("libseccomp-filters.new");
    let mut compiler = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()));
    compiler.args(["-std=gnu11", "-O1", "-mno-red-zone", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&unfinished);
    process::run(compiler.arg(&source).arg("-lseccomp"), LIMIT)?.successful().context("cannot compile filters.c")?;
    fs::rename(&unfinished, &binary)?;
    Ok(binary)
}
