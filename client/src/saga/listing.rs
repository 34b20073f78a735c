//! Lists sagas in bounded memory: by one pass over the events, in which those that have ended are dropped as soon as they are known not to be
//! listed. Knows nothing of how a list is shown.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use tidelog_protocol::PartitionId;
use tidelog_protocol::messages::Isolation;

use super::error::SagaError;
use super::events::SagaEvent;
use super::sagas::{Sagas, read};
use super::state::Saga;
use crate::Start;
use crate::event_store::{StoreError, StoredEvent};

/// Sagas of a partition whose course is followed at once. Those beyond are read again, one by one, once it is known where they stand.
const FOLLOWED: usize = 50_000;

/// A saga as it is listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listing {
    /// Its id.
    pub id: String,
    /// How it stands.
    pub saga: Saga,
}

/// Sagas, and how many more there are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listed {
    /// Those whose ids come first, by their ids.
    pub sagas: Vec<Listing>,
    /// How many others were wanted.
    pub left_out: u64,
}

impl Sagas {
    /// The sagas that `wanted` wants, by their ids. Reads all that was ever stored: for an operator, not for a program on its way. As many
    /// as there are take so much memory; [`Sagas::list_first`] bounds that.
    ///
    /// # Errors
    /// [`SagaError::NoSaga`]; those of reading.
    pub async fn list(&self, wanted: impl Fn(&Saga) -> bool + Send) -> Result<Vec<Listing>, SagaError> {
        Ok(self.list_first(usize::MAX, wanted).await?.sagas)
    }

    /// The first `limit` of the sagas that `wanted` wants, by their ids, and how many more there are. Reads all that was ever stored, and keeps
    /// of it no more than those and some ten thousand at a time.
    ///
    /// # Errors
    /// As [`Sagas::list`].
    pub async fn list_first(&self, limit: usize, wanted: impl Fn(&Saga) -> bool + Send) -> Result<Listed, SagaError> {
        let mut first = First { limit, sagas: BTreeMap::new(), left_out: 0 };
        for partition in (0..self.store().partitions()).map(PartitionId) {
            self.list_partition(partition, &mut first, &wanted).await?;
        }
        Ok(first.finish())
    }

    async fn list_partition(
        &self,
        partition: PartitionId,
        first: &mut First,
        wanted: &(impl Fn(&Saga) -> bool + Send),
    ) -> Result<(), SagaError> {
        let store = self.store();
        store.catch_up_partition(partition).await?;
        let consumer = store.client().consumer().isolation(Isolation::ReadUncommitted);
        let consumer = consumer.partition_from(store.topic(), partition, Start::Beginning).until_end().build().await;
        let mut consumer = consumer.map_err(StoreError::from)?;
        let mut followed = Followed { room: FOLLOWED, sagas: HashMap::new() };
        while let Some(batch) = consumer.next_batch().await.map_err(StoreError::from)? {
            let events = store.events_in(&batch)?;
            let latest = store.latest(partition, events.iter().map(|event| &event.id[..])).await?;
            for (event, latest) in events.into_iter().zip(latest) {
                // What is of a saga that was forgotten is followed by that, or by another of the same id.
                let Some(latest) = latest else { continue };
                let met = followed.take(&event, event.offset >= latest)?;
                let saga = match met {
                    Met::MoreFollows => continue,
                    Met::Stands(saga) => saga,
                    Met::Unfollowed => self.known(&String::from_utf8_lossy(&event.id)).await?.saga,
                };
                if !saga.steps.is_empty() && wanted(&saga) {
                    first.take(String::from_utf8_lossy(&event.id).into_owned(), saga);
                }
            }
        }
        Ok(())
    }
}

/// The first of what is found.
struct First {
    limit: usize,
    sagas: BTreeMap<String, Saga>,
    left_out: u64,
}

impl First {
    fn take(&mut self, id: String, saga: Saga) {
        if self.sagas.insert(id, saga).is_none() && self.sagas.len() > self.limit {
            self.sagas.pop_last();
            self.left_out += 1;
        }
    }

    fn finish(self) -> Listed {
        let sagas = self.sagas.into_iter().map(|(id, saga)| Listing { id, saga }).collect();
        Listed { sagas, left_out: self.left_out }
    }
}

/// Sagas whose latest event was not met yet, as far as there is room.
struct Followed {
    room: usize,
    sagas: HashMap<Bytes, Saga>,
}

/// What is known of a saga after an event.
enum Met {
    MoreFollows,
    Stands(Saga),
    /// It stands as it does with this event, and there was no room for its course.
    Unfollowed,
}

impl Followed {
    fn take(&mut self, event: &StoredEvent, is_latest: bool) -> Result<Met, SagaError> {
        if event.is_retirement() {
            self.sagas.remove(&event.id);
            return Ok(Met::MoreFollows);
        }
        let happened = read(event)?;
        let is_first = matches!(happened, SagaEvent::Started(_));
        let known = match self.sagas.remove(&event.id) {
            None if is_first && (is_latest || self.sagas.len() < self.room) => Some(Saga::default()),
            known => known,
        };
        let Some(mut saga) = known else {
            return Ok(if is_latest { Met::Unfollowed } else { Met::MoreFollows });
        };
        saga.apply(&happened);
        if is_latest {
            return Ok(Met::Stands(saga));
        }
        self.sagas.insert(event.id.clone(), saga);
        Ok(Met::MoreFollows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_store::Version;
    use crate::saga::events::{Changed, PlannedStep, Started};
    use tidelog_protocol::{Offset, Timestamp};

    fn stored(id: &'static str, event: &SagaEvent) -> StoredEvent {
        let new = event.encode();
        StoredEvent {
            id: Bytes::from_static(id.as_bytes()),
            version: Version(1),
            partition: PartitionId(0),
            offset: Offset(0),
            timestamp: Timestamp(0),
            kind: new.kind,
            schema: new.schema,
            command: None,
            payload: new.payload,
        }
    }

    fn started() -> SagaEvent {
        let steps = vec![PlannedStep { name: "pay".into(), stage: 0, is_compensated: false }];
        let (definition, input, at) = ("order".into(), Bytes::new(), Timestamp(0));
        SagaEvent::Started(Started { definition, input, at, deadline: None, steps })
    }

    #[test]
    fn the_first_are_listed_and_the_others_counted() {
        let mut first = First { limit: 2, sagas: BTreeMap::new(), left_out: 0 };
        for id in ["d", "a", "c", "b"] {
            first.take(id.into(), Saga::default());
        }
        let listed = first.finish();
        let ids: Vec<&str> = listed.sagas.iter().map(|listing| listing.id.as_str()).collect();
        assert_eq!((ids, listed.left_out), (vec!["a", "b"], 2));
    }

    #[test]
    fn what_there_is_no_room_for_is_read_again_once_it_is_known_where_it_stands() {
        let mut followed = Followed { room: 1, sagas: HashMap::new() };
        let done = SagaEvent::Done(Changed { at: Timestamp(1), cause: String::new() });
        for id in ["a", "b"] {
            assert!(matches!(followed.take(&stored(id, &started()), false), Ok(Met::MoreFollows)));
        }
        assert_eq!(followed.sagas.len(), 1);
        assert!(matches!(followed.take(&stored("b", &done), true), Ok(Met::Unfollowed)));
        assert!(matches!(followed.take(&stored("a", &done), true), Ok(Met::Stands(saga)) if saga.phase.is_end()));
        assert!(followed.sagas.is_empty());
    }
}
