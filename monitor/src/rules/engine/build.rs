//! From forms to a program: predicates numbered, steps joined, guards chosen.

use std::{collections::BTreeMap, sync::Arc};

use hashbrown::{HashMap, HashSet};

use super::{
    TooLarge,
    form::{Form, kind},
    index::{Index, Kind, Lists, number_key},
    matcher::Matcher,
    program::{Asked, FAILS, Guard, HOLDS, Literal, Lookup, Plan, Predicate, Program, Rule, Slot, Step},
    seen::KEY_SLOTS,
};
use crate::{
    event::value::Class,
    rules::{
        condition::{Check, Constant, Right},
        operand::Operand,
        parse::Operator,
    },
};

/// Puts the rules of a class together.
#[derive(Default)]
pub(super) struct Builder {
    predicates: HashMap<Arc<Check>, u32>,
    checks: Vec<Arc<Check>>,
    steps: Vec<Step>,
    shared: HashMap<Step, u32>,
    rules: Vec<Rule>,
    always: Vec<u32>,
    /// For each rule that has some: how it can be guarded.
    guarded: Vec<Guarded>,
}

/// How a rule can be guarded.
struct Guarded {
    rule: u32,
    /// Literals of which one must be true for it to hold; each of these will do.
    choices: Vec<Vec<Literal>>,
    /// Literals that must all be true, cheap to ask and shared by many rules.
    conditions: Vec<Literal>,
}

impl Builder {
    /// Steps so far.
    pub(super) fn steps(&self) -> usize {
        self.steps.len()
    }

    /// Adds a rule; what never holds is left out.
    pub(super) fn rule(&mut self, number: u32, form: &Form) {
        if *form == Form::Known(false) {
            return;
        }
        let start = self.compile(form, HOLDS, FAILS);
        let Ok(local) = u32::try_from(self.rules.len()) else { return };
        self.rules.push(Rule { number, start });
        let choices = choices(form);
        if choices.is_empty() {
            self.always.push(local);
            return;
        }
        let mut literals = |all: Vec<(&Arc<Check>, bool)>| -> Vec<Literal> {
            all.into_iter().map(|(check, wanted)| Literal { predicate: self.predicate(check), wanted }).collect()
        };
        let choices = choices.into_iter().map(|choice| literals(choice.literals)).collect();
        let conditions = literals(conditions(form));
        self.guarded.push(Guarded { rule: local, choices, conditions });
    }

    /// Steps for a form; returns the first. They are made from the last to the first.
    fn compile(&mut self, form: &Form, then: u32, otherwise: u32) -> u32 {
        match form {
            Form::Known(true) => then,
            Form::Known(false) => otherwise,
            Form::All(forms) => forms.iter().rev().fold(then, |next, form| self.compile(form, next, otherwise)),
            Form::Any(forms) => forms.iter().rev().fold(otherwise, |next, form| self.compile(form, then, next)),
            Form::Literal(check, positive) => {
                let predicate = self.predicate(check);
                let (then, otherwise) = if *positive { (then, otherwise) } else { (otherwise, then) };
                let step = Step { predicate, then, otherwise };
                let next = u32::try_from(self.steps.len()).unwrap_or(FAILS);
                let at = *self.shared.entry(step).or_insert(next);
                if at == next {
                    self.steps.push(step);
                }
                at
            }
        }
    }

    fn predicate(&mut self, check: &Arc<Check>) -> u32 {
        let next = u32::try_from(self.checks.len()).unwrap_or(u32::MAX);
        let number = *self.predicates.entry(Arc::clone(check)).or_insert(next);
        if number == next {
            self.checks.push(Arc::clone(check));
        }
        number
    }

    /// Decides which predicates are looked up, and which guard the rules.
    pub(super) fn build(mut self) -> Result<Program, TooLarge> {
        let mut plan = Plan {
            steps: std::mem::take(&mut self.steps),
            rules: std::mem::take(&mut self.rules),
            always: std::mem::take(&mut self.always),
            ..Plan::default()
        };
        let groups = groups(&self.checks);
        let chosen = self.choose(&self.by_predicate(&groups));
        let guarding: HashSet<u32> =
            self.guards(&chosen).filter(|(_, one)| one.wanted).map(|(_, one)| one.predicate).collect();
        let groups: Vec<Group<'_>> = groups.into_iter().flat_map(|group| group.split(&guarding)).collect();
        let by_predicate = self.by_predicate(&groups);
        let mut slots = Slots::default();
        let mut first_mark = 0;
        for Group { operand, kind, constants } in groups {
            let index = Index::new(kind, constants).ok_or(TooLarge)?;
            let marks = index.len();
            plan.lookups.push(Lookup { operand: slots.asked(operand), index, first_mark });
            first_mark += marks;
        }
        self.set_guards(&mut plan, &chosen, &by_predicate).ok_or(TooLarge)?;
        for (check, lookup) in self.checks.iter().zip(&by_predicate) {
            plan.predicates.push(match lookup {
                Some(lookup) => Predicate::Indexed(*lookup),
                None => slots.predicate(check)?,
            });
        }
        (plan.operands, plan.several) = (slots.operands, slots.several);
        plan.key = key(&plan);
        Ok(Program::new(plan))
    }

    /// For each predicate the group that answers it.
    fn by_predicate(&self, groups: &[Group<'_>]) -> Vec<Option<u32>> {
        let mut by_predicate = vec![None; self.checks.len()];
        for (group, number) in groups.iter().zip(0..) {
            for predicate in group.constants.values().flatten() {
                if let Some(lookup) = by_predicate.get_mut(*predicate as usize) {
                    *lookup = Some(number);
                }
            }
        }
        by_predicate
    }

    /// Each rule with each literal of the guard that was chosen for it.
    fn guards<'b>(&'b self, chosen: &'b [usize]) -> impl Iterator<Item = (&'b Guarded, &'b Literal)> {
        self.guarded.iter().zip(chosen).flat_map(|(guarded, choice)| {
            guarded.choices.get(*choice).into_iter().flatten().map(move |literal| (guarded, literal))
        })
    }

    /// Which lookups and predicates choose which rules; `None` if there are too many.
    fn set_guards(&self, plan: &mut Plan, chosen: &[usize], by_predicate: &[Option<u32>]) -> Option<()> {
        let mut gates: BTreeMap<Literal, Vec<u32>> = BTreeMap::new();
        let mut guards: BTreeMap<u32, Vec<Vec<Literal>>> = BTreeMap::new();
        let mut guarded: HashMap<u32, Vec<u32>> = HashMap::new();
        for (rule, literal) in self.guards(chosen) {
            match source(*literal, by_predicate) {
                Guarding::Lookup(lookup) => {
                    guards.entry(lookup).or_default().push(rule.conditions.clone());
                    guarded.entry(literal.predicate).or_default().push(rule.rule);
                }
                Guarding::Gate(literal) => gates.entry(literal).or_default().push(rule.rule),
            }
        }
        plan.gates = gates.into_iter().collect();
        for (lookup, conditions) in guards {
            let index = &plan.lookups.get(lookup as usize)?.index;
            let chosen_by = |constant: u32| {
                let rules = index.named_by(constant).iter().filter_map(|predicate| guarded.get(predicate)).flatten();
                let mut rules: Vec<u32> = rules.copied().collect();
                rules.sort_unstable();
                rules.dedup();
                rules
            };
            let rules = Lists::new((0..u32::try_from(index.len()).ok()?).map(chosen_by))?;
            plan.guards.push(Guard { lookup, conditions: weakest(conditions), rules });
        }
        Some(())
    }

    /// For each rule the position of its choice: what others use already costs it nothing.
    fn choose(&self, by_predicate: &[Option<u32>]) -> Vec<usize> {
        let source = |literal: &Literal| source(*literal, by_predicate);
        let mut used: HashMap<Guarding, usize> = HashMap::new();
        let mut chosen = vec![0; self.guarded.len()];
        for sweep in 0..SWEEPS {
            for (guarded, choice) in self.guarded.iter().zip(&mut chosen) {
                let sources = |choice: usize| guarded.choices.get(choice).into_iter().flatten().map(source);
                if sweep > 0 {
                    sources(*choice).for_each(|one| *used.entry(one).or_default() -= 1);
                }
                let price = |choice: &usize| {
                    let literals = guarded.choices.get(*choice).into_iter().flatten();
                    literals.map(|literal| self.price(*literal, source(literal), &used)).sum::<u32>()
                };
                *choice = (0..guarded.choices.len()).min_by_key(price).unwrap_or(0);
                sources(*choice).for_each(|one| *used.entry(one).or_default() += 1);
            }
        }
        chosen
    }

    fn price(&self, literal: Literal, source: Guarding, used: &HashMap<Guarding, usize>) -> u32 {
        let shared = used.get(&source).is_some_and(|count| *count > 0);
        let check = self.checks.get(literal.predicate as usize);
        let cost = check.map_or(0, |check| cost(check, literal.wanted));
        match source {
            Guarding::Lookup(_) if shared => 1,
            // A gate lets its rules pass, however many there are.
            _ => cost * 4,
        }
    }
}

/// What chooses rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Guarding {
    Lookup(u32),
    Gate(Literal),
}

/// Different conditions of a lookup from which on it is made always.
const MAX_CONDITIONS: usize = 8;
/// Conditions of one rule.
const MAX_LITERALS: usize = 3;
/// Literals of one rule of which its conditions are taken.
const MAX_IMPLIED: usize = 16;
/// How often the choice of guards is looked over.
const SWEEPS: usize = 4;
/// Guards of a rule that are compared.
const MAX_CHOICES: usize = 8;

/// Ways to choose rules from which on it is worth to find out whether an event was seen before.
const MIN_CHOICES: usize = 3;
/// Fields that tell events apart, the best first.
const TELLING: &[&str] = &["fd.name", "proc.cmdline", "proc.name"];

fn source(literal: Literal, by_predicate: &[Option<u32>]) -> Guarding {
    match by_predicate.get(literal.predicate as usize) {
        Some(Some(lookup)) if literal.wanted => Guarding::Lookup(*lookup),
        _ => Guarding::Gate(literal),
    }
}

/// Constants on an operand that are looked for alike, and the predicates that name each.
struct Group<'c> {
    operand: &'c Operand,
    kind: Kind,
    constants: HashMap<Vec<u8>, Vec<u32>>,
}

impl Group<'_> {
    /// Searching takes longer for more constants: those that guard rules, which are searched for with every event, are kept
    /// apart from those that are seldom asked for.
    fn split(self, guarding: &HashSet<u32>) -> impl Iterator<Item = Self> {
        let Self { operand, kind, constants } = self;
        let parts = match kind {
            Kind::Contains | Kind::ContainsIgnoringCase => {
                let part = |guards: bool| -> HashMap<_, _> {
                    let named_by = |predicates: &[u32]| -> Vec<u32> {
                        predicates.iter().copied().filter(|predicate| guarding.contains(predicate) == guards).collect()
                    };
                    let all = constants.iter().map(|(constant, predicates)| (constant.clone(), named_by(predicates)));
                    all.filter(|(_, predicates)| !predicates.is_empty()).collect()
                };
                [part(true), part(false)]
            }
            _ => [constants, HashMap::new()],
        };
        parts.into_iter().filter(is_worth).map(move |constants| Self { operand, kind, constants })
    }
}

/// One constant by itself is compared faster.
fn is_worth(constants: &HashMap<Vec<u8>, Vec<u32>>) -> bool {
    constants.len() > 1 || constants.values().any(|predicates| predicates.len() > 1)
}

/// Checks that an index can answer together, by operand and kind.
fn groups(checks: &[Arc<Check>]) -> Vec<Group<'_>> {
    let mut numbers: HashMap<(&Operand, Kind), usize> = HashMap::new();
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (check, predicate) in checks.iter().zip(0..) {
        let Some((kind, constants)) = kind(check) else { continue };
        let number = *numbers.entry((&check.left, kind)).or_insert_with(|| {
            groups.push(Group { operand: &check.left, kind, constants: HashMap::new() });
            groups.len() - 1
        });
        let Some(group) = groups.get_mut(number) else { continue };
        for constant in constants {
            let key = match constant {
                Constant::Number(number) => number_key(*number, <[u8]>::to_vec),
                other => other.text().unwrap_or_default().to_vec(),
            };
            let named_by = group.constants.entry(key).or_default();
            if named_by.last() != Some(&predicate) {
                named_by.push(predicate);
            }
        }
    }
    groups.retain(|group| is_worth(&group.constants));
    groups
}

/// Gives numbers to operands.
#[derive(Default)]
struct Slots {
    operands: Vec<Slot>,
    numbers: HashMap<Operand, u32>,
    several: Vec<Operand>,
}

impl Slots {
    /// That of an operand with one value, which one more asks for; to hold it against constants and nothing else?
    fn slot(&mut self, operand: &Operand, to_measure: bool) -> u32 {
        let slot = *self.numbers.entry_ref(operand).or_insert(number(self.operands.len()));
        let is_measured = to_measure && matches!(operand.ty().class(), Class::Number | Class::Bool);
        match self.operands.get_mut(slot as usize) {
            Some(asked) => {
                asked.is_shared = true;
                asked.is_measured &= is_measured;
            }
            None => self.operands.push(Slot { operand: operand.clone(), is_shared: false, is_measured }),
        }
        slot
    }

    /// That of an operand with several.
    fn several(&mut self, operand: &Operand) -> u32 {
        let known = self.several.iter().position(|other| other == operand);
        let at = known.unwrap_or(self.several.len());
        if known.is_none() {
            self.several.push(operand.clone());
        }
        number(at)
    }

    fn asked(&mut self, operand: &Operand) -> Asked {
        if operand.is_several() {
            Asked::Several(self.several(operand))
        } else {
            Asked::Slot(self.slot(operand, false))
        }
    }

    fn predicate(&mut self, check: &Check) -> Result<Predicate, TooLarge> {
        if let Right::Operand(right) = &check.right {
            return Ok(Predicate::Compared(self.slot(&check.left, false), check.operator, self.slot(right, false)));
        }
        let matcher = Matcher::new(check).map_err(|_| TooLarge)?;
        if check.asks_several() {
            let all = check.operator == Operator::Ne && check.left.differs_in_all();
            return Ok(Predicate::Several(self.several(&check.left), matcher, all));
        }
        Ok(Predicate::Single(self.slot(&check.left, true), matcher))
    }
}

fn number(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

/// Slots whose values tell events apart best, of those that are always asked for.
fn key(plan: &Plan) -> Vec<u32> {
    if plan.always.len() + plan.gates.len() + plan.guards.len() < MIN_CHOICES {
        return Vec::new();
    }
    let asked = plan.guards.iter().filter_map(|guard| match plan.lookups.get(guard.lookup as usize)?.operand {
        Asked::Slot(slot) => Some(slot),
        Asked::Several(_) => None,
    });
    let asked: Vec<u32> = asked.collect();
    let is = |slot: &u32, name: &str| plan.operands.get(*slot as usize).is_some_and(|slot| slot.operand.is_field(name));
    let of_name = |name: &&str| asked.iter().copied().find(|slot| is(slot, name));
    TELLING.iter().filter_map(of_name).take(KEY_SLOTS).collect()
}

/// Literals of which one must be true, and what asking them costs.
#[derive(Clone)]
struct Choice<'f> {
    literals: Vec<(&'f Arc<Check>, bool)>,
    cost: u32,
}

/// The cheapest guards of a form; none where there is none.
fn choices(form: &Form) -> Vec<Choice<'_>> {
    match form {
        Form::Known(_) => Vec::new(),
        Form::Literal(check, positive) => {
            vec![Choice { literals: vec![(check, *positive)], cost: cost(check, *positive) }]
        }
        Form::All(forms) => {
            let mut all: Vec<Choice<'_>> = forms.iter().flat_map(choices).collect();
            all.sort_by_key(|choice| (choice.cost, choice.literals.len()));
            all.truncate(MAX_CHOICES);
            all
        }
        Form::Any(forms) => {
            let mut joined = Choice { literals: Vec::new(), cost: 0 };
            for form in forms {
                let Some(cheapest) = choices(form).into_iter().next() else { return Vec::new() };
                joined.literals.extend(cheapest.literals);
                joined.cost = joined.cost.saturating_add(cheapest.cost);
            }
            vec![joined]
        }
    }
}

/// Of different conditions those that no other implies. None if one of them is nothing, or if they are too many: then a lookup
/// is made always.
fn weakest(mut conditions: Vec<Vec<Literal>>) -> Vec<Vec<Literal>> {
    for condition in &mut conditions {
        condition.sort_unstable();
    }
    conditions.sort_unstable_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    conditions.dedup();
    let mut weakest: Vec<Vec<Literal>> = Vec::new();
    for condition in conditions {
        let is_implied = |weaker: &Vec<Literal>| weaker.iter().all(|literal| condition.contains(literal));
        if weakest.len() <= MAX_CONDITIONS && !weakest.iter().any(is_implied) {
            weakest.push(condition);
        }
    }
    if weakest.len() > MAX_CONDITIONS || weakest.iter().any(Vec::is_empty) { Vec::new() } else { weakest }
}

/// Literals that must all be true and are asked quickly: truths, and fields with few values.
fn conditions(form: &Form) -> Vec<(&Arc<Check>, bool)> {
    let mut found = implied(form);
    // Truths tell events apart best.
    found.sort_by_key(|(check, _)| check.left.ty().class() != Class::Bool);
    found.truncate(MAX_LITERALS);
    found
}

/// Quick literals that a form implies: those of each of its parts, or those that all its alternatives have.
fn implied(form: &Form) -> Vec<(&Arc<Check>, bool)> {
    match form {
        Form::Literal(check, positive) if is_quick(check) => vec![(check, *positive)],
        Form::Literal(..) | Form::Known(_) => Vec::new(),
        Form::All(forms) => {
            let mut all: Vec<(&Arc<Check>, bool)> = Vec::new();
            for literal in forms.iter().flat_map(implied) {
                if all.len() < MAX_IMPLIED && !all.contains(&literal) {
                    all.push(literal);
                }
            }
            all
        }
        Form::Any(forms) => {
            let mut all = forms.first().map(implied).unwrap_or_default();
            for form in forms.iter().skip(1) {
                if all.is_empty() {
                    break;
                }
                let others = implied(form);
                all.retain(|literal| others.contains(literal));
            }
            all
        }
    }
}

fn is_quick(check: &Check) -> bool {
    let quick = matches!(check.operator, Operator::Eq | Operator::Assign | Operator::Ne);
    let one = matches!(&check.right, Right::Constants(constants) if constants.len() == 1);
    quick && one && !check.left.is_several() && (check.left.ty().class() == Class::Bool || has_few_values(check))
}

fn has_few_values(check: &Check) -> bool {
    FEW_VALUES.iter().any(|name| check.left.is_field(name))
}

/// What a literal costs as a guard: how long it takes, and how often it lets events pass.
fn cost(check: &Check, positive: bool) -> u32 {
    let few_values = check.left.ty().class() == Class::Bool || has_few_values(check);
    let cost = match (kind(check).map(|(kind, _)| kind), check.operator) {
        _ if few_values => 10,
        // Each ancestor is looked for by itself.
        _ if check.left.is_several() => 12,
        (Some(Kind::Equal), _) if check.left.ty().class() == Class::Number => 4,
        (Some(Kind::Equal), _) => 1,
        (Some(Kind::Prefix | Kind::Suffix), _) => 2,
        (Some(Kind::Contains), _) => 5,
        (Some(Kind::ContainsIgnoringCase), _) => 6,
        (None, Operator::Regex | Operator::Glob | Operator::Iglob | Operator::Pmatch) => 12,
        (None, _) => 10,
    };
    if positive { cost } else { cost + 20 }
}

/// Fields that have the same value in many events.
const FEW_VALUES: &[&str] = &[
    "container.id",
    "container.type",
    "evt.category",
    "evt.dir",
    "evt.res",
    "evt.source",
    "fd.l4proto",
    "fd.sockfamily",
    "fd.type",
    "fd.typechar",
    "syscall.type",
    "user.name",
];
