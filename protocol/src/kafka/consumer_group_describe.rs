//! ConsumerGroupDescribe: how groups are whose coordinator assigns (KIP-848).

use super::codec::Uuid;
use super::metadata::NOT_ASKED;
use crate::kafka_message;

kafka_message! {
    /// Asks how groups are.
    pub struct ConsumerGroupDescribeRequest {
        /// The groups.
        (0..) group_ids: Vec<String>;
        /// Say what the client may do with each.
        (0..) include_authorized_operations: bool;
    }
}

kafka_message! {
    /// Partitions of a topic.
    pub struct ConsumerGroupDescribeTopicPartitions {
        /// The topic.
        (0..) topic_id: Uuid;
        /// The same by name.
        (0..) topic_name: String;
        /// Its partitions.
        (0..) partitions: Vec<i32>;
    }
}

kafka_message! {
    /// What a member works on, or shall.
    pub struct ConsumerGroupDescribeAssignment {
        /// All of it.
        (0..) topic_partitions: Vec<ConsumerGroupDescribeTopicPartitions>;
    }
}

kafka_message! {
    /// A member.
    pub struct ConsumerGroupDescribeMember {
        /// Its id.
        (0..) member_id: String;
        /// The name that outlives its process.
        (0..) instance_id: Option<String>, null (0..);
        /// Where it stands.
        (0..) rack_id: Option<String>, null (0..);
        /// Its epoch.
        (0..) member_epoch: i32;
        /// What it calls itself.
        (0..) client_id: String;
        /// Where it is.
        (0..) client_host: String;
        /// What it wants to read, by name.
        (0..) subscribed_topic_names: Vec<String>;
        /// What it wants to read besides, by a regular expression.
        (0..) subscribed_topic_regex: Option<String>, null (0..);
        /// What it works on.
        (0..) assignment: ConsumerGroupDescribeAssignment;
        /// What it shall work on.
        (0..) target_assignment: ConsumerGroupDescribeAssignment;
        /// Which protocol it speaks: 0 the classic one, 1 this one, -1 nobody knows.
        (1..) member_type: i8 = -1;
    }
}

kafka_message! {
    /// How one group is.
    pub struct ConsumerGroupDescribedGroup {
        /// What went wrong.
        (0..) error_code: i16;
        /// The same, for people.
        (0..) error_message: Option<String>, null (0..);
        /// The group.
        (0..) group_id: String;
        /// Its state by name.
        (0..) group_state: String;
        /// Grows with every change of members, subscriptions or topics.
        (0..) group_epoch: i32;
        /// The epoch that the targets were made for.
        (0..) assignment_epoch: i32;
        /// Who assigns.
        (0..) assignor_name: String;
        /// Its members.
        (0..) members: Vec<ConsumerGroupDescribeMember>;
        /// What the client may do with it.
        (0..) authorized_operations: i32 = NOT_ASKED;
    }
}

kafka_message! {
    /// How groups are.
    pub struct ConsumerGroupDescribeResponse {
        /// How long the client was held back, in milliseconds.
        (0..) throttle_time_ms: i32;
        /// One for each.
        (0..) groups: Vec<ConsumerGroupDescribedGroup>;
    }
}
