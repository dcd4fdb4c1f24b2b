//! `allocator-svc plan`: asks a running allocator what the configuration in a file would do, and prints the answer as a table.

mod file;
mod table;

use std::io::{Read, Write};

use anyhow::{Context as _, anyhow};
use mooring_kit::args::CommonArgs;
use mooring_kit::tls;
use mooring_proto::pb;
use mooring_proto::pb::inspect_service_client::InspectServiceClient;
use tonic::Status;

use self::file::Configured;
use crate::args::PlanArgs;

/// Prints the plan, and says whether anything would change. What a file says in vain is named on `notes`.
///
/// # Errors
/// The file cannot be read or is no good, the allocator cannot be reached or refuses the configuration, or the output cannot be written.
pub async fn plan(
    args: &PlanArgs,
    common: &CommonArgs,
    input: &mut impl Read,
    output: &mut impl Write,
    notes: &mut impl Write,
) -> anyhow::Result<bool> {
    let file = args.pools.display().to_string();
    let text = if file == "-" {
        let mut text = String::new();
        input.read_to_string(&mut text).map(|_bytes| text)
    } else {
        std::fs::read_to_string(&args.pools)
    };
    let text = text.with_context(|| format!("could not read {file}"))?;
    let Configured { pools, advertisements, in_vain } = file::read(&file, &text, &args.namespace)?;
    for note in in_vain {
        writeln!(notes, "note: {note}")?;
    }
    let request = pb::PlanPoolsRequest {
        pools: pools.iter().map(Into::into).collect(),
        advertisements: advertisements.iter().map(Into::into).collect(),
    };
    let refused = |status: Status| match status.message() {
        "" => anyhow!("the allocator at {} answers {:?}", args.allocator, status.code()),
        message => anyhow!("the allocator at {} answers {:?}: {message}", args.allocator, status.code()),
    };
    let mut client = InspectServiceClient::new(tls::channel(&args.allocator, common)?);
    let mut parts = client.plan_pools(request).await.map_err(refused)?.into_inner();
    let (mut changes, mut summary) = (Vec::new(), None);
    while let Some(part) = parts.message().await.map_err(refused)? {
        changes.extend(part.changes);
        summary = if part.complete { part.summary } else { None };
    }
    let summary = summary.with_context(|| format!("the answer of the allocator at {} is not whole", args.allocator))?;
    table::write(output, &changes, &summary)?;
    Ok(!changes.is_empty())
}
