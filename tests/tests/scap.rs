//! Public captures, read as Falco 0.44 reads them: which event has which number, time, thread and result. The captures, and
//! what a real Falco printed of them, are no part of this repository: they are looked for in `MONITOR_FALCO_CAPTURES`, else
//! in `../shared/captures` beside it.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use monitor::{
    capture::Unpacked,
    event::{
        Body,
        call::Call,
        schema::{self, Code},
    },
    scap::{Counters, Reader},
};
use serde_json::Value;

/// Types of events that the rules of the expectation print always, without a further condition.
const ALWAYS: &[&str] = &[
    "accept",
    "accept4",
    "bind",
    "chmod",
    "chown",
    "chroot",
    "clone",
    "clone3",
    "connect",
    "execve",
    "execveat",
    "fchmod",
    "fchmodat",
    "fchown",
    "fchownat",
    "fork",
    "kill",
    "lchown",
    "link",
    "linkat",
    "listen",
    "mkdir",
    "mkdirat",
    "mount",
    "pivot_root",
    "procexit",
    "ptrace",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "setgid",
    "setns",
    "setregid",
    "setresgid",
    "setresuid",
    "setreuid",
    "setuid",
    "socket",
    "symlink",
    "symlinkat",
    "tgkill",
    "tkill",
    "umount",
    "umount2",
    "unlink",
    "unlinkat",
    "unshare",
    "vfork",
];

/// An event as both sides tell it.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    time: u64,
    tid: Option<i64>,
    /// What the call returned.
    result: Option<i64>,
    event_type: String,
    /// It is of one of the two codes that all calls have which Falco knows by number only. A rule about a type that has a
    /// code of its own is not asked about these.
    is_generic: bool,
}

/// The captures, or nothing where they are not there. Says so: this is data that a stranger need not have.
fn captures() -> Result<Vec<PathBuf>> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures");
    let directory = env::var_os("MONITOR_FALCO_CAPTURES").map_or(default, PathBuf::from);
    if !directory.is_dir() {
        eprintln!(
            "SKIPPED (needs captures): {} is no directory; name it in MONITOR_FALCO_CAPTURES",
            directory.display()
        );
        return Ok(Vec::new());
    }
    let mut captures = Vec::new();
    for entry in fs::read_dir(&directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "scap") {
            captures.push(path);
        }
    }
    captures.sort();
    ensure!(!captures.is_empty(), "{} has no captures", directory.display());
    Ok(captures)
}

/// Every event that rules see, by number.
fn read(path: &Path) -> Result<(BTreeMap<u64, Told>, Counters)> {
    let mut reader = Reader::new(File::open(path)?)?;
    let mut events = BTreeMap::new();
    loop {
        let told = match reader.next()?.map(|event| event.body) {
            None => return Ok((events, reader.counters())),
            Some(Body::Call(call)) if !call.state_only => told(&call),
            Some(_) => continue,
        };
        events.insert(reader.number(), told);
    }
}

fn told(call: &Call<'_>) -> Told {
    let is_generic = call.info.code == Code::GENERIC_X;
    let event_type = if is_generic { call.params.u16(0).and_then(schema::syscall_event_type) } else { None };
    let event_type = event_type.unwrap_or(call.info.event_type).name().to_owned();
    let result = call.info.position("res").or_else(|| call.info.position("fd"));
    let result = result.and_then(|index| call.params.i64(index));
    Told { time: call.ts_ns, tid: Some(call.tid), result, event_type, is_generic }
}

/// What Falco printed, by number of the event.
fn expected(path: &Path) -> Result<BTreeMap<u64, Told>> {
    let name = path.file_stem().and_then(|name| name.to_str()).context("a capture without a name")?;
    let directory = path.with_file_name("expected");
    let plain = directory.join(format!("{name}.probe.jsonl"));
    let file = if plain.exists() { plain } else { directory.join(format!("{name}.probe.jsonl.gz")) };
    let mut text = String::new();
    Unpacked::new(File::open(&file).with_context(|| file.display().to_string())?)?.read_to_string(&mut text)?;
    let mut events = BTreeMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line)?;
        let fields = line.get("output_fields").context("a line without fields")?;
        let number = |name| fields.get(name).and_then(Value::as_u64).with_context(|| format!("no {name}"));
        let told = Told {
            time: number("evt.time")?,
            tid: fields.get("thread.tid").and_then(Value::as_i64),
            result: fields.get("evt.rawres").and_then(Value::as_i64),
            event_type: fields.get("evt.type").and_then(Value::as_str).context("no evt.type")?.to_owned(),
            is_generic: false,
        };
        events.insert(number("evt.num")?, told);
    }
    Ok(events)
}

#[test]
fn events_have_the_numbers_times_threads_and_results_that_falco_gives_them() -> Result<()> {
    let mut compared = 0;
    for path in captures()? {
        let (events, _) = read(&path).with_context(|| path.display().to_string())?;
        let expected = expected(&path)?;
        for (number, expected) in &expected {
            let got = events.get(number).with_context(|| format!("{}: no event {number}", path.display()))?;
            ensure!(
                (got.time, &got.event_type) == (expected.time, &expected.event_type)
                    && (expected.tid.is_none() || got.tid == expected.tid)
                    && (expected.result.is_none() || got.result == expected.result),
                "{}: event {number} is {got:?}, and Falco says {expected:?}",
                path.display(),
            );
        }
        let more = events.iter().find(|(number, event)| {
            !event.is_generic && ALWAYS.contains(&event.event_type.as_str()) && !expected.contains_key(number)
        });
        ensure!(more.is_none(), "{}: Falco has no {more:?}", path.display());
        compared += expected.len();
    }
    eprintln!("compared {compared} events");
    Ok(())
}

#[test]
fn every_event_of_every_capture_can_be_read() -> Result<()> {
    for path in captures()? {
        let (events, counters) = read(&path).with_context(|| path.display().to_string())?;
        let last = events.keys().next_back().copied();
        ensure!(last == Some(counters.events), "{}: the last event is {last:?}, {counters:?}", path.display());
        let strange = counters.blocks_unknown + counters.events_unknown + counters.enters_evicted;
        ensure!(strange == 0, "{}: {counters:?}", path.display());
        ensure!(counters.file_bytes == fs::metadata(&path)?.len(), "{}: {counters:?}", path.display());
        eprintln!("{}: {counters:?}", path.display());
        if path.ends_with("node_scenario_a.scap") {
            ensure!(counters.events == 37_866, "{counters:?}");
        }
    }
    Ok(())
}
