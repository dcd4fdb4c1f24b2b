//! The allocator ends, begins again, or cannot be reached; speakers are replaced one after the other.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use mooring_speaker::core::standby::BEAT;
use mooring_speaker::session::LONGEST_PAUSE;
use mooring_tests::sim::HEALED;
use mooring_tests::sim::allocator::SETTINGS;
use mooring_tests::sim::lan::Machine;
use mooring_tests::sim::plan::{Fault, sides};
use mooring_tests::sim::session::CONNECT_TIMEOUT;

use super::{Run, Scenario, ensure_gaps, ensure_no_gap, ensure_unmoved};

pub(super) const SCENARIOS: &[Scenario] = &[
    ("an_allocator_that_is_away_is_not_missed", 12, an_allocator_that_is_away_is_not_missed),
    ("allocator_and_node_lost_at_once_are_followed_within_a_second", 14, allocator_and_node_lost_at_once_are_followed_within_a_second),
    ("speakers_that_the_allocator_cannot_reach_are_not_missed", 14, speakers_that_the_allocator_cannot_reach_are_not_missed),
    ("a_lan_in_two_parts_without_an_allocator_comes_together", 14, a_lan_in_two_parts_without_an_allocator_comes_together),
    ("a_rolling_update_loses_no_answer", 10, a_rolling_update_loses_no_answer),
    ("whoever_ends_while_the_allocator_is_away_is_not_missed", 14, whoever_ends_while_the_allocator_is_away_is_not_missed),
];

/// Whoever has lost a VIP without being told yields to the one that has it now: within a second it gives its session up, and within another
/// 1.1 s it hears the next gratuitous round.
const YIELDED: Duration = Duration::from_millis(3_500);

/// What else a gap has in it: the client's pauses before and after, frames on their way, and a process that is late for each heartbeat.
const SLACK: Duration = Duration::from_millis(50);

/// A standby whose session has ended takes over after three questions in vain, and the rest of the beat in which the last answer came.
const NOTICED: Duration = BEAT.saturating_mul(4).saturating_add(SLACK);

/// One whose allocator is silent first gives its session up: after as many heartbeats in vain as make up the time to live, and the rest of the
/// interval in which the last word came. By then it is certain of the node.
const FORSAKEN: Duration = SETTINGS.speaker_ttl.saturating_add(SETTINGS.heartbeat).saturating_add(SLACK);

/// A beat for each VIP of the old node until its turn comes, the least pause between two rounds against one that has itself begun just before,
/// twice, and what waits for a process to run.
const TOGETHER: Duration = BEAT.saturating_mul(8).saturating_add(Duration::from_millis(450));

/// How an allocator goes.
fn away(random: &mut mooring_tests::sim::random::Random) -> anyhow::Result<Fault> {
    random.pick(&[Fault::KillAllocator, Fault::LoseAllocator, Fault::LoseVolume]).context("an end of the allocator")
}

fn an_allocator_that_is_away_is_not_missed(run: &mut Run) -> anyhow::Result<()> {
    run.at_rest((1, 5), |run, world, mut random| {
        let before = world.placed()?;
        world.befall(away(&mut random)?)?;
        world.pass(random.between(Duration::ZERO, Duration::from_secs(6)))?;
        world.befall(Fault::StartAllocator)?;
        world.rest(HEALED)?;
        // Also what follows the recovery moves nothing.
        world.pass(SETTINGS.recovery_window)?;
        run.measured(world.gaps().into_values().max().unwrap_or_default());
        ensure_no_gap(world)?;
        ensure_unmoved(world, &before)
    })
}

fn allocator_and_node_lost_at_once_are_followed_within_a_second(run: &mut Run) -> anyhow::Result<()> {
    run.at_rest((2, 5), |run, world, mut random| {
        let before = world.placed()?;
        let nodes: Vec<u8> = before.values().copied().collect();
        let lost = random.pick(&nodes).context("there is no VIP")?;
        let away = random.between(Duration::ZERO, Duration::from_secs(3));
        let (end, noticed) = random.pick(&[(Fault::KillAllocator, NOTICED), (Fault::LoseAllocator, FORSAKEN)]).context("no end")?;
        world.befall(end)?;
        world.befall(Fault::CrashNode(lost))?;
        world.pass(away)?;
        // Where all speakers of a VIP were on the node, nobody stands by on another one, and only an allocator can choose one. One that is
        // back before the standby is certain waits for the lost node as for all others.
        let by_itself = away >= noticed && world.slots_of(lost).len() == 1;
        if by_itself {
            world.judge_answers()?;
        }
        world.befall(Fault::StartAllocator)?;
        world.rest(HEALED)?;
        // The first speaker finds the new allocator after an attempt in vain and a rest; then the others are awaited, the lost one too.
        let recovered = away + CONNECT_TIMEOUT + LONGEST_PAUSE + SETTINGS.recovery_window + Duration::from_millis(100);
        let may = if by_itself { noticed } else { recovered };
        ensure_gaps(world, |vip| if before.get(&vip) == Some(&lost) { may } else { world.no_gap() })?;
        if by_itself {
            run.measured(world.gaps().into_values().max().unwrap_or_default());
        }
        for (vip, node) in world.placed()? {
            let was = before.get(&vip).copied();
            anyhow::ensure!(if was == Some(lost) { node != lost } else { was == Some(node) }, "{vip} was on {was:?} and is on {node}");
        }
        world.judge_listener()
    })
}

fn speakers_that_the_allocator_cannot_reach_are_not_missed(run: &mut Run) -> anyhow::Result<()> {
    run.at_rest((2, 5), |run, world, mut random| {
        let before = world.placed()?;
        let mut cut: BTreeSet<Machine> = world.shape.numbers().into_iter().filter(|_| random.chance(50)).map(Machine::Node).collect();
        let way = random.below(3);
        if way == 0 && cut.len() == world.shape.nodes.len() {
            // An allocator that hears nobody and is heard by all moves a VIP from one to the next until it has no place for it, and of
            // those that were given it each may yield to another one.
            cut.pop_first();
        }
        let allocator = BTreeSet::from([Machine::Allocator]);
        let (up, down) = (Fault::CutControl(cut.clone(), allocator.clone()), Fault::CutControl(allocator, cut.clone()));
        match way {
            0 => world.befall(up)?,
            1 => world.befall(down)?,
            _ => {
                world.befall(up)?;
                world.befall(down)?;
            }
        }
        let long = random.between(Duration::ZERO, Duration::from_secs(5));
        world.pass(long)?;
        ensure_no_gap(world)?;
        if long > YIELDED {
            world.judge_answers()?;
        }
        world.befall(Fault::HealCuts)?;
        world.rest(HEALED)?;
        run.measured(world.gaps().into_values().max().unwrap_or_default());
        ensure_no_gap(world)?;
        for (vip, node) in world.placed()? {
            let was = before.get(&vip).copied();
            anyhow::ensure!(
                was == Some(node) || was.is_some_and(|was| cut.contains(&Machine::Node(was))),
                "{vip} was on {was:?} and is on {node}"
            );
        }
        Ok(())
    })
}

fn a_lan_in_two_parts_without_an_allocator_comes_together(run: &mut Run) -> anyhow::Result<()> {
    run.at_rest((2, 5), |run, world, mut random| {
        let (one, other) = sides(&mut random, &world.shape.numbers(), &[Machine::Client, Machine::Listener]);
        world.befall(if random.chance(50) { Fault::KillAllocator } else { Fault::LoseAllocator })?;
        world.befall(Fault::SplitLan(one, other))?;
        world.pass(random.between(Duration::ZERO, Duration::from_secs(4)))?;
        world.befall(Fault::HealCuts)?;
        // Who took a VIP over hears its old node, and announces it again; the old one hears that, and yields.
        let (begin, mut both) = (world.now(), Duration::ZERO);
        while world.now().saturating_since(begin) < TOGETHER {
            world.pass(Duration::from_millis(5))?;
            if world.judge_answers().is_err() {
                both = world.now().saturating_since(begin);
            }
        }
        run.measured(both);
        world.judge_answers()?;
        world.pass(random.between(Duration::ZERO, Duration::from_secs(2)))?;
        world.judge_answers()?;
        world.befall(Fault::StartAllocator)?;
        world.rest(HEALED)?;
        world.judge_listener()
    })
}

fn a_rolling_update_loses_no_answer(run: &mut Run) -> anyhow::Result<()> {
    run.at_rest((2, 4), |run, world, mut random| {
        for slot in world.shape.slots() {
            world.befall(Fault::EndSpeaker(slot))?;
            world.rest(HEALED)?;
            world.befall(Fault::StartSpeaker(slot))?;
            if random.chance(30) {
                world.befall(Fault::KillAllocator)?;
                world.befall(Fault::StartAllocator)?;
            }
            world.rest(HEALED)?;
        }
        run.measured(world.longest_gap());
        ensure_no_gap(world)
    })
}

fn whoever_ends_while_the_allocator_is_away_is_not_missed(run: &mut Run) -> anyhow::Result<()> {
    run.at_rest((2, 5), |run, world, mut random| {
        let before = world.placed()?;
        let slot = random.pick(&world.shape.slots()).context("no speaker")?;
        world.befall(if random.chance(50) { Fault::KillAllocator } else { Fault::LoseAllocator })?;
        world.pass(random.between(Duration::ZERO, Duration::from_millis(500)))?;
        world.befall(Fault::EndSpeaker(slot))?;
        world.pass(random.between(Duration::ZERO, Duration::from_millis(500)))?;
        world.befall(Fault::StartAllocator)?;
        world.rest(HEALED)?;
        run.measured(world.longest_gap());
        ensure_no_gap(world)?;
        for (vip, node) in world.placed()? {
            let was = before.get(&vip).copied();
            anyhow::ensure!(was == Some(node) || was == Some(slot.node), "{vip} was on {was:?} and is on {node}");
        }
        Ok(())
    })
}
