//! The rules of replication, one by one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

mod follower_rules;
mod in_sync_rules;
mod kept_epochs;
mod leader_properties;
mod leader_rules;
mod producer_rules;
mod transaction_rules;
