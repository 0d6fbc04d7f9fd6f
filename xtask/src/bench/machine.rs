//! The machine that is measured, and which of its CPUs do what.

use std::{fs, path::Path, process::Command, thread};

use anyhow::{Context as _, Result};

/// The machine.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) kernel: String,
    pub(super) processor: String,
    pub(super) cpus: usize,
    load_cpu: u32,
    agent_cpu: u32,
}

impl Machine {
    pub(super) fn new() -> Result<Self> {
        let status = fs::read_to_string("/proc/self/status").context("cannot read which CPUs this process may use")?;
        let allowed = field(&status, "Cpus_allowed_list").unwrap_or_default();
        let mut numbers = allowed.split([',', '-']).filter_map(|number| number.trim().parse().ok());
        let first = numbers.next().unwrap_or(0);
        let last = numbers.next_back().unwrap_or(first);
        if first == last {
            eprintln!("bench: one CPU alone: the agent's work will be counted as the load's");
        }
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Ok(Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            processor: field(&cpuinfo, "model name").unwrap_or("unknown").to_owned(),
            cpus: thread::available_parallelism().map_or(1, Into::into),
            load_cpu: last,
            agent_cpu: first,
        })
    }

    /// A program on the load's CPU.
    pub(super) fn on_load_cpu(&self, program: &Path) -> Command {
        pinned(self.load_cpu, program)
    }

    /// A program on the agent's CPU.
    pub(super) fn on_agent_cpu(&self, program: &Path) -> Command {
        pinned(self.agent_cpu, program)
    }
}

/// `taskset` becomes the program, so that the pid is the program's.
fn pinned(cpu: u32, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(cpu.to_string()).arg(program);
    command
}

/// The value of a `name: value` line, as in `/proc/PID/status`.
pub(super) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status = "Name:\tx\nVmHWM:\t  12 kB\nVmRSS:\t  10 kB\n";
        assert_eq!((field(status, "VmRSS"), field(status, "Vm")), (Some("10 kB"), None));
    }
}
