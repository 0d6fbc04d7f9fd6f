//! A condition for one class of event types: simplified, with negations at its leaves.

use std::sync::Arc;

use crate::{
    event::{
        EventType,
        field::Argument,
        value::{Class, Type, Value},
    },
    rules::{
        condition::{Check, Constant, Expr, Right},
        engine::{Matcher, index::Kind},
        parse::{Operator, Quantifier},
    },
};

/// A condition in negation normal form.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Form {
    Known(bool),
    All(Vec<Form>),
    Any(Vec<Form>),
    /// A check that holds, or if not, one that does not.
    Literal(Arc<Check>, bool),
}

impl Form {
    /// What a condition comes to for events of a type.
    pub(super) fn new(expr: &Expr, event_type: EventType) -> Self {
        Self::of(expr, event_type, true)
    }

    fn of(expr: &Expr, event_type: EventType, positive: bool) -> Self {
        match (expr, positive) {
            (Expr::Not(inner), _) => Self::of(inner, event_type, !positive),
            (Expr::And(exprs), true) | (Expr::Or(exprs), false) => Self::join(exprs, event_type, positive, true),
            (Expr::Or(exprs), true) | (Expr::And(exprs), false) => Self::join(exprs, event_type, positive, false),
            (Expr::Check(check), _) => match known(check, event_type) {
                Some(truth) => Form::Known(truth == positive),
                None => Form::Literal(Arc::clone(check), positive),
            },
        }
    }

    /// All, or any, of some conditions.
    fn join(exprs: &[Expr], event_type: EventType, positive: bool, all: bool) -> Self {
        let mut forms = Vec::with_capacity(exprs.len());
        for expr in exprs {
            match (Self::of(expr, event_type, positive), all) {
                (Form::Known(truth), _) if truth == all => {}
                (Form::Known(truth), _) => return Form::Known(truth),
                (Form::All(inner), true) | (Form::Any(inner), false) => forms.extend(inner),
                (form, _) => forms.push(form),
            }
        }
        // Of alternatives those that hold are merged; of what must all be, those that must not hold.
        merge(&mut forms, !all);
        // What is asked quickly may spare the rest. It changes no answer: nothing that is asked changes anything.
        forms.sort_by_cached_key(Self::expense);
        match forms.len() {
            0 => Form::Known(all),
            1 => forms.swap_remove(0),
            _ if all => Form::All(forms),
            _ => Form::Any(forms),
        }
    }
}

impl Form {
    /// How long it may take to be decided, as an order.
    fn expense(&self) -> u32 {
        match self {
            Form::Known(_) => 0,
            Form::Literal(check, _) => expense(check),
            Form::All(forms) | Form::Any(forms) => 1 + forms.iter().map(Self::expense).max().unwrap_or_default(),
        }
    }
}

/// The same of a check: what it takes to get the value, and to compare it.
fn expense(check: &Check) -> u32 {
    let mut value = 0;
    check.left.fields(&mut |field, argument| {
        let info = field.info();
        value += match (check.left.ty().class(), argument) {
            // All ancestors, all environment, a flag by its names.
            _ if info.is_several(argument) || info.name.starts_with("evt.arg") || info.name == "proc.env" => 20,
            (Class::Number | Class::Bool, _) => 0,
            (_, Argument::None) => 2,
            _ => 6,
        };
    });
    let compared = match (kind(check), &check.right) {
        (Some((Kind::Equal | Kind::Prefix | Kind::Suffix, _)), _) => 0,
        (Some(_), _) => 4,
        (None, Right::Constants(constants)) if constants.len() == 1 && !check.operator.takes_list() => 2,
        (None, _) => 6,
    };
    value + compared
}

fn known(check: &Check, event_type: EventType) -> Option<bool> {
    if check.is_about_type() {
        return Some(Matcher::new(check).ok()?.accepts(&Value::text(event_type.name())));
    }
    check.known()
}

/// How an index looks for a check's constants, if one can: a check that holds when one of its constants is found.
pub(super) fn kind(check: &Check) -> Option<(Kind, &[Constant])> {
    let Right::Constants(constants) = &check.right else { return None };
    let any = check.quantifier.is_none() || check.quantifier == Some(Quantifier::Anyof) || constants.len() == 1;
    let findable = |constant: &Constant| match constant {
        Constant::Text(text) => !text.is_empty(),
        Constant::Number(_) => check.left.ty() != Type::Float,
        Constant::Ip(_) | Constant::Net(_) => false,
    };
    if !any || check.left.is_list() || constants.is_empty() || !constants.iter().all(findable) {
        return None;
    }
    let text = matches!(check.left.ty().class(), Class::Text | Class::Bytes);
    let kind = match check.operator {
        Operator::Eq | Operator::Assign | Operator::In | Operator::Intersects => Kind::Equal,
        Operator::Startswith | Operator::Bstartswith if text => Kind::Prefix,
        Operator::Endswith if text => Kind::Suffix,
        Operator::Contains | Operator::Bcontains if text => Kind::Contains,
        Operator::Icontains if text => Kind::ContainsIgnoringCase,
        _ => return None,
    };
    Some((kind, constants))
}

/// Makes one check of those on the same operand that are looked for alike.
fn merge(forms: &mut Vec<Form>, wanted: bool) {
    if forms.len() < 2 {
        return;
    }
    let mut merged: Vec<Form> = Vec::with_capacity(forms.len());
    // Positions in `merged` of what can be added to.
    let mut open: Vec<(Kind, usize)> = Vec::new();
    for form in forms.drain(..) {
        let Form::Literal(check, positive) = &form else {
            merged.push(form);
            continue;
        };
        let Some((kind, constants)) = kind(check).filter(|_| *positive == wanted) else {
            merged.push(form);
            continue;
        };
        let same = open.iter().find(|(other, at)| {
            *other == kind && matches!(merged.get(*at), Some(Form::Literal(earlier, _)) if earlier.left == check.left)
        });
        let Some(Form::Literal(earlier, _)) = same.and_then(|(_, at)| merged.get_mut(*at)) else {
            open.push((kind, merged.len()));
            merged.push(form);
            continue;
        };
        *earlier = Arc::new(with_constants(earlier, kind, constants));
    }
    *forms = merged;
}

fn with_constants(check: &Check, kind: Kind, more: &[Constant]) -> Check {
    let mut all = match &check.right {
        Right::Constants(constants) => constants.clone(),
        Right::Operand(_) => Vec::new(),
    };
    all.extend_from_slice(more);
    let operator = match kind {
        Kind::Equal => Operator::Eq,
        Kind::Prefix => Operator::Startswith,
        Kind::Suffix => Operator::Endswith,
        Kind::Contains => Operator::Contains,
        Kind::ContainsIgnoringCase => Operator::Icontains,
    };
    Check { left: check.left.clone(), operator, quantifier: Some(Quantifier::Anyof), right: Right::Constants(all) }
}
