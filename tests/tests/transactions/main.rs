//! Groups, transactions and what coordinates them, over real brokers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

mod client;
mod coordinator_damage;
mod coordinator_lists;
mod coordinators;
mod faults;
mod group_crowd;
mod in_line;
mod lost_markers;
mod offsets;
mod partitions;
mod pipeline;
mod settling;
mod timeouts;
