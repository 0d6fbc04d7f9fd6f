//! The language case by case, in tables of one line each: what matches, what is refused, what files come to, what outputs say.
//! All are asked of one event.

use std::ops::ControlFlow;

use super::{
    super::{
        Condition, Matching, Options, RuleSet, Source, Supply, engine::Engine, format::Template, reference::Reference,
    },
    files::FILES,
    operators::OPERATORS,
    outputs::{OUTPUTS, OUTPUTS_REFUSED},
    refused::REFUSED,
};
use crate::event::{
    EventType,
    field::{Argument, Field, Fields},
    value::{Address, Value},
};

/// A shell that failed to open a file for writing. What is not in it has no value.
struct Sample;

const EVENT_TYPE: EventType = EventType::OPENAT;

impl Fields for Sample {
    fn value(&self, field: Field, argument: &Argument) -> Option<Value<'_>> {
        let text = |text: &'static str| Some(Value::text(text));
        match &*format!("{}{}", field.info().name, argument.suffix(field)) {
            "evt.num" => Some(Value::Uint(7)),
            "evt.type" => text("openat"),
            "evt.rawres" => Some(Value::Int(-2)),
            "evt.res" => text("ENOENT"),
            "evt.is_open_write" | "evt.failed" => Some(Value::Bool(true)),
            "evt.arg.flags" => text("O_RDWR|O_CREAT"),
            "evt.buffer" => Some(Value::text(b"HTTP\0\xff OK")),
            "evt.cpu" => Some(Value::Int(2)),
            "proc.name" => text("bash"),
            "proc.exe" => text("-bash"),
            "proc.exepath" => text("/usr/bin/bash"),
            "proc.cmdline" => text("bash -c Cat /etc/Passwd"),
            "proc.args" => text("-c Cat /etc/Passwd"),
            "proc.cwd" => text("/root/"),
            "proc.pname" | "proc.aname[1]" | "fd.filename" => text("sshd"),
            "proc.aname[2]" => text("systemd"),
            "proc.pid" => Some(Value::Int(1234)),
            "proc.vpid" | "user.loginuid" => Some(Value::Int(-1)),
            "proc.tty" => Some(Value::Uint(34816)),
            "proc.duration" => Some(Value::Uint(1_500_000_000)),
            "proc.fdusage" => Some(Value::Float(12.5)),
            "proc.env" => text("SECRET=aGVsbG8="),
            "user.uid" => Some(Value::Uint(0)),
            "user.name" => text("root"),
            "user.homedir" => text(""),
            "user.shell" => text("aGVsbG8="),
            "thread.cap_effective" => text("CAP_CHOWN CAP_SYS_ADMIN"),
            "container.id" => text("host"),
            "container.start_ts" => Some(Value::Uint(1_795_408_269_588_000_000)),
            "fd.num" => Some(Value::Int(3)),
            "fd.name" => text("/etc/pam.d/sshd"),
            "fd.directory" => text("/etc/pam.d"),
            "fd.typechar" => text("f"),
            "fd.sip" | "fd.snet" => Some(address("10.1.2.3")),
            "fd.cip" | "fd.cnet" => Some(address("::1")),
            "fd.sport" => Some(Value::Uint(443)),
            "fd.cport" => Some(Value::Uint(51000)),
            "fd.types" => Some(Value::List(vec![Value::text("file"), Value::text("ipv4")])),
            _ => None,
        }
    }

    fn values(&self, field: Field, argument: &Argument, each: &mut dyn FnMut(Value<'_>)) {
        match (field.info().name, argument) {
            ("proc.aname", Argument::None) => ["sshd", "systemd"].iter().for_each(|name| each(Value::text(*name))),
            ("fd.ip" | "fd.net", _) => ["10.1.2.3", "::1"].iter().for_each(|ip| each(address(ip))),
            ("fd.port", _) => [443, 51000].into_iter().for_each(|port| each(Value::Uint(port))),
            _ => self.value(field, argument).into_iter().for_each(each),
        }
    }
}

fn address(text: &str) -> Value<'static> {
    Value::Ip(Address(text.parse().unwrap()))
}

/// Whether an event satisfies a condition, as the engine and the reference say.
fn answers(condition: &str) -> Result<(bool, bool), String> {
    let expr = Condition::resolve(condition, "c", Supply::Caller).map_err(|errors| errors[0].to_string())?;
    let mut engine = Engine::new(&[&expr]).unwrap();
    let mut matched = false;
    engine.evaluate(EVENT_TYPE, &Sample, &mut |_| {
        matched = true;
        ControlFlow::Continue(())
    });
    Ok((matched, Reference::new(&expr).matches(&Sample)))
}

/// Tells all that differ, not the first.
fn differing(differences: &[String]) {
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn conditions_match_as_in_falco() {
    let differ = |(condition, expected): &(&str, bool)| match answers(condition) {
        Ok(answers) if answers == (*expected, *expected) => None,
        other => Some(format!("{condition}\n    expected {expected}, got (engine, reference) {other:?}")),
    };
    differing(&OPERATORS.iter().filter_map(differ).collect::<Vec<_>>());
}

#[test]
fn conditions_are_refused_as_in_falco() {
    let differ = |(condition, word): &(&str, &str)| match Condition::resolve(condition, "c", Supply::Caller) {
        Err(errors) if errors.iter().any(|error| error.message.to_lowercase().contains(word)) => None,
        Err(errors) => Some(format!("{condition}\n    expected `{word}` in {}", errors[0])),
        Ok(_) => Some(format!("{condition}\n    was not refused for `{word}`")),
    };
    differing(&REFUSED.iter().filter_map(differ).collect::<Vec<_>>());
}

#[test]
fn files_come_to_what_they_come_to_in_falco() {
    let options = Options { matching: Matching::All, supply: Supply::Caller, ..Options::default() };
    let differ = |(what, text, expected): &(&str, &str, &str)| {
        let source = Source { name: "r.yaml".into(), text: text.replace('⏎', "\n").into_bytes() };
        let loaded = RuleSet::load(&[source], &options);
        let mut names = Vec::new();
        if let Some(mut rules) = loaded.rules {
            rules.evaluate(EVENT_TYPE, &Sample, |rule| names.push(rule.name.clone()));
        }
        let mut codes: Vec<_> = loaded.diagnostics.iter().map(|diagnostic| diagnostic.code.name()).collect();
        codes.sort_unstable();
        codes.dedup();
        let (wanted_names, wanted_codes) = match expected.split_once('[') {
            Some((names, codes)) => {
                let (codes, behind) = codes.split_once(']').unwrap();
                (format!("{names}{behind}"), codes.split_whitespace().collect::<Vec<_>>())
            }
            None => ((*expected).to_owned(), Vec::new()),
        };
        let mut wanted_codes = wanted_codes;
        wanted_codes.sort_unstable();
        let wanted: Vec<_> = wanted_names.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        (names != wanted || codes != wanted_codes).then(|| {
            let problems: Vec<_> = loaded.diagnostics.iter().map(ToString::to_string).collect();
            format!(
                "{what}: {text}\n    expected {expected:?}, got {names:?} {codes:?}\n    {}",
                problems.join("\n    ")
            )
        })
    };
    differing(&FILES.iter().filter_map(differ).collect::<Vec<_>>());
}

#[test]
fn outputs_say_what_they_say_in_falco() {
    let differ = |(output, expected): &(&str, &str)| match Template::compile(output, Supply::Caller) {
        Ok(template) => {
            let message = template.render(&Sample).message;
            (message != *expected).then(|| format!("{output}\n    expected {expected:?}, got {message:?}"))
        }
        Err(error) => Some(format!("{output}\n    expected {expected:?}, refused: {}", error.message)),
    };
    differing(&OUTPUTS.iter().filter_map(differ).collect::<Vec<_>>());
    let differ = |(output, word): &(&str, &str)| match Template::compile(output, Supply::Caller) {
        Err(error) if error.message.to_lowercase().contains(word) => None,
        Err(error) => Some(format!("{output}\n    expected `{word}` in: {}", error.message)),
        Ok(_) => Some(format!("{output}\n    was not refused for `{word}`")),
    };
    differing(&OUTPUTS_REFUSED.iter().filter_map(differ).collect::<Vec<_>>());
}

#[test]
fn there_are_as_many_cases_as_promised() {
    let cases = OPERATORS.len() + REFUSED.len() + FILES.len() + OUTPUTS.len() + OUTPUTS_REFUSED.len();
    assert!(cases >= 400, "{cases}");
}
