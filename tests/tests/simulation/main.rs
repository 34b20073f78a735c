//! Replication as a seeded simulation of the real machines.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

mod lives;
mod planted;
mod scripts;
