//! Everything that is counted.
//!
//! MetalLB's series keep their names and labels (MetalLB behaviour 9); its three counters lack the suffix `_total` that OpenMetrics
//! wants of a counter, so they are given as gauges. They and `metallb_speaker_announced` are read from the reply table when asked for,
//! so a withdrawn VIP's series are gone with it.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use mooring_proto::types::node::NodeName;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use crate::core::reply::{Entry, ReplyTable};
use crate::core::state::{Counters, State};
use crate::wire::Malformed;

/// Why a frame was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Truncated,
    EtherType,
    Format,
    Operation,
    Sender,
    HopLimit,
    Checksum,
    Code,
    Target,
    Option,
    Destination,
    Solicited,
    Foreign,
    Claim,
    Unsent,
}

impl Reason {
    const ALL: [Self; 15] = [
        Self::Truncated,
        Self::EtherType,
        Self::Format,
        Self::Operation,
        Self::Sender,
        Self::HopLimit,
        Self::Checksum,
        Self::Code,
        Self::Target,
        Self::Option,
        Self::Destination,
        Self::Solicited,
        Self::Foreign,
        Self::Claim,
        Self::Unsent,
    ];

    const fn label(self) -> ReasonLabel {
        let reason = match self {
            Self::Truncated => "truncated",
            Self::EtherType => "ether_type",
            Self::Format => "format",
            Self::Operation => "operation",
            Self::Sender => "sender",
            Self::HopLimit => "hop_limit",
            Self::Checksum => "checksum",
            Self::Code => "code",
            Self::Target => "target",
            Self::Option => "option",
            Self::Destination => "destination",
            Self::Solicited => "solicited",
            Self::Foreign => "foreign",
            Self::Claim => "claim",
            Self::Unsent => "unsent",
        };
        ReasonLabel { reason }
    }

    fn of(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Truncated => Self::Truncated,
            Malformed::EtherType => Self::EtherType,
            Malformed::Format => Self::Format,
            Malformed::Operation => Self::Operation,
            Malformed::Sender => Self::Sender,
            Malformed::HopLimit => Self::HopLimit,
            Malformed::Checksum => Self::Checksum,
            Malformed::Code => Self::Code,
            Malformed::Target => Self::Target,
            Malformed::Option => Self::Option,
            Malformed::Destination => Self::Destination,
            Malformed::Solicited => Self::Solicited,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// The parts a VIP can have here, as labels.
const ACTIVE: RoleLabel = RoleLabel { role: "active" };
const STANDBY: RoleLabel = RoleLabel { role: "standby" };

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RoleLabel {
    role: &'static str,
}

/// Counts frames that came or went for nothing; responder threads share it.
#[derive(Clone, Debug, Default)]
pub struct FrameDrops(Family<ReasonLabel, Counter>);

impl FrameDrops {
    fn count(&self, reason: Reason) {
        self.0.get_or_create(&reason.label()).inc();
    }

    /// A frame that is none.
    pub fn malformed(&self, malformed: Malformed) {
        self.count(Reason::of(malformed));
    }

    /// A frame for another station or group.
    pub fn foreign(&self) {
        self.count(Reason::Foreign);
    }

    /// A claim that the engine had no room for.
    pub fn claim(&self) {
        self.count(Reason::Claim);
    }

    /// A frame of ours that the kernel did not take.
    pub fn unsent(&self) {
        self.count(Reason::Unsent);
    }
}

/// The series of a speaker.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    vips: Family<RoleLabel, Gauge>,
    session_live: Gauge,
    interfaces: Gauge,
    conflicts: Counter,
    takeovers: Counter,
    in_use: Counter,
    /// Frames that came or went for nothing.
    pub drops: FrameDrops,
}

impl Metrics {
    /// Registers everything, at zero.
    #[must_use]
    pub fn register(registry: &mut Registry, node: &NodeName, table: Arc<ArcSwap<ReplyTable>>) -> Self {
        let metrics = Self::default();
        for role in [ACTIVE, STANDBY] {
            metrics.vips.get_or_create(&role).set(0);
        }
        for reason in Reason::ALL {
            drop(metrics.drops.0.get_or_create(&reason.label()));
        }
        registry.register("mooring_speaker_vips", "VIPs that the speaker answers for, or does not but may have to", metrics.vips.clone());
        registry.register("mooring_speaker_session_live", "Whether the allocator is there: 1 or 0", metrics.session_live.clone());
        registry.register("mooring_speaker_interfaces", "Interfaces that answer", metrics.interfaces.clone());
        registry.register("mooring_speaker_conflicts", "Claims of strangers to announced VIPs", metrics.conflicts.clone());
        registry.register(
            "mooring_speaker_addresses_in_use",
            "Addresses found at other machines before they were announced",
            metrics.in_use.clone(),
        );
        let help = "Addresses taken over by itself, as their node did not answer and no allocator was there";
        registry.register("mooring_speaker_takeovers", help, metrics.takeovers.clone());
        registry.register("mooring_speaker_frames_dropped", "Frames received or to be sent, and dropped", metrics.drops.0.clone());
        registry.register_collector(Box::new(Announcements { node: node.to_string(), table }));
        metrics
    }

    /// A stranger's claim was seen.
    pub fn conflict(&self) {
        self.conflicts.inc();
    }

    /// A VIP was found at another machine.
    pub fn in_use(&self) {
        self.in_use.inc();
    }

    /// A VIP was taken over by ourselves.
    pub fn took_over(&self) {
        self.takeovers.inc();
    }

    /// What can be seen in the state.
    pub fn observe(&self, state: &State) {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let active = state.announced();
        self.vips.get_or_create(&ACTIVE).set(gauge(active));
        self.vips.get_or_create(&STANDBY).set(gauge(state.vips().len().saturating_sub(active)));
        self.session_live.set(i64::from(state.session().is_live()));
        self.interfaces.set(gauge(state.interfaces().ports().count()));
    }
}

/// MetalLB's series, of what is announced now.
struct Announcements {
    node: String,
    table: Arc<ArcSwap<ReplyTable>>,
}

impl fmt::Debug for Announcements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Announcements").field("node", &self.node).finish_non_exhaustive()
    }
}

/// A series of one number for each VIP: its name, its help, the number.
type PerVip = (&'static str, &'static str, fn(&Counters) -> u64);

/// MetalLB counts only the requests that it answers, and so do we: the first two are the same.
const PER_VIP: [PerVip; 3] = [
    ("metallb_layer2_requests_received", "Number of layer2 requests received for owned IPs", Counters::answered),
    ("metallb_layer2_responses_sent", "Number of layer2 responses sent for owned IPs in response to requests", Counters::answered),
    (
        "metallb_layer2_gratuitous_sent",
        "Number of gratuitous layer2 packets sent for owned IPs as a result of failovers",
        Counters::gratuitous,
    ),
];

impl Collector for Announcements {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let table = self.table.load();
        let help = "Services being announced from this node. This is desired state, it does not guarantee that the routing protocols have converged";
        let mut announced = encoder.encode_descriptor("metallb_speaker_announced", help, None, MetricType::Gauge)?;
        for Entry { assigned, .. } in table.iter() {
            let ip = assigned.vip.to_string();
            for (service, _) in &assigned.services {
                let service = service.to_string();
                let labels = [("service", service.as_str()), ("protocol", "layer2"), ("node", self.node.as_str()), ("ip", ip.as_str())];
                ConstGauge::new(1_i64).encode(announced.encode_family(&labels)?)?;
            }
        }
        for (name, help, read) in PER_VIP {
            let mut series = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for Entry { assigned, .. } in table.iter() {
                let labels = [("ip", assigned.vip.to_string())];
                ConstGauge::new(read(&assigned.counters)).encode(series.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
