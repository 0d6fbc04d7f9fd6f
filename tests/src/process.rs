//! Child processes that can never hold up a test: bounded waits on a pidfd, and output that goes to files, not to pipes.
use std::{
    fs::File,
    io,
    os::unix::{fs::FileExt as _, process::CommandExt as _},
    process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open},
};

/// What a finished process left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Everything it wrote to standard output.
    pub stdout: Vec<u8>,
    /// Everything it wrote to standard error, bytes that are not UTF-8 replaced.
    pub stderr: String,
    /// How long it ran.
    pub elapsed: Duration,
}

impl Finished {
    /// Standard output as text, bytes that are not UTF-8 replaced.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Itself, or an error that shows both outputs where the exit code is not 0.
    pub fn successful(self) -> Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        bail!("{}\n--- stdout\n{}\n--- stderr\n{}", self.status, self.stdout_text(), self.stderr)
    }
}

/// Runs a command to its end, with no input. After `limit` its whole process group is killed and the error shows what it wrote.
pub fn run(command: &mut Command, limit: Duration) -> Result<Finished> {
    run_with_input(command, Stdio::null(), limit)
}

/// As [`run`], with an input.
pub fn run_with_input(command: &mut Command, input: Stdio, limit: Duration) -> Result<Finished> {
    let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let begin = Instant::now();
    let mut group = Group::spawn(command.stdin(input).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?))?;
    let ended = group.wait(limit)?;
    let elapsed = begin.elapsed();
    let text = |file: &File| contents(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let Some(status) = ended else {
        drop(group);
        bail!("{command:?} still ran after {limit:?}\n--- stdout\n{}\n--- stderr\n{}", text(&stdout)?, text(&stderr)?);
    };
    Ok(Finished { status, stdout: contents(&stdout)?, stderr: text(&stderr)?, elapsed })
}

/// The whole file, whatever offset its writer left it at.
fn contents(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// A child that leads a process group. Dropping it kills the group and reaps the child.
#[derive(Debug)]
pub struct Group(Child);

impl Group {
    /// Starts it.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            match command.process_group(0).spawn() {
                Ok(child) => return Ok(Self(child)),
                // A program that this process has just written is busy while another thread's fork still holds the descriptor.
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < deadline => {
                    thread::yield_now();
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot start {}", command.get_program().display()));
                }
            }
        }
    }

    /// The pipe ends of standard output and error, where they were piped.
    pub fn outputs(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.0.stdout.take(), self.0.stderr.take())
    }

    /// Its pid.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits for the child's end, `None` after `limit`.
    pub fn wait(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        if let Some(status) = self.0.try_wait()? {
            return Ok(Some(status));
        }
        let pidfd = pidfd_open(Pid::from_child(&self.0), PidfdFlags::empty())?;
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
                Ok(_) => return self.0.try_wait(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends a signal to the child alone.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.0), signal)?)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A group whose leader was reaped may be gone, and its number could be reused: then there is nothing to kill.
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
            let _ = self.0.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_status_of_a_command_are_kept() {
        let finished =
            run(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 7"]), Duration::from_secs(10)).unwrap();
        assert_eq!(
            (finished.status.code(), finished.stdout_text().as_str(), finished.stderr.as_str()),
            (Some(7), "out\n", "err\n")
        );
    }

    #[test]
    fn a_command_that_hangs_is_killed_with_its_children_and_its_output_shown() {
        let begin = Instant::now();
        let script = "echo before; sleep 100 & echo $!; wait";
        let error = run(Command::new("sh").args(["-c", script]), Duration::from_millis(300)).unwrap_err().to_string();
        assert!(begin.elapsed() < Duration::from_secs(5));
        let child = error.lines().skip_while(|line| *line != "before").nth(1).unwrap();
        let gone = || std::fs::read_to_string(format!("/proc/{child}/stat")).map_or(true, |stat| stat.contains(") Z "));
        while !gone() && begin.elapsed() < Duration::from_secs(5) {
            thread::yield_now();
        }
        assert!(gone(), "{error}");
    }
}
