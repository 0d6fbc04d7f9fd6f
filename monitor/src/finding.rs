//! Views of a finding: its values, its priority, its JSON.
//!
//! [`Finding`](crate::proto::v1::Finding) is defined once, in the proto. Its JSON is derived from there (`build.rs` writes
//! the serde attributes from the descriptors), with the proto's own field names, so that what a program reads from stdout
//! and what it reads over gRPC have the same shape:
//!
//! - one object on one line, keys in the proto's order, maps sorted: the same finding is always the same bytes;
//! - numbers are JSON numbers, 64-bit ones too (read them with a parser that keeps 64-bit integers); times are
//!   nanoseconds since 1970;
//! - enums are lower-case words without their prefix (`"warning"`, `"new_executable"`), numbers that this build does not
//!   know stay numbers;
//! - an absent message has no key; an output field without a value is `null`.

use std::{
    fmt,
    io::{self, Write},
};

use serde::{
    Serialize, Serializer,
    ser::{Error as _, SerializeSeq as _},
};

use crate::proto::v1::{self, Priority, value};

/// Writes a finding, or any other message of the contract, as one line of JSON with its line feed.
///
/// Control and bidirectional-override characters are written as `\uXXXX`, which JSON readers see no difference in: the
/// line can be shown on a terminal as it is.
pub fn write_json_line(message: &impl Serialize, mut out: impl Write) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, TerminalSafe);
    message.serialize(&mut serializer)?;
    out.write_all(b"\n")
}

/// Whether a character can change what a terminal does with the text around it: controls (C0, DEL, C1), line
/// separators, and the marks that reorder text (Unicode UAX #9).
pub fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Compact JSON whose text holds nothing that a terminal obeys. `serde_json` itself escapes only C0.
struct TerminalSafe;

impl serde_json::ser::Formatter for TerminalSafe {
    fn write_string_fragment<W: Write + ?Sized>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut plain = fragment;
        while let Some(at) = plain.find(is_unprintable) {
            let (before, rest) = plain.split_at(at);
            out.write_all(before.as_bytes())?;
            let mut characters = rest.chars();
            if let Some(character) = characters.next() {
                write!(out, "\\u{:04x}", u32::from(character))?;
            }
            plain = characters.as_str();
        }
        out.write_all(plain.as_bytes())
    }
}

/// A word of the contract without its prefix, lower-case, as JSON has it.
pub(crate) fn word_of(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

/// An enum field as its word. Named by the attributes that `build.rs` writes.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
pub(crate) fn word<E, S>(number: &i32, serializer: S) -> Result<S::Ok, S::Error>
where
    E: TryFrom<i32> + Serialize,
    S: Serializer,
{
    match E::try_from(*number) {
        Ok(known) => known.serialize(serializer),
        Err(_) => serializer.serialize_i32(*number),
    }
}

/// A repeated enum field as its words.
pub(crate) fn words<E, S>(numbers: &[i32], serializer: S) -> Result<S::Ok, S::Error>
where
    E: TryFrom<i32> + Serialize,
    S: Serializer,
{
    let mut list = serializer.serialize_seq(Some(numbers.len()))?;
    for number in numbers {
        match E::try_from(*number) {
            Ok(known) => list.serialize_element(&known)?,
            Err(_) => list.serialize_element(number)?,
        }
    }
    list.end().map_err(S::Error::custom)
}

/// A priority that is none of Falco's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown priority {0:?}: expected emergency, alert, critical, error, warning, notice, informational or debug")]
pub struct UnknownPriority(
    /// What was given.
    pub String,
);

impl Priority {
    /// Falco's eight priorities, most urgent first.
    pub const ALL: [Priority; 8] = [
        Priority::Emergency,
        Priority::Alert,
        Priority::Critical,
        Priority::Error,
        Priority::Warning,
        Priority::Notice,
        Priority::Informational,
        Priority::Debug,
    ];

    /// The word that Falco prints: `Emergency` to `Debug`.
    pub const fn word(self) -> &'static str {
        match self {
            Priority::Unspecified => "Unspecified",
            Priority::Emergency => "Emergency",
            Priority::Alert => "Alert",
            Priority::Critical => "Critical",
            Priority::Error => "Error",
            Priority::Warning => "Warning",
            Priority::Notice => "Notice",
            Priority::Informational => "Informational",
            Priority::Debug => "Debug",
        }
    }

    /// Reads Falco's words as rule files spell them: any case, `info` for `informational`.
    pub fn parse(word: &str) -> Result<Priority, UnknownPriority> {
        if word.eq_ignore_ascii_case("info") {
            return Ok(Priority::Informational);
        }
        let found = Priority::ALL.into_iter().find(|priority| priority.word().eq_ignore_ascii_case(word));
        found.ok_or_else(|| UnknownPriority(word.chars().take(64).collect()))
    }

    /// Whether it is as urgent as `floor` or more. Priorities are ordered as Falco numbers them: more urgent is smaller.
    pub fn at_least(self, floor: Priority) -> bool {
        self <= floor
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl v1::Value {
    /// The value of a field that the event does not have.
    pub const NONE: v1::Value = v1::Value { value: None };
}

impl<T: Into<value::Value>> From<T> for v1::Value {
    fn from(value: T) -> Self {
        v1::Value { value: Some(value.into()) }
    }
}

impl From<&str> for value::Value {
    fn from(text: &str) -> Self {
        value::Value::Text(text.to_owned())
    }
}

impl From<String> for value::Value {
    fn from(text: String) -> Self {
        value::Value::Text(text)
    }
}

impl From<i64> for value::Value {
    fn from(number: i64) -> Self {
        value::Value::Int(number)
    }
}

impl From<u64> for value::Value {
    fn from(number: u64) -> Self {
        value::Value::Uint(number)
    }
}

impl From<bool> for value::Value {
    fn from(truth: bool) -> Self {
        value::Value::Bool(truth)
    }
}

impl From<Vec<String>> for value::Value {
    fn from(items: Vec<String>) -> Self {
        value::Value::List(v1::TextList { items })
    }
}

/// An event's value as an output field: bytes that are not UTF-8 become U+FFFD.
impl From<crate::event::value::Value<'_>> for value::Value {
    fn from(value: crate::event::value::Value<'_>) -> Self {
        use crate::event::value::Value as Field;
        match value {
            Field::Text(bytes) => value::Value::Text(lossy(&bytes)),
            Field::Int(number) => value::Value::Int(number),
            Field::Uint(number) => value::Value::Uint(number),
            Field::Bool(truth) => value::Value::Bool(truth),
            Field::Float(number) => value::Value::Double(number),
            Field::Ip(ip) => value::Value::Text(ip.0.to_string()),
            Field::List(items) => value::Value::List(v1::TextList { items: items.iter().map(item_text).collect() }),
        }
    }
}

fn item_text(item: &crate::event::value::Value<'_>) -> String {
    use crate::event::value::Value as Field;
    match item {
        Field::Text(bytes) => lossy(bytes),
        Field::Int(number) => number.to_string(),
        Field::Uint(number) => number.to_string(),
        Field::Float(number) => number.to_string(),
        Field::Bool(truth) => truth.to_string(),
        Field::Ip(ip) => ip.0.to_string(),
        Field::List(items) => items.iter().map(item_text).collect::<Vec<_>>().join(","),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::{
        output::sample,
        proto::v1::{Batch, Filter, Finding, Kind, LossReport, SubscribeResponse, subscribe_response::Response},
    };

    fn line(message: &impl Serialize) -> String {
        let mut out = Vec::new();
        write_json_line(message, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn json(message: &impl Serialize) -> Json {
        serde_json::from_str(&line(message)).unwrap()
    }

    #[test]
    fn a_drift_finding_is_json_with_every_field() {
        let expected = json!({
            "uid": "0198c0de-0000-7000-8000-000000000001",
            "sequence": 1,
            "time_unix_nano": 1_795_437_296_789_012_345_u64,
            "observed_time_unix_nano": 1_795_437_296_789_012_350_u64,
            "kind": "drift",
            "priority": "warning",
            "rule": "Drift Execution",
            "message": "new program run (path=/tmp/x proc=x)",
            "output_fields": {
                "fd.num": -1, "k8s.ns.name": null, "proc.args": ["-a", "-b"], "proc.is_exe_upper_layer": true,
                "proc.name": "x", "proc.pid": 4242,
            },
            "tags": ["container", "mitre_execution"],
            "source": "syscall",
            "hostname": "node-1",
            "event_number": 17,
            "event_type": "execve",
            "process": {
                "pid": 4242, "tid": 4242, "vpid": 12, "start_time_unix_nano": 1, "name": "x", "executable": "/tmp/x",
                "arguments": ["x"], "working_directory": "/", "uid": 1000,
                "ancestors": [{"pid": 4200, "name": "sh", "executable": "/bin/sh", "arguments": ["sh"]}],
            },
            "container": {
                "id": "3f2a9c0d1e4b5a69788796a5b4c3d2e1f0f1e2d3c4b5a69788796a5b4c3d2e1f",
                "runtime": "cri-containerd",
                "pod_uid": "7b0f2c9e-1111-2222-3333-444455556666",
                "cgroup_path": "/kubepods.slice/x.scope",
                "name": "app",
                "image": "registry.example.com/team/web:1.4",
                "image_digest": "sha256:2a0c6f1b",
                "pod_name": "web-0",
                "namespace": "prod",
            },
            "drift": {
                "kind": "new_executable",
                "file": {
                    "path": "/tmp/x", "inode": 7, "device": 8, "size_bytes": 9, "mode": 0o100_755,
                    "modified_time_unix_nano": 10, "changed_time_unix_nano": 11, "layer": "upper",
                    "sha256": "e3b0", "sha256_missing": "",
                },
                "writer": {
                    "process": {
                        "pid": 4240, "tid": 4240, "vpid": 12, "start_time_unix_nano": 1, "name": "cp",
                        "executable": "/tmp/cp", "arguments": ["cp"], "working_directory": "/", "uid": 1000,
                        "ancestors": [],
                    },
                    "time_unix_nano": 12, "path": "/tmp/x", "connections": [],
                },
                "mode": "alert", "policy_rule": "",
            },
        });
        assert_eq!(json(&sample::drift(1)), expected);
    }

    #[test]
    fn a_seccomp_finding_keeps_64_bit_numbers_and_omits_the_absent_container() {
        let finding = json(&sample::seccomp(2));
        assert_eq!(finding.get("container"), None);
        assert_eq!(finding.get("drift"), None);
        assert_eq!(
            finding["seccomp"],
            json!({
                "syscall": "mount", "number": 165, "arch": "x86_64", "action": "errno", "errno": 1, "errno_name": "EPERM",
                "signal": "", "arguments": [u64::MAX, 2, 3, 4, 5, 6], "instruction_pointer": 0x7fff_1234_u64,
                "evidence": "filter", "profile": "RuntimeDefault", "profile_digest": "9f86d081",
                "rule": "defaultAction: SCMP_ACT_ERRNO", "count": 1,
                "first_time_unix_nano": 1_795_437_296_789_012_345_u64,
                "last_time_unix_nano": 1_795_437_296_789_012_345_u64,
            })
        );
    }

    #[test]
    fn an_empty_finding_has_its_scalars_and_no_messages() {
        let text = line(&Finding::default());
        assert_eq!(
            text,
            "{\"uid\":\"\",\"sequence\":0,\"time_unix_nano\":0,\"observed_time_unix_nano\":0,\"kind\":\"unspecified\",\
             \"priority\":\"unspecified\",\"rule\":\"\",\"message\":\"\",\"output_fields\":{},\"tags\":[],\"source\":\"\",\
             \"hostname\":\"\",\"event_number\":0,\"event_type\":\"\"}\n"
        );
    }

    #[test]
    fn enum_numbers_of_a_newer_agent_stay_numbers() {
        let finding = json(&Finding { kind: 77, priority: 99, ..Finding::default() });
        assert_eq!((&finding["kind"], &finding["priority"]), (&json!(77), &json!(99)));
        let filter = json(&Filter { kinds: vec![Kind::SeccompViolation.into(), 77], ..Filter::default() });
        assert_eq!(filter["kinds"], json!(["seccomp_violation", 77]));
    }

    #[test]
    fn the_other_messages_of_the_stream_have_the_same_view() {
        let loss = LossReport { findings: 3, cause: "expired".to_owned(), ..LossReport::default() };
        let response = SubscribeResponse { response: Some(Response::Loss(loss)) };
        assert_eq!(
            json(&response),
            json!({"loss": {
                "findings": 3, "records": 0, "cause": "expired", "cursor": "", "epoch": "", "first_sequence": 0,
            }})
        );
        let batch = SubscribeResponse { response: Some(Response::Batch(Batch::default())) };
        assert_eq!(json(&batch), json!({"batch": {"findings": [], "cursor": ""}}));
    }

    #[test]
    fn hostile_text_reads_back_but_never_reaches_the_terminal_raw() {
        let hostile: String = (0..=0x2100_u32).filter_map(char::from_u32).chain("\u{2066}x\u{2069}".chars()).collect();
        let finding = Finding {
            message: hostile.clone(),
            output_fields: [(hostile.clone(), v1::Value::from(hostile.as_str()))].into(),
            ..Finding::default()
        };
        let text = line(&finding);
        assert_eq!(text.matches(is_unprintable).collect::<String>(), "\n", "only the line feed at the end");
        let read: Json = serde_json::from_str(&text).unwrap();
        assert_eq!(read["message"].as_str(), Some(hostile.as_str()));
        assert_eq!(read["output_fields"][&hostile].as_str(), Some(hostile.as_str()));
    }

    #[test]
    fn priorities_read_as_rule_files_spell_them_and_order_by_urgency() {
        for priority in Priority::ALL {
            for word in [priority.word().to_owned(), priority.word().to_lowercase(), priority.word().to_uppercase()] {
                assert_eq!(Priority::parse(&word), Ok(priority));
            }
        }
        assert_eq!(Priority::parse("Info"), Ok(Priority::Informational));
        for word in ["", "warn", "unspecified", "emergency "] {
            assert_eq!(Priority::parse(word), Err(UnknownPriority(word.to_owned())));
        }
        assert!(Priority::ALL.is_sorted());
        assert!(Priority::Emergency.at_least(Priority::Warning));
        assert!(Priority::Warning.at_least(Priority::Warning));
        assert!(!Priority::Notice.at_least(Priority::Warning));
    }

    #[test]
    fn event_values_become_output_values() {
        use crate::event::value::Value as Field;
        let value = |field: Field<'_>| v1::Value::from(value::Value::from(field));
        assert_eq!(value(Field::text(b"a\xffb")), v1::Value::from("a\u{fffd}b"));
        assert_eq!(value(Field::Int(-5)), v1::Value::from(-5_i64));
        assert_eq!(value(Field::Uint(u64::MAX)), v1::Value::from(u64::MAX));
        assert_eq!(value(Field::Bool(true)), v1::Value::from(true));
        assert_eq!(value(Field::List(vec![Field::text("a")])), v1::Value::from(vec!["a".to_owned()]));
    }
}
