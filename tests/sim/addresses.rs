//! Addresses that nobody of the cluster has had before: whoever is to announce one asks first.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use mooring_proto::types::address::Vip;
use mooring_tests::sim::HEALED;
use mooring_tests::sim::plan::Fault;
use mooring_tests::sim::watcher::{address, families};

use super::{Run, Scenario, ensure_no_gap};

pub(super) const SCENARIOS: &[Scenario] = &[
    ("a_new_address_is_answered_once_nobody_has_said_to_have_it", 10, a_new_address_is_answered_once_nobody_has_said_to_have_it),
    ("an_address_that_another_machine_has_is_left_to_it", 10, an_address_that_another_machine_has_is_left_to_it),
];

/// Three questions 20 ms apart.
const ASKED: Duration = Duration::from_millis(60);

/// A watcher's call, a flush, which is slow now and then, the delta on its way, and what waits for a process to run.
const TOLD: Duration = Duration::from_millis(60);

/// How often it is looked who answers.
const LOOK: Duration = Duration::from_millis(1);

fn a_new_address_is_answered_once_nobody_has_said_to_have_it(run: &mut Run) -> anyhow::Result<()> {
    run.at_rest((1, 5), |run, world, _| {
        let number = world.shape.services.saturating_add(1);
        world.befall(Fault::MakeService(number))?;
        let begin = world.now();
        let took = loop {
            world.pass(LOOK)?;
            let took = world.now().saturating_since(begin);
            let vip = world.vip_of(number)?;
            if vip.is_some_and(|vip| world.answered_by(vip).is_ok_and(|node| node.is_some())) {
                break took;
            }
            ensure!(took <= ASKED + TOLD, "{vip:?} is not answered after {took:?}");
        };
        ensure!(took >= ASKED, "it is answered after {took:?}, before all was asked");
        run.measured(took);
        world.rest(HEALED)?;
        ensure_no_gap(world)
    })
}

fn an_address_that_another_machine_has_is_left_to_it(run: &mut Run) -> anyhow::Result<()> {
    run.at_rest((1, 5), |run, world, _| {
        let number = world.shape.services.saturating_add(1);
        // One with a single address.
        let number = if families(number)[1].is_some() { number.saturating_add(1) } else { number };
        let held = world.vips();
        // The lowest free address of the family is the next one to be handed out.
        let [family, _] = families(number);
        let family = family.context("a Service without a family")?;
        let foreign = (0..u8::MAX).map(|last| address(family, last)).find(|vip| !held.contains(vip)).context("no address is free")?;
        world.befall(Fault::ClaimAddress(foreign))?;
        world.befall(Fault::MakeService(number))?;
        let begin = world.now();
        let mut was_given = false;
        let took = loop {
            world.pass(LOOK)?;
            let took = world.now().saturating_since(begin);
            ensure!(world.answered_by(foreign)?.is_none(), "{foreign} is answered, and another machine has it");
            match world.vip_of(number)? {
                Some(vip) if vip == foreign => was_given = true,
                Some(vip) if world.answered_by(vip)?.is_some() => break took,
                Some(_) | None => {}
            }
            // It is told in vain once, found out, and told another one, which is asked for in full.
            ensure!(took <= ASKED + TOLD + TOLD, "nothing is answered after {took:?}");
        };
        ensure!(was_given, "it was never to be announced");
        run.measured(took);
        world.rest(HEALED)?;
        ensure!(world.answered_by(foreign)?.is_none(), "{foreign} is answered, and another machine has it");
        let old = |vip: &Vip| held.contains(vip);
        let no_gap = world.no_gap();
        for (vip, gap) in world.gaps().into_iter().filter(|(vip, _)| old(vip)) {
            ensure!(gap <= no_gap, "{vip} was not answered for {gap:?}");
        }
        Ok(())
    })
}
