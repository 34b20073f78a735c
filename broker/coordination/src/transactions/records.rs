//! What is written to the transactions' log, keyed for compaction: the latest value of a transactional id is its whole state, and a tombstone
//! forgets it. The bytes are those of `keyed_record`. Knows nothing of what the records do.

use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::codec::Entropy;
use tidelog_protocol::messages::{TopicPartitions, TransactionEnder, TransactionState};
use tidelog_protocol::{Message, ProducerEpoch, ProducerId, Timestamp, message};

use crate::keyed_record::{self, KEY_FORM, body, split_kind, versioned};
pub use crate::versioned_body::RecordError;

message! {
    /// Names a transactional id.
    pub struct TransactionKey {
        /// The id.
        1 transactional_id: String,
    }
}

message! {
    /// A producer under one epoch.
    pub struct RecordedProducer {
        /// The producer.
        1 producer_id: ProducerId,
        /// Its epoch.
        1 epoch: ProducerEpoch,
    }
}

message! {
    /// A transaction that was ended.
    pub struct RecordedEnd {
        /// Who wrote it. Its markers carry the epoch after this one.
        1 producer: RecordedProducer,
        /// It holds; otherwise it is undone.
        1 committed: bool,
        /// Who ended it.
        1 by: TransactionEnder,
    }
}

message! {
    /// A transactional id.
    pub struct TransactionValue {
        /// Who writes the open transaction, or will write the next.
        1 producer: RecordedProducer,
        /// Who may still ask who it is now: it held the epoch before, and nobody has taken its place.
        1 previous: Option<RecordedProducer>,
        /// How long a transaction may stay open, in milliseconds.
        1 timeout_ms: u32,
        /// How it is.
        1 state: TransactionState,
        /// When the open one, or the one that is being ended, began.
        1 began_at: Option<Timestamp>,
        /// When anything changed last.
        1 changed_at: Timestamp,
        /// What the open one touches, or the one that is being ended has touched.
        1 partitions: Vec<TopicPartitions>,
        /// Groups, likewise.
        1 groups: Vec<String>,
        /// The last that ended, or is being ended.
        1 ended: Option<RecordedEnd>,
    }
}

/// One record of the transactions' log: a transactional id and its state, or none any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransactionRecord {
    /// The id.
    pub key: TransactionKey,
    /// Its whole state; `None` for a tombstone.
    pub value: Option<TransactionValue>,
}

/// The one type of record.
const TRANSACTION: u16 = 1;
/// The newest version of its value.
const NEWEST: u16 = 1;

impl TransactionRecord {
    /// The id.
    #[must_use]
    pub fn transactional_id(&self) -> &str {
        &self.key.transactional_id
    }

    /// The key as it stands in the log.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        keyed_record::key(TRANSACTION, &self.key)
    }

    /// The value as it stands in the log; `None` for a tombstone.
    #[must_use]
    pub fn value(&self) -> Option<Vec<u8>> {
        self.value.as_ref().map(|value| versioned(value, NEWEST))
    }

    /// Reads one record.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn from_key_value(key: &[u8], value: Option<&[u8]>) -> Result<Self, RecordError> {
        match split_kind(key)? {
            (TRANSACTION, key) => {
                let value = value.map(|value| body::<TransactionValue>(value, NEWEST)).transpose()?;
                Ok(Self { key: body(key, KEY_FORM)?, value })
            }
            (kind, _) => Err(RecordError::UnknownType { kind }),
        }
    }

    /// A record drawn from seeded numbers, for golden bytes, round trips and fuzzing.
    #[must_use]
    pub fn draw(entropy: &mut Entropy) -> Self {
        Self { key: TransactionKey::draw(entropy), value: Some(TransactionValue::draw(entropy)) }
    }
}
