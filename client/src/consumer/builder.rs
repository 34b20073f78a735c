//! What a consumer reads and where it starts, checked once. Knows nothing of streams.

use std::sync::Arc;
use std::time::Duration;

use tidelog_protocol::messages::{Isolation, Position};
use tidelog_protocol::{Offset, PartitionId, Timestamp};

use super::{Consumer, opening};
use crate::ClientError;
use crate::cluster::Cluster;

/// Where to start in a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// At the first record there is.
    Beginning,
    /// At the next record that becomes readable.
    End,
    /// At this offset. One that does not exist is an error, see [`ConsumerBuilder::out_of_range`].
    Offset(Offset),
    /// At the first record whose timestamp (milliseconds since 1970) is this or later; at the end where there is none.
    Timestamp(Timestamp),
}

impl Start {
    pub(super) const fn position(self) -> Position {
        match self {
            Self::Beginning => Position::EARLIEST,
            Self::End => Position::LATEST,
            Self::Offset(offset) => Position::offset(offset),
            Self::Timestamp(timestamp) => Position::timestamp(timestamp),
        }
    }
}

/// What to do where the next offset is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OutOfRange {
    /// Tell the program, which decides.
    #[default]
    Fail,
    /// Go on at the first record there is. What was deleted in between is skipped without a word.
    Earliest,
    /// Go on at the end. What lies in between is skipped without a word.
    Latest,
}

/// The settings that the parts of a consumer read.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) isolation: Isolation,
    pub(crate) out_of_range: OutOfRange,
    pub(crate) prefetch_bytes: u32,
    pub(crate) item_bytes: u32,
    pub(crate) decompressed_bytes_max: usize,
    pub(crate) until_end: bool,
    /// How long a damaged range is waited for that is being fetched from another replica.
    pub(crate) repair_patience: Duration,
    /// Where the program runs.
    pub(crate) rack: Option<Arc<str>>,
    /// How long a leader may be away before another replica is read from; `None` for ever.
    pub(crate) survivors: Option<Duration>,
}

impl Settings {
    pub(crate) const DEFAULT: Self = Self {
        isolation: Isolation::ReadCommitted,
        out_of_range: OutOfRange::Fail,
        prefetch_bytes: 4 << 20,
        item_bytes: 256 << 10,
        decompressed_bytes_max: tidelog_protocol::records::DEFAULT_DECOMPRESSED_BYTES_MAX,
        until_end: false,
        repair_patience: Duration::from_secs(60),
        rack: None,
        survivors: None,
    };

    /// Refuses what is out of its range.
    pub(crate) fn check(&self) -> Result<(), ClientError> {
        for (name, bytes) in [("prefetch_bytes", self.prefetch_bytes), ("item_bytes", self.item_bytes)] {
            if !(1 << 10..=1 << 30).contains(&bytes) {
                return Err(ClientError::Argument(format!("{name} of {bytes} is not within 1 KiB and 1 GiB")));
            }
        }
        Ok(())
    }
}

/// Partitions of a topic and where to start in them.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    pub(super) topic: String,
    /// `None`: all of them.
    pub(super) partitions: Option<Vec<PartitionId>>,
    /// `None`: as the builder says for all.
    pub(super) start: Option<Start>,
}

/// Describes a consumer. Made by [`Client::consumer`](crate::Client::consumer).
#[derive(Clone, Debug)]
#[must_use = "nothing happens before `build`"]
pub struct ConsumerBuilder {
    cluster: Arc<Cluster>,
    selections: Vec<Selection>,
    start: Start,
    settings: Settings,
}

impl ConsumerBuilder {
    pub(crate) const fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, selections: Vec::new(), start: Start::End, settings: Settings::DEFAULT }
    }

    /// Reads all partitions of a topic. Those that are added while the consumer runs are read too, from their beginning whatever the
    /// start of the others, so that nothing is missed; it looks for them every [`ClientBuilder::metadata_max_age`]. With
    /// [`ConsumerBuilder::until_end`] it keeps to the partitions that there are as it is built.
    ///
    /// [`ClientBuilder::metadata_max_age`]: crate::ClientBuilder::metadata_max_age
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.selections.push(Selection { topic: topic.into(), partitions: None, start: None });
        self
    }

    /// Reads these partitions of a topic.
    pub fn partitions(mut self, topic: impl Into<String>, partitions: impl IntoIterator<Item = PartitionId>) -> Self {
        let partitions = Some(partitions.into_iter().collect());
        self.selections.push(Selection { topic: topic.into(), partitions, start: None });
        self
    }

    /// Reads one partition of a topic from a place of its own.
    pub fn partition_from(mut self, topic: impl Into<String>, partition: PartitionId, start: Start) -> Self {
        self.selections.push(Selection { topic: topic.into(), partitions: Some(vec![partition]), start: Some(start) });
        self
    }

    /// Where to start in every partition that has no place of its own. Default: [`Start::End`].
    pub const fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Which records are seen. Default: [`Isolation::ReadCommitted`], which costs nothing where there are no transactions: records of a
    /// transaction come once it is committed, those of an aborted one never, and where one is open the partition waits for its end.
    /// [`Isolation::ReadUncommitted`] (Kafka's default) shows all of them at once, the undone ones too.
    pub const fn isolation(mut self, isolation: Isolation) -> Self {
        self.settings.isolation = isolation;
        self
    }

    /// What to do where the next offset is not there. Default: [`OutOfRange::Fail`].
    pub const fn out_of_range(mut self, policy: OutOfRange) -> Self {
        self.settings.out_of_range = policy;
        self
    }

    /// Bytes of batches, per partition, that the broker may push ahead of the program. Default: 4 MiB.
    pub const fn prefetch_bytes(mut self, bytes: u32) -> Self {
        self.settings.prefetch_bytes = bytes;
        self
    }

    /// Bytes of batches that the broker puts into one push; a larger batch still comes whole. Default: 256 KiB.
    pub const fn item_bytes(mut self, bytes: u32) -> Self {
        self.settings.item_bytes = bytes;
        self
    }

    /// What one compressed batch may become, in bytes; a larger one is an error. Default: 64 MiB.
    pub const fn decompressed_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.decompressed_bytes_max = bytes;
        self
    }

    /// Ends each partition where it ends for this [isolation](ConsumerBuilder::isolation) as the consumer is built, and the consumer with the
    /// last of them: at the high watermark, or where the oldest open transaction begins.
    pub const fn until_end(mut self) -> Self {
        self.settings.until_end = true;
        self
    }

    /// How long a damaged range is waited for that the broker says is being fetched from another replica; after that its refusal is an error
    /// of the partition, which stands before the range until the program seeks: there again, or behind it. Default: 60 s.
    pub const fn repair_patience(mut self, patience: Duration) -> Self {
        self.settings.repair_patience = patience;
        self
    }

    /// Reads from a replica in this rack where there is one that keeps up, rather than from the leader elsewhere (KIP-392). What it pushes
    /// is settled all the same, but comes a moment later. Where it fails, the leader serves until its stream ends.
    pub fn rack(mut self, rack: &str) -> Self {
        self.settings.rack = Some(rack.into());
        self
    }

    /// Where the leader of a partition could not be reached for so long, reads from another replica what that knows to be settled, as far as its
    /// broker knows of nobody who leads: where a majority of the brokers is lost nobody can lead, and what lies below the high watermark
    /// can be read all the same. There may be more that this replica does not know of, so with [`ConsumerBuilder::until_end`] the partition ends
    /// where the replica does. [`Consumer::take_survivors`] says where that is so. With [`Duration::ZERO`] such replicas are asked first, for the
    /// start positions as well. Default: never.
    pub const fn survivors(mut self, patience: Duration) -> Self {
        self.settings.survivors = Some(patience);
        self
    }

    /// The consumer, its start positions found. Streams then open in the background.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`], [`ClientError::UnknownPartition`]; [`ClientError::Argument`] for a setting out of its range, no
    /// topic at all, or a partition named twice; those of asking the cluster.
    pub async fn build(self) -> Result<Consumer, ClientError> {
        if self.selections.is_empty() {
            return Err(ClientError::Argument("a consumer needs a topic or a partition to read".into()));
        }
        self.settings.check()?;
        opening::open(self.cluster, self.selections, self.start, self.settings).await
    }
}
