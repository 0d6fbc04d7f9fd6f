//! From what is written on a side of a comparison to an operand: fields looked up, transformers checked.

use std::ops::Range;

use super::{
    diagnostic::nearest,
    operand::{Function, Operand},
    parse::{Term, TermKind, Transformer},
};
use crate::event::{
    EventType,
    field::{Argument, Brackets, Field},
    is_parameter, parameters,
    value::Type,
};

/// Why something cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) help: Option<String>,
    pub(super) span: Range<usize>,
    /// It names what other versions may know: a rule can ask to be left out then.
    pub(super) unknown: bool,
}

impl Wrong {
    pub(super) fn new(span: &Range<usize>, message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, span: span.clone(), unknown: false }
    }

    pub(super) fn unknown(span: &Range<usize>, message: impl Into<String>, help: Option<String>) -> Self {
        Self { message: message.into(), help, span: span.clone(), unknown: true }
    }
}

/// Whose fields rules can name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Supply {
    /// Those that the agent has values for; others are refused, with the reason.
    #[default]
    Agent,
    /// Every field: whoever evaluates the rules brings the values.
    Caller,
}

/// The operand that a term stands for.
pub(super) fn operand(term: &Term, supply: Supply) -> Result<Operand, Wrong> {
    match &term.kind {
        TermKind::Field { name, argument } => field(name, argument.as_deref(), &term.span, supply),
        TermKind::Text(text) => Ok(Operand::Text(text.clone().into_bytes())),
        TermKind::List(items) => {
            items.iter().map(|item| operand(item, supply)).collect::<Result<_, _>>().map(Operand::List)
        }
        TermKind::Call { transformer, arguments, argument } => {
            let operands: Vec<Operand> =
                arguments.iter().map(|argument| operand(argument, supply)).collect::<Result<_, _>>()?;
            for (inner, term) in operands.iter().zip(arguments) {
                check_transformable(inner, *transformer, &term.span)?;
            }
            let call = Call { transformer: *transformer, span: &term.span, letter: argument.as_deref() };
            call.operand(operands)
        }
    }
}

fn check_transformable(inner: &Operand, transformer: Transformer, span: &Range<usize>) -> Result<(), Wrong> {
    match inner {
        Operand::Field { field, argument } if transformer != Transformer::Val => {
            let (name, several) = (field.info().name, field.info().is_several(argument));
            if !field.info().takes_transformers() || several {
                return Err(Wrong::new(span, format!("the field `{name}` cannot stand in a transformer")));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A field by its name and what stands in its brackets.
fn field(name: &str, brackets: Option<&str>, span: &Range<usize>, supply: Supply) -> Result<Operand, Wrong> {
    let Some((field, after_dot)) = Field::find_with_name(name) else {
        let help = nearest(name, Field::all().map(|field| field.info().name));
        return Err(Wrong::unknown(span, format!("unknown field `{name}`"), help));
    };
    let info = field.info();
    if let Some(reason) = info.refused().filter(|_| supply == Supply::Agent) {
        return Err(Wrong::unknown(span, format!("the field `{}` is not supported: {reason}", info.name), None));
    }
    let wrong = |message: String| Err(Wrong::new(span, message));
    let index = brackets.map(str::parse::<u32>);
    let argument = match (info.brackets, after_dot, brackets, index) {
        (Brackets::Name, Some(key), None, _) => {
            check_name(info.name, key, span)?;
            Argument::Key(key.into())
        }
        (Brackets::Name, None, Some(_), _) if field.is_native() => {
            return wrong(format!("the field `{name}` takes a name only, such as `{}`", example_name(info.name)));
        }
        (Brackets::Name | Brackets::Index | Brackets::Key | Brackets::Needed, None, Some(_), Some(Ok(index))) => {
            Argument::Index(index)
        }
        (Brackets::Key | Brackets::Needed, None, Some(key), _) => Argument::Key(key.into()),
        (Brackets::None | Brackets::Index | Brackets::Key, None, None, _) => Argument::None,
        (Brackets::None, ..) => return wrong(format!("the field `{name}` takes no brackets")),
        (Brackets::Index, ..) => {
            return wrong(format!("the field `{name}` needs a number in brackets, such as `{name}[1]`"));
        }
        (Brackets::Name, ..) => {
            return wrong(format!("the field `{name}` needs a name, such as `{}`", example_name(info.name)));
        }
        (Brackets::Key | Brackets::Needed, ..) => {
            return wrong(format!(
                "the field `{name}` needs something in brackets, such as `{name}[0]` or `{name}[name]`"
            ));
        }
    };
    Ok(Operand::Field { field, argument })
}

/// Names behind `evt.arg.` and `evt.type.is.` are known; behind other fields any will do.
fn check_name(field: &str, key: &str, span: &Range<usize>) -> Result<(), Wrong> {
    if field == "evt.type.is" && EventType::find(key).is_none() && key.parse::<u32>().is_err() {
        let help = nearest(key, EventType::all().map(EventType::name));
        return Err(Wrong { help, ..Wrong::new(span, format!("unknown event type `{key}`")) });
    }
    if !matches!(field, "evt.arg" | "evt.rawarg") || is_parameter(key) {
        return Ok(());
    }
    let message = format!("unknown event argument `{key}`: no event has one of this name");
    Err(Wrong { help: nearest(key, parameters()), ..Wrong::new(span, message) })
}

fn example_name(field: &str) -> &'static str {
    match field {
        "evt.arg" => "evt.arg.flags",
        "evt.rawarg" => "evt.rawarg.flags",
        "evt.type.is" => "evt.type.is.open",
        _ => "thread.cgroup.cpu",
    }
}

/// A transformer whose arguments are resolved.
struct Call<'a> {
    transformer: Transformer,
    span: &'a Range<usize>,
    letter: Option<&'a str>,
}

impl Call<'_> {
    fn wrong(&self, message: impl AsRef<str>) -> Wrong {
        Wrong::new(self.span, format!("`{}` {}", self.transformer.text(), message.as_ref()))
    }

    fn operand(&self, mut arguments: Vec<Operand>) -> Result<Operand, Wrong> {
        if self.letter.is_some() && self.transformer != Transformer::Getopt {
            return Err(self.wrong("takes no brackets"));
        }
        if let Some(function) = Function::of(self.transformer) {
            return match arguments.pop() {
                Some(one) if arguments.is_empty() => self.apply(function, one),
                _ => Err(self.wrong("takes one argument")),
            };
        }
        match self.transformer {
            Transformer::Val => arguments.pop().ok_or_else(|| self.wrong("takes a field")),
            Transformer::Join => match <[Operand; 2]>::try_from(arguments) {
                Ok([separator, list]) if !separator.is_list() && list.is_list() => {
                    self.texts([&separator, &list])?;
                    Ok(Operand::Join(Box::new(separator), Box::new(list)))
                }
                _ => Err(self.wrong("takes a separator and a list: `join(\", \", (proc.name, proc.pname))`")),
            },
            Transformer::Concat => {
                if arguments.len() < 2 || arguments.iter().any(Operand::is_list) {
                    return Err(self.wrong("takes two or more texts, and no list"));
                }
                self.texts(&arguments)?;
                Ok(Operand::Concat(arguments))
            }
            _ => self.getopt(arguments),
        }
    }

    fn apply(&self, function: Function, inner: Operand) -> Result<Operand, Wrong> {
        let fits = match (function, inner.ty()) {
            (Function::Len, Type::Bytes | Type::Text) | (Function::B64, Type::Bytes) | (_, Type::Text) => true,
            (Function::Len, _) => inner.is_list(),
            _ => false,
        };
        if !fits {
            let message = format!("cannot be used with `{inner}`, which is {}", inner.ty().name());
            return Err(self.wrong(message));
        }
        Ok(Operand::Apply(function, Box::new(inner)))
    }

    fn texts<'o>(&self, operands: impl IntoIterator<Item = &'o Operand>) -> Result<(), Wrong> {
        match operands.into_iter().find(|operand| operand.ty() != Type::Text) {
            None => Ok(()),
            Some(other) => Err(self.wrong(format!("takes texts, and `{other}` is {}", other.ty().name()))),
        }
    }

    fn getopt(&self, arguments: Vec<Operand>) -> Result<Operand, Wrong> {
        let letter = match self.letter.map(str::as_bytes) {
            None => None,
            Some([letter]) => Some(*letter),
            Some(_) => return Err(self.wrong("takes one letter in brackets")),
        };
        match <[Operand; 2]>::try_from(arguments) {
            Ok([list, options]) if list.is_list() && !options.is_list() => {
                self.texts([&list, &options])?;
                Ok(Operand::Getopt(Box::new(list), Box::new(options), letter))
            }
            _ => Err(self.wrong("takes a list of arguments and a text of option letters: `getopt((…), \"ab:\")`")),
        }
    }
}
