//! Why something is drift, in words: from a finding as it is printed, so that it needs neither the agent nor the capture.

use std::fmt::{self, Write as _};

use serde_json::Value;

/// Longest list of ancestors that is told.
const MAX_ANCESTORS: usize = 8;

/// What a finding says, sentence by sentence; `None` for a finding that is not about drift.
pub fn explain(finding: &Value) -> Option<String> {
    let told = Told(finding);
    let drift = finding.get("drift").filter(|drift| drift.is_object())?;
    let kind = drift.get("kind").and_then(Value::as_str)?;
    let mut text = String::new();
    // Text takes whatever is written.
    let _ = told.write(kind, &mut text);
    Some(text)
}

/// A finding.
struct Told<'f>(&'f Value);

impl Told<'_> {
    /// The text at a JSON pointer, empty where there is none.
    fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// The number at a JSON pointer, which printers of protobuf write as a text.
    fn number(&self, pointer: &str) -> Option<u64> {
        let value = self.0.pointer(pointer)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok()).filter(|number| *number > 0)
    }

    fn words(&self, pointer: &str) -> String {
        let list = self.0.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
    }

    fn write(&self, kind: &str, text: &mut String) -> fmt::Result {
        let path = self.text("/drift/file/path");
        writeln!(text, "What      {path}: {}", what(kind))?;
        for line in evidence(kind, self.text("/drift/file/layer")) {
            writeln!(text, "Evidence  {line}")?;
        }
        self.write_file(text)?;
        self.write_writer(text)?;
        writeln!(text, "Run by    {} (pid {})", self.process("/process"), self.number("/process/pid").unwrap_or(0))?;
        let ancestors = self.ancestors("/process/ancestors");
        if !ancestors.is_empty() {
            writeln!(text, "          below {ancestors}")?;
        }
        self.write_place(text)?;
        self.write_decision(kind, text)
    }

    fn process(&self, pointer: &str) -> String {
        let words = self.words(&format!("{pointer}/arguments"));
        let executable = self.text(&format!("{pointer}/executable"));
        match (words.is_empty(), executable.is_empty()) {
            (false, false) => format!("{words:?}, which is {executable}"),
            (false, true) => format!("{words:?}"),
            (true, _) => self.text(&format!("{pointer}/name")).to_owned(),
        }
    }

    fn ancestors(&self, pointer: &str) -> String {
        let list = self.0.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let names = list.iter().filter_map(|ancestor| ancestor.get("name")?.as_str()).take(MAX_ANCESTORS);
        names.collect::<Vec<_>>().join(" < ")
    }

    fn write_file(&self, text: &mut String) -> fmt::Result {
        if let Some(bytes) = self.number("/drift/file/size_bytes") {
            write!(text, "File      {bytes} bytes, inode {}", self.number("/drift/file/inode").unwrap_or(0))?;
            for (what, pointer) in [
                ("content changed", "/drift/file/modified_time_unix_nano"),
                ("inode changed", "/drift/file/changed_time_unix_nano"),
            ] {
                if let Some(time) = self.time(pointer) {
                    write!(text, ", {what} {time}")?;
                }
            }
            writeln!(text)?;
        }
        match (self.text("/drift/file/sha256"), self.text("/drift/file/sha256_missing")) {
            ("", "") => Ok(()),
            ("", why) => writeln!(text, "          its digest is not known: {why}"),
            (digest, _) => writeln!(text, "          sha256 {digest}"),
        }
    }

    fn time(&self, pointer: &str) -> Option<String> {
        let time = jiff::Timestamp::from_nanosecond(self.number(pointer)?.into()).ok()?;
        Some(time.to_string())
    }

    fn write_writer(&self, text: &mut String) -> fmt::Result {
        if self.0.pointer("/drift/writer/process").is_none() {
            return writeln!(
                text,
                "Written   by whom was not seen: before the agent started, without opening it (io_uring), or on a file system \
                 where opens for writing are not sent"
            );
        }
        write!(text, "Written   by {}", self.process("/drift/writer/process"))?;
        write!(text, " (pid {})", self.number("/drift/writer/process/pid").unwrap_or(0))?;
        if let Some(time) = self.time("/drift/writer/time_unix_nano") {
            write!(text, " at {time}")?;
        }
        let path = self.text("/drift/writer/path");
        if path != self.text("/drift/file/path") {
            write!(text, ", under the name {path}")?;
        }
        writeln!(text)?;
        let ancestors = self.ancestors("/drift/writer/process/ancestors");
        if !ancestors.is_empty() {
            writeln!(text, "          below {ancestors}")?;
        }
        let connections = self.words("/drift/writer/connections");
        if connections.is_empty() {
            return Ok(());
        }
        writeln!(text, "          while it was connected: {connections}")
    }

    fn write_place(&self, text: &mut String) -> fmt::Result {
        let mut place = Vec::new();
        for (what, pointer) in [
            ("container", "/container/id"),
            ("name", "/container/name"),
            ("image", "/container/image"),
            ("digest", "/container/image_digest"),
            ("namespace", "/container/namespace"),
            ("pod", "/container/pod_name"),
        ] {
            let value = self.text(pointer);
            if !value.is_empty() {
                place.push(format!("{what} {value}"));
            }
        }
        writeln!(text, "Where     {}", if place.is_empty() { "on the host".to_owned() } else { place.join(", ") })
    }

    fn write_decision(&self, kind: &str, text: &mut String) -> fmt::Result {
        let (mode, rule) = (self.text("/drift/mode"), self.text("/drift/policy_rule"));
        match (mode, rule) {
            ("", _) => Ok(()),
            (mode, "") => writeln!(
                text,
                "Policy    {mode}: no rule of the drift policy is about it, so it is what suits {kind}, or the policy's own mode"
            ),
            (mode, rule) => writeln!(text, "Policy    {mode}: by the rule {rule:?} of the drift policy"),
        }?;
        writeln!(text, "Rule      {:?}, priority {}", self.text("/rule"), self.text("/priority"))
    }
}

/// What a kind means.
fn what(kind: &str) -> &'static str {
    match kind {
        "new_executable" => "a program that the container's image does not hold",
        "modified_executable" => "a program of the image whose content was changed in the container",
        "fileless" => "a program without a file that could be looked at",
        "new_library" => "code that was loaded into a program and that the image does not hold",
        "modified_library" => "code of the image that was loaded into a program and changed before",
        "from_volume" => "a program from another file system than the image's",
        "script" => "a script that the image does not hold as it is, opened by the interpreter that runs it",
        "interpreter_stdin" => "an interpreter that runs what comes through its standard input",
        "metadata_only" => "a file of the image whose mode, owner or times were changed and whose content was not",
        _ => "drift of a kind that this version does not know",
    }
}

/// What the kernel said, by kind and layer.
fn evidence(kind: &str, layer: &str) -> &'static [&'static str] {
    match (kind, layer) {
        ("new_executable" | "new_library", "upper") => &[
            "the overlay's upper layer, which is the container's own, holds it, and no lower layer has a file under it",
        ],
        ("new_executable" | "new_library", _) => &[
            "it is on an overlay that is not the container's root: somebody mounted one, with layers of his own choice",
        ],
        ("modified_executable" | "modified_library", _) => &[
            "the overlay's upper layer holds it, content included, and a lower layer has the image's file under it",
            "the content was not found to be the lower file's",
        ],
        ("fileless", _) => &["no directory entry leads to it: it is a memory file, was deleted, or never had a name"],
        ("from_volume", _) => &["it is not on the overlay that the container's image is on"],
        ("script", "upper") => &[
            "the overlay's upper layer, which is the container's own, holds it",
            "the interpreter was told to run this file (by its arguments, or by the file's first line), and opened it",
        ],
        ("script", _) => &[
            "no directory entry leads to it, or it is on an overlay that is not the container's root",
            "the interpreter was told to run this file, and opened it",
        ],
        ("interpreter_stdin", _) => {
            &["its arguments name no script, and its standard input was a pipe, a socket or a file when it began"]
        }
        ("metadata_only", _) => {
            &["the overlay copied it up, and its content was compared with the lower file's: both are equal"]
        }
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_finding_is_told_in_words() {
        let finding = json!({
            "rule": "Drift in container", "priority": "critical",
            "drift": {
                "kind": "new_executable", "mode": "alert", "policy_rule": "web",
                "file": {"path": "/tmp/x", "layer": "upper", "size_bytes": 9, "inode": 7, "sha256": "ab",
                         "changed_time_unix_nano": 1_795_408_269_000_000_000_u64},
                "writer": {"process": {"arguments": ["curl", "-o", "x"], "executable": "/bin/curl", "pid": 4,
                                       "ancestors": [{"name": "sh"}, {"name": "nginx"}]},
                           "path": "/tmp/.x", "connections": ["10.0.0.1:5->10.0.0.2:80"]},
            },
            "process": {"arguments": ["./x"], "executable": "/tmp/x", "pid": 5},
            "container": {"id": "3ad7b26ded6d", "image": "web:1"},
        });
        let text = explain(&finding).unwrap();
        for part in [
            "/tmp/x: a program that the container's image does not hold",
            "no lower layer has a file under it",
            "inode changed 2026-11-23T04:31:09Z",
            "sha256 ab",
            "by \"curl -o x\", which is /bin/curl (pid 4), under the name /tmp/.x",
            "below sh < nginx",
            "while it was connected: 10.0.0.1:5->10.0.0.2:80",
            "container 3ad7b26ded6d, image web:1",
            "alert: by the rule \"web\"",
            "\"Drift in container\", priority critical",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn what_is_no_drift_has_no_words_and_odd_findings_do_no_harm() {
        assert_eq!(explain(&json!({"rule": "x"})), None);
        assert_eq!(explain(&json!({"drift": []})), None);
        assert!(
            explain(&json!({"drift": {"kind": "?", "file": 7, "writer": {"process": []}}, "process": 1})).is_some()
        );
    }
}
