//! Findings as OCSF 1.4 Detection Findings (class 2004), for data lakes that speak it.
//!
//! <https://schema.ocsf.io/1.4.0/classes/detection_finding>. What OCSF has no place for stands under `unmapped`.

use serde_json::{Map, Value as Json, json};

use crate::{
    finding::word_of,
    proto::v1::{Ancestor, Finding, Priority, Process, finding::Detail},
};

const VERSION: &str = "1.4.0";
const CLASS: u32 = 2004;

/// The finding as an object.
pub fn of(finding: &Finding) -> Json {
    let milliseconds = |nanoseconds: u64| nanoseconds / 1_000_000;
    let (severity_id, severity) = severity(finding.priority());
    let kind = word_of(finding.kind().as_str_name(), "KIND_");
    let mut event = json!({
        "activity_id": 1,
        "activity_name": "Create",
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": CLASS,
        "class_name": "Detection Finding",
        "type_uid": CLASS * 100 + 1,
        "type_name": "Detection Finding: Create",
        "time": milliseconds(finding.time_unix_nano),
        "severity_id": severity_id,
        "severity": severity,
        "status_id": 1,
        "status": "New",
        "is_alert": true,
        "message": finding.message,
        "metadata": {
            "version": VERSION,
            "uid": finding.uid,
            "sequence": finding.sequence,
            "logged_time": milliseconds(finding.observed_time_unix_nano),
            "labels": finding.tags,
            "product": {"name": "monitor", "vendor_name": "monitor", "version": env!("CARGO_PKG_VERSION")},
        },
        "finding_info": {
            "uid": finding.uid,
            "title": finding.rule,
            "desc": finding.message,
            "types": [kind],
            "created_time": milliseconds(finding.observed_time_unix_nano),
            "analytic": {"name": finding.rule, "type": "Rule", "type_id": 1},
            "attacks": attacks(&finding.tags),
        },
        "device": {"hostname": finding.hostname, "type": "Server", "type_id": 1},
        "evidences": [evidence(finding)],
        "unmapped": {
            "priority": finding.priority().word(),
            "event_type": finding.event_type,
            "event_number": finding.event_number,
            "output_fields": finding.output_fields,
        },
    });
    if let (Some(Detail::Seccomp(seccomp)), Some(unmapped)) = (&finding.detail, object(&mut event, "unmapped")) {
        unmapped.insert("seccomp".to_owned(), json!(seccomp));
    }
    if let (Some(Detail::Drift(drift)), Some(unmapped)) = (&finding.detail, object(&mut event, "unmapped")) {
        unmapped.insert("drift".to_owned(), json!({"kind": word_of(drift.kind().as_str_name(), "DRIFT_KIND_")}));
    }
    event
}

fn object<'a>(event: &'a mut Json, key: &str) -> Option<&'a mut Map<String, Json>> {
    event.get_mut(key)?.as_object_mut()
}

fn severity(priority: Priority) -> (u32, &'static str) {
    match priority {
        Priority::Emergency => (6, "Fatal"),
        Priority::Alert | Priority::Critical => (5, "Critical"),
        Priority::Error => (4, "High"),
        Priority::Warning => (3, "Medium"),
        Priority::Notice => (2, "Low"),
        Priority::Informational | Priority::Debug => (1, "Informational"),
        Priority::Unspecified => (0, "Unknown"),
    }
}

/// MITRE ATT&CK, as Falco's tags name it: `mitre_TACTIC`, `T1059`, `T1059.004`.
fn attacks(tags: &[String]) -> Vec<Json> {
    let is_technique = |tag: &str| {
        let digits = tag.strip_prefix('T').unwrap_or_default();
        digits.len() >= 4 && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    };
    let tactics = tags.iter().filter_map(|tag| tag.strip_prefix("mitre_"));
    let tactics = tactics.map(|name| json!({"tactic": {"name": name.replace('_', " ")}}));
    let techniques = tags.iter().filter(|tag| is_technique(tag)).map(|uid| json!({"technique": {"uid": uid}}));
    tactics.chain(techniques).collect()
}

fn evidence(finding: &Finding) -> Json {
    let mut evidence = Map::new();
    if let Some(process) = &finding.process {
        let mut shown = self::process(process);
        if let (Some(container), Some(process)) = (&finding.container, shown.as_object_mut()) {
            process.insert(
                "container".to_owned(),
                json!({
                    "uid": container.id, "runtime": container.runtime, "pod_uuid": container.pod_uid,
                    "name": container.name, "image": {"name": container.image},
                }),
            );
        }
        evidence.insert("process".to_owned(), shown);
    }
    if let Some(Detail::Drift(drift)) = &finding.detail {
        if let Some(file) = &drift.file {
            let file = json!({
                "name": name(&file.path), "path": file.path, "type_id": 1, "size": file.size_bytes,
                "modified_time": file.modified_time_unix_nano / 1_000_000,
            });
            evidence.insert("file".to_owned(), file);
        }
        if let Some(writer) = drift.writer.as_ref().and_then(|writer| writer.process.as_ref()) {
            evidence.insert("actor".to_owned(), json!({"process": process(writer)}));
        }
    }
    Json::Object(evidence)
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn process(process: &Process) -> Json {
    let mut shown = json!({
        "pid": process.pid,
        "tid": process.tid,
        "name": process.name,
        "cmd_line": process.arguments.join(" "),
        "working_directory": process.working_directory,
        "file": {"path": process.executable, "name": name(&process.executable), "type_id": 1},
        "user": {"uid": process.uid.to_string()},
    });
    if let Some(shown) = shown.as_object_mut() {
        if process.start_time_unix_nano > 0 {
            shown.insert("created_time".to_owned(), json!(process.start_time_unix_nano / 1_000_000));
        }
        let parent = process.ancestors.iter().rev().fold(None, |above, ancestor| Some(ancestor_of(ancestor, above)));
        shown.extend(parent.map(|parent| ("parent_process".to_owned(), parent)));
    }
    shown
}

fn ancestor_of(ancestor: &Ancestor, above: Option<Json>) -> Json {
    let mut shown = json!({
        "pid": ancestor.pid,
        "name": ancestor.name,
        "cmd_line": ancestor.arguments.join(" "),
        "file": {"path": ancestor.executable, "name": name(&ancestor.executable), "type_id": 1},
    });
    if let (Some(above), Some(shown)) = (above, shown.as_object_mut()) {
        shown.insert("parent_process".to_owned(), above);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::sample;

    #[test]
    fn a_finding_is_a_detection_finding_with_what_the_class_requires() {
        let event = of(&sample::drift(7));
        for (pointer, expected) in [
            ("/class_uid", json!(2004)),
            ("/type_uid", json!(200_401)),
            ("/severity_id", json!(3)),
            ("/time", json!(1_795_437_296_789_u64)),
            ("/metadata/version", json!("1.4.0")),
            ("/finding_info/title", json!("Drift Execution")),
            ("/finding_info/attacks/0/tactic/name", json!("execution")),
            ("/evidences/0/process/pid", json!(4242)),
            ("/evidences/0/process/parent_process/name", json!("sh")),
            ("/evidences/0/process/container/pod_uuid", json!("7b0f2c9e-1111-2222-3333-444455556666")),
            ("/evidences/0/file/name", json!("x")),
            ("/evidences/0/actor/process/name", json!("cp")),
            ("/unmapped/output_fields/fd.num", json!(-1)),
            ("/unmapped/drift/kind", json!("new_executable")),
        ] {
            assert_eq!(event.pointer(pointer), Some(&expected), "{pointer}");
        }
        let seccomp = of(&sample::seccomp(1));
        assert_eq!(seccomp.pointer("/unmapped/seccomp/syscall"), Some(&json!("mount")));
    }

    #[test]
    fn techniques_are_told_from_other_tags() {
        let tags = ["T1059.004", "TLS", "mitre_defense_evasion", "container"].map(str::to_owned);
        let expected = [json!({"tactic": {"name": "defense evasion"}}), json!({"technique": {"uid": "T1059.004"}})];
        assert_eq!(attacks(&tags), expected);
    }
}
