//! What the verifier has to look at: no program grows beyond its budget without somebody saying so.
//!
//! The verifier refuses a program for which it would look at a million instructions, and how many there are differs from kernel to
//! kernel: one that passes here with room to spare is not refused where nobody tried it.
use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use monitor::sensor::{
    Sensor,
    load::{SeccompChoice, Settings},
};
use tests::environment::can_run_live;

/// Budgets by program and kernel series.
type Budgets = BTreeMap<String, BTreeMap<String, u64>>;

fn budgets() -> Result<Budgets> {
    let text = include_str!("../../monitor-ebpf/verifier_budget.txt");
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let series: Vec<_> = lines.next().context("no head")?.split_whitespace().skip(1).collect();
    let mut budgets = Budgets::new();
    for line in lines {
        let mut words = line.split_whitespace();
        let program = words.next().context("an empty line")?;
        let numbers: Vec<u64> = words.map(str::parse).collect::<Result<_, _>>().context(line.to_owned())?;
        ensure!(numbers.len() == series.len(), "{line}");
        let by_series = series.iter().map(|name| (*name).to_owned()).zip(numbers).collect();
        ensure!(budgets.insert(program.to_owned(), by_series).is_none(), "{program} has two lines");
    }
    Ok(budgets)
}

/// What the verifier looked at, of the programs of every configuration.
fn verified() -> Result<BTreeMap<String, u64>> {
    let mut verified = BTreeMap::new();
    for seccomp in [SeccompChoice::Exit, SeccompChoice::Pair] {
        let sensor = Sensor::start(&Settings { seccomp, ..Settings::default() })?;
        for program in sensor.programs().read() {
            verified.insert(program.name.clone(), program.verified.with_context(|| program.name.clone())?);
        }
    }
    Ok(verified)
}

#[test]
fn no_program_is_more_for_the_verifier_than_its_budget() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    let release = fs::read_to_string(Path::new("/proc/sys/kernel/osrelease"))?;
    let series: String = release.split('.').take(2).collect::<Vec<_>>().join(".");
    let (budgets, verified) = (budgets()?, verified()?);
    let mut beyond = Vec::new();
    for (program, needed) in &verified {
        println!("{program} {series} {needed}");
        let Some(budget) = budgets.get(program) else {
            beyond.push(format!("{program} has no line: it needs {needed} on {series}"));
            continue;
        };
        let limit = match budget.get(&series) {
            Some(budget) => budget + budget / 10,
            None => budget.values().max().map_or(0, |most| most + most / 2),
        };
        if *needed > limit {
            beyond.push(format!("{program} needs {needed} on {series}, its limit is {limit}"));
        }
    }
    beyond.extend(budgets.keys().filter(|program| !verified.contains_key(*program)).map(|gone| format!("no {gone}")));
    assert!(beyond.is_empty(), "monitor-ebpf/verifier_budget.txt: {beyond:#?}");
    Ok(())
}
