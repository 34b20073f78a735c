//! Sagas: what several services do together, each for itself, is done by all of them or undone.
//!
//! A saga goes step by step. Each step calls something that cannot be part of a common transaction (another service, another database, a
//! bank), and says what undoes that. Where a step fails for good, those before it are undone, the latest first. How far a saga is stands in an
//! [event store](crate::event_store), so that any worker goes on with it where another was killed.
//!
//! # A service
//!
//! `examples/saga_service.rs` is this code, and a test runs it:
//!
//! ```no_run
#![doc = include_str!("../../examples/saga_service.rs")]
//! ```
//!
//! # What a step has to be
//!
//! **An action and its compensation are idempotent, by their key.** A worker that is killed between a call and the word that it was made leaves
//! it open whether it was; the next one calls again. [`Call::key`] is the same in every try of a call, and different in any other. The service
//! keeps it with the effect, in one transaction, and does nothing where it is there already: [`inbox::once_by_id`](crate::inbox::Inbox::once_by_id)
//! does that.
//!
//! **A compensation may come although its action never did, and before it.** A call that was given up may still be on its way. So a
//! compensation notes the [key of the action](Call::action_key) as well, in the same transaction: where that is new, there is nothing to be undone, and
//! the action that comes late finds that it has been. Where the compensation finds the key there, it undoes the effect.
//!
//! **A step says what its failure means.** [`StepError::Refused`]: it had no effect, and never will; the saga turns, and the step is not undone.
//! [`StepError::Failed`]: nobody knows; it is tried again as its [policy](Step::retry) says, and undone where the saga turns. So does a try that takes
//! longer than its [timeout](Step::timeout), and one that panics. A try whose worker was killed, or lost the saga, did not fail, and is
//! made again by another; but a step that kills its worker each time is given up, or parked, after ten times, or as many as its policy allows tries. Any other error that `?` turns into a [`StepError`] is of this kind.
//!
//! # What is promised
//!
//! - Every saga ends [done](Phase::Done), [compensated](Phase::Compensated), or stands [parked](Saga::parked) until an operator acts (or gives it up).
//! - A try is made after the word that it began is stored, and that is stored only at the version that was decided on. So of two workers that both
//!   believe that a saga is theirs, one is told otherwise before it can do anything. One worker at a time has a partition, as a member of a
//!   group, so that this is the exception.
//! - Exactly those steps are undone that may have happened: any try of theirs ended otherwise than by being refused. They are undone stage by stage,
//!   the latest first, after all tries of actions have ended; those of one stage side by side.
//! - A compensation that was refused, or failed as often as it may, parks its saga. `tidelog sagas list`, `show`, `retry` and `abandon` are for
//!   operators, as are [`Sagas::list`], [`Sagas::history`], [`Sagas::retry`] and [`Sagas::abandon`] for programs.
//! - After its [deadline](DefinitionBuilder::deadline) a saga that is not done goes back. This and the waits between tries go by the clock of whoever drives it
//!   then, so that clocks that differ make them longer or shorter, and nothing else.
//!
//! # When a definition changes
//!
//! A saga keeps the names and stages of its steps from its start on. One that meets a definition with others is parked: give a definition whose
//! steps change another name, and its workers both, until the sagas of the old one have ended. Policies, timeouts and what steps do may change at any time.
//!
//! # What it costs
//!
//! An event for each try that begins and each that ends, of which the end of one rides with the beginning of the next: a saga of four steps is
//! six appends, its start among them, each a share of a round trip. A worker keeps some kilobytes for each saga that goes on, and reads, as it takes a partition up,
//! the events from the earliest saga on that goes on. One that stands still for long is carried along
//! ([`Worker::carried_after`]), so that this stays little.
//!
//! # How long a saga is known
//!
//! A saga is known by its id for as long as it goes on, and for [seven days](Worker::kept) after it has ended. So long it can be looked at, and
//! [`Sagas::start`] under the same id starts nothing: it answers [`Begun::Before`], or refuses another input. Then it is forgotten: nothing of it is
//! in memory any more, it is not found or listed, and a start under its id starts another saga, which calls its services by the keys of the one
//! before. So ids are not to come again later than that: keep sagas for longer than any start may be repeated. The events of a saga that was
//! forgotten stay in the topic; nothing but its disk space grows with the number of sagas that ever were.
//! A process of a release that forgot no sagas refuses a partition in which another has: upgrade all of them before the first are that old.
//!
//! # How it goes
//!
//! [`Worker::figures`] says how many sagas stand where, for how long the oldest have been, and what was tried. `examples/orders` is a shop of four
//! services whose processes are killed all the time; with `--choreography` they do the same without a saga, by the events of the others.
//!
//! # In here
//!
//! Pure: `events` (what happens to a saga, and how that is stored), `state` (what follows), `plan`, `machine` (the rules), `held` (from where on to
//! read). `definition` and `call` are what a program says, `sagas` and `listing` are what it asks. IO: `worker`, `round` (partitions), `driving` (one saga), `retiring` (those that ended long ago);
//! `figures` says how it goes.

mod call;
mod definition;
mod driving;
mod error;
mod events;
mod figures;
mod held;
mod listing;
mod machine;
#[cfg(test)]
mod machine_rules;
#[cfg(test)]
mod machine_simulation;
mod plan;
mod retiring;
mod round;
mod sagas;
mod state;
mod worker;

pub use crate::group::RetryPolicy;
pub use call::{Call, SagaInput, StepError};
pub use definition::{Definition, DefinitionBuilder, DefinitionError, Step};
pub use error::SagaError;
pub use events::{Attempt, Began, Changed, Failed, Interrupted, PlannedStep, SagaEvent, Side, Started, Succeeded};
pub use figures::{Figures, WorkerFigures};
pub use listing::{Listed, Listing};
pub use machine::OperatorRefusal;
pub use sagas::{Begun, History, Sagas};
pub use state::{Course, Phase, Saga, Standing, StepState};
pub use worker::Worker;

use std::time::{SystemTime, UNIX_EPOCH};

use tidelog_protocol::Timestamp;

/// By this machine's clock.
fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}
