//! A cluster under load while brokers, disks, networks and clocks fail: what it promises holds, and it heals by itself.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

mod disks;
mod gone_for_good;
mod groups;
mod kills;
mod moves;
mod partitions;
mod pauses;
mod producers;
mod stops;
mod survivors;
mod time;
