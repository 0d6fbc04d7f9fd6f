//! The engine against the reference: random rules, random events, the same answer.

use std::{borrow::Cow, ops::ControlFlow};

use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed, TestRunner},
};

use super::super::{Condition, Supply, engine::Engine, reference::Reference};
use crate::event::{
    EventType,
    field::{Argument, Field, Fields},
    value::{Address, Type, Value},
};

/// Rules and events of one round, and rounds: each rule is asked of each event.
const RULES: usize = 12;
const EVENTS: usize = 12;
const ROUNDS: u32 = 900;
/// What the tests promise to compare.
const CASES: usize = 100_000;

/// Fields of every type; some with several values, some a list.
const FIELDS: &[&str] = &[
    "proc.name",
    "fd.name",
    "proc.cmdline",
    "proc.aname",
    "proc.aname[2]",
    "evt.type",
    "evt.buffer",
    "proc.pid",
    "user.uid",
    "evt.rawres",
    "proc.fdusage",
    "evt.failed",
    "proc.duration",
    "fd.sport",
    "fd.port",
    "fd.sip",
    "fd.ip",
    "fd.snet",
    "fd.net",
    "fd.types",
    "evt.num",
];

const TYPES: [EventType; 4] = [EventType::EXECVE, EventType::OPENAT, EventType::CLONE, EventType::PROCEXIT];

/// An event: for each of its fields the values; none, one, or where the field takes them several.
#[derive(Clone, Debug)]
pub(super) struct Random {
    pub(super) event_type: EventType,
    fields: &'static [&'static str],
    values: Vec<Vec<Value<'static>>>,
}

impl Random {
    fn find(&self, field: Field, argument: &Argument) -> &[Value<'static>] {
        let name = format!("{}{}", field.info().name, argument.suffix(field));
        let at = self.fields.iter().position(|known| *known == name);
        at.and_then(|at| self.values.get(at)).map_or(&[], Vec::as_slice)
    }

    /// Gives a field one value.
    pub(super) fn set(&mut self, field: &str, value: Value<'static>) {
        let at = self.fields.iter().position(|known| *known == field).unwrap();
        self.values[at] = vec![value];
    }
}

impl Fields for Random {
    fn value(&self, field: Field, argument: &Argument) -> Option<Value<'_>> {
        if field.info().name == "evt.type" {
            return Some(Value::text(self.event_type.name()));
        }
        self.find(field, argument).first().cloned()
    }

    fn values(&self, field: Field, argument: &Argument, each: &mut dyn FnMut(Value<'_>)) {
        self.find(field, argument).iter().cloned().for_each(each);
    }
}

/// Few words, much alike, so that conditions hold often enough.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["a", "ab", "abc", "b", "B", "bc", "/a", "/a/b", "/a/bc", "/ab", "/"]),
        1 => prop::sample::select(vec!["abcabc", "a b", "/a//b/c", "ABC", "", "\u{fc}", "execve", "openat"]),
    ]
    .prop_map(str::to_owned)
}

fn value(field: &str) -> BoxedStrategy<Value<'static>> {
    let info = Field::find(field.split('[').next().unwrap_or(field)).unwrap().info();
    let text = || {
        prop_oneof![
            8 => word().prop_map(|word| Value::Text(Cow::Owned(word.into_bytes()))),
            1 => prop::collection::vec(any::<u8>(), 0..4).prop_map(|bytes| Value::Text(Cow::Owned(bytes))),
        ]
    };
    if info.is_list() {
        return prop::collection::vec(text(), 0..4).prop_map(Value::List).boxed();
    }
    match info.ty {
        Type::Text | Type::Bytes => text().boxed(),
        Type::Int | Type::Int16 | Type::Int32 => (-2_i64..4).prop_map(Value::Int).boxed(),
        Type::Float => (-2_i8..4).prop_map(|n| Value::Float(f64::from(n) / 2.0)).boxed(),
        Type::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Type::Ip | Type::Net => prop::sample::select(vec!["10.0.0.1", "10.0.0.2", "10.1.0.1", "::1", "fe80::1"])
            .prop_map(|ip| Value::Ip(Address(ip.parse().unwrap())))
            .boxed(),
        Type::Uint | Type::Uint32 | Type::Duration | Type::Time | Type::Port => {
            prop_oneof![9 => 1_u64..5, 1 => Just(u64::from(u16::MAX))].prop_map(Value::Uint).boxed()
        }
    }
}

pub(super) fn event(fields: &'static [&'static str]) -> impl Strategy<Value = Random> {
    let several = |field: &str| matches!(field, "proc.aname" | "fd.ip" | "fd.net" | "fd.port");
    let values: Vec<_> = fields
        .iter()
        .map(|field| {
            let most = if several(field) { 3 } else { 1 };
            let least = usize::from(*field == "evt.num");
            prop::collection::vec(value(field), least..=most)
        })
        .collect();
    (prop::sample::select(TYPES.to_vec()), values).prop_map(move |(event_type, values)| Random {
        event_type,
        fields,
        values,
    })
}

fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A constant of a type.
fn constant(ty: Type) -> BoxedStrategy<String> {
    match ty {
        Type::Text | Type::Bytes => word().prop_map(|word| quoted(&word)).boxed(),
        Type::Bool => any::<bool>().prop_map(|truth| truth.to_string()).boxed(),
        Type::Ip => prop::sample::select(vec!["10.0.0.1", "10.0.0.2", "::1"]).prop_map(str::to_owned).boxed(),
        Type::Net => prop::sample::select(vec!["10.0.0.0/24", "10.0.0.1/32", "0.0.0.0/0", "fe80::/10", "::/0"])
            .prop_map(str::to_owned)
            .boxed(),
        Type::Int | Type::Float => (-2_i8..4).prop_map(|n| n.to_string()).boxed(),
        _ => (0_u8..6).prop_map(|n| n.to_string()).boxed(),
    }
}

/// What is compared: a field, or a transformer of one.
fn term(fields: &'static [&'static str]) -> impl Strategy<Value = (String, Type, bool)> {
    prop::sample::select(fields.to_vec()).prop_flat_map(|field| {
        let info = Field::find(field.split('[').next().unwrap_or(field)).unwrap().info();
        let plain = (field.to_owned(), info.ty, info.is_list());
        let text = info.ty == Type::Text && info.takes_transformers() && field != "evt.type";
        let shapes: Vec<(String, Type, bool)> = if text && !info.is_list() {
            vec![
                plain.clone(),
                plain.clone(),
                plain,
                (format!("tolower({field})"), Type::Text, false),
                (format!("toupper({field})"), Type::Text, false),
                (format!("basename({field})"), Type::Text, false),
                (format!("len({field})"), Type::Uint, false),
                (format!("concat({field}, \"b\")"), Type::Text, false),
                (format!("join(\"/\", (\"\", {field}))"), Type::Text, false),
            ]
        } else {
            vec![plain]
        };
        prop::sample::select(shapes)
    })
}

fn check(fields: &'static [&'static str]) -> impl Strategy<Value = String> {
    term(fields).prop_flat_map(|(term, ty, list)| {
        let is_type = term == "evt.type";
        let one = if is_type {
            prop::sample::select(vec!["execve", "openat", "clone", "open"]).prop_map(str::to_owned).boxed()
        } else {
            constant(ty)
        };
        let all = prop::collection::vec(one.clone(), 0..4).prop_map(|all| format!("({})", all.join(", ")));
        let join = |left: &str, operators: Vec<&'static str>, right: BoxedStrategy<String>| {
            let left = left.to_owned();
            (prop::sample::select(operators), right).prop_map(move |(op, right)| format!("{left} {op} {right}")).boxed()
        };
        let listed = join(&term, vec!["in", "intersects"], all.clone().boxed());
        let exists = Just(format!("{term} exists")).boxed();
        if list {
            return prop_oneof![listed, exists].boxed();
        }
        let equal = join(&term, vec!["=", "==", "!="], one.clone());
        match ty {
            Type::Text if is_type => {
                let words = join(&term, vec!["contains", "startswith", "glob", "endswith"], one);
                prop_oneof![3 => equal, 2 => exists, 1 => words].boxed()
            }
            Type::Text => {
                let words = vec!["contains", "icontains", "startswith", "endswith", "glob", "iglob"];
                let patterns = word().prop_map(|word| quoted(&word.replace('c', "*"))).boxed();
                let regex = prop::sample::select(vec!["a.*", "[ab]+", "/.*b", "a|b", "[aA]B"]).prop_map(quoted).boxed();
                let quantified: Vec<&'static str> = vec![
                    "= oneof",
                    "= anyof",
                    "!= allof",
                    "!= oneof",
                    "startswith anyof",
                    "contains allof",
                    "endswith oneof",
                    "icontains anyof",
                    "glob anyof",
                    "= allof",
                ];
                // Without a field on the right side that cannot stand there.
                let field = join(
                    &term,
                    vec!["=", "!=", "contains", "startswith", "in"],
                    Just("val(proc.name)".to_owned()).boxed(),
                );
                let field = if term.starts_with("proc.aname") { equal.clone() } else { field };
                let ordered = join(&term, vec!["<", "<=", ">", ">="], (0_u8..6).prop_map(|n| n.to_string()).boxed());
                prop_oneof![
                    3 => equal, 2 => listed, 1 => exists,
                    2 => join(&term, words, one.clone()),
                    1 => join(&term, vec!["glob", "iglob"], patterns),
                    1 => join(&term, vec!["regex"], regex),
                    1 => join(&term, vec!["pmatch"], all.clone().boxed()),
                    1 => join(&term, quantified, all.boxed()),
                    1 => field, 1 => ordered,
                ]
                .boxed()
            }
            Type::Bytes => {
                let words = join(&term, vec!["contains", "startswith", "endswith"], one);
                let bytes = prop::sample::select(vec!["61", "6162", "2f", "ff"]).prop_map(str::to_owned).boxed();
                let hexadecimal = join(&term, vec!["bcontains", "bstartswith"], bytes);
                prop_oneof![equal, listed, exists, words, hexadecimal].boxed()
            }
            Type::Bool | Type::Ip | Type::Net => prop_oneof![2 => equal, 2 => listed, 1 => exists].boxed(),
            _ => {
                let ordered = join(&term, vec!["<", "<=", ">", ">="], one);
                prop_oneof![2 => equal, 2 => listed, 1 => exists, 2 => ordered].boxed()
            }
        }
    })
}

pub(super) fn condition(fields: &'static [&'static str]) -> impl Strategy<Value = String> {
    check(fields).prop_recursive(4, 24, 4, |inner| {
        let many = |inner: BoxedStrategy<String>| prop::collection::vec(inner, 2..5);
        prop_oneof![
            many(inner.clone().boxed()).prop_map(|all| format!("({})", all.join(" and "))),
            many(inner.clone().boxed()).prop_map(|all| format!("({})", all.join(" or "))),
            inner.prop_map(|one| format!("not ({one})")),
        ]
    })
}

#[test]
fn the_engine_agrees_with_the_reference() {
    let config = Config { cases: ROUNDS, rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let compared = std::cell::Cell::new((0_usize, 0_usize));
    let rules = prop::collection::vec(condition(FIELDS), RULES);
    let events = prop::collection::vec(event(FIELDS), EVENTS);
    let outcome = runner.run(&(rules, events), |(rules, events)| {
        let exprs: Vec<_> = rules
            .iter()
            .map(|rule| {
                Condition::resolve(rule, "c", Supply::Caller).unwrap_or_else(|errors| panic!("{rule}: {}", errors[0]))
            })
            .collect();
        let mut engine = Engine::new(&exprs.iter().collect::<Vec<_>>()).unwrap();
        let references: Vec<_> = exprs.iter().map(Reference::new).collect();
        for event in &events {
            let mut matched = Vec::new();
            engine.evaluate(event.event_type, event, &mut |number| {
                matched.push(number);
                ControlFlow::Continue(())
            });
            let expected: Vec<usize> = (0..rules.len()).filter(|number| references[*number].matches(event)).collect();
            let (cases, held) = compared.get();
            compared.set((cases + rules.len(), held + expected.len()));
            let differing: Vec<_> = (0..rules.len())
                .filter(|number| matched.contains(number) != expected.contains(number))
                .map(|number| &rules[number])
                .collect();
            prop_assert!(differing.is_empty(), "{differing:?} on {event:?}");
            prop_assert_eq!(matched, expected, "in order");
            for (number, expr) in exprs.iter().enumerate() {
                if !expr.event_types().contains(event.event_type) {
                    prop_assert!(!references[number].matches(event), "{} cannot hold for this type", rules[number]);
                }
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let (cases, held) = compared.get();
    assert!(cases >= CASES, "{cases} comparisons");
    assert!(held * 10 >= cases && held * 10 <= cases * 9, "{held} of {cases} held: the conditions say too little");
}

/// What is remembered of an event that nothing matched is that event alone: another one that differs in any one field gets its own
/// answer.
#[test]
fn events_that_are_remembered_are_taken_for_no_other() {
    let config = Config { cases: 300, rng_seed: RngSeed::Fixed(11), failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let (known, compared) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    // Rules that seldom hold, and events that differ in one field from one of a few.
    let rule = || prop::collection::vec(condition(FIELDS), 4).prop_map(|parts| parts.join(") and ("));
    let rules = prop::collection::vec(rule(), 5);
    let events = (prop::collection::vec(event(FIELDS), 3), prop::collection::vec(event(FIELDS), 8));
    let outcome = runner.run(&(rules, events), |(rules, (events, others))| {
        let resolve = |rule: &String| Condition::resolve(&format!("({rule})"), "c", Supply::Caller).unwrap();
        let exprs: Vec<_> = rules.iter().map(resolve).collect();
        let mut engine = Engine::new(&exprs.iter().collect::<Vec<_>>()).unwrap();
        let references: Vec<_> = exprs.iter().map(Reference::new).collect();
        for event in &events {
            let varied = others.iter().flat_map(|other| {
                (0..FIELDS.len()).map(|field| {
                    let mut varied = event.clone();
                    varied.values[field].clone_from(&other.values[field]);
                    varied
                })
            });
            for (number, varied) in varied.enumerate() {
                let again = if number % 4 == 0 { 3 } else { 1 };
                for one in std::iter::repeat_n(event, again).chain([&varied]) {
                    let mut matched = Vec::new();
                    engine.evaluate(one.event_type, one, &mut |number| {
                        matched.push(number);
                        ControlFlow::Continue(())
                    });
                    let expected: Vec<usize> =
                        (0..rules.len()).filter(|number| references[*number].matches(one)).collect();
                    prop_assert_eq!(&matched, &expected, "{:?} on {:?}", rules, one);
                    compared.set(compared.get() + 1);
                }
            }
        }
        known.set(known.get() + engine.known());
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let (known, compared) = (known.get(), compared.get());
    assert!(known * 20 >= compared, "{known} of {compared} events were known: nothing was tested");
}
