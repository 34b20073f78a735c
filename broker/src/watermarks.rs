//! How far partitions were known to be settled, written down now and then: after a restart that much of a replicated one can be read at once,
//! before anybody has been heard of; and of any, it tells that there was something. Never a reason to cut a log: what a new leader lacks is found by leader epochs (KIP-101). Knows nothing of
//! who leads.

use std::collections::HashMap;
use std::path::PathBuf;

use parking_lot::Mutex;
use tidelog_log::small_file::{self, Kind};
use tidelog_log::{DataDir, StorageError};
use tidelog_protocol::{Offset, PartitionId, TopicId};
use tracing::warn;

use crate::partition::{Handle, Replica};

const KIND: Kind = Kind { magic: *b"TLHW", version: 1 };
/// Name of the file in the data folder.
const FILE: &str = "high-watermarks";
/// Topic id, partition, offset; big-endian.
const ENTRY_BYTES: usize = 16 + 4 + 8;

/// The watermarks of the partitions here, as they were last written down.
#[derive(Debug, Default)]
pub struct Watermarks {
    written: Mutex<HashMap<Replica, Offset>>,
}

impl Watermarks {
    /// As the last life of this broker left them. Blocks.
    #[must_use]
    pub fn read(data: &DataDir) -> Self {
        let known = match small_file::read(&*data.disk(), &path(data), KIND) {
            Ok((_, body)) => body.chunks_exact(ENTRY_BYTES).filter_map(entry).collect(),
            Err(small_file::SmallFileError::Missing) => HashMap::new(),
            Err(error) => {
                // Leaders learn it again from their followers, and followers from their leaders.
                warn!(%error, "the high watermarks cannot be read; they are found anew");
                HashMap::new()
            }
        };
        Self { written: Mutex::new(known) }
    }

    /// How far a partition was known to be settled.
    #[must_use]
    pub fn of(&self, replica: Replica) -> Option<Offset> {
        self.written.lock().get(&replica).copied()
    }

    /// Writes down how far these partitions are, where that is news. What was noted of the replicas that are not open stands: it is what tells that
    /// there was something. Blocks.
    ///
    /// # Errors
    /// Where the disk refuses; what was written before stands.
    pub fn write(&self, data: &DataDir, partitions: &[Handle], not_open: &[Replica]) -> Result<(), StorageError> {
        let mut now: HashMap<Replica, Offset> = partitions
            .iter()
            .map(|partition| (Replica::of(partition), partition.tail().borrow().high_watermark))
            .collect();
        let mut written = self.written.lock();
        for (replica, noted) in not_open.iter().filter_map(|replica| Some((*replica, *written.get(replica)?))) {
            now.entry(replica).or_insert(noted);
        }
        if *written == now {
            return Ok(());
        }
        let mut body = Vec::with_capacity(now.len() * ENTRY_BYTES);
        for (replica, offset) in &now {
            body.extend_from_slice(&replica.topic_id.0);
            body.extend_from_slice(&replica.partition.0.to_be_bytes());
            body.extend_from_slice(&offset.0.to_be_bytes());
        }
        small_file::replace(&*data.disk(), &path(data), KIND, &body)?;
        *written = now;
        Ok(())
    }
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
        let noted = Watermarks { written: Mutex::new([(replica(0), Offset(41)), (replica(1), Offset(9))].into()) };
        noted.write(&data, &[], &[replica(0)]).unwrap();
        assert_eq!(Watermarks::read(&data).of(replica(0)), Some(Offset(41)));
        let entries: Vec<_> = Dump::open(&path(&data)).unwrap().map(Result::unwrap).collect();
        let [DumpEntry::Note { fields, .. }] = &entries[..] else { panic!("{entries:?}") };
        assert!(fields.contains(&("offset", FieldValue::Number(41))), "{fields:?}");
    }
}
