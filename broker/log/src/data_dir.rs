//! The folder that holds everything of one broker: locked, versioned, one folder per partition.
//!
//! `format` says which release's layout it is, which cluster it belongs to and which life of the disk this is. Knows names only; what is
//! in a partition's folder is the log's.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidelog_protocol::{ClusterId, IncarnationId, PartitionId, TopicName};
use uuid::Uuid;

use crate::disk::{DirEntry, Disk, EntryKind};
use crate::segment_files::{remove_gradually_if_there, remove_if_there};
use crate::small_file::{self, Fields, Kind, SmallFileError};
use crate::storage_error::{Context, StorageError};

const LOCK: &str = "lock";
/// Name of the file that says whose a data folder is; there from its first opening on.
pub const FORMAT: &str = "format";
pub(crate) const KIND: Kind = Kind { magic: *b"TLfm", version: 1 };
/// Suffix of partition folders that are being deleted.
const DELETED_SUFFIX: &str = ".deleted";
/// Longest name of a folder entry on Linux, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// A data folder that is in use by this process, until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    format: Format,
    /// What this opening found, where it made the folder a broker's.
    found: Option<Found>,
    _lock: LockHeld,
}

/// What was there before a folder became a broker's.
#[derive(Debug)]
struct Found {
    made_root: bool,
    names: Vec<String>,
}

/// What the `format` file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Format {
    /// The cluster whose data this is.
    pub cluster: ClusterId,
    /// This life of the folder; a wiped disk gets a new one.
    pub incarnation: IncarnationId,
}

/// What a folder says of itself, whoever uses it now; `None` where it is nobody's yet, or cannot be read.
#[must_use]
pub fn format_of(disk: &dyn Disk, root: &Path) -> Option<Format> {
    let (_, body) = small_file::read(disk, &root.join(FORMAT), KIND).ok()?;
    decode(&body)
}

/// A partition that has a folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionDir {
    /// Its topic's name (names are reused: the identity file in the folder says whose it really is).
    pub topic: TopicName,
    /// Its index.
    pub partition: PartitionId,
    /// The folder.
    pub path: PathBuf,
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process holds the lock.
    #[error("{} is in use by another process: stop that broker, or give this one another data folder", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A later release wrote it.
    #[error("{} was written by a newer release (format {found}, this one reads up to {newest}): start that release", path.display())]
    Newer {
        /// The folder.
        path: PathBuf,
        /// Its format version.
        found: u16,
        /// The newest that this release reads.
        newest: u16,
    },
    /// There is data, but the format file is missing or damaged.
    #[error("{} holds partitions but its format file cannot be trusted ({reason}): restore that file, or use an empty folder", path.display())]
    Unknown {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It belongs to another cluster.
    #[error("{} belongs to cluster {found}, not to {expected}: give this broker its own data folder", path.display())]
    OtherCluster {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        found: ClusterId,
        /// Whose it should be.
        expected: ClusterId,
    },
    /// Topic name and index make a folder name that no file system takes.
    #[error(
        "partition {partition} of a topic with a name of {name_bytes} bytes cannot have a folder: at most 255 bytes together"
    )]
    NameTooLong {
        /// The index.
        partition: PartitionId,
        /// Length of the topic's name.
        name_bytes: usize,
    },
    /// Nothing can be kept there.
    #[error(
        "the data folder cannot be used: {error}; set data to a folder that this process may make and write to, or allow it this one"
    )]
    Unusable {
        /// Why.
        error: StorageError,
    },
    /// The disk refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What stands in the way before anything of the folder was read: mostly that it is none, or not ours. A full disk is no fault of the folder.
fn unusable(error: StorageError) -> DataDirError {
    if error.is_transient() { error.into() } else { DataDirError::Unusable { error } }
}

struct LockHeld(#[expect(dead_code, reason = "held for its drop")] Box<dyn Send + Sync>);

impl std::fmt::Debug for LockHeld {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LockHeld")
    }
}

impl DataDir {
    /// Locks the folder (created if need be, with its parents), reads or writes its format, and finishes deletions that a crash
    /// interrupted. `cluster` is what it must belong to, or what a new folder will belong to (else a fresh id).
    ///
    /// # Errors
    /// [`DataDirError`].
    pub fn open(disk: Arc<dyn Disk>, root: &Path, cluster: Option<ClusterId>) -> Result<Self, DataDirError> {
        let made_root = create_with_parents(&*disk, root).map_err(unusable)?;
        let names =
            disk.list(root).context("list", root).map_err(unusable)?.into_iter().map(|entry| entry.name).collect();
        let lock_path = root.join(LOCK);
        let lock = match disk.lock(&lock_path) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(DataDirError::InUse { path: root.to_owned() });
            }
            locked => locked.context("lock", &lock_path).map_err(unusable)?,
        };
        let (format, is_new) = read_or_write_format(&*disk, root, cluster)?;
        let found = is_new.then_some(Found { made_root, names });
        let dir = Self { disk, root: root.to_owned(), format, found, _lock: LockHeld(lock) };
        dir.purge_deleted()?;
        Ok(dir)
    }

    /// Where this opening made the folder a broker's, which came to nothing: leaves what was there before, and nothing else. Whatever
    /// wrote to it must have ended. Blocks.
    ///
    /// # Errors
    /// [`StorageError`]; the format file goes last of what counts, so that what is left is removed by the next who tries.
    pub fn undo(&self) -> Result<(), StorageError> {
        let Some(Found { made_root, names }) = &self.found else { return Ok(()) };
        let entries = self.disk.list(&self.root).context("list", &self.root)?;
        let is_ours = |entry: &&DirEntry| !names.contains(&entry.name) || entry.name == LOCK || entry.name == FORMAT;
        let (last, others): (Vec<_>, Vec<_>) =
            entries.iter().filter(is_ours).partition(|entry| entry.name == LOCK || entry.name == FORMAT);
        for entry in others.into_iter().chain(last) {
            let path = self.root.join(&entry.name);
            match entry.kind {
                EntryKind::Dir => self.empty_grave(&path)?,
                EntryKind::File => remove_if_there(&*self.disk, &path)?,
            }
        }
        if *made_root {
            self.disk.remove_dir(&self.root).context("remove", &self.root)?;
        }
        Ok(())
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whose it is.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// The disk it lies on.
    #[must_use]
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }

    /// The folder of a partition, whether it exists or not.
    ///
    /// # Errors
    /// [`DataDirError::NameTooLong`].
    pub fn partition_path(&self, topic: &TopicName, partition: PartitionId) -> Result<PathBuf, DataDirError> {
        let name = format!("{topic}-{partition}");
        if name.len() > NAME_BYTES_MAX {
            return Err(DataDirError::NameTooLong { partition, name_bytes: topic.as_str().len() });
        }
        Ok(self.root.join(name))
    }

    /// Partitions that have a folder, in no order.
    ///
    /// # Errors
    /// [`DataDirError::Storage`].
    pub fn partitions(&self) -> Result<Vec<PartitionDir>, DataDirError> {
        let entries = self.disk.list(&self.root).context("list", &self.root)?;
        let folders = entries.into_iter().filter(|entry| entry.kind == EntryKind::Dir);
        Ok(folders.filter_map(|entry| self.parse(&entry.name)).collect())
    }

    /// Deletes a partition's folder with all that is in it. Its log must be closed or discarded; readers that hold slices keep
    /// them. Blocks. Nothing happens if there is no such folder.
    ///
    /// # Errors
    /// [`DataDirError::Storage`]; once the folder was renamed, the next [`DataDir::open`] finishes the work.
    pub fn delete_partition(&self, topic: &TopicName, partition: PartitionId) -> Result<(), DataDirError> {
        let path = self.partition_path(topic, partition)?;
        let grave = self.root.join(format!("{}{DELETED_SUFFIX}", Uuid::now_v7().simple()));
        match self.disk.rename(&path, &grave) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed.context("rename", &path)?,
        }
        // From here on it is gone, whatever happens.
        self.disk.sync_dir(&self.root).context("flush", &self.root)?;
        Ok(self.empty_grave(&grave)?)
    }

    fn parse(&self, name: &str) -> Option<PartitionDir> {
        let (topic, digits) = name.rsplit_once('-')?;
        let partition: u32 = digits.parse().ok()?;
        // "+1" and "01" parse as well, but no folder of ours is called so.
        let in_form = partition.to_string() == digits;
        let topic = TopicName::new(topic).ok().filter(|_| in_form)?;
        Some(PartitionDir { topic, partition: PartitionId(partition), path: self.root.join(name) })
    }

    fn purge_deleted(&self) -> Result<(), StorageError> {
        for entry in self.disk.list(&self.root).context("list", &self.root)? {
            if entry.kind == EntryKind::Dir && entry.name.ends_with(DELETED_SUFFIX) {
                self.empty_grave(&self.root.join(&entry.name))?;
            }
        }
        Ok(())
    }

    fn empty_grave(&self, grave: &Path) -> Result<(), StorageError> {
        for entry in self.disk.list(grave).context("list", grave)? {
            let path = grave.join(&entry.name);
            match entry.kind {
                // Nothing of ours, but it goes with what it was put into, or the broker would stumble over it at each start.
                EntryKind::Dir => self.empty_grave(&path)?,
                _ => remove_gradually_if_there(&*self.disk, &path)?,
            }
        }
        self.disk.remove_dir(grave).context("remove", grave)
    }
}

/// True where it was not there.
fn create_with_parents(disk: &dyn Disk, dir: &Path) -> Result<bool, StorageError> {
    match disk.create_dir(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
                return Err(error).context("create", dir);
            };
            create_with_parents(disk, parent)?;
            disk.create_dir(dir).context("create", dir)?;
        }
        Err(error) => return Err(error).context("create", dir),
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    disk.sync_dir(parent).context("flush", parent)?;
    Ok(true)
}

/// What the file says, and whether it was written just now.
fn read_or_write_format(
    disk: &dyn Disk,
    root: &Path,
    cluster: Option<ClusterId>,
) -> Result<(Format, bool), DataDirError> {
    let path = root.join(FORMAT);
    let reason = match small_file::read(disk, &path, KIND) {
        Ok((_, body)) => match decode(&body) {
            Some(format) => return Ok((check_cluster(root, format, cluster)?, false)),
            None => "its fields do not fit".to_owned(),
        },
        Err(SmallFileError::Newer { found, newest }) => {
            return Err(DataDirError::Newer { path: root.to_owned(), found, newest });
        }
        Err(SmallFileError::Storage(error)) => return Err(error.into()),
        Err(error) => error.to_string(),
    };
    let is_used = disk.list(root).context("list", root)?.iter().any(|entry| entry.kind == EntryKind::Dir);
    if is_used {
        return Err(DataDirError::Unknown { path: root.to_owned(), reason });
    }
    let cluster = cluster.unwrap_or_else(|| ClusterId(*Uuid::now_v7().as_bytes()));
    let format = Format { cluster, incarnation: IncarnationId(*Uuid::now_v7().as_bytes()) };
    small_file::replace(disk, &path, KIND, &[format.cluster.0, format.incarnation.0].concat())?;
    Ok((format, true))
}

fn check_cluster(root: &Path, format: Format, cluster: Option<ClusterId>) -> Result<Format, DataDirError> {
    match cluster.filter(|expected| *expected != format.cluster) {
        None => Ok(format),
        Some(expected) => Err(DataDirError::OtherCluster { path: root.to_owned(), found: format.cluster, expected }),
    }
}

fn decode(body: &[u8]) -> Option<Format> {
    let mut fields = Fields(body);
    let format = Format { cluster: ClusterId(fields.take()?), incarnation: IncarnationId(fields.take()?) };
    fields.0.is_empty().then_some(format)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os_disk::OsDisk;

    fn open(root: &Path) -> Result<DataDir, DataDirError> {
        DataDir::open(OsDisk::shared(), root, None)
    }

    #[test]
    fn a_folder_keeps_its_identity_and_is_used_once_at_a_time() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("a/b/data");
        let first = open(&root).unwrap();
        let format = first.format();
        let error = open(&root).unwrap_err();
        assert!(matches!(error, DataDirError::InUse { .. }), "{error}");
        assert_eq!(format_of(&*OsDisk::shared(), &root), Some(format), "who only looks may");
        assert_eq!(format_of(&*OsDisk::shared(), temp.path()), None);
        drop(first);
        assert_eq!(open(&root).unwrap().format(), format);
        let other = DataDir::open(OsDisk::shared(), &root, Some(ClusterId([1; 16]))).unwrap_err();
        assert!(matches!(other, DataDirError::OtherCluster { .. }), "{other}");
    }

    #[test]
    fn a_folder_that_cannot_be_one_is_told_with_what_to_do() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("c.toml");
        std::fs::write(&file, b"x").unwrap();
        for root in [file.clone(), file.join("data"), "/proc/x".into()] {
            let error = open(&root).unwrap_err();
            assert!(matches!(error, DataDirError::Unusable { .. }), "{error}");
            assert!(error.to_string().contains("set data to a folder"), "{error}");
        }
    }

    #[test]
    fn an_opening_that_came_to_nothing_leaves_what_was_there_before() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("data");
        let broker = open(&root).unwrap();
        std::fs::create_dir_all(root.join("topic-0")).unwrap();
        std::fs::write(root.join("topic-0/identity"), b"x").unwrap();
        broker.undo().unwrap();
        assert!(!root.exists());
        drop(broker);
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("note"), b"mine").unwrap();
        let broker = open(&root).unwrap();
        std::fs::write(root.join("broker-id"), b"x").unwrap();
        broker.undo().unwrap();
        drop(broker);
        let left: Vec<_> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["note"]);
        // One that was a broker's before stays one.
        let format = open(&root).unwrap().format();
        let again = open(&root).unwrap();
        again.undo().unwrap();
        drop(again);
        assert_eq!(open(&root).unwrap().format(), format);
    }

    #[test]
    fn a_newer_format_is_refused_and_a_damaged_one_is_not_overwritten() {
        let temp = tempfile::tempdir().unwrap();
        drop(open(temp.path()).unwrap());
        let newer = Kind { version: 2, ..KIND };
        small_file::replace(&OsDisk, &temp.path().join(FORMAT), newer, b"whatever").unwrap();
        assert!(matches!(open(temp.path()), Err(DataDirError::Newer { found: 2, newest: 1, .. })));
        std::fs::create_dir(temp.path().join("topic-0")).unwrap();
        std::fs::write(temp.path().join(FORMAT), b"garbage").unwrap();
        assert!(matches!(open(temp.path()), Err(DataDirError::Unknown { .. })));
        assert_eq!(std::fs::read(temp.path().join(FORMAT)).unwrap(), b"garbage");
    }

    #[test]
    fn partitions_are_found_by_name_and_deleted_ones_do_not_come_back() {
        let temp = tempfile::tempdir().unwrap();
        let dir = open(temp.path()).unwrap();
        let topic = TopicName::new("a-b.c").unwrap();
        for index in [0, 12] {
            let path = dir.partition_path(&topic, PartitionId(index)).unwrap();
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("identity"), b"x").unwrap();
        }
        for other in ["metadata", "x-01", "x-", "-1", "x-+1", "0123.deleted"] {
            std::fs::create_dir(temp.path().join(other)).unwrap();
        }
        let mut found = dir.partitions().unwrap();
        found.sort_by_key(|partition| partition.partition);
        assert_eq!(
            found.iter().map(|p| (p.topic.as_str(), p.partition.0)).collect::<Vec<_>>(),
            [("a-b.c", 0), ("a-b.c", 12)]
        );
        dir.delete_partition(&topic, PartitionId(12)).unwrap();
        dir.delete_partition(&topic, PartitionId(12)).unwrap();
        assert_eq!(dir.partitions().unwrap().len(), 1);
        drop(dir);
        let dir = open(temp.path()).unwrap();
        assert_eq!(dir.partitions().unwrap().len(), 1);
        assert!(!temp.path().join("0123.deleted").exists());
    }

    #[test]
    fn a_name_that_no_file_system_takes_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let dir = open(temp.path()).unwrap();
        let topic = TopicName::new(&"x".repeat(249)).unwrap();
        assert!(dir.partition_path(&topic, PartitionId(99_999)).is_ok());
        assert!(matches!(dir.partition_path(&topic, PartitionId(100_000)), Err(DataDirError::NameTooLong { .. })));
    }
}
