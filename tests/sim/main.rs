//! Seeded runs of the simulation.
//!
//! `cargo sim` runs some seeds of each scenario, `cargo sim -- --seeds 20000` as many as it says, `cargo sim -- --from 20000` others,
//! and `cargo sim -- NAME --seed 17` one, telling all that happened in it. A word selects the scenarios with that word in their name.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "what a seed came to is told on the standard output")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use libtest_mimic::{Arguments, Trial};
use mooring_proto::types::address::Vip;
use mooring_tests::sim::plan::{Plan, Shape};
use mooring_tests::sim::random::Random;
use mooring_tests::sim::{HEALED, World};

mod addresses;
mod anything;
mod failover;
mod outage;
mod restart;

/// A scenario: its name, how many seeds of it are run if nobody says how many, and what is done with one.
type Scenario = (&'static str, u64, fn(&mut Run) -> anyhow::Result<()>);

/// No VIP was without an answer for longer than between two requests.
fn ensure_no_gap(world: &World) -> anyhow::Result<()> {
    ensure_gaps(world, |_| world.no_gap())
}

/// No VIP was without an answer for longer than it may be.
fn ensure_gaps(world: &World, may: impl Fn(Vip) -> Duration) -> anyhow::Result<()> {
    for (vip, gap) in world.gaps() {
        anyhow::ensure!(gap <= may(vip), "{vip} was not answered for {gap:?}, and may be so for {:?}", may(vip));
    }
    Ok(())
}

/// Each VIP is still on its node.
fn ensure_unmoved(world: &World, before: &BTreeMap<Vip, u8>) -> anyhow::Result<()> {
    let after = world.placed()?;
    anyhow::ensure!(after == *before, "moved from {before:?} to {after:?}");
    Ok(())
}

/// Events told of a seed that failed: the last of them.
const TOLD: usize = 150;

/// One seed of a scenario.
struct Run {
    seed: u64,
    /// Everything that happens is told.
    is_told: bool,
    /// What the seed came to, for people.
    schedule: String,
    journal: Vec<String>,
    /// The longest time of what the scenario measures.
    longest: Duration,
}

impl Run {
    /// Does something with a world, and keeps what it tells.
    fn over(&mut self, mut world: World, work: impl FnOnce(&mut Self, &mut World) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let done = work(self, &mut world);
        self.journal = world.journal().to_vec();
        done
    }

    /// A cluster by chance, at rest, and the chance that is left.
    fn at_rest(&mut self, nodes: (u8, u8), work: impl FnOnce(&mut Self, &mut World, Random) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut random = Random::new(self.seed);
        let shape = Shape::draw(&mut random, nodes.0, nodes.1);
        self.plan(&shape, &Plan::new());
        let world = World::new(shape, random.draw(), self.is_told)?;
        self.over(world, |run, world| {
            world.rest(HEALED)?;
            world.look_anew();
            work(run, world, random)
        })
    }

    /// Writes down what is going to happen.
    fn plan(&mut self, shape: &Shape, plan: &Plan) {
        let lines = plan.iter().map(|(at, fault)| format!("{:>12.6} {fault:?}", at.as_secs_f64()));
        self.schedule = std::iter::once(format!("{shape:?}")).chain(lines).collect::<Vec<_>>().join("\n");
    }

    fn measured(&mut self, time: Duration) {
        self.longest = self.longest.max(time);
    }
}

fn run(scenario: fn(&mut Run) -> anyhow::Result<()>, seed: u64, is_told: bool) -> (anyhow::Result<()>, Run) {
    let mut run = Run { seed, is_told, schedule: String::new(), journal: Vec::new(), longest: Duration::ZERO };
    (scenario(&mut run), run)
}

/// What to run.
#[derive(Clone, Copy)]
struct Seeds {
    from: u64,
    count: Option<u64>,
    only: Option<u64>,
}

impl Seeds {
    /// Takes what is about seeds out of the arguments.
    fn take(arguments: &mut Vec<String>) -> anyhow::Result<Self> {
        let mut take = |flag: &str| -> anyhow::Result<Option<u64>> {
            let Some(at) = arguments.iter().position(|argument| argument == flag) else { return Ok(None) };
            arguments.remove(at);
            let value = arguments.get(at).with_context(|| format!("{flag} needs a number"))?.clone();
            arguments.remove(at);
            Ok(Some(value.parse().with_context(|| format!("{flag}: {value:?} is no number"))?))
        };
        Ok(Self { from: take("--from")?.unwrap_or(1), count: take("--seeds")?, only: take("--seed")? })
    }
}

/// Runs a scenario's seeds; the error tells the first that fails, with its schedule, what happened last, and how to see it again.
fn explore((name, usual, scenario): Scenario, seeds: Seeds) -> Result<(), String> {
    let (from, count) = seeds.only.map_or((seeds.from, seeds.count.unwrap_or(usual)), |only| (only, 1));
    let mut longest = Duration::ZERO;
    for seed in from..from.saturating_add(count) {
        let (outcome, first) = run(scenario, seed, seeds.only.is_some());
        longest = longest.max(first.longest);
        if seeds.only.is_some() {
            println!("{}", first.journal.join("\n"));
        }
        if outcome.is_err() {
            // The same seed once more, told.
            let (outcome, told) = run(scenario, seed, true);
            let error = outcome.err().map_or_else(|| "it passes when it is run again".to_owned(), |error| format!("{error:#}"));
            let mut text = format!("seed {seed}: {error}\n\n{}\n", told.schedule);
            let skipped = told.journal.len().saturating_sub(TOLD);
            for line in told.journal.iter().skip(skipped) {
                writeln!(text, "{line}").map_err(|error| error.to_string())?;
            }
            writeln!(text, "\nsee all of it: cargo sim -- --exact {name} --seed {seed}").map_err(|error| error.to_string())?;
            return Err(text);
        }
    }
    println!("{name}: {count} seeds from {from}, {longest:?} at most");
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let mut arguments: Vec<String> = std::env::args().collect();
    let seeds = Seeds::take(&mut arguments)?;
    let scenarios = [addresses::SCENARIOS, anything::SCENARIOS, failover::SCENARIOS, outage::SCENARIOS, restart::SCENARIOS].concat();
    let trials = scenarios.into_iter().map(|scenario| Trial::test(scenario.0, move || explore(scenario, seeds).map_err(Into::into)));
    libtest_mimic::run(&Arguments::from_iter(arguments), trials.collect()).exit()
}
