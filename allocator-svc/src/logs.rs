//! The names of log events.

/// A Service holds addresses, new or others than before.
pub(crate) const LEASE_GRANTED: &str = "leaseGranted";
/// A Service holds nothing any more.
pub(crate) const LEASE_RELEASED: &str = "leaseReleased";
/// An address is kept for a Service, or from all.
pub(crate) const ADDRESS_RESERVED: &str = "addressReserved";
/// It is not any more.
pub(crate) const RESERVATION_ENDED: &str = "reservationEnded";
/// The history could not be read.
pub(crate) const HISTORY_UNREADABLE: &str = "historyUnreadable";
/// A claim is not met.
pub(crate) const CLAIM_REFUSED: &str = "claimRefused";
/// The configuration is now another one.
pub(crate) const CONFIG_REPLACED: &str = "configReplaced";
/// This allocator leads.
pub(crate) const EPOCH_BEGAN: &str = "epochBegan";
/// A watcher leads.
pub(crate) const TERM_BEGAN: &str = "termBegan";
/// A shadow's session began.
pub(crate) const SHADOW_BEGAN: &str = "shadowBegan";
/// A watcher's full view is in.
pub(crate) const VIEW_RECONCILED: &str = "viewReconciled";
/// A VIP has a node.
pub(crate) const VIP_PLACED: &str = "vipPlaced";
/// A VIP has no node.
pub(crate) const VIP_UNANNOUNCED: &str = "vipUnannounced";
/// A node is drained.
pub(crate) const NODE_DRAINED: &str = "nodeDrained";
/// A node is drained no longer.
pub(crate) const NODE_RESTORED: &str = "nodeRestored";
/// A drained node announces a VIP, as no other is eligible.
pub(crate) const LAST_RESORT: &str = "lastResort";
/// The node that announces a VIP does not answer for it, as another one sees it.
pub(crate) const VIP_UNREACHABLE: &str = "vipUnreachable";
/// It answers again.
pub(crate) const VIP_REACHABLE: &str = "vipReachable";
/// Others answer for a VIP as well.
pub(crate) const VIP_CONTESTED: &str = "vipContested";
/// A speaker came.
pub(crate) const SPEAKER_JOINED: &str = "speakerJoined";
/// A speaker's stream broke, and it has a moment to come back.
pub(crate) const SPEAKER_GRACE: &str = "speakerGrace";
/// A speaker is gone.
pub(crate) const SPEAKER_LOST: &str = "speakerLost";
/// A standby says that a speaker does not answer.
pub(crate) const SPEAKER_SUSPECTED: &str = "speakerSuspected";
/// A speaker that was given up is heard again.
pub(crate) const SPEAKER_RETURNED: &str = "speakerReturned";
/// A speaker is about to end.
pub(crate) const SPEAKER_DRAINING: &str = "speakerDraining";
/// A speaker's interfaces are now others.
pub(crate) const INTERFACES_CHANGED: &str = "interfacesChanged";
/// A speaker cannot announce a VIP.
pub(crate) const ANNOUNCE_FAILED: &str = "announceFailed";
/// A stranger claims a VIP.
pub(crate) const ADDRESS_CONFLICT: &str = "addressConflict";
/// Another machine has a VIP that was to be announced.
pub(crate) const ADDRESS_IN_USE: &str = "addressInUse";
/// A record that an older build wrote is left out.
pub(crate) const RECORD_LEFT_OUT: &str = "recordLeftOut";
/// A stranger has not claimed a VIP for a while.
pub(crate) const CONFLICT_OVER: &str = "conflictOver";
/// A speaker that was given up has stayed away.
pub(crate) const SPEAKER_FORGOTTEN: &str = "speakerForgotten";
/// No speaker has come since the start.
pub(crate) const SPEAKERS_MISSED: &str = "speakersMissed";
/// All speakers that were there before the start have come back, or are given up.
pub(crate) const RECOVERY_ENDED: &str = "recoveryEnded";
