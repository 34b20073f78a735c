//! What an application says of a kind of aggregate: its state, its events, how the one follows from the other. Knows nothing of the store.

use bytes::Bytes;

use super::error::BoxError;
use super::event::NewEvent;

/// A kind of aggregate. A value of it is a state; the default is that of one that does not exist yet.
///
/// ```
/// use bytes::Bytes;
/// use tidelog_client::event_store::{Aggregate, BoxError, NewEvent};
///
/// #[derive(Clone, Default)]
/// struct Counter(u64);
///
/// impl Aggregate for Counter {
///     type Event = u64;
///     type Refusal = String;
///
///     fn apply(&mut self, added: &u64) {
///         self.0 += added;
///     }
///
///     fn encode(added: &u64) -> NewEvent {
///         NewEvent::new("added", added.to_string())
///     }
///
///     fn decode(kind: &str, payload: &[u8]) -> Result<u64, BoxError> {
///         match kind {
///             "added" => Ok(std::str::from_utf8(payload)?.parse()?),
///             other => Err(format!("a counter has no events {other:?}").into()),
///         }
///     }
/// }
/// ```
pub trait Aggregate: Clone + Default + Send + Sync + 'static {
    /// What happens to it.
    type Event: Send + Sync + 'static;
    /// Why a command is not carried out.
    type Refusal: Send + 'static;

    /// The version of the schema that [`Aggregate::save`] writes, from 1; 0 where there are no snapshots. Raise it with every change of
    /// the state's meaning: snapshots of other schemas are then passed over, and events read instead.
    const STATE_SCHEMA: u16 = 0;

    /// The state after an event. It has happened, so this cannot refuse it.
    fn apply(&mut self, event: &Self::Event);

    /// An event as it is stored, in today's schema.
    fn encode(event: &Self::Event) -> NewEvent;

    /// A stored event, after upcasting.
    ///
    /// # Errors
    /// For a kind or a payload that it does not know.
    fn decode(kind: &str, payload: &[u8]) -> Result<Self::Event, BoxError>;

    /// The state as a snapshot.
    fn save(&self) -> Bytes {
        Bytes::new()
    }

    /// The state of a snapshot of today's [schema](Aggregate::STATE_SCHEMA).
    ///
    /// # Errors
    /// Where it is not one; events are then read instead.
    fn restore(state: &[u8]) -> Result<Self, BoxError> {
        let _ = state;
        Err("this kind of aggregate has no snapshots".into())
    }
}
