//! The log through its public interface: on files, on disks that fail, after crashes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

mod append_and_read;
mod cold_pages;
mod compaction;
mod compaction_faults;
mod corruption;
mod cutting;
mod faults;
mod flushing;
mod following;
mod gradual_removal;
mod log_start;
mod lost_files;
mod model;
mod power;
mod producers;
mod reading_back;
mod repair;
mod short_segments;
mod start_and_time;
mod support;
mod undone_around_damage;
