//! One broker over its sockets: what it refuses, what it costs, how it starts and how it ends.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

mod admin_port;
mod bad_input;
mod break_down;
mod connections;
mod deadlines;
mod descriptors;
mod earlier_release;
mod hanging_disk;
mod idempotence;
mod retention;
mod shutdown;
mod start_refusals;
mod streams;
mod unread_logs;
mod versions;
