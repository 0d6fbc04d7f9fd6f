//! What was measured, as a table for people and as JSON for tools.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{machine::Machine, statistics::Spread};

/// One measured quantity.
#[derive(Clone, Debug)]
pub(super) struct Row {
    benchmark: &'static str,
    quantity: String,
    unit: &'static str,
    spread: Spread,
    aim: Option<Aim>,
}

/// What a median should be.
#[derive(Clone, Copy, Debug)]
enum Aim {
    AtMost(f64),
    AtLeast(f64),
}

impl Row {
    /// A quantity of a benchmark.
    pub(super) fn new(
        benchmark: &'static str,
        quantity: impl Into<String>,
        unit: &'static str,
        values: impl IntoIterator<Item = f64>,
    ) -> Self {
        Self { benchmark, quantity: quantity.into(), unit, spread: Spread::of(values), aim: None }
    }

    /// The most that its median should be.
    pub(super) fn at_most(mut self, aim: f64) -> Self {
        self.aim = Some(Aim::AtMost(aim));
        self
    }

    /// The least that its median should be.
    pub(super) fn at_least(mut self, aim: f64) -> Self {
        self.aim = Some(Aim::AtLeast(aim));
        self
    }

    fn verdict(&self) -> Option<&'static str> {
        let met = match self.aim? {
            Aim::AtMost(aim) => self.spread.median <= aim,
            Aim::AtLeast(aim) => self.spread.median >= aim,
        };
        Some(if met { "met" } else { "short" })
    }

    /// The most and the least that it should be.
    fn bounds(&self) -> (Option<f64>, Option<f64>) {
        match self.aim {
            None => (None, None),
            Some(Aim::AtMost(aim)) => (Some(aim), None),
            Some(Aim::AtLeast(aim)) => (None, Some(aim)),
        }
    }
}

/// A table, one benchmark after the other.
pub(super) fn text(machine: &Machine, rows: &[Row]) -> String {
    let mut text = format!("{}, {} CPUs, Linux {}\n", machine.processor, machine.cpus, machine.kernel);
    text.push_str("median [lower quartile .. upper quartile]\n");
    let width = rows.iter().map(|row| row.quantity.len()).max().unwrap_or(0);
    let mut benchmark = "";
    for row in rows {
        if row.benchmark != benchmark {
            benchmark = row.benchmark;
            let _ = writeln!(text, "\n{benchmark}");
        }
        let Spread { median, low, high } = row.spread;
        let shown = format!("{} [{} .. {}] {}", digits(median), digits(low), digits(high), row.unit);
        let verdict = match row.bounds() {
            (Some(most), _) => format!("aim <= {}: {}", digits(most), row.verdict().unwrap_or_default()),
            (_, Some(least)) => format!("aim >= {}: {}", digits(least), row.verdict().unwrap_or_default()),
            (None, None) => String::new(),
        };
        let line = format!("  {:width$}  {shown:45}  {verdict}", row.quantity);
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// One object with the machine and all rows.
pub(super) fn json(machine: &Machine, rows: &[Row]) -> Value {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let Spread { median, low, high } = row.spread;
            let (most, least) = row.bounds();
            json!({
                "benchmark": row.benchmark, "quantity": row.quantity, "unit": row.unit,
                "median": median, "lower_quartile": low, "upper_quartile": high,
                "aim_at_most": most, "aim_at_least": least, "verdict": row.verdict(),
            })
        })
        .collect();
    json!({
        "machine": {"kernel": machine.kernel, "processor": machine.processor, "cpus": machine.cpus},
        "rows": rows,
    })
}

/// About three significant digits.
fn digits(value: f64) -> String {
    match value.abs() {
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine::new().unwrap()
    }

    #[test]
    fn a_row_shows_its_spread_and_whether_the_aim_is_met() {
        let rows = [
            Row::new("calls", "agent / empty", "", [1.1, 1.2, 1.3]).at_most(1.25),
            Row::new("memory", "resident", "MiB", [50.0]).at_most(40.0),
            Row::new("delivery", "carried", "findings/s", [50.0]).at_least(40.0),
        ];
        let text = text(&machine(), &rows);
        assert!(text.contains("1.20 [1.15 .. 1.25]") && text.contains("aim <= 1.25: met"), "{text}");
        assert!(text.contains("aim <= 40.0: short") && text.contains("aim >= 40.0: met"), "{text}");
        let json = json(&machine(), &rows);
        assert_eq!(json.pointer("/rows/1/verdict").and_then(Value::as_str), Some("short"));
    }
}
