//! `allocator-svc`: parses flags, runs the allocator or one of its tasks.

#![forbid(unsafe_code)]

use std::io;
use std::process::ExitCode;

use clap::Parser as _;
use mooring_allocator::args::{Args, Task};
use mooring_allocator::export::{export, import};

fn main() -> ExitCode {
    let args = Args::parse();
    args.check();
    let common = args.common.clone();
    match args.command {
        None => mooring_kit::run(&common, || mooring_allocator::run(args)),
        Some(Task::Export) => mooring_kit::run_task(&common, || async move {
            let damaged = export(&args.data_dir, &mut io::stdout().lock(), &mut io::stderr().lock())?;
            anyhow::ensure!(damaged == 0, "{damaged} records could not be read");
            Ok(())
        }),
        Some(Task::Import) => mooring_kit::run_task(&common, || async move {
            let imported = import(&args.data_dir, &mut io::stdin().lock())?;
            tracing::info!(event = "imported", records = imported, "imported");
            Ok(())
        }),
    }
}
