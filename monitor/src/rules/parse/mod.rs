//! From a condition's text to a tree, with the place of every part.
//!
//! Recursive descent over the text itself: what a bare word is depends on where it stands (`proc.name`, a macro, a value),
//! so there is no separate lexer. Grammar: Falco's, `not` binds tightest, then `and`, then `or`.

mod lexer;
mod vocabulary;

use std::ops::Range;

use lexer::{is_blank, is_blank_or_space, is_name};
use vocabulary::Operands;
pub(super) use vocabulary::{Operator, Quantifier, Transformer};

/// Nesting of a condition. Falco allows as much: it counts five levels for a parenthesis, and 1000.
const MAX_DEPTH: usize = 200;
/// Arguments of a transformer, and items of a list within one.
const MAX_ARGUMENTS: usize = 1000;

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expr {
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Macro(Word),
    Check(Check),
}

/// A comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) left: Term,
    pub(super) operator: Operator,
    pub(super) operator_span: Range<usize>,
    pub(super) quantifier: Option<Quantifier>,
    pub(super) right: Right,
}

/// What stands behind an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// Values: none for `exists`, one for most.
    Values(Vec<Word>),
    /// Another field: `val(…)` or a transformer.
    Term(Term),
}

/// Something that has a value for an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) kind: TermKind,
    pub(super) span: Range<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TermKind {
    /// A field and what stands in its brackets.
    Field { name: String, argument: Option<String> },
    /// A transformer with its arguments and what stands in brackets behind it.
    Call { transformer: Transformer, arguments: Vec<Term>, argument: Option<String> },
    /// A quoted text or a number.
    Text(String),
    /// A list.
    List(Vec<Term>),
}

/// A piece of text with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) span: Range<usize>,
}

/// What is wrong with a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) message: String,
    pub(super) help: Option<String>,
    pub(super) span: Range<usize>,
}

/// Parses a whole condition.
pub(super) fn parse(text: &str) -> Result<Expr, SyntaxError> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    let expr = parser.or()?;
    parser.blanks();
    match parser.rest().chars().next() {
        None => Ok(expr),
        Some(found) => {
            let help = (found == ',').then(|| "a list stands in parentheses: `in (a, b)`".to_owned());
            let error = parser.error(format!("unexpected `{found}`: expected `and`, `or` or the end of the condition"));
            Err(SyntaxError { help, ..error })
        }
    }
}

/// Parses a field or a transformer at the start of a text; returns where it ends.
pub(super) fn parse_term(text: &str) -> Result<(Term, usize), SyntaxError> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    let term = match parser.transformer(false) {
        Some(transformer) => parser.call(transformer, 0)?,
        None => parser.field()?,
    };
    Ok((term, parser.at))
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

type Parsed<T> = Result<T, SyntaxError>;

impl Parser<'_> {
    fn or(&mut self) -> Parsed<Expr> {
        self.chain("or", Self::and, Expr::Or)
    }

    fn and(&mut self) -> Parsed<Expr> {
        self.chain("and", Self::not, Expr::And)
    }

    fn chain(
        &mut self,
        keyword: &str,
        operand: fn(&mut Self) -> Parsed<Expr>,
        join: fn(Vec<Expr>) -> Expr,
    ) -> Parsed<Expr> {
        let mut all = vec![operand(self)?];
        while self.keyword(keyword) {
            all.push(operand(self)?);
        }
        Ok(match all.len() {
            1 => all.swap_remove(0),
            _ => join(all),
        })
    }

    fn not(&mut self) -> Parsed<Expr> {
        let mut negate = false;
        while self.keyword("not") {
            negate = !negate;
        }
        let expr = self.primary()?;
        Ok(if negate { Expr::Not(Box::new(expr)) } else { expr })
    }

    fn primary(&mut self) -> Parsed<Expr> {
        self.blanks();
        if self.rest().starts_with('(') {
            return self.parenthesized();
        }
        let start = self.at;
        if let Some(transformer) = self.transformer(false) {
            let left = self.call(transformer, start)?;
            return self.check(left);
        }
        if self.rest().starts_with("val(") {
            let message = "unexpected `val(…)`: it stands on the right side of an operator only; on the left name the field itself";
            return Err(self.error_at(start..start + 3, message));
        }
        let name = self.take(|c| is_name(c) || c == '.');
        if name.text.is_empty() {
            return Err(self.error(match self.rest().chars().next() {
                None if self.text.trim().is_empty() => "the condition is empty".to_owned(),
                None => "the condition ends where a field or a macro is expected".to_owned(),
                Some(found) => format!("expected a field, a macro or `(`, found `{found}`"),
            }));
        }
        if ["and", "or", "not", "in"].contains(&&*name.text) {
            return Err(self.error_at(name.span, format!("expected a field or a macro, found `{}`", name.text)));
        }
        if self.rest().starts_with('(') {
            let known: Vec<_> = Transformer::ALL.iter().map(|transformer| transformer.text()).collect();
            let message =
                format!("unexpected `(`: unknown transformer `{}`; known are: {}", name.text, known.join(", "));
            return Err(self.error_at(name.span, message));
        }
        if name.text.contains('.') {
            self.at = start;
            let left = self.field()?;
            return self.check(left);
        }
        if !name.text.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(self.error_at(name.span, format!("expected a field or a macro, found `{}`", name.text)));
        }
        Ok(Expr::Macro(name))
    }

    fn parenthesized(&mut self) -> Parsed<Expr> {
        let open = self.at;
        self.descend()?;
        self.at += 1;
        let expr = self.or()?;
        self.depth -= 1;
        self.blanks();
        if !self.token(")") {
            return Err(self.error_at(open..open + 1, "this parenthesis is not closed: a `)` is missing"));
        }
        Ok(expr)
    }

    fn descend(&mut self) -> Parsed<()> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(format!("the condition is nested deeper than {MAX_DEPTH} levels")));
        }
        self.depth += 1;
        Ok(())
    }

    /// A field's name, in segments that begin with a letter, and its brackets.
    fn field(&mut self) -> Parsed<Term> {
        let start = self.at;
        let mut end = start;
        loop {
            let segment = self.take(is_name);
            if !segment.text.starts_with(|c: char| c.is_ascii_alphabetic()) {
                break;
            }
            end = self.at;
            if !self.token(".") {
                break;
            }
        }
        self.at = end;
        let name = self.text.get(start..end).unwrap_or_default().to_owned();
        if !name.contains('.') {
            self.at = start;
            let found = self.take(|c| is_name(c) || c == '.');
            if found.text.is_empty() {
                return Err(self.error("expected a field, such as proc.name"));
            }
            let message = format!("unexpected `{}`: expected a field, such as proc.name", found.text);
            return Err(self.error_at(found.span, message));
        }
        let argument = self.brackets()?;
        Ok(Term { kind: TermKind::Field { name, argument }, span: start..self.at })
    }

    /// Takes the name of a transformer and its parenthesis.
    fn transformer(&mut self, with_val: bool) -> Option<Transformer> {
        let mut known = Transformer::ALL.iter().copied().filter(|t| with_val || *t != Transformer::Val);
        let found = known.find(|transformer| {
            self.rest().strip_prefix(transformer.text()).is_some_and(|rest| rest.starts_with('('))
        })?;
        self.at += found.text().len() + 1;
        Some(found)
    }

    /// The rest of a transformer whose parenthesis was taken.
    fn call(&mut self, transformer: Transformer, start: usize) -> Parsed<Term> {
        self.descend()?;
        let mut arguments = vec![self.call_argument(transformer)?];
        self.blanks();
        while self.token(",") {
            if arguments.len() == MAX_ARGUMENTS {
                return Err(self.error("a transformer with so many arguments"));
            }
            arguments.push(self.call_argument(transformer)?);
            self.blanks();
        }
        if !self.token(")") {
            return Err(self.error_at(
                start..start + transformer.text().len(),
                format!("expected `,` or `)` behind an argument of `{}`", transformer.text()),
            ));
        }
        self.depth -= 1;
        let argument = self.brackets()?;
        Ok(Term { kind: TermKind::Call { transformer, arguments, argument }, span: start..self.at })
    }

    fn call_argument(&mut self, of: Transformer) -> Parsed<Term> {
        self.blanks();
        let start = self.at;
        if !self.token("(") {
            return self.simple_argument(of);
        }
        let mut items = Vec::new();
        self.blanks();
        while !self.token(")") {
            if items.len() == MAX_ARGUMENTS {
                return Err(self.error("a list with so many items"));
            }
            if !items.is_empty() && !self.token(",") {
                return Err(self.error("expected `,` or `)`"));
            }
            self.blanks();
            items.push(self.simple_argument(of)?);
            self.blanks();
        }
        Ok(Term { kind: TermKind::List(items), span: start..self.at })
    }

    /// A field, a transformer, a quoted text or a number.
    fn simple_argument(&mut self, of: Transformer) -> Parsed<Term> {
        let start = self.at;
        if self.rest().starts_with(['"', '\'']) {
            let text = self.quoted()?;
            return Ok(Term { kind: TermKind::Text(text.text), span: text.span });
        }
        if let Some(number) = self.number() {
            return Ok(Term { kind: TermKind::Text(number.text), span: number.span });
        }
        match self.transformer(false) {
            Some(transformer) => self.call(transformer, start),
            None => self.field().map_err(|error| {
                let kinds = "a field, a transformer, a text in quotes, a number or a list";
                self.error_at(error.span, format!("expected an argument of `{}`: {kinds}", of.text()))
            }),
        }
    }

    fn check(&mut self, left: Term) -> Parsed<Expr> {
        self.blanks();
        let start = self.at;
        let operator = self.operator()?;
        let operator_span = start..self.at;
        // A blank must stand before it: `=oneof` compares with a word.
        let apart = operator.is_word() || self.rest().starts_with(is_blank);
        let quantifier = if operator.operands() == Operands::Text && apart { self.quantifier() } else { None };
        let right = match (operator.operands(), quantifier) {
            (Operands::Nothing, _) => Right::Values(Vec::new()),
            (_, Some(_)) => Right::Values(self.list()?),
            (operands, None) => match self.right_term()? {
                Some(term) => Right::Term(term),
                None if operands == Operands::List => Right::Values(self.list()?),
                None if operands == Operands::Number => Right::Values(vec![self.expect_number()?]),
                None => Right::Values(vec![self.value()?]),
            },
        };
        Ok(Expr::Check(Check { left, operator, operator_span, quantifier, right }))
    }

    fn brackets(&mut self) -> Parsed<Option<String>> {
        let open = self.at;
        if !self.token("[") {
            return Ok(None);
        }
        let argument = if self.rest().starts_with(['"', '\'']) {
            self.quoted().map_err(|error| {
                let message = format!("expected an argument in these brackets: {}", error.message);
                SyntaxError { message, ..error }
            })?
        } else {
            self.take(|c| !is_blank(c) && !"[]\"'".contains(c))
        };
        if argument.text.is_empty() {
            return Err(self.error_at(open..self.at, "these brackets are empty: expected an argument"));
        }
        if !self.token("]") {
            return Err(self.error_at(open..open + 1, "this bracket is not closed: a `]` is missing"));
        }
        Ok(Some(argument.text))
    }

    fn operator(&mut self) -> Parsed<Operator> {
        for operator in Operator::ALL.iter().copied() {
            let Some(rest) = self.rest().strip_prefix(operator.text()) else { continue };
            let is_word = operator.is_word();
            let needs_blank = operator.operands() == Operands::Text;
            if !is_word || (if needs_blank { rest.starts_with(is_blank) } else { !rest.starts_with(is_name) }) {
                self.at += operator.text().len();
                return Ok(operator);
            }
        }
        let start = self.at;
        let word = self.take(|c| is_name(c) || "<>=!~".contains(c));
        let names: Vec<_> = Operator::ALL.iter().map(|operator| operator.text()).collect();
        let known = names.join(" ");
        self.at = start;
        if word.text.is_empty() || ["and", "or"].contains(&&*word.text) {
            return Err(self.error(format!("expected an operator behind the field, one of: {known}")));
        }
        if names.contains(&&*word.text) {
            let message = format!("the operator `{}` needs a blank and a value behind it", word.text);
            return Err(self.error_at(word.span, message));
        }
        let help = super::diagnostic::nearest(&word.text, names.iter().copied());
        let error = self.error_at(word.span, format!("unknown operator `{}`; known are: {known}", word.text));
        Err(SyntaxError { help, ..error })
    }

    /// Takes `oneof`, `anyof` or `allof`, if a list follows; else it is a value.
    fn quantifier(&mut self) -> Option<Quantifier> {
        let start = self.at;
        self.blanks();
        for quantifier in Quantifier::ALL.iter().copied() {
            let Some(rest) = self.rest().strip_prefix(quantifier.text()) else { continue };
            let value = rest.trim_start_matches(is_blank);
            let word = value.split(|c| !is_name(c)).next().unwrap_or_default();
            let is_identifier = word.starts_with(|c: char| c.is_ascii_alphabetic());
            let is_keyword = ["and", "or", "not"].contains(&word);
            if value.len() < rest.len() && (value.starts_with('(') || is_identifier && !is_keyword) {
                self.at += quantifier.text().len();
                return Some(quantifier);
            }
        }
        self.at = start;
        None
    }

    /// `val(field)` or a transformer.
    fn right_term(&mut self) -> Parsed<Option<Term>> {
        self.blanks();
        let start = self.at;
        match self.transformer(true) {
            None => Ok(None),
            Some(transformer) => {
                let term = self.call(transformer, start)?;
                if let TermKind::Call { transformer: Transformer::Val, arguments, argument } = &term.kind {
                    let is_field = matches!(arguments.as_slice(), [Term { kind: TermKind::Field { .. }, .. }]);
                    if !is_field || argument.is_some() {
                        return Err(self.error_at(term.span, "`val(…)` takes one field"));
                    }
                }
                Ok(Some(term))
            }
        }
    }

    fn expect_number(&mut self) -> Parsed<Word> {
        self.blanks();
        self.number().ok_or_else(|| {
            let names: Vec<_> = Transformer::ALL.iter().map(|transformer| transformer.text()).collect();
            self.error(format!("expected a number, or a field with a transformer: {}", names.join(", ")))
        })
    }

    fn value(&mut self) -> Parsed<Word> {
        self.blanks();
        if self.rest().starts_with(['"', '\'']) {
            return self.quoted();
        }
        let word = self.take(|c| !is_blank_or_space(c) && !"()\"'=,".contains(c));
        if word.text.is_empty() {
            return Err(self.error("expected a value: a word, or a string in quotes"));
        }
        Ok(word)
    }

    /// `(a, b)`, or one word.
    fn list(&mut self) -> Parsed<Vec<Word>> {
        self.blanks();
        let open = self.at;
        if !self.token("(") {
            let word = self.take(is_name);
            if !word.text.starts_with(|c: char| c.is_ascii_alphabetic()) {
                self.at = open;
                return Err(self.error("expected a list in parentheses, the name of a list, or `val(…)`"));
            }
            return Ok(vec![word]);
        }
        let mut values = Vec::new();
        self.blanks();
        while !self.token(")") {
            if self.rest().is_empty() {
                return Err(self.error_at(open..open + 1, "this list is not closed: a `)` is missing"));
            }
            if values.is_empty() && self.rest().starts_with(',') {
                return Err(self.error("expected a value or `)`"));
            }
            if !values.is_empty() && !self.token(",") {
                return Err(self.error("expected `,` or `)` behind a value of this list"));
            }
            values.push(self.value()?);
            self.blanks();
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The tree as text with every parenthesis.
    fn show(expr: &Expr) -> String {
        let join = |all: &[Expr], word: &str| format!("({})", all.iter().map(show).collect::<Vec<_>>().join(word));
        match expr {
            Expr::And(all) => join(all, " and "),
            Expr::Or(all) => join(all, " or "),
            Expr::Not(one) => format!("not {}", show(one)),
            Expr::Macro(name) => name.text.clone(),
            Expr::Check(check) => {
                let right = match &check.right {
                    Right::Values(values) => values.iter().map(|value| &*value.text).collect::<Vec<_>>().join("|"),
                    Right::Term(term) => show_term(term),
                };
                let quantifier = check.quantifier.map_or(String::new(), |q| format!("{} ", q.text()));
                format!("{} {} {quantifier}{right}", show_term(&check.left), check.operator.text()).trim().to_owned()
            }
        }
    }

    fn show_term(term: &Term) -> String {
        let behind = |argument: &Option<String>| argument.as_ref().map(|a| format!("[{a}]")).unwrap_or_default();
        let all = |terms: &[Term]| terms.iter().map(show_term).collect::<Vec<_>>().join(",");
        match &term.kind {
            TermKind::Field { name, argument } => format!("{name}{}", behind(argument)),
            TermKind::Text(text) => format!("'{text}'"),
            TermKind::List(items) => format!("[{}]", all(items)),
            TermKind::Call { transformer, arguments, argument } => {
                format!("{}({}){}", transformer.text(), all(arguments), behind(argument))
            }
        }
    }

    fn parsed(text: &str) -> String {
        show(&parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}")))
    }

    #[test]
    fn not_binds_tightest_then_and_then_or() {
        assert_eq!(parsed("a or b and not c"), "(a or (b and not c))");
        assert_eq!(parsed("not (a or b) and c"), "(not (a or b) and c)");
        assert_eq!(parsed("not not a"), "a");
        assert_eq!(parsed("android and order"), "(android and order)", "keywords stand alone");
    }

    #[test]
    fn checks_take_words_strings_and_lists() {
        assert_eq!(parsed("proc.name=sh"), "proc.name = sh");
        assert_eq!(parsed("proc.aname[2] in (a, \"b c\",'d')"), "proc.aname[2] in a|b c|d");
        assert_eq!(parsed("proc.name in shells"), "proc.name in shells");
        assert_eq!(parsed("proc.name in ()"), "proc.name in");
        assert_eq!(parsed("fd.name exists and a"), "(fd.name exists and a)");
        assert_eq!(parsed("evt.num >= 5"), "evt.num >= 5");
        assert_eq!(parsed(r#"proc.args contains "a\"b\/\\""#), "proc.args contains a\"b/\\");
        assert_eq!(parsed("tolower(proc.name)=val(proc.pname)"), "tolower(proc.name) = val(proc.pname)");
        assert_eq!(parsed("join(',', (proc.name, \"x\", 3)) = a"), "join(',',[proc.name,'x','3']) = a");
        assert_eq!(parsed("getopt(proc.args, \"a:\")[a] exists"), "getopt(proc.args,'a:')[a] exists");
        assert_eq!(parsed("proc.name startswith oneof (a, b)"), "proc.name startswith oneof a|b");
        assert_eq!(parsed("proc.name = oneof and a"), "(proc.name = oneof and a)", "or it is a value");
    }

    #[test]
    fn errors_say_where() {
        for (text, at, part) in [
            ("proc.name = ", 12, "expected a value"),
            ("proc.name like x", 10, "unknown operator `like`"),
            ("a and", 5, "ends where"),
            ("(a or b", 0, "not closed"),
            ("proc.name = \"x", 12, "not closed"),
            ("a b", 2, "expected `and`"),
            ("val(proc.name) = x", 0, "right side"),
            ("lower(proc.name) = x", 0, "unknown transformer"),
            ("proc.pid > x", 11, "expected a number"),
            ("proc.name in (a b)", 16, "expected `,`"),
            ("proc.name in a, b", 14, "expected `and`"),
            ("proc.name in (a, b", 13, "not closed"),
            ("proc.name = \"\\q\"", 13, "escape"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.span.start, at, "{text}: {error:?}");
            assert!(error.message.contains(part), "{text}: {error:?}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_not_a_crash() {
        let text = format!("{}a{}", "(".repeat(100_000), ")".repeat(100_000));
        assert!(parse(&text).unwrap_err().message.contains("deeper"));
        assert_eq!(parsed(&"not ".repeat(100_000).chars().chain("a".chars()).collect::<String>()), "a");
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,80}") {
            let _ = parse(&text);
        }

        #[test]
        fn pieces_of_conditions_never_panic(pieces in proptest::collection::vec(
            prop::sample::select(vec!["proc.name", "in", "(", ")", ",", "=", "\"", "and", "not", "or", "x", "[", "]", " ", "\\"]), 0..40)) {
            let _ = parse(&pieces.join(""));
            let _ = parse(&pieces.join(" "));
        }
    }
}
