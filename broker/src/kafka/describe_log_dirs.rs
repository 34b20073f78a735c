//! DescribeLogDirs: what lies in the folder of this broker, which has one.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tidelog_protocol::kafka::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
    DescribeLogDirsTopic,
};

use super::{Asker, Handle};
use crate::node::Node;
use crate::partition;

impl Handle for DescribeLogDirsRequest {
    async fn handle(self, node: &Arc<Node>, _: &Asker) -> DescribeLogDirsResponse {
        let asked: Option<HashSet<(String, i32)>> = self.topics.map(|topics| {
            let places = topics
                .into_iter()
                .flat_map(|topic| topic.partitions.into_iter().map(move |partition| (topic.topic.clone(), partition)));
            places.collect()
        });
        let mut topics: BTreeMap<String, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
        for replica in node.registry.all() {
            let name = replica.topic().to_string();
            let shown = describe(&replica);
            if asked.as_ref().is_none_or(|asked| asked.contains(&(name.clone(), shown.partition_index))) {
                topics.entry(name).or_default().push(shown);
            }
        }
        let root = node.data.root();
        let path = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        let space = node.registry.space();
        let folder = DescribeLogDirsResult {
            error_code: 0,
            log_dir: path.to_string_lossy().into_owned(),
            topics: topics.into_iter().map(|(name, partitions)| in_order(name, partitions)).collect(),
            total_bytes: signed(space.total_bytes()),
            usable_bytes: signed(space.free_bytes()),
        };
        DescribeLogDirsResponse { results: vec![folder], ..Default::default() }
    }
}

fn describe(replica: &partition::Handle) -> DescribeLogDirsPartition {
    let (high_watermark, reader) = (replica.tail().borrow().high_watermark, replica.reader());
    DescribeLogDirsPartition {
        partition_index: replica.partition().0 as i32,
        partition_size: signed(reader.size_bytes()),
        offset_lag: signed(high_watermark.0.saturating_sub(reader.written_end().0)),
        // Copies are made by other brokers' replicas, not within a broker.
        is_future_key: false,
    }
}

fn in_order(name: String, mut partitions: Vec<DescribeLogDirsPartition>) -> DescribeLogDirsTopic {
    partitions.sort_unstable_by_key(|partition| partition.partition_index);
    DescribeLogDirsTopic { name, partitions }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
