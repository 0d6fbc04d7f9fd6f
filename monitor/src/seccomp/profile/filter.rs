//! What the kernel answers to a call under a profile: what runc and libseccomp make of it, without making the program.
//!
//! runc leaves out rules whose action is the default one, takes each condition alone where two are about one argument, and
//! puts a stub in front: calls newer than any that the profile names fail with ENOSYS, so that programs fall back
//! (`libcontainer/seccomp/patchbpf` of runc 1.5). libseccomp adds each rule to every ABI that has the call. A call through an
//! ABI that the profile does not list kills its thread.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    Abi, Action, Condition, Operator, abi,
    program::{Program, Target},
    select::Selected,
    tree::{Tree, Unfit},
};
use crate::{seccomp::classic::Data, syscall::Arch};

pub use super::tree::Arguments;

/// What a call through an ABI gets that the profile does not list (`SCMP_FLTATR_ACT_BADARCH`).
pub const BAD_ARCHITECTURE: Action = Action::KILL_THREAD;
/// What runc's stub answers.
pub const TOO_NEW: Action = Action::ERRNO.with_data(38);

/// Calls up to which runc lets libseccomp make a list and no tree.
const MAX_LINEAR: usize = 32;

/// Why no filter comes of a profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refused {
    /// The call whose rule does not fit.
    pub call: String,
    /// In the rules of this ABI.
    pub abi: Abi,
    /// Why.
    pub reason: Reason,
}

/// Why a rule does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Another rule gives the same arguments another action.
    Conflict,
    /// libseccomp never comes to an end with it.
    Endless,
    /// The filter would be longer than the kernel takes.
    TooLong,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, abi, reason } = self;
        let what = match reason {
            Reason::Conflict => {
                "another rule gives the same arguments another action: runtimes refuse to start the container"
            }
            Reason::Endless => {
                "libseccomp 2.5 never comes to an end with these conditions: the container hangs at its start"
            }
            Reason::TooLong => "more conditions than the kernel takes in a filter",
        };
        write!(f, "`{call}` ({}): {what}", abi.name())
    }
}

/// What a filter answers when not everything is known of a call's arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This, whatever they are.
    One(Action),
    /// One of these.
    DependsOnArguments(BTreeSet<Action>),
}

/// The filter that a profile becomes.
#[derive(Clone, Debug)]
pub struct Filter {
    default_action: Action,
    tables: BTreeMap<Abi, Table>,
    program: Program,
    /// ABIs whose rules never apply: see [`Filter::blind`].
    blind: Vec<Abi>,
}

/// The rules of an ABI, as a program.
#[derive(Clone, Debug, Default)]
struct Table {
    calls: BTreeMap<u32, Target>,
    /// Beyond this number runc's stub answers.
    newest: Option<u32>,
}

impl Filter {
    /// What runc makes of the rules.
    pub fn for_runc(selected: &Selected) -> Result<Self, Refused> {
        let mut filter = Self::new(selected, selected.rules.len() > MAX_LINEAR)?;
        let default = selected.default_action;
        if default.lets_pass() || default.kind() == Action::TRACE {
            return Ok(filter);
        }
        for (abi, table) in &mut filter.tables {
            let named = selected.rules.iter().map(|rule| rule.name.as_str());
            // To libseccomp the calls that socketcall and ipc carry have no number on 32-bit x86.
            let numbers = named.filter(|name| *abi != Abi::X86 || abi::multiplexed(name).is_none());
            table.newest = numbers.filter_map(|name| abi.number(name)).max().filter(|newest| *newest > 0);
        }
        Ok(filter)
    }

    /// The rules alone, without runc's stub, as a list of calls.
    pub fn for_libseccomp(selected: &Selected) -> Result<Self, Refused> {
        Self::new(selected, false)
    }

    fn new(selected: &Selected, is_tree: bool) -> Result<Self, Refused> {
        let mut rules = Rules::new(&selected.abis);
        for rule in selected.rules.iter().filter(|rule| rule.action != selected.default_action) {
            let repeats = (0..6).any(|index| rule.conditions.iter().filter(|other| other.index == index).count() > 1);
            if repeats {
                for condition in &rule.conditions {
                    rules.add(&rule.name, &[*condition], rule.action)?;
                }
            } else {
                let mut conditions = rule.conditions.clone();
                conditions.sort_by_key(|condition| condition.index);
                rules.add(&rule.name, &conditions, rule.action)?;
            }
        }
        rules.finish(selected.default_action, is_tree)
    }

    /// ABIs whose rules never apply, so that every call gets the default action.
    ///
    /// libseccomp (2.5 and 2.6, unless it makes a binary tree) loads the number of the call in front of the rules that need
    /// the fewest tests. Where that is a call which the ABI has not, it leaves the rule out, and the loading with it.
    pub fn blind(&self) -> &[Abi] {
        &self.blind
    }

    /// Whether the filter covers an ABI.
    pub fn covers(&self, abi: Abi) -> bool {
        self.tables.contains_key(&abi)
    }

    /// What happens to calls that no rule is about.
    pub const fn default_action(&self) -> Action {
        self.default_action
    }

    /// The ABIs that it covers.
    pub fn abis(&self) -> impl Iterator<Item = Abi> {
        self.tables.keys().copied()
    }

    /// What the kernel does with a call.
    pub fn answer(&self, data: &Data) -> Action {
        let Some(arch) = Arch::of_audit(data.arch) else { return BAD_ARCHITECTURE };
        match self.possible(arch, data.nr.cast_unsigned(), &data.args.map(Some)) {
            Answer::One(action) => action,
            // With all arguments known every test has one outcome.
            Answer::DependsOnArguments(actions) => actions.first().copied().unwrap_or(self.default_action),
        }
    }

    /// What the kernel may do with a call of which not everything is known.
    pub fn possible(&self, arch: Arch, nr: u32, arguments: &Arguments) -> Answer {
        let abi = Abi::of_call(arch, nr);
        let Some(table) = self.tables.get(&abi) else {
            // A tracer skips a call by this number: libseccomp lets it through to the rules of x86-64.
            let is_skipped = abi == Abi::X32 && nr == u32::MAX && self.covers(Abi::X86_64);
            return Answer::One(if is_skipped { self.default_action } else { BAD_ARCHITECTURE });
        };
        if table.newest.is_some_and(|newest| nr > newest) {
            return Answer::One(TOO_NEW);
        }
        let first = table.calls.get(&nr).filter(|_| !self.blind.contains(&abi));
        let Some(first) = first else { return Answer::One(self.default_action) };
        let actions = self.program.answers(*first, arguments);
        match actions.first() {
            Some(action) if actions.len() == 1 => Answer::One(*action),
            _ => Answer::DependsOnArguments(actions),
        }
    }
}

/// The rules by ABI and call, before they are a program.
struct Rules {
    /// In the order in which libseccomp has them.
    abis: Vec<(Abi, Trees)>,
}

#[derive(Default)]
struct Trees {
    calls: BTreeMap<u32, (String, Tree)>,
    /// Rules about calls that the ABI has not: they judge nothing, but can still be in conflict.
    absent: BTreeMap<String, Tree>,
}

impl Rules {
    fn new(abis: &[Abi]) -> Self {
        Self { abis: abis.iter().map(|abi| (*abi, Trees::default())).collect() }
    }

    fn add(&mut self, name: &str, conditions: &[Condition], action: Action) -> Result<(), Refused> {
        for (abi, trees) in &mut self.abis {
            if let Some((carrier, number)) = abi::multiplexed(name).filter(|_| *abi == Abi::X86) {
                // The first argument says which call it is; a condition on it is lost.
                let which = Condition { index: 0, operator: Operator::Equal, value: u64::from(number), value_two: 0 };
                let others = conditions.iter().filter(|condition| condition.index != 0);
                let carried: Vec<_> = std::iter::once(which).chain(others.copied()).collect();
                trees.add(*abi, carrier, &carried, action).map_err(|unfit| Refused::new(name, *abi, unfit))?;
            }
            trees.add(*abi, name, conditions, action).map_err(|unfit| Refused::new(name, *abi, unfit))?;
        }
        Ok(())
    }

    /// The lists of calls: one for each architecture that the kernel tells apart, in order.
    fn groups(&self) -> Vec<Vec<&(Abi, Trees)>> {
        let mut groups: Vec<Vec<&(Abi, Trees)>> = Vec::new();
        for own in &self.abis {
            match groups.iter_mut().find(|group| group.iter().any(|(abi, _)| abi.arch() == own.0.arch())) {
                Some(group) => group.push(own),
                None => groups.push(vec![own]),
            }
        }
        groups
    }

    fn finish(&self, default_action: Action, is_tree: bool) -> Result<Filter, Refused> {
        let tables = self.abis.iter().map(|(abi, _)| (*abi, Table::default())).collect();
        let mut filter = Filter { default_action, tables, program: Program::default(), blind: Vec::new() };
        let mut order = Vec::new();
        for group in self.groups() {
            let mut list: Vec<_> = group.iter().flat_map(|(abi, trees)| trees.list(*abi)).collect();
            if is_tree {
                list.sort_by_key(|entry| std::cmp::Reverse(entry.number));
            } else {
                list.sort_by_key(|entry| entry.tree.size());
            }
            // x86-64 alone loads the number, to see whether it is of x32.
            let loads = is_tree || matches!(&group[..], [(Abi::X86_64, _)]);
            if !loads && list.first().is_some_and(|entry| entry.number.is_none()) {
                filter.blind.extend(group.iter().map(|(abi, _)| *abi));
            }
            for Entry { abi, number, name, tree } in list.into_iter().filter(|entry| entry.number.is_some()) {
                let made = filter.program.call(tree, default_action);
                let first = made.map_err(|unfit| Refused::new(name, abi, unfit))?;
                order.push(first);
                if let (Some(table), Some(number)) = (filter.tables.get_mut(&abi), number) {
                    table.calls.insert(number, first);
                }
            }
        }
        order.into_iter().rev().for_each(|first| filter.program.lay_out(first));
        Ok(filter)
    }
}

/// A call in a list.
struct Entry<'a> {
    abi: Abi,
    /// `None` where the ABI has no such call.
    number: Option<u32>,
    name: &'a str,
    tree: &'a Tree,
}

impl Trees {
    fn add(&mut self, abi: Abi, name: &str, conditions: &[Condition], action: Action) -> Result<(), Unfit> {
        let number = abi.number(name);
        // Where calls can be carried by others, libseccomp looks only at those that can.
        if number.is_none() && abi == Abi::X86 && abi::multiplexed(name).is_none() {
            return Ok(());
        }
        let existing = match number {
            Some(number) => self.calls.get_mut(&number).map(|(_, tree)| tree),
            None => self.absent.get_mut(name),
        };
        if let Some(tree) = existing {
            return tree.add(conditions, abi.is_64_bit(), action);
        }
        let tree = Tree::new(conditions, abi.is_64_bit(), action);
        match number {
            Some(number) => drop(self.calls.insert(number, (name.to_owned(), tree))),
            None => drop(self.absent.insert(name.to_owned(), tree)),
        }
        Ok(())
    }

    /// By number; those without one are behind all others.
    fn list(&self, abi: Abi) -> impl Iterator<Item = Entry<'_>> {
        let calls =
            self.calls.iter().map(move |(number, (name, tree))| Entry { abi, number: Some(*number), name, tree });
        calls.chain(self.absent.iter().map(move |(name, tree)| Entry { abi, number: None, name, tree }))
    }
}

impl Refused {
    fn new(call: &str, abi: Abi, unfit: Unfit) -> Self {
        let reason = match unfit {
            Unfit::Conflict => Reason::Conflict,
            Unfit::Endless => Reason::Endless,
            Unfit::TooLong => Reason::TooLong,
        };
        Self { call: call.to_owned(), abi, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::profile::{Target, parse, select::select};

    const EPERM: Action = Action::ERRNO.with_data(1);

    fn selected(architectures: &str, rules: &str) -> Selected {
        let text = format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "architectures": [{architectures}], "syscalls": [{rules}]}}"#
        );
        let parsed = parse("p", text.as_bytes());
        select(&parsed.profile.unwrap_or_else(|| panic!("{:?}", parsed.problems)), &Target::new(Abi::X86_64))
    }

    fn made(architectures: &str, rules: &str) -> Filter {
        Filter::for_libseccomp(&selected(architectures, rules)).unwrap()
    }

    fn allow(names: &str, conditions: &str) -> String {
        format!(r#"{{"names": [{names}], "action": "SCMP_ACT_ALLOW", "args": [{conditions}]}}"#)
    }

    fn when(index: u8, operator: &str, value: u64) -> String {
        format!(r#"{{"index": {index}, "value": {value}, "op": "SCMP_CMP_{operator}"}}"#)
    }

    fn answer(filter: &Filter, abi: Abi, nr: u32, args: [u64; 6]) -> Action {
        filter.answer(&Data { nr: nr.cast_signed(), arch: abi.arch().audit(), ip: 0, args })
    }

    #[test]
    fn calls_through_an_abi_that_is_not_listed_kill_their_thread() {
        let filter = made("", &allow(r#""getpid""#, ""));
        let call = |abi: Abi| answer(&filter, abi, abi.number("getpid").unwrap(), [0; 6]);
        let expected = [Action::ALLOW, BAD_ARCHITECTURE, BAD_ARCHITECTURE, BAD_ARCHITECTURE, BAD_ARCHITECTURE];
        assert_eq!(Abi::ALL.map(call), expected);
        assert_eq!(answer(&filter, Abi::X86_64, u32::MAX, [0; 6]), EPERM, "a tracer skips a call with -1");
        assert_eq!(filter.answer(&Data { nr: 39, arch: 0xc000_0016, ip: 0, args: [0; 6] }), BAD_ARCHITECTURE, "s390x");
    }

    #[test]
    fn the_upper_half_counts_only_on_64_bits() {
        let filter = made(r#""SCMP_ARCH_X86", "SCMP_ARCH_X32""#, &allow(r#""personality""#, &when(0, "EQ", 8)));
        let call = |abi: Abi| answer(&filter, abi, abi.number("personality").unwrap(), [1 << 32 | 8, 0, 0, 0, 0, 0]);
        assert_eq!([Abi::X86_64, Abi::X86, Abi::X32].map(call), [EPERM, Action::ALLOW, Action::ALLOW]);
    }

    #[test]
    fn sockets_of_32_bit_x86_are_allowed_both_ways() {
        let filter = made(r#""SCMP_ARCH_X86""#, &allow(r#""socket""#, &when(0, "EQ", 1)));
        let socketcall = Abi::X86.number("socketcall").unwrap();
        assert_eq!(answer(&filter, Abi::X86, socketcall, [1, 99, 0, 0, 0, 0]), Action::ALLOW, "the family is not seen");
        assert_eq!(answer(&filter, Abi::X86, socketcall, [2, 0, 0, 0, 0, 0]), EPERM, "bind");
        assert_eq!(answer(&filter, Abi::X86, Abi::X86.number("socket").unwrap(), [2, 0, 0, 0, 0, 0]), EPERM);
    }

    #[test]
    fn conditions_on_one_argument_are_alternatives_and_on_several_a_conjunction() {
        let both = |conditions: [String; 2]| made("", &allow(r#""read""#, &conditions.join(",")));
        let call = |filter: &Filter, first, second| answer(filter, Abi::X86_64, 0, [first, second, 0, 0, 0, 0]);
        let range = both([when(0, "GE", 5), when(0, "LE", 2)]);
        assert_eq!([1, 3, 7].map(|value| call(&range, value, 0)), [Action::ALLOW, EPERM, Action::ALLOW]);
        let pair = both([when(0, "GE", 5), when(1, "LE", 2)]);
        assert_eq!([(7, 1), (7, 3), (1, 1)].map(|(a, b)| call(&pair, a, b)), [Action::ALLOW, EPERM, EPERM]);
    }

    #[test]
    fn what_is_not_known_of_the_arguments_leaves_several_answers() {
        let filter = made("", &allow(r#""read""#, &when(0, "NE", 5)));
        let possible = |first| filter.possible(Arch::X86_64, 0, &[first, None, None, None, None, None]);
        assert_eq!((possible(Some(5)), possible(Some(6))), (Answer::One(EPERM), Answer::One(Action::ALLOW)));
        assert_eq!(possible(None), Answer::DependsOnArguments(BTreeSet::from([EPERM, Action::ALLOW])));
    }

    #[test]
    fn calls_newer_than_all_that_are_named_fail_with_enosys_under_runc() {
        let selected = selected("", &allow(r#""openat2""#, ""));
        let nr = Abi::X86_64.number("openat2").unwrap();
        let filter = Filter::for_runc(&selected).unwrap();
        assert_eq!(
            [nr - 1, nr, nr + 1].map(|nr| answer(&filter, Abi::X86_64, nr, [0; 6])),
            [EPERM, Action::ALLOW, TOO_NEW]
        );
        let filter = Filter::for_libseccomp(&selected).unwrap();
        assert_eq!(answer(&filter, Abi::X86_64, nr + 1, [0; 6]), EPERM);
    }

    #[test]
    fn rules_that_no_filter_comes_of_are_refused() {
        let refused = |rules: &str| Filter::for_libseccomp(&selected("", rules)).unwrap_err();
        let log =
            r#"{"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}"#;
        let conflict = refused(&format!("{}, {log}", allow(r#""read""#, &when(0, "EQ", 1))));
        assert_eq!((&*conflict.call, conflict.reason), ("read", Reason::Conflict));
        let rule = |value| allow(r#""write""#, &[when(0, "GT", 5), when(1, "EQ", value)].join(","));
        assert_eq!(refused(&[rule(1), rule(1 << 33)].join(",")).reason, Reason::Endless);
        let many: Vec<_> = (0..5000).map(|value| allow(r#""write""#, &when(0, "EQ", value))).collect();
        assert_eq!(refused(&many.join(",")).reason, Reason::TooLong);
    }

    #[test]
    fn an_abi_whose_first_rules_are_about_no_call_of_it_is_blind() {
        let condition = when(0, "EQ", 1);
        let rules = [allow(r#""waitpid""#, ""), allow(r#""read""#, &condition)].join(",");
        let filter = made(r#""SCMP_ARCH_X32""#, &rules);
        assert_eq!(filter.blind(), [Abi::X86_64, Abi::X32]);
        assert_eq!(answer(&filter, Abi::X86_64, 0, [1, 0, 0, 0, 0, 0]), EPERM, "read is never looked for");
        assert_eq!(made("", &rules).blind(), []);
    }
}
