//! One file per API: each turns a request into an operation of `partition` or `quorum`, and the outcome into an answer. The table
//! in [`dispatch`] has a row for each. Rules live below; nothing here decides what is allowed.

mod allocate_producer_ids;
mod alter_in_sync;
mod alter_topic;
mod balance;
mod broker_heartbeat;
mod create_partitions;
mod create_topic;
mod credit;
mod delete_records;
mod delete_topic;
mod describe_broker;
mod describe_cluster;
mod describe_partitions;
mod describe_topics;
mod drain_broker;
mod elect_leader;
mod epoch_end;
mod faults;
mod find_coordinator;
mod forward;
mod groups;
mod hello;
mod init_producer_id;
mod join_cluster;
mod list_groups;
mod list_offsets;
mod metadata;
mod ping;
mod produce;
mod raft;
mod reassign;
mod register_broker;
mod remove_broker;
mod replica_progress;
mod replica_subscribe;
mod report_replicas;
mod stamp_folder;
mod subscribe;
mod transaction_fates;
mod transactions;
mod unsubscribe;
mod wait_for;
mod write_markers;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use tidelog_protocol::api::{Api, Request};
use tidelog_protocol::frame::{Flags, FrameKind, Header, TRACE_BYTES};
use tidelog_protocol::{ErrorCode, WireError, messages};

use crate::budget::Lent;
use crate::change::{AtController, change};
use crate::node::Node;
use crate::session::{Reply, Session};

/// A whole frame from a client.
#[derive(Debug)]
pub(crate) struct Input {
    /// Its header.
    pub(crate) header: Header,
    /// Its body, checksum verified.
    pub(crate) body: Bytes,
    /// Its payload, not looked at yet.
    pub(crate) payload: Bytes,
    /// When it was whole.
    pub(crate) arrived: Instant,
    /// The memory that it takes.
    pub(crate) lent: Option<Lent>,
}

impl Input {
    /// Without the memory: of what waits for long and keeps nothing large.
    fn given_back(self) -> Self {
        Self { lent: None, ..self }
    }
}

/// An API whose answer takes nothing but the request and the broker.
trait Handle: Request + Send + 'static {
    /// Does it.
    fn handle(
        self,
        node: &Arc<Node>,
        session: &Arc<Session>,
    ) -> impl Future<Output = Result<Self::Response, WireError>> + Send;
}

/// As [`Handle`], of what asks others and must answer before whoever asks stops waiting.
trait HandleInTime: Request + Send + 'static {
    /// Does it.
    fn handle(
        self,
        node: &Arc<Node>,
        session: &Arc<Session>,
        deadline: Option<Instant>,
    ) -> impl Future<Output = Result<Self::Response, WireError>> + Send;
}

/// Hands a frame to its handler.
///
/// # Errors
/// Where the connection cannot go on, with the reason for the client.
pub(crate) fn dispatch(node: &Arc<Node>, session: &Arc<Session>, mut input: Input) -> Result<(), String> {
    let header = input.header;
    if header.flags.contains(Flags::TRACE) {
        // The trace context is for whoever records traces; the message follows it.
        input.body = input.body.slice(TRACE_BYTES..);
    }
    if !matches!(header.kind, FrameKind::Request | FrameKind::Signal) {
        return Err(format!("clients send requests and signals, not frames of kind {:?}", header.kind));
    }
    let api = Api::from_u16(header.api);
    if let Some(api) = api {
        node.metrics.count_request(api);
    }
    if !session.introduced.load(Ordering::Relaxed) && api != Some(Api::Hello) {
        return Err("the first request must be Hello".into());
    }
    if header.kind == FrameKind::Signal {
        return match api {
            Some(Api::Credit) => credit::handle(session, &input),
            Some(Api::ReplicaProgress) => replica_progress::handle(node, session, &input),
            _ => Err(format!("API {} is no signal", header.api)),
        };
    }
    let reply = session.reply_to(&header, input.arrived);
    let may_carry = |api| matches!(api, Api::Produce | Api::RaftAppend | Api::RaftSnapshot);
    if !input.payload.is_empty() && !api.is_none_or(may_carry) {
        let sentence = "requests of this API carry no payload; nothing was done";
        reply.fail(WireError::new(ErrorCode::Malformed, sentence));
        return Ok(());
    }
    if !node.serves() && !api.is_some_and(is_for_starting) {
        let sentence = "the broker is starting: it does not have the metadata of its cluster yet";
        reply.fail(WireError { retry_after_ms: 200, ..WireError::new(ErrorCode::Overloaded, sentence) });
        return Ok(());
    }
    if api.is_some_and(is_between_brokers)
        && let Err(error) = session.member()
    {
        reply.fail(error);
        return Ok(());
    }
    match api {
        Some(Api::Hello) => hello::handle(node, session, &input, reply),
        Some(Api::Produce) => produce::handle(node, input, reply),
        Some(Api::Subscribe) => subscribe::handle(node, session, &input, reply),
        Some(Api::Unsubscribe) => unsubscribe::handle(session, &input, reply),
        Some(Api::Ping) => run::<messages::PingRequest>(node, session, input, reply),
        Some(Api::Metadata) => run::<messages::MetadataRequest>(node, session, input, reply),
        Some(Api::DescribeBroker) => run::<messages::DescribeBrokerRequest>(node, session, input, reply),
        Some(Api::CreateTopic) => run_change::<messages::CreateTopicRequest>(node, session, input, reply),
        Some(Api::DeleteTopic) => run_change::<messages::DeleteTopicRequest>(node, session, input, reply),
        Some(Api::AlterTopic) => run_change::<messages::AlterTopicRequest>(node, session, input, reply),
        Some(Api::DescribeTopics) => run::<messages::DescribeTopicsRequest>(node, session, input, reply),
        Some(Api::CreatePartitions) => run_change::<messages::CreatePartitionsRequest>(node, session, input, reply),
        Some(Api::ListOffsets) => run::<messages::ListOffsetsRequest>(node, session, input, reply),
        Some(Api::DeleteRecords) => run::<messages::DeleteRecordsRequest>(node, session, input, reply),
        Some(Api::RegisterBroker) => run::<messages::RegisterBrokerRequest>(node, session, input, reply),
        Some(Api::RaftVote) => raft::run::<messages::RaftVoteRequest>(node, session, input, reply),
        Some(Api::RaftAppend) => raft::run::<messages::RaftAppendRequest>(node, session, input, reply),
        Some(Api::RaftSnapshot) => raft::run::<messages::RaftSnapshotRequest>(node, session, input, reply),
        Some(Api::JoinCluster) => run_in_time::<messages::JoinClusterRequest>(node, session, input, reply),
        Some(Api::ChangeVoters) => run_in_time::<messages::ChangeVotersRequest>(node, session, input, reply),
        Some(Api::Forward) => run::<messages::ForwardRequest>(node, session, input, reply),
        Some(Api::BrokerHeartbeat) => run::<messages::BrokerHeartbeatRequest>(node, session, input, reply),
        Some(Api::EpochEnd) => run::<messages::EpochEndRequest>(node, session, input, reply),
        Some(Api::ReplicaSubscribe) => replica_subscribe::handle(node, session, &input, reply),
        Some(Api::DescribeCluster) => run_in_time::<messages::DescribeClusterRequest>(node, session, input, reply),
        Some(Api::DescribePartitions) => run::<messages::DescribePartitionsRequest>(node, session, input, reply),
        Some(Api::Reassign) => run_change::<messages::ReassignRequest>(node, session, input, reply),
        Some(Api::DrainBroker) => run_change::<messages::DrainBrokerRequest>(node, session, input, reply),
        Some(Api::Balance) => run_change::<messages::BalanceRequest>(node, session, input, reply),
        Some(Api::ElectLeader) => run_change::<messages::ElectLeaderRequest>(node, session, input, reply),
        Some(Api::RemoveBroker) => run_change::<messages::RemoveBrokerRequest>(node, session, input, reply),
        Some(Api::FindCoordinator) => run::<messages::FindCoordinatorRequest>(node, session, input, reply),
        Some(Api::GroupHeartbeat) => run::<messages::GroupHeartbeatRequest>(node, session, input, reply),
        Some(Api::OffsetCommit) => run::<messages::OffsetCommitRequest>(node, session, input, reply),
        Some(Api::OffsetFetch) => run::<messages::OffsetFetchRequest>(node, session, input, reply),
        Some(Api::ListGroups) => run::<messages::ListGroupsRequest>(node, session, input, reply),
        Some(Api::DescribeGroup) => run::<messages::DescribeGroupRequest>(node, session, input, reply),
        Some(Api::DeleteGroup) => run::<messages::DeleteGroupRequest>(node, session, input, reply),
        Some(Api::WaitFor) => run_waiting::<messages::WaitForRequest>(node, session, input.given_back(), reply),
        Some(Api::InitProducerId) => run::<messages::InitProducerIdRequest>(node, session, input, reply),
        Some(Api::AddToTransaction) => run_waiting::<messages::AddToTransactionRequest>(node, session, input, reply),
        Some(Api::WriteMarkers) => run_waiting::<messages::WriteMarkersRequest>(node, session, input, reply),
        Some(Api::TransactionFates) => run_waiting::<messages::TransactionFatesRequest>(node, session, input, reply),
        Some(Api::EndTransaction) => run::<messages::EndTransactionRequest>(node, session, input, reply),
        Some(Api::ListTransactions) => run::<messages::ListTransactionsRequest>(node, session, input, reply),
        Some(Api::DescribeTransaction) => run::<messages::DescribeTransactionRequest>(node, session, input, reply),
        Some(Api::AbortTransaction) => run::<messages::AbortTransactionRequest>(node, session, input, reply),
        Some(Api::Credit | Api::StreamItem | Api::GoAway | Api::ReplicaProgress | Api::ReplicaItem)
        | Some(Api::AlterInSync | Api::ReportReplicas | Api::StampFolder | Api::AllocateProducerIds)
        | None => {
            reply.fail(WireError::new(
                ErrorCode::Unsupported,
                format!("this broker answers no requests of API {}; upgrade the older side", header.api),
            ));
        }
    }
    Ok(())
}

/// What only brokers ask each other: of others it is not even looked at.
const fn is_between_brokers(api: Api) -> bool {
    matches!(
        api,
        Api::RegisterBroker
            | Api::BrokerHeartbeat
            | Api::EpochEnd
            | Api::ReplicaSubscribe
            | Api::RaftVote
            | Api::RaftAppend
            | Api::RaftSnapshot
            | Api::Forward
            | Api::WriteMarkers
            | Api::TransactionFates
    )
}

/// What clients may send: what this broker pushes, and what brokers ask only by way of another API, is not.
const fn is_served(api: Api) -> bool {
    !matches!(
        api,
        Api::StreamItem
            | Api::GoAway
            | Api::ReplicaItem
            | Api::AlterInSync
            | Api::ReportReplicas
            | Api::StampFolder
            | Api::AllocateProducerIds
    )
}

/// What brokers need from each other before any of them can serve clients.
const fn is_for_starting(api: Api) -> bool {
    matches!(
        api,
        Api::Hello
            | Api::Ping
            | Api::RaftVote
            | Api::RaftAppend
            | Api::RaftSnapshot
            | Api::JoinCluster
            | Api::ChangeVoters
            | Api::Forward
            | Api::RegisterBroker
            | Api::BrokerHeartbeat
    )
}

/// Decodes a request; what does not decode is answered and dropped.
fn decode<R: Request>(session: &Session, input: &Input, reply: Reply) -> Option<(R, Reply)> {
    match decode_body(session, &input.body) {
        Ok(request) => Some((request, reply)),
        Err(error) => {
            reply.fail(error);
            None
        }
    }
}

fn decode_body<R: Request>(session: &Session, body: &Bytes) -> Result<R, WireError> {
    R::from_body(body, session.version)
        .map_err(|error| WireError::new(ErrorCode::Malformed, format!("{} does not parse: {error}", R::NAME)))
}

/// Runs a change of metadata, here or wherever the controller runs.
fn run_change<R: AtController>(node: &Arc<Node>, session: &Arc<Session>, input: Input, reply: Reply) {
    work_on(node, session, input, reply, Turn::Takes, |request: R, node, _, deadline| async move {
        change(&node, request, deadline).await
    });
}

/// Runs a handler.
fn run<R: Handle>(node: &Arc<Node>, session: &Arc<Session>, input: Input, reply: Reply) {
    work_on(node, session, input, reply, Turn::Takes, |request: R, node, session, _| async move {
        request.handle(&node, &session).await
    });
}

/// As [`run`], for what waits for long and costs little meanwhile: it must not keep the client's other requests from their turn.
fn run_waiting<R: Handle>(node: &Arc<Node>, session: &Arc<Session>, input: Input, reply: Reply) {
    work_on(node, session, input, reply, Turn::None, |request: R, node, session, _| async move {
        request.handle(&node, &session).await
    });
}

/// Whether a request counts among the few of its client that are worked on at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    /// It does.
    Takes,
    /// It does not.
    None,
}

/// Runs a handler that minds the deadline itself.
fn run_in_time<R: HandleInTime>(node: &Arc<Node>, session: &Arc<Session>, input: Input, reply: Reply) {
    work_on(node, session, input, reply, Turn::Takes, |request: R, node, session, deadline| async move {
        request.handle(&node, &session, deadline).await
    });
}

/// Works on a request in a task of its own, for no longer than the client waits. It does not begin once the client is gone.
fn work_on<R, F>(
    node: &Arc<Node>,
    session: &Arc<Session>,
    mut input: Input,
    reply: Reply,
    turn: Turn,
    work: impl FnOnce(R, Arc<Node>, Arc<Session>, Option<Instant>) -> F + Send + 'static,
) where
    R: Request + Send + 'static,
    F: Future<Output = Result<R::Response, WireError>> + Send,
{
    let lent = input.lent.take();
    let (node, session) = (node.clone(), session.clone());
    let tasks = node.tasks.clone();
    tasks.spawn(async move {
        let deadline = reply.deadline;
        let in_turn = async {
            // Answers may be far larger than requests: few at a time, and none while the client leaves others lying.
            if turn == Turn::None {
                return None;
            }
            let turn = session.turns.acquire().await.ok();
            session.outbox.room().await;
            turn
        };
        let work = async {
            let _turn = tokio::select! {
                biased;
                () = session.closed.cancelled() => return Err(gone()),
                turn = in_turn => turn,
            };
            // Until then it is kept as it came: what it says takes far more memory.
            let request = decode_body::<R>(&session, &input.body)?;
            drop(input);
            work(request, node.clone(), session.clone(), deadline).await
        };
        let result = in_time(deadline, work).await;
        reply.finish::<R>(result);
        drop(lent);
    });
}

/// For the log of whoever reads it on the way: the connection is closed.
fn gone() -> WireError {
    WireError::new(ErrorCode::ShuttingDown, "the connection closed before this was begun; nothing was done")
}

/// What `work` gives, unless the client has stopped waiting before: then it does not even begin.
async fn in_time<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, WireError>>,
) -> Result<T, WireError> {
    let Some(deadline) = deadline else { return work.await };
    if deadline <= Instant::now() {
        let sentence = "the deadline passed while the request waited; nothing was done";
        return Err(WireError::new(ErrorCode::DeadlineExceeded, sentence));
    }
    tokio::time::timeout_at(deadline.into(), work).await.unwrap_or_else(|_| {
        let sentence = "the deadline passed before this was done; it may still happen";
        Err(WireError::new(ErrorCode::DeadlineExceeded, sentence))
    })
}
