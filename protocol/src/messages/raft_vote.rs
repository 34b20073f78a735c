//! RaftVote: a member of the metadata quorum asks for a vote. Between brokers only.

use crate::message;
use crate::messages::{RaftBallot, RaftPosition};

message! {
    /// Asks for a vote, or only whether it would be given.
    pub struct RaftVoteRequest {
        /// Who stands for which leadership. Of term 0, which is nobody's, where it only asks: that vote is never given.
        1 ballot: RaftBallot,
        /// The last entry of its log; absent where it has none.
        1 last: Option<RaftPosition>,
    }
}

message! {
    /// Gives it or not.
    pub struct RaftVoteResponse {
        /// The ballot that holds for the one who answers.
        1 ballot: RaftBallot,
        /// True where the vote is given.
        1 granted: bool,
        /// The last entry of the log of the one who answers.
        1 last: Option<RaftPosition>,
        /// Whoever answers hears of a leader, and votes for nobody else meanwhile; told where it is only asked.
        9 hears_leader: bool,
    }
}
