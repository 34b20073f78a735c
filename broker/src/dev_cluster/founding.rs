//! Waits until brokers serve, and lets as many vote as make sense. Asks over their ordinary port, as any broker would; knows nothing of
//! processes.

use std::time::{Duration, Instant};

use tidelog_protocol::messages::{
    ChangeVotersRequest, DescribeClusterRequest, MetadataRequest, PingRequest, VoterChange,
};
use tidelog_protocol::{BrokerId, ErrorCode};

use super::seats::Seat;
use crate::peer::{PeerError, dial_once};
use crate::quorum::VOTERS_MAX;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Pause before a question is asked again.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a controller may not be found.
const SEARCH: Duration = Duration::from_secs(60);

/// Waits until a broker answers at all.
pub(super) async fn listens(seat: &Seat) {
    while dial_once(&seat.address, None, &PingRequest {}, PATIENCE).await.is_err() {
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until a broker serves clients.
pub(super) async fn serves(seat: &Seat) {
    let request = MetadataRequest { topics: Some(Vec::new()) };
    while dial_once(&seat.address, None, &request, PATIENCE).await.is_err() {
        tokio::time::sleep(PAUSE).await;
    }
}

/// Lets the first of them vote, an odd number: an even one survives no more.
///
/// # Errors
/// Where that does not come about within a minute.
pub(super) async fn promote(seats: &[Seat]) -> Result<(), PeerError> {
    let most = seats.len().min(VOTERS_MAX);
    let wanted = most - usize::from(most.is_multiple_of(2));
    let give_up_at = Instant::now() + SEARCH;
    loop {
        match promote_missing(seats, wanted).await {
            Ok(()) => return Ok(()),
            Err(error) if is_final(&error) || Instant::now() >= give_up_at => return Err(error),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn promote_missing(seats: &[Seat], wanted: usize) -> Result<(), PeerError> {
    let Some(first) = seats.first() else { return Ok(()) };
    let described = dial_once(&first.address, None, &DescribeClusterRequest {}, PATIENCE).await?.1;
    for seat in seats.iter().take(wanted) {
        let broker_id = BrokerId(seat.broker);
        // Somebody may have chosen other voters since.
        if described.voters.len() < wanted && !described.voters.contains(&broker_id) {
            let request = ChangeVotersRequest { broker_id, change: VoterChange::Promote };
            dial_once(&first.address, None, &request, PATIENCE).await?;
        }
    }
    Ok(())
}

/// Whether a broker votes, as far as anybody says.
pub(super) async fn votes(seats: &[Seat], broker: u32) -> Option<bool> {
    for seat in seats.iter().filter(|seat| seat.broker != broker) {
        let described = dial_once(&seat.address, None, &DescribeClusterRequest {}, PATIENCE).await;
        if let Ok((_, described)) = described {
            return Some(described.voters.contains(&BrokerId(broker)));
        }
    }
    None
}

/// Gives a broker that has come back its vote again, which it lost with its folder.
///
/// # Errors
/// Where that does not come about within a minute.
pub(super) async fn votes_again(seat: &Seat) -> Result<(), PeerError> {
    serves(seat).await;
    let request = ChangeVotersRequest { broker_id: BrokerId(seat.broker), change: VoterChange::Promote };
    let give_up_at = Instant::now() + SEARCH;
    loop {
        match dial_once(&seat.address, None, &request, PATIENCE).await {
            Ok(_) => return Ok(()),
            Err(error) if is_final(&error) || Instant::now() >= give_up_at => return Err(error),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

fn is_final(error: &PeerError) -> bool {
    matches!(error, PeerError::Refused(error) if !error.code.is_retriable() && error.code != ErrorCode::InvalidVoters)
}
