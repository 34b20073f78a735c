//! Three brokers hold one partition: what is acknowledged is on all of them, whoever dies; what only one of them had is cut when it comes
//! back; and in the end all hold the same bytes.

#![allow(clippy::unwrap_used, clippy::panic)] // A failed unwrap is a failed test.

use std::collections::BTreeSet;
use std::path::Path;

use tidelog_protocol::frame::Flags;
use tidelog_protocol::messages::{
    Acks, EpochEndRequest, Isolation, ListOffsetsRequest, OffsetQuery, PartitionDescription, PartitionProgress,
    Position, ProduceRequest, ProduceResponse, ReplicaProgressSignal, SubscribeRequest,
};
use tidelog_protocol::records::{Batches, Compression, Scratch};
use tidelog_protocol::{BrokerId, ErrorCode, PartitionId, ProtocolVersion, TopicId, WireError};
use tidelog_protocol::{Message, Offset};
use tidelog_tests::cluster::replica_files;
use tidelog_tests::local_cluster::LocalCluster;
use tidelog_tests::patience::wait_for;
use tidelog_tests::raw_connection::{RawConnection, batch};

const TOPIC: &str = "ledger";

fn on_its_own<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn produce_request(topic_id: TopicId, acks: Acks) -> ProduceRequest {
    ProduceRequest {
        topic_id,
        partition: PartitionId(0),
        leader_epoch: None,
        acks,
        expected_log_end: None,
        transactional_id: None,
    }
}

fn value(number: u32) -> Vec<u8> {
    format!("value-{number:06}").into_bytes()
}

/// Produces one value to the broker; tries again where the broker says that it does not lead yet.
fn produce(cluster: &LocalCluster, broker: u32, topic_id: TopicId, number: u32) -> ProduceResponse {
    on_its_own(async {
        let mut connection = RawConnection::introduced(cluster.address(broker)).await;
        let batch = batch(&[&value(number)], Compression::None);
        tidelog_tests::patience::wait_until("the value to be taken", async || {
            match connection.call(&produce_request(topic_id, Acks::All), &batch).await {
                Ok(response) => Some(response),
                Err(error) => {
                    let passing = [
                        ErrorCode::NotLeader,
                        ErrorCode::LeadershipEnded,
                        ErrorCode::UnknownTopic,
                        ErrorCode::NotEnoughReplicas,
                    ];
                    assert!(passing.contains(&error.code), "{error}");
                    None
                }
            }
        })
        .await
    })
}

/// The bytes of all whole batches of the one partition, as they stand in the files of a broker that is down.
fn log_bytes(data: &Path) -> Vec<u8> {
    replica_files::read(&data.join(format!("{TOPIC}-0"))).bytes
}

fn values(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut scratch = Scratch::default();
    let mut values = Vec::new();
    for batch in Batches::new(bytes) {
        let records = batch.unwrap();
        for record in records.records(&mut scratch).unwrap() {
            values.push(record.unwrap().value.unwrap().to_vec());
        }
    }
    values
}

/// Ends all brokers and compares what they hold; gives the values in their order.
fn same_everywhere(cluster: &mut LocalCluster) -> Vec<Vec<u8>> {
    (1..=3).for_each(|id| cluster.kill(id));
    let logs: Vec<_> = (1..=3).map(|id| log_bytes(&cluster.data(id))).collect();
    assert!(!logs[0].is_empty());
    for (id, log) in (1..).zip(&logs) {
        assert!(*log == logs[0], "broker {id} holds {:?}, broker 1 {:?}", values(log), values(&logs[0]));
    }
    values(&logs[0])
}

#[test]
fn what_is_acknowledged_is_flushed_on_all_in_sync_replicas() {
    let mut cluster = LocalCluster::start(3);
    let topic_id = cluster.create_topic(TOPIC, &[("min.insync.replicas", "2")]);
    let (leader, _) = cluster.leader(TOPIC);
    for number in 0..50 {
        let acked = produce(&cluster, leader, topic_id, number);
        assert_eq!(acked.base_offset, Offset(number.into()));
        assert_eq!((acked.replicas_written, acked.replicas_flushed), (3, 3), "{acked:?}");
    }
    assert_eq!(same_everywhere(&mut cluster), (0..50).map(value).collect::<Vec<_>>());
}

#[test]
fn a_follower_that_was_away_is_counted_out_catches_up_and_is_counted_again() {
    let mut cluster = LocalCluster::start(3);
    let topic_id = cluster.create_topic(TOPIC, &[("min.insync.replicas", "2")]);
    let (leader, _) = cluster.leader(TOPIC);
    let away = (1..=3).find(|id| *id != leader).unwrap();
    let others: Vec<u32> = (1..=3).filter(|id| *id != away).collect();
    produce(&cluster, leader, topic_id, 0);
    cluster.kill(away);
    // Nobody says that its lease ended: the leader itself notices that it lags.
    for number in 1..40 {
        let acked = produce(&cluster, leader, topic_id, number);
        assert_eq!(acked.replicas_flushed, 2, "{acked:?}");
    }
    cluster.wait_in_sync(TOPIC, &others);
    cluster.start_broker(away);
    cluster.wait_in_sync(TOPIC, &[1, 2, 3]);
    let acked = produce(&cluster, leader, topic_id, 40);
    assert_eq!(acked.replicas_flushed, 3, "{acked:?}");
    assert_eq!(same_everywhere(&mut cluster), (0..=40).map(value).collect::<Vec<_>>());
}

#[test]
fn the_next_leader_has_all_that_was_acknowledged() {
    let mut cluster = LocalCluster::start(3);
    let topic_id = cluster.create_topic(TOPIC, &[("min.insync.replicas", "2")]);
    let mut number = 0;
    for _ in 0..4 {
        let (leader, epoch) = cluster.leader(TOPIC);
        for _ in 0..10 {
            produce(&cluster, leader, topic_id, number);
            number += 1;
        }
        cluster.kill(leader);
        cluster.fence(leader);
        let (next, next_epoch) = cluster.leader(TOPIC);
        assert!(next != leader && next_epoch > epoch);
        for _ in 0..10 {
            let acked = produce(&cluster, next, topic_id, number);
            assert_eq!(acked.leader_epoch, next_epoch);
            number += 1;
        }
        cluster.start_broker(leader);
        cluster.wait_in_sync(TOPIC, &[1, 2, 3]);
    }
    assert_eq!(same_everywhere(&mut cluster), (0..number).map(value).collect::<Vec<_>>());
}

#[test]
fn a_new_leader_tells_no_end_below_what_the_one_before_may_have_acknowledged() {
    let mut cluster = LocalCluster::start(3);
    let topic_id = cluster.create_topic(TOPIC, &[("min.insync.replicas", "1")]);
    let (leader, epoch) = cluster.leader(TOPIC);
    cluster.wait_in_sync(TOPIC, &[1, 2, 3]);
    produce(&cluster, leader, topic_id, 0);
    // One that counts as in sync hears nothing of the next values, so that they stay unsettled; the other takes them.
    let replicas: Vec<u32> = cluster.partition(TOPIC).replicas.iter().map(|broker| broker.0).collect();
    let others: Vec<u32> = replicas.into_iter().filter(|broker| *broker != leader).collect();
    // The first of those in sync leads next: nobody has fenced the silent one either.
    let [heir, silent] = others[..] else { panic!("{others:?}") };
    cluster.kill(silent);
    on_its_own(async {
        let mut connection = RawConnection::introduced(cluster.address(leader)).await;
        let batch = batch(&[&value(1), &value(2)], Compression::None);
        connection.call(&produce_request(topic_id, Acks::Leader), &batch).await.unwrap();
    });
    wait_for("the other one to have them", || (values(&log_bytes(&cluster.data(heir))).len() == 3).then_some(()));
    cluster.kill(leader);
    cluster.fence(leader);
    let (next, next_epoch) = cluster.leader(TOPIC);
    assert!(next == heir && next_epoch > epoch);
    let asked = |position: Position| {
        on_its_own(async {
            let mut connection = RawConnection::introduced(cluster.address(heir)).await;
            let queries = vec![OffsetQuery { partition: PartitionId(0), position }];
            let mut answer = connection
                .call(&ListOffsetsRequest { topic_id, queries, committed_only: false, settled: false }, &[])
                .await
                .unwrap();
            let answer = answer.answers.remove(0);
            answer.fault.map_or(Ok(answer.offset), |fault| Err(WireError::from(fault)))
        })
    };
    // As soon as it knows that it leads, and until it knows more.
    let refusal = wait_for("a refusal other than of one who does not lead", || match asked(Position::LATEST) {
        Err(error) if error.code == ErrorCode::NotLeader => None,
        answer => Some(answer.unwrap_err()),
    });
    assert!(refusal.code == ErrorCode::OffsetNotAvailable && refusal.message.contains("ask again"), "{refusal}");
    cluster.fence(silent);
    let end = wait_for("the end", || match asked(Position::LATEST) {
        Err(error) => {
            assert_eq!(error.code, ErrorCode::OffsetNotAvailable);
            None
        }
        Ok(end) => end,
    });
    assert_eq!(end, Offset(3));
}

#[test]
fn what_a_deposed_leader_alone_had_is_cut_and_never_acknowledged() {
    let mut cluster = LocalCluster::start(3);
    // The records are of 1970, and what was sealed as the log was cut would be too old to keep.
    let topic_id = cluster.create_topic(TOPIC, &[("min.insync.replicas", "2"), ("retention.ms", "-1")]);
    let (deposed, epoch) = cluster.leader(TOPIC);
    for number in 0..10 {
        produce(&cluster, deposed, topic_id, number);
    }
    cluster.cut_off(deposed);
    on_its_own(async {
        let mut connection = RawConnection::introduced(cluster.address(deposed)).await;
        let subscribe = SubscribeRequest {
            topic_id,
            partition: PartitionId(0),
            position: Position::LATEST,
            leader_epoch: Some(epoch),
            isolation: Isolation::ReadUncommitted,
            credit_bytes: 1 << 20,
            item_bytes_max: 1 << 20,
            last_epoch: None,
            nearby: false,
            settled: false,
        };
        let stream = connection.ask(&subscribe, &[]).await;
        assert!(!connection.answer(stream).await.header.flags.contains(Flags::FAULT));
        // Written here, and nowhere else; whoever waits for all waits.
        let alone = batch(&[&value(900)], Compression::None);
        let written = connection.call(&produce_request(topic_id, Acks::Leader), &alone).await.unwrap();
        assert_eq!(written.base_offset, Offset(10));
        // Whoever has read ahead of a watermark waits for it.
        let ahead = SubscribeRequest { position: Position::offset(Offset(11)), ..subscribe };
        let ahead = connection.ask(&ahead, &[]).await;
        assert!(!connection.answer(ahead).await.header.flags.contains(Flags::FAULT));
        let alone = batch(&[&value(901)], Compression::None);
        let waits = connection.ask(&produce_request(topic_id, Acks::All), &alone).await;
        cluster_fences(&cluster, deposed);
        let mut faults = BTreeSet::new();
        while faults.len() < 3 {
            let frame = connection.next_frame().await.expect("the connection stays");
            assert!(frame.payload.is_empty(), "nothing of it may be read");
            if frame.header.flags.contains(Flags::FAULT) {
                let fault =
                    tidelog_protocol::messages::Fault::from_body(&frame.body, ProtocolVersion::CURRENT).unwrap();
                // What was written may hold yet; what was only to be read is read elsewhere.
                let written = frame.header.correlation == waits;
                let expected = if written { ErrorCode::LeadershipEnded } else { ErrorCode::NotLeader };
                assert_eq!(WireError::from(fault).code, expected);
                faults.insert(frame.header.correlation);
            }
        }
        assert_eq!(faults, BTreeSet::from([stream, ahead, waits]));
    });

    let (leader, next_epoch) = cluster.leader(TOPIC);
    assert!(leader != deposed && next_epoch > epoch);
    for number in 10..20 {
        produce(&cluster, leader, topic_id, number);
    }
    cluster.mend(deposed);
    cluster.unfence(deposed);
    cluster.wait_in_sync(TOPIC, &[1, 2, 3]);
    let acked = produce(&cluster, leader, topic_id, 20);
    assert_eq!(acked.replicas_flushed, 3);
    assert_eq!(same_everywhere(&mut cluster), (0..=20).map(value).collect::<Vec<_>>());
}

/// From within a runtime, where the cluster's own cannot be waited for.
fn cluster_fences(cluster: &LocalCluster, broker: u32) {
    std::thread::scope(|scope| scope.spawn(|| cluster.fence(broker)).join().unwrap());
}

#[test]
fn records_deleted_at_the_leader_are_deleted_at_its_followers() {
    let mut cluster = LocalCluster::start(3);
    let topic_id = cluster.create_topic(TOPIC, &[]);
    let (leader, _) = cluster.leader(TOPIC);
    for number in 0..10 {
        produce(&cluster, leader, topic_id, number);
    }
    on_its_own(async {
        let mut connection = RawConnection::introduced(cluster.address(leader)).await;
        let delete = tidelog_protocol::messages::DeleteRecordsRequest {
            accept_loss: false,
            topic_id,
            partition: PartitionId(0),
            before: Some(Offset(7)),
        };
        connection.call(&delete, &[]).await.unwrap();
    });
    let follower = (1..=3).find(|id| *id != leader).unwrap();
    wait_for("the follower to delete", || (log_start(&cluster, follower) == Offset(7)).then_some(()));
    cluster.kill(follower);
    cluster.start_broker(follower);
    wait_for("the follower to remember", || (log_start(&cluster, follower) == Offset(7)).then_some(()));
}

/// The one partition as a broker has it.
fn described(cluster: &LocalCluster, broker: u32) -> PartitionDescription {
    on_its_own(async {
        let mut connection = RawConnection::introduced(cluster.address(broker)).await;
        let describe = tidelog_protocol::messages::DescribeTopicsRequest { topics: None };
        connection.call(&describe, &[]).await.unwrap().topics[0].partitions[0].clone()
    })
}

/// Where the one partition begins on a broker.
fn log_start(cluster: &LocalCluster, broker: u32) -> Offset {
    described(cluster, broker).log_start
}

#[test]
fn rot_on_a_replica_is_found_never_served_and_mended_from_another() {
    for rots in ["what led", "a follower"] {
        let mut cluster = LocalCluster::start(3);
        let topic_id = cluster.create_topic(TOPIC, &[("min.insync.replicas", "2")]);
        let (leader, _) = cluster.leader(TOPIC);
        let rotten = if rots == "what led" { leader } else { leader % 3 + 1 };
        for number in 0..40 {
            produce(&cluster, leader, topic_id, number);
        }
        let subscribe = SubscribeRequest {
            topic_id,
            partition: PartitionId(0),
            position: Position::EARLIEST,
            leader_epoch: None,
            isolation: Isolation::ReadUncommitted,
            credit_bytes: 1 << 20,
            item_bytes_max: 1 << 20,
            last_epoch: None,
            nearby: true,
            settled: false,
        };
        // The watermark that followers know is a moment behind.
        let settled = |cluster: &LocalCluster| described(cluster, rotten).high_watermark == Offset(40);
        wait_for("everything to be settled there", || settled(&cluster).then_some(()));
        cluster.kill(rotten);
        let file = cluster.data(rotten).join(format!("{TOPIC}-0/{:020}.log", 0));
        let mut bytes = std::fs::read(&file).unwrap();
        let values = (0..40).map(value).collect::<Vec<_>>();
        let twentieth = bytes.windows(values[20].len()).position(|window| window == values[20]).unwrap();
        bytes[twentieth] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        cluster.start_broker(rotten);
        let address = cluster.address(rotten);
        let read = on_its_own(async {
            tidelog_tests::patience::wait_until("the range to be mended", async || {
                let mut connection = RawConnection::introduced(address).await;
                let stream = connection.ask(&subscribe, &[]).await;
                let mut bytes = Vec::new();
                loop {
                    let frame = connection.next_frame().await.expect("the connection stands");
                    assert_eq!(frame.header.correlation, stream);
                    // Refused, or ended: never with what is damaged.
                    if frame.header.flags.contains(Flags::FAULT) {
                        return None;
                    }
                    bytes.extend_from_slice(&frame.payload);
                    if Batches::compacted(&bytes)
                        .flatten()
                        .last()
                        .is_some_and(|last| last.header().next_offset() == Offset(40))
                    {
                        return Some(bytes);
                    }
                }
            })
            .await
        });
        assert_eq!(self::values(&read), values, "{rots}");
        cluster.assert_repaired_one(rotten);
        assert_eq!(same_everywhere(&mut cluster), values, "{rots}");
    }
}

#[test]
fn nobody_but_a_follower_itself_says_how_far_it_is() {
    let cluster = LocalCluster::start(3);
    let topic_id = cluster.create_topic(TOPIC, &[("min.insync.replicas", "2")]);
    let (leader, epoch) = cluster.leader(TOPIC);
    let follower = BrokerId(leader % 3 + 1);
    let broker_epoch = cluster.image().broker(follower).unwrap().epoch;
    on_its_own(async {
        let mut forger = RawConnection::introduced(cluster.address(leader)).await;
        let ask = EpochEndRequest { topic_id, partition: PartitionId(0), leader_epoch: epoch, epoch };
        assert_eq!(forger.call(&ask, &[]).await.unwrap_err().code, ErrorCode::Unsupported);
        let progress = PartitionProgress {
            topic_id,
            partition: PartitionId(0),
            leader_epoch: epoch,
            written_end: Offset(1),
            flushed_end: Offset(1),
        };
        let signal = ReplicaProgressSignal { replica: follower, broker_epoch, partitions: vec![progress] };
        forger.signal(&signal).await;
        let last_words = forger.last_words().await;
        assert!(last_words.contains("itself says how far it is"), "{last_words}");
    });
}
