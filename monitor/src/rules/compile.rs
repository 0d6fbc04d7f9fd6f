//! From a parsed condition to one that can be evaluated: fields looked up, values parsed to the field's type, lists and
//! macros put in.

use std::{ops::Range, sync::Arc};

use hashbrown::{HashMap, HashSet};

use super::{
    diagnostic::{Code, Diagnostic, Text, nearest},
    eval::{Comparison, EventTypes, Node, Test},
    parse::{self, Check, Expr, Operator, Word},
    yaml::Scalar,
};
use crate::event::{
    EventType,
    field::{Argument, Brackets, Field},
    value::Type,
};

/// Longest value, as in Falco.
const MAX_VALUE_BYTES: usize = 255;
/// Macros within macros.
const MAX_MACRO_DEPTH: usize = 64;
/// Nodes of one resolved condition: against macros that double each other.
const MAX_NODES: usize = 200_000;
/// Values in all lists and conditions: against lists that double each other.
pub(super) const MAX_VALUES: usize = 4_000_000;
pub(super) const TOO_MANY_VALUES: &str = "there are too many values, with all lists put in";
/// Depth of one resolved condition: it is walked by recursion.
const MAX_DEPTH: usize = 400;
/// Bytes of a compiled regular expression.
const REGEX_BYTES: usize = 1 << 18;
/// How many values a regular expression counts for: compiling a large one takes some milliseconds.
const REGEX_VALUES: usize = 2000;

/// Lists and macros that conditions may name.
#[derive(Default)]
pub(super) struct Names {
    pub(super) lists: HashMap<String, Vec<String>>,
    pub(super) macros: HashMap<String, MacroDef>,
    /// Macros that do not parse, and why: what uses them fails for the same reason.
    pub(super) broken: HashMap<String, Diagnostic>,
    /// Names that were used.
    pub(super) used: HashSet<String>,
    /// Values so far.
    values: usize,
}

impl Names {
    /// Whether there is room for so many more values.
    pub(super) fn take_room(&mut self, values: usize) -> bool {
        self.values = self.values.saturating_add(values);
        self.values <= MAX_VALUES
    }
}

/// A macro, parsed.
#[derive(Clone)]
pub(super) struct MacroDef {
    pub(super) expr: Arc<Expr>,
    pub(super) condition: Arc<Scalar>,
    pub(super) text: Arc<Text>,
}

/// Where a condition is, for messages.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) condition: &'a Scalar,
    pub(super) text: &'a Arc<Text>,
}

impl Place<'_> {
    fn error(self, span: &Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Code::CompileCondition, self.text, self.condition.place(span.clone()), message)
    }
}

/// Parses a condition.
pub(super) fn parse(place: Place<'_>) -> Result<Expr, Diagnostic> {
    parse::parse(&place.condition.text).map_err(|error| place.error(&error.span, error.message))
}

/// Compiles a parsed condition.
pub(super) fn compile(expr: &Expr, place: Place<'_>, names: &mut Names) -> Result<Node, Diagnostic> {
    Compiler { names, within: Vec::new(), nodes: 0, depth: 0 }.node(expr, place)
}

struct Compiler<'a> {
    names: &'a mut Names,
    /// Macros that are being put in.
    within: Vec<String>,
    nodes: usize,
    depth: usize,
}

impl Compiler<'_> {
    fn node(&mut self, expr: &Expr, place: Place<'_>) -> Result<Node, Diagnostic> {
        self.nodes += 1;
        if self.nodes > MAX_NODES || !self.names.take_room(1) {
            return Err(place.error(&(0..1), "the condition is too large with its macros put in"));
        }
        if self.depth == MAX_DEPTH {
            return Err(place.error(&(0..1), "the condition is nested too deeply with its macros put in"));
        }
        self.depth += 1;
        let node = self.inner(expr, place);
        self.depth -= 1;
        node
    }

    fn inner(&mut self, expr: &Expr, place: Place<'_>) -> Result<Node, Diagnostic> {
        let all = |this: &mut Self, exprs: &[Expr]| -> Result<Vec<Node>, Diagnostic> {
            exprs.iter().map(|expr| this.node(expr, place)).collect()
        };
        match expr {
            Expr::And(exprs) => Ok(Node::And(all(self, exprs)?)),
            Expr::Or(exprs) => Ok(Node::Or(all(self, exprs)?)),
            Expr::Not(expr) => Ok(Node::Not(Box::new(self.node(expr, place)?))),
            Expr::Macro(name) => self.macro_(name, place),
            Expr::Check(check) => self.check(check, place),
        }
    }

    fn macro_(&mut self, name: &Word, place: Place<'_>) -> Result<Node, Diagnostic> {
        if let Some(reason) = self.names.broken.get(&name.text) {
            return Err(reason.clone());
        }
        let Some(definition) = self.names.macros.get(&name.text).cloned() else {
            let help = nearest(&name.text, self.names.macros.keys().map(String::as_str));
            let span = place.condition.place(name.span.clone());
            let message = format!("Undefined macro '{}' used in filter.", name.text);
            return Err(Diagnostic::new(Code::Validate, place.text, span, message).help(help));
        };
        self.names.used.insert(name.text.clone());
        if self.within.contains(&name.text) || self.within.len() == MAX_MACRO_DEPTH {
            let span = place.condition.place(name.span.clone());
            let message = format!("the macro `{}` contains itself", name.text);
            return Err(Diagnostic::new(Code::Validate, place.text, span, message));
        }
        self.within.push(name.text.clone());
        let node = self.node(&definition.expr, Place { condition: &definition.condition, text: &definition.text });
        self.within.pop();
        node
    }

    fn check(&mut self, check: &Check, place: Place<'_>) -> Result<Node, Diagnostic> {
        let (field, argument) = field(&check.field.text, check.argument.as_ref().map(|word| &*word.text))
            .map_err(|(message, help)| place.error(&check.field.span, message).help(help))?;
        let values = self.expand(&check.values, place)?;
        if check.operator == Operator::Regex && !self.names.take_room(REGEX_VALUES) {
            return Err(place.error(&check.operator_span, "there are too many regular expressions"));
        }
        let values = Values { check, field, given: values, place };
        Ok(Node::Check(Box::new(super::eval::Check { field, argument, test: values.test()? })))
    }

    /// Puts in the items of lists that are named, also within lists.
    fn expand(&mut self, words: &[Word], place: Place<'_>) -> Result<Vec<(String, Range<usize>)>, Diagnostic> {
        let mut values = Vec::with_capacity(words.len());
        for word in words {
            match self.names.lists.get(&word.text) {
                Some(items) if !word.quoted => {
                    if self.names.values.saturating_add(items.len()) > MAX_VALUES {
                        return Err(place.error(&word.span, TOO_MANY_VALUES));
                    }
                    self.names.values += items.len();
                    values.extend(items.iter().map(|item| (item.clone(), word.span.clone())));
                    self.names.used.insert(word.text.clone());
                }
                _ => values.push((word.text.clone(), word.span.clone())),
            }
        }
        match values.iter().find(|(value, _)| value.len() > MAX_VALUE_BYTES) {
            Some((_, span)) => Err(place.error(span, format!("the value is longer than {MAX_VALUE_BYTES} bytes"))),
            None => Ok(values),
        }
    }
}

/// The field of a name and its brackets; or what is wrong, and how to mend it.
pub(super) fn field(name: &str, brackets: Option<&str>) -> Result<(Field, Argument), (String, Option<String>)> {
    let Some(field) = Field::find(name) else {
        let help = nearest(name, Field::all().map(|field| field.info().name));
        return Err((format!("unknown field `{name}`"), help));
    };
    let number = brackets.map(str::parse::<u32>);
    match (field.info().brackets, number) {
        (Brackets::None, None) => Ok((field, Argument::None)),
        (Brackets::Index, Some(Ok(number))) => Ok((field, Argument::Index(number))),
        (Brackets::None, Some(_)) => Err((format!("the field `{name}` takes no brackets"), None)),
        _ => Err((format!("the field `{name}` needs a number in brackets, such as `{name}[1]`"), None)),
    }
}

/// The right side of a check.
struct Values<'a> {
    check: &'a Check,
    field: Field,
    given: Vec<(String, Range<usize>)>,
    place: Place<'a>,
}

impl Values<'_> {
    fn test(&self) -> Result<Test, Diagnostic> {
        let operator = self.check.operator;
        if operator == Operator::Exists {
            return Ok(Test::Exists);
        }
        match self.field.info().ty {
            Type::Text if self.field.info().name == "evt.type" => self.event_type(),
            Type::Text => self.text(),
            Type::TextList => self.text_list(),
            Type::Int | Type::Uint | Type::Time => self.number(),
            Type::Bool => self.truth(),
        }
    }

    fn wrong_operator(&self) -> Diagnostic {
        let info = self.field.info();
        let message = format!(
            "the operator `{}` cannot be used with `{}`, which is {}",
            self.check.operator.text(),
            info.name,
            info.ty.name()
        );
        self.place.error(&self.check.operator_span, message)
    }

    /// The only value.
    fn single(&self) -> Result<(&str, &Range<usize>), Diagnostic> {
        match self.given.as_slice() {
            [(value, span)] => Ok((value, span)),
            _ => Err(self.place.error(&self.check.operator_span, "one value is expected here, not a list")),
        }
    }

    fn event_type(&self) -> Result<Test, Diagnostic> {
        let mut types = EventTypes::NONE;
        for (name, span) in &self.given {
            let Some(event_type) = EventType::find(name) else {
                let help = nearest(name, EventType::NAMES.iter().copied())
                    .or_else(|| Some(format!("event types of this version: {}", EventType::NAMES.join(", "))));
                return Err(self.place.error(span, format!("unknown event type `{name}`")).help(help));
            };
            types.insert(event_type);
        }
        match self.check.operator {
            Operator::Eq | Operator::Assign | Operator::In => Ok(Test::EventType(types)),
            Operator::Ne => Ok(Test::EventType(types.complement())),
            _ => Err(self.wrong_operator()),
        }
    }

    fn text(&self) -> Result<Test, Diagnostic> {
        let many = || self.given.iter().map(|(value, _)| value.clone().into_bytes()).collect();
        let one = || self.single().map(|(value, _)| value.as_bytes().to_vec());
        Ok(match self.check.operator {
            Operator::Eq | Operator::Assign => Test::Equals(one()?),
            Operator::Ne => Test::Differs(one()?),
            Operator::Lt => Test::TextOrder(Comparison::Less, one()?),
            Operator::Le => Test::TextOrder(Comparison::LessOrEqual, one()?),
            Operator::Gt => Test::TextOrder(Comparison::Greater, one()?),
            Operator::Ge => Test::TextOrder(Comparison::GreaterOrEqual, one()?),
            Operator::Contains => Test::Contains(one()?),
            Operator::Icontains => Test::ContainsIgnoringCase(one()?.to_ascii_lowercase()),
            Operator::Startswith => Test::StartsWith(one()?),
            Operator::Endswith => Test::EndsWith(one()?),
            Operator::Glob => Test::Glob(one()?, false),
            Operator::Iglob => Test::Glob(one()?, true),
            Operator::Regex => Test::Regex(Box::new(self.regex()?)),
            Operator::In | Operator::Intersects => Test::In(many()),
            Operator::Pmatch => {
                Test::PathPrefix(self.given.iter().map(|(value, _)| super::eval::components(value)).collect())
            }
            Operator::Exists => Test::Exists,
        })
    }

    fn regex(&self) -> Result<regex::Regex, Diagnostic> {
        let (pattern, span) = self.single()?;
        // By itself first, so that it cannot close the group around it.
        compile_regex(pattern).and_then(|_| compile_regex(&format!("\\A(?:{pattern})\\z"))).map_err(|error| {
            let last = error.to_string();
            let reason = last.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            self.place.error(span, format!("not a regular expression: {reason}"))
        })
    }

    fn text_list(&self) -> Result<Test, Diagnostic> {
        let values: HashSet<_> = self.given.iter().map(|(value, _)| value.clone().into_bytes()).collect();
        match self.check.operator {
            Operator::In => Ok(Test::AllIn(values)),
            Operator::Intersects => Ok(Test::AnyIn(values)),
            _ => Err(self.wrong_operator()),
        }
    }

    fn number(&self) -> Result<Test, Diagnostic> {
        let mut numbers = Vec::with_capacity(self.given.len());
        for (value, span) in &self.given {
            let parsed = match value.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).ok().map(i128::from),
                None => value.parse::<i128>().ok(),
            };
            numbers.push(parsed.ok_or_else(|| self.place.error(span, format!("`{value}` is not a number")))?);
        }
        let comparison = match self.check.operator {
            Operator::In => return Ok(Test::NumberIn(numbers.into_iter().collect())),
            Operator::Eq | Operator::Assign => Comparison::Equal,
            Operator::Ne => Comparison::NotEqual,
            Operator::Lt => Comparison::Less,
            Operator::Le => Comparison::LessOrEqual,
            Operator::Gt => Comparison::Greater,
            Operator::Ge => Comparison::GreaterOrEqual,
            _ => return Err(self.wrong_operator()),
        };
        self.single()?;
        Ok(Test::Number(comparison, numbers.first().copied().unwrap_or(0)))
    }

    fn truth(&self) -> Result<Test, Diagnostic> {
        let (value, span) = self.single()?;
        let wanted = match value {
            "true" => true,
            "false" => false,
            _ => return Err(self.place.error(span, format!("`{value}` is neither true nor false"))),
        };
        match self.check.operator {
            Operator::Eq | Operator::Assign | Operator::In => Ok(Test::Truth(wanted)),
            Operator::Ne => Ok(Test::Truth(!wanted)),
            _ => Err(self.wrong_operator()),
        }
    }
}

/// The whole value must match, and a dot matches a line feed.
fn compile_regex(pattern: &str) -> Result<regex::Regex, regex::Error> {
    regex::RegexBuilder::new(pattern).dot_matches_new_line(true).size_limit(REGEX_BYTES).build()
}
