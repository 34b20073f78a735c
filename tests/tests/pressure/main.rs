//! Many clients at once, and greedy ones: the others are served on, within bounded memory. By themselves, since they weigh what quick and slow
//! clients get, and the tests of a program run at the same time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

mod crowd;
mod decompression;
mod memory_budget;
mod returning_clients;
mod slow_clients;
mod waiting_requests;
