//! GroupHeartbeat: the one call by which a member joins a group, stays, learns what it owns, and leaves (the model of KIP-848).

use crate::ids::{PartitionId, TopicId};
use crate::message;

/// The member epoch of one that joins.
pub const JOINING: i32 = 0;
/// The member epoch of one that leaves for good.
pub const LEAVING: i32 = -1;
/// The member epoch of a static member that goes and means to come back: what it owned waits for it until its session ends.
pub const PAUSING: i32 = -2;

message! {
    /// Partitions of one topic.
    pub struct TopicPartitions {
        /// The topic.
        1 topic_id: TopicId,
        /// Which of its partitions, ascending.
        1 partitions: Vec<PartitionId>,
    }
}

message! {
    /// What a member wants to read: topics by name, and all whose whole name a pattern matches.
    pub struct Subscription {
        /// Names. Those that do not exist are waited for.
        1 topics: Vec<String>,
        /// A regular expression over whole names; internal topics never match.
        1 pattern: Option<String>,
    }
}

message! {
    /// A member joins, stays or leaves. What is absent is as it was in the last request of this member.
    pub struct GroupHeartbeatRequest {
        /// The group: 1 to 255 bytes.
        1 group: String,
        /// The member: a random id that it makes when it is born, 1 to 64 bytes.
        1 member_id: String,
        /// The epoch that it knows; 0 joins, −1 leaves, −2 pauses (static members only).
        1 member_epoch: i32,
        /// A name that outlives the process: who comes back under it within the session gets what it had. 1 to 255 bytes.
        1 instance_id: Option<String>,
        /// Where it stands, for assignors that mind.
        1 rack: Option<String>,
        /// What it calls itself, for people.
        1 client_name: Option<String>,
        /// How long it may be silent, in milliseconds; 0 for the broker's default. Looked at where it joins.
        1 session_timeout_ms: u32,
        /// How long it may take to let go of partitions, in milliseconds; 0 for the broker's default. Looked at where it joins.
        1 rebalance_timeout_ms: u32,
        /// What it wants to read. A member that joins must say.
        1 subscription: Option<Subscription>,
        /// How partitions are spread: `uniform` or `range`. The one most members ask for holds.
        1 assignor: Option<String>,
        /// What it works on now, all of it. To be said where it joins, and when it has let go of something.
        1 owned: Option<Vec<TopicPartitions>>,
        /// Milliseconds since it took its oldest unfinished record; absent while it has none. For people: it decides nothing.
        1 busy_ms: Option<u32>,
    }
}

message! {
    /// What a member owns from now on.
    pub struct GroupHeartbeatResponse {
        /// Its epoch from now on.
        1 member_epoch: i32,
        /// When to be heard of next, in milliseconds.
        1 heartbeat_interval_ms: u32,
        /// How long it may be silent, in milliseconds.
        1 session_timeout_ms: u32,
        /// Everything that it may work on: it lets go of the rest at once, and says so in its next heartbeat. Absent: as it was.
        1 assignment: Option<Vec<TopicPartitions>>,
    }
}
