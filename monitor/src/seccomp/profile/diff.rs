//! What one profile allows and another does not, in words.
//!
//! The filters are compared, not the texts: a call differs where they answer differently to some arguments. Which arguments to
//! try follows from the values in the conditions of both, and their neighbours. What is said of a call is what its rules say.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

use super::{
    Abi, Action, Condition, Filter, Operator,
    filter::Answer,
    select::{CallRule, Selected},
};

/// Values that are tried for an argument.
const MAX_VALUES: usize = 24;
/// Combinations of arguments that are tried for a call.
const MAX_TRIED: usize = 8192;

/// A profile, and the filter that it becomes.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Its rules.
    pub selected: &'a Selected,
    /// The filter.
    pub filter: &'a Filter,
}

/// How two profiles differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// Calls that the first lets pass and the second does not, by all arguments or some.
    pub only_first_allows: Vec<Difference>,
    /// The other way round.
    pub only_second_allows: Vec<Difference>,
    /// Calls that both deny or both let pass, in different ways.
    pub otherwise: Vec<Difference>,
    /// Architectures that only the first covers; calls through others kill their thread.
    pub only_first_covers: Vec<&'static str>,
    /// Architectures that only the second covers.
    pub only_second_covers: Vec<&'static str>,
}

/// A call that is treated differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its name.
    pub call: String,
    /// On these architectures.
    pub architectures: Vec<&'static str>,
    /// What the first does with it.
    pub first: String,
    /// What the second does with it.
    pub second: String,
    /// Arguments that show it, where it depends on them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub example: Option<[u64; 6]>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    OnlyFirst,
    OnlySecond,
    Otherwise,
}

/// Compares two profiles.
pub fn diff(first: Side<'_>, second: Side<'_>) -> Differences {
    let covered = |one: Side<'_>, other: Side<'_>| {
        one.filter.abis().filter(|abi| !other.filter.covers(*abi)).map(Abi::name).collect()
    };
    let mut differences = Differences {
        only_first_covers: covered(first, second),
        only_second_covers: covered(second, first),
        ..Differences::default()
    };
    // A call of several architectures is told once where it is the same on all.
    let mut told: BTreeMap<_, (Vec<&'static str>, Option<[u64; 6]>)> = BTreeMap::new();
    for abi in first.filter.abis().filter(|abi| second.filter.covers(*abi)) {
        for (call, nr) in abi.calls() {
            for (kind, example) in call_differences(first, second, abi, call, nr) {
                let key = (kind, call, words(first, abi, call, nr), words(second, abi, call, nr));
                told.entry(key).or_insert((Vec::new(), example)).0.push(abi.name());
            }
        }
    }
    for ((kind, call, first, second), (architectures, example)) in told {
        let list = match kind {
            Kind::OnlyFirst => &mut differences.only_first_allows,
            Kind::OnlySecond => &mut differences.only_second_allows,
            Kind::Otherwise => &mut differences.otherwise,
        };
        list.push(Difference { call: call.to_owned(), architectures, first, second, example });
    }
    differences
}

/// In which ways a call differs, with arguments that show it.
fn call_differences(first: Side<'_>, second: Side<'_>, abi: Abi, call: &str, nr: u32) -> Vec<(Kind, Option<[u64; 6]>)> {
    let possible = |side: Side<'_>| side.filter.possible(abi.arch(), nr, &[None; 6]);
    let mut found = Vec::new();
    let mut add = |one: Action, other: Action, example| {
        let kind = match (one.lets_pass(), other.lets_pass()) {
            _ if one == other => return,
            (true, false) => Kind::OnlyFirst,
            (false, true) => Kind::OnlySecond,
            _ => Kind::Otherwise,
        };
        if !found.iter().any(|(seen, _)| *seen == kind) {
            found.push((kind, example));
        }
    };
    if let (Answer::One(one), Answer::One(other)) = (possible(first), possible(second)) {
        add(one, other, None);
        return found;
    }
    for arguments in tried(&[conditions(first, call), conditions(second, call)].concat()) {
        let answer = |side: Side<'_>| match side.filter.possible(abi.arch(), nr, &arguments.map(Some)) {
            Answer::One(action) => action,
            Answer::DependsOnArguments(_) => side.filter.default_action(),
        };
        add(answer(first), answer(second), Some(arguments));
    }
    found
}

/// The conditions on a call; on what carries others, the numbers of those.
fn conditions(side: Side<'_>, call: &str) -> Vec<Condition> {
    let carried = ["socketcall", "ipc"].contains(&call);
    let numbers = (0..25).filter(|_| carried);
    let numbers = numbers.map(|value| Condition { index: 0, operator: Operator::Equal, value, value_two: 0 });
    side.rules(call).flat_map(|rule| rule.conditions.iter().copied()).chain(numbers).collect()
}

/// Arguments that tell conditions apart.
fn tried(conditions: &[Condition]) -> impl Iterator<Item = [u64; 6]> + use<> {
    let mut values: [Vec<u64>; 6] = std::array::from_fn(|_| vec![0]);
    for condition in conditions {
        let Some(values) = values.get_mut(usize::from(condition.index)) else { continue };
        let (value, two) = (condition.value, condition.value_two);
        let new = match condition.operator {
            Operator::MaskedEqual => [two, two | value, two | !value, two ^ (value & value.wrapping_neg())],
            _ => [value, value.wrapping_add(1), value.wrapping_sub(1), u64::MAX],
        };
        for new in new {
            if values.len() < MAX_VALUES && !values.contains(&new) {
                values.push(new);
            }
        }
    }
    let combinations = values.iter().map(Vec::len).fold(1_usize, usize::saturating_mul).min(MAX_TRIED);
    (0..combinations).map(move |number| {
        let mut rest = number;
        let mut arguments = [0; 6];
        for (argument, values) in arguments.iter_mut().zip(&values) {
            *argument = values.get(rest % values.len().max(1)).copied().unwrap_or(0);
            rest /= values.len().max(1);
        }
        arguments
    })
}

impl<'a> Side<'a> {
    /// The rules about a call that are not what happens anyway.
    fn rules(self, call: &str) -> impl Iterator<Item = &'a CallRule> {
        let default = self.selected.default_action;
        self.selected.rules.iter().filter(move |rule| rule.name == call && rule.action != default)
    }
}

/// What a profile says about a call.
fn words(side: Side<'_>, abi: Abi, call: &str, nr: u32) -> String {
    let answer = side.filter.possible(abi.arch(), nr, &[None; 6]);
    if let Answer::One(action) = answer {
        return action.to_string();
    }
    let mut text = String::new();
    for rule in side.rules(call) {
        let indices = rule.conditions.iter().map(|condition| condition.index);
        let repeats = rule
            .conditions
            .iter()
            .enumerate()
            .any(|(at, one)| indices.clone().take(at).any(|index| index == one.index));
        let conditions: Vec<_> = rule.conditions.iter().map(ToString::to_string).collect();
        let conditions = conditions.join(if repeats { " or " } else { " and " });
        let separator = if text.is_empty() { "" } else { "; " };
        let _ =
            write!(text, "{separator}{}{}{conditions}", rule.action, if conditions.is_empty() { "" } else { " if " });
    }
    if text.is_empty() {
        return "depends on which call it carries".to_owned();
    }
    let _ = write!(text, "; otherwise {}", side.filter.default_action());
    text
}

impl Differences {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// For people; the profiles are called by these names.
    pub fn text(&self, first: &str, second: &str) -> String {
        if self.is_empty() {
            return format!("{first} and {second} give every call the same answer\n");
        }
        let mut text = String::new();
        for (covers, one, other) in
            [(&self.only_first_covers, first, second), (&self.only_second_covers, second, first)]
        {
            for architecture in covers {
                let _ = writeln!(text, "{one} covers {architecture}; under {other} its calls kill their thread");
            }
        }
        let lists = [
            (&self.only_first_allows, format!("{first} allows what {second} does not")),
            (&self.only_second_allows, format!("{second} allows what {first} does not")),
            (&self.otherwise, "neither or both allow, in different ways".to_owned()),
        ];
        for (list, title) in lists.iter().filter(|(list, _)| !list.is_empty()) {
            let _ = writeln!(text, "{title}:");
            for difference in *list {
                let Difference { call, architectures, first: one, second: other, example } = difference;
                let _ = writeln!(text, "  {call} ({})", architectures.join(", "));
                let _ = writeln!(text, "    {first}: {one}\n    {second}: {other}");
                if let Some(example) = example {
                    let shown: Vec<_> = example.iter().map(|argument| format!("{argument:#x}")).collect();
                    let _ = writeln!(text, "    for example {call}({})", shown.join(", "));
                }
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::profile::{Target, parse, select::select};

    fn compare(first: &str, second: &str) -> Differences {
        let made = [first, second].map(|rules| {
            let text = format!(
                r#"{{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86"], "syscalls": [{rules}]}}"#
            );
            let parsed = parse("p", text.as_bytes());
            let selected =
                select(&parsed.profile.unwrap_or_else(|| panic!("{:?}", parsed.problems)), &Target::new(Abi::X86_64));
            let filter = Filter::for_libseccomp(&selected).unwrap();
            (selected, filter)
        });
        let [first, second] = &made;
        let side = |made: &'_ (Selected, Filter)| (made.0.clone(), made.1.clone());
        let (first, second) = (side(first), side(second));
        diff(Side { selected: &first.0, filter: &first.1 }, Side { selected: &second.0, filter: &second.1 })
    }

    const CLONE: &str = r#"{"names": ["clone"], "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}"#;

    #[test]
    fn the_same_rules_in_another_way_are_no_difference() {
        let one = r#"{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}"#;
        let other = r#"{"names": ["write"], "action": "SCMP_ACT_ALLOW"}, {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
                       {"names": ["mount"], "action": "SCMP_ACT_ERRNO"}"#;
        assert!(compare(one, other).is_empty());
        let less = r#"{"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_LT"}]}"#;
        let or_equal = r#"{"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 7, "op": "SCMP_CMP_LE"}]}"#;
        assert!(compare(less, or_equal).is_empty(), "{:?}", compare(less, or_equal));
    }

    #[test]
    fn a_call_that_only_one_allows_is_told_with_its_condition() {
        let differences = compare(CLONE, r#"{"names": ["mount"], "action": "SCMP_ACT_LOG"}"#);
        let [clone] = &differences.only_first_allows[..] else { panic!("{differences:?}") };
        assert_eq!((&*clone.call, &clone.architectures[..]), ("clone", &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"][..]));
        assert_eq!(clone.first, "allowed if arg0 & 0x7e020000 == 0x0; otherwise fails with EPERM");
        assert_eq!(clone.second, "fails with EPERM");
        let [mount] = &differences.only_second_allows[..] else { panic!("{differences:?}") };
        assert_eq!((&*mount.call, &*mount.second, mount.example), ("mount", "allowed and logged", None));
        let text = differences.text("a.json", "b.json");
        assert!(
            text.contains("a.json allows what b.json does not:\n  clone (SCMP_ARCH_X86_64, SCMP_ARCH_X86)\n"),
            "{text}"
        );
    }

    #[test]
    fn a_wider_condition_is_shown_by_an_example() {
        let differences = compare(r#"{"names": ["clone"], "action": "SCMP_ACT_ALLOW"}"#, CLONE);
        let [clone] = &differences.only_first_allows[..] else { panic!("{differences:?}") };
        assert!(clone.example.is_some_and(|arguments| arguments[0] & 0x7e02_0000 != 0), "{clone:?}");
        assert_eq!(differences.only_second_allows, []);
    }

    #[test]
    fn denials_of_another_kind_are_told_apart_from_permissions() {
        let one = r#"{"names": ["mount"], "action": "SCMP_ACT_KILL_PROCESS"}"#;
        let differences = compare(one, "");
        assert_eq!(differences.otherwise.len(), 1);
        assert!(differences.only_first_allows.is_empty() && differences.only_second_allows.is_empty());
    }
}
