//! How a service runs.
