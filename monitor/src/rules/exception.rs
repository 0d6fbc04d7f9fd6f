//! Exceptions of rules: fields, comparisons and rows of values, which become `and not (…)` behind the condition.

use std::{ops::Range, sync::Arc};

use super::{
    diagnostic::{Code, Diagnostic, Text},
    item::{Reader, take},
    parse::{self, Operator, Quantifier},
    resolve::{self, Supply},
    text::{Composed, Origin},
    yaml::{Node, Scalar, Value},
};

/// An exception as it is written.
#[derive(Clone, Debug)]
pub(super) struct Exception {
    pub(super) name: Scalar,
    fields: Option<Entry>,
    comparisons: Option<Entry>,
    values: Vec<Entry>,
    text: Arc<Text>,
}

/// A text, or a list of entries.
#[derive(Clone, Debug)]
enum Entry {
    One(Scalar),
    Many(Vec<Entry>, Range<usize>),
}

impl Entry {
    fn span(&self) -> Range<usize> {
        match self {
            Entry::One(scalar) => scalar.span.clone(),
            Entry::Many(_, span) => span.clone(),
        }
    }

    fn many(&self) -> Option<&[Entry]> {
        match self {
            Entry::One(_) => None,
            Entry::Many(entries, _) => Some(entries),
        }
    }

    fn one(&self) -> Option<&Scalar> {
        match self {
            Entry::One(scalar) => Some(scalar),
            Entry::Many(..) => None,
        }
    }
}

/// Reads the exceptions of a rule item. In one that appends, fields need not be there.
pub(super) fn read(reader: &mut Reader<'_>, node: Node, append: bool) -> Result<Vec<Exception>, Diagnostic> {
    let Value::Sequence(nodes) = node.value else {
        return Err(reader.error(node.span, "`exceptions` is a list"));
    };
    let mut exceptions: Vec<Exception> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let span = node.span;
        let Value::Mapping(mut entries) = node.value else {
            return Err(reader.error(span, "an exception is a mapping with `name`, `fields`, `comps` and `values`"));
        };
        let name = reader.scalar(&mut entries, "name", &span)?;
        if exceptions.iter().any(|other| other.name.text == name.text) {
            let message = format!("the exception `{}` is there more than once", name.text);
            reader.warn(Code::ExceptionNameNotUnique, name.span.clone(), message);
        }
        let fields = take(&mut entries, "fields").map(|node| entry(reader, node, "fields")).transpose()?;
        if fields.is_none() && !append {
            return Err(reader.error(span, format!("the exception `{}` has no `fields`", name.text)));
        }
        let comparisons = take(&mut entries, "comps").map(|node| entry(reader, node, "comps")).transpose()?;
        let values = match take(&mut entries, "values") {
            Some(node) => match entry(reader, node, "values")? {
                Entry::Many(values, _) => values,
                one @ Entry::One(_) => return Err(reader.error(one.span(), "`values` of an exception is a list")),
            },
            None => {
                if append {
                    let message = format!("the exception `{}` is appended to without values", name.text);
                    reader.warn(Code::AppendNoValues, name.span.clone(), message);
                }
                Vec::new()
            }
        };
        exceptions.push(Exception { name, fields, comparisons, values, text: Arc::clone(reader.text()) });
    }
    Ok(exceptions)
}

fn entry(reader: &Reader<'_>, node: Node, key: &str) -> Result<Entry, Diagnostic> {
    match node.value {
        Value::Scalar(_) => reader.scalar_of(node, key).map(Entry::One),
        Value::Sequence(nodes) => {
            let entries = nodes.into_iter().map(|node| entry(reader, node, key)).collect::<Result<_, _>>()?;
            Ok(Entry::Many(entries, node.span))
        }
        Value::Mapping(_) => Err(reader.error(node.span, format!("`{key}` of an exception is text or a list"))),
    }
}

/// How values of a field are compared.
struct Comparison {
    field: Scalar,
    operator: String,
    takes_list: bool,
}

impl Exception {
    /// Adds what an appending rule item says of an exception of the same name: values.
    pub(super) fn append(&mut self, other: Exception) -> Result<(), Diagnostic> {
        for (entry, what) in [(&other.fields, "fields"), (&other.comparisons, "comps")] {
            if let Some(entry) = entry {
                let message =
                    format!("`{what}` of the exception `{}` are given already: append values only", self.name.text);
                return Err(Diagnostic::new(Code::Validate, &other.text, entry.span(), message));
            }
        }
        self.values.extend(other.values);
        Ok(())
    }

    fn error(&self, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Code::Validate, &self.text, span, message)
    }

    /// Whether it can stand by itself: one that is appended to a rule and new there.
    pub(super) fn check_new(&self) -> Result<(), Diagnostic> {
        let missing = match (&self.fields, self.values.is_empty()) {
            (None, _) => "fields",
            (Some(_), true) => "values",
            _ => return Ok(()),
        };
        let message =
            format!("the rule has no exception `{}` to append to, and a new one needs `{missing}`", self.name.text);
        Err(self.error(self.name.span.clone(), message))
    }

    /// Checks fields and comparisons; Falco's defaults are `in` for one field and `=` for several.
    fn comparisons(&self) -> Result<Vec<Comparison>, Diagnostic> {
        let Some(fields) = &self.fields else {
            return Err(
                self.error(self.name.span.clone(), format!("the exception `{}` has no `fields`", self.name.text))
            );
        };
        let fields: Vec<&Scalar> = match fields {
            Entry::One(field) => vec![field],
            Entry::Many(entries, span) => {
                let all: Option<Vec<_>> = entries.iter().map(Entry::one).collect();
                all.ok_or_else(|| self.error(span.clone(), "a field is text"))?
            }
        };
        let single = self.is_single();
        let operators: Vec<(String, Range<usize>)> = match &self.comparisons {
            None => {
                let default = if single { "in" } else { "=" };
                fields.iter().map(|field| (default.to_owned(), field.span.clone())).collect()
            }
            Some(Entry::One(operator)) if single => vec![(operator.text.trim().to_owned(), operator.span.clone())],
            Some(Entry::Many(entries, span)) if !single => {
                let all: Option<Vec<_>> = entries.iter().map(Entry::one).collect();
                let all = all.ok_or_else(|| self.error(span.clone(), "a comparison is text"))?;
                all.into_iter().map(|operator| (operator.text.trim().to_owned(), operator.span.clone())).collect()
            }
            Some(other) => {
                return Err(self.error(other.span(), "`fields` and `comps` must both be text, or both lists"));
            }
        };
        if operators.len() != fields.len() {
            let message = format!("there are {} fields and {} comparisons", fields.len(), operators.len());
            return Err(self.error(self.name.span.clone(), message));
        }
        fields
            .into_iter()
            .zip(operators)
            .map(|(field, (operator, span))| self.comparison(field, operator, span))
            .collect()
    }

    fn comparison(&self, field: &Scalar, operator: String, span: Range<usize>) -> Result<Comparison, Diagnostic> {
        let quantified = Quantifier::of_operator(&operator).is_some();
        let takes_list = quantified || Operator::find(&operator).is_some_and(Operator::takes_list);
        if !quantified && Operator::find(&operator).is_none() {
            return Err(self.error(span, format!("`{operator}` is not a comparison operator")));
        }
        if self.is_single() && !takes_list {
            let message = format!(
                "with a single field, `comps` is in, pmatch, intersects or an operator with oneof, anyof or allof, not `{operator}`"
            );
            return Err(self.error(span, message));
        }
        let usable = match parse::parse_term(&field.text) {
            Ok((term, end)) if end == field.text.len() => {
                resolve::operand(&term, Supply::Caller).map_err(|wrong| (wrong.message, wrong.help))
            }
            Ok(_) => Err((format!("`{}` is not a field", field.text), None)),
            Err(error) => Err((error.message, error.help)),
        };
        match usable {
            Ok(_) => Ok(Comparison { field: field.clone(), operator, takes_list }),
            Err((message, help)) => Err(self.error(field.span.clone(), message).help(help)),
        }
    }

    fn is_single(&self) -> bool {
        matches!(self.fields, Some(Entry::One(_)))
    }

    /// Adds it to a condition that stands in parentheses already.
    pub(super) fn push_to(&self, condition: &mut Composed) -> Result<(), Diagnostic> {
        let comparisons = self.comparisons()?;
        if self.values.is_empty() {
            return Ok(());
        }
        let [first, ..] = comparisons.as_slice() else {
            return Err(
                self.error(self.name.span.clone(), format!("`fields` of the exception `{}` is empty", self.name.text))
            );
        };
        let here = || Origin::of(&self.name, &self.text);
        condition.push(" and not (", here());
        if self.is_single() {
            condition.push(&format!("{} {} (", first.field.text, first.operator), Origin::of(&first.field, &self.text));
            for (index, value) in self.values.iter().enumerate() {
                let value = value
                    .one()
                    .ok_or_else(|| self.error(value.span(), "with a single field, `values` is a list of texts"))?;
                condition.push(if index > 0 { ", " } else { "" }, here());
                condition.push(&quoted(&value.text), Origin::of(value, &self.text));
            }
            condition.push("))", here());
            return Ok(());
        }
        for (index, row) in self.values.iter().enumerate() {
            condition.push(if index > 0 { " or (" } else { "(" }, here());
            self.push_row(condition, &comparisons, row)?;
            condition.push(")", here());
        }
        condition.push(")", here());
        Ok(())
    }

    fn push_row(&self, condition: &mut Composed, comparisons: &[Comparison], row: &Entry) -> Result<(), Diagnostic> {
        let values = row.many().filter(|values| values.len() == comparisons.len()).ok_or_else(|| {
            let message =
                format!("each of `values` is a list of as many values as there are fields: {}", comparisons.len());
            self.error(row.span(), message)
        })?;
        for (index, (comparison, value)) in comparisons.iter().zip(values).enumerate() {
            let field = Origin::of(&comparison.field, &self.text);
            let and = if index > 0 { " and " } else { "" };
            condition.push(&format!("{and} {} {} ", comparison.field.text, comparison.operator), field);
            let value_at = Origin::Place(Arc::clone(&self.text), value.span());
            match value {
                Entry::Many(values, span) => {
                    let values: Option<Vec<_>> = values.iter().map(|value| Some(quoted(&value.one()?.text))).collect();
                    let values = values.ok_or_else(|| self.error(span.clone(), "a list within a value holds texts"))?;
                    condition.push(&format!("({})", values.join(", ")), value_at);
                }
                Entry::One(value) if comparison.takes_list && !value.text.starts_with('(') => {
                    condition.push(&format!("({})", value.text), value_at);
                }
                Entry::One(value) if comparison.takes_list => condition.push(&value.text, value_at),
                Entry::One(value) => condition.push(&quoted(&value.text), value_at),
            }
        }
        Ok(())
    }
}

/// A value with a blank stands in quotes, unless it does already: Falco's rule, for items of lists too.
pub(super) fn quoted(value: &str) -> String {
    if value.contains(' ') && !value.starts_with(['"', '\'']) { format!("\"{value}\"") } else { value.to_owned() }
}
