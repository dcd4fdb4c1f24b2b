//! A node, a speaker or a cable is lost, or leaves in good order, in a cluster at rest.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use mooring_proto::types::address::Vip;
use mooring_speaker::core::standby::BEAT;
use mooring_tests::sim::allocator::SETTINGS;
use mooring_tests::sim::lan::Machine;
use mooring_tests::sim::plan::Fault;
use mooring_tests::sim::random::Random;
use mooring_tests::sim::{HEALED, World};

use super::{Run, Scenario, ensure_gaps, ensure_no_gap, ensure_unmoved};

pub(super) const SCENARIOS: &[Scenario] = &[
    ("a_lost_node_is_followed_before_its_time_to_live_is_over", 14, a_lost_node_is_followed_before_its_time_to_live_is_over),
    ("a_killed_speaker_is_followed_within_the_grace", 14, a_killed_speaker_is_followed_within_the_grace),
    ("a_pulled_cable_moves_what_it_carried_at_once", 14, a_pulled_cable_moves_what_it_carried_at_once),
    ("whoever_leaves_in_good_order_is_not_missed", 14, whoever_leaves_in_good_order_is_not_missed),
    ("whoever_joins_moves_nothing", 14, whoever_joins_moves_nothing),
];

/// From a decision to the first answer of the node that follows: a flush, which is slow now and then, the delta on its way, and what waits
/// for a process to run.
const FOLLOW: Duration = Duration::from_millis(50);

/// Silence is noticed after the time to live, counted from the last heartbeat that still arrived.
pub(super) const LOST_NODE: Duration = SETTINGS.speaker_ttl.saturating_add(FOLLOW);

/// A standby that is not answered by the node asks three times more, and says so; by then the allocator has missed a heartbeat too.
const SUSPECTED_NODE: Duration = BEAT.saturating_mul(4).saturating_add(FOLLOW);

/// A process that is gone is noticed at once, and followed after a quarter of the time to live.
const LOST_SPEAKER: Duration = Duration::from_millis(200).saturating_add(FOLLOW);

/// A VIP by chance and its node.
pub(super) fn one(world: &World, random: &mut Random) -> anyhow::Result<(u8, BTreeMap<Vip, u8>)> {
    let placed = world.placed()?;
    let nodes: Vec<u8> = placed.values().copied().collect();
    Ok((random.pick(&nodes).context("there is no VIP")?, placed))
}

/// Only what a node had has moved, to others.
pub(super) fn ensure_only_its_own_moved(world: &World, lost: u8, before: &BTreeMap<Vip, u8>) -> anyhow::Result<()> {
    for (vip, node) in world.placed()? {
        let was = before.get(&vip).copied();
        anyhow::ensure!(if was == Some(lost) { node != lost } else { was == Some(node) }, "{vip} was on {was:?} and is on {node}");
    }
    Ok(())
}

fn a_lost_node_is_followed_before_its_time_to_live_is_over(run: &mut Run) -> anyhow::Result<()> {
    run.at_rest((2, 5), |run, world, mut random| {
        let (lost, before) = one(world, &mut random)?;
        world.pass(random.between(Duration::ZERO, SETTINGS.heartbeat))?;
        world.befall(Fault::CrashNode(lost))?;
        world.pass(LOST_NODE)?;
        let gaps = world.gaps();
        world.rest(Duration::ZERO)?;
        // Where both speakers of a VIP were on the node, nobody asks for it, and its silence alone counts.
        let may = if world.slots_of(lost).len() > 1 { LOST_NODE } else { SUSPECTED_NODE };
        for (vip, gap) in gaps {
            let may = if before.get(&vip) == Some(&lost) { may } else { world.no_gap() };
            anyhow::ensure!(gap <= may, "{vip} was not answered for {gap:?}, and may be so for {may:?}");
            run.measured(gap);
        }
        ensure_only_its_own_moved(world, lost, &before)?;
        world.judge_listener()?;
        // It takes nothing back.
        let after = world.placed()?;
        world.befall(Fault::StartNode(lost))?;
        world.rest(HEALED)?;
        ensure_unmoved(world, &after)
    })
}

fn a_killed_speaker_is_followed_within_the_grace(run: &mut Run) -> anyhow::Result<()> {
    run.at_rest((2, 5), |run, world, mut random| {
        let (lost, before) = one(world, &mut random)?;
        let slots: Vec<_> = world.shape.slots().into_iter().filter(|slot| slot.node == lost).collect();
        let slot = random.pick(&slots).context("a node without speakers")?;
        world.befall(Fault::KillSpeaker(slot))?;
        world.pass(LOST_SPEAKER)?;
        let gaps = world.gaps();
        world.rest(Duration::ZERO)?;
        let twin = slots.len() > 1;
        for (vip, gap) in gaps {
            let may = match before.get(&vip) {
                // Nobody on the LAN can tell the speakers of a node from each other, and the other one waits for nothing.
                Some(node) if *node == lost && twin => FOLLOW,
                Some(node) if *node == lost => LOST_SPEAKER,
                Some(_) | None => world.no_gap(),
            };
            anyhow::ensure!(gap <= may, "{vip} was not answered for {gap:?}, and may be so for {may:?}");
            run.measured(gap);
        }
        if twin {
            ensure_unmoved(world, &before)?
        } else {
            ensure_only_its_own_moved(world, lost, &before)?
        }
        world.judge_listener()?;
        let after = world.placed()?;
        world.befall(Fault::StartSpeaker(slot))?;
        world.rest(HEALED)?;
        ensure_unmoved(world, &after)
    })
}

fn a_pulled_cable_moves_what_it_carried_at_once(run: &mut Run) -> anyhow::Result<()> {
    run.at_rest((2, 5), |run, world, mut random| {
        let (lost, before) = one(world, &mut random)?;
        let nics: Vec<_> = world.shape.nics().into_iter().filter(|nic| nic.machine == Machine::Node(lost)).collect();
        let nic = random.pick(&nics).context("a node without interfaces")?;
        let shares_wires = world.shape.nodes.get(usize::from(lost.saturating_sub(1))).is_some_and(|(.., shares_wires)| *shares_wires);
        world.befall(Fault::Pull(nic))?;
        let other = nics.len() > 1;
        let may = match (other, shares_wires) {
            // The node goes on by its other interface, or cannot even say that it has none.
            (true, _) => world.no_gap(),
            (false, true) => LOST_NODE,
            // The other speaker of the node may get it first, and say the same a moment later.
            (false, false) => FOLLOW * u32::try_from(world.slots_of(lost).len())?,
        };
        world.pass(LOST_NODE)?;
        ensure_gaps(world, |vip| if before.get(&vip) == Some(&lost) { may } else { world.no_gap() })?;
        run.measured(world.gaps().into_values().max().unwrap_or_default());
        if other {
            ensure_unmoved(world, &before)?;
        } else {
            ensure_only_its_own_moved(world, lost, &before)?;
        }
        let after = world.placed()?;
        world.befall(Fault::Plug(nic))?;
        world.rest(HEALED)?;
        ensure_unmoved(world, &after)?;
        world.judge_listener()
    })
}

fn whoever_leaves_in_good_order_is_not_missed(run: &mut Run) -> anyhow::Result<()> {
    run.at_rest((2, 5), |run, world, mut random| {
        let (lost, before) = one(world, &mut random)?;
        let leave = if random.chance(50) && world.shape.listed { Fault::Exclude(lost, true) } else { Fault::Leave(lost) };
        world.befall(leave)?;
        world.rest(HEALED)?;
        ensure_no_gap(world)?;
        ensure_only_its_own_moved(world, lost, &before)?;
        world.judge_listener()?;
        let after = world.placed()?;
        world.look_anew();
        world.befall(Fault::Exclude(lost, false))?;
        world.befall(Fault::Join(lost))?;
        world.rest(HEALED)?;
        run.measured(world.gaps().into_values().max().unwrap_or_default());
        ensure_no_gap(world)?;
        ensure_unmoved(world, &after)
    })
}

fn whoever_joins_moves_nothing(run: &mut Run) -> anyhow::Result<()> {
    run.at_rest((2, 5), |run, world, mut random| {
        let (joins, _) = one(world, &mut random)?;
        world.befall(Fault::Leave(joins))?;
        world.rest(HEALED)?;
        let before = world.placed()?;
        world.look_anew();
        world.befall(Fault::Join(joins))?;
        world.rest(HEALED)?;
        run.measured(world.gaps().into_values().max().unwrap_or_default());
        ensure_no_gap(world)?;
        ensure_unmoved(world, &before)
    })
}
