//! The event store of the client against a real broker: optimistic concurrency, commands, schemas, snapshots, checkpoints, views; and what it
//! refuses.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

mod appends;
mod checkpoints;
mod commands;
mod guide;
mod lost_answers;
mod refusals;
mod running;
mod snapshots;
mod views;
