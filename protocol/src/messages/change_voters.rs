//! ChangeVoters: who votes on metadata. For operators.

use crate::ids::BrokerId;
use crate::messages::RaftMembership;
use crate::{message, wire_enum};

wire_enum! {
    /// What is to become of a member.
    pub enum VoterChange {
        /// A learner shall vote.
        0 Promote,
        /// A voter shall only learn.
        1 Demote,
        /// A member shall belong to the quorum no longer.
        2 Remove,
    }
}

message! {
    /// Changes a member; asking again changes nothing. Any broker of the cluster may be asked.
    pub struct ChangeVotersRequest {
        /// The broker.
        1 broker_id: BrokerId,
        /// What is to become of it.
        1 change: VoterChange,
    }
}

message! {
    /// It is so.
    pub struct ChangeVotersResponse {
        /// Everyone who is a member now.
        1 membership: RaftMembership,
    }
}
