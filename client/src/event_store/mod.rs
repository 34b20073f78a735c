//! Aggregates as streams of events, with optimistic concurrency: what happened is stored, and what holds follows from it.
//!
//! An aggregate is what is decided on as a whole: an account, an order, an item of a stock. Its version is the number of its events.
//! Whoever appends says on which version that was decided, and is refused where the aggregate has moved on:
//!
//! ```no_run
//! use tidelog_client::event_store::{AppendError, NewEvent, Version};
//! use tidelog_client::Client;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("127.0.0.1:9092").await?;
//! let store = client.event_store("accounts").create(12, None).await?;
//!
//! store.append("account-7", Version::NONE, vec![NewEvent::new("opened", "")]).await?;
//! let account = store.load("account-7").await?;
//! match store.append("account-7", account.version, vec![NewEvent::new("deposited", "100")]).await {
//!     Ok(appended) => println!("now at version {}", appended.version),
//!     Err(AppendError::Conflict { current, .. }) => println!("somebody was faster: at version {current}"),
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # A service
//!
//! Commands on states rather than events by hand, in about forty lines; `examples/event_store_service.rs` is this code, and a test runs it:
//!
//! ```no_run
#![doc = include_str!("../../examples/event_store_service.rs")]
//! ```
//!
//! # How it is stored
//!
//! An aggregate is the stream of its events, and all of them stand in one partition of one topic, which the hash of the id chooses. So the
//! topic keeps everything (`retention.ms` and `retention.bytes` of -1, no compaction), and the number of its partitions is for ever: the
//! first record says it, and a topic that would lose events or has grown is refused. Two more topics make things fast, and can be lost
//! (delete and [create](EventStoreBuilder::create) them, as long as no store is open): `NAME.snapshots`, compacted, has the latest snapshot
//! of each aggregate, `NAME.index` is for checkpoints of what the writers know.
//!
//! Each event carries, in one header, the version of the aggregate with it and where the event before it stands. Records that the store
//! did not write do not count; one that breaks the chain stops its partition with [`StoreError::Inconsistent`].
//!
//! # Why two writers never both win
//!
//! A process that uses a partition follows its end, and so knows the version of every aggregate in it, as of some offset. It appends what
//! it has checked against that under the condition that the partition still ends there
//! ([`Client::append_at`](crate::Client::append_at)): whoever wrote in between, to this aggregate or another, the batch is refused whole.
//! The process then reads what came, checks again, and tries again; only what now conflicts is told so. This is the leader's own check at
//! the moment of writing, so it holds between processes and across leaders alike.
//!
//! It is also why a lost answer does no harm. A batch can stand at one offset only; sent again, it is written there or refused, and what
//! stands there afterwards says whether it was this one. An append is therefore never made twice by the store. A program that dies, or
//! gives up, before it hears the outcome repeats the command under the same id ([`EventStore::append_once`]): what was done is answered
//! again. Commands are remembered for the latest 100,000 records of the partition, unless
//! [`command_window`](EventStoreBuilder::command_window) says otherwise; about 100 bytes each.
//!
//! # What a hot aggregate costs
//!
//! Everything that waits in a process for a partition rides in one batch, so a round trip to the leader (with its flush and its
//! replicas) carries many appends to many aggregates. Appends that each wait to see the outcome of the one before are bound to one in a
//! round trip; commands by way of [`Repository::execute`] are not: those to one aggregate are decided one after the other in memory, each
//! on the state that the one before makes, and ride together.
//!
//! Of several processes that append to one partition at once, one wins each round, and the others read and check again. That is correct
//! at any number, and it wastes work: where throughput counts, let one process at a time have a partition, for example by the
//! membership of a group. Nothing depends on it.
//!
//! # How it scales
//!
//! With partitions: each has its own writer, its own round trips and its own index, and a process opens those that it uses. In each
//! process an aggregate of an open partition takes about 112 bytes, its id and what the allocator adds (155 with ids of 16 bytes), whether it is used or not
//! ([`index_bytes_max`](EventStoreBuilder::index_bytes_max) bounds that, and says so where it is reached); its events take nothing. To
//! open a partition is to read the latest checkpoint of its index and the events behind that; whoever writes makes one every so many
//! records ([`checkpoint_every`](EventStoreBuilder::checkpoint_every)). Loading reads the events of the aggregate backward from the latest one, in ranges that grow
//! where they lie close together and shrink where they do not: a round trip for each scattered event, few for many dense ones. A snapshot
//! every so many events bounds that.
//!
//! # Events change their shape
//!
//! An event has a kind and the version of that kind's schema. [`Upcasters`] turn earlier schemas into today's as events are read; a
//! schema that is not known is [`StoreError::UnknownSchema`], never a guess.
//!
//! # Views
//!
//! A [`Projection`] takes all events, partition by partition, and keeps with itself how far it is. [`EventStore::wait_for`] waits, in any
//! process, until it has taken what was appended: read your own writes. It is rebuilt by being emptied: it then starts at zero, and whoever
//! waits for it waits for that. One run of a projection at a time says how far it is: one that begins later, in whatever process, takes the
//! place of the one before, which ends with [`ProjectionError::Replaced`]. So views of which each process has its own have names of their own.
//!
//! # In here
//!
//! Pure: `envelope` (what stands in headers), `index` and `commands` (what is known of a partition), `staging` (what may be appended),
//! `walk` (how events are found), `checkpoint`
//! (an index as records), `upcasting`, `decisions` (commands on states), `recent` (states that were used last). IO: `topics`,
//! `writer` (the one task of a partition), `checkpoints`, `ranges`, `partition`, `store`, `repository`, `projection`.

mod aggregate;
mod builder;
mod checkpoint;
mod checkpoints;
mod commands;
mod decisions;
mod envelope;
mod error;
mod event;
mod index;
mod observed;
mod partition;
mod projection;
mod ranges;
mod recent;
mod repository;
mod staging;
mod store;
mod topics;
mod upcasting;
mod walk;
mod writer;

pub use aggregate::Aggregate;
pub use builder::EventStoreBuilder;
pub use error::{AppendError, BoxError, StoreError};
pub use event::{Appended, Expected, NewEvent, StoredEvent, Version};
pub use partition::StoredSnapshot;
pub use projection::{Projection, ProjectionError, ProjectionProgress, ProjectionRun};
pub use repository::{ExecuteError, Executed, Repository, RepositoryOptions, Root};
pub use store::{EventStore, Loaded};
pub use upcasting::Upcasters;
