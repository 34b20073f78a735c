//! The transaction that all lanes of a dispatch belong to: under which name and identity, and whether a record of it has failed. Its records are
//! taken before it has an identity, while the transaction before is being committed. Knows nothing of how a transaction ends.

use std::sync::{Arc, OnceLock};

use tidelog_protocol::messages::ProducerIdentity;
use tidelog_protocol::{ErrorCode, ProtocolVersion, WireError};
use tokio::sync::watch;

use super::SendError;
use super::lane::Who;
use crate::ClientError;
use crate::net::Connection;

/// The protocol version from which brokers know of transactions.
const KNOWN_SINCE: ProtocolVersion = ProtocolVersion(4);

/// A transaction as its lanes know it.
#[derive(Debug)]
pub(crate) struct Scope {
    id: Arc<str>,
    who: Whose,
    failure: OnceLock<SendError>,
}

/// Who has it.
#[derive(Debug)]
enum Whose {
    Known(Who),
    /// Nobody yet; nobody ever where the sender goes away before.
    Told(watch::Receiver<Option<ProducerIdentity>>),
}

impl Scope {
    /// The transaction of this producer, which has no other under this identity.
    pub(crate) fn new(id: Arc<str>, identity: &ProducerIdentity) -> Self {
        Self { id, who: Whose::Known(of(identity)), failure: OnceLock::new() }
    }

    /// The transaction after one that is being committed: nothing of it leaves before its identity is told, and nothing at all where the sender
    /// goes away before.
    pub(crate) const fn following(id: Arc<str>, told: watch::Receiver<Option<ProducerIdentity>>) -> Self {
        Self { id, who: Whose::Told(told), failure: OnceLock::new() }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Its identity, where that is known from the start.
    pub(super) const fn who(&self) -> Option<Who> {
        match &self.who {
            Whose::Known(who) => Some(*who),
            Whose::Told(_) => None,
        }
    }

    /// Its identity, once it has one.
    ///
    /// # Errors
    /// It will have none, as the one before does not hold.
    pub(super) async fn identity(&self) -> Result<Who, ClientError> {
        let mut told = match &self.who {
            Whose::Known(who) => return Ok(*who),
            Whose::Told(told) => told.clone(),
        };
        match told.wait_for(Option::is_some).await.ok().as_deref() {
            Some(Some(identity)) => Ok(of(identity)),
            Some(None) | None => {
                let sentence = "the transaction before, which was being committed, is not known to hold: nothing of this one was written";
                Err(WireError::new(ErrorCode::InvalidTransactionState, sentence).into())
            }
        }
    }

    /// A record of it was not written, or may not have been; the first failure is the one that counts.
    pub(super) fn fail(&self, failure: &SendError) {
        let _ = self.failure.set(failure.clone());
    }

    pub(super) fn failure(&self) -> Option<&SendError> {
        self.failure.get()
    }

    /// A leader that does not know of transactions would take the records for anybody's.
    pub(super) fn check(&self, connection: &Connection) -> Result<(), ClientError> {
        if connection.version() >= KNOWN_SINCE {
            return Ok(());
        }
        let reason = format!("its release knows no transactions (protocol {} of {KNOWN_SINCE})", connection.version());
        Err(ClientError::Incompatible { address: connection.address().clone(), reason })
    }
}

const fn of(identity: &ProducerIdentity) -> Who {
    Who { id: identity.producer_id, epoch: identity.epoch }
}
