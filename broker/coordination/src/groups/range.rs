//! The range assignor: for each topic contiguous ranges in the order of the members' names. Topics with as many partitions and the
//! same readers are spread alike, so that one member has the same partitions of all of them. Knows nothing of what members had.

use alloc::vec::Vec;

use tidelog_protocol::PartitionId;

use super::assignor::Spread;
use super::partition_set::{PartitionSet, TopicPartition};

pub(super) fn spread(spread: &Spread<'_>) -> Vec<PartitionSet> {
    let mut order: Vec<usize> = (0..spread.readers.len()).collect();
    order.sort_by_key(|reader| spread.readers[*reader].name);
    let mut owned: Vec<Vec<TopicPartition>> = spread.readers.iter().map(|_| Vec::new()).collect();
    for (index, topic) in spread.topics.iter().enumerate() {
        let reads = |reader: &&usize| spread.readers[**reader].topics.binary_search(&index).is_ok();
        let readers: Vec<usize> = order.iter().filter(reads).copied().collect();
        if readers.is_empty() {
            continue;
        }
        let count = readers.len() as u32;
        let (each, longer) = (topic.partitions / count, topic.partitions % count);
        let mut next = 0;
        for (place, reader) in (0..count).zip(readers) {
            let end = next + each + u32::from(place < longer);
            owned[reader].extend((next..end).map(|partition| (topic.id, PartitionId(partition))));
            next = end;
        }
    }
    owned.into_iter().map(PartitionSet::from_iter).collect()
}
