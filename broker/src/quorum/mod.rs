//! Metadata and the way to change it. In flow order:
//! - [`controllers`]: takes a command, lets the pure controller decide, proposes its records, waits until they hold.
//! - `lease_book`: which brokers were heard of lately, as long as the controller runs here.
//! - `consensus`: the seam: propose many records as one entry, watch the image, know the members; `role`: whether this broker leads; `candidacy`: when
//!   a voter stands for election; `canvass`: whether it would win; `abdication`: when a leader lets go
//!   whom the others cannot reach; `campaign`: all of that done; `quorum_error`: why something does not come about; `remedy`: what to do where metadata cannot be used.
//! - `earlier_life`: whether a member runs twice.
//! - `membership`: who belongs to it; `voter_change`: whether the voters may change, by `attendance`: who answers.
//! - `raft_types`, `entry_batch`, `network`, `rpc`: what travels between the members; `whereabouts`: where they are.
//! - `log_store`, `journal_thread`, `journal`, `marks`: the log, the vote and what was purged, durable before anybody is told.
//! - `state_machine`, `snapshot`: what settled entries make.
//! - `storage`, `one_broker_log`: opening all of it, also what a release without a quorum left.
//!
//! Knows nothing of sockets, nor of where partitions are opened.

mod abdication;
mod attendance;
mod campaign;
mod candidacy;
mod canvass;
mod consensus;
mod controllers;
#[cfg(test)]
mod crashes;
mod earlier_life;
mod entry_batch;
#[cfg(test)]
mod interrupted_change;
mod journal;
mod journal_thread;
mod lease_book;
mod log_store;
#[cfg(test)]
mod lost_files;
mod marks;
mod membership;
mod network;
mod one_broker_log;
#[cfg(test)]
mod one_voter;
mod quorum_error;
mod raft_types;
mod remedy;
mod role;
mod rpc;
mod snapshot;
mod state_machine;
mod storage;
#[cfg(test)]
mod storage_suite;
mod voter_change;
mod whereabouts;

pub use consensus::{Beginning, MemberStatus, Quorum};
pub use controllers::Controllers;
pub use lease_book::Silent;
pub use membership::VOTERS_MAX;
pub use quorum_error::QuorumError;
pub(crate) use remedy::ANEW;
pub use role::Role;
pub use storage::{OpenStorageError, QuorumStorage, StorageOptions};
