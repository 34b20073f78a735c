//! CreatePartitions: topics get more partitions.

use crate::kafka_message;

kafka_message! {
    /// Which brokers are to hold a new partition.
    pub struct CreatePartitionsAssignment {
        /// The brokers.
        (0..) broker_ids: Vec<i32>;
    }
}

kafka_message! {
    /// A topic that is to grow.
    pub struct CreatePartitionsTopic {
        /// Its name.
        (0..) name: String;
        /// How many it shall have in all.
        (0..) count: i32;
        /// Which brokers are to hold the new ones; null lets the controller choose.
        (0..) assignments: Option<Vec<CreatePartitionsAssignment>>, null (0..);
    }
}

kafka_message! {
    /// Adds partitions.
    pub struct CreatePartitionsRequest {
        /// To which topics.
        (0..) topics: Vec<CreatePartitionsTopic>;
        /// How long it may take, in milliseconds.
        (0..) timeout_ms: i32;
        /// Only check, create nothing.
        (0..) validate_only: bool;
    }
}

kafka_message! {
    /// What became of a topic.
    pub struct CreatePartitionsTopicResult {
        /// Its name.
        (0..) name: String;
        /// What went wrong.
        (0..) error_code: i16;
        /// The same, for people.
        (0..) error_message: Option<String>, null (0..);
    }
}

kafka_message! {
    /// What became of the topics.
    pub struct CreatePartitionsResponse {
        /// How long the client was held back, in milliseconds.
        (0..) throttle_time_ms: i32;
        /// Of each.
        (0..) results: Vec<CreatePartitionsTopicResult>;
    }
}
