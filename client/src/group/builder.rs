//! What a group reads and how, checked once. Knows nothing of members.

use std::sync::Arc;
use std::time::Duration;

use tidelog_protocol::messages::{Isolation, Subscription};

use super::consumer::GroupConsumer;
use super::rebalance::{RebalanceListener, Unheard};
use super::{GroupError, joining};
use crate::cluster::Cluster;
use crate::consumer::Settings;
use crate::{ClientError, OutOfRange, Start};

/// When a member commits what is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitMode {
    /// Every so often, as partitions are taken away, and as it leaves. Only what the program is done with: nothing that it still works on is
    /// ever skipped.
    Auto {
        /// How often.
        interval: Duration,
    },
    /// Only where the program says so.
    Manual,
}

/// The settings of a member.
pub(super) struct MemberSettings {
    pub(super) subscription: Subscription,
    pub(super) instance_id: Option<String>,
    pub(super) rack: Option<String>,
    pub(super) assignor: Option<String>,
    pub(super) session_ms: u32,
    pub(super) rebalance_ms: u32,
    /// Where a partition begins in which nothing was committed; `None`: nobody said.
    pub(super) start: Option<Start>,
    pub(super) commit: CommitMode,
    pub(super) unfinished_max: usize,
    pub(super) listener: Arc<dyn RebalanceListener>,
    pub(super) reading: Settings,
}

/// Describes a member of a group. Made by [`Client::group`](crate::Client::group).
#[must_use = "nothing happens before `build`"]
pub struct GroupConsumerBuilder {
    cluster: Arc<Cluster>,
    group: String,
    topics: Vec<String>,
    pattern: Option<String>,
    instance_id: Option<String>,
    rack: Option<String>,
    assignor: Option<String>,
    session_timeout: Option<Duration>,
    rebalance_timeout: Duration,
    start: Option<Start>,
    commit: CommitMode,
    unfinished_max: usize,
    listener: Arc<dyn RebalanceListener>,
    reading: Settings,
}

impl std::fmt::Debug for GroupConsumerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GroupConsumerBuilder({}: {:?} {:?})", self.group, self.topics, self.pattern)
    }
}

impl GroupConsumerBuilder {
    pub(crate) fn new(cluster: Arc<Cluster>, group: String) -> Self {
        Self {
            cluster,
            group,
            topics: Vec::new(),
            pattern: None,
            instance_id: None,
            rack: None,
            assignor: None,
            session_timeout: None,
            rebalance_timeout: Duration::from_secs(60),
            start: None,
            commit: CommitMode::Auto { interval: Duration::from_secs(5) },
            unfinished_max: 10_000,
            listener: Arc::new(Unheard),
            reading: Settings::DEFAULT,
        }
    }

    /// Reads these topics. Those that do not exist yet are read once they do.
    pub fn topics<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.topics.extend(topics.into_iter().map(Into::into));
        self
    }

    /// Reads all topics whose whole name matches this regular expression as well, also those that are created later; never the cluster's own.
    pub fn pattern(mut self, pattern: impl Into<String>) -> Self {
        self.pattern = Some(pattern.into());
        self
    }

    /// A name that outlives the process: who [leaves](GroupConsumer::leave) and comes back under it within the session gets what it had, and the others notice nothing. The
    /// place of one that was killed is held until its session ends, and whoever comes under its name waits for that: for one and a half sessions, then with
    /// the error that the name is taken.
    pub fn instance_id(mut self, instance_id: impl Into<String>) -> Self {
        self.instance_id = Some(instance_id.into());
        self
    }

    /// Where the program runs: among equals the coordinator gives it partitions with a replica there, and it reads from replicas there that
    /// keep up.
    pub fn rack(mut self, rack: &str) -> Self {
        self.rack = Some(rack.into());
        self.reading.rack = Some(rack.into());
        self
    }

    /// How partitions are spread: `uniform` (evenly, moving as little as possible) or `range` (a run of each topic, like partitions together).
    /// What most members ask for holds. Default: the broker's, `uniform`.
    pub fn assignor(mut self, assignor: impl Into<String>) -> Self {
        self.assignor = Some(assignor.into());
        self
    }

    /// How long the member may be silent before others get its partitions. Default: the broker's.
    pub const fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = Some(timeout);
        self
    }

    /// How long the member may take to let go of a partition: half of it waits for records that were handed out, the rest is for callbacks and
    /// the last commit. One that takes longer loses all it has. Never shorter than the session. Default: 1 min.
    pub const fn rebalance_timeout(mut self, timeout: Duration) -> Self {
        self.rebalance_timeout = timeout;
        self
    }

    /// Where a partition begins in which the group has committed nothing. The place is committed as soon as it is found, so that what is
    /// written after that is missed by nobody, even where the member ends at once. Partitions that are added later begin there too:
    /// [`Start::End`] misses what is written to them before they are assigned. Default: as [`GroupConsumerBuilder::reset`] says, and
    /// without that it is an error.
    pub const fn start(mut self, start: Start) -> Self {
        self.start = Some(start);
        self
    }

    /// Where to go on where the committed offset is not there any more, and, without [`GroupConsumerBuilder::start`], where nothing was
    /// committed. Default: [`OutOfRange::Fail`], so that nothing is skipped without a word.
    pub const fn reset(mut self, policy: OutOfRange) -> Self {
        self.reading.out_of_range = policy;
        self
    }

    /// Which records are seen. Default: [`Isolation::ReadCommitted`], see [`ConsumerBuilder::isolation`](crate::ConsumerBuilder::isolation).
    pub const fn isolation(mut self, isolation: Isolation) -> Self {
        self.reading.isolation = isolation;
        self
    }

    /// Bytes of batches, per partition, that the broker may push ahead of the program. Default: 4 MiB.
    pub const fn prefetch_bytes(mut self, bytes: u32) -> Self {
        self.reading.prefetch_bytes = bytes;
        self
    }

    /// When to commit what is done. Default: automatically, every 5 s.
    pub const fn commit(mut self, mode: CommitMode) -> Self {
        self.commit = mode;
        self
    }

    /// Records of one partition, from its oldest unfinished one on, that are handed out at most: then the partition waits for that one.
    /// Default: 10,000.
    pub const fn unfinished_max(mut self, records: usize) -> Self {
        self.unfinished_max = records;
        self
    }

    /// Who is told as partitions come and go.
    pub fn on_rebalance(mut self, listener: impl RebalanceListener) -> Self {
        self.listener = Arc::new(listener);
        self
    }

    /// Joins the group. Partitions come a moment later.
    ///
    /// # Errors
    /// [`GroupError::Client`]: [`ClientError::Argument`] for a setting out of its range, or nothing to read; `InvalidGroup`, `GroupFull` or
    /// `InstanceTaken` from the coordinator (the last one only after it had a session's time to end); those of asking the cluster.
    pub async fn build(self) -> Result<GroupConsumer, GroupError> {
        if self.topics.is_empty() && self.pattern.is_none() {
            return Err(ClientError::Argument("a member of a group needs a topic or a pattern to read".into()).into());
        }
        if self.unfinished_max == 0 {
            return Err(ClientError::Argument("unfinished_max must be 1 at least".into()).into());
        }
        if let CommitMode::Auto { interval } = self.commit
            && interval.is_zero()
        {
            return Err(ClientError::Argument("an interval of no time between commits is none".into()).into());
        }
        self.reading.check()?;
        let session_ms = self.session_timeout.map_or(Ok(0), |timeout| milliseconds("session timeout", timeout))?;
        let settings = MemberSettings {
            subscription: Subscription { topics: self.topics, pattern: self.pattern },
            instance_id: self.instance_id,
            rack: self.rack,
            assignor: self.assignor,
            session_ms,
            rebalance_ms: milliseconds("rebalance timeout", self.rebalance_timeout)?,
            start: self.start.or(match self.reading.out_of_range {
                OutOfRange::Fail => None,
                OutOfRange::Earliest => Some(Start::Beginning),
                OutOfRange::Latest => Some(Start::End),
            }),
            commit: self.commit,
            unfinished_max: self.unfinished_max,
            listener: self.listener,
            reading: self.reading,
        };
        joining::join(self.cluster, self.group, settings).await
    }
}

fn milliseconds(name: &str, timeout: Duration) -> Result<u32, ClientError> {
    match u32::try_from(timeout.as_millis()) {
        Ok(ms) if ms > 0 => Ok(ms),
        _ => Err(ClientError::Argument(format!("a {name} of {timeout:?} is not within 1 ms and 49 days"))),
    }
}
