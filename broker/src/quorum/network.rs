//! How the consensus library reaches the other members: each call is one request over the peer's consensus link. Knows nothing of
//! what it says to them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{Fatal, RPCError, RaftError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{RPCTypes, RaftNetwork, RaftNetworkFactory, Snapshot};
use tidelog_coordination::ClusterImage;
use tidelog_protocol::api::Request;
use tidelog_protocol::messages::{
    RaftAppendOutcome, RaftAppendRequest, RaftAppendResponse, RaftSnapshotRequest, RaftVoteRequest,
};
use tokio::sync::watch;

use super::entry_batch::{self, EntryError};
use super::raft_types::{
    Address, Ballot, Member, RaftEntry, RaftTypes, ballot_message, ballot_of, position_message, position_of,
};
use crate::peer::{Lane, PeerError, Peers};

/// Bytes of a snapshot sent at once.
const PIECE_BYTES: usize = 1 << 20;
/// How long one piece may take.
const PIECE_PATIENCE: Duration = Duration::from_secs(10);
/// Pause before a member that cannot be reached is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// Reaches the other members.
#[derive(Clone, Debug)]
pub(super) struct PeerNetwork {
    peers: Peers,
    /// A broker that moved tells so in its registration, which is newer than what the membership says.
    image: watch::Receiver<Arc<ClusterImage>>,
}

impl PeerNetwork {
    /// Over links to other brokers.
    pub(super) fn new(peers: Peers, image: watch::Receiver<Arc<ClusterImage>>) -> Self {
        Self { peers, image }
    }
}

impl RaftNetworkFactory<RaftTypes> for PeerNetwork {
    type Network = MemberClient;

    async fn new_client(&mut self, to: Member, address: &Address) -> MemberClient {
        MemberClient { network: self.clone(), to, address: address.clone() }
    }
}

/// Reaches one member.
#[derive(Clone, Debug)]
pub(super) struct MemberClient {
    network: PeerNetwork,
    to: Member,
    address: Address,
}

type RpcFault = RPCError<Member, Address, RaftError<Member>>;

/// It answered what it should not.
#[derive(Debug, thiserror::Error)]
#[error("it answered {0}")]
struct Nonsense(&'static str);

/// Where a member can be dialled, by what is known of it last.
pub(super) fn address_of(image: &ClusterImage, member: Member, otherwise: &Address) -> Address {
    match image.broker(member.broker).filter(|broker| broker.incarnation == member.incarnation) {
        Some(broker) => Address { host: broker.host.clone(), port: broker.port },
        None => otherwise.clone(),
    }
}

impl MemberClient {
    async fn ask<R: Request>(
        &self,
        request: R,
        payload: Vec<Bytes>,
        patience: Duration,
    ) -> Result<R::Response, PeerError> {
        let address = address_of(&self.network.image.borrow(), self.to, &self.address);
        let link = self.network.peers.link(self.to, &address, Lane::Consensus);
        Ok(link.request(request, payload, patience).await?.0)
    }

    /// Never as a network error, at which the library tries again without a pause.
    fn fault(&self, error: &PeerError, kind: RPCTypes, patience: Duration) -> RpcFault {
        match error {
            PeerError::TimedOut => {
                let id = self.network.peers.identity().member;
                Timeout { action: kind, id, target: self.to, timeout: patience }.into()
            }
            error => Unreachable::new(error).into(),
        }
    }
}

fn batches(entries: &[RaftEntry]) -> Result<Vec<Bytes>, EntryError> {
    let first = entries.first().map_or(0, |entry| entry.log_id.index);
    entries.iter().map(|entry| entry_batch::encode(entry, first)).collect()
}

fn appended(answer: RaftAppendResponse) -> Result<AppendEntriesResponse<Member>, Nonsense> {
    Ok(match answer.outcome {
        RaftAppendOutcome::Appended => AppendEntriesResponse::Success,
        RaftAppendOutcome::AppendedInPart => {
            AppendEntriesResponse::PartialSuccess(answer.up_to.as_ref().map(position_of))
        }
        RaftAppendOutcome::Conflict => AppendEntriesResponse::Conflict,
        RaftAppendOutcome::HigherBallot => {
            let ballot = answer.ballot.ok_or(Nonsense("HigherBallot without a ballot"))?;
            AppendEntriesResponse::HigherVote(ballot_of(ballot))
        }
    })
}

impl RaftNetwork<RaftTypes> for MemberClient {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<RaftTypes>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Member>, RpcFault> {
        let payload = batches(&rpc.entries).map_err(|error| Unreachable::new(&error))?;
        let request = RaftAppendRequest {
            ballot: ballot_message(&rpc.vote),
            previous: rpc.prev_log_id.as_ref().map(position_message),
            settled: rpc.leader_commit.as_ref().map(position_message),
        };
        let patience = option.hard_ttl();
        let answer = self.ask(request, payload, patience).await;
        let answer = answer.map_err(|error| self.fault(&error, RPCTypes::AppendEntries, patience))?;
        appended(answer).map_err(|error| Unreachable::new(&error).into())
    }

    async fn vote(&mut self, rpc: VoteRequest<Member>, option: RPCOption) -> Result<VoteResponse<Member>, RpcFault> {
        let request =
            RaftVoteRequest { ballot: ballot_message(&rpc.vote), last: rpc.last_log_id.as_ref().map(position_message) };
        let patience = option.hard_ttl();
        let answer = self.ask(request, Vec::new(), patience).await;
        let answer = answer.map_err(|error| self.fault(&error, RPCTypes::Vote, patience))?;
        Ok(VoteResponse::new(ballot_of(answer.ballot), answer.last.as_ref().map(position_of), answer.granted))
    }

    async fn full_snapshot(
        &mut self,
        vote: Ballot,
        snapshot: Snapshot<RaftTypes>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Member>, StreamingError<RaftTypes, Fatal<Member>>> {
        tokio::select! {
            sent = self.send_snapshot(vote, snapshot) => sent,
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(PAUSE))
    }
}

impl MemberClient {
    async fn send_snapshot(
        &self,
        vote: Ballot,
        snapshot: Snapshot<RaftTypes>,
    ) -> Result<SnapshotResponse<Member>, StreamingError<RaftTypes, Fatal<Member>>> {
        let bytes = *snapshot.snapshot;
        let checksum = crc32c::crc32c(&bytes);
        let mut position = 0;
        loop {
            let piece = bytes.slice(position..bytes.len().min(position + PIECE_BYTES));
            let request = RaftSnapshotRequest {
                ballot: ballot_message(&vote),
                snapshot_id: snapshot.meta.snapshot_id.clone(),
                position: position as u64,
                total_bytes: bytes.len() as u64,
                checksum,
            };
            let answer = self.ask(request, vec![piece], PIECE_PATIENCE).await;
            let answer = answer.map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))?;
            let known = ballot_of(answer.ballot);
            if answer.arrived_bytes >= bytes.len() as u64 || known != vote {
                return Ok(SnapshotResponse::new(known));
            }
            position = answer.arrived_bytes as usize;
        }
    }
}
