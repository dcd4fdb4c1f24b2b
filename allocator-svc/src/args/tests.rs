use clap::Parser as _;

use super::*;

#[test]
fn the_defaults_are_those_that_tests_and_simulations_decide_by() {
    assert_eq!(Args::try_parse_from(["allocator-svc"]).unwrap().settings(), Settings::DEFAULT);
}
