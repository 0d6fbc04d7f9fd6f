//! What a system call costs: without any sensor, with an empty program on `sys_exit`, with the agent and its own rules, and with
//! the agent and all of Falco's, where they are found ([`super::rules::falco_files`]); an open also where each one is sent.
//!
//! The unit of what is added is what an empty program adds to `getppid` in the same round: no sensor on that hook adds less.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::Result;

use super::{
    Bench,
    agent::Sensor,
    load::{self, Load},
    report::Row,
    rules,
};

/// How long a load runs in one measurement.
const TIME: Duration = Duration::from_millis(250);

#[derive(Clone, Copy)]
enum Variant {
    None,
    Empty,
    Agent,
    Falco,
    /// Falco's rules, and the kernel leaves out nothing that they cannot match.
    Sent,
}

/// Nanoseconds per call in one round.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    none: f64,
    empty: f64,
    agent: f64,
    falco: f64,
    sent: f64,
    /// What an empty program adds to a call that does nothing.
    unit: f64,
}

/// The most that an agent may cost.
#[derive(Clone, Copy, Debug)]
enum Aim {
    /// What it adds, in units.
    Units(f64),
    /// The whole time, of that without a sensor.
    Whole(f64),
}

/// What a load is called, and its aim; the second is of a call that is sent although no rule can match it, in nanoseconds added.
const fn about(load: Load) -> (&'static str, Option<Aim>, Option<f64>) {
    match load {
        Load::Getppid => ("getppid, no seccomp filter", Some(Aim::Units(1.2)), None),
        Load::GetppidFiltered => ("getppid under a seccomp filter that allows it", Some(Aim::Units(1.25)), None),
        Load::ReadWrite => ("read and write a byte", Some(Aim::Units(2.2)), None),
        Load::OpenClose => ("open for reading and close", Some(Aim::Units(3.0)), Some(900.0)),
        Load::OpenWrite => ("open for writing and close (recorded)", None, None),
        Load::ForkExec => ("start a process and wait for it (recorded)", Some(Aim::Whole(1.04)), None),
        Load::SharedObjects => ("start a process that loads 1,500 shared objects", Some(Aim::Whole(1.03)), None),
        Load::Connect => ("connect over loopback", Some(Aim::Whole(1.06)), None),
        Load::UdpSend => ("send a datagram over loopback", Some(Aim::Whole(1.15)), None),
        Load::Compile => ("compile a C file", Some(Aim::Whole(1.02)), None),
    }
}

/// Measures all loads; a sensor is started once per round for all of them.
pub(super) fn measure(bench: &Bench, loads: &[Load]) -> Result<Vec<Row>> {
    let falco = rules::falco_files()?;
    // The unit is of every round.
    let mut loads = loads.to_vec();
    if !loads.contains(&Load::Getppid) {
        loads.insert(0, Load::Getppid);
    }
    let mut rounds = vec![Vec::new(); loads.len()];
    let mut order = vec![Variant::None, Variant::Empty, Variant::Agent];
    if !falco.is_empty() {
        order.push(Variant::Falco);
        if loads.iter().any(|load| about(*load).2.is_some()) {
            order.push(Variant::Sent);
        }
    }
    for round in 1..=bench.rounds {
        eprintln!("bench: calls: round {round} of {}", bench.rounds);
        let mut measured = vec![Round::default(); loads.len()];
        for variant in &order {
            measure_variant(bench, *variant, &falco, &loads, &mut measured)?;
        }
        let plain = loads.iter().zip(&measured).find(|(load, _)| **load == Load::Getppid);
        let unit = plain.map_or(f64::NAN, |(_, round)| round.empty - round.none);
        for (all, round) in rounds.iter_mut().zip(measured) {
            all.push(Round { unit, ..round });
        }
        order.rotate_left(1);
    }
    Ok(loads.iter().zip(&rounds).flat_map(|(load, rounds)| rows(*load, rounds, !falco.is_empty())).collect())
}

fn measure_variant(
    bench: &Bench,
    variant: Variant,
    falco: &[PathBuf],
    loads: &[Load],
    measured: &mut [Round],
) -> Result<()> {
    let files: Vec<&Path> = falco.iter().flat_map(|file| [Path::new("-r"), file]).collect();
    let all = [&files[..], &[Path::new("--no-push-down")]].concat();
    let sensor = match variant {
        Variant::None => None,
        Variant::Empty => Some(Sensor::empty(bench)?),
        Variant::Agent => Some(Sensor::agent(bench, &[], Stdio::null())?),
        Variant::Falco => Some(Sensor::agent(bench, &files, Stdio::null())?),
        Variant::Sent => Some(Sensor::agent(bench, &all, Stdio::null())?),
    };
    for (load, round) in loads.iter().zip(measured) {
        if matches!(variant, Variant::Sent) && about(*load).2.is_none() {
            continue;
        }
        let nanos = load::measure(&bench.machine, *load, TIME)?.nanos_per_call;
        match variant {
            Variant::None => round.none = nanos,
            Variant::Empty => round.empty = nanos,
            Variant::Agent => round.agent = nanos,
            Variant::Falco => round.falco = nanos,
            Variant::Sent => round.sent = nanos,
        }
    }
    if let Some(sensor) = sensor {
        sensor.stop()?;
    }
    Ok(())
}

fn rows(load: Load, rounds: &[Round], has_falco: bool) -> Vec<Row> {
    let (name, aim, sent) = about(load);
    let row = |quantity: String, unit, value: &dyn Fn(&Round) -> f64| {
        Row::new(name, quantity, unit, rounds.iter().map(value))
    };
    let mut all = vec![
        row("time without a sensor".into(), "ns", &|round| round.none),
        row("time with an empty program".into(), "ns", &|round| round.empty),
        row("whole time: empty / none".into(), "", &|round| round.empty / round.none),
    ];
    let mut with = |what: &str, value: fn(&Round) -> f64, aim: Option<Aim>, sent: Option<f64>| {
        let units = match aim {
            Some(Aim::Units(most)) => Some(most),
            _ => None,
        };
        let whole = match aim {
            Some(Aim::Whole(most)) => Some(most),
            _ => None,
        };
        let aimed = |row: Row, most: Option<f64>| match most {
            Some(most) => row.at_most(most),
            None => row,
        };
        let added = row(format!("added time: {what}"), "ns", &move |round| value(round) - round.none);
        let in_units = row(format!("added time: {what} / empty on getppid"), "", &move |round| {
            (value(round) - round.none) / round.unit
        });
        let ratio = row(format!("whole time: {what} / none"), "", &move |round| value(round) / round.none);
        all.extend([
            row(format!("time with {what}"), "ns", &move |round| value(round)),
            aimed(added, sent),
            aimed(in_units, units),
            aimed(ratio, whole),
        ]);
    };
    with("the agent", |round| round.agent, aim, None);
    if has_falco {
        with("Falco's rules", |round| round.falco, aim, None);
        if sent.is_some() {
            with("Falco's rules, all sent", |round| round.sent, None, sent);
        }
    }
    all
}
