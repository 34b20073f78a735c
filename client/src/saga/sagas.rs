//! Sagas as a program and an operator use them: started, looked at, waited for, tried again, given up. Knows nothing of who drives them.

use std::time::Duration;

use tidelog_protocol::Timestamp;

use super::call::SagaInput;
use super::definition::Definition;
use super::error::SagaError;
use super::events::SagaEvent;
use super::machine::{OperatorRefusal, abandon, resume, start};
use super::state::Saga;
use super::worker::Worker;
use crate::event_store::{AppendError, EventStore, Expected, StoreError, StoredEvent, Version};

/// The longest id of a saga, in bytes.
const ID_BYTES_MAX: usize = 512;

/// The sagas of an event store, which holds nothing else. Clones are cheap and share everything.
#[derive(Clone, Debug)]
pub struct Sagas {
    store: EventStore,
}

/// What came of a start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begun {
    /// The saga was started.
    Now,
    /// It was started before, about the same, and may have ended since.
    Before,
}

/// A saga, and what happened to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    /// Its id.
    pub id: String,
    /// How it stands.
    pub saga: Saga,
    /// Its version: the number of its events.
    pub version: Version,
    /// Its events, and when each was stored.
    pub events: Vec<(Timestamp, SagaEvent)>,
}

impl Sagas {
    /// The sagas of this store. Sagas and aggregates of other kinds do not go together in one.
    #[must_use]
    pub const fn of(store: EventStore) -> Self {
        Self { store }
    }

    /// The store.
    #[must_use]
    pub const fn store(&self) -> &EventStore {
        &self.store
    }

    /// Starts a saga: it is stored as this returns, and goes its way once a worker is there. The id is the application's, such as that of an
    /// order, so that to start it twice is to start it once, for as long as it is known: until it has ended, and [so long](Worker::kept) after
    /// that.
    ///
    /// # Errors
    /// [`SagaError::Taken`] where another was started under this id; [`SagaError::Append`] where it is not known whether it was started: start it
    /// again then.
    pub async fn start<T: SagaInput>(
        &self,
        definition: &Definition<T>,
        id: &str,
        input: &T,
    ) -> Result<Begun, SagaError> {
        check_id(id)?;
        let input = input.encode();
        let started = start(definition.plan(), input.clone(), super::now());
        match self.store.append(id, Expected::Version(Version::NONE), vec![started.encode()]).await {
            Ok(_) => Ok(Begun::Now),
            Err(AppendError::Conflict { .. }) => {
                let taken = |why: String| Err(SagaError::Taken { id: id.into(), why });
                let before = self.history(id).await?.saga;
                if before.definition != definition.name() {
                    return taken(format!("by the definition {:?}", before.definition));
                }
                if before.input != input {
                    return taken("about something else".into());
                }
                Ok(Begun::Before)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// How a saga stands, by all that was stored before the call.
    ///
    /// # Errors
    /// [`SagaError::NotFound`]; those of reading.
    pub async fn find(&self, id: &str) -> Result<Saga, SagaError> {
        Ok(self.history(id).await?.saga)
    }

    /// A saga and all that happened to it.
    ///
    /// # Errors
    /// As [`Sagas::find`].
    pub async fn history(&self, id: &str) -> Result<History, SagaError> {
        check_id(id)?;
        self.store.catch_up(id).await?;
        let history = self.known(id).await?;
        if history.version == Version::NONE { Err(SagaError::NotFound(id.into())) } else { Ok(history) }
    }

    /// As [`Sagas::history`], as far as this process knows.
    pub(super) async fn known(&self, id: &str) -> Result<History, SagaError> {
        let loaded = self.store.load(id).await?;
        let mut history = History { id: id.into(), saga: Saga::default(), version: Version::NONE, events: Vec::new() };
        for stored in &loaded.events {
            let event = read(stored)?;
            history.saga.apply(&event);
            history.version = stored.version;
            history.events.push((stored.timestamp, event));
        }
        Ok(history)
    }

    /// Waits until a saga has ended, and says how.
    ///
    /// # Errors
    /// [`SagaError::NotEnded`] where it takes longer than `timeout`; one that is parked may take for ever. As [`Sagas::find`].
    pub async fn wait(&self, id: &str, timeout: Duration) -> Result<Saga, SagaError> {
        let ended = async {
            let mut history = self.history(id).await?;
            while !history.saga.phase.is_end() {
                self.store.wait_past(id, history.version).await?;
                history = self.known(id).await?;
                if history.version == Version::NONE {
                    return Err(SagaError::NotFound(id.into()));
                }
            }
            Ok(history.saga)
        };
        tokio::time::timeout(timeout, ended).await.unwrap_or_else(|_| Err(SagaError::NotEnded(id.into())))
    }

    /// Has a parked saga tried again, where it stood.
    ///
    /// # Errors
    /// [`SagaError::Refused`] where it is not parked; as [`Sagas::find`]; those of storing that.
    pub async fn retry(&self, id: &str) -> Result<(), SagaError> {
        self.operate(id, |saga| resume(saga, super::now())).await
    }

    /// Gives a saga up as it is: nothing more is done or undone, whatever that leaves behind. `reason` is kept with it.
    ///
    /// # Errors
    /// [`SagaError::Refused`] where it has ended; as [`Sagas::find`]; those of storing that.
    pub async fn abandon(&self, id: &str, reason: &str) -> Result<(), SagaError> {
        self.operate(id, |saga| abandon(saga, reason.into(), super::now())).await
    }

    /// Describes a worker, which drives sagas as a member of the group of all workers of this store.
    pub fn worker(&self) -> Worker {
        Worker::of(self.clone())
    }

    async fn operate(
        &self,
        id: &str,
        wish: impl Fn(&Saga) -> Result<SagaEvent, OperatorRefusal>,
    ) -> Result<(), SagaError> {
        for conflicts in 0_u32.. {
            let History { saga, version, .. } = self.history(id).await?;
            let event = wish(&saga).map_err(|refusal| SagaError::Refused { id: id.into(), refusal })?;
            match self.store.append(id, version, vec![event.encode()]).await {
                // It moved on meanwhile: whether the wish still goes with it is asked again.
                Err(AppendError::Conflict { .. }) if conflicts < CONFLICTS_MAX => {}
                appended => return appended.map(drop).map_err(Into::into),
            }
        }
        Ok(())
    }
}

/// How often an operator's wish meets a saga that has just moved on.
const CONFLICTS_MAX: u32 = 100;

/// An event of a saga.
pub(super) fn read(stored: &StoredEvent) -> Result<SagaEvent, SagaError> {
    SagaEvent::of(stored).map_err(|error| SagaError::NoSaga {
        id: String::from_utf8_lossy(&stored.id).into_owned(),
        version: stored.version,
        reason: error.to_string(),
    })
}

fn check_id(id: &str) -> Result<(), SagaError> {
    if (1..=ID_BYTES_MAX).contains(&id.len()) && !id.chars().any(char::is_control) {
        return Ok(());
    }
    let said = format!("the id of a saga has 1 to {ID_BYTES_MAX} bytes without control characters");
    Err(SagaError::Store(StoreError::Argument(said)))
}
