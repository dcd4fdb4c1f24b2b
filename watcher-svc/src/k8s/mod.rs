//! Kubernetes objects turned into what the core speaks, and results turned into what Kubernetes stores.
//!
//! Every reader takes the object as JSON, whether the API server sent it or a manifest held it, and either returns a view whose
//! values are all parsed or every error of the object, each with its field and value. The readers of the configuration are
//! [`mooring_proto::manifest`]'s. Nothing here watches, writes or decides.

pub mod annotations;
pub mod service;

pub mod endpoints;
pub mod namespace;
pub mod node;

pub mod crd;
pub mod status;

pub use mooring_proto::manifest::{ObjectRef, ParseError, Parsed, configmap, fields, pool};
