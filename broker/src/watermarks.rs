//! How far partitions were known to be settled, written down now and then: after a restart that much of a replicated one can be read at once,
//! before anybody has been heard of; and of any, it tells that its folder was there, for it is noted as soon as that is made. Never a reason to
//! cut a log: what a new leader lacks is found by leader epochs (KIP-101).
//!
//! The file is there before the data folder is any broker's, so one that is gone is missed: then every replica that the metadata know at the start is
//! taken to have been there. Knows nothing of who leads.

use std::collections::HashMap;
use std::path::PathBuf;

use parking_lot::Mutex;
use tidelog_log::data_dir::DataDirError;
use tidelog_log::small_file::{self, Kind, SmallFileError};
use tidelog_log::{DataDir, StorageError};
use tidelog_protocol::{LeaderEpoch, Offset, PartitionId, TopicId};
use tracing::warn;

use crate::partition::{Handle, Replica};

/// Of version 1 an entry may be missing whose folder was made.
const KIND: Kind = Kind { magic: *b"TLHW", version: 2 };
/// Name of the file in the data folder.
const FILE: &str = "high-watermarks";
/// Topic id, partition, offset; big-endian.
const ENTRY_BYTES: usize = 16 + 4 + 8;

/// Where an earlier release kept the note, a partition tells by its epoch that its folder was made: it was created under epoch 0, and a broker that
/// died right then made the folder at its next start, under epoch 1.
const MADE_BEFORE: LeaderEpoch = LeaderEpoch(2);

/// The watermarks of the partitions here, as they were last written down.
#[derive(Debug, Default)]
pub struct Watermarks(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    /// Of every replica whose folder was made here.
    offsets: HashMap<Replica, Offset>,
    /// The file says the same.
    is_written: bool,
    /// What the file does not say.
    gaps: Gaps,
}

/// What a note does not say of folders that were made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Gaps {
    /// It says all.
    #[default]
    None,
    /// An earlier release wrote it, which noted a folder some time after it was made.
    Young,
    /// There was a file, and nobody knows what it said.
    All,
}

/// What is known of the data folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Folder {
    /// It has never been a broker's.
    New,
    /// It was a broker's before.
    LivedIn,
}

impl Watermarks {
    /// As the last life of this broker left them; in a new folder the file is made. Blocks.
    ///
    /// # Errors
    /// Where a newer release wrote it, or the disk refuses to make it, though it is not full.
    pub fn read(data: &DataDir, folder: Folder) -> Result<Self, DataDirError> {
        let noted = match (small_file::read(&*data.disk(), &path(data), KIND), folder) {
            (Ok((version, body)), _) => {
                let offsets = body.chunks_exact(ENTRY_BYTES).filter_map(entry).collect();
                let gaps = if version < KIND.version { Gaps::Young } else { Gaps::None };
                Noted { offsets, is_written: gaps == Gaps::None, gaps }
            }
            (Err(SmallFileError::Missing), Folder::New) => {
                let is_written = match small_file::replace(&*data.disk(), &path(data), KIND, &[]) {
                    Err(error) if error.is_transient() => false,
                    made => made.map(|()| true)?,
                };
                Noted { is_written, ..Noted::default() }
            }
            (Err(SmallFileError::Missing), Folder::LivedIn) => {
                warn!(file = %path(data).display(), "the note of how far partitions were settled is gone, or was not made yet by an earlier release");
                Noted { gaps: Gaps::All, ..Noted::default() }
            }
            (Err(SmallFileError::Newer { found, newest }), _) => {
                return Err(DataDirError::Newer { path: path(data), found, newest });
            }
            (Err(error), _) => {
                // Leaders learn it again from their followers, and followers from their leaders.
                warn!(%error, "the high watermarks cannot be read; they are found anew");
                Noted { gaps: Gaps::All, ..Noted::default() }
            }
        };
        Ok(Self(Mutex::new(noted)))
    }

    /// The start has come to the replicas that are to be here, under these epochs. Where it is not known whose folders were made, all of them count as
    /// made: one that is gone is missed, and not begun anew.
    pub fn begin(&self, replicas: &[(Replica, LeaderEpoch)]) {
        let mut noted = self.0.lock();
        if replicas.is_empty() {
            return;
        }
        let gaps = std::mem::take(&mut noted.gaps);
        let made = |epoch| match gaps {
            Gaps::None => false,
            Gaps::Young => epoch >= MADE_BEFORE,
            Gaps::All => true,
        };
        for (replica, _) in replicas.iter().filter(|(_, epoch)| made(*epoch)) {
            noted.offsets.entry(*replica).or_insert(Offset::ZERO);
        }
        if gaps == Gaps::All {
            let partitions = replicas.len();
            warn!(
                partitions,
                "how far partitions were settled is not known at this start: a folder of a partition that is gone is missed all the same, but the end of a log that was lost, or a folder that is an older copy, is not noticed"
            );
        }
    }

    /// Notes the replicas whose folders were just made. Blocks.
    ///
    /// # Errors
    /// Where the disk refuses; they are noted with the next [`Watermarks::write`].
    pub fn found(&self, data: &DataDir, partitions: &[Handle]) -> Result<(), StorageError> {
        let mut noted = self.0.lock();
        let new = partitions.iter().filter(|partition| !noted.offsets.contains_key(&Replica::of(partition)));
        let new: Vec<_> = new.map(of).collect();
        if new.is_empty() {
            return Ok(());
        }
        let mut now = noted.offsets.clone();
        now.extend(new);
        noted.store(data, now)
    }

    /// How far a partition was known to be settled.
    #[must_use]
    pub fn of(&self, replica: Replica) -> Option<Offset> {
        self.0.lock().offsets.get(&replica).copied()
    }

    /// The replica here is gone, and its folder with it: another in its place begins without a note. The file says so with the next
    /// [`Watermarks::write`].
    pub fn forget(&self, replica: Replica) {
        let mut noted = self.0.lock();
        if noted.offsets.remove(&replica).is_some() {
            noted.is_written = false;
        }
    }

    /// Writes down how far these partitions are, where that is news. What was noted of the replicas that are not open stands: it is what tells that
    /// there was something. Blocks.
    ///
    /// # Errors
    /// Where the disk refuses; what was written before stands.
    pub fn write(&self, data: &DataDir, partitions: &[Handle], not_open: &[Replica]) -> Result<(), StorageError> {
        let mut now: HashMap<Replica, Offset> = partitions.iter().map(of).collect();
        let mut noted = self.0.lock();
        for (replica, known) in not_open.iter().filter_map(|replica| Some((*replica, *noted.offsets.get(replica)?))) {
            now.entry(replica).or_insert(known);
        }
        if noted.is_written && noted.offsets == now {
            return Ok(());
        }
        noted.store(data, now)
    }
}

impl Noted {
    fn store(&mut self, data: &DataDir, now: HashMap<Replica, Offset>) -> Result<(), StorageError> {
        let mut body = Vec::with_capacity(now.len() * ENTRY_BYTES);
        for (replica, offset) in &now {
            body.extend_from_slice(&replica.topic_id.0);
            body.extend_from_slice(&replica.partition.0.to_be_bytes());
            body.extend_from_slice(&offset.0.to_be_bytes());
        }
        small_file::replace(&*data.disk(), &path(data), KIND, &body)?;
        self.offsets = now;
        self.is_written = true;
        Ok(())
    }
}

fn of(partition: &Handle) -> (Replica, Offset) {
    (Replica::of(partition), partition.tail().borrow().high_watermark)
}

fn entry(bytes: &[u8]) -> Option<(Replica, Offset)> {
    let (topic_id, rest) = bytes.split_first_chunk::<16>()?;
    let (partition, rest) = rest.split_first_chunk::<4>()?;
    let offset = rest.first_chunk::<8>()?;
    let (topic_id, partition) = (TopicId(*topic_id), PartitionId(u32::from_be_bytes(*partition)));
    Some((Replica { topic_id, partition }, Offset(u64::from_be_bytes(*offset))))
}

fn path(data: &DataDir) -> PathBuf {
    data.root().join(FILE)
}

#[cfg(test)]
mod tests {
    use tidelog_log::{Dump, DumpEntry, FieldValue, OsDisk};

    use super::*;

    #[test]
    fn what_is_noted_can_be_dumped() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(OsDisk::shared(), folder.path(), None).unwrap();
        let replica = |partition| Replica { topic_id: TopicId([7; 16]), partition: PartitionId(partition) };
        let offsets = [(replica(0), Offset(41)), (replica(1), Offset(9))].into();
        let noted = Watermarks(Mutex::new(Noted { offsets, ..Noted::default() }));
        noted.write(&data, &[], &[replica(0)]).unwrap();
        assert_eq!(Watermarks::read(&data, Folder::LivedIn).unwrap().of(replica(0)), Some(Offset(41)));
        let entries: Vec<_> = Dump::open(&path(&data)).unwrap().map(Result::unwrap).collect();
        let [DumpEntry::Note { fields, .. }] = &entries[..] else { panic!("{entries:?}") };
        assert!(fields.contains(&("offset", FieldValue::Number(41))), "{fields:?}");
    }

    #[test]
    fn of_a_replica_that_is_gone_nothing_stands_neither_at_once_nor_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(OsDisk::shared(), folder.path(), None).unwrap();
        let replica = |partition| Replica { topic_id: TopicId([7; 16]), partition: PartitionId(partition) };
        let offsets = [(replica(0), Offset(41)), (replica(1), Offset(9))].into();
        let noted = Watermarks(Mutex::new(Noted { offsets, ..Noted::default() }));
        noted.write(&data, &[], &[replica(0), replica(1)]).unwrap();
        noted.forget(replica(0));
        assert_eq!([0, 1].map(|index| noted.of(replica(index))), [None, Some(Offset(9))]);
        noted.write(&data, &[], &[replica(0), replica(1)]).unwrap();
        let again = Watermarks::read(&data, Folder::LivedIn).unwrap();
        assert_eq!([0, 1].map(|index| again.of(replica(index))), [None, Some(Offset(9))]);
    }

    #[test]
    fn the_note_of_an_earlier_release_is_filled_up_by_the_epochs_once() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(OsDisk::shared(), folder.path(), None).unwrap();
        let replica = |partition| Replica { topic_id: TopicId([7; 16]), partition: PartitionId(partition) };
        let mut body = [7; 16].to_vec();
        body.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 41]);
        small_file::replace(&*data.disk(), &path(&data), Kind { version: 1, ..KIND }, &body).unwrap();
        let offsets = |noted: &Watermarks| [0, 1, 2].map(|index| noted.of(replica(index)).map(|offset| offset.0));
        let noted = Watermarks::read(&data, Folder::LivedIn).unwrap();
        noted.begin(&[(replica(0), LeaderEpoch(1)), (replica(1), LeaderEpoch(1)), (replica(2), LeaderEpoch(2))]);
        assert_eq!(offsets(&noted), [Some(41), None, Some(0)], "one that may not have been made is made");
        noted.write(&data, &[], &[replica(0), replica(1), replica(2)]).unwrap();
        let again = Watermarks::read(&data, Folder::LivedIn).unwrap();
        again.begin(&[(replica(0), LeaderEpoch(2)), (replica(1), LeaderEpoch(2)), (replica(2), LeaderEpoch(3))]);
        assert_eq!(offsets(&again), [Some(41), None, Some(0)], "from then on its epoch tells nothing");
    }

    #[test]
    fn a_note_that_is_gone_is_missed_where_there_was_one_and_counts_whatever_is_known_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(OsDisk::shared(), folder.path(), None).unwrap();
        let replica = |partition| Replica { topic_id: TopicId([7; 16]), partition: PartitionId(partition) };
        let new = Watermarks::read(&data, Folder::New).unwrap();
        assert!(path(&data).exists(), "from the beginning");
        new.begin(&[(replica(0), LeaderEpoch(9))]);
        assert_eq!(new.of(replica(0)), None, "it may have to be made, however often that was tried");
        for content in [None, Some("rot")] {
            match content {
                None => std::fs::remove_file(path(&data)).unwrap(),
                Some(rot) => std::fs::write(path(&data), rot).unwrap(),
            }
            let lost = Watermarks::read(&data, Folder::LivedIn).unwrap();
            lost.begin(&[(replica(0), LeaderEpoch(0))]);
            lost.begin(&[(replica(1), LeaderEpoch(0))]);
            assert_eq!([0, 1].map(|index| lost.of(replica(index))), [Some(Offset::ZERO), None], "{content:?}");
            // What was not opened stays noted.
            lost.write(&data, &[], &[replica(0), replica(1)]).unwrap();
            let again = Watermarks::read(&data, Folder::LivedIn).unwrap();
            again.begin(&[(replica(1), LeaderEpoch(0))]);
            assert_eq!([0, 1].map(|index| again.of(replica(index))), [Some(Offset::ZERO), None], "{content:?}");
        }
    }
}
