//! Classic groups (Kafka's JoinGroup and SyncGroup), pure: members share the work out among themselves, by an assignor that all of them know, and
//! the coordinator brings them together, generation by generation. Beside the groups whose partitions the broker assigns: a group is of one kind
//! as long as it has members, and its offsets are the same in both. Knows nothing of what members tell each other.
//!
//! In the order a member meets them:
//! - [`command`]: what can be asked for, and what comes back.
//! - `calls`: which group that is about, and of which kind it is.
//! - `join`: a member takes part. All of them do in phase *Preparing*, and wait.
//! - `turn`: when the next generation begins, with `election`, by which assignor. Phase *Completing*.
//! - `sync`: its leader says who does what, once. Phase *Stable*.
//! - `departure`: whoever leaves, is silent or too slow begins phase *Preparing* anew. Without members the phase is *Empty*.
//! - `state`: what the records make of it, as `draft` writes them; `gathering`: who was heard of and who waits. `view`: for people.
//!
//! Every phase is a record, so another broker goes on in the same one: members are told to ask there, and whoever waited joins or asks for
//! its part again, in the generation that it knows. Offsets are committed in no other one.
//!
//! Members whose name outlives them (KIP-345) come back under another id and go on with their part, without a round for all; the id before is shut
//! out.

mod calls;
pub mod command;
mod departure;
mod draft;
mod election;
mod gathering;
mod join;
mod state;
mod sync;
mod turn;
mod view;

/// The feature level that begins as the first client of Kafka's asks for the coordinator of a group: a broker that does not know what is stored of classic
/// groups could not read what else it coordinates either.
pub const FEATURE_LEVEL: u16 = 7;

pub use command::{
    ClassicCaller, ClassicCommand, ClassicDescription, ClassicError, ClassicIdentity, ClassicJoin, ClassicJoined,
    ClassicJoinedMember, ClassicListing, ClassicMemberDescription, ClassicPart, ClassicReply, ClassicSpeech,
    ClassicSync, ClassicTransactionCommit,
};
pub(super) use gathering::Gathering;
pub(super) use state::ClassicState;
pub(super) use view::{described, group_state};
