//! From collected definitions to conditions in which everything is resolved: lists put in, macros put in, fields looked up,
//! values read as the field's type.

use std::{ops::Range, sync::Arc};

use hashbrown::{HashMap, HashSet};

use super::{
    collect::{Collection, List, Macro},
    condition::{Check, Constant, Expr, Right},
    constant,
    diagnostic::{Code, Diagnostic, nearest},
    engine::Matcher,
    exception::quoted,
    operand::Operand,
    parse::{self, Operator, Word},
    resolve::{self, Supply, Wrong},
    text::Composed,
};
use crate::event::{EventType, field::Field, value::Class};

/// Macros within macros.
const MAX_MACRO_DEPTH: usize = 64;
/// Nodes of one resolved condition, and of all: against macros that double each other.
const MAX_NODES: usize = 200_000;
const MAX_ALL_NODES: usize = 2_000_000;
/// Values in all conditions: against long lists in many conditions.
const MAX_VALUES: usize = 2_000_000;
/// Bytes that lists bring into all conditions.
const MAX_LIST_BYTES: usize = 64 << 20;
/// Depth of one resolved condition: it is walked by recursion.
const MAX_DEPTH: usize = 400;
/// How many values a regular expression counts for: compiling a large one takes some milliseconds.
const REGEX_VALUES: usize = 1000;

/// What came of compiling a condition: it, or why not; and what is odd about it.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) expr: Option<Expr>,
    pub(super) errors: Vec<Error>,
    pub(super) warnings: Vec<Diagnostic>,
}

/// An error of a condition.
#[derive(Clone, Debug)]
pub(super) struct Error {
    pub(super) diagnostic: Diagnostic,
    /// It names what other versions may know.
    pub(super) unknown: bool,
}

/// Compiles conditions against the lists and macros of a collection.
pub(super) struct Compiler<'a> {
    collection: &'a Collection,
    supply: Supply,
    /// Text that a list's name stands for.
    lists: HashMap<&'a str, String>,
    macros: HashMap<&'a str, Compiled>,
    /// Macros that are being compiled.
    within: Vec<&'a str>,
    /// Names of lists and macros that were used.
    pub(super) used_lists: HashSet<&'a str>,
    pub(super) used_macros: HashSet<&'a str>,
    values: usize,
    list_bytes: usize,
    nodes: usize,
    /// Nodes that are being compiled, one within the other, through macros.
    recursion: usize,
}

/// A macro that was compiled.
#[derive(Clone)]
struct Compiled {
    outcome: Arc<Outcome>,
    nodes: usize,
    depth: usize,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(collection: &'a Collection, supply: Supply) -> Self {
        let mut used_lists = HashSet::new();
        let (lists, bytes) = list_texts(collection, &mut used_lists);
        Self {
            collection,
            supply,
            lists,
            macros: HashMap::new(),
            within: Vec::new(),
            used_lists,
            used_macros: HashSet::new(),
            values: 0,
            // Lists that are too long by themselves leave no room for any.
            list_bytes: if bytes > MAX_LIST_BYTES { bytes } else { 0 },
            nodes: 0,
            recursion: 0,
        }
    }

    /// Checks macros that no rule needs to be right: those that parse, and name macros that are there.
    pub(super) fn check_macros(&mut self) -> Vec<Diagnostic> {
        let mut problems = Vec::new();
        for definition in self.collection.macros.iter() {
            match self.parse(&definition.condition) {
                Err(problem) => problems.push(problem),
                Ok((expr, text)) => self.check_names(&expr, &text, definition, &mut problems),
            }
        }
        problems
    }

    fn check_names(&mut self, expr: &parse::Expr, text: &Composed, user: &Macro, problems: &mut Vec<Diagnostic>) {
        match expr {
            parse::Expr::And(exprs) | parse::Expr::Or(exprs) => {
                for expr in exprs {
                    self.check_names(expr, text, user, problems);
                }
            }
            parse::Expr::Not(expr) => self.check_names(expr, text, user, problems),
            parse::Expr::Check(_) => {}
            parse::Expr::Macro(name) => match self.visible(name, Some(user)) {
                Some(definition) => {
                    self.used_macros.insert(&definition.name.text);
                }
                None => problems.push(self.undefined(name, text)),
            },
        }
    }

    /// The macro of a name, if who uses it can see it: macros see what comes before them, rules see all.
    fn visible(&self, name: &Word, user: Option<&Macro>) -> Option<&'a Macro> {
        let definition = self.collection.macros.get(&name.text)?;
        user.is_none_or(|user| user.age.sees(definition.age)).then_some(definition)
    }

    fn undefined(&self, name: &Word, text: &Composed) -> Diagnostic {
        let later = self.collection.macros.get(&name.text).is_some();
        let help = if later {
            Some(format!("`{}` is defined further down; a macro can use those before it", name.text))
        } else {
            nearest(&name.text, self.collection.macros.names())
        };
        text.problem(Code::Validate, &name.span, format!("Undefined macro '{}' used in filter.", name.text)).help(help)
    }

    /// Puts in lists and parses; the text with the lists in it is what the tree's places are about.
    fn parse<'t>(
        &mut self,
        condition: &'t Composed,
    ) -> Result<(parse::Expr, std::borrow::Cow<'t, Composed>), Diagnostic> {
        let Self { lists, used_lists, list_bytes, .. } = self;
        let mut too_long = false;
        let text = condition.with_lists(&mut |name| {
            let (name, text) = lists.get_key_value(name)?;
            *list_bytes += text.len();
            too_long |= *list_bytes > MAX_LIST_BYTES;
            used_lists.insert(*name);
            (!too_long).then_some(text)
        });
        if too_long {
            return Err(condition.problem(Code::Validate, &(0..1), "there are too many values, with all lists put in"));
        }
        match parse::parse(text.as_str()) {
            Ok(expr) => Ok((expr, text)),
            Err(error) => Err(text.problem(Code::CompileCondition, &error.span, error.message).help(error.help)),
        }
    }

    /// Compiles a rule's condition.
    pub(super) fn compile(&mut self, condition: &Composed) -> Outcome {
        let (outcome, _, _) = self.condition(condition, None);
        outcome
    }

    fn condition(&mut self, condition: &Composed, user: Option<&'a Macro>) -> (Outcome, usize, usize) {
        match self.parse(condition) {
            Ok((expr, text)) => {
                let mut body = Body {
                    compiler: self,
                    text: &text,
                    user,
                    outcome: Outcome::default(),
                    nodes: 0,
                    depth: 0,
                    deepest: 0,
                };
                let expr = body.expr(&expr);
                let Body { mut outcome, nodes, deepest, .. } = body;
                outcome.expr = expr.filter(|_| outcome.errors.is_empty());
                (outcome, nodes, deepest)
            }
            Err(diagnostic) => {
                (Outcome { errors: vec![Error { diagnostic, unknown: false }], ..Outcome::default() }, 0, 0)
            }
        }
    }

    /// A macro, compiled when it is first needed.
    fn macro_(&mut self, definition: &'a Macro) -> Compiled {
        let name = &*definition.name.text;
        if let Some(compiled) = self.macros.get(name) {
            return compiled.clone();
        }
        self.within.push(name);
        let (outcome, nodes, depth) = self.condition(&definition.condition, Some(definition));
        self.within.pop();
        let compiled = Compiled { outcome: Arc::new(outcome), nodes, depth };
        self.macros.insert(name, compiled.clone());
        compiled
    }
}

/// Texts of all lists: items that name an earlier list are replaced by its items, as they are written there; items that name
/// a later one, by what that one stands for.
/// Ends when they are too long together; returns how long.
fn list_texts<'a>(collection: &'a Collection, used: &mut HashSet<&'a str>) -> (HashMap<&'a str, String>, usize) {
    let mut texts: HashMap<&str, String> = HashMap::new();
    let all: Vec<&List> = collection.lists.iter().collect();
    let mut bytes = 0;
    for (at, list) in all.iter().enumerate().rev() {
        let mut text = String::new();
        let mut push = |item: &str| {
            if item.is_empty() || bytes > MAX_LIST_BYTES {
                return;
            }
            let separator = if text.is_empty() { "" } else { ", " };
            bytes += separator.len() + item.len();
            text.push_str(separator);
            text.push_str(item);
        };
        for item in &list.items {
            match collection.lists.get(item) {
                Some(inner) if list.age.sees(inner.age) && inner.name.text != list.name.text => {
                    used.insert(&inner.name.text);
                    inner.items.iter().for_each(|item| push(&quoted(item)));
                }
                Some(inner) if collection.lists.position(item).is_some_and(|position| position > at) => {
                    used.insert(&inner.name.text);
                    push(texts.get(&*inner.name.text).map_or("", String::as_str));
                }
                _ => push(&quoted(item)),
            }
        }
        texts.insert(&list.name.text, text);
    }
    (texts, bytes)
}

/// A condition that is being compiled.
struct Body<'c, 'a> {
    compiler: &'c mut Compiler<'a>,
    text: &'c Composed,
    user: Option<&'a Macro>,
    outcome: Outcome,
    nodes: usize,
    depth: usize,
    deepest: usize,
}

impl Body<'_, '_> {
    fn problem(&mut self, wrong: Wrong) {
        let diagnostic = self.text.problem(Code::CompileCondition, &wrong.span, wrong.message).help(wrong.help);
        self.outcome.errors.push(Error { diagnostic, unknown: wrong.unknown });
    }

    fn warn(&mut self, code: Code, span: &Range<usize>, message: impl Into<String>) {
        let warning = self.text.problem(code, span, message);
        if !self.outcome.warnings.contains(&warning) {
            self.outcome.warnings.push(warning);
        }
    }

    /// Whether there is room for so many nodes more, so deep.
    fn take_room(&mut self, nodes: usize, depth: usize, span: &Range<usize>) -> bool {
        self.nodes += nodes;
        self.compiler.nodes += nodes;
        self.deepest = self.deepest.max(self.depth + depth);
        let message = if self.nodes > MAX_NODES || self.compiler.nodes > MAX_ALL_NODES {
            "the condition is too large with its macros put in"
        } else if self.deepest > MAX_DEPTH || self.compiler.recursion > MAX_DEPTH {
            "the condition is nested too deeply with its macros put in"
        } else {
            return true;
        };
        if self.outcome.errors.is_empty() {
            self.problem(Wrong::new(span, message));
        }
        false
    }

    fn expr(&mut self, expr: &parse::Expr) -> Option<Expr> {
        if !self.take_room(1, 1, &(0..1)) {
            return None;
        }
        self.depth += 1;
        self.compiler.recursion += 1;
        let compiled = match expr {
            parse::Expr::And(exprs) => self.all(exprs).map(Expr::And),
            parse::Expr::Or(exprs) => self.all(exprs).map(Expr::Or),
            parse::Expr::Not(expr) => self.expr(expr).map(|expr| Expr::Not(Box::new(expr))),
            parse::Expr::Macro(name) => self.macro_(name),
            parse::Expr::Check(check) => match self.check(check) {
                Ok(check) => Some(Expr::Check(Arc::new(check))),
                Err(wrong) => {
                    self.problem(wrong);
                    None
                }
            },
        };
        self.depth -= 1;
        self.compiler.recursion -= 1;
        compiled
    }

    /// All of them, so that what is wrong with each is told.
    fn all(&mut self, exprs: &[parse::Expr]) -> Option<Vec<Expr>> {
        let compiled: Vec<_> = exprs.iter().map(|expr| self.expr(expr)).collect();
        compiled.into_iter().collect()
    }

    fn macro_(&mut self, name: &Word) -> Option<Expr> {
        let Some(definition) = self.compiler.visible(name, self.user) else {
            let diagnostic = self.compiler.undefined(name, self.text);
            self.outcome.errors.push(Error { diagnostic, unknown: false });
            return None;
        };
        self.compiler.used_macros.insert(&definition.name.text);
        if self.compiler.within.contains(&&*definition.name.text) || self.compiler.within.len() == MAX_MACRO_DEPTH {
            let message = format!("the macro `{}` contains itself", name.text);
            let diagnostic = self.text.problem(Code::Validate, &name.span, message);
            self.outcome.errors.push(Error { diagnostic, unknown: false });
            return None;
        }
        let compiled = self.compiler.macro_(definition);
        self.outcome.errors.extend(compiled.outcome.errors.iter().cloned());
        self.outcome.warnings.extend(compiled.outcome.warnings.iter().cloned());
        if !self.take_room(compiled.nodes, compiled.depth, &name.span) {
            return None;
        }
        compiled.outcome.expr.clone()
    }

    fn check(&mut self, check: &parse::Check) -> Result<Check, Wrong> {
        self.warn_unsafe(check);
        let left = resolve::operand(&check.left, self.compiler.supply)?;
        check_for_conditions(&left, &check.left.span)?;
        self.warn_deprecated(&left, &check.left.span);
        let compared = Compared { left: &left, check };
        compared.check_operator()?;
        let right = match &check.right {
            parse::Right::Values(words) => Right::Constants(self.constants(&compared, words)?),
            parse::Right::Term(term) => {
                let right = resolve::operand(term, self.compiler.supply)?;
                check_for_conditions(&right, &term.span)?;
                compared.check_fields(&right, &term.span)?;
                self.warn_deprecated(&right, &term.span);
                Right::Operand(right)
            }
        };
        let compiled = Check { left, operator: check.operator, quantifier: check.quantifier, right }
            .compared_as_falco()
            .map_err(|reason| Wrong::new(&check.operator_span, reason))?;
        if check.operator == Operator::Regex {
            self.compiler.values += REGEX_VALUES;
            // A pattern that cannot be compiled is told here, where its place is known.
            Matcher::new(&compiled).map_err(|reason| Wrong::new(&check.operator_span, reason))?;
        }
        Ok(compiled)
    }

    /// Fields of plugins say `<NA>` where they have no value, and only they.
    fn warn_unsafe(&mut self, check: &parse::Check) {
        use Operator as O;
        let (parse::TermKind::Field { name, .. }, parse::Right::Values(words)) = (&check.left.kind, &check.right)
        else {
            return;
        };
        let equality = matches!(check.operator, O::Eq | O::Assign | O::Ne | O::In | O::Intersects | O::Pmatch);
        let unsafe_field = name.starts_with("ka.") || name.starts_with("jevt.");
        if let Some(word) = words.iter().find(|word| word.text == "<NA>").filter(|_| equality && unsafe_field) {
            self.warn(
                Code::UnsafeNaCheck,
                &word.span,
                "comparing a field with <NA> is unsafe: it may have no value instead",
            );
        }
    }

    fn warn_deprecated(&mut self, operand: &Operand, span: &Range<usize>) {
        let mut deprecated = Vec::new();
        operand.fields(&mut |field: Field, _| {
            if field.info().is_deprecated() {
                deprecated.push(field.info().name);
            }
        });
        for name in deprecated {
            self.warn(Code::DeprecatedItem, span, format!("usage of deprecated field '{name}'"));
        }
    }

    fn constants(&mut self, compared: &Compared<'_>, words: &[Word]) -> Result<Vec<Constant>, Wrong> {
        self.compiler.values += words.len();
        if self.compiler.values > MAX_VALUES {
            let message = "there are too many values, or regular expressions, with all lists put in";
            return Err(Wrong::new(&compared.check.operator_span, message));
        }
        let mut constants = Vec::with_capacity(words.len());
        for word in words {
            constants.push(compared.constant(word)?);
            self.warn_value(compared.check.operator, word);
        }
        Ok(constants)
    }

    /// Values that look as if something else had been meant.
    fn warn_value(&mut self, operator: Operator, word: &Word) {
        let plain: String = word.text.chars().filter(|c| !c.is_whitespace()).collect();
        if operator == Operator::Regex && is_plain_regex(&word.text) {
            let message = format!(
                "regex check with '{}' may be optimized with simpler operators such as '=', 'contains', 'startswith', 'endswith'",
                word.text
            );
            self.warn(Code::Condition, &word.span, message);
        }
        if plain.contains('.') && Field::find(&plain).is_some() {
            let message = format!("'{}' may be a valid field misused as a const string value", word.text);
            self.warn(Code::Condition, &word.span, message);
        }
        if plain.ends_with(')') {
            let is_call =
                |t: &&parse::Transformer| plain.strip_prefix(t.text()).is_some_and(|rest| rest.starts_with('('));
            if parse::Transformer::ALL.iter().any(|transformer| is_call(&transformer)) {
                let message =
                    format!("'{}' may be a valid field transformer misused as a const string value", word.text);
                self.warn(Code::Condition, &word.span, message);
            }
        }
    }
}

fn check_for_conditions(operand: &Operand, span: &Range<usize>) -> Result<(), Wrong> {
    let mut print_only = None;
    operand.fields(&mut |field, _| {
        if field.info().is_print_only() {
            print_only = Some(field.info().name);
        }
    });
    match print_only {
        None => Ok(()),
        Some(name) => Err(Wrong::new(span, format!("the field `{name}` can stand in outputs only"))),
    }
}

/// Whether a regular expression could be said with simpler operators: nothing special in it but anchors and `.*` at its ends.
fn is_plain_regex(pattern: &str) -> bool {
    let mut inner = pattern.strip_prefix('^').unwrap_or(pattern);
    inner = inner.strip_suffix('$').unwrap_or(inner);
    for repeated in [".*", ".+", ".?"] {
        inner = inner.strip_prefix(repeated).unwrap_or(inner);
        inner = inner.strip_suffix(repeated).unwrap_or(inner);
    }
    !inner.contains(|c| ".+*?^$()[]{}|\\".contains(c))
}

/// A comparison whose left side is resolved.
struct Compared<'c> {
    left: &'c Operand,
    check: &'c parse::Check,
}

impl Compared<'_> {
    /// Whether the operator fits the type: Falco's table.
    fn check_operator(&self) -> Result<(), Wrong> {
        use Operator as O;
        let operator = self.check.operator;
        let fits = match (self.left.is_list(), self.left.ty().class()) {
            _ if operator == O::Exists => true,
            (true, _) => matches!(operator, O::In | O::Intersects) && self.check.quantifier.is_none(),
            (false, Class::Text) => !matches!(operator, O::Bcontains | O::Bstartswith),
            (false, Class::Bytes) => matches!(
                operator,
                O::Eq
                    | O::Assign
                    | O::Ne
                    | O::Contains
                    | O::In
                    | O::Startswith
                    | O::Endswith
                    | O::Intersects
                    | O::Bcontains
                    | O::Bstartswith
            ),
            (false, Class::Number) => {
                matches!(operator, O::Eq | O::Assign | O::Ne | O::Lt | O::Le | O::Gt | O::Ge | O::In | O::Intersects)
            }
            (false, Class::Bool | Class::Ip | Class::Net) => {
                matches!(operator, O::Eq | O::Assign | O::Ne | O::In | O::Intersects)
            }
        };
        if fits {
            return Ok(());
        }
        let list = if self.left.is_list() { "a list of " } else { "" };
        let message = format!(
            "the operator `{}` cannot be used with `{}`, which is {list}{}",
            operator.text(),
            self.left,
            self.left.ty().name()
        );
        Err(Wrong::new(&self.check.operator_span, message))
    }

    /// Whether the left side can be compared with this field.
    fn check_fields(&self, right: &Operand, span: &Range<usize>) -> Result<(), Wrong> {
        let operator = self.check.operator;
        if matches!(operator, Operator::Pmatch | Operator::Regex) {
            let message = format!("the operator `{}` takes no field on its right side", operator.text());
            return Err(Wrong::new(&self.check.operator_span, message));
        }
        if self.left.is_field("evt.type") || self.left.is_field("syscall.type") {
            return Err(Wrong::new(span, format!("`{}` cannot be compared with a field", self.left)));
        }
        for (operand, span, what) in [
            (self.left, &self.check.left.span, "cannot be compared with another field"),
            (right, span, "can't be used as a right-hand side field"),
        ] {
            let mut refused = false;
            operand.fields(&mut |field, _| refused |= !field.info().takes_fields());
            if refused || operand.ty().class() == Class::Net {
                return Err(Wrong::new(span, format!("the field `{operand}` {what}")));
            }
        }
        if self.left.ty() != right.ty() || self.left.is_list() != right.is_list() {
            let name = |operand: &Operand| {
                format!("`{operand}` is {}{}", if operand.is_list() { "a list of " } else { "" }, operand.ty().name())
            };
            let message = format!("these cannot be compared: {}, and {}", name(self.left), name(right));
            return Err(Wrong::new(span, message));
        }
        Ok(())
    }

    fn constant(&self, word: &Word) -> Result<Constant, Wrong> {
        let operator = self.check.operator;
        let is_type = self.left.is_field("evt.type") || self.left.is_field("syscall.type");
        if is_type && EventType::find(&word.text).is_none() {
            let names = EventType::all().map(EventType::name);
            let message = format!("unknown event type `{}`", word.text);
            return Err(Wrong::unknown(&word.span, message, nearest(&word.text, names)));
        }
        constant::read(&word.text, self.left.ty(), operator).map_err(|reason| Wrong::new(&word.span, reason))
    }
}
