//! Streams a node's assignments and answers for them by ARP on raw sockets.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use mooring_speaker::args::Args;
use mooring_speaker::engine::EngineFault;
use mooring_speaker::net::socket;

fn main() -> ExitCode {
    let config = Args::parse().into_config();
    // Before any other thread is made, as threads inherit what their maker has.
    let privilege = socket::keep_only_net_raw().map_err(EngineFault::Privilege);
    let common = config.common.clone();
    mooring_kit::run(&common, || async move {
        privilege?;
        mooring_speaker::run(config).await
    })
}
