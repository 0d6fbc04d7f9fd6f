//! From a condition's text to a tree, with the place of every part.
//!
//! Recursive descent over the text itself: what a bare word is depends on where it stands (`proc.name`, a macro, a value),
//! so there is no separate lexer. Grammar: Falco's, `not` binds tightest, then `and`, then `or`.

use std::ops::Range;

/// Nesting of a condition.
const MAX_DEPTH: usize = 200;

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expr {
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Macro(Word),
    Check(Check),
}

/// A comparison of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) field: Word,
    /// What stands in brackets.
    pub(super) argument: Option<Word>,
    pub(super) operator: Operator,
    pub(super) operator_span: Range<usize>,
    pub(super) values: Vec<Word>,
}

/// A piece of text with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) span: Range<usize>,
    /// In quotes: never the name of a list.
    pub(super) quoted: bool,
}

macro_rules! operators {
    ($($name:ident = $text:literal, $kind:ident;)*) => {
        /// What is done with the value.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Operator { $(#[doc = $text] $name),* }

        impl Operator {
            /// In the order in which they are tried: the longer of two that begin alike comes first.
            const ALL: &'static [(&'static str, Operator, Operands)] = &[$(($text, Operator::$name, Operands::$kind)),*];

            pub(super) fn text(self) -> &'static str {
                match self { $(Operator::$name => $text),* }
            }
        }
    };
}

/// What follows an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operands {
    Nothing,
    Value,
    List,
}

operators! {
    Eq = "==", Value;
    Ne = "!=", Value;
    Le = "<=", Value;
    Ge = ">=", Value;
    Assign = "=", Value;
    Lt = "<", Value;
    Gt = ">", Value;
    Icontains = "icontains", Value;
    Contains = "contains", Value;
    Startswith = "startswith", Value;
    Endswith = "endswith", Value;
    Iglob = "iglob", Value;
    Glob = "glob", Value;
    Regex = "regex", Value;
    Intersects = "intersects", List;
    In = "in", List;
    Pmatch = "pmatch", List;
    Exists = "exists", Nothing;
}

/// Operators of the Falco language that this version does not know, so that the error can say so.
const NOT_YET: &[&str] = &["bcontains", "bstartswith", "oneof", "anyof", "allof"];

/// What is wrong with a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) message: String,
    pub(super) span: Range<usize>,
}

/// Parses a whole condition.
pub(super) fn parse(text: &str) -> Result<Expr, SyntaxError> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    let expr = parser.or()?;
    parser.blanks();
    if parser.at < text.len() {
        let found = parser.rest().chars().next().unwrap_or(' ');
        return Err(parser.error(format!("expected `and`, `or` or the end of the condition, found `{found}`")));
    }
    Ok(expr)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{8}']).len();
    }

    fn error(&self, message: impl Into<String>) -> SyntaxError {
        let len = self.rest().chars().next().map_or(0, char::len_utf8);
        SyntaxError { message: message.into(), span: self.at..self.at + len }
    }

    fn or(&mut self) -> Result<Expr, SyntaxError> {
        self.chain("or", Self::and, Expr::Or)
    }

    fn and(&mut self) -> Result<Expr, SyntaxError> {
        self.chain("and", Self::not, Expr::And)
    }

    fn chain(
        &mut self,
        keyword: &str,
        operand: fn(&mut Self) -> Result<Expr, SyntaxError>,
        join: fn(Vec<Expr>) -> Expr,
    ) -> Result<Expr, SyntaxError> {
        let first = operand(self)?;
        let mut all = vec![first];
        while self.keyword(keyword) {
            all.push(operand(self)?);
        }
        Ok(match all.len() {
            1 => all.swap_remove(0),
            _ => join(all),
        })
    }

    /// Takes a keyword, if it stands alone.
    fn keyword(&mut self, keyword: &str) -> bool {
        self.blanks();
        let follows = self.rest().strip_prefix(keyword);
        let taken = follows.is_some_and(|rest| !rest.starts_with(is_name));
        if taken {
            self.at += keyword.len();
        }
        taken
    }

    fn not(&mut self) -> Result<Expr, SyntaxError> {
        let mut negate = false;
        while self.keyword("not") {
            negate = !negate;
        }
        let expr = self.primary()?;
        Ok(if negate { Expr::Not(Box::new(expr)) } else { expr })
    }

    fn primary(&mut self) -> Result<Expr, SyntaxError> {
        self.blanks();
        if self.rest().starts_with('(') {
            if self.depth == MAX_DEPTH {
                return Err(self.error(format!("the condition is nested deeper than {MAX_DEPTH} levels")));
            }
            let open = self.at;
            self.at += 1;
            self.depth += 1;
            let expr = self.or()?;
            self.depth -= 1;
            self.blanks();
            if !self.rest().starts_with(')') {
                let message = "this parenthesis is not closed".into();
                return Err(SyntaxError { message, span: open..open + 1 });
            }
            self.at += 1;
            return Ok(expr);
        }
        let name = self.take(|c| is_name(c) || c == '.');
        if name.text.is_empty() {
            return Err(self.error(match self.rest().chars().next() {
                None => "the condition ends where a field or a macro is expected".to_owned(),
                Some(found) => format!("expected a field, a macro or `(`, found `{found}`"),
            }));
        }
        if ["and", "or", "in"].contains(&&*name.text) {
            let message = format!("expected a field or a macro, found `{}`", name.text);
            return Err(SyntaxError { message, span: name.span });
        }
        if self.rest().starts_with('(') {
            let message = format!("the transformer `{}(…)` is not supported by this version", name.text);
            return Err(SyntaxError { message, span: name.span });
        }
        if name.text.contains('.') { self.check(name) } else { Ok(Expr::Macro(name)) }
    }

    fn check(&mut self, field: Word) -> Result<Expr, SyntaxError> {
        let argument = if self.rest().starts_with('[') { Some(self.brackets()?) } else { None };
        self.blanks();
        let start = self.at;
        let (operator, operands) = self.operator()?;
        let operator_span = start..self.at;
        let values = match operands {
            Operands::Nothing => Vec::new(),
            Operands::Value => vec![self.value()?],
            Operands::List => self.list()?,
        };
        Ok(Expr::Check(Check { field, argument, operator, operator_span, values }))
    }

    fn brackets(&mut self) -> Result<Word, SyntaxError> {
        let open = self.at;
        self.at += 1;
        let argument = if self.rest().starts_with(['"', '\'']) {
            self.quoted()?
        } else {
            self.take(|c| !"[]\"' \t\n".contains(c))
        };
        if !self.rest().starts_with(']') {
            return Err(SyntaxError { message: "this bracket is not closed".into(), span: open..open + 1 });
        }
        self.at += 1;
        Ok(argument)
    }

    fn operator(&mut self) -> Result<(Operator, Operands), SyntaxError> {
        let rest = self.rest();
        for (text, operator, operands) in Operator::ALL {
            let word = text.starts_with(is_name);
            if rest.strip_prefix(text).is_some_and(|after| !word || !after.starts_with(is_name)) {
                self.at += text.len();
                return Ok((*operator, *operands));
            }
        }
        let word = self.take(is_name);
        if NOT_YET.contains(&&*word.text) {
            let message = format!("the operator `{}` is not supported by this version", word.text);
            return Err(SyntaxError { message, span: word.span });
        }
        let known = Operator::ALL.iter().map(|(text, ..)| *text).collect::<Vec<_>>().join(" ");
        if word.text.is_empty() {
            return Err(self.error(format!("expected an operator behind the field, one of: {known}")));
        }
        Err(SyntaxError { message: format!("unknown operator `{}`; known are: {known}", word.text), span: word.span })
    }

    fn value(&mut self) -> Result<Word, SyntaxError> {
        self.blanks();
        if self.rest().starts_with(['"', '\'']) {
            return self.quoted();
        }
        let word = self.bare();
        if word.text.is_empty() {
            return Err(self.error("expected a value"));
        }
        Ok(word)
    }

    fn list(&mut self) -> Result<Vec<Word>, SyntaxError> {
        self.blanks();
        if !self.rest().starts_with('(') {
            return Ok(vec![self.value()?]);
        }
        let open = self.at;
        self.at += 1;
        let mut values = Vec::new();
        loop {
            self.blanks();
            match self.rest().chars().next() {
                Some(')') => {
                    self.at += 1;
                    return Ok(values);
                }
                Some(',') if !values.is_empty() => self.at += 1,
                Some(_) => values.push(self.value()?),
                None => return Err(SyntaxError { message: "this list is not closed".into(), span: open..open + 1 }),
            }
        }
    }

    /// A word without quotes: up to a blank, parenthesis, quote, comma or equals sign.
    fn bare(&mut self) -> Word {
        self.take(|c| !c.is_ascii_whitespace() && !"()\"'=,".contains(c))
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> Word {
        let rest = self.rest();
        let len = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        let span = self.at..self.at + len;
        self.at += len;
        Word { text: rest.get(..len).unwrap_or_default().to_owned(), span, quoted: false }
    }

    fn quoted(&mut self) -> Result<Word, SyntaxError> {
        let start = self.at;
        let mut characters = self.rest().char_indices();
        let quote = characters.next().map_or('"', |(_, quote)| quote);
        let mut text = String::new();
        while let Some((at, c)) = characters.next() {
            if c == quote {
                self.at = start + at + 1;
                return Ok(Word { text, span: start..self.at, quoted: true });
            }
            if c != '\\' {
                text.push(c);
                continue;
            }
            let place = start + at;
            match characters.next().map(|(_, escaped)| escaped) {
                Some('b') => text.push('\u{8}'),
                Some('f') => text.push('\u{c}'),
                Some('n') => text.push('\n'),
                Some('r') => text.push('\r'),
                Some('t') => text.push('\t'),
                Some(same @ ('\\' | '/')) => text.push(same),
                Some(same) if same == quote => text.push(same),
                // As Falco does, for rules of before there were escapes.
                Some(' ') => text.push_str("\\ "),
                Some('x') => {
                    let digits: String = characters.by_ref().take(2).map(|(_, digit)| digit).collect();
                    match u8::from_str_radix(&digits, 16) {
                        Ok(byte @ 1..=0x7f) if digits.len() == 2 => text.push(char::from(byte)),
                        _ => {
                            let message = "\\x needs two hexadecimal digits from 01 to 7f".into();
                            return Err(SyntaxError { message, span: place..place + 2 });
                        }
                    }
                }
                _ => {
                    let message = "unsupported string escape sequence".into();
                    return Err(SyntaxError { message, span: place..place + 1 });
                }
            }
        }
        Err(SyntaxError { message: "this string is not closed".into(), span: start..start + 1 })
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
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
                let values: Vec<_> = check.values.iter().map(|value| &*value.text).collect();
                let argument = check.argument.as_ref().map(|a| format!("[{}]", a.text)).unwrap_or_default();
                format!("{}{argument} {} {}", check.field.text, check.operator.text(), values.join("|"))
                    .trim()
                    .to_owned()
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
        assert_eq!(parsed(r#"proc.args contains "a\"b\x41\\""#), "proc.args contains a\"bA\\");
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
            ("tolower(proc.name) = x", 0, "transformer"),
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
