//! Waits until brokers serve, and lets as many vote as make sense. Asks over their ordinary port, as any broker would, and believes only
//! who proves to be of the seat's folder: another cluster's broker may have the port. Knows nothing of processes.

use std::time::{Duration, Instant};

use tidelog_log::{OsDisk, format_of};
use tidelog_protocol::api::Request;
use tidelog_protocol::messages::{
    ChangeVotersRequest, DescribeClusterRequest, HelloResponse, MetadataRequest, PingRequest, VoterChange,
};
use tidelog_protocol::{BrokerId, ErrorCode, WireError};

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
    answers(seat, &PingRequest {}).await;
}

/// Waits until a broker serves clients.
pub(super) async fn serves(seat: &Seat) {
    let request = MetadataRequest { topics: Some(Vec::new()) };
    answers(seat, &request).await;
}

async fn answers<R: Request>(seat: &Seat, request: &R) {
    loop {
        if let Ok((hello, _)) = dial_once(&seat.address, None, request, PATIENCE).await
            && sits_there(seat, &hello)
        {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether who says hello runs on the seat's folder: no other has its cluster and this life of it. Looks at the folder.
fn sits_there(seat: &Seat, hello: &HelloResponse) -> bool {
    let format = format_of(&*OsDisk::shared(), &seat.data);
    let is_its = format.is_some_and(|own| (own.cluster, own.incarnation) == (hello.cluster_id, hello.incarnation));
    is_its && hello.broker_id == BrokerId(seat.broker)
}

/// Waits until they have a controller, and lets the first of them vote, an odd number: an even one survives no more.
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
    if described.controller.is_none() {
        let sentence = "no broker runs the controller: a majority of the metadata quorum is missing";
        return Err(PeerError::Refused(WireError::new(ErrorCode::NoQuorum, sentence)));
    }
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tidelog_log::{DataDir, Format};
    use tidelog_protocol::IncarnationId;

    use super::*;
    use crate::config::{Config, PathText};
    use crate::dev_cluster::seats;

    fn made(folder: &Path) -> Format {
        DataDir::open(OsDisk::shared(), folder, None).unwrap().format()
    }

    #[test]
    fn only_who_runs_on_a_seats_folder_is_taken_for_its_broker() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { data: PathText(folder.path().into()), ..Config::default() };
        let seats = seats::assign(&config, 2).unwrap();
        let foreign = made(&folder.path().join("another"));
        let hello = |format: Format, broker| HelloResponse {
            cluster_id: format.cluster,
            broker_id: BrokerId(broker),
            software: String::new(),
            frame_bytes_max: 0,
            batch_bytes_max: 0,
            requests_in_flight_max: 0,
            apis: Vec::new(),
            incarnation: format.incarnation,
        };
        assert!(!sits_there(&seats[0], &hello(foreign, 1)), "it has no folder yet: whoever answers is another");
        let own = made(&seats[0].data);
        assert!(sits_there(&seats[0], &hello(own, 1)));
        assert!(!sits_there(&seats[0], &hello(foreign, 1)), "another cluster's");
        assert!(!sits_there(&seats[0], &hello(own, 2)), "another broker");
        let before = Format { incarnation: IncarnationId([0; 16]), ..own };
        assert!(!sits_there(&seats[0], &hello(before, 1)), "an earlier life of the folder");
        assert!(!sits_there(&seats[1], &hello(own, 2)), "the folder is another's");
    }
}
