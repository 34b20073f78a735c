//! RaftAppend: the leader of the metadata quorum sends entries, or only shows that it is there. Between brokers only.

use crate::messages::{RaftBallot, RaftPosition};
use crate::{message, wire_enum};

message! {
    /// Entries to append. They stand in the payload, one record batch each: base offset is the index, leader epoch the term.
    pub struct RaftAppendRequest {
        /// Who leads.
        1 ballot: RaftBallot,
        /// The entry before the first of these; absent where they begin the log.
        1 previous: Option<RaftPosition>,
        /// Up to where entries are settled.
        1 settled: Option<RaftPosition>,
    }
}

wire_enum! {
    /// What became of entries that were sent.
    pub enum RaftAppendOutcome {
        /// All of them are durable.
        0 Appended,
        /// Some of them are durable, up to the position given.
        1 AppendedInPart,
        /// The log has another entry where the previous one should stand.
        2 Conflict,
        /// Another leadership is known already; the ballot says which.
        3 HigherBallot,
    }
}

message! {
    /// What became of them.
    pub struct RaftAppendResponse {
        /// What.
        1 outcome: RaftAppendOutcome,
        /// Up to where, with AppendedInPart.
        1 up_to: Option<RaftPosition>,
        /// The leadership that is known, with HigherBallot.
        1 ballot: Option<RaftBallot>,
        /// Whoever answers has asked the leader in vain for longer than a lease: what it sends arrives, and it cannot be reached.
        9 cannot_reach_leader: bool,
    }
}
