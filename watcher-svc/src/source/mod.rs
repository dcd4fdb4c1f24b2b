//! Where objects come from and results go to.

pub mod kube;
