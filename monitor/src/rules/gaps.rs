//! What rules ask for and the sensor does not tell yet. It must be said: a rule that cannot match looks like peace.

use std::collections::BTreeSet;

use super::RuleSet;
use crate::event::field::Field;

/// Names that are listed before the rest is counted.
const MAX_NAMES: usize = 12;

/// What is missing for some rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// Rules in all.
    pub rules: usize,
    /// Rules of whose events none is sent.
    pub blind: BTreeSet<String>,
    /// Rules of whose events only some are sent.
    pub partly_blind: BTreeSet<String>,
    /// Events that rules name and that are not sent.
    pub events: BTreeSet<&'static str>,
    /// Other rules that ask for a field that no event tells.
    pub without_fields: BTreeSet<String>,
    /// Such fields.
    pub fields: BTreeSet<&'static str>,
    /// Fields that rules ask for and that the Kubernetes API alone tells.
    pub api_fields: BTreeSet<&'static str>,
}

impl Gaps {
    /// Of a live run with these rules.
    pub fn of(rules: &RuleSet) -> Self {
        let mut gaps = Self::default();
        for rule in rules.rules() {
            gaps.rules += 1;
            let (sent, missing): (Vec<_>, Vec<_>) =
                rule.event_types.iter().partition(|event_type| event_type.is_live());
            // Those that name no event type take what comes.
            if rule.event_types.are_named() {
                gaps.events.extend(missing.iter().map(|event_type| event_type.name()));
                match (sent.is_empty(), missing.is_empty()) {
                    (true, false) => {
                        gaps.blind.insert(rule.name.clone());
                        continue;
                    }
                    (false, false) => drop(gaps.partly_blind.insert(rule.name.clone())),
                    _ => {}
                }
            }
            let of_api = rule.expr.fields().into_iter().map(Field::info).filter(|field| field.is_of_api());
            gaps.api_fields.extend(of_api.map(|field| field.name));
            let awaited: Vec<_> = rule.expr.fields().into_iter().filter(|field| field.info().is_awaited()).collect();
            if !awaited.is_empty() {
                gaps.without_fields.insert(rule.name.clone());
                gaps.fields.extend(awaited.iter().map(|field| field.info().name));
            }
        }
        gaps
    }

    /// One line for each kind of gap.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let (blind, partly) = (self.blind.len(), self.partly_blind.len());
        if blind + partly > 0 {
            lines.push(format!(
                "of {} rules {blind} cannot match live and {partly} not for all of their events: the sensor does not send {} yet",
                self.rules,
                some(&self.events)
            ));
        }
        if !self.fields.is_empty() {
            lines.push(format!(
                "{} more rules ask for fields that the sensor does not tell yet and that have no value: {}",
                self.without_fields.len(),
                some(&self.fields)
            ));
        }
        lines
    }

    /// One more, of an agent that does not ask the Kubernetes API.
    pub fn line_without_api(&self) -> Option<String> {
        (!self.api_fields.is_empty()).then(|| {
            format!(
                "rules ask for fields that have no value without the Kubernetes API (`kubernetes` in the configuration): {}",
                some(&self.api_fields)
            )
        })
    }
}

fn some(names: &BTreeSet<&'static str>) -> String {
    let shown: Vec<_> = names.iter().take(MAX_NAMES).copied().collect();
    match names.len().saturating_sub(MAX_NAMES) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Options, Source};

    fn gaps(condition: &str) -> Gaps {
        let text = format!("- rule: A\n  desc: d\n  condition: {condition}\n  output: o\n  priority: INFO\n");
        let loaded = RuleSet::load(&[Source { name: "r".into(), text: text.into() }], &Options::default());
        Gaps::of(&loaded.rules.unwrap())
    }

    #[test]
    fn what_is_not_sent_is_named() {
        assert!(gaps("evt.type = execve and proc.name = x").lines().is_empty());
        let blind = gaps("evt.type in (read, close)");
        assert_eq!((blind.blind.len(), blind.events.iter().copied().collect::<Vec<_>>()), (1, vec!["close", "read"]));
        assert_eq!(gaps("evt.type in (read, execve)").partly_blind.len(), 1);
        let awaited = gaps("evt.type = execve and proc.stdin.name contains x");
        assert_eq!(awaited.fields.iter().copied().collect::<Vec<_>>(), ["proc.stdin.name"]);
        let of_api = gaps("evt.type = execve and k8s.pod.label[app] = web");
        assert!(of_api.lines().is_empty() && of_api.line_without_api().unwrap().contains("k8s.pod.label"));
        assert!(awaited.lines()[0].contains("proc.stdin.name"), "{:?}", awaited.lines());
    }

    #[test]
    fn the_rules_that_ship_have_no_gaps() {
        let loaded = RuleSet::load(&[Source::builtin()], &Options::default());
        assert_eq!(Gaps::of(&loaded.rules.unwrap()).lines(), [""; 0]);
    }
}
