//! What a shadow says in the log. What it finds is decided in `core/shadow.rs`.

use std::collections::BTreeSet;

use tracing::info;

use crate::core::shadow::{News, Summary};
use crate::logs;

/// Tells people what was found.
pub(crate) fn tell(news: &News) {
    match news {
        News::Differs(service, found) => {
            let (ip, wanted, reason) = (list(&found.has), list(&found.wanted), found.reason.as_str());
            let (pool, error) = (found.pool.as_ref().map(ToString::to_string).unwrap_or_default(), &found.error);
            info!(event = logs::SHADOW_DIFFERS, %service, ip, wanted, pool, reason, error, "{service} {found}");
        }
        News::Agrees(service) => info!(event = logs::SHADOW_AGREES, %service, "{service} would keep what it has"),
        News::AtRest(summary) => {
            let Summary { services, same, differ } = summary;
            info!(event = logs::SHADOW_SUMMARY, services, same, differ, complete = true, "{summary}");
        }
        News::CutShort(summary) => {
            let Summary { services, same, differ } = summary;
            info!(event = logs::SHADOW_SUMMARY, services, same, differ, complete = false, "ended before all was compared: {summary}");
        }
    }
}

fn list(addresses: &BTreeSet<String>) -> String {
    addresses.iter().map(String::as_str).collect::<Vec<_>>().join(",")
}
