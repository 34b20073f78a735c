//! The formats on the wire, against golden bytes, other implementations and lies.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

mod kafka_lies;
mod kafka_oracle;
mod kafka_tree;
mod messages_golden;
mod records_bombs;
mod records_crafted;
mod records_golden;
mod records_lies;
mod records_oracle;
mod spec;
mod spec_tables;
