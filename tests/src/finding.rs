//! One comparable form of a finding, whether it was printed as JSON or received over gRPC.
//!
//! The printed form is the message with its own field names, enum values as lower-case words without their prefix, the evidence
//! under the name of its kind, and output fields flat. [`from_message`] makes that form from the message on its own, so that
//! the printed JSON is checked against it. [`comparable`] then leaves out what may differ.
use anyhow::{Context as _, Result, ensure};
use monitor::proto::v1;
use serde_json::{Map, Value, json};

/// Findings of JSON lines. Every line must be one.
pub fn parse(lines: &str) -> Result<Vec<Value>> {
    let mut findings = Vec::new();
    for line in lines.lines() {
        let finding: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line:?}"))?;
        ensure!(finding.pointer("/rule").is_some_and(Value::is_string), "not a finding: {line:?}");
        findings.push(finding);
    }
    Ok(findings)
}

/// The findings in a container.
pub fn of_container<'a>(findings: &'a [Value], id: &str) -> Vec<&'a Value> {
    findings.iter().filter(|finding| text(finding, "/container/id") == id).collect()
}

/// The text at a JSON pointer, empty where there is none.
pub fn text<'a>(finding: &'a Value, pointer: &str) -> &'a str {
    finding.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The number at a JSON pointer, 0 where there is none.
pub fn number(finding: &Value, pointer: &str) -> u64 {
    finding.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

/// The list at a JSON pointer, its texts joined by spaces.
pub fn words(finding: &Value, pointer: &str) -> String {
    let list = finding.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

/// The finding without what differs between a live run and its replay (uid, when it was made), and without fields that have
/// the value of an absent one, which the two forms may print or not.
pub fn comparable(finding: &Value) -> Value {
    let mut finding = finding.clone();
    if let Some(members) = finding.as_object_mut() {
        members.remove("uid");
        members.remove("observed_time_unix_nano");
    }
    without_defaults(finding)
}

fn without_defaults(value: Value) -> Value {
    let Value::Object(members) = value else { return value };
    let members = members.into_iter().map(|(name, member)| {
        // A missing output field is a fact about the event: its name stays.
        let member = if name == "output_fields" { member } else { without_list_defaults(member) };
        (name, member)
    });
    members.filter(|(_, member)| !is_default(member)).collect::<Map<_, _>>().into()
}

fn without_list_defaults(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(without_defaults).collect(),
        other => without_defaults(other),
    }
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(truth) => !truth,
        Value::Number(number) => number.as_u64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(_) => false,
    }
}

/// The printed form of a message.
pub fn from_message(finding: &v1::Finding) -> Value {
    let mut json = json!({
        "uid": finding.uid,
        "sequence": finding.sequence,
        "time_unix_nano": finding.time_unix_nano,
        "observed_time_unix_nano": finding.observed_time_unix_nano,
        "kind": word(finding.kind().as_str_name(), "KIND_"),
        "priority": word(finding.priority().as_str_name(), "PRIORITY_"),
        "rule": finding.rule,
        "message": finding.message,
        "output_fields": finding.output_fields.iter().map(|(name, field)| (name.clone(), value(field))).collect::<Map<_, _>>(),
        "tags": finding.tags,
        "source": finding.source,
        "hostname": finding.hostname,
        "event_number": finding.event_number,
        "event_type": finding.event_type,
        "process": finding.process.as_ref().map(process),
        "container": finding.container.as_ref().map(container),
    });
    let detail = match &finding.detail {
        Some(v1::finding::Detail::Drift(detail)) => Some(("drift", drift(detail))),
        Some(v1::finding::Detail::Seccomp(detail)) => Some(("seccomp", seccomp(detail))),
        Some(v1::finding::Detail::PodSecurity(detail)) => Some(("pod_security", pod_security(detail))),
        None => None,
    };
    if let (Some((name, detail)), Some(members)) = (detail, json.as_object_mut()) {
        members.insert(name.to_owned(), detail);
    }
    json
}

fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

fn value(value: &v1::Value) -> Value {
    match &value.value {
        None => Value::Null,
        Some(v1::value::Value::Text(text)) => json!(text),
        Some(v1::value::Value::Int(number)) => json!(number),
        Some(v1::value::Value::Uint(number)) => json!(number),
        Some(v1::value::Value::Bool(truth)) => json!(truth),
        Some(v1::value::Value::List(list)) => json!(list.items),
        Some(v1::value::Value::Double(number)) => json!(number),
    }
}

fn process(process: &v1::Process) -> Value {
    let ancestor = |one: &v1::Ancestor| json!({"pid": one.pid, "name": one.name, "executable": one.executable, "arguments": one.arguments});
    json!({
        "pid": process.pid,
        "tid": process.tid,
        "vpid": process.vpid,
        "start_time_unix_nano": process.start_time_unix_nano,
        "name": process.name,
        "executable": process.executable,
        "arguments": process.arguments,
        "working_directory": process.working_directory,
        "uid": process.uid,
        "ancestors": process.ancestors.iter().map(ancestor).collect::<Vec<_>>(),
    })
}

fn container(container: &v1::Container) -> Value {
    json!({
        "id": container.id,
        "runtime": container.runtime,
        "pod_uid": container.pod_uid,
        "cgroup_path": container.cgroup_path,
        "name": container.name,
        "image": container.image,
        "image_digest": container.image_digest,
        "pod_name": container.pod_name,
        "namespace": container.namespace,
    })
}

fn drift(drift: &v1::Drift) -> Value {
    let file = drift.file.as_ref().map(|file| {
        json!({
            "path": file.path,
            "inode": file.inode,
            "device": file.device,
            "size_bytes": file.size_bytes,
            "mode": file.mode,
            "modified_time_unix_nano": file.modified_time_unix_nano,
            "changed_time_unix_nano": file.changed_time_unix_nano,
            "layer": file.layer,
            "sha256": file.sha256,
            "sha256_missing": file.sha256_missing,
        })
    });
    let writer = drift.writer.as_ref().map(|writer| {
        json!({
            "process": writer.process.as_ref().map(process),
            "time_unix_nano": writer.time_unix_nano,
            "path": writer.path,
            "connections": writer.connections,
        })
    });
    json!({
        "kind": word(drift.kind().as_str_name(), "DRIFT_KIND_"),
        "file": file,
        "writer": writer,
        "mode": drift.mode,
        "policy_rule": drift.policy_rule,
    })
}

fn seccomp(seccomp: &v1::SeccompViolation) -> Value {
    json!({
        "syscall": seccomp.syscall,
        "number": seccomp.number,
        "arch": seccomp.arch,
        "action": word(seccomp.action().as_str_name(), "SECCOMP_ACTION_"),
        "errno": seccomp.errno,
        "errno_name": seccomp.errno_name,
        "signal": seccomp.signal,
        "arguments": seccomp.arguments,
        "instruction_pointer": seccomp.instruction_pointer,
        "evidence": seccomp.evidence,
        "profile": seccomp.profile,
        "profile_digest": seccomp.profile_digest,
        "rule": seccomp.rule,
        "count": seccomp.count,
        "first_time_unix_nano": seccomp.first_time_unix_nano,
        "last_time_unix_nano": seccomp.last_time_unix_nano,
    })
}

fn pod_security(breach: &v1::PodSecurity) -> Value {
    json!({
        "check": breach.check,
        "level": word(breach.level().as_str_name(), "POD_SECURITY_LEVEL_"),
        "field": breach.field,
        "actual": breach.actual,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_takes_the_printed_form() {
        let violation = v1::SeccompViolation {
            action: v1::SeccompAction::KillProcess.into(),
            arguments: vec![0, 7],
            ..Default::default()
        };
        let finding = v1::Finding {
            uid: "u".to_owned(),
            priority: v1::Priority::Critical.into(),
            kind: v1::Kind::SeccompViolation.into(),
            output_fields: [("proc.name".to_owned(), v1::Value::default())].into(),
            detail: Some(v1::finding::Detail::Seccomp(violation)),
            ..Default::default()
        };
        let expected = json!({
            "kind": "seccomp_violation",
            "priority": "critical",
            "output_fields": {"proc.name": null},
            "seccomp": {"action": "kill_process", "arguments": [0, 7]},
        });
        assert_eq!(comparable(&from_message(&finding)), expected);
    }

    #[test]
    fn a_line_that_is_no_finding_is_an_error() {
        assert!(parse("{\"rule\":\"a\"}\nmonitor: ready").is_err());
        assert!(parse("{}").is_err());
        assert_eq!(parse("{\"rule\":\"a\"}\n").unwrap().len(), 1);
    }
}
