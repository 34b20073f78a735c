//! From a folder on disk to a running owner, and back to nothing. Blocks on the disk. Knows nothing of which partitions there
//! should be.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tidelog_coordination::{ClusterImage, TopicConfig, TopicImage};
use tidelog_log::data_dir::{DataDir, DataDirError};
use tidelog_log::small_file::TEMP_SUFFIX;
use tidelog_log::{
    FlusherHandle, Identity, Log, LogListener, LogOptions, OpenError, RecoveryReport, SegmentOptions, SpaceGuard,
    StorageError, Witness,
};
use tidelog_protocol::messages::ReplicaHolding;
use tidelog_protocol::{Durability, Offset, PartitionId, TopicName};
use tidelog_replication::{EpochHistory, PartitionOffsets};
use tokio::runtime;
use tokio::sync::watch;
use tracing::warn;

use super::assignment::{Assignment, Member};
use super::command::Command;
use super::handle::{self, Handle, WeakHandle};
use super::leftovers;
use super::owner::{self, Owner};
use super::proposal::Proposals;
use super::recoveries::Recoveries;
use super::replica_cursor::Followers;
use super::upstream::{Replica, Upstream};
use crate::lease::Lease;
use crate::metrics::Metrics;
use crate::watermarks::Watermarks;

/// Name of the file that [`Opening::probe_disk`] writes.
const PROBE: &str = "probe";

/// A follower that has not had everything for longer than this leaves the in-sync set.
const LAG_MAX_MS: u64 = 3_000;

/// Why a partition cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpeningError {
    /// Its folder cannot be had.
    #[error(transparent)]
    Folder(#[from] DataDirError),
    /// It was there before, as a whole.
    #[error("the folder {} is gone, and the records in it", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// It had more, and other replicas have that.
    #[error(
        "its log ends at offset {end}, though everything before offset {settled} had been settled and flushed here: another disk than it was; replicas that have it lead"
    )]
    Short {
        /// Where it ends.
        end: Offset,
        /// Where it must have ended, or later.
        settled: Offset,
    },
    /// Its log cannot be opened.
    #[error(transparent)]
    Log(OpenError),
    /// Its folder is there, and what was in it is not.
    #[error(transparent)]
    Emptied(OpenError),
}

impl From<OpenError> for OpeningError {
    fn from(error: OpenError) -> Self {
        if matches!(error, OpenError::LogLost { .. }) { Self::Emptied(error) } else { Self::Log(error) }
    }
}

impl OpeningError {
    /// Whether nothing is broken, and trying again later may do.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Folder(DataDirError::Storage(error)) | Self::Log(OpenError::Storage(error)) => error.is_transient(),
            Self::Folder(_) | Self::Missing { .. } | Self::Short { .. } | Self::Log(_) | Self::Emptied(_) => false,
        }
    }

    /// What there is of the replica.
    #[must_use]
    pub const fn holding(&self) -> ReplicaHolding {
        match self {
            Self::Missing { .. } | Self::Emptied(_) => ReplicaHolding::Nothing,
            Self::Short { .. } => ReplicaHolding::Short,
            Self::Folder(_) | Self::Log(_) => ReplicaHolding::Unreadable,
        }
    }

    /// What an operator can do about it, where the error itself does not say. A topic that `belongs_to_broker` cannot be deleted.
    #[must_use]
    pub fn remedy(&self, topic: &TopicName, partition: PartitionId, belongs_to_broker: bool) -> Option<String> {
        let or_else = match self {
            Self::Missing { .. } | Self::Emptied(_) if belongs_to_broker => {
                format!(
                    "or give up what it said: tidelog records delete {topic} --partition {partition} --before 0 --accept-loss (its --help says what that means)"
                )
            }
            Self::Missing { .. } => "or delete the topic, which loses nothing where it never held a record".into(),
            Self::Emptied(_) => "or delete the topic; an earlier release that was killed while it made the folder left one like it: where the topic never held a record, deleting it loses nothing".into(),
            Self::Folder(_) | Self::Short { .. } | Self::Log(_) => return None,
        };
        Some(format!("restore the folder from a copy, {or_else}"))
    }
}

/// Everything that opening a partition takes.
pub struct Opening {
    /// The data folder.
    pub data: Arc<DataDir>,
    /// The group commit.
    pub flusher: FlusherHandle,
    /// Free space.
    pub space: Arc<SpaceGuard>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Bytes that may wait for one partition.
    pub queue_bytes_max: u64,
    /// The lease of this broker.
    pub lease: Arc<Lease>,
    /// How far replicated partitions were known to be settled.
    pub watermarks: Arc<Watermarks>,
    /// The way to leaders elsewhere.
    pub upstream: Arc<dyn Upstream>,
    /// Where in-sync sets are proposed.
    pub proposals: Arc<Proposals>,
    /// After how long a silent producer is forgotten.
    pub producer_id_expiration_ms: u64,
    /// Where an owner runs that nobody else runs.
    pub runtime: runtime::Handle,
}

/// Tells the owner what the flusher did. The flusher's thread must not run the owner, which may wait for the flusher. Weak: the log
/// that the handle reads holds its listener, and the two would keep each other, and the files of a deleted partition, for ever.
struct Listener {
    handle: Arc<OnceLock<WeakHandle>>,
}

impl LogListener for Listener {
    fn flushed(&self, end: Offset) {
        if let Some(handle) = self.handle.get().and_then(WeakHandle::upgrade) {
            handle.submit_elsewhere(Command::Flushed(end));
        }
    }

    fn poisoned(&self, error: &Arc<StorageError>) {
        if let Some(handle) = self.handle.get().and_then(WeakHandle::upgrade) {
            handle.submit_elsewhere(Command::Poisoned(error.to_string()));
        }
    }
}

impl Opening {
    /// The guard of free space.
    #[must_use]
    pub fn space(&self) -> &SpaceGuard {
        &self.space
    }

    /// Opens a partition that has a replica here, and begins to play its part; creates its folder where it is missing.
    ///
    /// # Errors
    /// [`OpeningError`]; the folder is left as it is.
    pub(super) fn open(
        &self,
        topic: &TopicImage,
        partition: PartitionId,
        assignment: Assignment,
        recoveries: &Recoveries,
    ) -> Result<Handle, OpeningError> {
        let name = format!("{}-{partition}", topic.name);
        if assignment.counts {
            self.check_folder(topic, partition)?;
        }
        let cell = Arc::new(OnceLock::new());
        let options = LogOptions {
            dir: self.data.partition_path(&topic.name, partition)?,
            disk: self.data.disk(),
            identity: Identity { topic: topic.id, partition, incarnation: self.data.format().incarnation },
            segment: segment_options(&topic.config),
            flusher: self.flusher.clone(),
            listener: Arc::new(Listener { handle: cell.clone() }),
        };
        let replica = Replica { topic_id: topic.id, partition };
        let noted = self.watermarks.of(replica).unwrap_or(Offset::ZERO);
        let flushed = topic.config.durability == Durability::Flushed;
        // Where there are others, what a replica lacks is put back from them, at the same offsets. Where there are none it is lost, and what is
        // appended comes behind it. So it is whoever leads: a broker that starts leads nothing before its cluster has heard of it.
        let witness = if assignment.is_sole && flushed { Witness::Note(noted) } else { Witness::Nobody };
        let (log, report) =
            if assignment.counts { Log::open_with(options, witness)? } else { self.open_uncounted(topic, options)? };
        recoveries.note(&name, &report);
        if report.discarded_offsets > 0 {
            let (discarded, durability) = (report.discarded_offsets, topic.config.durability);
            warn!(partition = %name, discarded_offsets = discarded, end = %log.end(), %durability, "power was lost while these offsets were being written, none of them acknowledged as flushed; the log ends before them");
        }
        let has_others = topic.partition(partition).is_some_and(|state| state.replicas.len() > 1);
        let remedy = if has_others {
            "a replica that has it may give it back"
        } else {
            "no other broker has a replica: only a newer copy of the folder, put there while the broker is stopped, brings it back"
        };
        for hole in &report.holes {
            warn!(partition = %name, from = %hole.from, to = %hole.to, remedy, "damaged: this range is lost here, the rest is served");
        }
        log.set_durability(topic.config.durability);
        let (reader, retention, compaction) = (log.reader(), log.retention(), log.compaction());
        // What recovery found was flushed by it. A single replica has nobody to wait for; another knows what it noted, and learns the rest
        // from its peers.
        if noted > log.end() && flushed && assignment.counts && assignment.has_heirs {
            // As one that counts it might come to lead, and the others would cut what they have. As one of many it gets that from them.
            return Err(OpeningError::Short { end: log.end(), settled: noted });
        }
        if noted > log.end() {
            // Of one that others hold too, with `flushed`, that is another disk than it was; with `written` it is what a power loss takes.
            let (durability, end) = (topic.config.durability, log.end());
            warn!(partition = %name, settled = %noted, %end, %durability, remedy, "records that had been settled are lost on this disk: the log ends before them");
        }
        let noted = || noted.clamp(reader.log_start(), log.end());
        let settled = if assignment.is_alone() { log.end() } else { noted() };
        let offsets = PartitionOffsets::recovered(reader.log_start(), settled, reader.flushed_end(), log.end());
        let epochs = reader.leader_epochs();
        let epochs = EpochHistory::recovered(epochs.starts().iter().map(|entry| (entry.epoch, entry.start)));
        let (sender, tail) = watch::channel(Owner::first_tail(assignment.epoch()));
        let followers = Followers::default();
        let topic_metrics = self.metrics.topic(topic.name.as_str());
        let parts = owner::Parts {
            name,
            replica,
            log,
            assignment,
            lag_max_ms: LAG_MAX_MS,
            leased: self.lease.holds(),
            tail: sender,
            followers: followers.clone(),
            upstream: self.upstream.clone(),
            proposals: self.proposals.clone(),
            space: self.space.clone(),
            producer_id_expiration_ms: self.producer_id_expiration_ms,
            queue_bytes_max: self.queue_bytes_max,
            topic_metrics: topic_metrics.clone(),
            metrics: self.metrics.clone(),
        };
        let handle = Handle::new(handle::Parts {
            topic_id: topic.id,
            topic: topic.name.clone(),
            partition,
            owner: Owner::new(parts, offsets, epochs),
            reader,
            retention,
            compaction,
            tail,
            followers,
            metrics: topic_metrics,
            queue_bytes_max: self.queue_bytes_max,
            runtime: self.runtime.clone(),
        });
        // The cell is new: nobody has set it.
        let _ = cell.set(handle.downgrade());
        Ok(handle)
    }

    /// What is lost of a replica that nobody counts on is fetched from those that have it.
    fn open_uncounted(&self, topic: &TopicImage, options: LogOptions) -> Result<(Log, RecoveryReport), OpeningError> {
        match Log::open_with(options.clone(), Witness::Replicas) {
            Err(error @ OpenError::LogLost { .. }) => {
                let partition = options.identity.partition;
                warn!(topic = %topic.name, %partition, %error, "this replica begins anew");
                self.data.delete_partition(&topic.name, partition)?;
                Ok(Log::open_with(options, Witness::Replicas)?)
            }
            opened => Ok(opened?),
        }
    }

    /// Removes the folder of a replica that is gone, and forgets how far it was settled.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn remove(&self, topic: &TopicImage, partition: PartitionId) -> Result<(), DataDirError> {
        self.data.delete_partition(&topic.name, partition)?;
        self.watermarks.forget(Replica { topic_id: topic.id, partition });
        Ok(())
    }

    /// Removes the folders of partitions of which the metadata knows no replica of `member`.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn remove_leftovers(&self, image: &ClusterImage, member: Member) -> Result<(), DataDirError> {
        leftovers::remove_leftovers(&self.data, image, member)
    }

    /// A folder that is gone, or that has nothing in it, though it was made, holds no records, and an empty log in its place would hide that.
    fn check_folder(&self, topic: &TopicImage, partition: PartitionId) -> Result<(), OpeningError> {
        let path = self.data.partition_path(&topic.name, partition)?;
        if self.watermarks.of(Replica { topic_id: topic.id, partition }).is_none() {
            return Ok(());
        }
        match self.data.disk().list(&path) {
            Ok(entries) if entries.iter().all(|entry| entry.name.ends_with(TEMP_SUFFIX)) => {
                Err(OpeningError::Emptied(OpenError::LogLost { dir: path }))
            }
            Ok(_) => Ok(()),
            Err(_) => Err(OpeningError::Missing { path }),
        }
    }

    /// The partitions that have a folder; none where the data folder cannot be listed.
    pub(super) fn folders(&self) -> BTreeSet<(TopicName, PartitionId)> {
        let folders = self.data.partitions().unwrap_or_default();
        folders.into_iter().map(|folder| (folder.topic, folder.partition)).collect()
    }

    /// Writes, flushes and removes a small file in the data folder.
    ///
    /// # Errors
    /// What the disk says.
    pub fn probe_disk(&self) -> std::io::Result<()> {
        let (disk, path) = (self.data.disk(), self.data.root().join(PROBE));
        match disk.remove_file(&path) {
            // The leftover of a probe that was killed.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.create(&path)?;
        let probed = file.write_at(&[std::io::IoSlice::new(b"probe")], 0).and_then(|_| file.sync_data());
        disk.remove_file(&path)?;
        probed
    }
}

/// What of a topic's configuration concerns its segments.
fn segment_options(config: &TopicConfig) -> SegmentOptions {
    SegmentOptions { segment_bytes: config.segment_bytes, ..SegmentOptions::default() }
}
