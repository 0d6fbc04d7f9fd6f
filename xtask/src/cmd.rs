//! Child commands: each is printed as one could type it, and a failure names it and what to do about it.

use std::{
    ffi::OsStr,
    fmt::Write as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// A command to run in the repository's root.
#[derive(Debug)]
pub(crate) struct Cmd {
    command: Command,
    mend: Option<&'static str>,
}

impl Cmd {
    /// A program by name or path.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.current_dir(crate::repository::root());
        Self { command, mend: None }
    }

    /// One more argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// More arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Removes an inherited environment variable.
    pub(crate) fn env_remove(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Runs it in another directory than the repository's root.
    pub(crate) fn directory(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Gives it an empty standard input.
    pub(crate) fn no_input(mut self) -> Self {
        self.command.stdin(Stdio::null());
        self
    }

    /// What the reader can do when it fails.
    pub(crate) fn mend(mut self, mend: &'static str) -> Self {
        self.mend = Some(mend);
        self
    }

    /// The command as one could type it in a shell.
    pub(crate) fn line(&self) -> String {
        line(&self.command)
    }

    /// Prints it and runs it to its end, on this terminal.
    pub(crate) fn run(mut self) -> Result<()> {
        eprintln!("$ {}", self.line());
        let status = self.command.status();
        self.check(status.with_context(|| self.cannot_start())?)
    }

    /// Runs it without a word and returns its standard output, trimmed.
    pub(crate) fn output(mut self) -> Result<String> {
        let output = self.command.stderr(Stdio::inherit()).output().with_context(|| self.cannot_start())?;
        self.check(output.status)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs it without a word; its standard output, trimmed, where it is there and succeeds.
    pub(crate) fn probe(mut self) -> Option<String> {
        let output = self.command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Prints it and becomes it, so that signals and the exit code are its own. Returns only on failure.
    pub(crate) fn exec(mut self) -> Result<()> {
        eprintln!("$ {}", self.line());
        let error = self.command.exec();
        Err(error).with_context(|| self.cannot_start())
    }

    fn cannot_start(&self) -> String {
        let mend = self.mend.map(|mend| format!(" ({mend})")).unwrap_or_default();
        format!("cannot start {}{mend}", self.command.get_program().display())
    }

    fn check(&self, status: ExitStatus) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        let mend = self.mend.map(|mend| format!("\n  {mend}")).unwrap_or_default();
        bail!("`{}` failed: {status}{mend}", self.line())
    }
}

/// A command as one could type it in a shell.
pub(crate) fn line(command: &Command) -> String {
    let mut line = String::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            let _ = write!(line, "{}={} ", name.display(), quoted(value));
        }
    }
    line.push_str(&quoted(command.get_program()));
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&quoted(arg));
    }
    line
}

/// The word as a shell takes it.
fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+:,./@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into_owned() } else { format!("'{word}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_types_it() {
        let cmd = Cmd::new("cargo").env("A", "-C x").env_remove("B").args(["build", "--bin=x", ""]);
        assert_eq!(cmd.line(), "A='-C x' cargo build --bin=x ''");
    }

    #[test]
    fn a_failure_names_the_command_and_the_mend() {
        let error = Cmd::new("false").mend("try `true`").run().unwrap_err().to_string();
        assert!(error.contains("`false` failed") && error.contains("try `true`"), "{error}");
        let error = Cmd::new("no-such-program").mend("install it").run().unwrap_err().to_string();
        assert!(error.contains("cannot start no-such-program (install it)"), "{error}");
    }

    #[test]
    fn a_probe_of_what_is_not_there_is_none() {
        assert_eq!(Cmd::new("no-such-program").probe(), None);
        assert_eq!(Cmd::new("echo").arg("x").probe().as_deref(), Some("x"));
    }
}
