//! One broker and its disk: kills, power loss, damage, full disks, files that are gone, compaction.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

mod compaction;
mod compaction_progress;
mod damage;
mod failed_flush;
mod full_disk;
mod kill;
mod lost_files;
mod power_loss;
mod taken_files;
