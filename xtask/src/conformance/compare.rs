//! Expected alerts beside those that came.

use std::{collections::BTreeMap, fmt};

use super::alerts::Alert;

/// How two lists of alerts differ.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) expected: usize,
    got: usize,
    missing: usize,
    extra: usize,
    different: usize,
    /// One line for each alert that is not the same.
    pub(super) differences: Vec<String>,
}

/// Alerts of one rule at one time.
#[derive(Default)]
struct Pair<'a> {
    expected: Vec<&'a Alert>,
    got: Vec<&'a Alert>,
}

impl Comparison {
    /// Alerts of one rule at one time belong together, in their order.
    pub(super) fn new(expected: &[Alert], got: &[Alert]) -> Self {
        let mut pairs: BTreeMap<(&str, &str), Pair<'_>> = BTreeMap::new();
        for alert in expected {
            pairs.entry((&alert.time, &alert.rule)).or_default().expected.push(alert);
        }
        for alert in got {
            pairs.entry((&alert.time, &alert.rule)).or_default().got.push(alert);
        }
        let mut comparison = Self { expected: expected.len(), got: got.len(), ..Self::default() };
        for ((time, rule), Pair { expected, got }) in pairs {
            let mut others = got.iter();
            for alert in expected {
                match others.next() {
                    None => comparison.miss(time, rule, alert),
                    Some(other) if **other == *alert => {}
                    Some(other) => comparison.differ(time, rule, alert, other),
                }
            }
            for other in others {
                comparison.extra += 1;
                comparison.differences.push(format!("extra    {time} {rule}: {}", fields(other)));
            }
        }
        if comparison.is_equal() && expected.iter().zip(got).any(|(a, b)| a.time != b.time) {
            comparison.different += 1;
            comparison.differences.push("the order differs".to_owned());
        }
        comparison
    }

    pub(super) fn is_equal(&self) -> bool {
        self.missing + self.extra + self.different == 0
    }

    fn miss(&mut self, time: &str, rule: &str, alert: &Alert) {
        self.missing += 1;
        self.differences.push(format!("missing  {time} {rule}: {}", fields(alert)));
    }

    fn differ(&mut self, time: &str, rule: &str, expected: &Alert, got: &Alert) {
        self.different += 1;
        let mut parts = Vec::new();
        if expected.priority != got.priority {
            parts.push(format!("priority {} != {}", expected.priority, got.priority));
        }
        if expected.tags != got.tags {
            parts.push(format!("tags {:?} != {:?}", expected.tags, got.tags));
        }
        for (name, value) in &expected.output_fields {
            match got.output_fields.get(name) {
                Some(other) if other == value => {}
                Some(other) => parts.push(format!("{name} {value} != {other}")),
                None => parts.push(format!("{name} {value} is not there")),
            }
        }
        let more = got.output_fields.keys().filter(|name| !expected.output_fields.contains_key(*name));
        parts.extend(more.map(|name| format!("{name} is too much")));
        self.differences.push(format!("differs  {time} {rule}: {}", parts.join("; ")));
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expected, got, missing, extra, different, .. } = self;
        write!(f, "{expected:8} {got:8} {missing:8} {extra:8} {different:8}")
    }
}

fn fields(alert: &Alert) -> String {
    serde_json::to_string(&alert.output_fields).unwrap_or_default().chars().take(600).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn alert(time: &str, rule: &str, value: i64) -> Alert {
        serde_json::from_value(json!({
            "time": time, "rule": rule, "priority": "Debug", "tags": [], "output_fields": {"evt.num": value},
        }))
        .unwrap()
    }

    #[test]
    fn what_is_missing_extra_and_different_is_told_apart() {
        let expected = [alert("1", "a", 1), alert("2", "a", 2), alert("3", "b", 3)];
        assert!(Comparison::new(&expected, &expected).is_equal());
        let got = [alert("1", "a", 1), alert("2", "a", 9), alert("4", "b", 3)];
        let comparison = Comparison::new(&expected, &got);
        assert_eq!((comparison.missing, comparison.extra, comparison.different), (1, 1, 1));
        assert!(comparison.differences.iter().any(|line| line.contains("evt.num 2 != 9")), "{comparison:?}");
    }
}
