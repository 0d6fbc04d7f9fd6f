//! `cargo xtask tidy`: the conventions that a tool can hold.
//!
//! A check is a function from a file to findings, with bad samples among its tests. Which files there are is asked of git,
//! so that build output is left alone and a new file is checked before it is committed.

mod layers;
mod length;
mod links;
mod source;
mod text;
mod tokens;

use std::{fmt, fs, path::Path};

use anyhow::{Context as _, Result, bail};

use self::source::Source;
use crate::{cmd::Cmd, repository};

/// Something to mend, as `file:line: what is wrong: what to do`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    file: String,
    line: usize,
    text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.text)
    }
}

/// A file of the repository.
struct File {
    /// Its path from the root.
    path: String,
    text: String,
}

impl File {
    /// Whether its name ends with this extension.
    fn is(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }

    fn finding(&self, line: usize, text: impl Into<String>) -> Finding {
        Finding { file: self.path.clone(), line, text: text.into() }
    }
}

/// Checks every file and prints what there is to mend.
pub(crate) fn run() -> Result<()> {
    let files = files()?;
    let mut findings: Vec<_> = files.iter().flat_map(check).collect();
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => {
            eprintln!("tidy: {} files, nothing to mend", files.len());
            Ok(())
        }
        1 => bail!("1 thing to mend; the finding says how"),
        n => bail!("{n} things to mend; each finding says how"),
    }
}

fn check(file: &File) -> Vec<Finding> {
    let mut findings = text::check(file);
    if file.is("md") {
        findings.extend(links::check(file, |target| repository::root().join(target).exists()));
    }
    if file.is("rs") {
        match Source::parse(file) {
            Ok(source) => {
                findings.extend(length::check(&source));
                findings.extend(tokens::check(&source));
                findings.extend(layers::check(&source));
            }
            Err(error) => {
                let line = error.span().start().line;
                findings.push(file.finding(line, format!("does not parse ({error}): mend the syntax")));
            }
        }
    }
    findings
}

/// The text files that git knows or would add.
fn files() -> Result<Vec<File>> {
    let list = Cmd::new("git")
        // A checkout may belong to another user, as it does in many CI containers.
        .args(["-c", "safe.directory=*", "-c", "core.quotePath=off"])
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .mend("tidy asks git which files there are: run it in a clone")
        .output()?;
    let mut files = Vec::new();
    for path in list.lines() {
        let full = repository::root().join(path);
        // Files that were deleted and not yet committed, and links to directories.
        if !full.is_file() {
            continue;
        }
        let bytes = fs::read(&full).with_context(|| format!("cannot read {path}"))?;
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(File { path: path.to_owned(), text });
        }
    }
    Ok(files)
}

/// A file that a test makes up.
#[cfg(test)]
fn sample(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}
