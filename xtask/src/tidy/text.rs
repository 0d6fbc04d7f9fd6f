//! Checks on lines and names: file headers, forbidden words, unfinished work, module names that say nothing.

use super::{File, Finding};

/// Names that say that a module holds something, and not what.
const VAGUE_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "manager"];
/// Marks of unfinished work. Split, so that this file does not contain them.
const UNFINISHED: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME")];
/// Paths of a machine that is not the reader's.
const LOCAL_PATHS: &[&str] = &[concat!("/wo", "rk/")];
/// Files whose text is code or its configuration; prose may speak of unfinished work.
const CODE: &[&str] = &["rs", "toml", "yaml", "yml", "proto", "sh"];

pub(super) fn check(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    if file.is("rs") {
        findings.extend(header(file));
        findings.extend(name(file));
    }
    let is_code = CODE.iter().any(|extension| file.is(extension));
    for (line, text) in (1..).zip(file.text.lines()) {
        if is_code && let Some(mark) = UNFINISHED.iter().find(|mark| contains_word(text, mark)) {
            findings.push(
                file.finding(line, format!("{mark}: finish it, or open an issue that says what would settle it")),
            );
        }
        if let Some(path) = LOCAL_PATHS.iter().find(|path| contains_path(text, path)) {
            findings.push(
                file.finding(line, format!("{path} is a path of one machine: name it from the repository's root")),
            );
        }
    }
    findings
}

fn header(file: &File) -> Option<Finding> {
    let text = "does not begin with `//!`: say in one sentence what this file is for";
    (!file.text.starts_with("//!")).then(|| file.finding(1, text))
}

fn name(file: &File) -> Option<Finding> {
    let module = file.path.trim_end_matches(".rs");
    let vague = module.split('/').find(|part| VAGUE_NAMES.contains(part))?;
    Some(file.finding(1, format!("a module named `{vague}`: name it after what it holds")))
}

/// Whether the word stands alone: neither of its neighbours is part of a word.
fn contains_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (text.get(..at).unwrap_or_default(), text.get(at + word.len()..).unwrap_or_default());
        !before.ends_with(is_part) && !after.starts_with(is_part)
    })
}

/// Whether the absolute path is there, and not as the tail of another one.
fn contains_path(text: &str, path: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || "_-.~}*".contains(c);
    text.match_indices(path).any(|(at, _)| !text.get(..at).unwrap_or_default().ends_with(is_part))
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&sample(path, text)).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_file_without_header_is_found() {
        assert_eq!(lines("a.rs", "use std::fmt;\n"), [1]);
        assert_eq!(lines("a.rs", "//! A.\n"), [0; 0]);
    }

    #[test]
    fn a_vague_name_is_found_wherever_it_stands_in_the_path() {
        for path in ["monitor/src/util.rs", "monitor/src/helpers/mod.rs", "common/src/lib.rs"] {
            assert_eq!(lines(path, "//! A.\n"), [1], "{path}");
        }
        assert_eq!(lines("monitor/src/utilisation.rs", "//! A.\n"), [0; 0]);
    }

    #[test]
    fn unfinished_work_is_found_in_code() {
        let mark = UNFINISHED[0];
        assert_eq!(lines("a.rs", &format!("//! A.\n// {mark}: b\n// {mark}S\n")), [2]);
        assert_eq!(lines("a.md", &format!("No {mark} without reason.\n")), [0; 0]);
    }

    #[test]
    fn a_path_of_one_machine_is_found() {
        let path = LOCAL_PATHS[0];
        assert_eq!(lines("a.md", &format!("see {path}x\n`{path}y`\nworkdir=$1{path}\n$upper/..{path}z\n")), [1, 2]);
    }
}
