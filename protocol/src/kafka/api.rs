//! The table of Kafka's APIs that are served: number, versions, and from which version on lengths are compact. One row, one message file, one
//! handler.

use core::ops::RangeInclusive;

use bytes::Bytes;

use super::codec::{DecodeError, Entropy, Reader};
use super::message::Message;
use super::{
    add_offsets_to_txn, add_partitions_to_txn, alter_configs, alter_partition_reassignments, api_versions,
    consumer_group_describe, consumer_group_heartbeat, create_partitions, create_topics, delete_groups, delete_records,
    delete_topics, describe_cluster, describe_configs, describe_groups, describe_log_dirs, describe_producers,
    describe_transactions, elect_leaders, end_txn, fetch, find_coordinator, heartbeat, incremental_alter_configs,
    init_producer_id, join_group, leave_group, list_groups, list_offsets, list_partition_reassignments,
    list_transactions, metadata, offset_commit, offset_delete, offset_fetch, offset_for_leader_epoch, produce,
    sync_group, txn_offset_commit,
};

/// A request and what answers it.
pub trait Request: Message {
    /// Its API.
    const API: ApiKey;
    /// What answers it.
    type Response: Message;
}

/// A message that was read and written anew, and how many bytes were left behind it.
pub type Rewritten = Result<(Bytes, usize), DecodeError>;

/// A message, whatever its type.
#[derive(Clone, Copy, Debug)]
pub struct MessageSpec {
    /// Its name.
    pub name: &'static str,
    /// Its API.
    pub api: ApiKey,
    /// Draws one and writes it as a version has it.
    pub sample: fn(&mut Entropy, ApiKey, i16) -> Bytes,
    /// Reads one of a version, and writes it anew; says how many bytes were left behind it.
    pub rewrite: fn(&Bytes, ApiKey, i16) -> Rewritten,
}

impl MessageSpec {
    fn of<M: Message>(api: ApiKey) -> Self {
        Self {
            name: M::NAME,
            api,
            sample: |entropy, api, version| M::draw(entropy).to_bytes(version, api.is_flexible(version)),
            rewrite: |bytes, api, version| {
                let flexible = api.is_flexible(version);
                let mut input = Reader::new(bytes);
                let message = M::decode(&mut input, version, flexible)?;
                Ok((message.to_bytes(version, flexible), input.remaining()))
            },
        }
    }
}

macro_rules! api_table {
    ($($(#[doc = $doc:literal])* $key:literal $name:ident $versions:expr, flexible $flexible:literal, $request:ty => $response:ty;)*) => {
        /// An API that is served.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(i16)]
        pub enum ApiKey {
            $($(#[doc = $doc])* $name = $key,)*
        }

        impl ApiKey {
            /// Every row, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The row of this number; `None` where it is not served.
            #[must_use]
            pub const fn from_i16(key: i16) -> Option<Self> {
                match key { $($key => Some(Self::$name),)* _ => None }
            }

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The versions that are served.
            #[must_use]
            pub const fn versions(self) -> RangeInclusive<i16> {
                match self { $(Self::$name => $versions,)* }
            }

            const fn flexible_from(self) -> i16 {
                match self { $(Self::$name => $flexible,)* }
            }
        }

        /// Every message, in the order of the table: for tests and fuzzing, which take them all alike.
        #[must_use]
        pub fn message_specs() -> Vec<MessageSpec> {
            vec![$(MessageSpec::of::<$request>(ApiKey::$name), MessageSpec::of::<$response>(ApiKey::$name),)*]
        }

        $(impl Request for $request {
            const API: ApiKey = ApiKey::$name;
            type Response = $response;
        })*
    };
}

api_table! {
    /// Writes record batches.
    0 Produce 3..=11, flexible 9, produce::ProduceRequest => produce::ProduceResponse;
    /// Reads record batches.
    1 Fetch 4..=17, flexible 12, fetch::FetchRequest => fetch::FetchResponse;
    /// Offsets by time and position.
    2 ListOffsets 1..=10, flexible 6, list_offsets::ListOffsetsRequest => list_offsets::ListOffsetsResponse;
    /// Where partitions live.
    3 Metadata 0..=13, flexible 9, metadata::MetadataRequest => metadata::MetadataResponse;
    /// How far a group has come.
    8 OffsetCommit 2..=9, flexible 8, offset_commit::OffsetCommitRequest => offset_commit::OffsetCommitResponse;
    /// Where groups stopped.
    9 OffsetFetch 1..=9, flexible 6, offset_fetch::OffsetFetchRequest => offset_fetch::OffsetFetchResponse;
    /// Who coordinates.
    10 FindCoordinator 0..=6, flexible 3,
        find_coordinator::FindCoordinatorRequest => find_coordinator::FindCoordinatorResponse;
    /// A member takes part in the next generation of a group.
    11 JoinGroup 0..=9, flexible 6, join_group::JoinGroupRequest => join_group::JoinGroupResponse;
    /// A member lives.
    12 Heartbeat 0..=4, flexible 4, heartbeat::HeartbeatRequest => heartbeat::HeartbeatResponse;
    /// Members go.
    13 LeaveGroup 0..=5, flexible 4, leave_group::LeaveGroupRequest => leave_group::LeaveGroupResponse;
    /// Every member hears its part.
    14 SyncGroup 0..=5, flexible 4, sync_group::SyncGroupRequest => sync_group::SyncGroupResponse;
    /// Who is in groups.
    15 DescribeGroups 0..=6, flexible 5, describe_groups::DescribeGroupsRequest => describe_groups::DescribeGroupsResponse;
    /// Which groups there are.
    16 ListGroups 0..=5, flexible 3, list_groups::ListGroupsRequest => list_groups::ListGroupsResponse;
    /// What is served.
    18 ApiVersions 0..=4, flexible 3, api_versions::ApiVersionsRequest => api_versions::ApiVersionsResponse;
    /// Makes topics.
    19 CreateTopics 2..=7, flexible 5, create_topics::CreateTopicsRequest => create_topics::CreateTopicsResponse;
    /// Removes topics.
    20 DeleteTopics 1..=6, flexible 4, delete_topics::DeleteTopicsRequest => delete_topics::DeleteTopicsResponse;
    /// Deletes the records below an offset.
    21 DeleteRecords 0..=2, flexible 2,
        delete_records::DeleteRecordsRequest => delete_records::DeleteRecordsResponse;
    /// Who a producer is.
    22 InitProducerId 0..=5, flexible 2, init_producer_id::InitProducerIdRequest => init_producer_id::InitProducerIdResponse;
    /// Where a leadership ended.
    23 OffsetForLeaderEpoch 2..=4, flexible 4,
        offset_for_leader_epoch::OffsetForLeaderEpochRequest => offset_for_leader_epoch::OffsetForLeaderEpochResponse;
    /// Which partitions a transaction is about to write to. From version 4 on only brokers ask each other.
    24 AddPartitionsToTxn 0..=3, flexible 3,
        add_partitions_to_txn::AddPartitionsToTxnRequest => add_partitions_to_txn::AddPartitionsToTxnResponse;
    /// A transaction is about to commit offsets of a group.
    25 AddOffsetsToTxn 0..=4, flexible 3,
        add_offsets_to_txn::AddOffsetsToTxnRequest => add_offsets_to_txn::AddOffsetsToTxnResponse;
    /// A transaction is committed or aborted.
    26 EndTxn 0..=4, flexible 3, end_txn::EndTxnRequest => end_txn::EndTxnResponse;
    /// How far a group has come, once a transaction is committed.
    28 TxnOffsetCommit 0..=4, flexible 3,
        txn_offset_commit::TxnOffsetCommitRequest => txn_offset_commit::TxnOffsetCommitResponse;
    /// Which configuration holds.
    32 DescribeConfigs 1..=4, flexible 4,
        describe_configs::DescribeConfigsRequest => describe_configs::DescribeConfigsResponse;
    /// Another configuration takes the place of the one that was.
    33 AlterConfigs 0..=2, flexible 2, alter_configs::AlterConfigsRequest => alter_configs::AlterConfigsResponse;
    /// What lies on the disk of a broker.
    35 DescribeLogDirs 1..=4, flexible 2,
        describe_log_dirs::DescribeLogDirsRequest => describe_log_dirs::DescribeLogDirsResponse;
    /// Adds partitions to topics.
    37 CreatePartitions 0..=3, flexible 2,
        create_partitions::CreatePartitionsRequest => create_partitions::CreatePartitionsResponse;
    /// Groups are forgotten.
    42 DeleteGroups 0..=2, flexible 2, delete_groups::DeleteGroupsRequest => delete_groups::DeleteGroupsResponse;
    /// An operator asks for elections.
    43 ElectLeaders 0..=2, flexible 2,
        elect_leaders::ElectLeadersRequest => elect_leaders::ElectLeadersResponse;
    /// Single configuration values change.
    44 IncrementalAlterConfigs 0..=1, flexible 1,
        incremental_alter_configs::IncrementalAlterConfigsRequest =>
        incremental_alter_configs::IncrementalAlterConfigsResponse;
    /// An operator moves partitions.
    45 AlterPartitionReassignments 0..=1, flexible 0,
        alter_partition_reassignments::AlterPartitionReassignmentsRequest => alter_partition_reassignments::AlterPartitionReassignmentsResponse;
    /// Which partitions move.
    46 ListPartitionReassignments 0..=0, flexible 0,
        list_partition_reassignments::ListPartitionReassignmentsRequest => list_partition_reassignments::ListPartitionReassignmentsResponse;
    /// Single offsets of a group are forgotten.
    47 OffsetDelete 0..=0, flexible 1, offset_delete::OffsetDeleteRequest => offset_delete::OffsetDeleteResponse;
    /// Which brokers there are.
    60 DescribeCluster 0..=2, flexible 0,
        describe_cluster::DescribeClusterRequest => describe_cluster::DescribeClusterResponse;
    /// Which producers partitions know.
    61 DescribeProducers 0..=0, flexible 0,
        describe_producers::DescribeProducersRequest => describe_producers::DescribeProducersResponse;
    /// How transactional ids are.
    65 DescribeTransactions 0..=0, flexible 0,
        describe_transactions::DescribeTransactionsRequest => describe_transactions::DescribeTransactionsResponse;
    /// Which transactional ids there are.
    66 ListTransactions 0..=1, flexible 0,
        list_transactions::ListTransactionsRequest => list_transactions::ListTransactionsResponse;
    /// A member of a group whose coordinator assigns.
    68 ConsumerGroupHeartbeat 0..=1, flexible 0, consumer_group_heartbeat::ConsumerGroupHeartbeatRequest
        => consumer_group_heartbeat::ConsumerGroupHeartbeatResponse;
    /// How groups are whose coordinator assigns.
    69 ConsumerGroupDescribe 0..=1, flexible 0, consumer_group_describe::ConsumerGroupDescribeRequest
        => consumer_group_describe::ConsumerGroupDescribeResponse;
}

impl ApiKey {
    /// Whether a version has compact lengths and tagged fields.
    #[must_use]
    pub const fn is_flexible(self, version: i16) -> bool {
        version >= self.flexible_from()
    }

    /// From which version on it is said to be served. Clients of the C library compress nothing unless Produce is said to go back to 0
    /// (KAFKA-18659), though no client that is left sends that.
    #[must_use]
    pub const fn advertised_from(self) -> i16 {
        match self {
            Self::Produce => 0,
            other => *other.versions().start(),
        }
    }

    /// The version of the header of its answers: that of ApiVersions is read by clients that do not know yet what is served.
    #[must_use]
    pub const fn is_answer_header_flexible(self, version: i16) -> bool {
        !matches!(self, Self::ApiVersions) && self.is_flexible(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_number_and_has_versions() {
        for api in ApiKey::ALL {
            assert_eq!(ApiKey::from_i16(*api as i16), Some(*api));
            assert!(!api.versions().is_empty());
        }
        assert_eq!(ApiKey::from_i16(-1), None);
    }

    #[test]
    fn clients_of_the_c_library_find_the_versions_that_they_look_for() {
        let served = |api: ApiKey, version| (api.advertised_from()..=*api.versions().end()).contains(&version);
        for version in [0, 3, 7] {
            assert!(served(ApiKey::Produce, version));
        }
        assert!(served(ApiKey::Fetch, 4) && served(ApiKey::Fetch, 10));
        assert!(served(ApiKey::ListOffsets, 1) && served(ApiKey::InitProducerId, 0));
        assert!(served(ApiKey::OffsetCommit, 2) && served(ApiKey::OffsetFetch, 1));
        for of_groups in
            [ApiKey::FindCoordinator, ApiKey::JoinGroup, ApiKey::SyncGroup, ApiKey::Heartbeat, ApiKey::LeaveGroup]
        {
            assert!(served(of_groups, 0), "{}", of_groups.name());
        }
    }
}
