//! Before a rule is merged into a tree: which branches it makes superfluous, and whether it is so itself.
//!
//! A branch goes where the new rule asks less and answers the same; a new rule goes where a branch does. Mostly that changes
//! no answer, but it decides which later rules are in conflict.

use super::{Exit, Node, NodeId, Root, Slot, Tree};
use crate::seccomp::profile::Action;

/// How far a new chain was found in the tree.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "six facts, most of which can hold together")]
pub(super) struct Search {
    /// The tests compared last are equal.
    pub(super) matched: bool,
    /// Some were.
    matched_once: bool,
    /// The tree's branch ends with them.
    pub(super) tree_ended: bool,
    /// The new chain does.
    chain_ended: bool,
    /// The tree's branch has tests before them that the chain has not.
    tree_has_more: bool,
    /// The other way round.
    pub(super) chain_has_more: bool,
}

impl Search {
    fn add(&mut self, other: Self) {
        self.matched |= other.matched;
        self.matched_once |= other.matched_once;
        self.tree_ended |= other.tree_ended;
        self.chain_ended |= other.chain_ended;
        self.tree_has_more |= other.tree_has_more;
        self.chain_has_more |= other.chain_has_more;
    }
}

impl Tree {
    /// Removes branches that a new chain makes superfluous, and finds out whether it is so itself. Returns how many tests
    /// went.
    pub(super) fn prune(&mut self, member: NodeId, new: NodeId, action: Action, outer: &mut Search) -> usize {
        let mut search = *outer;
        let is_lost = outer.matched_once && !outer.matched;
        let removed = if is_lost { 0 } else { self.prune_level(member, new, action, *outer, &mut search) };
        if search.matched {
            outer.add(search);
        } else {
            outer.matched = false;
        }
        removed
    }

    fn prune_level(
        &mut self,
        member: NodeId,
        new: NodeId,
        action: Action,
        outer: Search,
        search: &mut Search,
    ) -> usize {
        let mut removed = 0;
        for existing in self.members(member).to_vec() {
            let (Some(old), Some(added)) = (self.get(existing), self.get(new)) else { continue };
            let inner = Search { matched: false, ..outer };
            let is_decided = if old.test == added.test {
                self.prune_same(existing, new, action, outer, search, &mut removed)
            } else if old.is_behind(added) {
                let below = |tree: &Self, outcome| Some((tree.target(Slot::Of(existing, outcome))?, new));
                let inner = Search { tree_has_more: true, ..inner };
                outer.chain_has_more || self.prune_below(below, existing, action, inner, search, &mut removed)
            } else {
                let below = |tree: &Self, outcome| Some((existing, tree.target(Slot::Of(new, outcome))?));
                let inner = Search { chain_has_more: true, ..inner };
                outer.tree_has_more || self.prune_below(below, existing, action, inner, search, &mut removed)
            };
            if is_decided {
                return removed;
            }
        }
        search.matched = false;
        removed
    }

    /// Goes on below a test of the tree or of the chain, as `below` says; whether that decided it.
    fn prune_below(
        &mut self,
        below: impl Fn(&Self, bool) -> Option<(NodeId, NodeId)>,
        existing: NodeId,
        action: Action,
        inner: Search,
        search: &mut Search,
        removed: &mut usize,
    ) -> bool {
        for outcome in [true, false] {
            let Some((member, new)) = below(self, outcome) else { continue };
            let mut inner = inner;
            *removed += self.prune(member, new, action, &mut inner);
            if inner.matched {
                search.add(inner);
                return true;
            }
            if !self.is_linked(existing) {
                return false;
            }
        }
        false
    }

    /// The chain's test is in the tree; whether that decides it.
    fn prune_same(
        &mut self,
        existing: NodeId,
        new: NodeId,
        action: Action,
        outer: Search,
        search: &mut Search,
        removed: &mut usize,
    ) -> bool {
        let (Some(old), Some(added)) = (self.get(existing), self.get(new)) else { return false };
        (search.matched, search.matched_once) = (true, true);
        search.chain_ended |= added.is_leaf();
        search.tree_ended |= old.is_leaf();
        let is_open = |node: &Node, outcome| node.exit(outcome) == Exit::Next;
        if [true, false].into_iter().any(|outcome| !is_open(old, outcome) && is_open(added, outcome)) {
            return true;
        }
        let answer = |node: &Node, outcome| match node.exit(outcome) {
            Exit::Answer(action) => Some(action),
            Exit::Next | Exit::Below(_) => None,
        };
        let differs = [true, false].into_iter().any(|outcome| answer(old, outcome) != answer(added, outcome));
        if search.chain_ended && search.tree_ended && differs {
            return true;
        }
        for outcome in [true, false] {
            let Some(below) = self.target(Slot::Of(new, outcome)) else { continue };
            let mut inner = Search { matched: true, matched_once: true, ..outer };
            if let Some(member) = self.target(Slot::Of(existing, outcome)) {
                *removed += self.prune(member, below, action, &mut inner);
            }
            if inner.matched {
                search.add(inner);
            }
            if !self.is_linked(existing) {
                return false;
            }
        }
        if search.matched && self.all_answer(existing, action, 0) {
            if search.chain_ended && search.tree_has_more {
                *removed += self.remove(existing);
                return self.target(Slot::Root).is_none();
            }
            return search.tree_ended && search.chain_has_more;
        }
        false
    }

    /// Whether a test is still in its level.
    fn is_linked(&self, id: NodeId) -> bool {
        self.get(id).is_some_and(|node| !node.is_removed)
    }

    /// Takes a test out, and those that lead nowhere then; returns how many.
    fn remove(&mut self, id: NodeId) -> usize {
        let members = self.members(id);
        let at = members.iter().position(|member| *member == id).unwrap_or(0);
        let neighbour = if at > 0 { members.get(at - 1) } else { members.get(1) }.copied();
        if let Some(level) = self.get(id).map(|node| node.level).and_then(|level| self.levels.get_mut(level)) {
            level.retain(|member| *member != id);
        }
        if let Some(node) = self.nodes.get_mut(id) {
            node.is_removed = true;
        }
        let exit = neighbour.map_or(Exit::Next, Exit::Below);
        match self.root {
            Root::Tests(root) if root == id => match neighbour {
                Some(neighbour) => self.root = Root::Tests(neighbour),
                // Whoever removes says what comes in its place.
                None => self.root = Root::Always(Action::KILL_THREAD),
            },
            _ => {}
        }
        let mut empty = Vec::new();
        for (other, node) in self.nodes.iter_mut().enumerate() {
            for slot in [&mut node.when_true, &mut node.when_false] {
                if *slot == Exit::Below(id) {
                    *slot = exit;
                }
            }
            if node.when_true == Exit::Next && node.when_false == Exit::Next && !node.is_removed {
                empty.push(other);
            }
        }
        empty.into_iter().fold(1, |removed, id| removed + if self.is_linked(id) { self.remove(id) } else { 0 })
    }
}
