//! Databases of the application: how they are opened, what their failures mean, names that are checked before they stand in a statement, and leases.
//! What the [outbox](crate::outbox), the [inbox](crate::inbox) and the [sink](crate::sink) share. Knows nothing of events.
//!
//! - [`Name`]: of a table or a column.
//! - [`DatabaseError`]: split by who must act.
//! - [`open_sqlite`], [`open_existing_sqlite`], [`open_postgres`]: pools with the settings that are needed.
//! - [`Dialect`]: the two databases, where one code serves both.
//! - `statement`: made from checked names.
//! - `lease`: who may act for a while, under which token; pure. `lease_sqlite`, `lease_postgres`: keep it.

mod dialect;
mod error;
pub(crate) mod lease;
#[cfg(feature = "outbox-postgres")]
pub(crate) mod lease_postgres;
#[cfg(feature = "outbox-sqlite")]
pub(crate) mod lease_sqlite;
mod name;
mod open;
mod statement;

pub use dialect::Dialect;
pub use error::DatabaseError;
pub(crate) use error::passes;
pub use name::{InvalidName, Name};
#[cfg(feature = "outbox-postgres")]
pub use open::open_postgres;
#[cfg(feature = "outbox-sqlite")]
pub use open::{open_existing_sqlite, open_sqlite};
pub(crate) use statement::Statement;
