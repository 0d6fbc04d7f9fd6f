//! The rules about one call as libseccomp keeps them: a tree of tests on 32-bit words of the arguments.
//!
//! A level is a list of tests, tried in order. The outcome of each leads to an answer, to a level of its own, or on to the
//! next test; a level without an answer goes on after the test that led to it. A new rule is a chain of tests that is merged
//! into the tree: where a test is there already, what follows it is merged below. Merging has consequences that follow from
//! no single rule (tests that two chains share lead to both chains' rests), and the program that libseccomp makes of the tree
//! has more ([`super::program`]). They are kept, because they are what the kernel runs. Observed in libseccomp 2.5.4.

mod prune;

use std::collections::BTreeSet;

use self::prune::Search;
use super::{Action, Condition, Operator};

/// Tests of a call's rules; a filter has at most 4096 instructions, and a test needs at least one.
const MAX_NODES: usize = 8192;
/// Levels that are followed; a rule on six arguments has 18.
const MAX_DEPTH: usize = 64;

/// Why libseccomp refuses a rule, or should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// `EEXIST`: another rule gives the same arguments another action.
    Conflict,
    /// Merging the rule makes a list that ends in itself, in which libseccomp never comes to an end.
    Endless,
    /// More tests than a filter can have.
    TooLong,
}

/// What is known of a call's arguments.
pub type Arguments = [Option<u64>; 6];

pub(super) type NodeId = usize;
type LevelId = usize;

/// How a word is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Comparison {
    Equal,
    /// Equal after a mask. Another thing than `Equal` even with a mask of all bits.
    Masked,
    Greater,
    GreaterOrEqual,
}

/// Half of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Word {
    argument: u8,
    is_high: bool,
}

impl Word {
    pub(super) fn of(self, arguments: &Arguments) -> Held {
        let argument = arguments.get(usize::from(self.argument)).copied().flatten();
        argument.map_or(Held::Unknown, |argument| Held::Known(half(argument, self.is_high)))
    }
}

/// What a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Held {
    Unknown,
    Known(u32),
}

impl Held {
    pub(super) const fn masked(self, mask: u32) -> Self {
        match self {
            Self::Known(word) => Self::Known(word & mask),
            Self::Unknown if mask == 0 => Self::Known(0),
            Self::Unknown => Self::Unknown,
        }
    }
}

/// A test of one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Test {
    pub(super) word: Word,
    pub(super) comparison: Comparison,
    pub(super) mask: u32,
    value: u32,
}

impl Test {
    /// Its outcomes; both where the word is not known.
    pub(super) const fn outcomes(&self, word: Held) -> &'static [bool] {
        let Held::Known(word) = word else { return &[true, false] };
        let is_met = match self.comparison {
            Comparison::Equal | Comparison::Masked => word == self.value,
            Comparison::Greater => word > self.value,
            Comparison::GreaterOrEqual => word >= self.value,
        };
        if is_met { &[true] } else { &[false] }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "filters see 32-bit halves")]
const fn half(value: u64, is_high: bool) -> u32 {
    if is_high { (value >> 32) as u32 } else { value as u32 }
}

/// Where an outcome leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// To the next test.
    Next,
    /// To an answer.
    Answer(Action),
    /// To the level that this test is in.
    Below(NodeId),
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) test: Test,
    /// How the condition was written, which the order within a level depends on.
    operator: Operator,
    /// The whole value of the condition.
    whole: u64,
    pub(super) when_true: Exit,
    pub(super) when_false: Exit,
    level: LevelId,
    is_removed: bool,
}

impl Node {
    const fn exit(&self, outcome: bool) -> Exit {
        if outcome { self.when_true } else { self.when_false }
    }

    /// Nothing comes below.
    const fn is_leaf(&self) -> bool {
        !matches!(self.when_true, Exit::Below(_)) && !matches!(self.when_false, Exit::Below(_))
    }

    /// Higher ones stand in front.
    const fn priority(&self) -> (Word, u8) {
        let rank = match self.operator {
            Operator::MaskedEqual | Operator::Equal | Operator::NotEqual => 3,
            Operator::LessOrEqual | Operator::Less => 2,
            Operator::GreaterOrEqual | Operator::Greater => 1,
        };
        (self.test.word, rank)
    }

    /// Whether it stands behind the other.
    fn is_behind(&self, other: &Self) -> bool {
        let (own, others) = (self.priority(), other.priority());
        own < others
            || own == others
                && match self.operator {
                    // The smaller bound is the stricter one.
                    Operator::LessOrEqual | Operator::Less => self.test.value > other.test.value,
                    _ => self.test.value < other.test.value,
                }
    }
}

/// A place that leads to a level.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Root,
    Of(NodeId, bool),
}

/// The rules about one call.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    root: Root,
    nodes: Vec<Node>,
    levels: Vec<Vec<NodeId>>,
}

#[derive(Clone, Copy, Debug)]
enum Root {
    /// Whatever the arguments.
    Always(Action),
    Tests(NodeId),
}

impl Tree {
    /// The first rule. Conditions are in the order of their arguments, one for each.
    pub(super) fn new(conditions: &[Condition], is_64_bit: bool, action: Action) -> Self {
        let mut tree = Self { root: Root::Always(action), nodes: Vec::new(), levels: Vec::new() };
        if let Some(first) = tree.chain(conditions, is_64_bit, action) {
            tree.root = Root::Tests(first);
        }
        tree
    }

    /// Takes in another rule.
    pub(super) fn add(&mut self, conditions: &[Condition], is_64_bit: bool, action: Action) -> Result<(), Unfit> {
        let Root::Tests(root) = self.root else { return Ok(()) };
        let Some(first) = self.chain(conditions, is_64_bit, action) else {
            self.root = Root::Always(action);
            return Ok(());
        };
        if self.nodes.len() > MAX_NODES {
            return Err(Unfit::TooLong);
        }
        let mut search = Search::default();
        let removed = self.prune(root, first, action, &mut search);
        match self.target(Slot::Root) {
            // All that was there is part of the new rule.
            None => self.root = Root::Tests(first),
            Some(_) if removed == 0 && search.matched && search.tree_ended && search.chain_has_more => {}
            Some(_) => self.merge(Slot::Root, first)?,
        }
        Ok(())
    }

    /// How many tests it has.
    pub(super) fn size(&self) -> usize {
        let mut seen = BTreeSet::new();
        let mut waiting: Vec<_> = self.target(Slot::Root).into_iter().collect();
        while let Some(member) = waiting.pop() {
            for id in self.members(member) {
                if seen.insert(*id) {
                    waiting.extend([true, false].into_iter().filter_map(|outcome| self.target(Slot::Of(*id, outcome))));
                }
            }
        }
        seen.len()
    }

    /// A test of the first level, or the answer that it always gives.
    pub(super) const fn root(&self) -> Result<NodeId, Action> {
        match self.root {
            Root::Tests(first) => Ok(first),
            Root::Always(action) => Err(action),
        }
    }

    /// The level that a test is in, in order.
    pub(super) fn level(&self, member: NodeId) -> impl Iterator<Item = &Node> {
        self.members(member).iter().filter_map(|id| self.get(*id))
    }

    /// Makes the tests of a rule, which are not part of the tree yet; `None` if it has no conditions that mean anything.
    fn chain(&mut self, conditions: &[Condition], is_64_bit: bool, action: Action) -> Option<NodeId> {
        let mut next = Exit::Answer(action);
        for condition in conditions.iter().rev() {
            let mask = if condition.operator == Operator::MaskedEqual { condition.value } else { u64::MAX };
            // Nothing of the argument is compared.
            if if is_64_bit { mask == 0 } else { half(mask, false) == 0 } {
                continue;
            }
            let first = if is_64_bit { self.wide(condition, next) } else { self.narrow(condition, next) };
            next = Exit::Below(first);
        }
        match next {
            Exit::Below(first) => Some(first),
            Exit::Next | Exit::Answer(_) => None,
        }
    }

    /// The tests of a condition on 64 bits, the upper half first; `met` is where they lead if it holds.
    fn wide(&mut self, condition: &Condition, met: Exit) -> NodeId {
        let node = |tree: &mut Self, is_high, comparison, when_true, when_false| {
            tree.node(condition, is_high, comparison, when_true, when_false)
        };
        let low_comparison = match condition.operator {
            Operator::Greater | Operator::LessOrEqual => Comparison::Greater,
            Operator::GreaterOrEqual | Operator::Less => Comparison::GreaterOrEqual,
            Operator::MaskedEqual => Comparison::Masked,
            Operator::Equal | Operator::NotEqual => Comparison::Equal,
        };
        match condition.operator {
            Operator::Greater | Operator::GreaterOrEqual => {
                let low = node(self, false, low_comparison, met, Exit::Next);
                let equal = node(self, true, Comparison::Equal, Exit::Below(low), Exit::Next);
                node(self, true, Comparison::Greater, met, Exit::Below(equal))
            }
            Operator::Less | Operator::LessOrEqual => {
                let low = node(self, false, low_comparison, Exit::Next, met);
                let equal = node(self, true, Comparison::Equal, Exit::Below(low), met);
                node(self, true, Comparison::Greater, Exit::Next, Exit::Below(equal))
            }
            Operator::Equal | Operator::MaskedEqual => {
                let low = node(self, false, low_comparison, met, Exit::Next);
                node(self, true, low_comparison, Exit::Below(low), Exit::Next)
            }
            Operator::NotEqual => {
                let low = node(self, false, low_comparison, Exit::Next, met);
                node(self, true, low_comparison, Exit::Below(low), met)
            }
        }
    }

    /// The test of a condition on 32 bits: the upper half is never looked at.
    fn narrow(&mut self, condition: &Condition, met: Exit) -> NodeId {
        let (comparison, when_true, when_false) = match condition.operator {
            Operator::Equal => (Comparison::Equal, met, Exit::Next),
            Operator::MaskedEqual => (Comparison::Masked, met, Exit::Next),
            Operator::Greater => (Comparison::Greater, met, Exit::Next),
            Operator::GreaterOrEqual => (Comparison::GreaterOrEqual, met, Exit::Next),
            Operator::NotEqual => (Comparison::Equal, Exit::Next, met),
            Operator::Less => (Comparison::GreaterOrEqual, Exit::Next, met),
            Operator::LessOrEqual => (Comparison::Greater, Exit::Next, met),
        };
        self.node(condition, false, comparison, when_true, when_false)
    }

    fn node(
        &mut self,
        condition: &Condition,
        is_high: bool,
        comparison: Comparison,
        when_true: Exit,
        when_false: Exit,
    ) -> NodeId {
        let (mask, whole) = match condition.operator {
            Operator::MaskedEqual => (condition.value, condition.value_two),
            _ => (u64::MAX, condition.value),
        };
        let mask = half(mask, is_high);
        let word = Word { argument: condition.index, is_high };
        let test = Test { word, comparison, mask, value: half(whole, is_high) & mask };
        let (id, level) = (self.nodes.len(), self.levels.len());
        self.levels.push(vec![id]);
        self.nodes.push(Node {
            test,
            operator: condition.operator,
            whole,
            when_true,
            when_false,
            level,
            is_removed: false,
        });
        id
    }

    fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id)
    }

    fn target(&self, slot: Slot) -> Option<NodeId> {
        match slot {
            Slot::Root => match self.root {
                Root::Tests(node) => Some(node),
                Root::Always(_) => None,
            },
            Slot::Of(node, outcome) => match self.get(node)?.exit(outcome) {
                Exit::Below(node) => Some(node),
                Exit::Next | Exit::Answer(_) => None,
            },
        }
    }

    fn lead(&mut self, slot: Slot, exit: Exit) {
        match (slot, exit) {
            (Slot::Root, Exit::Below(node)) => self.root = Root::Tests(node),
            (Slot::Root, Exit::Answer(action)) => self.root = Root::Always(action),
            (Slot::Root, Exit::Next) => {}
            (Slot::Of(node, outcome), exit) => {
                if let Some(node) = self.nodes.get_mut(node) {
                    *(if outcome { &mut node.when_true } else { &mut node.when_false }) = exit;
                }
            }
        }
    }

    fn members(&self, member: NodeId) -> &[NodeId] {
        self.get(member).and_then(|node| self.levels.get(node.level)).map_or(&[], Vec::as_slice)
    }

    /// Puts a chain into the level that a slot leads to.
    fn merge(&mut self, slot: Slot, new: NodeId) -> Result<(), Unfit> {
        let Some(start) = self.target(slot) else { return Ok(()) };
        // A slot can lead to the middle of a level, after another slot has brought a test to its front.
        let from = self.members(start).iter().position(|id| *id == start).unwrap_or(0);
        let found = self.members(start).iter().enumerate().skip(from).find_map(|(at, id)| {
            let (existing, added) = (self.get(*id)?, self.get(new)?);
            let is_same = existing.test == added.test;
            (is_same || existing.is_behind(added)).then_some((at, *id, is_same))
        });
        match found {
            Some((_, existing, true)) => self.unite(existing, new),
            Some((at, existing, false)) => {
                self.insert(start, at, new)?;
                if existing == start {
                    self.lead(slot, Exit::Below(new));
                }
                Ok(())
            }
            None => self.insert(start, self.members(start).len(), new),
        }
    }

    /// Puts a test into the level of another.
    fn insert(&mut self, member: NodeId, at: usize, new: NodeId) -> Result<(), Unfit> {
        // It stands in a level with others already: libseccomp links it a second time.
        if self.members(new).len() > 1 {
            return Err(Unfit::Endless);
        }
        let Some(level) = self.get(member).map(|node| node.level) else { return Ok(()) };
        if let Some(own) = self.get(new).map(|node| node.level).and_then(|own| self.levels.get_mut(own)) {
            own.clear();
        }
        if let Some(node) = self.nodes.get_mut(new) {
            node.level = level;
        }
        if let Some(members) = self.levels.get_mut(level) {
            members.insert(at.min(members.len()), new);
        }
        Ok(())
    }

    /// Merges what follows a test into what follows the same test of the tree.
    fn unite(&mut self, existing: NodeId, new: NodeId) -> Result<(), Unfit> {
        if existing == new {
            return Ok(());
        }
        for outcome in [true, false] {
            self.unite_answers(existing, new, outcome)?;
        }
        for outcome in [true, false] {
            let Some(below) = self.target(Slot::Of(new, outcome)) else { continue };
            let slot = Slot::Of(existing, outcome);
            match self.get(existing).map(|node| node.exit(outcome)) {
                Some(Exit::Below(_)) => self.merge(slot, below)?,
                Some(Exit::Next) => self.lead(slot, Exit::Below(below)),
                // The tree answers already, whatever the rest of the rule says.
                Some(Exit::Answer(_)) | None => return Ok(()),
            }
        }
        Ok(())
    }

    fn unite_answers(&mut self, existing: NodeId, new: NodeId, outcome: bool) -> Result<(), Unfit> {
        let (Some(old), Some(added)) = (self.get(existing), self.get(new)) else { return Ok(()) };
        let Exit::Answer(action) = added.exit(outcome) else { return Ok(()) };
        let slot = Slot::Of(existing, outcome);
        match old.exit(outcome) {
            Exit::Answer(other) if other == action => {}
            Exit::Answer(_) => {
                let (is_leaf, is_larger) = (old.is_leaf() || added.is_leaf(), added.whole > old.whole);
                // An upper half that two bounds share answers for the larger of them. (2.6 does the like for `<`.)
                if outcome && added.test.word.is_high && is_larger {
                    self.lead(slot, Exit::Answer(action));
                }
                if is_leaf {
                    return Err(Unfit::Conflict);
                }
            }
            exit => {
                if let Exit::Below(below) = exit
                    && !self.all_answer(below, action, 0)
                {
                    return Err(Unfit::Conflict);
                }
                self.lead(slot, Exit::Answer(action));
            }
        }
        Ok(())
    }

    /// Whether a level has no other answer than this.
    fn all_answer(&self, member: NodeId, action: Action, depth: usize) -> bool {
        depth < MAX_DEPTH
            && self.members(member).iter().filter_map(|id| self.get(*id)).all(|node| {
                [node.when_true, node.when_false].into_iter().all(|exit| match exit {
                    Exit::Next => true,
                    Exit::Answer(other) => other == action,
                    Exit::Below(below) => self.all_answer(below, action, depth + 1),
                })
            })
    }
}
