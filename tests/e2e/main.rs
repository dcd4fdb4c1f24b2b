//! End to end: real binaries on real network namespaces.

use libtest_mimic::{Arguments, Trial};

mod lab;

fn main() -> anyhow::Result<()> {
    mooring_tests::lab::enter()?;
    let mut arguments = Arguments::from_args();
    // One LAN at a time, and nothing beside it that would spoil its times.
    arguments.test_threads = Some(1);
    let scenarios = [lab::SCENARIOS];
    let trials = scenarios.concat().into_iter().map(|(name, scenario)| Trial::test(name, move || scenario().map_err(|error| format!("{error:#}").into())));
    libtest_mimic::run(&arguments, trials.collect()).exit()
}
