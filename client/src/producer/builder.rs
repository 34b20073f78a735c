//! Settings of a producer, checked once. Knows nothing of how they are kept.

use std::sync::Arc;
use std::time::Duration;

use tidelog_protocol::messages::Acks;
use tidelog_protocol::records::Compression;

use super::partitioner::{Choice, Partitioner};
use super::{Producer, dispatch};
use crate::ClientError;
use crate::cluster::Cluster;

/// The settings that the parts of a producer read.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) acks: Acks,
    pub(crate) compression: Compression,
    pub(crate) batch_bytes: usize,
    pub(crate) linger: Duration,
    pub(crate) memory_bytes: usize,
    pub(crate) max_in_flight: usize,
    pub(crate) delivery_timeout: Duration,
    pub(crate) choice: Choice,
    /// As the program says; `None`: where acks and batches in flight allow it.
    idempotent: Option<bool>,
}

/// As many batches of a producer does a partition remember.
const IDEMPOTENT_IN_FLIGHT_MAX: usize = 5;

impl Settings {
    /// Whether records are numbered.
    pub(crate) fn is_idempotent(&self) -> bool {
        self.idempotent.unwrap_or(self.acks == Acks::All && self.max_in_flight <= IDEMPOTENT_IN_FLIGHT_MAX)
    }
}

/// Describes a producer. Made by [`Client::producer`](crate::Client::producer).
#[derive(Clone, Debug)]
#[must_use = "nothing happens before `build`"]
pub struct ProducerBuilder {
    cluster: Arc<Cluster>,
    settings: Settings,
}

impl ProducerBuilder {
    pub(crate) const fn new(cluster: Arc<Cluster>) -> Self {
        let settings = Settings {
            acks: Acks::All,
            compression: Compression::None,
            batch_bytes: 256 << 10,
            linger: Duration::ZERO,
            memory_bytes: 64 << 20,
            max_in_flight: 5,
            delivery_timeout: Duration::from_secs(120),
            choice: Choice::ByKey,
            idempotent: None,
        };
        Self { cluster, settings }
    }

    /// What must have happened before a record counts as delivered. Default: [`Acks::All`].
    ///
    /// With [`Acks::None`] a delivery resolves as the batch goes to the socket, whatever becomes of it there. When another broker takes the
    /// lead of a partition, what was sent since, until its refusal is heard, is lost: that of a round trip, or, where the leader was killed or cut off,
    /// all that was under way to it. What is sent later goes to the next leader. A broker of protocol version 10 or older does not say
    /// what it refuses: there, everything is lost until the connection ends and the leader is looked for.
    pub const fn acks(mut self, acks: Acks) -> Self {
        self.settings.acks = acks;
        self
    }

    /// How batches are compressed, on the thread that fills or sends them. Default: [`Compression::None`].
    pub const fn compression(mut self, compression: Compression) -> Self {
        self.settings.compression = compression;
        self
    }

    /// The largest batch, in bytes before compression; a topic's own limit holds too. A record too large for it travels in
    /// a batch of its own. Default: 256 KiB.
    pub const fn batch_bytes(mut self, bytes: usize) -> Self {
        self.settings.batch_bytes = bytes;
        self
    }

    /// How long a batch that is not full waits for more records. With zero it leaves at once if nothing of its partition is
    /// under way, and else collects records until the answer: batches then grow with the load by themselves. More than zero
    /// pays where many partitions see few records each. Default: 0.
    pub const fn linger(mut self, linger: Duration) -> Self {
        self.settings.linger = linger;
        self
    }

    /// Memory for records that are not acknowledged yet, in bytes, counted in whole batches of [`ProducerBuilder::batch_bytes`].
    /// Where it is used up `send` waits and `try_send` refuses. Default: 64 MiB.
    pub const fn memory_bytes(mut self, bytes: usize) -> Self {
        self.settings.memory_bytes = bytes;
        self
    }

    /// Batches of one partition that may be unanswered at once, from 1.
    ///
    /// What holds: as one batch is refused for a passing reason (overload, a full disk, too few replicas in sync), as too large
    /// for a limit that was lowered, or lost with its connection, its partition pauses until the fate of all that are under way is
    /// known; then what failed goes out again first, in its order, one batch alone until one succeeds. So a broker that refuses,
    /// with one batch, all that were sent behind it keeps the order, as does a lost connection.
    ///
    /// Of an idempotent producer each record stands once and in its place, whatever breaks; more than 5 make it one that is not. Of any other,
    /// a batch may stand twice, where its answer was lost, and then the later copy may stand behind newer batches; and where the
    /// broker refuses one batch but accepts the next, which was under way already, the refused one follows after it. Default: 5.
    pub const fn max_in_flight(mut self, batches: usize) -> Self {
        self.settings.max_in_flight = batches;
        self
    }

    /// Whether the broker shall write once what the producer has to send twice, and in order. Asks for [`Acks::All`] and at most 5 batches
    /// in flight. Default: true, but for settings that it does not go with.
    pub const fn idempotent(mut self, idempotent: bool) -> Self {
        self.settings.idempotent = Some(idempotent);
        self
    }

    /// How long a record is tried from `send` to its answer; then its delivery fails, with [`SendError::Expired`] where it is known not to be
    /// written and [`SendError::Unknown`] where it may be. Default: 120 s.
    ///
    /// [`SendError::Expired`]: super::SendError::Expired
    /// [`SendError::Unknown`]: super::SendError::Unknown
    pub const fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.settings.delivery_timeout = timeout;
        self
    }

    /// Ignores keys: every batch is filled in one partition before the next is chosen. Default: by the hash of the key, as
    /// Kafka's clients do; records without key are sticky.
    pub fn sticky(mut self) -> Self {
        self.settings.choice = Choice::Sticky;
        self
    }

    /// Chooses partitions as the program says.
    pub fn partitioner(mut self, partitioner: impl Partitioner + 'static) -> Self {
        self.settings.choice = Choice::Custom(Arc::new(partitioner));
        self
    }

    /// The producer. Connections are opened as topics are first used.
    ///
    /// # Errors
    /// [`ClientError::Argument`] names the setting that is out of its range.
    pub fn build(self) -> Result<Producer, ClientError> {
        self.check()?;
        Ok(Producer::new(dispatch::Dispatch::new(self.cluster, self.settings)))
    }

    /// What is sent within transactions, and to which cluster.
    pub(crate) fn of_transactions(self) -> Result<(Arc<Cluster>, Settings), ClientError> {
        self.check()?;
        if !self.settings.is_idempotent() {
            let sentence = "a transactional producer is idempotent: it needs acks=all, and at most 5 batches in flight";
            return Err(ClientError::Argument(sentence.into()));
        }
        Ok((self.cluster, self.settings))
    }

    fn check(&self) -> Result<(), ClientError> {
        let s = &self.settings;
        let refuse = |text: String| Err(ClientError::Argument(text));
        if !(1 << 10..=32 << 20).contains(&s.batch_bytes) {
            return refuse(format!("batch_bytes of {} is not within 1 KiB and 32 MiB", s.batch_bytes));
        }
        if s.memory_bytes < s.batch_bytes || s.memory_bytes > u32::MAX as usize {
            return refuse(format!("memory_bytes of {} is not within one batch and 4 GiB", s.memory_bytes));
        }
        if !(1..=1_000).contains(&s.max_in_flight) {
            return refuse(format!("max_in_flight of {} is not within 1 and 1000", s.max_in_flight));
        }
        if s.idempotent == Some(true) && s.acks != Acks::All {
            return refuse("an idempotent producer needs acks=all: without, lost records would not be noticed".into());
        }
        if s.idempotent == Some(true) && s.max_in_flight > IDEMPOTENT_IN_FLIGHT_MAX {
            let (set, max) = (s.max_in_flight, IDEMPOTENT_IN_FLIGHT_MAX);
            return refuse(format!(
                "max_in_flight of {set} is above {max}, which is what an idempotent producer may have"
            ));
        }
        if s.linger >= s.delivery_timeout {
            return refuse(format!("linger {:?} is not below the delivery timeout {:?}", s.linger, s.delivery_timeout));
        }
        Ok(())
    }
}
