//! Databases of the application: how they are opened, what their failures mean, and names that are checked before they stand in a statement.
//! What the [outbox](crate::outbox), the [inbox](crate::inbox) and the [sink](crate::sink) share. Knows nothing of events.
//!
//! - [`Name`]: of a table or a column.
//! - [`DatabaseError`]: split by who must act.
//! - [`open_sqlite`], [`open_postgres`]: pools with the settings that are needed.
//! - [`Dialect`]: the two databases, where one code serves both.
//! - `statement`: made from checked names.

mod dialect;
mod error;
mod name;
mod open;
mod statement;

pub use dialect::Dialect;
pub use error::DatabaseError;
pub use name::{InvalidName, Name};
#[cfg(feature = "outbox-postgres")]
pub use open::open_postgres;
#[cfg(feature = "outbox-sqlite")]
pub use open::open_sqlite;
pub(crate) use statement::Statement;
