//! Whether a member that says where it is runs elsewhere, too: a copy of a data folder has the identity of the original, and only one of
//! them may go on. Where it is known to be is dialled; a lease that has not ended wins. Knows nothing of who asks.

use std::io::ErrorKind;
use std::time::Duration;

use tidelog_protocol::{ErrorCode, WireError};
use tokio::net::TcpStream;
use tracing::info;

use super::consensus::Quorum;
use super::raft_types::{Address, Member};
use super::whereabouts::registration;
use crate::peer::{PeerError, Peers};

/// How long whoever is dialled may take.
const DIAL_PATIENCE: Duration = Duration::from_secs(1);

/// Who is where a member was known to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum EarlierLife {
    /// Nobody, or somebody else, or it never was anywhere else.
    Gone,
    /// It does not answer, which proves nothing.
    Silent(Address),
    /// It answers.
    Lives(Address),
}

impl Quorum {
    /// Looks for another process with the identity of `member`, which says that it is at `address`. Where there is none at the place that
    /// was known, `address` is where the member is dialled from now on.
    pub(crate) async fn earlier_life(&self, member: Member, address: &Address, peers: &Peers) -> EarlierLife {
        let known = self.members().into_iter().find(|known| known.member == member);
        let Some(before) = known.map(|known| self.address_of(&known)).filter(|before| before != address) else {
            return EarlierLife::Gone;
        };
        let life = match tokio::time::timeout(DIAL_PATIENCE, peers.look_for(member, &before)).await {
            Ok(Ok(())) => return EarlierLife::Lives(before),
            // Somebody else answers.
            Ok(Err(PeerError::Refused(_))) => EarlierLife::Gone,
            Ok(Err(_)) if refuses(&before).await => EarlierLife::Gone,
            Ok(Err(_)) | Err(_) => EarlierLife::Silent(before),
        };
        if life == EarlierLife::Gone || !self.holds_lease(member) {
            info!(%member, %address, "a member has moved");
            self.shared.whereabouts.moved(&self.image().borrow(), member, address.clone());
        }
        life
    }

    /// Refuses a member that says that it is at `address` where another process of the same identity holds its lease.
    ///
    /// # Errors
    /// BrokerIdTaken.
    pub(crate) async fn check_only_life(
        &self,
        member: Member,
        address: &Address,
        peers: &Peers,
    ) -> Result<(), WireError> {
        let broker = member.broker;
        let sentence = match self.earlier_life(member, address, peers).await {
            EarlierLife::Lives(at) if self.holds_lease(member) => format!(
                "another process with the identity of this data folder serves at {at} as broker {broker}, so one of the two folders is a copy: stop this one, and start it with an empty data folder and a broker_id of its own"
            ),
            EarlierLife::Silent(at) if self.holds_lease(member) => format!(
                "broker {broker} was at {at} before, where it does not answer, but its lease has not ended: ask again"
            ),
            EarlierLife::Gone | EarlierLife::Silent(_) | EarlierLife::Lives(_) => return Ok(()),
        };
        Err(WireError { retry_after_ms: 500, ..WireError::new(ErrorCode::BrokerIdTaken, sentence) })
    }

    fn holds_lease(&self, member: Member) -> bool {
        registration(&self.image().borrow(), member).is_some_and(|known| !known.fenced)
    }
}

/// Whether the machine at an address says that nobody listens there.
async fn refuses(address: &Address) -> bool {
    let dialled = tokio::time::timeout(DIAL_PATIENCE, TcpStream::connect((address.host.as_str(), address.port))).await;
    matches!(dialled, Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused)
}
