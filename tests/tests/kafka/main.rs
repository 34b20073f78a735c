//! Kafka's protocol: by hand in every version, and its unmodified clients and tools.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

mod bad_bytes;
mod configs;
mod consumer_groups;
mod groups;
mod java;
mod kcat;
mod listener;
mod moves;
mod partitions;
mod pipeline;
mod python;
mod python_admin;
mod python_transactions;
mod transactions;
