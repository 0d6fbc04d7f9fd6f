//! The program that libseccomp makes of the trees: blocks of a comparison each, and what the accumulator holds at each.
//!
//! A block loads its word only where the test before it in its level was about another. It can also be reached from a level
//! below that test, with another word in the accumulator. libseccomp looks at one of the jumps to a block, the first that it
//! comes to when it lays the program out, and puts a load in front where the accumulator does not fit that one. Through
//! the others the block compares a word that it is not about. This is what the kernel runs, so it is done here as well.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use super::{
    Action,
    tree::{Arguments, Exit, Held, NodeId, Test, Tree, Unfit, Word},
};

/// Blocks that are made, shared ones counted each time. A filter has at most 4096 instructions.
const MAX_BLOCKS: usize = 65_536;
/// Levels that are followed; a rule on six arguments has 18.
const MAX_DEPTH: usize = 64;

/// Where a jump leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Target {
    Answer(Action),
    Block(usize),
}

/// What the accumulator holds: a word and the bits of it that are left; `None` for something else.
type Loaded = Option<(Word, u32)>;

/// A comparison. Equal ones are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Block {
    /// What it takes to be in the accumulator; `None` where it loads.
    expects: Loaded,
    /// Whether it masks what it has.
    masks: bool,
    test: Test,
    when_true: Target,
    when_false: Target,
}

/// The program.
#[derive(Clone, Debug, Default)]
pub(super) struct Program {
    blocks: Vec<Block>,
    /// For each block whether it was reached, and whether a load was put in front.
    laid_out: Vec<Option<bool>>,
    ids: HashMap<Block, usize>,
    made: usize,
}

impl Program {
    /// Makes the blocks of a call's rules.
    pub(super) fn call(&mut self, tree: &Tree, default_action: Action) -> Result<Target, Unfit> {
        match tree.root() {
            Err(action) => Ok(Target::Answer(action)),
            Ok(first) => self.level(tree, first, Target::Answer(default_action), None, 0),
        }
    }

    /// Makes the blocks of a level; `next` is where calls go that come through it.
    fn level(
        &mut self,
        tree: &Tree,
        member: NodeId,
        next: Target,
        before: Loaded,
        depth: usize,
    ) -> Result<Target, Unfit> {
        let members: Vec<_> = tree.level(member).collect();
        self.made += members.len();
        if self.made > MAX_BLOCKS || depth > MAX_DEPTH {
            return Err(Unfit::TooLong);
        }
        let mut loaded = before;
        let mut expected = Vec::with_capacity(members.len());
        for node in &members {
            let Test { word, mask, .. } = node.test;
            let expects = loaded.filter(|(held, left)| *held == word && left & mask == mask);
            let has = expects.map_or(u32::MAX, |(_, left)| left);
            expected.push((expects, has != mask));
            loaded = Some((word, mask));
        }
        let mut next = next;
        for (node, (expects, masks)) in members.into_iter().zip(expected).rev() {
            let after = Some((node.test.word, node.test.mask));
            let mut target = |exit| match exit {
                Exit::Next => Ok(next),
                Exit::Answer(action) => Ok(Target::Answer(action)),
                Exit::Below(below) => self.level(tree, below, next, after, depth + 1),
            };
            let (when_true, when_false) = (target(node.when_true)?, target(node.when_false)?);
            next = self.block(Block { expects, masks, test: node.test, when_true, when_false });
        }
        Ok(next)
    }

    fn block(&mut self, block: Block) -> Target {
        let id = *self.ids.entry(block).or_insert_with(|| {
            self.blocks.push(block);
            self.laid_out.push(None);
            self.blocks.len() - 1
        });
        Target::Block(id)
    }

    /// Lays out what is reached from a call's first block. libseccomp begins with the call that is tried last.
    pub(super) fn lay_out(&mut self, first: Target) {
        let mut waiting = vec![(first, None)];
        while let Some((target, held)) = waiting.pop() {
            let Target::Block(id) = target else { continue };
            let (Some(block), Some(place)) = (self.blocks.get(id), self.laid_out.get_mut(id)) else { continue };
            if place.is_some() {
                continue;
            }
            *place = Some(block.expects.is_some() && block.expects != held);
            let held = Some((block.test.word, block.test.mask));
            // What is pushed last is followed first, and to its end.
            waiting.extend([(block.when_false, held), (block.when_true, held)]);
        }
    }

    /// The answers that are possible with what is known of the arguments.
    pub(super) fn answers(&self, first: Target, arguments: &Arguments) -> BTreeSet<Action> {
        let mut answers = BTreeSet::new();
        let mut waiting = vec![(first, Held::Unknown)];
        let mut seen = BTreeSet::new();
        while let Some((target, held)) = waiting.pop() {
            let id = match target {
                Target::Answer(action) => {
                    answers.insert(action);
                    continue;
                }
                Target::Block(id) => id,
            };
            let Some(block) = self.blocks.get(id).filter(|_| seen.insert((id, held))) else { continue };
            let reloads = self.laid_out.get(id).copied().flatten().unwrap_or(false);
            let held = match block.expects {
                // A load in front is followed by the mask that the block takes for granted.
                Some((word, left)) if reloads => word.of(arguments).masked(left),
                Some(_) => held,
                None => block.test.word.of(arguments),
            };
            let held = if block.masks { held.masked(block.test.mask) } else { held };
            let outcomes = block.test.outcomes(held);
            waiting.extend(outcomes.iter().map(|met| (if *met { block.when_true } else { block.when_false }, held)));
        }
        answers
    }
}
