//! The data folder of a broker as it starts: opened under the cluster and the broker that it belongs to, with what its last life noted there; and
//! given back where the start comes to nothing. Knows nothing of sockets and of what the broker does with it.

use std::sync::Arc;

use tidelog_coordination::controller::INTERNAL_PREFIX;
use tidelog_log::data_dir::{DataDir, DataDirError};
use tidelog_log::{Disk, Flusher, FlusherOptions, PartitionDir, SpaceGuard};
use tidelog_protocol::{BrokerEpoch, BrokerId, ClusterId};
use tracing::warn;

use crate::config::Config;
use crate::folder_stamps::FolderStamps;
use crate::joining::{self, JoinError};
use crate::member::Address;
use crate::node::Node;
use crate::partition::check_age;
use crate::quorum::{QuorumStorage, StorageOptions};
use crate::start_error::StartError;
use crate::watermarks::{Folder, Watermarks};
use crate::{broker_mark, clean_mark};

/// What is opened, on a thread that may block.
pub(crate) struct Storage {
    pub(crate) data: Arc<DataDir>,
    pub(crate) flusher: Flusher,
    pub(crate) space: Arc<SpaceGuard>,
    pub(crate) notes: Notes,
    /// `None` where the metadata is kept elsewhere.
    pub(crate) quorum: Option<QuorumStorage>,
}

/// What the last life of this broker noted.
pub(crate) struct Notes {
    pub(crate) watermarks: Arc<Watermarks>,
    pub(crate) closed_cleanly: Option<BrokerEpoch>,
    pub(crate) stamps: Arc<FolderStamps>,
}

/// The cluster that the data folder must belong to. A new folder needs somebody to say so; an old one knows, and is only compared.
pub(crate) async fn cluster_to_join(
    config: &Config,
    disk: &dyn Disk,
    contact: &Address,
    is_itself: bool,
) -> Result<Option<ClusterId>, StartError> {
    let is_new = disk.file_bytes(&config.data.0.join(tidelog_log::data_dir::FORMAT)).is_err();
    if is_itself {
        // One that belongs to a cluster may have the settings of all of them.
        return if is_new { Err(JoinError::Itself { contact: contact.clone() }.into()) } else { Ok(None) };
    }
    Ok(if is_new { Some(joining::find_cluster(contact).await?) } else { joining::cluster_at(contact).await.ok() })
}

/// Where the metadata are kept, and of which cluster they must be.
#[derive(Clone, Copy)]
pub(crate) enum Whose {
    Here(Option<ClusterId>),
    Elsewhere(ClusterId),
}

/// Opens it.
pub(crate) async fn open_storage(
    config: &Config,
    disk: Arc<dyn Disk>,
    (broker, address): (BrokerId, &Address),
    whose: Whose,
) -> Result<Storage, StartError> {
    let (config, address) = (config.clone(), address.clone());
    let open = move || {
        let (cluster, elsewhere) = match whose {
            Whose::Here(cluster) => (cluster, false),
            Whose::Elsewhere(cluster) => (Some(cluster), true),
        };
        let data = Arc::new(DataDir::open(disk.clone(), &config.data.0, cluster)?);
        let space = Arc::new(SpaceGuard::new(disk.clone(), &config.data.0, config.disk_free_min_bytes)?.with_reserve());
        broker_mark::check(&data, broker)?;
        // Noted before a broker is noted as the owner.
        let folder = if broker_mark::is_noted(&data)? { Folder::LivedIn } else { Folder::New };
        let watermarks = Arc::new(Watermarks::read(&data, folder)?);
        // Last of all: a start that is refused leaves the mark to the next one.
        let notes = |data: &Arc<DataDir>| take_notes(data, watermarks);
        let options = FlusherOptions { space: Some(space.clone()), ..FlusherOptions::default() };
        let flusher = Flusher::start(options).map_err(StartError::Thread)?;
        if elsewhere {
            return Ok(Storage { notes: notes(&data)?, data, flusher, space, quorum: None });
        }
        let quorum = QuorumStorage::open(StorageOptions {
            data: data.clone(),
            flusher: flusher.handle().with_reserve(),
            broker,
            address,
        })?;
        let is_users = |folder: &PartitionDir| !folder.topic.as_str().starts_with(INTERNAL_PREFIX);
        if quorum.is_fresh() && data.partitions()?.iter().any(is_users) {
            return Err(StartError::MetadataLost { data: config.data.0 });
        }
        // Who joins is noted as the folder's owner before the first metadata arrive; who founds, after.
        if quorum.is_fresh() && config.join.0.is_none() && broker_mark::is_noted(&data)? {
            return Err(StartError::MetadataGone { data: config.data.0 });
        }
        check_age(&data, quorum.end())?;
        Ok(Storage { notes: notes(&data)?, data, flusher, space, quorum: Some(quorum) })
    };
    match tokio::task::spawn_blocking(open).await {
        Ok(storage) => storage,
        Err(error) => Err(StartError::Thread(std::io::Error::other(error))),
    }
}

fn take_notes(data: &Arc<DataDir>, watermarks: Arc<Watermarks>) -> Result<Notes, StartError> {
    let closed_cleanly = clean_mark::take(data)?;
    let stamps = FolderStamps::read(data.clone())?;
    match stamps.draw() {
        Err(error) if error.is_transient() => warn!(%error, "there is no room: this start has no stamp of its own"),
        drawn => drawn.map_err(DataDirError::from)?,
    }
    Ok(Notes { watermarks, closed_cleanly, stamps: Arc::new(stamps) })
}

/// Leaves no trace of a start that the cluster refused: the next one begins anew, maybe as another broker.
pub(crate) async fn take_back(node: &Arc<Node>, flusher: Flusher) {
    node.draining.cancel();
    node.connections_close.cancel();
    if let Err(error) = node.controllers.close().await {
        warn!(%error, "the metadata log was not closed cleanly");
    }
    let data = node.data.clone();
    let undone = tokio::task::spawn_blocking(move || {
        // It may still write.
        drop(flusher);
        data.undo()
    });
    if let Ok(Err(error)) = undone.await {
        warn!(%error, "the new data folder could not be removed");
    }
}

/// Once the cluster has it, the folder is this broker's.
pub(crate) async fn note_owner(node: &Arc<Node>) -> Result<(), StartError> {
    let (data, own) = (node.data.clone(), node.broker_id);
    let noted = tokio::task::spawn_blocking(move || broker_mark::note(&data, own)).await;
    Ok(noted.map_err(|error| StartError::Thread(std::io::Error::other(error)))??)
}
