//! The transactional outbox: an event is written into a table in the application's own transaction, and published once that is committed. So what
//! the database says and what others hear of it never part.
//!
//! # A service
//!
//! All of it; `examples/outbox_service.rs` is this code, and a test runs it:
//!
//! ```no_run
#![doc = include_str!("../../examples/outbox_service.rs")]
//! ```
//!
//! Without a relay in the service itself, `tidelog outbox relay --database URL` does the same beside it. Of a table or columns of other names each of the tool's
//! commands is told by `--table NAME` and `--column COLUMN=NAME`, where the program has [`Schema::table`] and [`Schema::column`].
//!
//! # What is promised
//!
//! - **Nothing is lost.** A staged event stays in its table until the transaction that published it is committed in the cluster; whatever breaks, it is tried again.
//! - **Nothing is published twice**: the relay writes events in a transaction of the cluster, together with a record that names them (topic
//!   `<relay>.positions`), and settles the rows after that. A relay that takes over fences the one before, and finds in that record what is published
//!   and not settled. So every event stands once for whoever reads what is [committed](crate::Isolation::ReadCommitted), the default, without an inbox. Who reads with
//!   another isolation sees what was undone as well.
//! - **What a consumer does with an event** happens as often as it reads it: once more, where it ends before it has committed its offset. The
//!   [inbox](crate::inbox) recognises events by the header `id`, and the [sink](crate::sink) keeps offsets with the effects.
//! - **Per aggregate, events are published in the order of their transactions' commits**, and of their staging within one. Each aggregate belongs to one shard,
//!   and each shard is published by one relay at a time. Its id is the key of the records, so that they stand in one partition.
//! - **Where a database is restored from an older copy**, its rows are published again: under their ids, which the inbox recognises. New events are not mistaken for
//!   old ones.
//!
//! # What it costs
//!
//! An event waits for the relay's next look: in SQLite 2 ms while there is something to do and 32 ms at most; PostgreSQL wakes the relay
//! (`NOTIFY` by a trigger; transactions that notify commit one after the other). A transaction of the cluster takes a few milliseconds,
//! whatever it holds up to [`Relay::batch_rows`].
//! A relay that is killed in the middle of one keeps those who read what is committed from going on behind it until another has taken over: at most
//! [`Relay::lease`] later.
//!
//! # What cannot be sent
//!
//! An event whose record is too large for its topic, or whose aggregate type makes no name of a topic, is set aside into a table of its own with the cause, and
//! others, also of its aggregate, go on: [`Outbox::dead_events`] shows them, [`Outbox::revive`] puts them back behind all that waits. An event whose topic does not
//! exist waits, and its shard with it, until the topic does, or is made where [`Relay::create_topics`] allows it.
//!
//! # A table that is there already
//!
//! [`Outbox::migrate`] gives a table as Debezium has it what it lacks, and leaves the rest as it is. In PostgreSQL the payload may be `bytea`, `text`, `varchar`,
//! `json` or `jsonb`, of which the text is published as the database writes it; the id `uuid`, `text` or `varchar`; the others `text` or `varchar`.
//! [`stage`] writes into each of these; a payload that is no JSON, or no text, is refused by the database where the column demands it. A column of another type
//! is refused by `migrate` and by the relay ([`DatabaseError::ColumnType`](crate::sql::DatabaseError::ColumnType)).
//!
//! # Older releases of SQLite
//!
//! Whoever stages events with a library of its own needs SQLite 3.35 or later. Tables that were made by an earlier release of this crate need 3.42: their default of
//! `staged_ms`, which SQLite cannot change, calls `unixepoch('subsec')`. There an older one has to give `staged_ms` itself, or the table is to be made anew while it is empty.
//!
//! # The parts
//!
//! - [`Event`], [`stage`]: what is staged; [`Schema`]: in which tables, made by [`Outbox::migrate`].
//! - [`Relay`]: publishes; [`RelayFigures`], [`Outbox::backlog`]: how it stands; [`Step`]: what it does one after the other.
//! - `shard`: the life of one shard; `positions`: reads what was published last.
//! - `row`, `position`, `pace`, `blame`: which record a row becomes, what was published, when to look again, whose fault a failure is; pure.
//! - `store`: what is asked of a database; `sqlite`, `postgres`: how; `postgres_columns`: of which types a table that was there before may be.
//! - [`RelayError`]: why it cannot go on.

mod blame;
mod dead;
mod error;
mod event;
mod figures;
mod options;
mod pace;
mod position;
mod positions;
#[cfg(feature = "outbox-postgres")]
mod postgres;
#[cfg(feature = "outbox-postgres")]
mod postgres_columns;
mod relay;
mod row;
mod schema;
mod shard;
#[cfg(feature = "outbox-sqlite")]
mod sqlite;
mod staging;
mod store;
mod tables;

pub use dead::DeadEvent;
pub use error::RelayError;
pub use event::Event;
pub use figures::{Figures, RelayFigures};
pub use options::{Settling, Step};
#[cfg(feature = "outbox-postgres")]
pub use postgres::PostgresStore;
pub use relay::Relay;
pub use schema::{Column, Schema};
#[cfg(feature = "outbox-sqlite")]
pub use sqlite::SqliteStore;
pub use staging::{Staging, stage};
pub use store::{Backlog, Store};
pub use tables::Outbox;
