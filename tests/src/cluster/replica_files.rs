//! `ReplicasByteIdentical`: what lies on the disks of all replicas of a partition is the same, byte for byte. Reads the segment files
//! themselves. Knows nothing of how they came about.

use std::path::{Path, PathBuf};

use tidelog_protocol::Offset;
use tidelog_protocol::records::Batches;

use super::Cluster;

/// The batches of a partition as they lie on a disk.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReplicaFiles {
    /// All bytes of all whole batches in their order.
    pub bytes: Vec<u8>,
    /// Base offset of each batch, and where it begins in `bytes`.
    pub batches: Vec<(Offset, usize)>,
    /// The offset after the last.
    pub end: Offset,
}

/// Reads the partition that lies in `folder`.
///
/// # Panics
/// Where it cannot be read.
#[must_use]
pub fn read(folder: &Path) -> ReplicaFiles {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut segments: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    segments.sort();
    let mut files = ReplicaFiles::default();
    let base = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().parse().map(Offset).unwrap();
    for (index, segment) in segments.iter().enumerate() {
        let content = std::fs::read(segment).unwrap();
        let upper = segments.get(index + 1).map_or(Offset::MAX, base);
        // Behind the last batch come the zeros that were reserved, or what was cut off at the base of the next segment.
        let batches = Batches::new(&content).map_while(Result::ok);
        for batch in batches.take_while(|batch| batch.header().next_offset() <= upper) {
            files.batches.push((batch.header().base_offset, files.bytes.len()));
            files.bytes.extend_from_slice(batch.bytes());
            files.end = batch.header().next_offset();
        }
    }
    files
}

impl Cluster {
    /// Compares the files of the brokers that hold a replica of each partition. All replicas must be equally far
    /// ([`Cluster::wait_settled`]). Says how many bytes were compared.
    ///
    /// # Panics
    /// Where they differ, with the first batch that does, or where there is nothing to compare.
    pub fn assert_replicas_byte_identical(&self, topic: &str, partitions: u32, replicas: usize) -> usize {
        let mut compared = 0;
        for partition in 0..partitions {
            let name = format!("{topic}-{partition}");
            let holders: Vec<u32> = (1..=self.brokers()).filter(|id| self.data(*id).join(&name).exists()).collect();
            assert!(holders.len() >= replicas, "{name} lies on {holders:?} only");
            let first = read(&self.data(holders[0]).join(&name));
            for id in &holders[1..] {
                let other = read(&self.data(*id).join(&name));
                if let Some(difference) = difference(&first, &other) {
                    panic!("ReplicasByteIdentical: {name} at broker {} and broker {id}: {difference}", holders[0]);
                }
                compared += other.bytes.len();
            }
        }
        assert!(compared > 0, "{topic} is empty on every disk");
        compared
    }
}

/// Where two replicas differ first.
#[must_use]
pub fn difference(one: &ReplicaFiles, other: &ReplicaFiles) -> Option<String> {
    if one.bytes == other.bytes && one.end == other.end {
        return None;
    }
    let at = one.bytes.iter().zip(&other.bytes).position(|(a, b)| a != b);
    let at = at.unwrap_or_else(|| one.bytes.len().min(other.bytes.len()));
    let batch = |files: &ReplicaFiles| {
        let index = files.batches.partition_point(|(_, begin)| *begin <= at);
        index.checked_sub(1).map(|index| (files.batches[index].0, at - files.batches[index].1))
    };
    Some(format!(
        "ends {} and {}, byte {at}: batch and byte in it {:?} and {:?}",
        one.end,
        other.end,
        batch(one),
        batch(other)
    ))
}

#[cfg(test)]
mod tests {
    use tidelog_protocol::records::Compression;

    use super::*;
    use crate::raw_connection::batch;

    fn files(values: &[&[u8]]) -> ReplicaFiles {
        let folder = tempfile::tempdir().unwrap();
        let mut content = batch(values, Compression::None).to_vec();
        content.extend([0; 4096]);
        std::fs::write(folder.path().join("00000000000000000000.log"), content).unwrap();
        read(folder.path())
    }

    #[test]
    fn replicas_that_differ_are_noticed() {
        let (one, same, other) = (files(&[b"a", b"b"]), files(&[b"a", b"b"]), files(&[b"a", b"c"]));
        assert_eq!((one.end, one.batches.len()), (Offset(2), 1));
        assert_eq!(difference(&one, &same), None);
        assert!(difference(&one, &other).unwrap().contains("byte"));
        assert!(difference(&one, &files(&[b"a"])).unwrap().contains("ends 2 and 1"));
    }
}
