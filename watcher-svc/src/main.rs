//! `watcher-svc`: parses flags, runs the watcher.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use mooring_watcher::args::Args;

fn main() -> ExitCode {
    let args = Args::parse();
    args.check();
    let common = args.common.clone();
    mooring_kit::run(&common, || mooring_watcher::run(args))
}
