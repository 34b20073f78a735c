//! What an application stages: an event of an aggregate. Knows nothing of tables.

use bytes::Bytes;
use uuid::Uuid;

/// Slots that keys are spread over. A shard of a relay has those whose number leaves its own when divided by the number of shards. Which slot an aggregate
/// has is the database's to say, as long as it is always the same: in PostgreSQL a trigger does, in SQLite, which has no hash, [`slot`].
pub(crate) const SLOTS: u32 = 256;

/// An event, to be published once the transaction that it is staged in is committed.
///
/// It goes to the topic `outbox.event.<aggregate type>` with the aggregate's id as its key, its id in the header `id` and its type in the header
/// `type`, as Debezium's event router has it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "an event is published only where it is staged"]
pub struct Event {
    pub(crate) id: Uuid,
    pub(crate) aggregate_type: String,
    pub(crate) aggregate_id: String,
    pub(crate) event_type: String,
    pub(crate) payload: Option<Bytes>,
}

impl Event {
    /// An event of type `event_type` of an aggregate, with an id of its own (UUID v7) and without payload, which makes it a tombstone.
    pub fn of(
        aggregate_type: impl Into<String>,
        aggregate_id: impl Into<String>,
        event_type: impl Into<String>,
    ) -> Self {
        let (aggregate_type, aggregate_id) = (aggregate_type.into(), aggregate_id.into());
        Self { id: Uuid::now_v7(), aggregate_type, aggregate_id, event_type: event_type.into(), payload: None }
    }

    /// With this payload.
    pub fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.payload = Some(payload.into());
        self
    }

    /// With this id, by which consumers recognise it.
    pub const fn id(mut self, id: Uuid) -> Self {
        self.id = id;
        self
    }

    /// Its id.
    #[must_use]
    pub const fn event_id(&self) -> Uuid {
        self.id
    }

    /// Which slot its aggregate has in SQLite.
    #[cfg(feature = "outbox-sqlite")]
    pub(crate) fn slot(&self) -> u32 {
        slot(&self.aggregate_id)
    }
}

/// The slot of an aggregate in SQLite.
#[cfg(feature = "outbox-sqlite")]
pub(crate) fn slot(aggregate_id: &str) -> u32 {
    crate::producer::murmur2(aggregate_id.as_bytes()) % SLOTS
}

#[cfg(all(test, feature = "outbox-sqlite"))]
mod tests {
    use super::*;

    #[test]
    fn aggregates_are_spread_over_all_slots() {
        let mut seen = vec![0; SLOTS as usize];
        (0..10_000).for_each(|n| seen[slot(&format!("customer-{n}")) as usize] += 1);
        assert!(seen.iter().all(|count| (5..150).contains(count)), "{seen:?}");
    }

    #[test]
    fn two_events_have_two_ids() {
        let event = || Event::of("order", "17", "OrderPlaced");
        assert_ne!(event().event_id(), event().event_id());
        let id = Uuid::from_u128(7);
        assert_eq!(event().id(id).event_id(), id);
    }
}
