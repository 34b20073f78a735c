//! The Kafka protocol, for the same port: each API is a translation to what the native one does, too. In the order a request meets them:
//! - [`client`]: one client, and its requests that are worked on one after the other; [`answers`]: answers leave in the order of the requests;
//!   [`reply`]: the duty to answer one.
//! - one file per API; [`topics`], [`groups`] and [`transactions`]: names, identities and errors that several share; [`configs`] and
//!   [`alterations`]: configuration as Kafka has it, and how it is changed; [`reading`]: what fetch reads of one partition.
//!
//! Knows nothing of sockets, and decides nothing that `operations`, `change` and `partition` decide.

mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod alter_configs;
mod alter_partition_reassignments;
mod alterations;
mod answers;
mod api_versions;
mod client;
mod configs;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_transactions;
mod elect_leaders;
mod end_txn;
mod fetch;
mod find_coordinator;
mod groups;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod list_transactions;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod reading;
mod reply;
mod sync_group;
mod topics;
mod transactions;
mod txn_offset_commit;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tidelog_protocol::kafka::add_offsets_to_txn::AddOffsetsToTxnRequest;
use tidelog_protocol::kafka::add_partitions_to_txn::AddPartitionsToTxnRequest;
use tidelog_protocol::kafka::alter_configs::AlterConfigsRequest;
use tidelog_protocol::kafka::alter_partition_reassignments::AlterPartitionReassignmentsRequest;
use tidelog_protocol::kafka::api_versions::ApiVersionsRequest;
use tidelog_protocol::kafka::codec::Reader;
use tidelog_protocol::kafka::consumer_group_describe::ConsumerGroupDescribeRequest;
use tidelog_protocol::kafka::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use tidelog_protocol::kafka::create_partitions::CreatePartitionsRequest;
use tidelog_protocol::kafka::create_topics::CreateTopicsRequest;
use tidelog_protocol::kafka::delete_groups::DeleteGroupsRequest;
use tidelog_protocol::kafka::delete_records::DeleteRecordsRequest;
use tidelog_protocol::kafka::delete_topics::DeleteTopicsRequest;
use tidelog_protocol::kafka::describe_cluster::DescribeClusterRequest;
use tidelog_protocol::kafka::describe_configs::DescribeConfigsRequest;
use tidelog_protocol::kafka::describe_groups::DescribeGroupsRequest;
use tidelog_protocol::kafka::describe_log_dirs::DescribeLogDirsRequest;
use tidelog_protocol::kafka::describe_producers::DescribeProducersRequest;
use tidelog_protocol::kafka::describe_transactions::DescribeTransactionsRequest;
use tidelog_protocol::kafka::elect_leaders::ElectLeadersRequest;
use tidelog_protocol::kafka::end_txn::EndTxnRequest;
use tidelog_protocol::kafka::fetch::FetchRequest;
use tidelog_protocol::kafka::find_coordinator::FindCoordinatorRequest;
use tidelog_protocol::kafka::heartbeat::HeartbeatRequest;
use tidelog_protocol::kafka::incremental_alter_configs::IncrementalAlterConfigsRequest;
use tidelog_protocol::kafka::init_producer_id::InitProducerIdRequest;
use tidelog_protocol::kafka::join_group::JoinGroupRequest;
use tidelog_protocol::kafka::leave_group::LeaveGroupRequest;
use tidelog_protocol::kafka::list_groups::ListGroupsRequest;
use tidelog_protocol::kafka::list_offsets::ListOffsetsRequest;
use tidelog_protocol::kafka::list_partition_reassignments::ListPartitionReassignmentsRequest;
use tidelog_protocol::kafka::list_transactions::ListTransactionsRequest;
use tidelog_protocol::kafka::metadata::MetadataRequest;
use tidelog_protocol::kafka::offset_commit::OffsetCommitRequest;
use tidelog_protocol::kafka::offset_delete::OffsetDeleteRequest;
use tidelog_protocol::kafka::offset_fetch::OffsetFetchRequest;
use tidelog_protocol::kafka::offset_for_leader_epoch::OffsetForLeaderEpochRequest;
use tidelog_protocol::kafka::sync_group::SyncGroupRequest;
use tidelog_protocol::kafka::txn_offset_commit::TxnOffsetCommitRequest;
use tidelog_protocol::kafka::{ApiKey, Request, RequestHeader};

pub(crate) use client::Client;

use crate::budget::Lent;
use crate::node::Node;
use crate::session::Parked;

/// A whole request, its length taken off.
#[derive(Debug)]
pub(crate) struct Input {
    /// Header and message.
    pub(crate) bytes: Bytes,
    /// When it was whole.
    pub(crate) arrived: Instant,
    /// The memory that it takes.
    pub(crate) lent: Option<Lent>,
}

/// A request whose header is read.
struct Asked<'a> {
    node: &'a Arc<Node>,
    client: &'a Arc<Client>,
    header: &'a RequestHeader,
    message: Reader<'a>,
    arrived: Instant,
    lent: Option<Lent>,
}

/// Who asks, in which version, and since when.
struct Asker {
    client: Arc<Client>,
    version: i16,
    arrived: Instant,
    /// The memory that the request takes, until it is answered or waits.
    lent: Mutex<Option<Lent>>,
}

impl Asker {
    /// The request waits from here on for something that may not happen for long, until this is dropped. What it was lent is for the others:
    /// whoever calls this keeps little of the request, or has memory for it.
    fn parks(&self) -> Parked<'_> {
        drop(self.lent.lock().take());
        self.client.session.parks()
    }
}

/// An API that is answered once what was asked is done.
trait Handle: Request {
    /// Does it; what goes wrong is part of the answer.
    fn handle(self, node: &Arc<Node>, asker: &Asker) -> impl Future<Output = Self::Response> + Send;
}

/// Hands a request to its handler.
///
/// # Errors
/// Where the connection cannot go on, with the reason for the log.
pub(crate) fn dispatch(node: &Arc<Node>, client: &Arc<Client>, input: Input) -> Result<(), String> {
    let mut message = Reader::new(&input.bytes);
    let header =
        RequestHeader::decode(&mut message).map_err(|error| format!("a Kafka request does not parse: {error}"))?;
    let Some(api) = ApiKey::from_i16(header.api_key) else {
        return Err(format!("Kafka's API {} is not served here", header.api_key));
    };
    if header.served().is_none() {
        if api == ApiKey::ApiVersions {
            client.reply_to(api, 0, header.correlation_id).send(&api_versions::refusal());
            return Ok(());
        }
        return Err(format!("version {} of Kafka's {} is not served here", header.api_version, api.name()));
    }
    client.note_name(header.client_id.as_deref());
    if !node.serves() && api != ApiKey::ApiVersions {
        return Err("the broker is starting: it does not have the metadata of its cluster yet".into());
    }
    let asked = Asked { node, client, header: &header, message, arrived: input.arrived, lent: input.lent };
    match api {
        ApiKey::Produce => produce::handle(asked),
        ApiKey::Fetch => run::<FetchRequest>(asked),
        ApiKey::ListOffsets => run::<ListOffsetsRequest>(asked),
        ApiKey::Metadata => run::<MetadataRequest>(asked),
        ApiKey::OffsetCommit => run::<OffsetCommitRequest>(asked),
        ApiKey::OffsetFetch => run::<OffsetFetchRequest>(asked),
        ApiKey::FindCoordinator => run::<FindCoordinatorRequest>(asked),
        ApiKey::JoinGroup => run::<JoinGroupRequest>(asked),
        ApiKey::Heartbeat => run::<HeartbeatRequest>(asked),
        ApiKey::LeaveGroup => run::<LeaveGroupRequest>(asked),
        ApiKey::SyncGroup => run::<SyncGroupRequest>(asked),
        ApiKey::DescribeGroups => run::<DescribeGroupsRequest>(asked),
        ApiKey::ListGroups => run::<ListGroupsRequest>(asked),
        ApiKey::ApiVersions => run::<ApiVersionsRequest>(asked),
        ApiKey::CreateTopics => run::<CreateTopicsRequest>(asked),
        ApiKey::DeleteTopics => run::<DeleteTopicsRequest>(asked),
        ApiKey::DeleteRecords => run::<DeleteRecordsRequest>(asked),
        ApiKey::InitProducerId => run::<InitProducerIdRequest>(asked),
        ApiKey::OffsetForLeaderEpoch => run::<OffsetForLeaderEpochRequest>(asked),
        ApiKey::AddPartitionsToTxn => run::<AddPartitionsToTxnRequest>(asked),
        ApiKey::AddOffsetsToTxn => run::<AddOffsetsToTxnRequest>(asked),
        ApiKey::EndTxn => run::<EndTxnRequest>(asked),
        ApiKey::TxnOffsetCommit => run::<TxnOffsetCommitRequest>(asked),
        ApiKey::DescribeConfigs => run::<DescribeConfigsRequest>(asked),
        ApiKey::AlterConfigs => run::<AlterConfigsRequest>(asked),
        ApiKey::DescribeLogDirs => run::<DescribeLogDirsRequest>(asked),
        ApiKey::CreatePartitions => run::<CreatePartitionsRequest>(asked),
        ApiKey::DeleteGroups => run::<DeleteGroupsRequest>(asked),
        ApiKey::ElectLeaders => run::<ElectLeadersRequest>(asked),
        ApiKey::IncrementalAlterConfigs => run::<IncrementalAlterConfigsRequest>(asked),
        ApiKey::AlterPartitionReassignments => run::<AlterPartitionReassignmentsRequest>(asked),
        ApiKey::ListPartitionReassignments => run::<ListPartitionReassignmentsRequest>(asked),
        ApiKey::OffsetDelete => run::<OffsetDeleteRequest>(asked),
        ApiKey::DescribeCluster => run::<DescribeClusterRequest>(asked),
        ApiKey::DescribeProducers => run::<DescribeProducersRequest>(asked),
        ApiKey::DescribeTransactions => run::<DescribeTransactionsRequest>(asked),
        ApiKey::ListTransactions => run::<ListTransactionsRequest>(asked),
        ApiKey::ConsumerGroupHeartbeat => run::<ConsumerGroupHeartbeatRequest>(asked),
        ApiKey::ConsumerGroupDescribe => run::<ConsumerGroupDescribeRequest>(asked),
    }
}

/// The largest request of an API, in bytes: only batches may be large.
pub(crate) fn request_bytes_max(api_key: i16, frame_bytes: u32, body_bytes: u32) -> u32 {
    if ApiKey::from_i16(api_key) == Some(ApiKey::Produce) { frame_bytes } else { body_bytes }
}

/// True for a request that brings batches.
pub(crate) fn is_produce(request: &[u8]) -> bool {
    request.first_chunk::<2>().is_some_and(|key| i16::from_be_bytes(*key) == ApiKey::Produce as i16)
}

fn decode<R: Request>(message: &mut Reader<'_>, version: i16) -> Result<R, String> {
    let read = R::decode(message, version, R::API.is_flexible(version));
    read.map_err(|error| format!("Kafka's {} version {version} does not parse: {error}", R::NAME))
}

/// Runs a handler behind what the client asked before: its answer has to wait for those anyway. Until it is its turn it is kept as it came, since what
/// it says takes far more memory.
fn run<R: Handle>(asked: Asked<'_>) -> Result<(), String> {
    let Asked { node, client, header, message, arrived, lent } = asked;
    let version = header.api_version;
    let reply = client.reply_to(R::API, version, header.correlation_id);
    let (node, message) = (node.clone(), message.rest());
    let asker = Asker { client: client.clone(), version, arrived, lent: Mutex::new(lent) };
    let tasks = node.tasks.clone();
    let work = Box::pin(async move {
        let session = &asker.client.session;
        tokio::select! {
            biased;
            () = session.closed.cancelled() => return reply.stay_silent(),
            // Answers may be far larger than requests: none is worked out while the client leaves others lying.
            () = session.outbox.room() => {}
        }
        let request = match decode::<R>(&mut Reader::new(&message), version) {
            Ok(request) => request,
            Err(reason) => {
                asker.client.end(reason);
                return reply.stay_silent();
            }
        };
        drop(message);
        let answer = request.handle(&node, &asker).await;
        let lent = asker.lent.lock().take();
        reply.send_within(&answer, lent);
    });
    if let Some(work) = client.line.enter(work) {
        let client = client.clone();
        tasks.spawn(async move { client.line.run(work).await });
    }
    Ok(())
}
