//! The transactional outbox: an event is written into a table in the application's own transaction, and published once that is committed. So what
//! the database says and what others hear of it never part.
//!
//! - `row`, `position`, `pace`, `blame`: which record a row becomes, what was published, when to look again, whose fault a failure is; pure.
//! - [`RelayError`]: why a relay cannot go on.

mod blame;
mod error;
mod event;
mod options;
mod pace;
mod position;
mod row;

pub use error::RelayError;
pub use event::Event;
pub use options::{Settling, Step};
