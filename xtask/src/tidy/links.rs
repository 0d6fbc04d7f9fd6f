//! Links of Markdown files to files of this repository lead somewhere.

use super::{File, Finding};

/// Checks the links of a Markdown file; `exists` answers for a path from the root.
pub(super) fn check(file: &File, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let directory = file.path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let mut findings = Vec::new();
    let mut in_code = false;
    for (line, text) in (1..).zip(file.text.lines()) {
        if text.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for target in targets(&without_code(text)) {
            let Some(path) = local_path(directory, &target) else { continue };
            if !exists(&path) {
                findings.push(file.finding(line, format!("the link to {target} leads nowhere: correct the path")));
            }
        }
    }
    findings
}

/// The line without its `code`.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// What `[text](target)` and `[name]: target` lead to.
fn targets(line: &str) -> Vec<String> {
    let inline = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    let defined = line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("]: "));
    let defined = defined.and_then(|(_, rest)| rest.split_whitespace().next());
    inline.chain(defined).map(str::to_owned).collect()
}

/// The path from the root that a link stands for, `None` where it leads out of the repository or to its own page.
fn local_path(directory: &str, target: &str) -> Option<String> {
    let path = target.split('#').next().unwrap_or_default();
    if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
        return None;
    }
    let mut parts: Vec<&str> = if path.starts_with('/') { Vec::new() } else { directory.split('/').collect() };
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    Some(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};

    fn lines(text: &str) -> Vec<usize> {
        let there = ["README.md", "docs/a.md", "docs", "monitor/src/lib.rs"];
        let file = sample("docs/index.md", text);
        check(&file, |path| there.contains(&path)).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let bad = "[a](a.md) and [b](b.md)\n[c]: ../c.md\n![d](/docs/d.png \"title\")\n";
        assert_eq!(lines(bad), [1, 2, 3]);
    }

    #[test]
    fn links_that_lead_somewhere_and_code_are_left_alone() {
        let good = "[a](a.md#part) [r](../README.md) [l](/monitor/src/lib.rs) [d](.)\n[own](#part) [w](https://a.b/c)\n\
                    `[x](nowhere)`\n```text\n[y](nowhere)\n```\n[z]: mailto:a@b\n";
        assert_eq!(lines(good), [0; 0]);
    }
}
