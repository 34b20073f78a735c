//! Produce: one batch for each of any number of partitions.

use bytes::Bytes;

use crate::kafka_message;

kafka_message! {
    /// A batch and its partition.
    pub struct PartitionProduceData {
        /// The partition.
        (0..) index: i32;
        /// The batch, not looked at here.
        (0..) records: Option<Bytes>, null (0..);
    }
}

kafka_message! {
    /// Batches for a topic.
    pub struct TopicProduceData {
        /// The topic.
        (0..) name: String;
        /// The batches.
        (0..) partition_data: Vec<PartitionProduceData>;
    }
}

kafka_message! {
    /// Writes batches.
    pub struct ProduceRequest {
        /// The producer's transactional id, where they are part of a transaction.
        (3..) transactional_id: Option<String>, null (3..);
        /// When to answer: 0 never, 1 when the leader has it, -1 when all in-sync replicas have it.
        (0..) acks: i16;
        /// How long that may take, in milliseconds.
        (0..) timeout_ms: i32;
        /// The batches.
        (0..) topic_data: Vec<TopicProduceData>;
    }
}

kafka_message! {
    /// A record that was at fault.
    pub struct BatchIndexAndErrorMessage {
        /// Which of the batch.
        (8..) batch_index: i32;
        /// Why.
        (8..) batch_index_error_message: Option<String>, null (8..);
    }
}

kafka_message! {
    /// Who leads a partition now.
    pub struct LeaderIdAndEpoch {
        /// The broker.
        (10..) leader_id: i32 = -1;
        /// The leadership.
        (10..) leader_epoch: i32 = -1;
    }
}

kafka_message! {
    /// The way to a broker.
    pub struct NodeEndpoint {
        /// The broker.
        (10..) node_id: i32;
        /// Host to dial.
        (10..) host: String;
        /// Port.
        (10..) port: i32;
        /// Where it stands.
        (10..) rack: Option<String>, null (10..);
    }
}

kafka_message! {
    /// What became of a batch.
    pub struct PartitionProduceResponse {
        /// The partition.
        (0..) index: i32;
        /// What went wrong.
        (0..) error_code: i16;
        /// Offset of its first record.
        (0..) base_offset: i64;
        /// The broker's clock at the append, where the topic's timestamps are the broker's; else -1.
        (2..) log_append_time_ms: i64 = -1;
        /// First offset that can be read.
        (5..) log_start_offset: i64 = -1;
        /// Records that were at fault.
        (8..) record_errors: Vec<BatchIndexAndErrorMessage>;
        /// What went wrong, for people.
        (8..) error_message: Option<String>, null (8..);
        /// Who leads instead.
        (10..) current_leader: LeaderIdAndEpoch, tag 0;
    }
}

kafka_message! {
    /// What became of a topic's batches.
    pub struct TopicProduceResponse {
        /// The topic.
        (0..) name: String;
        /// Of each batch.
        (0..) partition_responses: Vec<PartitionProduceResponse>;
    }
}

kafka_message! {
    /// What became of the batches.
    pub struct ProduceResponse {
        /// Of each topic's.
        (0..) responses: Vec<TopicProduceResponse>;
        /// How long the client was held back, in milliseconds.
        (1..) throttle_time_ms: i32;
        /// The way to those who lead instead.
        (10..) node_endpoints: Vec<NodeEndpoint>, tag 0;
    }
}
