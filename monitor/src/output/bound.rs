//! Lines that are not longer than log pipelines take: what is too long is cut where it is least missed, and says so.
//!
//! Container runtimes, Fluent Bit and Azure's `ContainerLogV2` cut or drop lines of 64 KiB, and half a JSON object is none. So
//! the longest texts go first; a mark stands where something was cut.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use prost::Message as _;

use crate::proto::v1::{Finding, Process, Value, finding::Detail, value};

/// Longest line, with its line feed.
pub const MAX_LINE_BYTES: usize = 64 << 10;
/// An encoded finding up to this length is never too long as JSON: each byte is at most six (`\u0000`), and the names of
/// keys and numbers add less than as much again.
const NEVER_TOO_LONG: usize = 4 << 10;
/// How long texts may be and how many items lists may have, until it fits.
const STEPS: &[(usize, usize)] = &[(8192, 256), (2048, 128), (512, 64), (128, 32), (32, 8), (0, 0)];

/// Writes a line by `write`, of as much of the finding as fits.
pub fn line<W: Write>(
    finding: &Finding,
    out: &mut W,
    write: impl Fn(&Finding, &mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    if finding.encoded_len() <= NEVER_TOO_LONG {
        return write(finding, out);
    }
    let mut buffer = Vec::new();
    write(finding, &mut buffer)?;
    for (text, items) in STEPS {
        if buffer.len() <= MAX_LINE_BYTES {
            break;
        }
        let mut shorter = finding.clone();
        shorten(&mut shorter, *text, *items);
        buffer.clear();
        write(&shorter, &mut buffer)?;
    }
    out.write_all(&buffer)
}

fn shorten(finding: &mut Finding, text: usize, items: usize) {
    // A finding's own words are of its rule; those of the processes are the long ones.
    for own in [&mut finding.rule, &mut finding.message, &mut finding.hostname] {
        cut(own, text.max(256));
    }
    list(&mut finding.tags, text, items);
    for value in finding.output_fields.values_mut() {
        shorten_value(value, text, items);
    }
    while finding.output_fields.len() > items.max(16) {
        finding.output_fields.pop_last();
    }
    if let Some(own) = &mut finding.process {
        process(own, text, items);
    }
    match &mut finding.detail {
        Some(Detail::Drift(drift)) => {
            drift.file.iter_mut().for_each(|file| cut(&mut file.path, text.max(64)));
            if let Some(writer) = &mut drift.writer {
                cut(&mut writer.path, text.max(64));
                writer.process.iter_mut().for_each(|writer| process(writer, text, items));
            }
        }
        Some(Detail::PodSecurity(breach)) => cut(&mut breach.actual, text.max(64)),
        Some(Detail::Seccomp(_)) | None => {}
    }
    if let Some(container) = &mut finding.container {
        for own in [&mut container.name, &mut container.image, &mut container.pod_name, &mut container.namespace] {
            cut(own, text.max(64));
        }
        if let Some(pod) = &mut container.pod {
            pod.labels.values_mut().for_each(|label| cut(label, text.max(64)));
            while pod.labels.len() > items.max(16) {
                pod.labels.pop_last();
            }
        }
    }
}

fn process(process: &mut Process, text: usize, items: usize) {
    list(&mut process.arguments, text, items);
    cut(&mut process.executable, text.max(64));
    cut(&mut process.working_directory, text.max(64));
    process.ancestors.truncate(items.max(4));
    for ancestor in &mut process.ancestors {
        list(&mut ancestor.arguments, text, items);
        cut(&mut ancestor.executable, text.max(64));
    }
}

fn shorten_value(value: &mut Value, text: usize, items: usize) {
    match &mut value.value {
        Some(value::Value::Text(own)) => cut(own, text),
        Some(value::Value::List(own)) => list(&mut own.items, text, items),
        _ => {}
    }
}

fn list(list: &mut Vec<String>, text: usize, items: usize) {
    for item in list.iter_mut() {
        cut(item, text);
    }
    if list.len() > items {
        let more = list.len() - items;
        list.truncate(items);
        list.push(format!("…[{more} more]"));
    }
}

fn cut(text: &mut String, most: usize) {
    // The mark itself takes some bytes.
    const MARK: usize = 32;
    if text.len() <= most.saturating_add(MARK) {
        return;
    }
    let mut end = most;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let gone = text.len() - end;
    text.truncate(end);
    // Writing to a string does not fail.
    let _ = write!(text, "…[{gone} bytes cut]");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{
        sample,
        stdout::{Colour, Format},
    };

    fn printed(format: Format, finding: &Finding) -> String {
        let mut out = Vec::new();
        format.write(finding, Colour::Off, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_fit_whatever_a_process_was_called_with_and_say_what_was_cut() {
        let mut finding = sample::drift(1);
        let hostile = "\u{1}".repeat(100_000);
        if let Some(process) = &mut finding.process {
            process.arguments = vec!["x".repeat(128 << 10), hostile.clone()];
            process.arguments.extend(std::iter::repeat_n("y".to_owned(), 20_000));
            process.ancestors = vec![process.ancestors[0].clone(); 64];
            process.ancestors.iter_mut().for_each(|ancestor| ancestor.arguments = vec![hostile.clone(); 8]);
        }
        finding.message = hostile.clone();
        finding.output_fields.insert("proc.cmdline".to_owned(), Value::from(hostile.as_str()));
        for format in [Format::Json, Format::Falco, Format::Ocsf] {
            let line = printed(format, &finding);
            assert!(line.len() <= MAX_LINE_BYTES, "{format}: {}", line.len());
            assert!(line.ends_with("}\n") && line.contains("bytes cut]"), "{format}");
            serde_json::from_str::<serde_json::Value>(&line).unwrap();
            assert!(
                line.contains("Drift Execution") && line.contains("0198c0de") || format == Format::Falco,
                "{format}"
            );
        }
    }

    #[test]
    fn a_line_that_fits_is_left_as_it_is() {
        let mut finding = sample::drift(1);
        finding.message = "x".repeat(50 << 10);
        assert!(printed(Format::Json, &finding).contains(&finding.message));
    }
}
