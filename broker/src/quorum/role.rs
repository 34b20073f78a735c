//! Whether this broker runs the controller, told from what the consensus library reports: not before its image has everything that was settled
//! when it was elected. Knows nothing of who asks.

use openraft::{RaftMetrics, ServerState};
use tidelog_protocol::BrokerId;

use super::raft_types::{Address, Member};

/// What this broker is in the quorum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It runs the controller, and its image lacks nothing that was settled before it began to lead.
    Leader {
        /// Itself.
        broker: BrokerId,
        /// Its leadership.
        term: u64,
    },
    /// It follows.
    Follower {
        /// The broker that leads, if it is known.
        leader: Option<BrokerId>,
    },
}

/// A leadership of this broker, and the last entry that it found in its log.
#[derive(Clone, Copy)]
pub(super) struct Leading {
    term: u64,
    found: Option<u64>,
}

impl Leading {
    /// The leadership that the library reports now, where there is one.
    pub(super) fn seen(before: Option<Self>, metrics: &RaftMetrics<Member, Address>) -> Option<Self> {
        if metrics.state != ServerState::Leader {
            return None;
        }
        let term = metrics.current_term;
        before.filter(|leading| leading.term == term).or(Some(Self { term, found: metrics.last_log_index }))
    }
}

/// The member that leads, if one is known; nobody where it `misses` whom it followed, or leads and keeps silent.
pub(super) fn leader_of(metrics: &RaftMetrics<Member, Address>, misses: bool) -> Option<Member> {
    metrics.current_leader.filter(|_| !misses)
}

/// The role that follows.
pub(super) fn role_of(leading: Option<Leading>, metrics: &RaftMetrics<Member, Address>, misses: bool) -> Role {
    let applied = metrics.last_applied.map(|last| last.index);
    match leading {
        // Until everything that it found is applied, it cannot tell what holds.
        Some(Leading { term, found }) if applied >= found && metrics.running_state.is_ok() && !misses => {
            Role::Leader { broker: metrics.id.broker, term }
        }
        _ => {
            let leader = leader_of(metrics, misses).filter(|_| leading.is_none());
            Role::Follower { leader: leader.map(|leader| leader.broker) }
        }
    }
}
