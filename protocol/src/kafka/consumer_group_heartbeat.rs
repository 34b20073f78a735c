//! ConsumerGroupHeartbeat: a member of a group whose coordinator assigns joins, stays or leaves (KIP-848).

use super::codec::Uuid;
use crate::kafka_message;

kafka_message! {
    /// Partitions of a topic.
    pub struct ConsumerGroupHeartbeatTopicPartitions {
        /// The topic.
        (0..) topic_id: Uuid;
        /// Its partitions.
        (0..) partitions: Vec<i32>;
    }
}

kafka_message! {
    /// A member joins, stays or leaves. What is null is as it was.
    pub struct ConsumerGroupHeartbeatRequest {
        /// The group.
        (0..) group_id: String;
        /// The member, by the id that it gave itself; in version 0, where it joins, none.
        (0..) member_id: String;
        /// The epoch that it knows; 0 joins, -1 leaves, -2 leaves for a while.
        (0..) member_epoch: i32;
        /// The name that outlives its process.
        (0..) instance_id: Option<String>, null (0..);
        /// Where it stands.
        (0..) rack_id: Option<String>, null (0..);
        /// How long it may take to let go of partitions, in milliseconds; -1 as it was.
        (0..) rebalance_timeout_ms: i32 = -1;
        /// What it wants to read, by name.
        (0..) subscribed_topic_names: Option<Vec<String>>, null (0..);
        /// What it wants to read besides: whole names that a regular expression matches.
        (1..) subscribed_topic_regex: Option<String>, null (1..);
        /// Who assigns.
        (0..) server_assignor: Option<String>, null (0..);
        /// What it works on.
        (0..) topic_partitions: Option<Vec<ConsumerGroupHeartbeatTopicPartitions>>, null (0..);
    }
}

kafka_message! {
    /// What a member may work on.
    pub struct ConsumerGroupHeartbeatAssignment {
        /// All of it.
        (0..) topic_partitions: Vec<ConsumerGroupHeartbeatTopicPartitions>;
    }
}

kafka_message! {
    /// How the member stands.
    pub struct ConsumerGroupHeartbeatResponse {
        /// How long the client was held back, in milliseconds.
        (0..) throttle_time_ms: i32;
        /// What went wrong.
        (0..) error_code: i16;
        /// The same, for people.
        (0..) error_message: Option<String>, null (0..);
        /// The member.
        (0..) member_id: Option<String>, null (0..);
        /// Its epoch from now on.
        (0..) member_epoch: i32;
        /// When to be heard of next, in milliseconds.
        (0..) heartbeat_interval_ms: i32;
        /// What it may work on; null where that is as it was.
        (0..) assignment: Option<ConsumerGroupHeartbeatAssignment>, null (0..);
    }
}
