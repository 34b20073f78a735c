//! What other members of the quorum ask of this one. Knows nothing of sockets.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use openraft::Snapshot;
use openraft::error::{Fatal, RaftError};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};
use tidelog_coordination::confirmation::FAITHFUL_MS;
use tidelog_protocol::messages::{
    RaftAppendOutcome, RaftAppendRequest, RaftAppendResponse, RaftSnapshotRequest, RaftSnapshotResponse,
    RaftVoteRequest, RaftVoteResponse,
};
use tidelog_protocol::{ErrorCode, WireError};

use super::consensus::Quorum;
use super::entry_batch;
use super::raft_types::{Ballot, Member, NOBODYS_TERM, ballot_message, ballot_of, position_message, position_of};
use super::snapshot;
use crate::clock;

/// The largest snapshot that is taken, in bytes.
const SNAPSHOT_BYTES_MAX: u64 = 256 << 20;

/// A snapshot that is still arriving.
#[derive(Debug)]
pub(super) struct Arriving {
    from: Member,
    snapshot_id: String,
    bytes: BytesMut,
}

impl Quorum {
    /// Another member asks for a vote.
    ///
    /// # Errors
    /// Where it asks in another's name, or the quorum has stopped here.
    pub async fn vote(&self, from: Member, request: RaftVoteRequest) -> Result<RaftVoteResponse, WireError> {
        let ballot = ballot_of(request.ballot);
        check_sender(from, &ballot)?;
        if ballot.leader_id.term == NOBODYS_TERM {
            return self.word().await;
        }
        let may_vote = self.shared.confirmation.lock().may_vote(clock::monotonic());
        if !may_vote {
            return self.refuse_vote().await;
        }
        let request = VoteRequest::new(ballot, request.last.as_ref().map(position_of));
        let answer = self.shared.raft.vote(request).await.map_err(stopped)?;
        Ok(RaftVoteResponse {
            ballot: ballot_message(&answer.vote),
            granted: answer.vote_granted,
            last: answer.last_log_id.as_ref().map(position_message),
            hears_leader: false,
        })
    }

    /// What another is told that asks whether it would win. Changes nothing.
    async fn word(&self) -> Result<RaftVoteResponse, WireError> {
        let seen = self.shared.raft.with_raft_state(|state| (*state.vote_ref(), state.vote_last_modified())).await;
        let (vote, heard) = seen.map_err(|fatal| stopped::<openraft::error::Infallible>(RaftError::Fatal(fatal)))?;
        let last = self.shared.last_entry().await;
        let last = last.map_err(|_| WireError::new(ErrorCode::ShuttingDown, "the broker shuts down"))?;
        let hears_leader = match vote.leader_id.voted_for {
            Some(leader) if leader == self.member() => self.shared.confirmation.lock().is_certain(clock::monotonic()),
            _ => heard.is_some_and(|heard| heard.elapsed() <= Duration::from_millis(FAITHFUL_MS)),
        };
        Ok(RaftVoteResponse {
            ballot: ballot_message(&vote),
            granted: false,
            last: last.as_ref().map(position_message),
            hears_leader: vote.is_committed() && hears_leader,
        })
    }

    /// A leader that others confirmed just now is no more for sale than the votes of those who did: the leases it gives rest on that.
    async fn refuse_vote(&self) -> Result<RaftVoteResponse, WireError> {
        let vote = self.shared.raft.with_raft_state(|state| *state.vote_ref()).await;
        let vote = vote.map_err(|fatal| stopped::<openraft::error::Infallible>(RaftError::Fatal(fatal)))?;
        // What its log holds matters only to who may win.
        Ok(RaftVoteResponse { ballot: ballot_message(&vote), granted: false, last: None, hears_leader: true })
    }

    /// The leader sends entries, each a batch of `payload`.
    ///
    /// # Errors
    /// Where another sends them in its name, they do not parse, or the quorum has stopped here.
    pub async fn append(
        &self,
        from: Member,
        request: RaftAppendRequest,
        payload: &Bytes,
    ) -> Result<RaftAppendResponse, WireError> {
        let vote = ballot_of(request.ballot);
        check_sender(from, &vote)?;
        let entries = entry_batch::decode_all(payload)
            .map_err(|error| WireError::new(ErrorCode::Corrupt, format!("the entries do not parse: {error}")))?;
        let request = AppendEntriesRequest {
            vote,
            prev_log_id: request.previous.as_ref().map(position_of),
            entries,
            leader_commit: request.settled.as_ref().map(position_of),
        };
        let mut answer = RaftAppendResponse {
            outcome: RaftAppendOutcome::Appended,
            up_to: None,
            ballot: None,
            cannot_reach_leader: self.shared.reach.lock().is_lost(from, Instant::now()),
        };
        match self.shared.raft.append_entries(request).await.map_err(stopped)? {
            AppendEntriesResponse::Success => {}
            AppendEntriesResponse::PartialSuccess(up_to) => {
                answer.outcome = RaftAppendOutcome::AppendedInPart;
                answer.up_to = up_to.as_ref().map(position_message);
            }
            AppendEntriesResponse::Conflict => answer.outcome = RaftAppendOutcome::Conflict,
            AppendEntriesResponse::HigherVote(vote) => {
                answer.outcome = RaftAppendOutcome::HigherBallot;
                answer.ballot = Some(ballot_message(&vote));
            }
        }
        Ok(answer)
    }

    /// The leader sends a piece of a snapshot; the last piece installs it.
    ///
    /// # Errors
    /// Where another sends it in its name, it is too large or damaged, or the quorum has stopped here.
    pub async fn receive_snapshot(
        &self,
        from: Member,
        request: RaftSnapshotRequest,
        piece: &Bytes,
    ) -> Result<RaftSnapshotResponse, WireError> {
        let vote = ballot_of(request.ballot);
        check_sender(from, &vote)?;
        if request.total_bytes > SNAPSHOT_BYTES_MAX {
            let sentence =
                format!("a snapshot of {} bytes is over the limit of {SNAPSHOT_BYTES_MAX}", request.total_bytes);
            return Err(WireError::new(ErrorCode::TooLarge, sentence));
        }
        let mut arriving = self.shared.arriving.lock().await;
        if arriving.as_ref().is_none_or(|known| known.from != from || known.snapshot_id != request.snapshot_id) {
            *arriving = Some(Arriving { from, snapshot_id: request.snapshot_id.clone(), bytes: BytesMut::new() });
        }
        let known = arriving.as_mut().expect("it was just put there");
        // A piece that was sent again, or one after a gap: the answer says where to go on.
        if request.position == known.bytes.len() as u64 {
            known.bytes.extend_from_slice(piece);
        }
        let arrived_bytes = known.bytes.len() as u64;
        if arrived_bytes < request.total_bytes {
            return Ok(RaftSnapshotResponse { ballot: ballot_message(&vote), arrived_bytes });
        }
        let bytes = std::mem::take(&mut known.bytes).freeze();
        *arriving = None;
        let damaged = |why: String| WireError::new(ErrorCode::Corrupt, why);
        if crc32c::crc32c(&bytes) != request.checksum {
            return Err(damaged("the checksum of the snapshot does not match".into()));
        }
        let meta = snapshot::decode(&bytes).map_err(|error| damaged(error.to_string()))?.meta;
        let whole = Snapshot { meta, snapshot: Box::new(bytes) };
        let installed = self.shared.raft.install_full_snapshot(vote, whole).await;
        let answer = installed.map_err(|fatal| stopped::<openraft::error::Infallible>(RaftError::Fatal(fatal)))?;
        Ok(RaftSnapshotResponse { ballot: ballot_message(&answer.vote), arrived_bytes })
    }
}

/// Nobody votes or leads in another's name.
fn check_sender(from: Member, ballot: &Ballot) -> Result<(), WireError> {
    if ballot.leader_id.voted_for == Some(from) {
        return Ok(());
    }
    let sentence = format!("{from} speaks in the name of another member of the quorum");
    Err(WireError::new(ErrorCode::WrongPeer, sentence))
}

fn stopped<E: std::error::Error>(error: RaftError<Member, E>) -> WireError {
    match error {
        RaftError::Fatal(Fatal::Stopped) => WireError::new(ErrorCode::ShuttingDown, "the broker shuts down"),
        error => WireError::new(ErrorCode::OutOfService, format!("the metadata quorum has stopped here: {error}")),
    }
}
