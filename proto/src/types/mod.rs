//! What the cores speak: parsed once at the edge, wrong values cannot be made.

pub mod address;
pub mod assignment;
pub mod backends;
pub mod claim;
pub mod history;
pub mod labels;
pub mod lease;
pub mod node;
pub mod pool;
pub mod reservation;
pub mod service;
pub mod time;
