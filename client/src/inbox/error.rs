//! Why a record had no effect. Knows nothing of how it came about.

use crate::sql::DatabaseError;

/// Why a record had no effect.
#[derive(Clone, Debug, thiserror::Error)]
pub enum InboxError<E> {
    /// The effect failed. Nothing of it holds, and the record is not noted: it may be tried again, in the same transaction, too.
    #[error("the effect failed: {0}")]
    Effect(E),
    /// The database. The transaction can only be undone.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}
