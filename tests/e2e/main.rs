//! End to end: real binaries on real network namespaces.

#![forbid(unsafe_code)]
#![expect(clippy::indexing_slicing, reason = "what is not there fails the scenario")]

use libtest_mimic::{Arguments, Trial};

mod cluster;
mod compat;
mod configuration;
mod durability;
mod explain;
mod failover;
mod input;
mod inspection;
mod interfaces;
mod ipv6;
mod lab;
mod load;
mod mishaps;
mod placement;
mod readme;
mod reservations;
mod rights;
mod security;
mod shadow;
mod standby;
mod story;
mod wire;

/// A name, and what is done under it.
type Scenario = (&'static str, fn() -> anyhow::Result<()>);

/// The text of an error that has to come.
fn refused<T: std::fmt::Debug>(result: anyhow::Result<T>) -> anyhow::Result<String> {
    match result {
        Ok(value) => anyhow::bail!("not refused: {value:?}"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

fn main() -> anyhow::Result<()> {
    mooring_tests::lab::enter()?;
    let mut arguments = Arguments::from_args();
    // One LAN at a time, and nothing beside it that would spoil its times.
    arguments.test_threads = Some(1);
    let scenarios = [
        lab::SCENARIOS,
        story::SCENARIOS,
        failover::SCENARIOS,
        standby::SCENARIOS,
        wire::SCENARIOS,
        ipv6::SCENARIOS,
        interfaces::SCENARIOS,
        durability::SCENARIOS,
        load::SCENARIOS,
        cluster::SCENARIOS,
        compat::SCENARIOS,
        configuration::SCENARIOS,
        mishaps::SCENARIOS,
        placement::SCENARIOS,
        rights::SCENARIOS,
        inspection::SCENARIOS,
        explain::SCENARIOS,
        reservations::SCENARIOS,
        input::SCENARIOS,
        security::SCENARIOS,
        shadow::SCENARIOS,
        readme::SCENARIOS,
    ];
    let trials = scenarios
        .concat()
        .into_iter()
        .map(|(name, scenario)| Trial::test(name, move || scenario().map_err(|error| format!("{error:#}").into())));
    libtest_mimic::run(&arguments, trials.collect()).exit()
}
