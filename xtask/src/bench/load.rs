//! The loads that are measured: this program starts itself with `bench-load NAME` as a process of its own.
//!
//! A load runs batches of calls until its time is over and prints `NANOSECONDS CALLS`: the median batch's time per call,
//! which an interrupt in some batches does not change, and how many calls it made in all.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::unix::process::parent_id,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use super::{
    filter,
    machine::Machine,
    statistics::{Spread, number},
};

/// Where the files are that are opened. On tmpfs, because writes there are recorded: on a disk, they are no drift.
const DIRECTORY: &str = "/dev/shm";
/// How long a batch should take: long against reading the clock, short against a time slice.
const BATCH: Duration = Duration::from_millis(1);
/// Shared objects that are loaded, copies of a small one.
const LIBRARIES: usize = 1500;
/// What is compiled.
const SOURCE: &str = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <sys/socket.h>\n\
                      int main(int n, char **v) { for (int i = 0; i < n; i++) printf(\"%zu\\n\", strlen(v[i])); return 0; }\n";
/// Calls of the shortest kind that are one repetition.
const CALLS_AT_ONCE: u64 = 64;

/// What is done over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Load {
    /// A system call that does nothing and that nobody asks about
    Getppid,
    /// The same under a seccomp filter that allows it
    GetppidFiltered,
    /// Read a byte and write it, as `dd bs=1` does
    ReadWrite,
    /// Open a file for reading and close it
    OpenClose,
    /// Open a file for writing and close it
    OpenWrite,
    /// Start a process that runs a program, and wait for it
    ForkExec,
    /// The same with a program that loads 1,500 shared objects
    SharedObjects,
    /// Connect to a port of this machine, accept it there, and close both ends
    Connect,
    /// Send a datagram to a port of this machine
    UdpSend,
    /// Compile a small C file
    Compile,
}

/// Options of the hidden `cargo xtask bench-load`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    load: Load,
    /// How long
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 300)]
    millis: u64,
}

/// What a load measured of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measured {
    pub(super) nanos_per_call: f64,
    pub(super) calls: u64,
}

/// Runs a load in this process.
pub(crate) fn run(args: &Args) -> Result<()> {
    let time = Duration::from_millis(args.millis);
    let file = tempfile::NamedTempFile::new_in(DIRECTORY).context("cannot make a file to open")?;
    let path = file.path();
    let measured = match args.load {
        Load::Getppid => repeat(time, getppid).map(|measured| measured.each_of(CALLS_AT_ONCE)),
        Load::GetppidFiltered => {
            filter::install()?;
            repeat(time, getppid).map(|measured| measured.each_of(CALLS_AT_ONCE))
        }
        Load::ReadWrite => {
            let (mut zero, mut null) =
                (fs::File::open("/dev/zero")?, fs::File::options().write(true).open("/dev/null")?);
            let mut byte = [0];
            repeat(time, || {
                zero.read_exact(&mut byte)?;
                Ok(null.write_all(&byte)?)
            })
        }
        Load::OpenClose => repeat(time, || fs::File::open(path).map(drop).map_err(Into::into)),
        Load::OpenWrite => repeat(time, || fs::File::options().write(true).open(path).map(drop).map_err(Into::into)),
        Load::ForkExec => repeat(time, || {
            let status = Command::new("/bin/true").status()?;
            if status.success() { Ok(()) } else { bail!("/bin/true: {status}") }
        }),
        Load::SharedObjects => {
            let directory = tempfile::tempdir_in(DIRECTORY)?;
            let library = format!("/lib/{}-linux-gnu/libdl.so.2", env::consts::ARCH);
            let copy = |number: usize| -> Result<String> {
                let path = directory.path().join(format!("{number}.so"));
                fs::copy(&library, &path).with_context(|| library.clone())?;
                Ok(path.display().to_string())
            };
            let libraries = (0..LIBRARIES).map(copy).collect::<Result<Vec<_>>>()?.join(":");
            repeat(time, || {
                let status = Command::new("/bin/true").env("LD_PRELOAD", &libraries).status()?;
                if status.success() { Ok(()) } else { bail!("/bin/true: {status}") }
            })
        }
        Load::Connect => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let address = listener.local_addr()?;
            repeat(time, || {
                let connected = TcpStream::connect(address)?;
                // The end that closes first waits a minute for the port: not ours, or there would soon be none left.
                drop(listener.accept()?);
                drop(connected);
                Ok(())
            })
        }
        Load::UdpSend => {
            let (receiver, sender) =
                (UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?);
            let address = receiver.local_addr()?;
            // Nobody receives: when the queue is full the kernel drops what comes, which costs alike.
            repeat(time, || Ok(sender.send_to(&[0; 64], address).map(drop)?))
        }
        Load::Compile => {
            let source = tempfile::Builder::new().suffix(".c").tempfile()?;
            fs::write(source.path(), SOURCE)?;
            repeat(time, || {
                let mut compiler = Command::new("cc");
                compiler.args(["-O1", "-c", "-o", "/dev/null"]).arg(source.path());
                let status = compiler.status().context("cannot start cc (package gcc)")?;
                if status.success() { Ok(()) } else { bail!("cc: {status}") }
            })
        }
    }?;
    println!("{} {}", measured.nanos_per_call, measured.calls);
    Ok(())
}

/// Many calls in a loop that costs next to nothing even unoptimised: what is measured is the kernel, not this program.
#[expect(clippy::unnecessary_wraps, reason = "as every load")]
fn getppid() -> Result<()> {
    let mut left = CALLS_AT_ONCE;
    while left > 0 {
        // A system call every time: the C library does not remember the answer.
        let _ = parent_id();
        left -= 1;
    }
    Ok(())
}

impl Measured {
    /// When each repetition was several calls.
    fn each_of(self, calls: u64) -> Self {
        Self { nanos_per_call: self.nanos_per_call / number(calls), calls: self.calls * calls }
    }
}

fn repeat(time: Duration, mut call: impl FnMut() -> Result<()>) -> Result<Measured> {
    let mut batch = |calls: u64| -> Result<Duration> {
        let begin = Instant::now();
        let mut left = calls;
        while left > 0 {
            call()?;
            left -= 1;
        }
        Ok(begin.elapsed())
    };
    let begin = Instant::now();
    let mut size = 1;
    let mut calls = 0;
    while batch(size)? < BATCH {
        calls += size;
        size *= 2;
    }
    let mut times = Vec::new();
    while times.is_empty() || begin.elapsed() < time {
        times.push(batch(size)?.as_secs_f64() * 1e9 / number(size));
        calls += size;
    }
    Ok(Measured { nanos_per_call: Spread::of(times).median, calls })
}

/// Command of a load in a process of its own, on the load's CPU.
pub(super) fn command(machine: &Machine, load: Load, time: Duration) -> Result<Command> {
    // Not its path: a build may have put another binary there meanwhile.
    let program = if env::current_exe()?.exists() { env::current_exe()? } else { "/proc/self/exe".into() };
    let mut command = machine.on_load_cpu(Path::new(&program));
    let name = load.to_possible_value().context("a load without a name")?;
    command.args(["bench-load", name.get_name(), "--millis", &time.as_millis().to_string()]);
    Ok(command)
}

/// Runs a load in a process of its own to its end.
pub(super) fn measure(machine: &Machine, load: Load, time: Duration) -> Result<Measured> {
    let output = command(machine, load, time)?.output().context("cannot start taskset (package util-linux)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (nanos, calls) = text.trim().split_once(' ').unwrap_or_default();
    match (output.status.success(), nanos.parse(), calls.parse()) {
        (true, Ok(nanos_per_call), Ok(calls)) => Ok(Measured { nanos_per_call, calls }),
        _ => bail!("the load {load:?} failed: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_counts_its_calls_and_ends_in_time() {
        let mut made = 0;
        let begin = Instant::now();
        let measured = repeat(Duration::from_millis(20), || {
            made += 1;
            getppid()
        });
        let measured = measured.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(5) && measured.nanos_per_call > 0.0);
        assert!(made >= measured.calls && measured.calls > 0);
    }
}
