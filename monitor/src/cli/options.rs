//! Options that several commands share: which rules, which findings, how they are printed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    output::stdout::Format,
    pipeline::Selection,
    proto::v1::{Finding, Priority},
    rules::{self, Condition, Matching, RuleSet, Source, diagnostic::Diagnostic},
};

/// Files that a directory of rules may hold; others in it are left alone.
const RULE_EXTENSIONS: &[&str] = &["yaml", "yml"];

/// Which rules.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct RuleArgs {
    /// Rule file, or directory of *.yaml files; may be given more than once [default: the built-in rules]
    #[arg(short = 'r', long = "rules", value_name = "PATH")]
    pub(super) rules: Vec<PathBuf>,
    /// Report the first rule that matches an event, or all that do
    #[arg(long, value_name = "WHICH", default_value = "first")]
    rule_matching: Matching,
    /// Enable rules whose name matches (glob)
    #[arg(long, value_name = "PATTERN")]
    enable_rule: Vec<String>,
    /// Disable rules whose name matches (glob)
    #[arg(long, value_name = "PATTERN")]
    disable_rule: Vec<String>,
    /// Only rules with one of these tags
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
}

impl RuleArgs {
    /// Reads and compiles the rules; what is wrong with them is on stderr already when this fails.
    pub(super) fn load(&self) -> Result<RuleSet> {
        let loaded = self.check()?;
        for diagnostic in &loaded.diagnostics {
            anstream::eprintln!("{}", diagnostic.render());
        }
        loaded.rules.ok_or_else(|| anyhow::anyhow!("{}", summary(&loaded.diagnostics)))
    }

    /// Reads and compiles the rules.
    pub(super) fn check(&self) -> Result<rules::Loaded> {
        let options = rules::Options {
            matching: self.rule_matching,
            enable: self.enable_rule.clone(),
            disable: self.disable_rule.clone(),
            tags: self.tag.clone(),
            append_output: Vec::new(),
            supply: rules::Supply::Agent,
        };
        Ok(RuleSet::load(&self.sources()?, &options))
    }

    fn sources(&self) -> Result<Vec<Source>> {
        if self.rules.is_empty() {
            return Ok(vec![Source::builtin()]);
        }
        let mut sources = Vec::new();
        for path in &self.rules {
            for file in rule_files(path)? {
                let text = read_bounded(&file)?;
                sources.push(Source { name: file.display().to_string(), text });
            }
        }
        Ok(sources)
    }
}

/// The rule files that a path stands for, sorted by name.
fn rule_files(path: &Path) -> Result<Vec<PathBuf>> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot read rules {}", path.display()))?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files: Vec<_> = fs::read_dir(path)
        .with_context(|| format!("cannot read rules {}", path.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|file| file.extension().and_then(|e| e.to_str()).is_some_and(|e| RULE_EXTENSIONS.contains(&e)))
        .collect();
    files.sort();
    if files.is_empty() {
        bail!("no *.yaml file in the rules directory {}", path.display());
    }
    Ok(files)
}

/// A file of at most one byte more than the loader accepts, so that a huge one is refused and not read.
fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let file = fs::File::open(path).with_context(|| format!("cannot read rules {}", path.display()))?;
    let mut text = Vec::new();
    file.take(rules::MAX_FILE_BYTES as u64 + 1)
        .read_to_end(&mut text)
        .with_context(|| format!("cannot read rules {}", path.display()))?;
    Ok(text)
}

/// "2 errors and 1 warning in the rules".
pub(super) fn summary(diagnostics: &[Diagnostic]) -> String {
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
    let warnings = diagnostics.len() - errors;
    match (errors, warnings) {
        (e, 0) => format!("{} in the rules", plural(e, "error")),
        (e, w) => format!("{} and {} in the rules", plural(e, "error"), plural(w, "warning")),
    }
}

/// "1 rule", "2 rules".
pub(super) fn plural(n: usize, word: &str) -> String {
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}

/// Which findings, and how they are printed.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct FindingArgs {
    /// How findings are printed [default: compact on a terminal, else json]
    #[arg(short = 'o', long, value_name = "FORMAT")]
    output: Option<Format>,
    /// Only findings whose event satisfies this condition (rule language)
    #[arg(long = "where", value_name = "CONDITION")]
    filter: Option<String>,
    /// Only findings at least this urgent
    #[arg(long, value_name = "PRIORITY", default_value = "debug", value_parser = Priority::parse)]
    min_priority: Priority,
    /// Stop after this many findings
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub(super) count: Option<u64>,
    /// Exit with 1 if there was a finding at least this urgent
    #[arg(long, value_name = "PRIORITY", value_parser = Priority::parse)]
    fail_on: Option<Priority>,
}

impl FindingArgs {
    /// The format: as asked for, else what suits stdout.
    pub(super) fn format(&self) -> Format {
        self.output.unwrap_or_else(Format::of_stdout)
    }

    /// Whether this finding makes the exit code 1.
    pub(super) fn fails(&self, finding: &Finding) -> bool {
        self.fail_on.is_some_and(|floor| finding.priority().at_least(floor))
    }

    /// Rules and filters for the pipeline.
    pub(super) fn selection(&self, rules: RuleSet) -> Result<Selection> {
        let filter = match &self.filter {
            None => None,
            Some(text) => match Condition::compile(text, "--where") {
                Ok(condition) => Some(condition),
                Err(diagnostics) => {
                    for diagnostic in diagnostics {
                        anstream::eprintln!("{}", diagnostic.render());
                    }
                    bail!("the condition of --where does not compile");
                }
            },
        };
        Ok(Selection { rules, filter, min_priority: self.min_priority })
    }
}
