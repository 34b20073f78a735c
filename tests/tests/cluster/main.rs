//! Several brokers together: what they promise, what operators see and change, and what becomes of replicas.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

mod commands;
mod compacted_replicas;
mod copied_folders;
mod damaged_everywhere;
mod dev_cluster;
mod feature_levels;
mod frozen_brokers;
mod internal_topics;
mod joining;
mod ledger;
mod lost_majority;
mod metadata;
mod nearby_and_truncated;
mod operations;
mod quorum;
mod replica_holdings;
mod replication;
mod rot;
mod sole_replicas;
mod stale_views;
mod unacknowledged;
