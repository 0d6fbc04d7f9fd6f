//! What a rule comes to: its condition as a tree, the events it looks at, the fields it asks for.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use super::{
    EventTypes, Expr, Rule,
    push_down::{self, Known, Reduced},
};
use crate::event::{EventType, field::Field};

/// Event types that are listed before the rest is counted.
const MAX_SHOWN_TYPES: usize = 24;

/// All that can be known of an open that succeeds before it is sent.
const ANY_OPEN: Known = Known { failed: false, by: true };

/// What there is to know about a rule.
#[derive(Debug)]
pub struct Explanation<'a> {
    rule: &'a Rule,
    fields: Vec<Field>,
}

/// Explains a rule.
pub fn explain(rule: &Rule) -> Explanation<'_> {
    Explanation { rule, fields: rule.expr.fields() }
}

impl Explanation<'_> {
    /// For people.
    pub fn text(&self) -> String {
        let rule = self.rule;
        let mut text = format!("{} ({})\n", rule.name, rule.priority.word());
        for line in rule.desc.lines() {
            let _ = writeln!(text, "    {}", line.trim());
        }
        text.push_str("\ncondition, with lists and macros put in:\n");
        tree(&rule.expr, 1, &mut text);
        let _ = writeln!(text, "\nevents: {}", self.event_types());
        let _ = writeln!(text, "from the kernel: {}", self.kernel_sends());
        self.pushed_down(&mut text);
        text.push_str("\nfields:\n");
        for field in &self.fields {
            let info = field.info();
            let note = if info.is_awaited() { "  (the sensor does not tell it yet: null)" } else { "" };
            let _ = writeln!(text, "    {:<28} {:<9} {}{note}", info.name, info.ty.name(), info.doc);
        }
        let _ = writeln!(text, "\noutput: {}", rule.output);
        text
    }

    /// For programs.
    pub fn json(&self) -> Json {
        let rule = self.rule;
        let (sent, missing) = self.sent();
        let fields = self.fields.iter().map(|field| {
            let info = field.info();
            json!({"name": info.name, "type": info.ty.name(), "available": !info.is_awaited()})
        });
        json!({
            "name": rule.name,
            "priority": rule.priority.word(),
            "condition": json_tree(&rule.expr),
            "event_types": names(rule.event_types),
            "kernel_sends": sent,
            "kernel_does_not_send": missing,
            "opens_that_succeed": left_json(push_down::left(rule, ANY_OPEN)),
            "opens_that_fail": left_json(push_down::left(rule, Known { failed: true, ..ANY_OPEN })),
            "fields": fields.collect::<Vec<_>>(),
            "output": rule.output.to_string(),
        })
    }

    /// What the kernel leaves out of opens, which are the most frequent events by far.
    fn pushed_down(&self, text: &mut String) {
        for (known, what) in [(ANY_OPEN, "opens that succeed"), (Known { failed: true, ..ANY_OPEN }, "opens that fail")]
        {
            match push_down::left(self.rule, known) {
                None => {}
                Some(Reduced::Known(all)) => {
                    let _ = writeln!(text, "    {what}: {}", if all { "all" } else { "none" });
                }
                Some(Reduced::If(expr)) => {
                    let _ = writeln!(text, "    {what}:");
                    tree(&expr, 2, text);
                }
            }
        }
    }

    fn event_types(&self) -> String {
        let names = names(self.rule.event_types);
        match names.len() {
            0 => "none: the condition cannot hold".to_owned(),
            n if n == EventType::COUNT => "all, for the condition does not name any evt.type".to_owned(),
            n if n > MAX_SHOWN_TYPES => format!(
                "{} and {} more",
                names.get(..MAX_SHOWN_TYPES).unwrap_or_default().join(", "),
                n - MAX_SHOWN_TYPES
            ),
            _ => names.join(", "),
        }
    }

    /// Names of the events that the sensor sends for the rule, and of those that it does not send yet.
    fn sent(&self) -> (Vec<&'static str>, Vec<&'static str>) {
        self.rule.event_types.iter().partition::<Vec<_>, _>(|one| one.is_live()).map_names()
    }

    fn kernel_sends(&self) -> String {
        let (sent, missing) = self.sent();
        match (sent.len(), missing.len()) {
            (0, 0) => "nothing".to_owned(),
            (_, 0) if push_down::left(self.rule, ANY_OPEN).is_some() => {
                format!("{}; of opens those of which what stands here may hold", sent.join(", "))
            }
            (_, 0) => format!("{}: all are sent", sent.join(", ")),
            (0, n) => {
                format!("nothing: the sensor does not send {} yet; replay of a .scap capture does", some(&missing, n))
            }
            (_, n) => format!("{}; not sent yet: {}", sent.join(", "), some(&missing, n)),
        }
    }
}

/// `null` for a rule that looks at no opens, else whether all or none may match, or what must hold for them.
fn left_json(left: Option<Reduced>) -> Json {
    match left {
        None => Json::Null,
        Some(Reduced::Known(all)) => json!(all),
        Some(Reduced::If(expr)) => json_tree(&expr),
    }
}

fn some(names: &[&str], count: usize) -> String {
    if count > MAX_SHOWN_TYPES { format!("{count} others") } else { names.join(", ") }
}

trait MapNames {
    fn map_names(self) -> (Vec<&'static str>, Vec<&'static str>);
}

impl MapNames for (Vec<EventType>, Vec<EventType>) {
    fn map_names(self) -> (Vec<&'static str>, Vec<&'static str>) {
        let names = |types: Vec<EventType>| types.into_iter().map(EventType::name).collect();
        (names(self.0), names(self.1))
    }
}

fn names(types: EventTypes) -> Vec<&'static str> {
    types.iter().map(EventType::name).collect()
}

/// One line for each part, indented by its depth.
fn tree(expr: &Expr, depth: usize, text: &mut String) {
    let indent = "    ".repeat(depth);
    match expr {
        Expr::And(exprs) | Expr::Or(exprs) => {
            let _ = writeln!(text, "{indent}{}", if matches!(expr, Expr::And(_)) { "and" } else { "or" });
            for expr in exprs {
                tree(expr, depth + 1, text);
            }
        }
        Expr::Not(inner) => match &**inner {
            Expr::Check(check) => {
                let _ = writeln!(text, "{indent}not {check}");
            }
            inner => {
                let _ = writeln!(text, "{indent}not");
                tree(inner, depth + 1, text);
            }
        },
        Expr::Check(check) => {
            let _ = writeln!(text, "{indent}{check}");
        }
    }
}

fn json_tree(expr: &Expr) -> Json {
    match expr {
        Expr::And(exprs) => json!({"and": exprs.iter().map(json_tree).collect::<Vec<_>>()}),
        Expr::Or(exprs) => json!({"or": exprs.iter().map(json_tree).collect::<Vec<_>>()}),
        Expr::Not(expr) => json!({"not": json_tree(expr)}),
        Expr::Check(check) => json!(check.to_string()),
    }
}
