//! Measures what evaluating rules costs per event: the engine beside the plain walk over the conditions, for sets of different
//! sizes. Prints one JSON object per measurement; `cargo xtask bench rules-scaling` makes medians and ratios of them.
//!
//! Usage: `measure-rules ROUNDS [RULE-FILE…]`. The files are measured together, as the set `upstream`.

use std::{
    borrow::Cow,
    fmt::Write as _,
    hint::black_box,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use monitor::{
    event::{
        EventType,
        field::{Argument, Field, Fields},
        value::Value,
    },
    rules::{Options, RuleSet, Source, reference::Reference},
};
use serde_json::json;

/// How long one measurement takes, at least.
const TIME: Duration = Duration::from_millis(20);
/// Sizes of the synthetic sets.
const SIZES: [usize; 4] = [10, 100, 1000, 10_000];
/// Digits behind the texts that differ from event to event.
const DIGITS: usize = 5;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let rounds: u32 = args.next().context("usage: measure-rules ROUNDS [RULE-FILE…]")?.parse()?;
    let mut sets = Vec::new();
    for size in SIZES {
        sets.push(Set::new(size.to_string(), &[synthetic(size)])?);
    }
    let files: Vec<_> = args.map(read).collect::<Result<_>>()?;
    if !files.is_empty() {
        sets.push(Set::new("upstream".into(), &files)?);
    }
    let mut kinds = [
        ("exec", exec_events(true)),
        ("exec repeated", exec_events(false)),
        ("open", open_events(true)),
        ("open repeated", open_events(false)),
    ];
    for _ in 0..rounds {
        for set in &mut sets {
            for (kind, events) in &mut kinds {
                let engine = set.engine(events);
                let reference = set.reference(events);
                println!("{}", json!({"set": set.name, "event": kind, "engine_ns": engine, "reference_ns": reference}));
            }
        }
    }
    Ok(())
}

fn read(path: String) -> Result<Source> {
    let text = std::fs::read(&path).with_context(|| path.clone())?;
    Ok(Source { name: path, text })
}

/// Rules, ready to be evaluated both ways.
struct Set {
    name: String,
    rules: RuleSet,
    references: Vec<(monitor::rules::EventTypes, Reference)>,
}

impl Set {
    fn new(name: String, sources: &[Source]) -> Result<Self> {
        let loaded = RuleSet::load(sources, &Options::default());
        let Some(rules) = loaded.rules else {
            let first = loaded.diagnostics.first().map(ToString::to_string).unwrap_or_default();
            bail!("the set {name} has an error: {first}");
        };
        let references = rules.rules().map(|rule| (rule.event_types, Reference::new(&rule.expr))).collect();
        Ok(Self { name, rules, references })
    }

    /// Nanoseconds per event.
    fn engine(&mut self, events: &mut [Sample]) -> f64 {
        per_event(events, |event| {
            self.rules.evaluate(event.event_type, event, |rule| {
                black_box(rule);
            });
        })
    }

    /// Nanoseconds per event of the plain way: each rule that can match the event's type, in order, until one does.
    fn reference(&self, events: &mut [Sample]) -> f64 {
        per_event(events, |event| {
            let can_match = |(types, _): &&(monitor::rules::EventTypes, Reference)| types.contains(event.event_type);
            let found = self.references.iter().filter(can_match).find(|(_, reference)| reference.matches(event));
            black_box(found.is_some());
        })
    }
}

fn per_event(events: &mut [Sample], mut evaluate: impl FnMut(&Sample)) -> f64 {
    let start = Instant::now();
    let mut count = 0_u32;
    while start.elapsed() < TIME {
        for _ in 0..8 {
            for event in &mut *events {
                event.differ(count);
                evaluate(event);
                count += 1;
            }
        }
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(count)
}

/// Rules with constants of their own on the usual fields. None of them matches the events.
fn synthetic(size: usize) -> Source {
    let mut text = String::new();
    for number in 0..size {
        let condition = match number % 3 {
            0 => format!("evt.type in (execve, execveat) and proc.name in (tool{number}, agent{number})"),
            1 => format!("evt.type in (open, openat, openat2) and fd.name startswith /opt/app{number}/"),
            _ => format!("evt.type in (execve, execveat, openat) and proc.cmdline contains \"--flag{number} \""),
        };
        let _ = writeln!(
            text,
            "- rule: R{number}\n  desc: d\n  condition: {condition} and container.id != host\n  output: \"%proc.name\"\n  priority: INFO",
        );
    }
    Source { name: format!("synthetic-{size}.yaml"), text: text.into_bytes() }
}

/// An event whose fields are in a table.
struct Sample {
    event_type: EventType,
    /// By field, where its value is; shared by all events of a kind.
    places: Rc<[Option<u8>]>,
    values: Vec<Value<'static>>,
    /// Which of them differ from event to event, in their last digits.
    differing: Vec<usize>,
    ancestors: Vec<&'static str>,
}

impl Fields for Sample {
    fn value(&self, field: Field, argument: &Argument) -> Option<Value<'_>> {
        match argument {
            Argument::None => {
                let place = (*self.places.get(field.index())?)?;
                self.values.get(usize::from(place)).map(lent)
            }
            Argument::Index(generation) if field.info().name == "proc.aname" => {
                let above = usize::try_from(*generation).ok()?.checked_sub(1)?;
                self.ancestors.get(above).map(|name| Value::text(*name))
            }
            _ => None,
        }
    }

    fn values(&self, field: Field, argument: &Argument, each: &mut dyn FnMut(Value<'_>)) {
        match (field.info().name, argument) {
            ("proc.aname", Argument::None) => self.ancestors.iter().for_each(|name| each(Value::text(*name))),
            _ => self.value(field, argument).into_iter().for_each(each),
        }
    }
}

/// A value as fields of an event give it: text is lent, never copied.
fn lent<'a>(value: &'a Value<'static>) -> Value<'a> {
    match value {
        Value::Text(text) => Value::text(text),
        other => other.clone(),
    }
}

impl Sample {
    /// All of a kind, whose fields have the same names. If they are to differ, those of these names do.
    fn all(
        event_type: EventType,
        events: impl Iterator<Item = Vec<(&'static str, Value<'static>)>>,
        differing: &[&str],
    ) -> Vec<Self> {
        let events: Vec<_> = events.collect();
        let mut places = vec![None; Field::all().count()];
        for (place, (name, _)) in (0..).zip(events.first().into_iter().flatten()) {
            let field = Field::find(name).unwrap_or_else(|| panic!("no field {name}"));
            places.get_mut(field.index()).into_iter().for_each(|at| *at = Some(place));
        }
        let places: Rc<[Option<u8>]> = places.into();
        let sample = |values: Vec<(&str, Value<'static>)>| {
            let position = |name: &&str| values.iter().position(|(known, _)| known == name);
            let differing: Vec<usize> = differing.iter().filter_map(position).collect();
            let mut values: Vec<_> = values.into_iter().map(|(_, value)| value).collect();
            for place in &differing {
                if let Some(value) = values.get_mut(*place) {
                    *value = Value::owned([value.as_text().unwrap_or_default(), &[b'0'; DIGITS]].concat());
                }
            }
            Self { event_type, places: Rc::clone(&places), values, differing, ancestors: ANCESTORS.to_vec() }
        };
        events.into_iter().map(sample).collect()
    }

    /// Makes it another event, unless it is one that repeats itself.
    fn differ(&mut self, number: u32) {
        for place in &self.differing {
            let Some(Value::Text(Cow::Owned(text))) = self.values.get_mut(*place) else { continue };
            let mut rest = number;
            for digit in text.iter_mut().rev().take(DIGITS) {
                *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
                rest /= 10;
            }
        }
    }
}

/// Programs that a node runs all day: name, arguments, path, parent, container.
const PROGRAMS: &[(&str, &str, &str, &str, &str)] = &[
    (
        "runc",
        "--root /run/containerd/runc/k8s.io --log /run/containerd/io.log state 3ad7b26ded6d",
        "/usr/bin/runc",
        "containerd-shim",
        "host",
    ),
    ("iptables", "-w 5 -W 100000 -S KUBE-PROXY-CANARY -t mangle", "/usr/sbin/iptables", "kubelet", "host"),
    ("sh", "-c /healthcheck.sh --port 8080", "/bin/busybox", "runc", "3ad7b26ded6d"),
    ("curl", "-sf http://127.0.0.1:8080/healthz", "/usr/bin/curl", "sh", "3ad7b26ded6d"),
    ("grep", "-q ready /tmp/status", "/bin/busybox", "sh", "3ad7b26ded6d"),
    ("python3", "/app/worker.py --queue jobs --concurrency 4", "/usr/bin/python3.11", "dumb-init", "77aa02cc10be"),
    ("node", "/srv/server/index.js", "/usr/local/bin/node", "tini", "0b3cbd84aa11"),
    ("date", "+%s", "/usr/bin/date", "bash", "host"),
];

const FILES: &[&str] = &[
    "/proc/self/mountinfo",
    "/sys/fs/cgroup/kubepods.slice/memory.max",
    "/var/log/pods/default_web_0/web/0.log",
    "/etc/resolv.conf",
    "/usr/lib/x86_64-linux-gnu/libc.so.6",
    "/app/config/settings.json",
    "/tmp/prometheus/metrics.db",
    "/usr/lib/python3.11/encodings/__pycache__/utf_8.cpython-311.pyc",
];

const ANCESTORS: &[&str] = &["containerd-shim", "systemd"];

fn process(
    (name, args, path, parent, container): &(&'static str, &'static str, &'static str, &'static str, &'static str),
) -> Vec<(&'static str, Value<'static>)> {
    vec![
        ("evt.num", Value::Uint(7)),
        ("evt.rawres", Value::Int(0)),
        ("evt.res", Value::text("SUCCESS")),
        ("proc.name", Value::text(*name)),
        ("proc.exe", Value::text(*name)),
        ("proc.args", Value::text(*args)),
        ("proc.cmdline", Value::owned(format!("{name} {args}"))),
        ("proc.exepath", Value::text(*path)),
        ("proc.pname", Value::text(*parent)),
        ("proc.pexe", Value::text(*parent)),
        ("proc.pcmdline", Value::text(*parent)),
        ("proc.cwd", Value::text("/")),
        ("proc.tty", Value::Uint(0)),
        ("proc.pid", Value::Int(4711)),
        ("proc.vpid", Value::Int(12)),
        ("proc.duration", Value::Uint(1_000_000)),
        ("proc.is_exe_upper_layer", Value::Bool(false)),
        ("proc.is_exe_from_memfd", Value::Bool(false)),
        ("user.uid", Value::Uint(0)),
        ("user.name", Value::text("root")),
        ("user.loginuid", Value::Int(-1)),
        (
            "thread.cap_permitted",
            Value::text("CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_SETGID CAP_SETUID CAP_NET_RAW"),
        ),
        (
            "thread.cap_effective",
            Value::text("CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_SETGID CAP_SETUID CAP_NET_RAW"),
        ),
        ("container.id", Value::text(*container)),
        ("container.image.repository", Value::text("registry.example.com/team/web")),
        ("container.privileged", Value::Bool(false)),
        ("k8s.ns.name", Value::text("default")),
        ("k8s.pod.name", Value::text("web-7d4b9c")),
    ]
}

fn exec_events(differing: bool) -> Vec<Sample> {
    let event = |program| {
        let mut values = process(program);
        values.push(("evt.type", Value::text("execve")));
        values
    };
    let names: &[&str] = if differing { &["proc.args", "proc.cmdline"] } else { &[] };
    Sample::all(EventType::EXECVE, PROGRAMS.iter().map(event), names)
}

fn open_events(differing: bool) -> Vec<Sample> {
    let event = |(program, path): (&_, &&'static str)| {
        let mut values = process(program);
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        values.extend([
            ("evt.type", Value::text("openat")),
            ("evt.is_open_read", Value::Bool(true)),
            ("evt.is_open_write", Value::Bool(false)),
            ("fd.num", Value::Int(5)),
            ("fd.typechar", Value::text("f")),
            ("fd.type", Value::text("file")),
            ("fd.name", Value::text(*path)),
            ("fd.nameraw", Value::text(*path)),
            ("fd.directory", Value::text(directory)),
            ("fd.filename", Value::text(name)),
        ]);
        values
    };
    let names: &[&str] = if differing { &["fd.name", "fd.nameraw", "fd.filename"] } else { &[] };
    Sample::all(EventType::OPENAT, PROGRAMS.iter().zip(FILES).map(event), names)
}
