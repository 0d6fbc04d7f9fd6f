//! The language as users meet it: files in, matches and messages out.

mod aks;
mod cases;
mod differential;
mod files;
mod operators;
mod outputs;
mod push_down;
mod refused;

use std::borrow::Cow;

use super::*;
use crate::event::{
    field::{Argument, Field},
    value::Value,
};

/// An event as a table of fields; what is not in it is null.
struct Table(Vec<(&'static str, Value<'static>)>);

impl Fields for Table {
    fn value(&self, field: Field, argument: &Argument) -> Option<Value<'_>> {
        let name = format!("{}{}", field.info().name, argument.suffix(field));
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    }
}

fn text(text: &'static str) -> Value<'static> {
    Value::Text(Cow::Borrowed(text.as_bytes()))
}

fn shell() -> Table {
    Table(vec![
        ("proc.name", text("bash")),
        ("proc.pid", Value::Int(42)),
        ("proc.cmdline", text("bash -i")),
        ("proc.exepath", text("/usr/bin/bash")),
        ("proc.aname[2]", text("sshd")),
        ("container.id", text("host")),
        ("proc.is_exe_from_memfd", Value::Bool(false)),
    ])
}

fn load(text: &str) -> Loaded {
    load_with(text, &Options::default())
}

fn load_with(text: &str, options: &Options) -> Loaded {
    RuleSet::load(&[Source { name: "r.yaml".into(), text: text.into() }], options)
}

fn matches(condition: &str) -> bool {
    let mut compiled = Condition::compile(condition, "c").unwrap_or_else(|errors| panic!("{condition}: {}", errors[0]));
    compiled.matches(EventType::EXECVE, &shell())
}

/// What is wrong with a condition.
fn refused(condition: &str) -> String {
    Condition::compile(condition, "c").err().map_or_else(|| "nothing".into(), |errors| errors[0].to_string())
}

fn rule(name: &str, condition: &str) -> String {
    format!("- rule: {name}\n  desc: d\n  condition: {condition}\n  output: o %proc.name\n  priority: WARNING\n")
}

/// Names of the rules that match the shell.
fn matching(mut rules: RuleSet, event_type: EventType) -> Vec<String> {
    let mut names = Vec::new();
    rules.evaluate(event_type, &shell(), |rule| names.push(rule.name.clone()));
    names
}

#[test]
fn the_rules_that_ship_are_without_fault() {
    let loaded = RuleSet::load(&[Source::builtin()], &Options::default());
    assert_eq!(loaded.diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>(), [""; 0]);
    assert!(loaded.rules.unwrap().rules().count() >= 4);
}

#[test]
fn operators_mean_what_falco_means() {
    for condition in [
        "proc.name = bash",
        "proc.name == \"bash\"",
        "proc.name != sh",
        "proc.name in (sh, bash)",
        "proc.name contains as",
        "proc.name icontains AS",
        "proc.name startswith ba",
        "proc.name endswith sh",
        "proc.name glob b*h",
        "proc.name iglob B?SH",
        "proc.name regex b[a-z]+h",
        "proc.exepath pmatch (/usr, /opt)",
        "proc.pid = 42 and proc.pid > 41 and proc.pid <= 42 and proc.pid in (1, 42)",
        "proc.is_exe_from_memfd = false",
        "proc.name exists",
        "proc.aname[2] = sshd",
        "evt.type = execve and evt.type in (execve, execveat) and evt.type != clone",
    ] {
        assert!(matches(condition), "{condition}");
        assert!(!matches(&format!("not ({condition})")), "{condition}");
    }
}

/// A comparison with a missing value is false, whichever it is; only `not` turns that around.
#[test]
fn nothing_is_compared_with_a_missing_value() {
    for condition in ["fd.name = x", "fd.name != x", "fd.name in (x)", "fd.name contains x", "fd.name exists"] {
        assert!(!matches(condition), "{condition}");
        assert!(matches(&format!("not {condition}")), "{condition}");
    }
}

#[test]
fn regular_expressions_match_the_whole_value() {
    assert!(!matches("proc.name regex as"));
    assert!(matches("proc.name regex .as."));
    assert!(
        refused("proc.name regex \"x)|(?:as\"").contains("regular expression"),
        "nor can a group be closed from inside"
    );
}

#[test]
fn bytes_that_are_no_text_do_not_hide_a_value_from_a_regular_expression() {
    let event = Table(vec![("proc.cmdline", Value::Text(Cow::Borrowed(b"\xff evil \xc3")))]);
    let mut condition = Condition::compile("proc.cmdline regex \".*evil.*\"", "c").unwrap();
    assert!(condition.matches(EventType::EXECVE, &event));
}

#[test]
fn rules_for_other_sources_are_left_out_with_a_warning() {
    let loaded = load(&(rule("A", "evt.num > 0") + "  source: k8s_audit\n"));
    assert_eq!(loaded.diagnostics[0].code, Code::UnknownSource);
    assert_eq!(loaded.rules.map(|rules| rules.rules().count()), Some(0));
}

#[test]
fn what_cannot_be_compared_is_refused_with_a_hint() {
    for (condition, said) in [
        ("proc.nmae = x", "unknown field `proc.nmae`"),
        ("proc.pid = bash", "bash"),
        ("proc.pid contains 4", "cannot be used"),
        ("proc.is_exe_from_memfd = maybe", "maybe"),
        ("proc.name regex \"[\"", "regular expression"),
        ("proc.aname[x] = x", "needs a number"),
        ("proc.name[1] = x", "takes no brackets"),
        ("evt.type = execv", "unknown event type"),
        ("container", "Undefined macro"),
    ] {
        assert!(refused(condition).contains(said), "{condition}: {}", refused(condition));
    }
    let misspelt = Condition::compile("proc.nmae = x", "c").unwrap_err().remove(0);
    assert_eq!(misspelt.help.as_deref(), Some("did you mean `proc.name`?"));
}

#[test]
fn lists_and_macros_are_put_in() {
    let lists = "- list: inner\n  items: [bash, zsh]\n- list: shells\n  items: [sh, inner]\n\
                 - macro: shell\n  condition: proc.name in (shells)\n- macro: wanted\n  condition: shell and proc.pid > 1\n";
    let loaded = load(&(lists.to_owned() + &rule("A", "evt.type = execve and wanted")));
    assert_eq!(loaded.diagnostics, []);
    assert_eq!(matching(loaded.rules.unwrap(), EventType::EXECVE), ["A"]);
    let quoted = load(&(lists.to_owned() + &rule("A", "wanted and proc.name in (\"shells\")")));
    assert_eq!(matching(quoted.rules.unwrap(), EventType::EXECVE), [""; 0], "a quoted word is no list");
}

#[test]
fn a_rule_is_looked_at_for_its_event_types_only() {
    let loaded = load(&(rule("A", "evt.type = clone and proc.name = bash") + &rule("B", "not evt.type = clone")));
    let mut rules = loaded.rules.unwrap();
    for (event_type, expected) in [(EventType::CLONE, "A"), (EventType::EXECVE, "B")] {
        let mut names = Vec::new();
        rules.evaluate(event_type, &shell(), |rule| names.push(rule.name.clone()));
        assert_eq!(names, [expected]);
    }
}

#[test]
fn the_first_rule_that_matches_is_reported_or_all_of_them() {
    let text = rule("A", "proc.name = sh") + &rule("B", "proc.name = bash") + &rule("C", "proc.pid = 42");
    assert_eq!(matching(load(&text).rules.unwrap(), EventType::EXECVE), ["B"]);
    let all = Options { matching: Matching::All, ..Options::default() };
    assert_eq!(matching(load_with(&text, &all).rules.unwrap(), EventType::EXECVE), ["B", "C"]);
}

#[test]
fn rules_are_selected_by_name_and_tag() {
    let text = rule("Shell A", "proc.pid = 42")
        + "  tags: [x, y]\n"
        + &rule("Shell B", "proc.pid = 42")
        + "  enabled: false\n";
    let select = |options: Options| {
        let rules = load_with(&text, &Options { matching: Matching::All, ..options }).rules.unwrap();
        matching(rules, EventType::EXECVE)
    };
    let globs = |pattern: &str| vec![pattern.to_owned()];
    assert_eq!(select(Options::default()), ["Shell A"]);
    assert_eq!(select(Options { enable: globs("*B"), ..Options::default() }), ["Shell A", "Shell B"]);
    assert_eq!(select(Options { enable: globs("*"), disable: globs("*A"), ..Options::default() }), ["Shell B"]);
    assert_eq!(select(Options { tags: globs("y"), ..Options::default() }), ["Shell A"]);
    assert_eq!(select(Options { tags: globs("z"), ..Options::default() }), [""; 0]);
}

#[test]
fn a_later_rule_of_the_same_name_takes_the_place_of_the_earlier() {
    let text = rule("A", "proc.name = sh") + &rule("B", "proc.pid = 42") + &rule("A", "proc.name = bash");
    assert_eq!(matching(load(&text).rules.unwrap(), EventType::EXECVE), ["A"]);
}

#[test]
fn outputs_show_values_and_cannot_steer_a_terminal() {
    let event = Table(vec![("proc.name", text("a\u{1b}[2Jb")), ("proc.pid", Value::Int(-7))]);
    let rendered = |output: &str| Template::compile(output, Supply::Agent).ok().unwrap().render(&event);
    assert_eq!(rendered("%proc.name (%proc.pid).").message, "a\\u{1b}[2Jb (-7).");
    assert_eq!(rendered("user=%user.uid, %proc.aname[2]").message, "user=<NA>, <NA>");
    let keys: Vec<_> = rendered("%proc.pid %proc.aname[2]").output_fields.into_keys().collect();
    assert_eq!(keys, ["proc.aname[2]", "proc.pid"]);
}

#[test]
fn every_problem_of_a_file_is_told_with_its_place() {
    let text = rule("A", "proc.nmae = x")
        + &rule("B", "no_such_macro")
        + "- rule: C\n  desc: d\n- macro: m\n  condition: (a\n";
    let loaded = load(&text);
    assert!(loaded.rules.is_none());
    let positions: Vec<_> = loaded.diagnostics.iter().filter(|d| d.is_error()).map(Diagnostic::position).collect();
    let mut lines: Vec<_> = positions.iter().map(|(line, _)| *line).collect();
    lines.sort_unstable();
    assert_eq!(lines, [3, 8, 11, 14], "{:?}", loaded.diagnostics);
}

#[test]
fn what_is_wrong_with_a_macro_is_told_once() {
    for macros in ["- macro: m\n  condition: (proc.pid = 1\n", "- macro: m\n  condition: proc.nmae = x\n"] {
        let loaded = load(&(macros.to_owned() + &rule("A", "m") + &rule("B", "m or proc.pid = 2")));
        assert_eq!(loaded.diagnostics.len(), 1, "{:?}", loaded.diagnostics);
        assert_eq!(loaded.diagnostics[0].position().0, 2);
    }
}

#[test]
fn an_error_in_a_folded_condition_is_shown_where_it_was_written() {
    let text = "- rule: A\n  desc: d\n  condition: >\n    evt.type = execve and\n      proc.nmae = x\n  output: o\n  priority: INFO\n";
    let loaded = load(text);
    assert_eq!(loaded.diagnostics[0].position(), (5, 7));
    let shown = loaded.diagnostics[0].render();
    assert!(shown.contains("r.yaml:5:7") && shown.contains("proc.nmae") && shown.contains('^'), "{shown}");
}

#[test]
fn rules_say_which_engine_they_need() {
    assert!(load("- required_engine_version: 0.99.0\n").rules.is_none());
    assert!(load("- required_engine_version: 57\n").rules.is_some());
}

#[test]
fn a_macro_that_contains_itself_is_an_error() {
    let text = "- macro: a\n  condition: proc.pid = 1\n- macro: a\n  condition: a or proc.pid = 2\n".to_owned()
        + &rule("A", "a");
    assert!(load(&text).diagnostics.iter().any(|d| d.message.contains("contains itself")));
}

#[test]
fn hostile_files_are_bounded() {
    let doubled = |item: &dyn Fn(usize) -> String| (1..60).map(item).collect::<String>();
    let macros = "- macro: m0\n  condition: proc.pid = 1 or proc.pid = 2\n".to_owned()
        + &doubled(&|level| format!("- macro: m{level}\n  condition: m{0} or m{0}\n", level - 1))
        + &rule("A", "m59");
    let lists = doubled(&|level| format!("- list: l{level}\n  items: [l{0}, l{0}]\n", level + 1))
        + "- list: l60\n  items: [x, y]\n"
        + &rule("A", "proc.name in (l1)");
    let nested = "(".repeat(100_000) + "proc.pid = 1" + &")".repeat(100_000);
    let deep = "[".repeat(100_000);
    let wide = "- list: l\n  items: [".to_owned() + &"x, ".repeat(100_000) + "x]\n" + &rule("A", "proc.name in (l)");
    let tower = "- macro: m0\n  condition: proc.pid = 1\n".to_owned()
        + &doubled(&|level| {
            let (open, close) = ("not (".repeat(190), ")".repeat(190));
            format!("- macro: m{level}\n  condition: {open}m{}{close}\n", level - 1)
        })
        + &rule("A", "m59");
    let keys =
        "- rule: A\n".to_owned() + &(0..100_000).map(|key| format!("  k{key}: x\n")).collect::<Vec<_>>().concat();
    let regexes = (0..5_000).map(|n| rule(&n.to_string(), "proc.name regex \"[a-z]{30}\"")).collect();
    let misspelt = (0..3_000)
        .map(|n| format!("- macro: mac{n}\n  condition: a\n") + &rule(&n.to_string(), &format!("mao{n}")))
        .collect();
    for (what, text) in [
        ("macros", &macros),
        ("lists", &lists),
        ("nested", &rule("A", &nested)),
        ("deep", &deep),
        ("tower", &tower),
        ("keys", &keys),
        ("regexes", &regexes),
        ("misspelt", &misspelt),
    ] {
        let loaded = load(text);
        assert!(loaded.rules.is_none(), "{what}");
        loaded.diagnostics.iter().for_each(|diagnostic| drop(diagnostic.render()));
    }
    assert!(load(&wide).rules.is_some());
    let large =
        RuleSet::load(&[Source { name: "r".into(), text: vec![b'#'; MAX_FILE_BYTES + 1] }], &Options::default());
    assert!(large.rules.is_none());
}

#[test]
fn bytes_that_are_no_text_are_refused_where_they_are() {
    let bytes = b"- list: a\n  items: [\xff]\n".to_vec();
    let loaded = RuleSet::load(&[Source { name: "r.yaml".into(), text: bytes }], &Options::default());
    assert_eq!(loaded.diagnostics[0].position(), (2, 11));
}

#[test]
fn an_empty_file_holds_no_rules() {
    for text in ["", "# nothing\n", "---\n", "[]\n"] {
        assert_eq!(load(text).rules.map(|rules| rules.rules().count()), Some(0), "{text:?}");
    }
}

mod arbitrary {
    use proptest::prelude::*;

    use super::super::*;

    proptest! {
        #[test]
        fn bytes_as_a_rule_file_never_panic(text in prop::collection::vec(any::<u8>(), 0..400)) {
            check(text);
        }

        #[test]
        fn pieces_of_rule_files_never_panic(pieces in prop::collection::vec(prop::sample::select(vec![
            "- rule: a\n", "- macro: m\n", "- list: l\n", "  condition: ", "  output: ", "%proc.name", "%", "  items: [",
            "a, b", "]\n", "proc.name = ", "l", "m", " and ", " in (", ")", ">\n    ", "|\n  ", "\"", "'", "\\x4", "\n", "  ",
            "&a ", "*a", "---\n", "priority: INFO\n", "  desc: d\n", "ü", "\u{85}", "#",
        ]), 0..40)) {
            check(pieces.concat().into_bytes());
        }
    }

    fn check(text: Vec<u8>) {
        let loaded = RuleSet::load(&[Source { name: "r".into(), text }], &Options::default());
        for diagnostic in loaded.diagnostics {
            let len = diagnostic.text.text.len();
            assert!(diagnostic.span.start <= len && diagnostic.span.start <= diagnostic.span.end, "{diagnostic:?}");
            diagnostic.render();
        }
    }
}
