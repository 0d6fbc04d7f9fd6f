//! How it is told that rules were read again: to subscribers as a message, to people as lines.

use super::options::{plural, problems};
use crate::{
    finding::is_unprintable,
    proto::v1::{RulesChange, RulesOutcome},
    rules::diagnostic::Diagnostic,
};

/// Most problems that a message quotes.
const MAX_MESSAGES: usize = 10;
/// Most bytes of each.
const MAX_MESSAGE_BYTES: usize = 300;

/// The part of the message that tells what is wrong with the rules that were read.
pub(super) fn of_diagnostics(diagnostics: &[Diagnostic]) -> RulesChange {
    let (errors, warnings): (Vec<_>, Vec<_>) = diagnostics.iter().partition(|diagnostic| diagnostic.is_error());
    let messages = errors.iter().chain(&warnings).take(MAX_MESSAGES).map(|diagnostic| short(&diagnostic.to_string()));
    RulesChange {
        errors: count(errors.len()),
        warnings: count(warnings.len()),
        messages: messages.collect(),
        ..RulesChange::default()
    }
}

/// The same where they could not even be read.
pub(super) fn unreadable(reason: &str) -> RulesChange {
    RulesChange { errors: 1, messages: vec![short(reason)], ..RulesChange::default() }
}

/// What people are told, in one line.
pub(super) fn line(change: &RulesChange) -> String {
    let rules = plural(size(change.rules), "rule");
    match change.outcome() {
        RulesOutcome::Refused => {
            let stay = if change.rules == 1 { "stays" } else { "stay" };
            let problems = problems(size(change.errors), size(change.warnings));
            format!("rules NOT reloaded, the {rules} from before {stay}: {problems}")
        }
        RulesOutcome::Loaded | RulesOutcome::Unspecified if change.warnings > 0 => {
            format!("rules reloaded: {rules} ({})", plural(size(change.warnings), "warning"))
        }
        RulesOutcome::Loaded | RulesOutcome::Unspecified => format!("rules reloaded: {rules}"),
    }
}

/// The quoted problems, for a terminal.
pub(super) fn messages(change: &RulesChange) -> impl Iterator<Item = String> {
    change.messages.iter().take(MAX_MESSAGES).map(|message| short(message))
}

/// Bounded, and without what a terminal would obey.
pub(super) fn short(message: &str) -> String {
    let mut end = message.len().min(MAX_MESSAGE_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let kept = message.get(..end).unwrap_or_default();
    // A space is never longer than what it replaces.
    kept.chars().map(|c| if is_unprintable(c) { ' ' } else { c }).collect()
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::rules::diagnostic::{Code, Text};

    fn change(outcome: RulesOutcome, rules: u32, errors: u32, warnings: u32) -> RulesChange {
        RulesChange { outcome: outcome.into(), rules, errors, warnings, ..RulesChange::default() }
    }

    #[test]
    fn a_line_says_what_is_in_use_and_why() {
        for (change, expected) in [
            (change(RulesOutcome::Loaded, 25, 0, 2), "rules reloaded: 25 rules (2 warnings)"),
            (change(RulesOutcome::Loaded, 1, 0, 0), "rules reloaded: 1 rule"),
            (
                change(RulesOutcome::Refused, 25, 1, 0),
                "rules NOT reloaded, the 25 rules from before stay: 1 error in the rules",
            ),
            (
                change(RulesOutcome::Refused, 1, 2, 1),
                "rules NOT reloaded, the 1 rule from before stays: 2 errors and 1 warning in the rules",
            ),
        ] {
            assert_eq!(line(&change), expected);
        }
    }

    #[test]
    fn errors_come_first_and_what_is_quoted_is_bounded_and_printable() {
        let text = Arc::new(Text { name: "r.yaml".into(), text: "a: b".into() });
        let diagnostic = |code, message: &str| Diagnostic::new(code, &text, 0..1, message);
        let mut diagnostics = vec![diagnostic(Code::UnusedList, "warning"); 12];
        diagnostics.push(diagnostic(Code::Validate, &format!("\u{1b}[31m{}", "ü".repeat(400))));
        let change = of_diagnostics(&diagnostics);
        assert_eq!((change.errors, change.warnings, change.messages.len()), (1, 12, MAX_MESSAGES));
        assert!(change.messages[0].starts_with("r.yaml:1:1: LOAD_ERR_VALIDATE:  [31mü"), "{}", change.messages[0]);
        assert!(change.messages.iter().all(|message| message.len() <= MAX_MESSAGE_BYTES));
    }
}
