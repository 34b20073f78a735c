//! Deleted segments do not keep the disk from those who write: their space is given back gradually.

use std::sync::Arc;

use crate::support::{append, options};
use tidelog_log::fault::{FaultDisk, Operation};
use tidelog_log::{DataDir, Log};
use tidelog_protocol::{Offset, PartitionId, TopicName};

#[test]
fn segments_below_the_start_and_the_folders_of_deleted_partitions_go_gradually() {
    let temp = tempfile::tempdir().unwrap();
    let disk = FaultDisk::new();
    let data = DataDir::open(Arc::<FaultDisk>::clone(&disk), temp.path(), None).unwrap();
    let (topic, partition) = (TopicName::new("t").unwrap(), PartitionId(3));
    let dir = data.partition_path(&topic, partition).unwrap();
    let (mut log, _) = Log::open(options(&dir, Arc::<FaultDisk>::clone(&disk))).unwrap();
    for _ in 0..20 {
        append(&mut log, 1, &[7; 1000]);
    }
    let segments = || {
        std::fs::read_dir(&dir)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|is| is == "log"))
            .count() as u64
    };
    let gone = || disk.count(Operation::RemoveGradually);

    let before = segments();
    log.flush().unwrap();
    log.retention().delete_records(Offset(10)).unwrap();
    let deleted = before - segments();
    assert!(deleted > 1 && gone() >= deleted, "{deleted} segments, {} of their files gradually", gone());

    let (before, left) = (gone(), segments());
    log.discard();
    data.delete_partition(&topic, partition).unwrap();
    assert!(left > 1 && gone() - before >= left, "{left} segments, {} files gradually", gone() - before);
    assert!(!dir.exists());
}
