//! `monitor rules`: check rules and look into them. Needs no privileges.

mod test;

use std::{io::Write as _, path::PathBuf};

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::Serialize;

use super::{
    Exit,
    options::{self, RuleArgs},
};
use crate::rules::{
    self, Gaps, RuleSet,
    diagnostic::{Diagnostic, nearest},
};

/// Options of `monitor rules`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Tell every problem of rule files, with its place; exit code 2 if there is an error
    Check(CheckArgs),
    /// List the rules that would be used
    List(ListArgs),
    /// List the fields that conditions and outputs can name
    Fields(FieldsArgs),
    /// Show what a rule comes to: its condition with everything put in, its events, its fields
    Explain(ExplainArgs),
    /// Compare the findings of rules on captures with expected counts; exit code 1 if they differ
    Test(test::Args),
}

#[derive(Clone, Debug, clap::Args)]
struct CheckArgs {
    /// Rule files, or directories of *.yaml files [default: the built-in rules]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    rules: RuleArgs,
    /// How problems are printed
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

#[derive(Clone, Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    rules: RuleArgs,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, clap::Args)]
struct FieldsArgs {
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, clap::Args)]
struct ExplainArgs {
    /// Name of the rule
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    rules: RuleArgs,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people, with the offending line
    Text,
    /// One JSON object on stdout
    Json,
}

/// Runs the subcommand.
pub(super) fn run(args: &Args) -> Result<Exit> {
    match &args.command {
        Command::Check(args) => check(args),
        Command::List(args) => {
            let loaded = args.rules.load()?;
            print(&if args.json { rules::list_json(&loaded)? } else { rules::list_text(&loaded) })
        }
        Command::Fields(args) => print(&if args.json { rules::fields_json()? } else { rules::fields_text() }),
        Command::Explain(args) => explain(args),
        Command::Test(args) => test::run(args),
    }
}

fn print(text: &str) -> Result<Exit> {
    anstream::stdout().write_all(text.as_bytes())?;
    Ok(Exit::Done)
}

fn explain(args: &ExplainArgs) -> Result<Exit> {
    let loaded = args.rules.load()?;
    let same = |rule: &&rules::Rule| rule.name.eq_ignore_ascii_case(&args.name);
    let Some(rule) = loaded.rules().find(|rule| rule.name == args.name).or_else(|| loaded.rules().find(same)) else {
        bail!(not_found(&args.name, &loaded));
    };
    let explanation = rules::explain(rule);
    print(&if args.json { serde_json::to_string_pretty(&explanation.json())? + "\n" } else { explanation.text() })
}

fn not_found(name: &str, rules: &RuleSet) -> String {
    let help = nearest(name, rules.rules().map(|rule| &*rule.name));
    let hint = help.unwrap_or_else(|| "`monitor rules list` shows those in use".to_owned());
    format!("there is no rule `{name}` in use: {hint}")
}

fn check(args: &CheckArgs) -> Result<Exit> {
    let mut rules = args.rules.clone();
    rules.rules.extend(args.paths.iter().cloned());
    let loaded = rules.check()?;
    let exit = if loaded.rules.is_some() { Exit::Done } else { Exit::Usage };
    match args.output {
        Format::Json => {
            let problems = loaded.diagnostics.iter().map(Problem::of).collect();
            let report = Report { valid: loaded.rules.is_some(), problems };
            print(&(serde_json::to_string_pretty(&report)? + "\n"))?;
        }
        Format::Text => {
            for diagnostic in &loaded.diagnostics {
                anstream::eprintln!("{}", diagnostic.render());
            }
            match &loaded.rules {
                Some(rules) => {
                    for line in Gaps::of(rules).lines() {
                        eprintln!("note: {line}");
                    }
                    eprintln!("valid: {}", options::plural(rules.rules().count(), "rule"));
                }
                None => eprintln!("monitor: {}", options::summary(&loaded.diagnostics)),
            }
        }
    }
    Ok(exit)
}

/// `-o json` of `rules check`.
#[derive(Serialize)]
struct Report<'a> {
    valid: bool,
    problems: Vec<Problem<'a>>,
}

#[derive(Serialize)]
struct Problem<'a> {
    severity: &'static str,
    code: &'static str,
    message: &'a str,
    file: &'a str,
    line: usize,
    column: usize,
    help: Option<&'a str>,
}

impl<'a> Problem<'a> {
    fn of(diagnostic: &'a Diagnostic) -> Self {
        let (line, column) = diagnostic.position();
        Self {
            severity: if diagnostic.is_error() { "error" } else { "warning" },
            code: diagnostic.code.name(),
            message: &diagnostic.message,
            file: &diagnostic.text.name,
            line,
            column,
            help: diagnostic.help.as_deref(),
        }
    }
}
