//! The client against real brokers, and against peers that misbehave.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

mod bootstrap;
mod broker;
mod dead_letters;
mod failures;
mod groups;
mod offers;
mod operations;
mod peer;
mod restart;
mod round_trip;
mod send_futures;
mod unread_partitions;
