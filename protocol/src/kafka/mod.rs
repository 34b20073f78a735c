//! The wire of Kafka, as far as its clients need it: big-endian, each API in several versions. Knows nothing of sockets, and nothing of what a
//! request means here.
//!
//! - [`codec`]: how one field is written and read, bounded by the bytes that remain.
//! - [`message`]: the macro that declares a message once, with the versions of each field.
//! - [`api`]: the table of APIs and their versions.
//! - [`header`]: what stands in front of a request and of an answer.
//! - [`error`]: Kafka's error codes, and which of them says what the native ones say.
//! - one file per API.
//! - [`consumer_protocol`]: what consumers say to each other through a broker that passes it on.
//!
//! Record batches pass through as bytes: their format is the one of [`crate::records`].

pub mod add_offsets_to_txn;
pub mod add_partitions_to_txn;
pub mod alter_configs;
pub mod alter_partition_reassignments;
pub mod api;
pub mod api_versions;
pub mod codec;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod consumer_protocol;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_transactions;
pub mod elect_leaders;
pub mod end_txn;
pub mod error;
pub mod fetch;
pub mod find_coordinator;
pub mod header;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod list_transactions;
pub mod message;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod sync_group;
pub mod txn_offset_commit;

pub use api::{ApiKey, Request};
pub use error::KafkaError;
pub use header::{RequestHeader, frame_of, request_frame};
pub use message::Message;
