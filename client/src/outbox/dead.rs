//! An event that cannot be sent, as it stands in the table beside the outbox. Knows nothing of how it came there.

/// An event that was set aside.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct DeadEvent {
    /// The place that it had in the order; it names it for [`Outbox::revive`](super::Outbox::revive).
    pub seq: i64,
    /// The event's id.
    pub id: String,
    /// Of what kind of aggregate.
    pub aggregate_type: String,
    /// Of which.
    pub aggregate_id: String,
    /// The kind of event.
    pub event_type: String,
    /// Bytes of its payload.
    pub payload_bytes: u64,
    /// Why it cannot be sent.
    pub cause: String,
    /// When it was set aside, in milliseconds since 1970.
    pub dead_ms: i64,
}

/// A row of the table, as a query gives it.
pub(super) type Columns = (i64, String, String, String, String, i64, String, i64);

impl From<Columns> for DeadEvent {
    fn from((seq, id, aggregate_type, aggregate_id, event_type, bytes, cause, dead_ms): Columns) -> Self {
        let payload_bytes = bytes.unsigned_abs();
        Self { seq, id, aggregate_type, aggregate_id, event_type, payload_bytes, cause, dead_ms }
    }
}
