//! Kafka messages both ways against an independent implementation, every version, field by field: what is written here it reads and writes back
//! to the byte, and what it writes is read here.

use std::fmt::Debug;

use crate::kafka_tree::Tree;
use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages as oracle;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use tidelog_protocol::codec::Entropy;
use tidelog_protocol::kafka::codec::Reader;
use tidelog_protocol::kafka::header::read_answer;
use tidelog_protocol::kafka::{
    ApiKey, Message, Request, RequestHeader, add_offsets_to_txn, add_partitions_to_txn, alter_configs,
    alter_partition_reassignments, api_versions, consumer_group_describe, consumer_group_heartbeat, consumer_protocol,
    create_partitions, create_topics, delete_groups, delete_records, delete_topics, describe_cluster, describe_configs,
    describe_groups, describe_log_dirs, describe_producers, describe_transactions, elect_leaders, end_txn, fetch,
    find_coordinator, frame_of, heartbeat, incremental_alter_configs, init_producer_id, join_group, leave_group,
    list_groups, list_offsets, list_partition_reassignments, list_transactions, metadata, offset_commit, offset_delete,
    offset_fetch, offset_for_leader_epoch, produce, request_frame, sync_group, txn_offset_commit,
};

/// Drawn for each message and version.
const SAMPLES: u64 = 150;

fn decode<M: Message>(bytes: &Bytes, version: i16, flexible: bool) -> M {
    let mut input = Reader::new(bytes);
    let message = M::decode(&mut input, version, flexible).unwrap();
    assert_eq!(input.remaining(), 0, "{} version {version} was not read to its end", M::NAME);
    message
}

/// `later` are fields of versions that are not served, or of none.
fn agrees<Ours: Message, Theirs: Encodable + Decodable + Debug>(api: ApiKey, later: &[&str]) {
    let later: Vec<_> = later.iter().copied().chain(["unknown_tagged_fields"]).collect();
    let mut told = std::collections::BTreeSet::new();
    for version in api.versions() {
        let flexible = api.is_flexible(version);
        for seed in 0..SAMPLES {
            let drawn = Ours::draw(&mut Entropy::new(seed * 100 + version as u64));
            let bytes = drawn.to_bytes(version, flexible);
            // As this version has it.
            let ours: Ours = decode(&bytes, version, flexible);
            assert_eq!(ours.to_bytes(version, flexible), bytes, "{} version {version} seed {seed}", Ours::NAME);
            let mut rest = bytes.clone();
            let theirs = Theirs::decode(&mut rest, version).unwrap_or_else(|error| {
                panic!("{} version {version} seed {seed}: {error} in {bytes:?} of {ours:?}", Ours::NAME)
            });
            assert!(!rest.has_remaining(), "{} version {version} seed {seed} is too long", Ours::NAME);
            let differences = Tree::of(&ours).differences(&Tree::of(&theirs), &later);
            assert_eq!(differences, Vec::<String>::new(), "{} version {version} seed {seed}", Ours::NAME);
            let mut written = BytesMut::new();
            theirs.encode(&mut written, version).unwrap();
            assert_eq!(written, bytes, "{} version {version} seed {seed}", Ours::NAME);
            told.insert(bytes);
        }
    }
    assert!(
        told.len() > 1 || SAMPLES == 1 || told.iter().all(|bytes| bytes.len() <= 3),
        "only {} were drawn",
        told.len()
    );
}

macro_rules! agreements {
    ($($test:ident $api:ident $file:ident $request:ident $response:ident later $later:expr;)*) => {$(
        #[test]
        fn $test() {
            agrees::<$file::$request, oracle::$request>(ApiKey::$api, &$later);
            agrees::<$file::$response, oracle::$response>(ApiKey::$api, &$later);
            frames_agree::<$file::$request, oracle::$request>();
            answers_agree::<$file::$request, oracle::$response>();
        }
    )*};
}

agreements! {
    produce_agrees Produce produce ProduceRequest ProduceResponse later ["topic_id"];
    fetch_agrees Fetch fetch FetchRequest FetchResponse later ["high_watermark"];
    list_offsets_agrees ListOffsets list_offsets ListOffsetsRequest ListOffsetsResponse later [];
    metadata_agrees Metadata metadata MetadataRequest MetadataResponse later [];
    api_versions_agrees ApiVersions api_versions ApiVersionsRequest ApiVersionsResponse later [];
    create_topics_agrees CreateTopics create_topics CreateTopicsRequest CreateTopicsResponse later [];
    delete_topics_agrees DeleteTopics delete_topics DeleteTopicsRequest DeleteTopicsResponse later [];
    init_producer_id_agrees InitProducerId init_producer_id InitProducerIdRequest InitProducerIdResponse later
        ["enable_2_pc", "enable2_pc", "keep_prepared_txn", "ongoing_txn_producer_id", "ongoing_txn_producer_epoch"];
    offset_for_leader_epoch_agrees OffsetForLeaderEpoch offset_for_leader_epoch OffsetForLeaderEpochRequest
        OffsetForLeaderEpochResponse later [];
    describe_cluster_agrees DescribeCluster describe_cluster DescribeClusterRequest DescribeClusterResponse later [];
    find_coordinator_agrees FindCoordinator find_coordinator FindCoordinatorRequest FindCoordinatorResponse later [];
    join_group_agrees JoinGroup join_group JoinGroupRequest JoinGroupResponse later [];
    sync_group_agrees SyncGroup sync_group SyncGroupRequest SyncGroupResponse later [];
    heartbeat_agrees Heartbeat heartbeat HeartbeatRequest HeartbeatResponse later [];
    leave_group_agrees LeaveGroup leave_group LeaveGroupRequest LeaveGroupResponse later [];
    offset_commit_agrees OffsetCommit offset_commit OffsetCommitRequest OffsetCommitResponse later ["topic_id"];
    offset_fetch_agrees OffsetFetch offset_fetch OffsetFetchRequest OffsetFetchResponse later ["topic_id"];
    describe_groups_agrees DescribeGroups describe_groups DescribeGroupsRequest DescribeGroupsResponse later [];
    list_groups_agrees ListGroups list_groups ListGroupsRequest ListGroupsResponse later [];
    delete_groups_agrees DeleteGroups delete_groups DeleteGroupsRequest DeleteGroupsResponse later [];
    add_partitions_to_txn_agrees AddPartitionsToTxn add_partitions_to_txn AddPartitionsToTxnRequest
        AddPartitionsToTxnResponse later ["transactions", "error_code", "results_by_transaction"];
    add_offsets_to_txn_agrees AddOffsetsToTxn add_offsets_to_txn AddOffsetsToTxnRequest AddOffsetsToTxnResponse
        later [];
    end_txn_agrees EndTxn end_txn EndTxnRequest EndTxnResponse later ["producer_id", "producer_epoch"];
    txn_offset_commit_agrees TxnOffsetCommit txn_offset_commit TxnOffsetCommitRequest TxnOffsetCommitResponse
        later [];
    list_transactions_agrees ListTransactions list_transactions ListTransactionsRequest ListTransactionsResponse
        later ["transactional_id_pattern"];
    describe_producers_agrees DescribeProducers describe_producers DescribeProducersRequest DescribeProducersResponse
        later [];
    describe_transactions_agrees DescribeTransactions describe_transactions DescribeTransactionsRequest
        DescribeTransactionsResponse later [];
    consumer_group_heartbeat_agrees ConsumerGroupHeartbeat consumer_group_heartbeat ConsumerGroupHeartbeatRequest
        ConsumerGroupHeartbeatResponse later [];
    consumer_group_describe_agrees ConsumerGroupDescribe consumer_group_describe ConsumerGroupDescribeRequest
        ConsumerGroupDescribeResponse later [];
    describe_configs_agrees DescribeConfigs describe_configs DescribeConfigsRequest DescribeConfigsResponse later [];
    alter_configs_agrees AlterConfigs alter_configs AlterConfigsRequest AlterConfigsResponse later [];
    incremental_alter_configs_agrees IncrementalAlterConfigs incremental_alter_configs IncrementalAlterConfigsRequest
        IncrementalAlterConfigsResponse later [];
    delete_records_agrees DeleteRecords delete_records DeleteRecordsRequest DeleteRecordsResponse later [];
    create_partitions_agrees CreatePartitions create_partitions CreatePartitionsRequest CreatePartitionsResponse later [];
    describe_log_dirs_agrees DescribeLogDirs describe_log_dirs DescribeLogDirsRequest DescribeLogDirsResponse later [];
    elect_leaders_agrees ElectLeaders elect_leaders ElectLeadersRequest ElectLeadersResponse later [];
    alter_partition_reassignments_agrees AlterPartitionReassignments alter_partition_reassignments AlterPartitionReassignmentsRequest AlterPartitionReassignmentsResponse later [];
    list_partition_reassignments_agrees ListPartitionReassignments list_partition_reassignments ListPartitionReassignmentsRequest ListPartitionReassignmentsResponse later [];
    offset_delete_agrees OffsetDelete offset_delete OffsetDeleteRequest OffsetDeleteResponse later [];
}

/// What consumers say to each other, as another client writes it behind its version; of later versions as far as is known.
#[test]
fn what_consumers_say_to_each_other_is_read() {
    for seed in 0..SAMPLES {
        for version in 0..6 {
            let known: i16 = version.min(3);
            let drawn = consumer_protocol::ConsumerProtocolSubscription::draw(&mut Entropy::new(seed));
            let theirs =
                oracle::ConsumerProtocolSubscription::decode(&mut drawn.to_bytes(known, false), known).unwrap();
            let mut written = BytesMut::from(&version.to_be_bytes()[..]);
            theirs.encode(&mut written, known).unwrap();
            let read: consumer_protocol::ConsumerProtocolSubscription =
                consumer_protocol::read(&written.freeze()).unwrap();
            assert_eq!(Tree::of(&read).differences(&Tree::of(&theirs), &[]), Vec::<String>::new(), "seed {seed}");
            let drawn = consumer_protocol::ConsumerProtocolAssignment::draw(&mut Entropy::new(seed));
            let theirs = oracle::ConsumerProtocolAssignment::decode(&mut drawn.to_bytes(known, false), known).unwrap();
            let mut written = BytesMut::from(&version.to_be_bytes()[..]);
            theirs.encode(&mut written, known).unwrap();
            let read: consumer_protocol::ConsumerProtocolAssignment =
                consumer_protocol::read(&written.freeze()).unwrap();
            assert_eq!(Tree::of(&read).differences(&Tree::of(&theirs), &[]), Vec::<String>::new(), "seed {seed}");
            assert_eq!(read, drawn);
        }
    }
    let read = |bytes: &'static [u8]| {
        consumer_protocol::read::<consumer_protocol::ConsumerProtocolAssignment>(&Bytes::from_static(bytes))
    };
    assert!(read(&[]).is_err() && read(&[0xff, 0xff]).is_err() && read(&[0, 0, 0x7f, 0xff, 0xff, 0xff]).is_err());
}

/// The header of a request, as it reads it and as it writes it.
fn frames_agree<R: Request, Theirs: Encodable + Decodable + HeaderVersion>() {
    for version in R::API.versions() {
        for client_id in [None, Some(""), Some("a client")] {
            let request = R::draw(&mut Entropy::new(7));
            let frame = request_frame(&request, version, 77, client_id);
            assert_eq!(frame.len(), 4 + u32::from_be_bytes(*frame.first_chunk().unwrap()) as usize);
            let mut rest = frame.slice(4..);
            let header = oracle::RequestHeader::decode(&mut rest, Theirs::header_version(version)).unwrap();
            assert_eq!((header.request_api_key, header.request_api_version), (R::API as i16, version));
            assert_eq!((header.correlation_id, header.client_id.as_deref()), (77, client_id));
            assert!(Theirs::decode(&mut rest, version).is_ok() && !rest.has_remaining());
            let mut written = BytesMut::new();
            let header = header.with_client_id(client_id.map(StrBytes::from_static_str));
            header.encode(&mut written, Theirs::header_version(version)).unwrap();
            let written = written.freeze();
            let mut input = Reader::new(&written);
            let read = RequestHeader::decode(&mut input).unwrap();
            assert_eq!(input.remaining(), 0);
            assert_eq!((read.served(), read.api_version, read.correlation_id), (Some(R::API), version, 77));
            assert_eq!(read.client_id.as_deref(), client_id);
        }
    }
}

/// The header of an answer, as it reads it.
fn answers_agree<R: Request, Theirs: Decodable + HeaderVersion>() {
    for version in R::API.versions() {
        let answer = R::Response::draw(&mut Entropy::new(9));
        let frame: Bytes = frame_of(R::API, version, 78, &answer).concat().into();
        let mut rest = frame.slice(4..);
        let header = oracle::ResponseHeader::decode(&mut rest, Theirs::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, 78);
        assert!(Theirs::decode(&mut rest, version).is_ok() && !rest.has_remaining());
        assert_eq!(read_answer::<R>(&frame.slice(4..), version).unwrap().0, 78);
    }
}

#[test]
fn tagged_fields_that_nobody_knows_are_skipped() {
    let api = ApiKey::Fetch;
    let known = fetch::FetchRequest { cluster_id: Some("c".into()), ..Default::default() };
    let mut theirs = oracle::FetchRequest::default().with_cluster_id(Some(StrBytes::from_static_str("c")));
    theirs.unknown_tagged_fields.insert(9, Bytes::from_static(b"from a later version"));
    let mut written = BytesMut::new();
    theirs.encode(&mut written, 15).unwrap();
    let read: fetch::FetchRequest = decode(&written.freeze(), 15, api.is_flexible(15));
    assert_eq!(read, known);
}
