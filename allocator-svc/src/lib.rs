//! Leases addresses, keeps them in sled and decides which node announces what.
