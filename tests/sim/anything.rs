//! Whatever may go wrong, together.

use std::time::Duration;

use mooring_tests::sim::plan::{Shape, anything};
use mooring_tests::sim::random::Random;
use mooring_tests::sim::{HEALED, World};

use super::{Run, Scenario};

pub(super) const SCENARIOS: &[Scenario] = &[("whatever_happens_the_cluster_heals", 20, whatever_happens_the_cluster_heals)];

/// How long things go wrong.
const MISHAPS: Duration = Duration::from_secs(8);

fn whatever_happens_the_cluster_heals(run: &mut Run) -> anyhow::Result<()> {
    let mut random = Random::new(run.seed);
    let shape = Shape::draw(&mut random, 2, 5);
    let plan = anything(&mut random, &shape, MISHAPS);
    run.plan(&shape, &plan);
    let world = World::new(shape, random.draw(), run.is_told)?;
    run.over(world, |run, world| {
        // Half of the time things go wrong from the first moment on.
        if random.chance(50) {
            world.rest(HEALED)?;
        }
        world.schedule(&plan);
        world.pass(MISHAPS)?;
        world.heal()?;
        let healed = world.rest(HEALED)?;
        run.measured(healed);
        Ok(())
    })
}
