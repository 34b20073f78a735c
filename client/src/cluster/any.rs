//! A connection to whichever broker answers: the likeliest is dialled first, the next one besides where that takes long, and so on. So brokers that
//! hang, of which each takes connections and answers nothing, cost little time however many they are. Knows nothing of what is asked.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Cluster, OVERDUE, Purpose};
use crate::ClientError;
use crate::address::Address;
use crate::net::Connection;

/// Whoever has not answered for so long is not waited for alone.
const STAGGER: Duration = Duration::from_millis(250);

impl Cluster {
    /// A connection to any broker: those known, then those given at the start. The same one until it is of no help. While none is known,
    /// each setback turns to the next of those given.
    pub(crate) async fn any(&self) -> Result<Connection, ClientError> {
        let addresses = self.addresses();
        if let Some(first) = addresses.first().filter(|first| self.pool.is_connected(first, Purpose::Requests)) {
            return self.pool.connection(first, Purpose::Requests).await;
        }
        let (count, mut left) = (addresses.len(), addresses.into_iter().enumerate());
        let (mut dials, mut waiting) = (JoinSet::new(), Vec::new());
        let (mut next_at, mut last) = (Instant::now(), ClientError::Closed);
        loop {
            tokio::select! {
                biased;
                Some(dialled) = dials.join_next() => match dialled {
                    Ok((address, Ok(connection))) => {
                        waiting.retain(|(other, _)| *other != address);
                        self.overtaken(&waiting);
                        return Ok(connection);
                    }
                    Ok((address, Err(error))) => {
                        waiting.retain(|(other, _)| *other != address);
                        (last, next_at) = (error, Instant::now());
                    }
                    Err(_) => next_at = Instant::now(),
                },
                () = tokio::time::sleep_until(next_at), if left.len() > 0 => {
                    let Some((at, address)) = left.next() else { continue };
                    let (pool, dialled) = (Arc::clone(&self.pool), address.clone());
                    // The last of them has nobody behind it who could answer sooner.
                    let patience = (at + 1 < count).then_some(OVERDUE);
                    dials.spawn_on(async move { (dialled.clone(), dial(&pool, &dialled, patience).await) }, &self.runtime);
                    waiting.push((address, Instant::now()));
                    next_at = Instant::now() + STAGGER;
                }
                else => return Err(last),
            }
        }
    }

    /// These were dialled before another that has answered.
    fn overtaken(&self, waiting: &[(Address, Instant)]) {
        let hang = waiting.iter().filter(|(_, since)| since.elapsed() >= STAGGER);
        hang.for_each(|(address, _)| self.pool.shun(address));
    }
}

async fn dial(pool: &super::Pool, address: &Address, patience: Option<Duration>) -> Result<Connection, ClientError> {
    let dialled = pool.connection(address, Purpose::Requests);
    let Some(patience) = patience else { return dialled.await };
    tokio::time::timeout(patience, dialled).await.unwrap_or_else(|_| {
        pool.shun(address);
        let reason = format!("it does not answer within {patience:?}");
        Err(ClientError::Unreachable { address: address.clone(), reason })
    })
}
