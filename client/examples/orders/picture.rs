//! How many sagas stand where, as their events tell. Knows nothing of what they are about.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidelog_client::event_store::{EventStore, Projection, ProjectionError, StoredEvent};
use tidelog_client::{Offset, PartitionId};

use super::demo::Failure;

/// What is counted.
#[derive(Clone, Default)]
pub struct Picture(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    positions: std::collections::BTreeMap<PartitionId, Offset>,
    started: u64,
    failures: u64,
    interrupted: u64,
    done: u64,
    compensated: u64,
}

/// The columns of [`Picture::numbers`], the second of which is what is under way.
pub const COLUMNS: [&str; 6] = ["orders", "under way", "shipped", "undone", "failures", "taken up"];

impl Picture {
    pub fn numbers(&self) -> [u64; 6] {
        let counts = self.0.lock();
        let ended = counts.done + counts.compensated;
        let under_way = counts.started.saturating_sub(ended);
        [counts.started, under_way, counts.done, counts.compensated, counts.failures, counts.interrupted]
    }

    /// Follows the events for as long as this is waited for.
    pub async fn follow(mut self, store: EventStore) -> Failure {
        loop {
            let name = format!("{}-picture", store.topic());
            match store.projection(name).run(&mut self).await {
                // Where the brokers were away it goes on with what it knows.
                Err(ProjectionError::Store(error)) if error.is_retriable() => {}
                Err(error) => return error.to_string().into(),
                Ok(never) => match never {},
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Projection for Picture {
    type Error = String;

    async fn position(&mut self, partition: PartitionId) -> Result<Offset, String> {
        Ok(self.0.lock().positions.get(&partition).copied().unwrap_or_default())
    }

    async fn apply(&mut self, partition: PartitionId, events: Vec<StoredEvent>, next: Offset) -> Result<(), String> {
        let mut counts = self.0.lock();
        for event in events {
            match event.kind.as_str() {
                "saga-started" => counts.started += 1,
                "saga-attempt-failed" => counts.failures += 1,
                "saga-attempt-interrupted" => counts.interrupted += 1,
                "saga-done" => counts.done += 1,
                "saga-compensated" => counts.compensated += 1,
                _ => {}
            }
        }
        counts.positions.insert(partition, next);
        Ok(())
    }
}
