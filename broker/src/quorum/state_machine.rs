//! What settled entries make: the cluster image, and snapshots of it. Knows nothing of what the records mean, nor of the log.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine};
use openraft::{AnyError, EntryPayload, StorageIOError};
use parking_lot::Mutex;
use tidelog_coordination::ClusterImage;
use tidelog_log::Disk;
use tokio::sync::watch;
use tracing::warn;

use super::entry_batch::{EntryError, unpack};
use super::raft_types::{
    Outcome, Position, Proposal, RaftEntry, RaftTypes, StorageFault, StoredMembers, metadata_index,
};
use super::snapshot::{self, Meta, SnapshotError};

/// Pause between two looks at a full disk.
const FULL_DISK_PAUSE: Duration = Duration::from_secs(1);

/// A snapshot as the consensus library sees it.
type RaftSnapshot = openraft::Snapshot<RaftTypes>;

/// The state machine; clones share it.
#[derive(Clone, Debug)]
pub(super) struct StateMachine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    image: watch::Sender<Arc<ClusterImage>>,
    applied: Mutex<Applied>,
    /// One snapshot is written at a time, and none replaces a younger one.
    saved: tokio::sync::Mutex<Option<Meta>>,
    /// Bytes of records applied since the last snapshot.
    since_snapshot: AtomicU64,
    /// Set when nobody waits for room on the disk any more.
    closing: Arc<AtomicBool>,
}

/// How far the log was applied.
#[derive(Clone, Debug, Default)]
struct Applied {
    last: Option<Position>,
    membership: StoredMembers,
}

impl StateMachine {
    /// From the snapshot in `dir`, if there is one. Blocks.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub(super) fn open(disk: Arc<dyn Disk>, dir: PathBuf, closing: Arc<AtomicBool>) -> Result<Self, SnapshotError> {
        let (mut image, mut applied, mut saved) = (ClusterImage::default(), Applied::default(), None);
        if let Some(bytes) = snapshot::load(&*disk, &dir)? {
            let opened = snapshot::decode(&bytes).map_err(|error| snapshot::damaged(&dir, error.to_string()))?;
            image = opened.image;
            applied = Applied { last: opened.meta.last_log_id, membership: opened.meta.last_membership.clone() };
            saved = Some(opened.meta);
        }
        let shared = Shared {
            disk,
            dir,
            image: watch::Sender::new(Arc::new(image)),
            applied: Mutex::new(applied),
            saved: tokio::sync::Mutex::new(saved),
            since_snapshot: AtomicU64::new(0),
            closing,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The image and its changes.
    pub(super) fn image(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.shared.image.subscribe()
    }

    /// The last entry applied.
    pub(super) fn last(&self) -> Option<Position> {
        self.shared.applied.lock().last
    }

    /// Bytes of records applied since the last snapshot: what the next start has to apply again.
    pub(super) fn bytes_since_snapshot(&self) -> u64 {
        self.shared.since_snapshot.load(Ordering::Relaxed)
    }
}

/// What one entry does to the image.
fn apply(image: &mut ClusterImage, index: u64, proposal: &Proposal) -> Result<Outcome, EntryError> {
    if proposal.decided_on != image.as_of() {
        return Ok(Outcome::Superseded);
    }
    let index = metadata_index(index);
    for record in unpack(&proposal.records)? {
        image.apply(index, &record);
    }
    Ok(Outcome::Applied(index))
}

impl RaftStateMachine<RaftTypes> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<Position>, StoredMembers), StorageFault> {
        let applied = self.shared.applied.lock().clone();
        Ok((applied.last, applied.membership))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcome>, StorageFault>
    where
        I: IntoIterator<Item = RaftEntry> + Send,
        I::IntoIter: Send,
    {
        let mut image = (**self.shared.image.borrow()).clone();
        let before = image.as_of();
        let mut applied = self.shared.applied.lock().clone();
        let mut outcomes = Vec::new();
        for entry in entries {
            applied.last = Some(entry.log_id);
            outcomes.push(match &entry.payload {
                EntryPayload::Blank => Outcome::Nothing,
                EntryPayload::Membership(members) => {
                    applied.membership = StoredMembers::new(Some(entry.log_id), members.clone());
                    Outcome::Nothing
                }
                EntryPayload::Normal(proposal) => {
                    self.shared.since_snapshot.fetch_add(proposal.records.len() as u64, Ordering::Relaxed);
                    apply(&mut image, entry.log_id.index, proposal)
                        .map_err(|error| StorageIOError::apply(entry.log_id, AnyError::new(&error)))?
                }
            });
        }
        if image.as_of() != before {
            self.shared.image.send_replace(Arc::new(image));
        }
        *self.shared.applied.lock() = applied;
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        // Entries are applied and this is called one after the other, so these belong together.
        SnapshotBuilder {
            applied: self.shared.applied.lock().clone(),
            image: self.shared.image.borrow().clone(),
            covered: self.shared.since_snapshot.load(Ordering::Relaxed),
            machine: self.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Bytes>, StorageFault> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, meta: &Meta, snapshot: Box<Bytes>) -> Result<(), StorageFault> {
        let installed = snapshot::decode(&snapshot)
            .map_err(|error| StorageIOError::read_snapshot(Some(meta.signature()), AnyError::new(&error)))?;
        self.save(&installed.meta, *snapshot).await?;
        let membership = installed.meta.last_membership.clone();
        *self.shared.applied.lock() = Applied { last: installed.meta.last_log_id, membership };
        self.shared.image.send_replace(Arc::new(installed.image));
        self.shared.since_snapshot.store(0, Ordering::Relaxed);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot>, StorageFault> {
        let saved = self.shared.saved.lock().await;
        let Some(meta) = saved.clone() else { return Ok(None) };
        let shared = self.shared.clone();
        let loaded = tokio::task::spawn_blocking(move || snapshot::load(&*shared.disk, &shared.dir)).await;
        let fault = |error: String| StorageIOError::read_snapshot(Some(meta.signature()), AnyError::error(error));
        let bytes = loaded.map_err(|error| fault(error.to_string()))?.map_err(|error| fault(error.to_string()))?;
        Ok(bytes.map(|bytes| RaftSnapshot { meta: meta.clone(), snapshot: Box::new(bytes) }))
    }
}

/// Makes a snapshot of what held when it was made, while entries go on being applied.
#[derive(Debug)]
pub(super) struct SnapshotBuilder {
    machine: StateMachine,
    applied: Applied,
    image: Arc<ClusterImage>,
    covered: u64,
}

impl RaftSnapshotBuilder<RaftTypes> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<RaftSnapshot, StorageFault> {
        let Applied { last, membership } = self.applied.clone();
        let (meta, image) = (snapshot::meta(last.as_ref(), &membership), self.image.clone());
        let encoded = tokio::task::spawn_blocking(move || snapshot::encode(last.as_ref(), &membership, &image)).await;
        let bytes = encoded.map_err(|error| StorageIOError::read_state_machine(AnyError::new(&error)))?;
        self.machine.save(&meta, bytes.clone()).await?;
        self.machine.shared.since_snapshot.fetch_sub(self.covered, Ordering::Relaxed);
        Ok(RaftSnapshot { meta, snapshot: Box::new(bytes) })
    }
}

impl StateMachine {
    async fn save(&self, meta: &Meta, bytes: Bytes) -> Result<(), StorageFault> {
        let mut saved = self.shared.saved.lock().await;
        if saved.as_ref().is_some_and(|saved| saved.last_log_id > meta.last_log_id) {
            return Ok(());
        }
        let fault = |error: String| StorageIOError::write_snapshot(Some(meta.signature()), AnyError::error(error));
        loop {
            let (shared, bytes) = (self.shared.clone(), bytes.clone());
            let written = tokio::task::spawn_blocking(move || snapshot::save(&*shared.disk, &shared.dir, &bytes)).await;
            match written.map_err(|error| fault(error.to_string()))? {
                // The consensus library ends at the first error of its storage, but a full disk heals.
                Err(error) if error.is_transient() && !self.shared.closing.load(Ordering::Acquire) => {
                    warn!(%error, "no room for a snapshot of the metadata; it is tried again");
                    tokio::time::sleep(FULL_DISK_PAUSE).await;
                }
                Err(error) => return Err(fault(error.to_string()).into()),
                Ok(()) => break,
            }
        }
        *saved = Some(meta.clone());
        Ok(())
    }
}
