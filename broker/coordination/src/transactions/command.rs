//! What transactions are asked for, what comes back, and the limits. Knows nothing of how it is decided; where the wire has a message for it,
//! that message is the command.

use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::messages::{
    AbortTransactionRequest, AddToTransactionRequest, DescribeTransactionRequest, DescribeTransactionResponse,
    EndTransactionRequest, ListTransactionsRequest, ListTransactionsResponse, ProducerIdentity, TransactionMarkers,
};
use tidelog_protocol::{PartitionId, ProducerId, TopicId};

use super::records::TransactionRecord;
use super::touched::Touched;
use crate::groups::Bounds;

/// A command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TransactionCommand {
    /// Who is the producer under this id?
    Init(Init),
    /// A transaction touches partitions and groups.
    Add(AddToTransactionRequest),
    /// A producer ends its transaction.
    End {
        /// How.
        request: EndTransactionRequest,
        /// An id that nobody had before; asked for by [`TransactionReply::FreshIdNeeded`].
        fresh_id: Option<ProducerId>,
    },
    /// A producer ends its transaction and goes on under the same epoch, as Kafka's clients do.
    EndInEpoch(EndTransactionRequest),
    /// Markers stand where they belong.
    MarkersWritten {
        /// Whose.
        transactional_id: String,
        /// As [`Transactions::pending_markers`](super::Transactions::pending_markers) said, with what is done of it.
        written: TransactionMarkers,
    },
    /// An operator aborts.
    Abort(AbortTransactionRequest),
    /// Which transactional ids are there?
    List(ListTransactionsRequest),
    /// How is one?
    Describe(DescribeTransactionRequest),
}

/// A producer asks who it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Init {
    /// The name under which its transactions outlive it.
    pub transactional_id: String,
    /// How long a transaction may stay open, in milliseconds; 0 for the default.
    pub timeout_ms: u32,
    /// What it is now: it goes on only where nobody has taken its place (KIP-360). Absent: a new producer, which takes the place of whoever
    /// is there.
    pub current: Option<ProducerIdentity>,
    /// An id that nobody had before; asked for by [`TransactionReply::FreshIdNeeded`].
    pub fresh_id: Option<ProducerId>,
}

/// What an accepted command gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TransactionReply {
    /// Who the producer is from here on: answers Init and End.
    Identity(ProducerIdentity),
    /// The epochs are used up, or there are none yet: the same command again, with a fresh id. Nothing was decided.
    FreshIdNeeded,
    /// An open transaction is aborted first: the same Init succeeds once its markers are written. On the wire: ConcurrentTransactions.
    AbortedFirst,
    /// They are part of the transaction.
    Added,
    /// It is noted.
    Noted,
    /// It is decided that the transaction is undone.
    Aborted,
    /// The ids, by name.
    Listed(ListTransactionsResponse),
    /// How it is.
    Described(DescribeTransactionResponse),
}

/// What is answered to an accepted command. Nothing durable has changed until the records are stored; the reply may leave once they
/// are, and all records before them.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct TransactionDecision {
    /// To be stored all together or not at all.
    pub records: Vec<TransactionRecord>,
    /// For whoever asked.
    pub reply: TransactionReply,
}

impl TransactionDecision {
    /// One record.
    pub(super) fn of(record: TransactionRecord, reply: TransactionReply) -> Self {
        Self { records: Vec::from([record]), reply }
    }

    /// Nothing changes.
    pub(super) const fn nothing(reply: TransactionReply) -> Self {
        Self { records: Vec::new(), reply }
    }

    pub(super) const fn fresh_id_needed() -> Self {
        Self::nothing(TransactionReply::FreshIdNeeded)
    }
}

/// Markers that are missing somewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PendingMarkers {
    /// Whose transaction ended.
    pub transactional_id: String,
    /// How, under which epoch, and where nobody has confirmed it yet.
    pub markers: TransactionMarkers,
}

/// A transaction that is being ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ending<'a> {
    /// Whose.
    pub transactional_id: &'a str,
    /// The producer, as its markers name it.
    pub identity: ProducerIdentity,
    /// It holds; otherwise it is undone.
    pub commit: bool,
    /// Its own epoch is the one that its markers carry.
    pub own_epoch: bool,
}

impl Ending<'_> {
    pub(super) fn markers(&self, touched: &Touched) -> PendingMarkers {
        PendingMarkers {
            transactional_id: self.transactional_id.into(),
            markers: TransactionMarkers {
                identity: self.identity.clone(),
                commit: self.commit,
                partitions: touched.partitions.to_wire(),
                groups: touched.groups_to_wire(),
                own_epoch: self.own_epoch,
            },
        }
    }
}

/// Where a marker belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place<'a> {
    /// A partition.
    Partition(TopicId, PartitionId),
    /// A group.
    Group(&'a str),
}

/// What is open, for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenTransactions {
    /// How many are open, or being ended.
    pub count: usize,
    /// For how long the oldest is, in milliseconds.
    pub oldest_ms: u64,
}

/// The limits of transactions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransactionLimits {
    /// How long a transaction may stay open.
    pub timeout_ms: Bounds,
    /// How long an id is remembered that nobody uses, in milliseconds.
    pub idle_ms: u64,
    /// Transactional ids in all.
    pub ids_max: usize,
    /// Partitions of one transaction.
    pub partitions_max: usize,
    /// Groups of one transaction.
    pub groups_max: usize,
}

impl Default for TransactionLimits {
    fn default() -> Self {
        Self {
            timeout_ms: Bounds { min: 1_000, default: 60_000, max: 900_000 },
            idle_ms: 7 * 24 * 3_600_000,
            ids_max: 100_000,
            partitions_max: 10_000,
            groups_max: 100,
        }
    }
}
