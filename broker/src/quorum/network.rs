//! How the consensus library reaches the other members: each call is one request over the peer's consensus link. Knows nothing of
//! what it says to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::error::{Fatal, RPCError, RaftError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{RPCTypes, RaftNetwork, RaftNetworkFactory, Snapshot};
use parking_lot::Mutex;
use tidelog_coordination::ClusterImage;
use tidelog_protocol::api::Request;
use tidelog_protocol::messages::{
    RaftAppendOutcome, RaftAppendRequest, RaftAppendResponse, RaftSnapshotRequest, RaftVoteRequest,
};
use tidelog_protocol::{BrokerId, ErrorCode};
use tokio::sync::watch;
use tracing::{error, warn};

use super::attendance::{Attendance, Lacking};
use super::canvass::Word;
use super::entry_batch::{self, EntryError};
use super::raft_types::{
    Address, Ballot, Member, NOBODYS_TERM, Position, RaftEntry, RaftTypes, ballot_message, ballot_of, position_message,
    position_of,
};
use super::whereabouts::Whereabouts;
use crate::peer::{Lane, PeerError, Peers};

/// Bytes of a snapshot sent at once.
const PIECE_BYTES: usize = 1 << 20;
/// How long one piece may take.
const PIECE_PATIENCE: Duration = Duration::from_secs(10);
/// How often it is told that somebody else is where a member should be.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Pause before a member that cannot be reached is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// Reaches the other members.
#[derive(Clone, Debug)]
pub(super) struct PeerNetwork {
    peers: Peers,
    /// A broker that moved tells so in its registration, which is newer than what the membership says.
    image: watch::Receiver<Arc<ClusterImage>>,
    whereabouts: Whereabouts,
    attendance: Attendance,
    /// When it was told last that somebody else is where a member should be.
    told: Arc<Mutex<BTreeMap<BrokerId, Instant>>>,
}

impl PeerNetwork {
    /// Over links to other brokers. Who takes what is sent is noted in `attendance`.
    pub(super) fn new(
        peers: Peers,
        image: watch::Receiver<Arc<ClusterImage>>,
        whereabouts: Whereabouts,
        attendance: Attendance,
    ) -> Self {
        Self { peers, image, whereabouts, attendance, told: Arc::default() }
    }
}

impl PeerNetwork {
    /// The way to one member.
    pub(super) fn client(&self, to: Member, address: &Address) -> MemberClient {
        MemberClient { network: self.clone(), to, address: address.clone() }
    }

    /// It looks like a broker that is down, and is none.
    fn tell_of_stranger(&self, broker: BrokerId, address: &Address, why: &str) {
        let mut told = self.told.lock();
        if told.get(&broker).is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            told.insert(broker, Instant::now());
            warn!(%broker, %address, why, "somebody else answers where a member of the metadata quorum should be; where it was started with an empty data folder and without --join, it has founded a cluster of its own: stop it, empty its folder, and start it with --join");
        }
    }
}

impl RaftNetworkFactory<RaftTypes> for PeerNetwork {
    type Network = MemberClient;

    async fn new_client(&mut self, to: Member, address: &Address) -> MemberClient {
        self.client(to, address)
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

/// It lacks entries that it had confirmed: what it votes and confirms from now on would be worth nothing.
#[derive(Debug, thiserror::Error)]
#[error("it lacks metadata that it had confirmed: it runs on an old copy of its data folder")]
struct OldCopy;

impl MemberClient {
    async fn ask<R: Request>(
        &self,
        request: R,
        payload: Vec<Bytes>,
        patience: Duration,
    ) -> Result<R::Response, PeerError> {
        let address = self.network.whereabouts.of(&self.network.image.borrow(), self.to, &self.address);
        let link = self.network.peers.link(self.to, &address, Lane::Consensus);
        let answer = link.request(request, payload, patience).await;
        if let Err(PeerError::Refused(refusal)) = &answer
            && refusal.code == ErrorCode::WrongPeer
        {
            self.network.tell_of_stranger(self.to.broker, &address, &refusal.message);
        }
        Ok(answer?.0)
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
        let (patience, sent) = (option.hard_ttl(), Instant::now());
        let term = rpc.vote.leader_id.term;
        let previous = rpc.prev_log_id.map(|last| last.index);
        let last = rpc.entries.last().map(|entry| entry.log_id.index).or(previous);
        let answer = self.ask(request, payload, patience).await;
        let answer = answer.map_err(|error| self.fault(&error, RPCTypes::AppendEntries, patience))?;
        let cannot_reach = answer.cannot_reach_leader;
        let answer = appended(answer).map_err(|error| Unreachable::new(&error))?;
        match &answer {
            AppendEntriesResponse::Success => self.took(sent, term, last),
            AppendEntriesResponse::PartialSuccess(up_to) => self.took(sent, term, up_to.map(|last| last.index)),
            AppendEntriesResponse::Conflict => self.lacks(term, previous),
            AppendEntriesResponse::HigherVote(_) => {}
        }
        self.network.attendance.says(self.to, cannot_reach);
        if self.network.attendance.has_lost(self.to) {
            return Err(Unreachable::new(&OldCopy).into());
        }
        Ok(answer)
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
    /// Asks whether it would vote for `member`, whose log ends with `last`.
    pub(super) async fn word(self, member: Member, last: Option<Position>, patience: Duration) -> Option<Word> {
        let ballot = ballot_message(&Ballot::new(NOBODYS_TERM, member));
        let request = RaftVoteRequest { ballot, last: last.as_ref().map(position_message) };
        let answer = self.ask(request, Vec::new(), patience).await.ok()?;
        Some(Word { hears_leader: answer.hears_leader, last: answer.last.as_ref().map(position_of) })
    }

    fn took(&self, sent: Instant, term: u64, up_to: Option<u64>) {
        self.network.attendance.took(self.to, sent, (term, up_to.unwrap_or(0)));
    }

    fn lacks(&self, term: u64, at: Option<u64>) {
        let Some(at) = at else { return };
        let broker = self.to.broker;
        if self.network.attendance.lacks(self.to, term, at) == Lacking::Since {
            error!(%broker, entry = at, "a broker lacks metadata that it had confirmed, so it runs on an old copy of its data folder and counts no more: put its newest folder back; where that is gone, start it with an empty one and --join; if it voted, `tidelog cluster promote {broker}` gives it its vote again");
        }
    }

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
