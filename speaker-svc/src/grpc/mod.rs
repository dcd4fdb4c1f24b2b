//! What the speaker serves over gRPC.

pub mod announcement;
