//! What a capture should bring: findings per rule, written as YAML, for users' own tests of their rules.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    diagnostic::{Code, Diagnostic, Text},
    yaml::{self, Value},
};

/// Reads expected counts: a mapping of rules' names to numbers.
pub fn expected_counts(name: &str, text: &str) -> Result<BTreeMap<String, u64>, Diagnostic> {
    let text = Arc::new(Text { name: name.to_owned(), text: text.to_owned() });
    let mut counts = BTreeMap::new();
    let mut oddities = Vec::new();
    let documents = yaml::parse(&text, &mut oddities)?;
    if let Some(twice) = oddities.into_iter().next() {
        return Err(twice);
    }
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        let Value::Mapping(entries) = document.value else {
            let message = "expected counts are a mapping: a rule's name, a colon, a number";
            return Err(Diagnostic::new(
                Code::YamlValidate,
                &text,
                document.span.start..document.span.start + 1,
                message,
            ));
        };
        for (rule, node) in entries {
            let count = match &node.value {
                Value::Scalar(scalar) => scalar.text.parse::<u64>().ok(),
                _ => None,
            };
            let Some(count) = count else {
                let message = format!("`{}` needs a number of findings", rule.text);
                return Err(Diagnostic::new(Code::YamlValidate, &text, rule.span, message));
            };
            counts.insert(rule.text, count);
        }
    }
    Ok(counts)
}

/// The counts as such a file.
pub fn counts_text(counts: &BTreeMap<String, u64>) -> String {
    let line = |(rule, count): (&String, &u64)| format!("\"{}\": {count}\n", escaped(rule));
    counts.iter().filter(|(_, count)| **count > 0).map(line).collect()
}

/// A text as it stands between double quotes: YAML 1.2, 5.7.
fn escaped(text: &str) -> String {
    let escape = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        ' '..='~' => c.to_string(),
        other => format!("\\U{:08x}", u32::from(other)),
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_as_they_are_written() {
        let counts = BTreeMap::from([("A \"b\" \\c \u{8}\u{fc}".to_owned(), 3), ("Drift in container".to_owned(), 1)]);
        assert_eq!(expected_counts("e", &counts_text(&counts)).unwrap(), counts);
        assert_eq!(
            expected_counts("e", "Terminal shell: 2\n").unwrap(),
            BTreeMap::from([("Terminal shell".to_owned(), 2)])
        );
        assert!(expected_counts("e", "").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_count_is_shown_where_it_is() {
        for (text, line) in [("A: 1\nB: many\n", 2), ("- A\n", 1), ("A: 1\nA: 2\n", 2), ("A: [1\n", 1), ("A: -1\n", 1)]
        {
            assert_eq!(expected_counts("e", text).unwrap_err().position().0, line, "{text}");
        }
    }
}
