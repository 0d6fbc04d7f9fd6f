//! What the kernel may leave out: never what a rule matches.

use monitor_ebpf::settings::wanted;
use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed, TestRunner},
};

use super::{
    super::{
        RuleSet, explain,
        push_down::{Known, Reduced, left, level},
        reference::Reference,
    },
    differential::{Random, condition, event},
    load,
};
use crate::event::{EventType, value::Value};

/// Fields that follow from what the kernel knows, and others.
const FIELDS: &[&str] = &[
    "fd.name",
    "fd.nameraw",
    "fd.directory",
    "fd.num",
    "evt.res",
    "evt.rawres",
    "evt.failed",
    "evt.is_open_read",
    "evt.is_open_write",
    "container.id",
    "proc.name",
    "proc.aname",
    "user.uid",
];

/// An open as there are some: what it returned and how it was opened fit together.
#[derive(Clone, Debug)]
struct Open {
    event: Random,
    failed: bool,
    access: u8,
}

fn open() -> impl Strategy<Value = Open> {
    (event(FIELDS), any::<bool>(), 0_u8..3, 0_i64..5).prop_map(|(mut event, failed, access, number)| {
        event.event_type = EventType::OPENAT;
        let returned = if failed { -1 - number } else { number };
        event.set("evt.rawres", Value::Int(returned));
        event.set("evt.failed", Value::Bool(failed));
        event.set("evt.res", Value::text(if failed { "b" } else { "SUCCESS" }));
        event.set("fd.num", Value::Int(if failed { -1 } else { number }));
        event.set("evt.is_open_read", Value::Bool(access != 1));
        event.set("evt.is_open_write", Value::Bool(access != 0));
        Open { event, failed, access }
    })
}

fn rules(conditions: &[String]) -> RuleSet {
    let rule = |(number, condition): (usize, &String)| {
        let condition = format!("evt.type = openat and ({condition})").replace('\'', "''");
        format!("- {{rule: r{number}, desc: d, condition: '{condition}', output: o, priority: INFO}}\n")
    };
    load(&conditions.iter().enumerate().map(rule).collect::<Vec<_>>().concat()).rules.unwrap()
}

#[test]
fn what_is_left_out_no_rule_matches() {
    let config = Config { cases: 600, rng_seed: RngSeed::Fixed(13), failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let counts = std::cell::Cell::new((0_usize, 0_usize, 0_usize));
    let conditions = prop::collection::vec(
        prop::collection::vec(condition(FIELDS), 3).prop_map(|parts| format!("({})", parts.join(") and ("))),
        8,
    );
    let outcome = runner.run(&(conditions, prop::collection::vec(open(), 16)), |(conditions, opens)| {
        for rule in rules(&conditions).rules() {
            let reference = Reference::new(&rule.expr);
            let level = level(std::slice::from_ref(rule), EventType::OPENAT);
            for open in &opens {
                let matches = reference.matches(&open.event);
                let is_sent = level & wanted::outcome(open.failed, open.access) != 0;
                prop_assert!(!matches || is_sent, "{} by outcome: {open:?}", rule.condition);
                let (compared, left_out, held) = counts.get();
                let mut may = true;
                for by in [false, true] {
                    may = match left(rule, Known { failed: open.failed, by }).unwrap() {
                        Reduced::Known(all) => all,
                        Reduced::If(expr) => Reference::new(&expr).matches(&open.event),
                    };
                    prop_assert!(!matches || may, "{} by name, {by}: {open:?}", rule.condition);
                }
                counts.set((compared + 1, left_out + usize::from(!may), held + usize::from(matches)));
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let (compared, left_out, held) = counts.get();
    assert!(left_out * 10 > compared && held * 50 > compared, "{left_out} left out, {held} held of {compared}");
}

/// What is wanted of `openat`, as letters: of those that succeed to read, to write and for both, then of those that fail; and
/// whether the kernel may leave out what was learned of.
fn wanted_of(condition: &str) -> String {
    let rules = rules(&[condition.to_owned()]);
    let level = level(&rules.rules, EventType::OPENAT);
    let outcomes =
        [false, true].into_iter().flat_map(|failed| (0..3).map(move |access| wanted::outcome(failed, access)));
    let letters = outcomes.chain([wanted::BY_SUBJECT]).zip("rwbRWBn".chars());
    letters.map(|(bit, letter)| if level & bit == 0 { '-' } else { letter }).collect()
}

#[test]
fn results_and_access_decide_without_names() {
    for (condition, expected) in [
        ("proc.name = x", "rwbRWB-"),
        ("fd.name = /x", "rwbRWBn"),
        ("fd.name = /x or proc.name = y", "rwbRWB-"),
        ("fd.name = /x and proc.name = y", "rwbRWBn"),
        ("evt.is_open_write = true", "-wb-WBn"),
        ("evt.is_open_read = true and fd.num >= 0", "r-b---n"),
        ("evt.is_open_write = true and fd.num > -1 and fd.name startswith /etc", "-wb---n"),
        ("evt.is_open_write = true and evt.is_open_read = true", "--b--Bn"),
        ("not evt.is_open_write = true and not evt.failed = true", "r-----n"),
        ("evt.failed = true and fd.name = /x", "---RWBn"),
        ("fd.num = -1", "---RWB-"),
        ("fd.num != -1", "rwb----"),
        ("fd.num = 3 and fd.name = /x", "rwb---n"),
        ("evt.rawres < 0", "---RWB-"),
        ("evt.rawres = -2", "---RWBn"),
        ("evt.res = SUCCESS", "rwbRWB-"),
        ("evt.res != SUCCESS", "---RWBn"),
        ("container.id != host", "rwbRWBn"),
        ("evt.num = 0", "------n"),
        ("drift.kind = script", "------n"),
    ] {
        assert_eq!(wanted_of(condition), expected, "{condition}");
    }
}

#[test]
fn explain_shows_what_is_left_of_a_rule() {
    let rules =
        rules(&["evt.is_open_write = true and fd.num >= 0 and fd.name startswith /etc and proc.name = x".into()]);
    let text = explain(rules.rules().next().unwrap()).text();
    let shown = "from the kernel: openat; of opens those of which what stands here may hold\n    opens that succeed:\n        and\n            \
                 evt.type = openat\n            and\n                evt.is_open_write = true\n                \
                 fd.name startswith /etc\n    opens that fail: none\n";
    assert!(text.contains(shown), "{text}");
}
