//! How soon after its start the agent is ready, and how soon it reports the first thing that happens.

use std::{
    fs,
    io::{self, BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{Bench, agent::Sensor, report::Row};

const RUNS: usize = 10;
/// From the agent's start to the first reported event, in milliseconds.
const AIM_MILLIS: f64 = 500.0;
/// How often something happens that the rule reports.
const PERIOD: Duration = Duration::from_millis(2);
/// How long the agent may take to report something.
const PATIENCE: Duration = Duration::from_secs(10);
/// A rule that reports every program that is run.
const RULE: &str = "- rule: Any program\n  desc: Any program that is run.\n  condition: evt.type = execve\n  \
                    output: program (%proc.name)\n  priority: NOTICE\n";

/// Measures both.
pub(super) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let (mut ready, mut first) = (Vec::new(), Vec::new());
    for round in 1..=RUNS {
        eprintln!("bench: start: run {round} of {RUNS}");
        let sensor = Sensor::agent(bench, &[], Stdio::null())?;
        ready.push(sensor.ready_after.as_secs_f64() * 1e3);
        sensor.stop()?;
        first.push(first_event(bench)?.as_secs_f64() * 1e3);
    }
    Ok(vec![
        Row::new("start of the agent", "until it is ready", "ms", ready),
        Row::new("start of the agent", "until its first event is printed", "ms", first).at_most(AIM_MILLIS),
    ])
}

/// From the agent's start to its first line of output, while programs are run all the time.
fn first_event(bench: &Bench) -> Result<Duration> {
    let rules = bench.directory.path().join("rules.yaml");
    fs::write(&rules, RULE).context("cannot write the rule")?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let storm = scope.spawn(|| run_programs(&done));
        let elapsed = first_line(bench, &rules);
        done.store(true, Ordering::Relaxed);
        match storm.join() {
            Ok(stormed) => stormed.and(elapsed),
            Err(_) => bail!("the thread that runs programs panicked"),
        }
    })
}

fn first_line(bench: &Bench, rules: &Path) -> Result<Duration> {
    let begin = Instant::now();
    let mut sensor = Sensor::agent(bench, &["-r".as_ref(), rules], Stdio::piped())?;
    let mut output = BufReader::new(sensor.stdout()?);
    let (send, first) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut line = Vec::new();
        if output.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            let _ = send.send(begin.elapsed());
        }
        // Read on, so that the agent does not wait for somebody to take its output.
        let _ = io::copy(&mut output, &mut io::sink());
    });
    let elapsed = first.recv_timeout(PATIENCE).context("the agent does not report that programs are run");
    sensor.stop()?;
    let _ = reader.join();
    elapsed
}

fn run_programs(done: &AtomicBool) -> Result<()> {
    while !done.load(Ordering::Relaxed) {
        Command::new("/bin/true").status().context("cannot run /bin/true")?;
        thread::sleep(PERIOD);
    }
    Ok(())
}
