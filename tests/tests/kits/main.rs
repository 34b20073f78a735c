//! The kits for builders of applications, with real databases and brokers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

mod event_store;
mod event_store_faults;
mod inbox;
mod outbox_guide;
mod outbox_postgres;
mod outbox_relay;
mod outbox_troubles;
mod saga;
mod sink;
