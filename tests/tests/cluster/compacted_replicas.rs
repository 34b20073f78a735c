//! Replicas of a compacted partition, each of which compacts by itself: one that was away comes to hold the same latest values, and no key
//! that was deleted meanwhile comes back, whoever leads.

#![allow(clippy::unwrap_used, clippy::panic)] // A failed unwrap is a failed test.

use std::collections::BTreeMap;
use std::path::Path;

use tidelog_protocol::messages::{Acks, ProduceRequest};
use tidelog_protocol::records::{BatchBuilder, Batches, Compression, NO_HEADERS, Scratch};
use tidelog_protocol::{ErrorCode, Offset, PartitionId, Timestamp, TopicId};
use tidelog_tests::local_cluster::LocalCluster;
use tidelog_tests::patience::{wait_for, wait_until};
use tidelog_tests::raw_connection::RawConnection;

const TOPIC: &str = "accounts";
const CONFIGS: [(&str, &str); 7] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "65536"),
    ("max.message.bytes", "65536"),
    ("segment.ms", "1"),
    ("min.cleanable.dirty.ratio", "0"),
    ("delete.retention.ms", "0"),
    ("min.insync.replicas", "1"),
];

type Pair<'a> = (&'a str, Option<u32>);

/// Produces one batch of records to whoever leads.
fn produce(cluster: &LocalCluster, topic_id: TopicId, records: &[Pair<'_>]) -> Offset {
    let mut builder = BatchBuilder::new(1 << 16);
    for (key, value) in records {
        let value = value.map(|value| format!("{value:<300}"));
        builder
            .append(Timestamp(1), Some(key.as_bytes()), value.as_ref().map(|value| value.as_bytes()), NO_HEADERS)
            .unwrap();
    }
    let batch = builder.finish(Compression::None).unwrap();
    let request = ProduceRequest {
        topic_id,
        partition: PartitionId(0),
        leader_epoch: None,
        acks: Acks::All,
        expected_log_end: None,
        transactional_id: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(wait_until("the batch to be taken", async || {
        let leader = cluster.partition(TOPIC).leader?.0;
        let mut connection = RawConnection::introduced(cluster.address(leader)).await;
        match connection.call(&request, &batch).await {
            Ok(response) => Some(response.next_offset),
            Err(error) => {
                let passing = [
                    ErrorCode::UnknownTopic,
                    ErrorCode::NotLeader,
                    ErrorCode::LeadershipEnded,
                    ErrorCode::NotEnoughReplicas,
                ];
                assert!(passing.contains(&error.code), "{error}");
                None
            }
        }
    }))
}

/// What a replica's files say: last value of each key (`None` for a tombstone that is there), batches, and the end.
#[derive(Debug, PartialEq, Eq, Default)]
struct Held {
    latest: BTreeMap<String, Option<String>>,
    batches: usize,
    end: Offset,
}

/// Reads the files beside a running broker, which may exchange them meanwhile: `None` where they do not fit together.
fn held(data: &Path) -> Option<Held> {
    let folder = data.join(format!("{TOPIC}-0"));
    let mut segments: Vec<_> = std::fs::read_dir(folder).ok()?.map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    segments.sort();
    let mut held = Held::default();
    let mut scratch = Scratch::new();
    for segment in segments {
        let content = std::fs::read(segment).ok()?;
        for batch in Batches::compacted(&content).map_while(Result::ok) {
            if held.batches > 0 && batch.header().base_offset != held.end {
                return None;
            }
            batch.verify_crc().ok()?;
            for record in batch.records(&mut scratch).unwrap() {
                let record = record.unwrap();
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_string();
                held.latest.insert(text(record.key.unwrap()), record.value.map(text));
            }
            held.batches += 1;
            held.end = batch.header().next_offset();
        }
    }
    Some(held)
}

fn live(held: &Held) -> BTreeMap<String, String> {
    held.latest.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?))).collect()
}

/// Waits until a broker holds everything up to `end`, and few batches: it has compacted.
fn wait_compacted(cluster: &LocalCluster, id: u32, end: Offset) -> Held {
    wait_for(&format!("broker {id} to have compacted up to {end}"), || {
        held(&cluster.data(id)).filter(|held| held.end == end && held.batches < 60)
    })
}

#[test]
fn a_replica_that_was_away_ends_inside_what_is_one_empty_batch_by_now_and_goes_on() {
    let mut cluster = LocalCluster::start(3);
    let topic_id = cluster.create_topic(TOPIC, &CONFIGS);
    let (leader, _) = cluster.leader(TOPIC);
    let away = (1..=3).find(|id| *id != leader).unwrap();
    for number in 0..40 {
        let _ = produce(&cluster, topic_id, &[("a", Some(number)), ("b", Some(number))]);
    }
    let deleted = produce(&cluster, topic_id, &[("gone", Some(1))]);
    cluster.wait_in_sync(TOPIC, &[1, 2, 3]);
    wait_for("the replica to hold it", || held(&cluster.data(away)).filter(|held| held.end == deleted));
    cluster.kill(away);
    cluster.fence(away);
    let mut end = Offset::ZERO;
    for number in 0..400 {
        let _ = produce(&cluster, topic_id, &[("gone", (number < 200).then_some(number))]);
        end = produce(&cluster, topic_id, &[("a", Some(number)), ("b", Some(number))]);
    }
    let held_by_leader = wait_compacted(&cluster, leader, end);
    // It cannot know that the other has seen it.
    assert_eq!(held_by_leader.latest["gone"], None, "the tombstone waits for the replica that is away");
    cluster.start_broker(away);
    cluster.unfence(away);
    cluster.wait_in_sync(TOPIC, &[1, 2, 3]);
    let caught_up = wait_compacted(&cluster, away, end);
    assert_eq!(live(&caught_up), live(&held_by_leader));
    assert_eq!(live(&caught_up), BTreeMap::from([("a".into(), "399".into()), ("b".into(), "399".into())]));
    // Now that all have it, it goes.
    let end = produce(&cluster, topic_id, &[("a", Some(1_000))]);
    for id in 1..=3 {
        wait_for("the tombstone to go", || {
            held(&cluster.data(id)).filter(|held| held.end == end && !held.latest.contains_key("gone"))
        });
    }
}

#[test]
fn a_replica_that_missed_a_tombstone_for_good_begins_anew_and_the_key_stays_deleted() {
    let mut cluster = LocalCluster::start(3);
    let topic_id = cluster.create_topic(TOPIC, &CONFIGS);
    let (leader, _) = cluster.leader(TOPIC);
    let others: Vec<u32> = (1..=3).filter(|id| *id != leader).collect();
    let (away, next) = (others[0], others[1]);
    let first = produce(&cluster, topic_id, &[("gone", Some(1)), ("stays", Some(1))]);
    cluster.wait_in_sync(TOPIC, &[1, 2, 3]);
    wait_for("the replica to hold it", || held(&cluster.data(away)).filter(|held| held.end == first));
    cluster.kill(away);
    cluster.fence(away);
    let _ = produce(&cluster, topic_id, &[("gone", None)]);
    let mut end = Offset::ZERO;
    for number in 0..300 {
        end = produce(&cluster, topic_id, &[("a", Some(number))]);
    }
    // The one that follows knows nothing of who is away, and forgets the deletion.
    wait_for("the follower to forget", || {
        held(&cluster.data(next)).filter(|held| held.end == end && !held.latest.contains_key("gone"))
    });
    assert!(held(&cluster.data(away)).unwrap().latest.contains_key("gone"));
    cluster.wait_in_sync(TOPIC, &{
        let mut both = [leader, next];
        both.sort_unstable();
        both
    });
    cluster.kill(leader);
    cluster.fence(leader);
    wait_for("the other to lead", || (cluster.partition(TOPIC).leader.map(|id| id.0) == Some(next)).then_some(()));
    cluster.start_broker(away);
    cluster.unfence(away);
    let end = produce(&cluster, topic_id, &[("a", Some(1_000))]);
    let caught_up = wait_for("the replica to catch up", || held(&cluster.data(away)).filter(|held| held.end == end));
    assert_eq!(live(&caught_up)["stays"], "1");
    assert!(!live(&caught_up).contains_key("gone"), "a deleted key is back: {caught_up:?}");
}
