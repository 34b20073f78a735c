//! Why a relay cannot go on, split by who must act. Knows nothing of how it came about.

use std::time::Duration;

use crate::sql::DatabaseError;
use crate::{ClientError, ConsumeError, SendError, TransactionError};

/// Why a relay does not publish, or not at the moment. Whatever it is, what is staged stays staged.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The outbox is divided among another number of shards: two relays with different numbers would both publish some rows.
    #[error(
        "the outbox is divided among {found} shards, and the relay was told {asked}: start it with {found}, or stop all relays and change the number (`reshard`, or `tidelog outbox reshard`)"
    )]
    WrongShards {
        /// What the relay was told.
        asked: u32,
        /// What the tables say.
        found: u32,
    },
    /// The outbox has relays of another name: two with different names would not know what the other has published, and do so again.
    #[error(
        "the outbox is published by relays of the name {found:?}, and this one was told {asked:?}: start it with {found:?} (`name`, or `--name`)"
    )]
    WrongName {
        /// What the relay was told.
        asked: String,
        /// What the tables say.
        found: String,
    },
    /// The name of the relay belongs to the outbox of another database.
    #[error(
        "the relay's name belongs to another outbox: {topic} was written for database {found}, and this is {database}. Give each outbox a name of its own; \
         where the other one is gone for good, delete the topic"
    )]
    OtherDatabase {
        /// The topic of positions.
        topic: String,
        /// Whose they are.
        found: String,
        /// This database.
        database: String,
    },
    /// The topic of positions is not as it must be.
    #[error("topic {topic} keeps how far the relay is, and cannot: {what}")]
    Positions {
        /// The topic.
        topic: String,
        /// What is wrong.
        what: String,
    },
    /// Events wait for a topic that does not exist.
    #[error("events wait for topic {topic}, which does not exist: create it, or have the relay create topics")]
    MissingTopic {
        /// The topic.
        topic: String,
    },
    /// Another relay publishes, where none may.
    #[error(
        "another relay publishes the outbox: stop all relays first. One that was killed is no longer in the way once its lease is over, in {left:.1?}, unless it is renewed"
    )]
    Active {
        /// How long the lease lasts, unless it is renewed.
        left: Duration,
    },
    /// A setting is out of its range.
    #[error("{0}")]
    Argument(String),
    /// A record was not taken.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The transaction of the records.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// The cluster.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Positions cannot be read.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
}

impl RelayError {
    /// True where nothing but a person can help: the relay ends. Else it tries again.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Database(error) => {
                matches!(
                    error,
                    DatabaseError::Missing(_)
                        | DatabaseError::Absent { .. }
                        | DatabaseError::ColumnType { .. }
                        | DatabaseError::TooNew { .. }
                        | DatabaseError::Damaged { .. }
                )
            }
            Self::WrongShards { .. }
            | Self::WrongName { .. }
            | Self::Active { .. }
            | Self::OtherDatabase { .. }
            | Self::Positions { .. }
            | Self::Argument(_) => true,
            Self::MissingTopic { .. } | Self::Send(_) | Self::Transaction(_) | Self::Client(_) | Self::Consume(_) => {
                false
            }
        }
    }
}
