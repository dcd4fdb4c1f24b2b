//! Why nobody announces a VIP, in the words that people read.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use mooring_proto::types::node::NodeName;
use mooring_proto::types::pool::PoolName;

/// Why nobody announces a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unannounced {
    /// No endpoint of its Services can serve.
    NoEndpoint,
    /// Nobody has said yet where its Services can be served.
    BackendsUnknown,
    /// A status holds it, and after a start without records of it whoever announces it is still awaited; or all speakers are lost at once.
    HolderAwaited,
    /// Another machine on the LAN has it: which, and until when it is left alone.
    InUse(String),
    /// No advertisement is about its pool and Services.
    NotAdvertised(PoolName),
    /// No node may announce it: the reason of each node that has a speaker.
    NoEligibleNode(Arc<BTreeMap<NodeName, &'static str>>),
    /// No node has a speaker, and none has had one for as long as those that were there before a start are waited for.
    NoSpeaker,
}

impl Unannounced {
    /// Whether a speaker that can do more than before may change it.
    pub(in crate::core) fn is_for_want_of_a_node(&self) -> bool {
        match self {
            Self::NoEligibleNode(_) | Self::NoSpeaker => true,
            Self::NoEndpoint | Self::BackendsUnknown | Self::HolderAwaited | Self::InUse(_) | Self::NotAdvertised(_) => false,
        }
    }
}

/// What keeps a node from announcing a VIP that it may announce otherwise.
pub(super) const LACKS_INTERFACES: &str = "it has none of the advertised interfaces";

impl Unannounced {
    /// Whether somebody has to mend something before it can be announced: no node that has a speaker may, or no speaker comes. Right after a
    /// start they are just about to; and what no advertisement is about may be announced by other means.
    #[must_use]
    pub fn is_amiss(&self) -> bool {
        match self {
            Self::NoSpeaker => true,
            Self::NoEligibleNode(nodes) => !nodes.is_empty(),
            Self::NoEndpoint | Self::BackendsUnknown | Self::HolderAwaited | Self::InUse(_) | Self::NotAdvertised(_) => false,
        }
    }

    /// The first node, by name, that may but for the advertised interfaces, of which it has none.
    #[must_use]
    pub fn lacks_interfaces(&self) -> Option<&NodeName> {
        let Self::NoEligibleNode(nodes) = self else { return None };
        nodes.iter().find(|(_, reason)| **reason == LACKS_INTERFACES).map(|(node, _)| node)
    }
}

impl fmt::Display for Unannounced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEndpoint => f.write_str("no endpoint can serve"),
            Self::BackendsUnknown => f.write_str("it is not known yet where it can be served"),
            Self::HolderAwaited => f.write_str("the allocator has just started or hears nobody, and whoever announces it may still say so"),
            Self::InUse(why) => f.write_str(why),
            Self::NotAdvertised(pool) => write!(f, "no L2Advertisement is about pool {pool} and this Service"),
            Self::NoSpeaker => f.write_str("no node has a speaker"),
            Self::NoEligibleNode(nodes) if nodes.is_empty() => f.write_str("no node has a speaker"),
            Self::NoEligibleNode(nodes) => {
                let reasons = nodes.iter().map(|(node, reason)| format!("{node}: {reason}")).collect::<Vec<_>>();
                write!(f, "no node is eligible: {}", reasons.join("; "))
            }
        }
    }
}
