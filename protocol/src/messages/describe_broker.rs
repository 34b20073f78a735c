//! DescribeBroker: what the broker process uses, so that a benchmark can state the cost of both sides, and how far its replication is.

use crate::ids::BrokerId;
use crate::message;

message! {
    /// What does the broker process use?
    pub struct DescribeBrokerRequest {}
}

message! {
    /// What the broker process uses.
    pub struct DescribeBrokerResponse {
        /// This broker.
        1 broker_id: BrokerId,
        /// Name and version.
        1 software: String,
        /// Milliseconds since it started.
        1 uptime_ms: u64,
        /// CPU time of the process, user and system, in microseconds.
        1 cpu_us: u64,
        /// Resident memory that is its own (anonymous), in bytes; mapped log pages belong to the page cache.
        1 rss_bytes: u64,
        /// Largest resident memory so far, mapped log pages included, in bytes.
        1 rss_peak_bytes: u64,
        /// Open connections.
        1 connections: u32,
        /// Partitions with a replica here.
        1 partitions: u32,
        /// Partitions that this broker leads.
        2 leads: u32,
        /// Records of the partitions it leads that their high watermarks have not passed yet, all together.
        2 unsettled_records: u64,
        /// The most of them in one partition.
        2 unsettled_records_max: u64,
    }
}
