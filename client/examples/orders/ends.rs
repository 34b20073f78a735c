//! How each order ended: as the sagas say, or the order service. And that all is told of it. Knows nothing of what the databases of the services hold.

use std::path::Path;
use std::time::{Duration, Instant};

use tidelog_client::saga::{Listing, Phase, SagaError, SagaInput, Sagas};

use super::books::Books;
use super::demo::Failure;
use super::demo::cast::Actor;
use super::ledger;
use super::order::Order;
use super::services::SERVICES;
use super::told::Tally;

/// How long everything may take to come to rest.
const REST: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(500);
/// For how long nothing may be told, or begun, before it is over: longer than the partitions of a service that was killed wait for it, and than an
/// order that the clerk left on its way waits for the next leader.
const SILENCE: Duration = Duration::from_secs(4);

/// An order, and how it ended.
#[derive(Debug)]
pub struct Ended {
    pub id: String,
    pub order: Order,
    pub end: End,
}

/// How.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    Shipped,
    Undone,
    /// It did not: how it stands.
    Never(String),
}

/// Waits until every saga has ended and no more begin; those that are parked are tried again, as an operator would.
pub async fn of_sagas(sagas: &Sagas, cast: &mut [Actor]) -> Result<Vec<Ended>, Failure> {
    let began = Instant::now();
    let (mut known, mut since) = (0, began);
    loop {
        let all = match sagas.list(|_| true).await {
            Ok(all) => all,
            Err(error) if error.is_retriable() && began.elapsed() < REST => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if all.len() != known {
            (known, since) = (all.len(), Instant::now());
        }
        let is_over = since.elapsed() > SILENCE && all.iter().all(|listing| listing.saga.phase.is_end());
        if is_over || began.elapsed() > REST {
            return all.iter().map(ended).collect();
        }
        for Listing { id, .. } in all.iter().filter(|listing| listing.saga.parked.is_some()) {
            match sagas.retry(id).await {
                Ok(()) | Err(SagaError::Refused { .. }) => {}
                Err(error) if error.is_retriable() => {}
                Err(error) => return Err(error.into()),
            }
        }
        cast.iter_mut().try_for_each(Actor::check)?;
        tokio::time::sleep(PAUSE).await;
    }
}

fn ended(Listing { id, saga }: &Listing) -> Result<Ended, Failure> {
    let end = match saga.phase {
        Phase::Done => End::Shipped,
        Phase::Compensated => End::Undone,
        phase => End::Never(format!("{phase:?}, parked: {:?}", saga.parked)),
    };
    Ok(Ended { id: id.clone(), order: Order::decode(&saga.input)?, end })
}

/// Waits until the order service knows of every order how it ended, and nothing more is told.
pub async fn of_ledger(books: &Books, tally: &Tally, cast: &mut [Actor]) -> Result<Vec<Ended>, Failure> {
    let began = Instant::now();
    let (mut told, mut since) = (0, began);
    loop {
        let all = ledger::read(&books.pool).await?;
        let now: u64 = SERVICES.iter().map(|service| tally.total(service).events()).sum();
        if now != told {
            (told, since) = (now, Instant::now());
        }
        let is_over = since.elapsed() > SILENCE && !all.iter().any(|ended| matches!(ended.end, End::Never(_)));
        if is_over || began.elapsed() > REST {
            return Ok(all);
        }
        cast.iter_mut().try_for_each(Actor::check)?;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until all is published that the services have staged; false where that takes too long.
pub async fn published(folder: &Path) -> Result<bool, Failure> {
    let began = Instant::now();
    for service in &SERVICES {
        let books = Books::open(folder, service).await?;
        while books.backlog().await?.rows > 0 {
            if began.elapsed() > REST {
                return Ok(false);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(true)
}
