//! What the log and the metrics say of what happened, in MetalLB's words where it has some (MetalLB behaviour 10).

use mooring_proto::types::service::ServiceKey;
use tracing::{error, info, warn};

use super::Engine;
use crate::core::pools::{Flaw, Merged};
use crate::core::report::{Cleared, Line};
use crate::core::state::Told;
use crate::logs;
use crate::shadow;
use crate::source::Kind;

impl Engine {
    /// Tells of what happened.
    pub(super) fn tell(&self, told: Vec<Told>) {
        for told in told {
            match told {
                Told::UpdateBegan(service) => info!(event = logs::START_UPDATE, %service, "start of service update"),
                Told::UpdateEnded(service) => info!(event = logs::END_UPDATE, %service, "end of service update"),
                Told::Allocated { service, ip, pool } => {
                    info!(event = logs::IP_ALLOCATED, %service, %ip, %pool, "IP address assigned by controller");
                }
                Told::Synced if self.state.is_shadow() => {}
                Told::Found(news) => shadow::tell(&news),
                Told::Synced => info!(event = logs::STATE_SYNCED, "controller synced, can allocate IPs now"),
                Told::Config(Merged::Good(_)) => {}
                Told::ConfigRestored(pools) => self.config_loaded(pools),
                Told::Config(Merged::Missing) => {
                    self.metrics.config_stale();
                    error!(
                        event = logs::NO_CONFIG,
                        "configuration is missing, MetalLB will not function: no ConfigMap and no IPAddressPool found"
                    );
                }
                Told::Config(Merged::Bad(flaws)) => {
                    self.metrics.config_stale();
                    for Flaw { object, text: reason, .. } in flaws {
                        let is_legacy = object.as_ref().is_some_and(|object| object.kind == Kind::ConfigMap.as_str());
                        let object = object.map(|object| object.to_string()).unwrap_or_default();
                        if is_legacy {
                            error!(event = logs::CONFIG_STALE, object, error = reason, "config (re)load failed, config marked stale");
                        } else {
                            error!(event = logs::CONFIG_STALE, object, error = reason, "failed to parse the configuration");
                        }
                    }
                }
                Told::BadQuota { namespace, quota, error } => {
                    let (annotation, value) = (error.key, &error.value);
                    let msg = if quota.is_some() { "the last good quota stays" } else { "no quota is in force" };
                    warn!(event = logs::ANNOTATION_MALFORMED, namespace, annotation, value, quota, %error, "{msg}");
                }
                Told::Reported(service, line) => tell_line(&service, &line),
            }
        }
    }

    /// A configuration is in force, and it is the newest.
    pub(super) fn config_loaded(&self, pools: usize) {
        self.metrics.config_loaded();
        info!(event = logs::CONFIG_LOADED, pools, "config (re)loaded");
    }
}

/// What the log says of a Service.
fn tell_line(service: &ServiceKey, line: &Line) {
    match line {
        Line::Cleared(Cleared::NoPools) => info!(event = logs::CLEAR_ASSIGNMENT, %service, reason = "noConfig", "no address pool"),
        Line::Cleared(Cleared::NotAllowed(error)) => {
            info!(event = logs::CLEAR_ASSIGNMENT, %service, error, "current IP not allowed by config, clearing");
        }
        Line::Cleared(Cleared::DifferentPool) => {
            let reason = "differentPoolRequested";
            info!(event = logs::CLEAR_ASSIGNMENT, %service, reason, "user requested a different pool than the one currently assigned");
        }
        Line::Cleared(Cleared::DifferentAddress) => {
            let reason = "differentIPRequested";
            info!(event = logs::CLEAR_ASSIGNMENT, %service, reason, "user requested a different IP than the one currently assigned");
        }
        Line::Failed { reason, error } => {
            error!(event = logs::ALLOCATION_FAILED, op = "allocateIPs", %service, reason, error, "IP allocation failed");
        }
        Line::Malformed(error) => {
            let (annotation, value) = (error.key, &error.value);
            warn!(event = logs::ANNOTATION_MALFORMED, %service, annotation, value, %error, "it counts as not given");
        }
        Line::Deprecated(annotation) => {
            warn!(event = logs::DEPRECATED_ANNOTATION, %service, annotation, "Service uses deprecated annotation");
        }
    }
}
