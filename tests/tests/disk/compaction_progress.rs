//! How far compaction is, as operators see it: what is dirty, what it does now, when it was done last; and a cleaner that the disk fails, which is
//! told with its reason and with when it is tried again, and gets on once the disk is well.

use serde_json::Value;
use tidelog_protocol::messages::{
    CompactionStage, CompactionState, DescribeTopicsRequest, PartitionDescription, ProduceRequest,
};
use tidelog_protocol::records::{BatchBuilder, Compression, NO_HEADERS};
use tidelog_protocol::{ErrorCode, PartitionId, Timestamp, TopicId};
use tidelog_tests::command::CommandLine;
use tidelog_tests::local_cluster::LocalCluster;
use tidelog_tests::patience::{wait_for, wait_until};
use tidelog_tests::raw_connection::RawConnection;
use tidelog_tests::stalling_disk::Call;

const TOPIC: &str = "users";
const FOLDER: &str = "users-0";

fn on_its_own<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// A topic that is not compacted yet, so that the first pass finds all of it.
fn small_segments(cluster: &LocalCluster) -> TopicId {
    let configs = [
        ("cleanup.policy", "delete"),
        ("retention.ms", "-1"),
        ("segment.bytes", "65536"),
        ("max.message.bytes", "65536"),
        ("segment.ms", "1"),
        ("min.cleanable.dirty.ratio", "0.01"),
    ];
    cluster.create_topic(TOPIC, &configs)
}

fn compact(cluster: &LocalCluster) {
    tidelog(cluster, &format!("topics alter {TOPIC} --config cleanup.policy=compact"));
}

/// Some hundred kilobytes of a few keys: several segments.
fn write(cluster: &LocalCluster, topic_id: TopicId) {
    on_its_own(async {
        let mut connection = RawConnection::introduced(cluster.address(1)).await;
        for number in 0..40_u32 {
            let mut builder = BatchBuilder::new(1 << 20);
            for key in 0..5_u32 {
                let value = vec![number as u8; 1_000];
                let key = format!("user-{key}");
                builder.append(Timestamp(5), Some(key.as_bytes()), Some(&value), NO_HEADERS).unwrap();
            }
            let batch = builder.finish(Compression::None).unwrap();
            let request = ProduceRequest {
                topic_id,
                partition: PartitionId(0),
                leader_epoch: None,
                acks: tidelog_protocol::messages::Acks::All,
                expected_log_end: None,
                transactional_id: None,
            };
            // The broker may not have heard of the topic yet.
            wait_until("the broker to take a batch", async || match connection.call(&request, &batch).await {
                Ok(_) => Some(()),
                Err(error) if error.code == ErrorCode::UnknownTopic || error.code.is_retriable() => None,
                Err(error) => panic!("{error}"),
            })
            .await;
        }
    });
}

fn described(cluster: &LocalCluster) -> PartitionDescription {
    on_its_own(async {
        let mut connection = RawConnection::introduced(cluster.address(1)).await;
        let names = Some(vec![tidelog_protocol::TopicName::new(TOPIC).unwrap()]);
        let described = connection.call(&DescribeTopicsRequest { topics: names }, &[]).await.unwrap();
        described.topics[0].partitions[0].clone()
    })
}

fn compaction(cluster: &LocalCluster) -> CompactionState {
    described(cluster).compaction.expect("it is compacted")
}

fn metric(cluster: &LocalCluster, name: &str) -> Option<f64> {
    let label = format!("tidelog_{name}{{topic=\"{TOPIC}\",partition=\"0\"}} ");
    let text = cluster.metrics_text(1);
    text.lines().find_map(|line| line.strip_prefix(&label)?.parse().ok())
}

fn tidelog(cluster: &LocalCluster, line: &str) -> String {
    let command = CommandLine::of("tidelog").env("TIDELOG_SERVER", &cluster.address(1).to_string());
    String::from_utf8(command.args(line.split_whitespace()).run().success()).unwrap()
}

#[test]
fn what_compaction_does_and_why_it_does_not_get_on_is_seen_where_operators_look() {
    let cluster = LocalCluster::start(1);
    let topic_id = small_segments(&cluster);
    write(&cluster, topic_id);
    assert_eq!(described(&cluster).compaction, None, "nothing to tell where nothing is compacted");
    assert_eq!(metric(&cluster, "compaction_dirty_ratio"), None);
    let stall = cluster.disk(1).stall(Call::Rewrite, FOLDER);
    compact(&cluster);

    // It stands in the middle of a pass for as long as the disk takes.
    let state = wait_for("a pass that writes", || {
        let state = described(&cluster).compaction?;
        (state.stage == CompactionStage::Rewriting).then_some(state)
    });
    assert!(state.segment >= 1 && state.segment <= state.segments && state.segments >= 2, "{state:?}");
    assert!(state.dirty_ratio() > 0.9 && state.dirty_bytes > 65_536, "{state:?}");
    assert_eq!((state.cleaned_at, state.failures, state.last_error), (None, 0, None));
    wait_for("the metrics of that", || {
        let told = metric(&cluster, "compaction_stage") == Some(2.0)
            && metric(&cluster, "compaction_segment") >= Some(1.0)
            && metric(&cluster, "compaction_segments") == Some(f64::from(state.segments));
        told.then_some(())
    });
    let shown = tidelog(&cluster, &format!("topics describe {TOPIC}"));
    assert!(shown.contains("rewrites, segment ") && shown.contains("never"), "{shown}");

    // The disk refuses.
    cluster.disk(1).fail_all(Call::Rewrite, FOLDER);
    drop(stall);
    let state = wait_for("a pass that fails", || {
        let state = compaction(&cluster);
        (state.stage == CompactionStage::Waiting).then_some(state)
    });
    assert!(cluster.disk(1).refused() >= 1);
    assert!(state.failures >= 1 && state.retry_in_ms <= 600_000, "{state:?}");
    assert!(state.last_error.as_deref().unwrap_or_default().contains("the disk gave up"), "{state:?}");

    // And is well again.
    cluster.disk(1).heal();
    let state = wait_for("a pass that gets on", || {
        let state = compaction(&cluster);
        (state.cleaned_at.is_some() && state.dirty_bytes == 0 && state.stage == CompactionStage::Idle).then_some(state)
    });
    assert_eq!((state.failures, state.last_error.as_deref(), state.retry_in_ms), (0, None, 0));
    assert!(state.clean_bytes > 0);
    wait_for("the metrics of that", || {
        let settled = metric(&cluster, "compaction_dirty_ratio") == Some(0.0)
            && metric(&cluster, "compaction_stage") == Some(0.0)
            && metric(&cluster, "compaction_partition_last_pass_timestamp_seconds") > Some(1e9)
            && metric(&cluster, "compaction_failing").is_none();
        settled.then_some(())
    });
    let shown = wait_for("the same in JSON", || {
        let text = tidelog(&cluster, &format!("--output json topics describe {TOPIC}"));
        let shown = serde_json::from_str::<Value>(&text).unwrap()[0]["partitions"][0]["compaction"].take();
        (shown["stage"] == "idle" && shown["dirty_ratio"] == 0.0).then_some(shown)
    });
    assert!(shown["last_pass_ms"].as_i64() > Some(1_000_000_000_000), "{shown}");
}

#[test]
fn a_cleaner_that_the_disk_keeps_failing_is_tried_again_later_each_time_and_named_where_partitions_are() {
    let cluster = LocalCluster::start(1);
    cluster.disk(1).fail_all(Call::Rewrite, FOLDER);
    let topic_id = small_segments(&cluster);
    write(&cluster, topic_id);
    compact(&cluster);
    let state = wait_for("three failures in a row", || {
        let state = described(&cluster).compaction?;
        (state.failures >= 3 && state.stage == CompactionStage::Waiting).then_some(state)
    });
    assert!(state.retry_in_ms <= 600_000 && cluster.disk(1).refused() >= 3, "{state:?}");
    wait_for("the metric of that", || (metric(&cluster, "compaction_failing") == Some(1.0)).then_some(()));
    wait_for("the partition to be named", || {
        let shown = tidelog(&cluster, &format!("topics describe {TOPIC}"));
        (shown.contains("in a row, tried again in") && shown.contains("the disk gave up")).then_some(())
    });
}
