//! Fetch: batches of any number of partitions, or a wait for them.

use bytes::Bytes;

use super::codec::Uuid;
use crate::kafka_message;

kafka_message! {
    /// A replica that asks.
    pub struct ReplicaState {
        /// Its broker; -1 of a consumer.
        (15..) replica_id: i32 = -1;
        /// The broker's registration.
        (15..) replica_epoch: i64 = -1;
    }
}

kafka_message! {
    /// A place to read from.
    pub struct FetchPartition {
        /// The partition.
        (0..) partition: i32;
        /// The leadership that the client knows; -1: not checked.
        (9..) current_leader_epoch: i32 = -1;
        /// The offset.
        (0..) fetch_offset: i64;
        /// The leadership under which the client read up to there; -1: not checked.
        (12..) last_fetched_epoch: i32 = -1;
        /// Of a replica: its first offset.
        (5..) log_start_offset: i64 = -1;
        /// Most bytes of it.
        (0..) partition_max_bytes: i32;
        /// Of a replica: its folder.
        (17..) replica_directory_id: Uuid, tag 0;
    }
}

kafka_message! {
    /// Places in a topic.
    pub struct FetchTopic {
        /// The topic by name.
        (0..=12) topic: String;
        /// The topic by identity.
        (13..) topic_id: Uuid;
        /// The places.
        (0..) partitions: Vec<FetchPartition>;
    }
}

kafka_message! {
    /// Partitions that a session does not read any more.
    pub struct ForgottenTopic {
        /// The topic by name.
        (7..=12) topic: String;
        /// The topic by identity.
        (13..) topic_id: Uuid;
        /// The partitions.
        (7..) partitions: Vec<i32>;
    }
}

kafka_message! {
    /// Asks for batches.
    pub struct FetchRequest {
        /// The cluster that is meant.
        (12..) cluster_id: Option<String>, null (12..), tag 0;
        /// The replica that asks; -1 of a consumer.
        (0..=14) replica_id: i32 = -1;
        /// The same, in later versions.
        (15..) replica_state: ReplicaState, tag 1;
        /// How long to wait for `min_bytes`, in milliseconds.
        (0..) max_wait_ms: i32;
        /// Fewer are not worth an answer before that.
        (0..) min_bytes: i32;
        /// Most bytes of the answer; the first batch is sent all the same.
        (3..) max_bytes: i32 = i32::MAX;
        /// 1: only what is committed.
        (4..) isolation_level: i8;
        /// The session; 0 for none.
        (7..) session_id: i32;
        /// Which request of the session.
        (7..) session_epoch: i32 = -1;
        /// The places.
        (0..) topics: Vec<FetchTopic>;
        /// What the session does not read any more.
        (7..) forgotten_topics_data: Vec<ForgottenTopic>;
        /// Where the consumer stands.
        (11..) rack_id: String;
    }
}

kafka_message! {
    /// Where the log parts from what was read.
    pub struct EpochEndOffset {
        /// The leadership.
        (12..) epoch: i32 = -1;
        /// Where it ended.
        (12..) end_offset: i64 = -1;
    }
}

kafka_message! {
    /// Who leads a partition now.
    pub struct LeaderIdAndEpoch {
        /// The broker.
        (12..) leader_id: i32 = -1;
        /// The leadership.
        (12..) leader_epoch: i32 = -1;
    }
}

kafka_message! {
    /// Of the metadata log alone.
    pub struct SnapshotId {
        /// Its end.
        (0..) end_offset: i64 = -1;
        /// Its epoch.
        (0..) epoch: i32 = -1;
    }
}

kafka_message! {
    /// An aborted transaction, from whose first offset on the producer's records are left out, up to its marker.
    pub struct AbortedTransaction {
        /// The producer.
        (4..) producer_id: i64;
        /// Where it began.
        (4..) first_offset: i64;
    }
}

kafka_message! {
    /// Batches of a partition.
    pub struct PartitionData {
        /// The partition.
        (0..) partition_index: i32;
        /// What went wrong.
        (0..) error_code: i16;
        /// First offset that cannot be read yet.
        (0..) high_watermark: i64;
        /// First offset of the oldest open transaction.
        (4..) last_stable_offset: i64 = -1;
        /// First offset that can be read.
        (5..) log_start_offset: i64 = -1;
        /// Where the log parts from what was read.
        (12..) diverging_epoch: EpochEndOffset, tag 0;
        /// Who leads instead.
        (12..) current_leader: LeaderIdAndEpoch, tag 1;
        /// Of the metadata log alone.
        (12..) snapshot_id: SnapshotId, tag 2;
        /// What to leave out; null where everything is read.
        (4..) aborted_transactions: Option<Vec<AbortedTransaction>>, null (4..);
        /// A replica nearer to the consumer; -1 for none.
        (11..) preferred_read_replica: i32 = -1;
        /// The batches.
        (0..) records: Option<Bytes>, null (0..);
    }
}

kafka_message! {
    /// Batches of a topic.
    pub struct FetchableTopicResponse {
        /// The topic by name.
        (0..=12) topic: String;
        /// The topic by identity.
        (13..) topic_id: Uuid;
        /// Its partitions.
        (0..) partitions: Vec<PartitionData>;
    }
}

kafka_message! {
    /// The way to a broker.
    pub struct NodeEndpoint {
        /// The broker.
        (16..) node_id: i32;
        /// Host to dial.
        (16..) host: String;
        /// Port.
        (16..) port: i32;
        /// Where it stands.
        (16..) rack: Option<String>, null (16..);
    }
}

kafka_message! {
    /// Batches.
    pub struct FetchResponse {
        /// How long the client was held back, in milliseconds.
        (1..) throttle_time_ms: i32;
        /// What went wrong with all of it.
        (7..) error_code: i16;
        /// The session; 0 for none.
        (7..) session_id: i32;
        /// The topics.
        (0..) responses: Vec<FetchableTopicResponse>;
        /// The way to those who lead instead.
        (16..) node_endpoints: Vec<NodeEndpoint>, tag 0;
    }
}
