//! Cuts that are no loss: an allocator that reaches nobody, and a node that comes back after another one took its place.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use mooring_tests::sim::HEALED;
use mooring_tests::sim::allocator::SETTINGS;
use mooring_tests::sim::lan::Machine;
use mooring_tests::sim::plan::Fault;

use super::failover::{LOST_NODE, ensure_only_its_own_moved, one};
use super::{Run, Scenario, ensure_gaps, ensure_no_gap, ensure_unmoved};

pub(super) const SCENARIOS: &[Scenario] = &[
    ("an_allocator_that_reaches_nobody_moves_nothing", 12, an_allocator_that_reaches_nobody_moves_nothing),
    ("a_node_that_was_cut_off_and_replaced_wins_nothing_back", 14, a_node_that_was_cut_off_and_replaced_wins_nothing_back),
];

/// Whoever has been replaced and has no session any more yields to its successor: a second at most until its session is given up, a beat until
/// it is heard, and two rounds against it.
const YIELDED: Duration = Duration::from_millis(1_500);

/// A successor that did not stand by for the VIP knows of no predecessor. If both say in the same moment that they have it both yield, and ask five
/// times before one has it again.
const BOTH_YIELD: Duration = Duration::from_millis(100);

/// Until then no speaker that the allocator hears has given up a stream on which it hears nothing: three heartbeats in vain.
const NONE_ENDED: Duration = Duration::from_millis(600);

/// From then on all have, and are lost. One whose stream has ended while others are still open cannot be told from one that is dead.
const ALL_ENDED: Duration = Duration::from_millis(1_500);

fn an_allocator_that_reaches_nobody_moves_nothing(run: &mut Run) -> anyhow::Result<()> {
    run.at_rest((1, 5), |run, world, mut random| {
        let before = world.placed()?;
        let nodes: BTreeSet<Machine> = world.shape.numbers().into_iter().map(Machine::Node).collect();
        let allocator = BTreeSet::from([Machine::Allocator]);
        let (up, down) = (Fault::CutControl(nodes.clone(), allocator.clone()), Fault::CutControl(allocator, nodes));
        let (cuts, ends) =
            random.pick(&[(vec![up.clone()], false), (vec![down.clone()], true), (vec![up, down], false)]).context("no cut")?;
        for cut in cuts {
            world.befall(cut)?;
        }
        let most = Duration::from_secs(6);
        let short = random.chance(30);
        world.pass(match (ends, short) {
            (false, _) => random.between(Duration::ZERO, most),
            (true, true) => random.between(Duration::ZERO, NONE_ENDED),
            (true, false) => random.between(ALL_ENDED, most),
        })?;
        world.judge_answers()?;
        world.befall(Fault::HealCuts)?;
        world.rest(HEALED)?;
        // Also what follows the recovery moves nothing.
        world.pass(SETTINGS.recovery_window)?;
        run.measured(world.longest_gap());
        ensure_no_gap(world)?;
        ensure_unmoved(world, &before)
    })
}

fn a_node_that_was_cut_off_and_replaced_wins_nothing_back(run: &mut Run) -> anyhow::Result<()> {
    run.at_rest((2, 5), |run, world, mut random| {
        let (lost, before) = one(world, &mut random)?;
        let node = BTreeSet::from([Machine::Node(lost)]);
        let others = world.shape.numbers().into_iter().filter(|number| *number != lost).map(Machine::Node);
        let others: BTreeSet<Machine> = others.chain([Machine::Client, Machine::Listener]).collect();
        let allocator = BTreeSet::from([Machine::Allocator]);
        world.befall(Fault::SplitLan(node.clone(), others))?;
        world.befall(Fault::CutControl(node.clone(), allocator.clone()))?;
        world.befall(Fault::CutControl(allocator, node))?;
        world.pass(LOST_NODE + random.between(Duration::ZERO, Duration::from_secs(3)))?;
        ensure_only_its_own_moved(world, lost, &before)?;
        let after = world.placed()?;
        // Where both speakers of a VIP were on the node its successor has never stood by for it, and knows of no node that had it.
        let is_alone = random.chance(50) && world.slots_of(lost).len() == 1;
        if is_alone {
            world.befall(if random.chance(50) { Fault::KillAllocator } else { Fault::LoseAllocator })?;
            world.pass(random.between(Duration::from_secs(1), Duration::from_secs(2)))?;
        }
        world.befall(Fault::HealCuts)?;
        world.look_anew();
        if is_alone {
            world.pass(YIELDED)?;
            // What it took over itself, cut off as it was, is a newer takeover.
            for (vip, node) in after.iter().filter(|(vip, _)| before.get(*vip) == Some(&lost)) {
                let answers = world.answered_by(*vip)?;
                ensure!(answers == Some(*node), "{vip} was on {node} and is answered by {answers:?}");
            }
            world.befall(Fault::StartAllocator)?;
        }
        world.rest(HEALED)?;
        run.measured(world.longest_gap());
        if is_alone {
            ensure_gaps(world, |_| world.no_gap() + BOTH_YIELD)?;
            let now = world.placed()?;
            let back = before.iter().find(|(vip, node)| **node == lost && now.get(*vip) == Some(&lost));
            ensure!(back.is_none(), "{back:?} is back");
        } else {
            ensure_no_gap(world)?;
            ensure_unmoved(world, &after)?;
        }
        world.judge_listener()
    })
}
