//! What a system call costs: without any sensor, with an empty program on `sys_exit`, with the agent.

use std::{process::Stdio, time::Duration};

use anyhow::Result;

use super::{
    Bench,
    agent::Sensor,
    load::{self, Load},
    report::Row,
};

/// How long a load runs in one measurement.
const TIME: Duration = Duration::from_millis(250);
const FILTERED: &str = "getppid under a seccomp filter that allows it";
/// What a call may cost with the agent where it costs 1 with an empty program.
const AIM: f64 = 1.25;

#[derive(Clone, Copy)]
enum Variant {
    None,
    Empty,
    Agent,
}

/// Nanoseconds per call in one round.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    none: f64,
    empty: f64,
    agent: f64,
}

/// Measures all loads; a sensor is started once per round for all of them.
pub(super) fn measure(bench: &Bench, loads: &[Load]) -> Result<Vec<Row>> {
    let mut rounds = vec![Vec::new(); loads.len()];
    let mut order = [Variant::None, Variant::Empty, Variant::Agent];
    for round in 1..=bench.rounds {
        eprintln!("bench: calls: round {round} of {}", bench.rounds);
        let mut measured = vec![Round::default(); loads.len()];
        for variant in order {
            measure_variant(bench, variant, loads, &mut measured)?;
        }
        for (all, round) in rounds.iter_mut().zip(measured) {
            all.push(round);
        }
        order.rotate_left(1);
    }
    let plain = loads.iter().zip(&rounds).find(|(load, _)| **load == Load::Getppid).map(|(_, rounds)| rounds);
    let mut all = Vec::new();
    for (load, rounds) in loads.iter().zip(&rounds) {
        all.extend(rows(*load, rounds));
        if let (Load::GetppidFiltered, Some(plain)) = (load, plain) {
            all.push(in_units_of_empty(plain, rounds));
        }
    }
    Ok(all)
}

/// A filter makes every call take the kernel's slow way already, so that an empty program adds less to it. This takes what
/// an empty program adds to a call without a filter as the unit for both.
fn in_units_of_empty(plain: &[Round], filtered: &[Round]) -> Row {
    let ratios = plain.iter().zip(filtered).map(|(p, f)| (f.agent - f.none) / (p.empty - p.none));
    Row::new(FILTERED, "added time: agent / empty on a call without a filter", "", ratios).at_most(AIM)
}

fn measure_variant(bench: &Bench, variant: Variant, loads: &[Load], measured: &mut [Round]) -> Result<()> {
    let sensor = match variant {
        Variant::None => None,
        Variant::Empty => Some(Sensor::empty(bench)?),
        Variant::Agent => Some(Sensor::agent(bench, &[], Stdio::null())?),
    };
    for (load, round) in loads.iter().zip(measured) {
        let nanos = load::measure(&bench.machine, *load, TIME)?.nanos_per_call;
        match variant {
            Variant::None => round.none = nanos,
            Variant::Empty => round.empty = nanos,
            Variant::Agent => round.agent = nanos,
        }
    }
    if let Some(sensor) = sensor {
        sensor.stop()?;
    }
    Ok(())
}

fn rows(load: Load, rounds: &[Round]) -> Vec<Row> {
    let (name, has_aim) = match load {
        Load::Getppid => ("getppid, no seccomp filter", true),
        Load::GetppidFiltered => (FILTERED, true),
        Load::OpenClose => ("open for reading and close", false),
        Load::OpenWrite => ("open for writing and close (recorded)", false),
        Load::ForkExec => ("start a process and wait for it (recorded)", false),
    };
    let row = |quantity: &str, unit, value: fn(&Round) -> f64| Row::new(name, quantity, unit, rounds.iter().map(value));
    let aimed = |row: Row| if has_aim { row.at_most(AIM) } else { row };
    vec![
        row("time without a sensor", "ns", |round| round.none),
        row("time with an empty program", "ns", |round| round.empty),
        row("time with the agent", "ns", |round| round.agent),
        row("whole time: empty / none", "", |round| round.empty / round.none),
        row("whole time: agent / none", "", |round| round.agent / round.none),
        row("whole time: agent / empty", "", |round| round.agent / round.empty),
        aimed(row("added time: agent / empty", "", |round| (round.agent - round.none) / (round.empty - round.none))),
    ]
}
