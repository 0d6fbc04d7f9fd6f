//! `event/table.rs`: names of events and of their parameters.

use std::fmt::Write as _;

use super::facts::Facts;

pub(super) fn make(facts: &Facts) -> String {
    let mut text = String::from(
        "//! Names of events and of their parameters, sorted. Made by `cargo xtask tables`: change that, not this.\n\n\
         /// Event types: name, and how many codes Falco's event table has for it; those with none are calls that Falco knows by\n\
         /// number only (its two generic codes).\n#[rustfmt::skip]\npub(super) const TYPES: &[(&str, u8)] = &[\n",
    );
    lines(&mut text, facts.types.iter().map(|(name, codes)| format!("(\"{name}\", {codes})")));
    text.push_str("];\n\n/// Parameters of events: what `evt.arg.NAME` may name.\n#[rustfmt::skip]\npub(super) const PARAMETERS: &[&str] = &[\n");
    lines(&mut text, facts.parameters().iter().map(|name| format!("\"{name}\"")));
    text.push_str("];\n");
    text
}

/// Items with a comma after each, as many on a line as fit.
pub(super) fn lines(text: &mut String, items: impl Iterator<Item = String>) {
    const WIDTH: usize = 116;
    let mut line = String::new();
    for item in items {
        if !line.is_empty() && line.len() + item.len() > WIDTH {
            let _ = writeln!(text, "    {}", line.trim_end());
            line.clear();
        }
        let _ = write!(line, "{item}, ");
    }
    let _ = writeln!(text, "    {}", line.trim_end());
}
