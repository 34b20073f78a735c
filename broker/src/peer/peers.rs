//! The links of this broker: one to each other broker for each kind of traffic, so that none waits behind another. Knows nothing of
//! what is asked over them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::dialling::{Expected, PeerIdentity, dial};
use super::link::{Link, PeerError};
use crate::member::{Address, Member};

/// A kind of traffic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lane {
    /// Votes and entries of the metadata quorum: small, and late is never.
    Consensus,
    /// Whatever else brokers ask each other.
    Requests,
}

/// All links; clones share them. They end with the last clone.
#[derive(Clone, Debug)]
pub struct Peers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    identity: PeerIdentity,
    links: Mutex<HashMap<(Member, Lane), (Address, Link)>>,
}

impl Peers {
    /// Of the broker `identity`.
    #[must_use]
    pub fn new(identity: PeerIdentity) -> Self {
        Self { shared: Arc::new(Shared { identity, links: Mutex::default() }) }
    }

    /// Who this broker says that it is.
    #[must_use]
    pub fn identity(&self) -> PeerIdentity {
        self.shared.identity
    }

    /// The link to a broker, which can be dialled at `address`. Must be called within a tokio runtime.
    #[must_use]
    pub fn link(&self, to: Member, address: &Address, lane: Lane) -> Link {
        let mut links = self.shared.links.lock();
        match links.get(&(to, lane)) {
            Some((at, link)) if at == address && link.is_open() => link.clone(),
            // It moved; what waits on the old link is answered as it ends.
            _ => {
                let link = Link::start(address.clone(), self.shared.identity, Expected::Member(to));
                links.insert((to, lane), (address.clone(), link.clone()));
                link
            }
        }
    }

    /// Dials a broker and says no more: is it there, and is it who it should be?
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn look_for(&self, member: Member, address: &Address) -> Result<(), PeerError> {
        dial(address, Some(self.shared.identity), Expected::Member(member)).await.map(drop)
    }

    /// Ends the links to members that `belongs` does not know any more.
    pub fn keep(&self, belongs: impl Fn(&Member) -> bool) {
        self.shared.links.lock().retain(|(member, _), _| belongs(member));
    }
}
