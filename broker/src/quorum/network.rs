//! How the consensus library reaches the other members. Knows nothing of what it says to them.

use openraft::error::{Fatal, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{RaftNetwork, RaftNetworkFactory, Snapshot};

use super::raft_types::{Address, Ballot, Member, RaftTypes};

/// Reaches nobody: for a quorum of one.
#[derive(Clone, Copy, Debug)]
pub struct NoPeers;

/// Nobody is there.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("this broker is alone")]
struct Alone;

type RpcFault = RPCError<Member, Address, RaftError<Member>>;

impl RaftNetworkFactory<RaftTypes> for NoPeers {
    type Network = Self;

    async fn new_client(&mut self, _: Member, _: &Address) -> Self {
        Self
    }
}

impl RaftNetwork<RaftTypes> for NoPeers {
    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<RaftTypes>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Member>, RpcFault> {
        Err(Unreachable::new(&Alone).into())
    }

    async fn vote(&mut self, _: VoteRequest<Member>, _: RPCOption) -> Result<VoteResponse<Member>, RpcFault> {
        Err(Unreachable::new(&Alone).into())
    }

    async fn full_snapshot(
        &mut self,
        _: Ballot,
        _: Snapshot<RaftTypes>,
        _: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Member>, StreamingError<RaftTypes, Fatal<Member>>> {
        Err(Unreachable::new(&Alone).into())
    }
}
