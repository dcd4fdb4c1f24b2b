//! `allocator-svc`: parses flags, runs the allocator or one of its tasks.

#![forbid(unsafe_code)]

use std::io;
use std::process::ExitCode;

use clap::Parser as _;
use mooring_allocator::args::{Args, Task};
use mooring_allocator::export::{export, import};
use mooring_allocator::plan::plan;

/// The exit code of a plan that could not be made: 1 says that something would change.
const PLAN_FAULT: u8 = 3;

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
        Some(Task::Plan(asked)) => mooring_kit::run_question(&common, PLAN_FAULT, || async {
            let (input, output, notes) = (&mut io::stdin().lock(), &mut io::stdout().lock(), &mut io::stderr().lock());
            let changes = plan(&asked, &common, input, output, notes).await?;
            Ok(if changes { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }),
    }
}
