//! What a simulated cluster is made of, and which bug is planted in it. Knows nothing of what happens to it.

use tidelog_protocol::Durability;
use tidelog_replication::Flaws;

/// A cluster. Times are shorter than a real one's, in the same proportions.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many brokers; each holds a replica of the one partition.
    pub brokers: u32,
    /// The topic's durability.
    pub durability: Durability,
    /// The topic's `min.insync.replicas`.
    pub min_in_sync: u16,
    /// How long a follower may lag.
    pub lag_max_ms: u64,
    /// How long a broker may be silent.
    pub lease_ms: u64,
    /// How often a broker looks after what time brings.
    pub tick_ms: u64,
    /// The bug planted in the rules of replication.
    pub flaws: Flaws,
    /// The bug planted in what surrounds them.
    pub shell_flaw: Option<ShellFlaw>,
}

/// A bug that can be planted around the machines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ShellFlaw {
    /// The controller elects any live replica where nobody eligible is left.
    AnyReplicaElected,
    /// What was remembered as settled is served as such after a restart, though the records had to be fetched again.
    WatermarkCheckpointTrusted,
    /// The word of a flush that began before a cut is passed on after it.
    StaleFlushBelieved,
    /// A broker that starts believes the metadata of its earlier life and goes on leading.
    OldMetadataBelieved,
    /// A folder that was set back to an older copy is taken for the newest.
    OlderCopyBelieved,
    /// What was known of producers is kept though the batches that said so were cut.
    ProducersOutliveCut,
    /// A batch that was sent again is acknowledged as soon as it is recognised, though the first one is not kept yet.
    DuplicateAckedAtOnce,
    /// What a coordinator said counts though a marker has come since it was asked.
    WordNotJudgedAnew,
}

impl Settings {
    /// Three brokers, `flushed`, two of them in sync at least.
    #[must_use]
    pub const fn usual() -> Self {
        Self {
            brokers: 3,
            durability: Durability::Flushed,
            min_in_sync: 2,
            lag_max_ms: 600,
            lease_ms: 500,
            tick_ms: 100,
            flaws: Flaws::NONE,
            shell_flaw: None,
        }
    }
}
