//! The contract between Mooring's services.
//!
//! [`pb`] is the generated code, [`types`] what the services' cores speak, [`convert`] the only way from one to the other, [`manifest`]
//! the way from Kubernetes objects, [`reason`] and [`status`] how a refusal crosses the wire, [`shadow`] the mark of calls that ask what
//! would be. Nothing here does any work of its own.

#![forbid(unsafe_code)]

pub mod convert;
pub mod manifest;
pub mod reason;
pub mod shadow;
pub mod status;
pub mod types;

/// The generated messages, clients and servers of package `mooring.v1`.
#[expect(
    clippy::missing_errors_doc,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod pb {
    tonic::include_proto!("mooring.v1");
}

/// The largest message of a call to AllocatorService, in bytes: all nodes come in one, and 5,000 of them with labels are some 10 MiB; all
/// pools and advertisements likewise. A caller that would send more is refused on its own side.
pub const LARGEST_CALL: usize = 32 << 20;

/// The encoded `FileDescriptorSet` of package `mooring.v1`, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/mooring.v1.bin"));
