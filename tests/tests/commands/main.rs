//! The command line as people and scripts use it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

mod demos;
mod end_to_end;
mod groups;
mod outbox;
mod results_and_exit_codes;
mod sagas;
mod transactions;
mod verify;
