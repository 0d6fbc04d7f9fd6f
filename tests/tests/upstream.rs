//! Falco's own rule files, unchanged, and the conditions that a real Falco refused. They are not part of this repository: they
//! are looked for in `MONITOR_FALCO_RULES` and `MONITOR_FALCO_CAPTURES`, else in `../shared` beside it.
use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use monitor::rules::{Condition, Options, RuleSet, Source, Supply};

/// The files, and how many of their rules are enabled.
const FILES: [(&str, usize); 3] =
    [("falco_rules.yaml", 25), ("falco-incubating_rules.yaml", 31), ("falco-sandbox_rules.yaml", 25)];

/// What is odd about the files, alone or together. Nothing is: every list and macro is used, every rule names its event
/// types (some through macros), and no deprecated field is left in them.
const WARNINGS: [&str; 0] = [];

/// A directory that the environment names, or that lies beside the repository. Says so where it is not there: this is data
/// that a stranger need not have.
fn directory(variable: &str, beside: &str) -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(beside);
    let path = env::var_os(variable).map_or(default, PathBuf::from);
    if !path.is_dir() {
        eprintln!("SKIPPED (needs Falco's files): {} is no directory; name it in {variable}", path.display());
        return None;
    }
    Some(path)
}

fn load(sources: &[Source]) -> (usize, Vec<String>) {
    let loaded = RuleSet::load(sources, &Options::default());
    let said = loaded.diagnostics.iter().map(ToString::to_string).collect();
    (loaded.rules.map_or(0, |rules| rules.rules().count()), said)
}

#[test]
fn upstream_rules_load_unchanged_alone_and_together() -> Result<()> {
    let Some(directory) = directory("MONITOR_FALCO_RULES", "rules/falco") else { return Ok(()) };
    let mut sources = Vec::new();
    let mut rules = 0;
    for (name, expected) in FILES {
        let text = fs::read(directory.join(name)).with_context(|| name.to_owned())?;
        let source = Source { name: name.to_owned(), text };
        let (count, said) = load(std::slice::from_ref(&source));
        ensure!((count, &said[..]) == (expected, &WARNINGS.map(str::to_owned)[..]), "{name}: {count} rules, {said:#?}");
        rules += count;
        sources.push(source);
    }
    let (count, said) = load(&sources);
    ensure!((count, &said[..]) == (rules, &WARNINGS.map(str::to_owned)[..]), "together: {count} rules, {said:#?}");
    Ok(())
}

#[test]
fn what_falco_refuses_is_refused() -> Result<()> {
    let Some(directory) = directory("MONITOR_FALCO_CAPTURES", "captures") else { return Ok(()) };
    let text = fs::read_to_string(directory.join("language/load-errors.json"))?;
    let refused: Vec<serde_json::Value> = serde_json::from_str(&text)?;
    ensure!(!refused.is_empty());
    for case in refused {
        let condition = case["condition"].as_str().context("a case without a condition")?;
        let outcome = Condition::resolve(condition, "c", Supply::Caller);
        ensure!(outcome.is_err(), "{condition}: Falco says {}", case["error"]);
    }
    Ok(())
}

/// Rules of one line each that a real Falco loaded.
#[test]
fn what_falco_loads_is_loaded() -> Result<()> {
    let Some(directory) = directory("MONITOR_FALCO_CAPTURES", "captures") else { return Ok(()) };
    for name in ["language/lang_rules.yaml", "probe_rules.yaml"] {
        let source = Source { name: name.to_owned(), text: fs::read(directory.join(name))? };
        let loaded = RuleSet::load(&[source], &Options { supply: Supply::Caller, ..Options::default() });
        let errors: Vec<_> = loaded.diagnostics.iter().filter(|one| one.is_error()).map(ToString::to_string).collect();
        ensure!(errors.is_empty() && loaded.rules.is_some(), "{errors:#?}");
    }
    Ok(())
}
