//! The transactional outbox: an event is written into a table in the application's own transaction, and published once that is committed. So what
//! the database says and what others hear of it never part.
//!
//! - [`Event`], [`stage`]: what is staged; [`Schema`]: in which tables, made by [`Outbox::migrate`].
//! - `row`, `position`, `pace`, `blame`: which record a row becomes, what was published, when to look again, whose fault a failure is; pure.
//! - `store`: what is asked of a database; `sqlite`: how.
//! - [`RelayError`]: why a relay cannot go on.

mod blame;
mod dead;
mod error;
mod event;
mod options;
mod pace;
mod position;
mod row;
mod schema;
#[cfg(feature = "outbox-sqlite")]
mod sqlite;
mod staging;
mod store;
mod tables;

pub use dead::DeadEvent;
pub use error::RelayError;
pub use event::Event;
pub use options::{Settling, Step};
pub use schema::{Column, Schema};
#[cfg(feature = "outbox-sqlite")]
pub use sqlite::SqliteStore;
pub use staging::{Staging, stage};
pub use store::{Backlog, Store};
pub use tables::Outbox;
