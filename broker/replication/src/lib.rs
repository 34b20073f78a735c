//! The rules of one partition, pure. Knows nothing of clocks, files, threads, sockets or random numbers: `no_std`, so that
//! the compiler refuses them. The broker's partition owner feeds it with what happened and does what it answers.
//!
//! In the order an append meets them:
//! - [`offsets`]: the offsets of a partition and the order they always stand in.
//! - [`refusal`]: why an append, a deletion or a follower's progress is not accepted.
//! - [`leader`]: the machine of a partition that is led here.
//! - [`replica_set`]: how far each replica is known to be, and what the in-sync ones have in common.
//! - [`producers`]: what the log knows of idempotent producers; `standing`: of one of them; [`transactions`]: which of their transactions are open or
//!   were undone.
//! - [`sequencing`]: what their next batches mean, and a coordinator's markers; [`sequence`]: their numbers.
//! - [`pending_acks`]: who waits for which offset.
//! - [`effects`]: what the machine asks its driver to do.
//!
//! In the order a follower meets them:
//! - [`follower`]: the machine of a partition that is followed here.
//! - [`epoch_history`]: which leadership wrote what. [`divergence`]: where two logs part.
//! - [`follow`]: what leader and follower say when a stream is opened.
//!
//! - [`flaws`]: bugs to plant, for tests.
#![no_std]
extern crate alloc;

pub mod divergence;
pub mod effects;
pub mod epoch_history;
pub mod flaws;
pub mod follow;
pub mod follower;
pub mod leader;
pub mod offsets;
pub mod pending_acks;
pub mod producers;
pub mod refusal;
pub mod replica_set;
pub mod sequence;
pub mod sequencing;
mod standing;
pub mod transactions;

pub use effects::{AckFailure, Effects, Failed, Released};
pub use epoch_history::{EpochEnd, EpochHistory, EpochStart};
pub use flaws::{Flaw, Flaws};
pub use follow::{FollowAnswer, FollowOutcome, FollowTerms};
pub use follower::{BatchSpan, BrokenChain, EpochEndAnswer, Follower, FollowerEffect, Following, Offer, Take};
pub use leader::{
    AppendedRange, InSyncMember, InSyncProposal, Leader, Leadership, Membership, ProduceTerms, ReplicaProgress,
};
pub use offsets::{Ends, PartitionOffsets};
pub use pending_acks::PendingAcks;
pub use producers::{OpenTransactions, Producers, Standing};
pub use refusal::Refusal;
pub use replica_set::{ReplicaEnds, ReplicaSet};
pub use sequencing::{Admission, MarkerAdmission, MarkerEpoch, SequenceFault, Word};
pub use tidelog_protocol::Durability;
pub use transactions::Outcome;
