//! How a broker becomes part of a cluster that is there: learns its id, is taken into the metadata quorum, registers. Knows nothing of
//! what it will hold.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_protocol::messages::{
    BrokerDescription, DescribeClusterRequest, JoinClusterRequest, PingRequest, RegisterBrokerRequest,
};
use tidelog_protocol::{BrokerEpoch, ClusterId, ErrorCode, WireError};
use tracing::{info, warn};

use crate::change;
use crate::config::Config;
use crate::member::Address;
use crate::node::Node;
use crate::peer::{PeerError, dial_once};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Pause before a question is asked again.
const PAUSE: Duration = Duration::from_millis(200);
/// How often the log tells that a question is asked again; who reads it knows by the first.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How long a broker of the cluster is looked for.
const SEARCH: Duration = Duration::from_secs(60);

/// How long an earlier life of the data folder may take to lose its lease.
const TAKEN: Duration = Duration::from_secs(10);

/// Why a broker does not become part of a cluster.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JoinError {
    /// Nobody is there.
    #[error("cannot join the cluster at {contact}: {error}; set join to a broker of the cluster that is running")]
    Unreachable {
        /// Who was asked.
        contact: Address,
        /// Why there is no answer.
        error: PeerError,
    },
    /// The address is this broker's own.
    #[error(
        "{contact} is this broker itself, whose data folder is new: set join to a broker of the cluster that is running, or leave it out to found a cluster"
    )]
    Itself {
        /// Who was to be asked.
        contact: Address,
    },
    /// It does not take this broker.
    #[error("the cluster at {contact} does not take this broker: {error}")]
    Refused {
        /// Who was asked.
        contact: Address,
        /// What it said.
        error: WireError,
    },
    /// Others could not dial it.
    #[error("other brokers cannot dial {address}: set advertise to the HOST:PORT at which they reach this one")]
    Advertise {
        /// What it would tell them.
        address: Address,
    },
}

/// Whom the settings name.
pub(crate) fn contact(config: &Config) -> Option<Address> {
    config.join.0.clone().map(|(host, port)| Address { host, port })
}

/// Whether a broker that listens at `address` would ask itself at `contact`. What it tells others to dial says nothing of that: it may be wrong.
pub(crate) fn is_itself(contact: &Address, address: SocketAddr) -> bool {
    let is_here = |ip: IpAddr| ip == address.ip() || (address.ip().is_unspecified() && ip.is_loopback());
    let is_host = match contact.host.parse::<IpAddr>() {
        Ok(ip) => is_here(ip),
        Err(_) => contact.host.eq_ignore_ascii_case("localhost") && is_here(Ipv4Addr::LOCALHOST.into()),
    };
    contact.port == address.port() && is_host
}

/// The cluster that a broker at `contact` belongs to, if it answers now.
///
/// # Errors
/// [`PeerError`].
pub(crate) async fn cluster_at(contact: &Address) -> Result<ClusterId, PeerError> {
    Ok(dial_once(contact, None, &PingRequest {}, PATIENCE).await?.0.cluster_id)
}

/// The cluster that a broker at `contact` belongs to, as soon as it answers.
///
/// # Errors
/// [`JoinError::Unreachable`] where nobody has answered for a minute.
pub(crate) async fn find_cluster(contact: &Address) -> Result<ClusterId, JoinError> {
    as_soon_as_answered(contact, async || cluster_at(contact).await).await
}

/// The brokers of the cluster that a broker at `contact` belongs to, those that are away included, as soon as it answers.
///
/// # Errors
/// [`JoinError::Unreachable`] where nobody has answered for a minute.
pub(crate) async fn brokers_at(contact: &Address) -> Result<Vec<BrokerDescription>, JoinError> {
    as_soon_as_answered(contact, async || {
        let (_, cluster) = dial_once(contact, None, &DescribeClusterRequest {}, PATIENCE).await?;
        Ok(cluster.brokers)
    })
    .await
}

/// What a broker at `contact` is asked, again and again for a minute.
async fn as_soon_as_answered<T>(
    contact: &Address,
    ask: impl AsyncFn() -> Result<T, PeerError>,
) -> Result<T, JoinError> {
    let give_up_at = Instant::now() + SEARCH;
    let mut told = Told::default();
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error @ PeerError::Refused(_)) if is_stranger(&error) => {
                return Err(JoinError::Unreachable { contact: contact.clone(), error });
            }
            Err(PeerError::Refused(error)) => return Err(JoinError::Refused { contact: contact.clone(), error }),
            Err(error) if Instant::now() >= give_up_at => {
                return Err(JoinError::Unreachable { contact: contact.clone(), error });
            }
            Err(error) => {
                told.now_and_then(|| warn!(%contact, %error, "the cluster does not answer yet; asking again"));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Is taken into the metadata quorum by asking at `contact`, unless this broker belongs to it already.
///
/// # Errors
/// [`JoinError`].
pub(crate) async fn be_taken_in(node: &Arc<Node>, contact: &Address, address: &Address) -> Result<(), JoinError> {
    let quorum = node.controllers.quorum();
    let member = quorum.member();
    let is_member = || quorum.members().iter().any(|known| known.member == member);
    if is_member() {
        return Ok(());
    }
    if address.host == "0.0.0.0" || address.host == "::" {
        return Err(JoinError::Advertise { address: address.clone() });
    }
    let request = JoinClusterRequest {
        cluster_id: node.cluster_id,
        broker_id: member.broker,
        incarnation: member.incarnation,
        host: address.host.clone(),
        port: address.port,
    };
    let give_up_at = Instant::now() + SEARCH;
    let mut told = Told::default();
    loop {
        let error = match dial_once(contact, None, &request, PATIENCE).await {
            Ok(_) => break,
            Err(PeerError::Refused(error)) if is_final(&error) => {
                return Err(JoinError::Refused { contact: contact.clone(), error });
            }
            Err(error) => error,
        };
        // The answer may have been lost after it was done.
        if is_member() {
            break;
        }
        if Instant::now() >= give_up_at {
            return Err(JoinError::Unreachable { contact: contact.clone(), error });
        }
        told.now_and_then(|| warn!(%contact, %error, "not taken into the cluster yet; asking again"));
        tokio::time::sleep(PAUSE).await;
    }
    info!(%member, %contact, "taken into the cluster");
    Ok(())
}

/// When the log was told last that something is asked again.
#[derive(Default)]
struct Told {
    at: Option<Instant>,
}

impl Told {
    fn now_and_then(&mut self, tell: impl FnOnce()) {
        if self.at.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            self.at = Some(Instant::now());
            tell();
        }
    }
}

/// Somebody is there who is no broker, and will not become one.
fn is_stranger(error: &PeerError) -> bool {
    matches!(error, PeerError::Refused(error) if error.code == ErrorCode::WrongPeer)
}

fn is_final(error: &WireError) -> bool {
    error.code == ErrorCode::BrokerIdTaken || !error.code.is_retriable()
}

/// Registers with the controller, wherever it runs, and waits until the metadata here is as new as the registration. Waits for a
/// majority of the quorum for as long as it takes.
///
/// # Errors
/// What the controller says.
pub(crate) async fn register(node: &Arc<Node>, address: &Address) -> Result<BrokerEpoch, WireError> {
    let member = node.member;
    let began = Instant::now();
    let mut told = Told::default();
    let mut older_than = None;
    loop {
        let request = RegisterBrokerRequest {
            cluster_id: node.cluster_id,
            broker_id: member.broker,
            incarnation: member.incarnation,
            host: address.host.clone(),
            port: address.port,
            rack: Some(node.config.rack.clone()).filter(|rack| !rack.is_empty()),
            closed_cleanly: node.closed_cleanly,
            stamps: node.stamps.known(),
            older_than,
        };
        match change::settle(node, request, Instant::now() + PATIENCE).await {
            Ok((registered, as_of)) => {
                if registered.older_than.is_some() {
                    warn!(
                        "this data folder is an older copy of what this broker had: it is in sync with nothing until the others have filled it"
                    );
                    older_than = registered.older_than;
                    continue;
                }
                let mut images = node.controllers.images();
                // The sender lives as long as the quorum.
                let _ = images.wait_for(|image| image.as_of() >= as_of).await;
                return Ok(registered.broker_epoch);
            }
            Err(error) if matches!(error.code, ErrorCode::NoQuorum | ErrorCode::DeadlineExceeded) => {
                told.now_and_then(
                    || warn!(%error, "this broker cannot register yet; it serves no clients until it can"),
                );
            }
            // Another life of the folder has not been silent for long enough yet, where it is none that lives on.
            Err(error) if error.code == ErrorCode::BrokerIdTaken && began.elapsed() < TAKEN => {
                told.now_and_then(|| warn!(%error, "this broker cannot register yet"));
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_knows_its_own_address_by_each_of_its_names() {
        let address = |text: &str| {
            let (host, port) = text.rsplit_once(':').expect("HOST:PORT");
            Address { host: host.into(), port: port.parse().expect("a port") }
        };
        for (contact, listens, itself) in [
            ("10.0.0.1:9092", "10.0.0.1:9092", true),
            ("10.0.0.2:9092", "10.0.0.1:9092", false),
            ("10.0.0.1:9093", "10.0.0.1:9092", false),
            ("127.0.0.1:9092", "0.0.0.0:9092", true),
            ("LocalHost:9092", "0.0.0.0:9092", true),
            ("localhost:9092", "10.0.0.1:9092", false),
            ("broker-2.example:9092", "0.0.0.0:9092", false),
        ] {
            let listens = listens.parse().expect("an address");
            assert_eq!(is_itself(&address(contact), listens), itself, "{contact} of {listens}");
        }
    }
}
