//! Names of the log events. What MetalLB logs keeps its name and text (MetalLB behaviour 10).

/// The process starts; carries the configuration.
pub const STARTING: &str = "starting";
/// A Service's address is looked at.
pub const START_UPDATE: &str = "startUpdate";
/// The look is over.
pub const END_UPDATE: &str = "endUpdate";
/// We answer for a Service's address.
pub const SERVICE_ANNOUNCED: &str = "serviceAnnounced";
/// We do not answer any more.
pub const SERVICE_WITHDRAWN: &str = "serviceWithdrawn";
/// A VIP cannot be announced here.
pub const ANNOUNCE_FAILED: &str = "announceFailed";
/// An interface answers ARP requests.
pub const CREATE_ARP_RESPONDER: &str = "createARPResponder";
/// An interface does not any more.
pub const DELETE_ARP_RESPONDER: &str = "deleteARPResponder";
/// An interface answers neighbor solicitations.
pub const CREATE_NDP_RESPONDER: &str = "createNDPResponder";
/// An interface does not any more.
pub const DELETE_NDP_RESPONDER: &str = "deleteNDPResponder";
/// A solicitation is answered.
pub const NDP_REQUEST: &str = "ndpRequest";
/// A group could not be joined.
pub const JOIN_FAILED: &str = "joinFailed";
/// A request is answered.
pub const ARP_REQUEST: &str = "arpRequest";
/// A stranger claims a VIP.
pub const ADDRESS_CONFLICT: &str = "addressConflict";
/// A machine that is no node of ours has a VIP that we were to announce.
pub const ADDRESS_IN_USE: &str = "addressInUse";
/// The session to the allocator is in another state.
pub const SESSION_CHANGED: &str = "sessionChanged";
/// No session could be had.
pub const SESSION_FAILED: &str = "sessionFailed";
/// Another process has our node and instance, and the allocator listens to it.
pub const SESSION_REPLACED: &str = "sessionReplaced";
/// The allocator says farewell.
pub const GOODBYE: &str = "goodbye";
/// An allocator of an older leadership is not obeyed.
pub const EPOCH_REFUSED: &str = "epochRefused";
/// A peer took a VIP while no allocator was there.
pub const YIELDED: &str = "yielded";
/// We took a VIP over by ourselves, as its node did not answer and no allocator was there.
pub const TOOK_OVER: &str = "tookOver";
/// The process gives its VIPs away.
pub const DRAIN_STARTED: &str = "drainStarted";
/// It has.
pub const DRAINED: &str = "drained";
/// The links could not be read.
pub const LINKS_FAILED: &str = "linksFailed";
