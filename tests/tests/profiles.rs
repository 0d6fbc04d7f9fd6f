//! Seccomp profiles: our evaluator against the real libseccomp and the real kernel.
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use monitor::{
    seccomp::{
        classic::{self, Data, Instruction},
        profile::{
            Abi, Action, Filter, Operator, Target,
            abi::multiplexed,
            filter::{Reason, TOO_NEW},
            parse,
            select::{Selected, select},
        },
    },
    syscall::Arch,
};
use serde_json::{Value, json};
use tests::{
    capture::Numbers,
    environment::has_libseccomp,
    libseccomp::{Batch, Exported, Outcome},
};

/// Calls with what is special about them: sockets and IPC (carried by others on 32-bit x86), numbers of x32's own, calls that
/// only some ABIs have, number 0, and the carriers themselves.
const NAMES: &[&str] = &[
    "read",
    "getpid",
    "socket",
    "accept",
    "accept4",
    "recv",
    "setsockopt",
    "semop",
    "shmat",
    "semtimedop",
    "ioctl",
    "execve",
    "preadv2",
    "uselib",
    "socketcall",
    "ipc",
    "personality",
    "clone",
    "arm_fadvise64_64",
    "fadvise64_64",
    "waitpid",
    "openat2",
];
/// Values that arguments and conditions take, so that they meet.
const VALUES: &[u64] = &[
    0,
    1,
    2,
    5,
    8,
    0xffff_ffff,
    0x7e02_0000,
    1 << 32,
    1 << 32 | 1,
    5 << 32 | 2,
    0xffff_ffff_0000_0000,
    u64::MAX - 1,
    u64::MAX,
];
const OPERATORS: &[Operator] = &[
    Operator::NotEqual,
    Operator::Less,
    Operator::LessOrEqual,
    Operator::Equal,
    Operator::GreaterOrEqual,
    Operator::Greater,
    Operator::MaskedEqual,
];
const ACTIONS: &[Action] = &[
    Action::ALLOW,
    Action::ALLOW,
    Action::ALLOW,
    Action::ERRNO.with_data(1),
    Action::ERRNO.with_data(13),
    Action::LOG,
    Action::TRAP,
    Action::KILL_PROCESS,
    Action::KILL_THREAD,
];

#[expect(clippy::indexing_slicing, reason = "no list here is empty")]
fn pick<T: Copy>(numbers: &mut Numbers, list: &[T]) -> T {
    list[numbers.below(list.len())]
}

fn set(object: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(members) = object.as_object_mut() {
        members.insert(key.to_owned(), value.into());
    }
}

fn condition(numbers: &mut Numbers, index: usize, operators: &[Operator]) -> Value {
    let operator = pick(numbers, operators);
    let mut condition = json!({"index": index, "op": operator.name(), "value": pick(numbers, VALUES)});
    if operator == Operator::MaskedEqual {
        set(&mut condition, "valueTwo", pick(numbers, VALUES));
    }
    condition
}

/// A profile as JSON. Few calls and values, so that rules meet; some profiles use few operators, so that tests are shared.
fn profile(numbers: &mut Numbers, names: &[&str], default_actions: &[Action]) -> Value {
    let names: Vec<_> = (0..=numbers.below(4)).map(|_| pick(numbers, names)).collect();
    let operators: Vec<_> = (0..=numbers.below(4)).map(|_| pick(numbers, OPERATORS)).collect();
    let most_conditions = 1 + numbers.below(3);
    let actions: Vec<_> = (0..=numbers.below(3)).map(|_| pick(numbers, ACTIONS)).collect();
    let rules: Vec<_> = (0..=numbers.below(8))
        .map(|_| {
            let conditions: Vec<_> = (0..numbers.below(most_conditions + 1))
                .map(|_| {
                    let index = numbers.below(if most_conditions == 1 { 2 } else { 4 });
                    condition(numbers, index, &operators)
                })
                .collect();
            let rule_names: BTreeSet<_> = (0..=numbers.below(2)).map(|_| pick(numbers, &names)).collect();
            let action = pick(numbers, &actions);
            let mut rule = json!({"names": rule_names, "action": action.name(), "args": conditions});
            if action.has_errno() {
                set(&mut rule, "errnoRet", action.data());
            }
            rule
        })
        .collect();
    let lists = [
        json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
        json!(["SCMP_ARCH_X86", "SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64"]),
        json!(["SCMP_ARCH_X32"]),
        json!([]),
    ];
    let architectures = lists.get(numbers.below(lists.len())).cloned().unwrap_or_default();
    let default_action = pick(numbers, default_actions);
    let mut profile = json!({
        "defaultAction": default_action.name(),
        "architectures": architectures,
        "syscalls": rules,
    });
    if default_action.has_errno() {
        set(&mut profile, "defaultErrnoRet", default_action.data());
    }
    profile
}

fn selected(profile: &Value) -> Result<Selected> {
    let parsed = parse("random.json", &serde_json::to_vec(profile)?);
    let profile = parsed.profile.with_context(|| format!("{:?}", parsed.problems))?;
    Ok(select(&profile, &Target::new(Abi::X86_64)))
}

/// Asks libseccomp for the filter that runc would ask it for.
fn ask(batch: &mut Batch, selected: &Selected) {
    batch.init(selected.default_action.0);
    if selected.rules.len() > 32 {
        batch.optimize();
    }
    for abi in &selected.abis {
        batch.arch(*abi);
    }
    for rule in selected.rules.iter().filter(|rule| rule.action != selected.default_action) {
        let indices: BTreeSet<_> = rule.conditions.iter().map(|condition| condition.index).collect();
        if indices.len() == rule.conditions.len() {
            batch.rule(rule.action.0, &rule.name, &rule.conditions);
        } else {
            for condition in &rule.conditions {
                batch.rule(rule.action.0, &rule.name, &[*condition]);
            }
        }
    }
    batch.export();
}

/// A call that the profile is about, or nearly so.
fn call(numbers: &mut Numbers, selected: &Selected) -> Data {
    let abi = if numbers.below(8) == 0 { pick(numbers, &Abi::ALL) } else { pick(numbers, &selected.abis) };
    let named = selected.rules.get(numbers.below(selected.rules.len())).map(|rule| rule.name.as_str());
    let carriers = ["socketcall", "ipc"];
    let name = match numbers.below(8) {
        0 => pick(numbers, NAMES),
        1 => pick(numbers, &carriers),
        _ => named.unwrap_or("read"),
    };
    let nr = match numbers.below(20) {
        0 => u32::MAX,
        1 => u32::try_from(numbers.below(600)).unwrap_or(0),
        _ => abi.number(name).unwrap_or(0x4000_0000),
    };
    let mut args = [0; 6];
    for arg in &mut args {
        let value = pick(numbers, VALUES);
        *arg = match numbers.below(6) {
            0 => value.wrapping_add(1),
            1 => value.wrapping_sub(1),
            2 => numbers.below(25) as u64,
            _ => value,
        };
    }
    Data { nr: nr.cast_signed(), arch: abi.arch().audit(), ip: 0, args }
}

/// A profile, what we make of it, and what libseccomp does.
struct Pair {
    profile: Value,
    selected: Selected,
    filter: Option<Filter>,
    program: Option<Vec<Instruction>>,
}

/// Compares the acceptance of random profiles, and returns those that both take.
fn pairs(count: usize, numbers: &mut Numbers, names: &[&str], default_actions: &[Action]) -> Result<Vec<Pair>> {
    let mut batch = Batch::default();
    let profiles: Vec<_> = (0..count).map(|_| profile(numbers, names, default_actions)).collect();
    let selected = profiles.iter().map(selected).collect::<Result<Vec<_>>>()?;
    for selected in &selected {
        ask(&mut batch, selected);
    }
    let exported = batch.programs()?;
    ensure!(exported.len() == count, "{} answers to {count} profiles", exported.len());
    let mut verdicts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut pairs = Vec::new();
    for ((profile, selected), exported) in profiles.into_iter().zip(selected).zip(exported) {
        let filter = Filter::for_libseccomp(&selected);
        let ours = filter.as_ref().err().map(|refused| refused.reason);
        let (word, theirs, program) = match exported {
            Exported::Program(program) => ("taken", None, Some(program)),
            Exported::Refused(17) => ("conflict", Some(Reason::Conflict), None),
            Exported::Endless => ("endless", Some(Reason::Endless), None),
            Exported::Refused(errno) => anyhow::bail!("libseccomp refuses with {errno}: {profile}"),
        };
        ensure!(ours == theirs, "we: {ours:?}, libseccomp: {theirs:?}: {profile}");
        *verdicts.entry(word).or_default() += 1;
        pairs.push(Pair { profile, selected, filter: filter.ok(), program });
    }
    println!("{count} profiles: {verdicts:?}");
    pairs.retain(|pair| pair.program.is_some());
    Ok(pairs)
}

#[test]
fn filters_answer_as_those_of_libseccomp() -> Result<()> {
    if !has_libseccomp() {
        return Ok(());
    }
    let mut numbers = Numbers::new(20_261_125);
    let defaults = [Action::ERRNO.with_data(1), Action::ALLOW, Action::KILL_PROCESS, Action::ERRNO.with_data(38)];
    let (mut compared, mut answers) = (0, BTreeMap::<String, usize>::new());
    for pair in pairs(4000, &mut numbers, NAMES, &defaults)? {
        let (Some(filter), Some(program)) = (pair.filter, pair.program) else { continue };
        for _ in 0..25 {
            let data = call(&mut numbers, &pair.selected);
            let ours = filter.answer(&data);
            let theirs = classic::run(&program, &data).map(Action);
            ensure!(Some(ours) == theirs, "we: {ours}, libseccomp: {theirs:?} for {data:x?} under {}", pair.profile);
            compared += 1;
            *answers.entry(ours.to_string()).or_default() += 1;
        }
    }
    println!("{compared} answers compared: {answers:?}");
    assert!(compared >= 10_000 && answers.len() >= 6, "{compared}: {answers:?}");
    Ok(())
}

/// Calls that do nothing with their arguments, and nothing to anybody.
const HARMLESS: &[&str] = &["getpid", "getppid", "getuid", "getgid", "getpgrp", "sched_yield", "gettid"];

#[test]
fn the_kernel_does_what_a_filter_answers() -> Result<()> {
    if !has_libseccomp() {
        return Ok(());
    }
    let mut numbers = Numbers::new(61_844);
    let (mut batch, mut expected) = (Batch::default(), Vec::new());
    for pair in pairs(250, &mut numbers, HARMLESS, &[Action::ALLOW, Action::ERRNO.with_data(38), Action::KILL_THREAD])?
    {
        let (Some(filter), Some(program)) = (pair.filter, pair.program) else { continue };
        batch.load(&program);
        for _ in 0..8 {
            let abi = pick(&mut numbers, &[Abi::X86_64, Abi::X86, Abi::X32]);
            let nr = abi.number(pick(&mut numbers, HARMLESS)).context("a call that every ABI has")?;
            let data = Data { nr: nr.cast_signed(), arch: abi.arch().audit(), ..call(&mut numbers, &pair.selected) };
            batch.call(if abi.arch() == Arch::I386 { 32 } else { 64 }, nr, &data.args);
            expected.push((filter.answer(&data), data, pair.profile.clone()));
        }
    }
    let outcomes = batch.outcomes()?;
    ensure!(outcomes.len() == expected.len(), "{} outcomes of {} calls", outcomes.len(), expected.len());
    let mut kinds = BTreeSet::new();
    for (outcome, (answer, data, profile)) in outcomes.iter().zip(&expected) {
        let fits = match (answer.kind(), outcome) {
            // A kernel without x32 says ENOSYS to what the filter lets pass.
            (Action::ALLOW | Action::LOG, Outcome::Returned(value)) => *value >= 0 || *value == -38,
            (Action::ERRNO, Outcome::Returned(value)) => *value == -i64::from(answer.data()),
            (Action::TRAP, Outcome::Trapped) | (Action::KILL_THREAD | Action::KILL_PROCESS, Outcome::Killed) => true,
            _ => false,
        };
        ensure!(fits, "{outcome:?}, but we say: {answer}, for {data:x?} under {profile}");
        kinds.insert(answer.kind());
    }
    println!("{} calls made: {kinds:?}", outcomes.len());
    assert!(outcomes.len() >= 1000 && kinds.len() == 6, "{}: {kinds:?}", outcomes.len());
    Ok(())
}

#[test]
fn long_profiles_answer_as_runc_makes_them() -> Result<()> {
    if !has_libseccomp() {
        return Ok(());
    }
    let mut numbers = Numbers::new(1105);
    let names: Vec<_> =
        Abi::X86_64.calls().chain(Abi::X86.calls()).map(|(name, _)| name).filter(|name| is_old(name)).collect();
    let (mut batch, mut filters) = (Batch::default(), Vec::new());
    for _ in 0..60 {
        let mut profile = profile(&mut numbers, NAMES, &[Action::ERRNO.with_data(1)]);
        let many: BTreeSet<_> = (0..60).map(|_| pick(&mut numbers, &names)).collect();
        let rules = profile["syscalls"].as_array_mut().context("rules")?;
        rules.push(json!({"names": many, "action": "SCMP_ACT_LOG"}));
        let selected = selected(&profile)?;
        let Ok(filter) = Filter::for_runc(&selected) else { continue };
        ask(&mut batch, &selected);
        filters.push((profile, selected, filter));
    }
    let (mut compared, mut too_new) = (0, 0);
    for ((profile, selected, filter), exported) in filters.into_iter().zip(batch.programs()?) {
        let Exported::Program(program) = exported else { anyhow::bail!("{exported:?}: {profile}") };
        let newest = |abi: Abi| selected.rules.iter().filter_map(|rule| abi.number(&rule.name)).max();
        for _ in 0..100 {
            let data = call(&mut numbers, &selected);
            let ours = filter.answer(&data);
            let theirs = classic::run(&program, &data).map(Action);
            let nr = data.nr.cast_unsigned();
            let abi = Arch::of_audit(data.arch).map(|arch| Abi::of_call(arch, nr)).context("an architecture")?;
            if ours == TOO_NEW {
                // Calls of 32-bit x86 that others can carry have no number to libseccomp.
                ensure!(abi == Abi::X86 || newest(abi).is_some_and(|newest| nr > newest), "{data:x?} under {profile}");
                too_new += 1;
            } else {
                ensure!(Some(ours) == theirs, "we: {ours}, runc: {theirs:?} for {data:x?} under {profile}");
            }
            compared += 1;
        }
    }
    println!("{compared} answers compared, {too_new} of them of runc's stub");
    assert!(compared >= 4000 && too_new > 0, "{compared}, {too_new}");
    Ok(())
}

/// Whether the oldest supported libseccomp knows the call: its table ends with Linux 5.17.
fn is_old(name: &str) -> bool {
    !["uretprobe", "uprobe"].contains(&name) && Abi::X86_64.number(name).is_none_or(|number| number <= 450)
}

#[test]
fn calls_have_the_numbers_that_libseccomp_gives_them() -> Result<()> {
    if !has_libseccomp() {
        return Ok(());
    }
    let mut batch = Batch::default();
    let mut asked = Vec::new();
    for abi in Abi::ALL {
        // What others can carry is asked for in another way by libseccomp itself.
        let carried = |name: &str| abi == Abi::X86 && multiplexed(name).is_some();
        for (name, number) in abi.calls().filter(|(name, _)| is_old(name) && !carried(name)) {
            batch.resolve(abi, name);
            asked.push((abi, name, number));
        }
    }
    let mut differing = Vec::new();
    for (number, (abi, name, ours)) in batch.numbers()?.into_iter().zip(&asked) {
        if number != Some(*ours) {
            differing.push(format!("{abi:?} {name}: {ours}, not {number:?}"));
        }
    }
    println!("{} numbers compared", asked.len());
    assert!(differing.is_empty() && asked.len() > 1500, "{} asked, {differing:#?}", asked.len());
    Ok(())
}
