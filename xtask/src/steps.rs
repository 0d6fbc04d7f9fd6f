//! Named steps with their durations, and a table of them at the end.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// The steps so far.
#[derive(Debug, Default)]
pub(crate) struct Steps(Vec<Step>);

#[derive(Debug)]
struct Step {
    name: &'static str,
    took: Duration,
    passed: bool,
}

impl Steps {
    /// Runs one step. Its error carries its name.
    pub(crate) fn run<T>(&mut self, name: &'static str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        eprintln!("==> {name}");
        let begin = Instant::now();
        let result = step();
        let took = begin.elapsed();
        let word = if result.is_ok() { "done" } else { "FAILED" };
        eprintln!("<== {name}: {word} in {:.1} s", took.as_secs_f64());
        self.0.push(Step { name, took, passed: result.is_ok() });
        result.with_context(|| format!("step `{name}`"))
    }

    /// All steps, one a line.
    pub(crate) fn table(&self) -> String {
        let width = self.0.iter().map(|step| step.name.len()).max().unwrap_or(0).max("total".len());
        let mut table = String::new();
        for Step { name, took, passed } in &self.0 {
            let word = if *passed { "ok" } else { "FAILED" };
            let _ = writeln!(table, "  {name:width$}  {:8.1} s  {word}", took.as_secs_f64());
        }
        let total: Duration = self.0.iter().map(|step| step.took).sum();
        let _ = writeln!(table, "  {:width$}  {:8.1} s", "total", total.as_secs_f64());
        table
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn the_table_shows_what_passed_and_what_failed() {
        let mut steps = Steps::default();
        steps.run("first", || Ok(())).unwrap();
        let error = steps.run("second", || -> Result<()> { bail!("no") }).unwrap_err();
        assert_eq!(format!("{error:#}"), "step `second`: no");
        let table = steps.table();
        assert!(table.contains("first") && table.contains("second") && table.contains("FAILED"), "{table}");
    }
}
