//! A wall clock for single processes, which tests can set while they run: nothing else on the machine sees it.
//!
//! The processes are started with a library in front of the C library's own `clock_gettime`. It is written in C, as no unsafe
//! code is wanted here, and built by the compiler that links every Rust program.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Result;

use crate::process;

/// A clock that can be moved.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    /// Builds it into a directory; it tells the right time.
    pub fn new(directory: &Path) -> Result<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/clock.c");
        let clock = Self { library: directory.join("clock.so"), offset: directory.join("clock.offset") };
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&clock.library).arg(source);
        process::run(&mut cc, Duration::from_mins(1))?.successful()?;
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets it this many seconds off the right time.
    pub fn set(&self, seconds: i64) -> Result<()> {
        // In one step: who reads in between must not find half a number.
        let new = self.offset.with_extension("new");
        fs::write(&new, seconds.to_string())?;
        Ok(fs::rename(new, &self.offset)?)
    }

    /// Has a command go by it.
    pub fn rule(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("MONITOR_TEST_CLOCK", &self.offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_goes_by_the_clock_that_is_set() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::new(directory.path()).unwrap();
        let year = |seconds| {
            clock.set(seconds).unwrap();
            let mut date = Command::new("date");
            clock.rule(date.args(["-u", "+%Y"]));
            process::run(&mut date, Duration::from_mins(1)).unwrap().stdout_text().trim().parse::<i32>().unwrap()
        };
        let now = year(0);
        let earlier = year(-20 * 365 * 86_400);
        assert!([now - 20, now - 19].contains(&earlier), "{earlier} is not twenty years before {now}");
    }
}
