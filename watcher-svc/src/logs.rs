//! The names of log events; those of MetalLB keep its names (MetalLB behaviour 10).

/// Work on a Service begins.
pub(crate) const START_UPDATE: &str = "startUpdate";
/// Work on a Service is done.
pub(crate) const END_UPDATE: &str = "endUpdate";
/// A Service has an address.
pub(crate) const IP_ALLOCATED: &str = "ipAllocated";
/// A Service's status is written.
pub(crate) const SERVICE_UPDATED: &str = "serviceUpdated";
/// A Service's addresses are taken back.
pub(crate) const CLEAR_ASSIGNMENT: &str = "clearAssignment";
/// A Service is gone.
pub(crate) const SERVICE_DELETED: &str = "serviceDeleted";
/// A Service's claim is not met.
pub(crate) const ALLOCATION_FAILED: &str = "allocationFailed";
/// A configuration is in force.
pub(crate) const CONFIG_LOADED: &str = "configLoaded";
/// A configuration is no good; the last good one stays.
pub(crate) const CONFIG_STALE: &str = "configStale";
/// There is no configuration.
pub(crate) const NO_CONFIG: &str = "noConfig";
/// An object does not parse; its last good view stays.
pub(crate) const OBJECT_MALFORMED: &str = "objectMalformed";
/// An annotation of Mooring's own makes no sense.
pub(crate) const ANNOTATION_MALFORMED: &str = "annotationMalformed";
/// A Service uses a deprecated annotation.
pub(crate) const DEPRECATED_ANNOTATION: &str = "deprecatedAnnotation";
/// The allocator cannot be reached.
pub(crate) const ALLOCATOR_AWAY: &str = "allocatorAway";
/// The allocator is there, and has this watcher's full view.
pub(crate) const STATE_SYNCED: &str = "stateSynced";
/// Another watcher leads.
pub(crate) const TERM_OUTDATED: &str = "termOutdated";
/// Something could not be written; it is tried again.
pub(crate) const WRITE_FAILED: &str = "writeFailed";
/// A file of the directory is no good; what it last said stays.
pub(crate) const FILE_MALFORMED: &str = "fileMalformed";
/// A file is good again.
pub(crate) const FILE_GOOD: &str = "fileGood";
/// An object in a file does not count.
pub(crate) const OBJECT_IGNORED: &str = "objectIgnored";
/// The directory cannot be read.
pub(crate) const DIRECTORY_AWAY: &str = "directoryAway";
/// The directory can be read again.
pub(crate) const DIRECTORY_BACK: &str = "directoryBack";
/// A status file of before the start cannot be read.
pub(crate) const STATUS_UNREADABLE: &str = "statusUnreadable";
/// A Service would have other addresses than it has.
pub(crate) const SHADOW_DIFFERS: &str = "shadowDiffers";
/// A Service would have what it has, as it would not before.
pub(crate) const SHADOW_AGREES: &str = "shadowAgrees";
/// All Services were compared.
pub(crate) const SHADOW_SUMMARY: &str = "shadowSummary";
/// A shadow finds no status files.
pub(crate) const STATUS_ABSENT: &str = "statusAbsent";
