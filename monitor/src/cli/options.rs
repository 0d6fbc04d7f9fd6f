//! Options that several commands share: which rules, which findings, how they are printed.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, bail};

use super::rule_files::{Digest, RuleFiles};
use crate::{
    output::stdout::Format,
    pipeline::Selection,
    proto::v1::{Finding, Priority},
    rules::{self, AppendOutput, Condition, Matching, RuleSet, SUGGESTED_OUTPUT, diagnostic::Diagnostic},
};

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
    /// Add this to the output of every rule: text with %field, `suggested` for the container fields that Falco adds, or
    /// `none` [default: suggested with -o falco]
    #[arg(long, value_name = "TEXT")]
    append_output: Vec<String>,
    /// Whether a sensor is to send what these rules need and no more.
    #[arg(skip)]
    push_down: bool,
}

impl RuleArgs {
    /// With what the output format adds by itself: alerts in Falco's format say what Falco's say.
    pub(super) fn for_format(&self, format: Format) -> Self {
        let mut args = self.clone();
        if args.append_output.is_empty() && format == Format::Falco {
            args.append_output.push(SUGGESTED.to_owned());
        }
        args
    }

    /// For a sensor that is to send what they need and no more.
    pub(super) fn for_sensor(mut self, push_down: bool) -> Self {
        self.push_down = push_down;
        self
    }

    /// Reads and compiles the rules; what is wrong with them is on stderr already when this fails.
    pub(super) fn load(&self) -> Result<RuleSet> {
        self.load_with_digest().map(|(rules, _)| rules)
    }

    /// The same, with what identifies the files.
    pub(super) fn load_with_digest(&self) -> Result<(RuleSet, Digest)> {
        let files = RuleFiles::read(&self.rules)?;
        let loaded = self.compile(&files);
        for diagnostic in &loaded.diagnostics {
            anstream::eprintln!("{}", diagnostic.render());
        }
        let rules = loaded.rules.ok_or_else(|| anyhow::anyhow!("{}", summary(&loaded.diagnostics)))?;
        Ok((rules, files.digest))
    }

    /// Reads and compiles the rules.
    pub(super) fn check(&self) -> Result<rules::Loaded> {
        Ok(self.compile(&RuleFiles::read(&self.rules)?))
    }

    /// Compiles rules that were read.
    pub(super) fn compile(&self, files: &RuleFiles) -> rules::Loaded {
        let options = rules::Options {
            matching: self.rule_matching,
            enable: self.enable_rule.clone(),
            disable: self.disable_rule.clone(),
            tags: self.tag.clone(),
            append_output: self.append_output.iter().filter_map(|text| appended(text)).collect(),
            supply: rules::Supply::Agent,
            push_down: self.push_down,
        };
        RuleSet::load(&files.sources, &options)
    }
}

/// Words of `--append-output` that are no text.
const SUGGESTED: &str = "suggested";
const NONE: &str = "none";

fn appended(text: &str) -> Option<AppendOutput> {
    let text = match text {
        NONE => return None,
        SUGGESTED => SUGGESTED_OUTPUT,
        text => text,
    };
    Some(AppendOutput { text: text.to_owned(), ..AppendOutput::default() })
}

/// "2 errors and 1 warning in the rules".
pub(super) fn summary(diagnostics: &[Diagnostic]) -> String {
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
    problems(errors, diagnostics.len() - errors)
}

/// The same, counted.
pub(super) fn problems(errors: usize, warnings: usize) -> String {
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
    /// Tell the first call of a container that seccomp denied at once, and those of the same kind that follow within this time
    /// together; 0s for each by itself. A replay finds what the live run found if this is the same
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    seccomp_window: Duration,
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

    /// How long denials of one kind are counted together, in nanoseconds.
    pub(super) fn seccomp_window_ns(&self) -> u64 {
        u64::try_from(self.seccomp_window.as_nanos()).unwrap_or(u64::MAX)
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

/// A number with a unit: `30s`, `5m`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration: write a number and s, m or h, such as 30s");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("2h"), Ok(Duration::from_hours(2)));
        for wrong in ["", "30", "s", "1d", "99999999999999999999s"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }
}
