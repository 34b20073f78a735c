//! DescribeLogDirs: what lies in the folders of a broker.

use crate::kafka_message;

kafka_message! {
    /// Partitions of a topic.
    pub struct DescribableLogDirTopic {
        /// The topic.
        (0..) topic: String;
        /// The partitions.
        (0..) partitions: Vec<i32>;
    }
}

kafka_message! {
    /// Asks for what lies there.
    pub struct DescribeLogDirsRequest {
        /// Of which partitions; null means all.
        (0..) topics: Option<Vec<DescribableLogDirTopic>>, null (0..);
    }
}

kafka_message! {
    /// A replica.
    pub struct DescribeLogDirsPartition {
        /// The partition.
        (0..) partition_index: i32;
        /// How large its log is, in bytes.
        (0..) partition_size: i64;
        /// How many records its end is behind the high watermark.
        (0..) offset_lag: i64;
        /// Whether it is a copy that takes the place of another in a while.
        (0..) is_future_key: bool;
    }
}

kafka_message! {
    /// What lies there of a topic.
    pub struct DescribeLogDirsTopic {
        /// The topic.
        (0..) name: String;
        /// Its partitions.
        (0..) partitions: Vec<DescribeLogDirsPartition>;
    }
}

kafka_message! {
    /// A folder.
    pub struct DescribeLogDirsResult {
        /// What is wrong with it.
        (0..) error_code: i16;
        /// Its absolute path.
        (0..) log_dir: String;
        /// What lies there.
        (0..) topics: Vec<DescribeLogDirsTopic>;
        /// How large its file system is, in bytes; -1 where that is not known.
        (4..) total_bytes: i64 = -1;
        /// How much of that is free, in bytes; -1 likewise.
        (4..) usable_bytes: i64 = -1;
    }
}

kafka_message! {
    /// What lies there.
    pub struct DescribeLogDirsResponse {
        /// How long the client was held back, in milliseconds.
        (0..) throttle_time_ms: i32;
        /// What went wrong with all of it.
        (3..) error_code: i16;
        /// By folder.
        (0..) results: Vec<DescribeLogDirsResult>;
    }
}
