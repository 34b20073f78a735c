//! Offsets within transactions, over real brokers: they count or are gone with the end, whoever coordinates by then.

use tidelog_protocol::messages::{
    CommittedOffset, Coordinated, OffsetFetchRequest, ProducerIdentity, TransactionEnder,
};
use tidelog_protocol::{ErrorCode, Offset, PartitionId, ProducerEpoch};
use tidelog_tests::http::http_get;
use tidelog_tests::patience::wait_until;
use tidelog_tests::question::{NoAnswer, ask};
use tidelog_tests::raw_transactions::{RawProducer, SHARDS, Scene, ask_coordinator, codes, init, shard_of};

const GROUP: &str = "pipeline";
const LONG: u32 = 900_000;

/// What the offsets of the group are to this test.
trait Offsets {
    /// Of this partition of the topic, this one.
    fn at(&self, partition: u32, offset: u64) -> CommittedOffset;
    /// What counts, once nothing is open.
    async fn stable(&self) -> Vec<CommittedOffset>;
    /// What counts now.
    async fn visible(&self) -> Vec<CommittedOffset>;
    /// What a metric of all brokers adds up to.
    fn total(&self, metric: &str) -> f64;
}

impl Offsets for Scene {
    fn at(&self, partition: u32, offset: u64) -> CommittedOffset {
        let (partition, offset) = (PartitionId(partition), Offset(offset));
        CommittedOffset { topic_id: self.orders, partition, offset, leader_epoch: None, metadata: String::new() }
    }

    async fn stable(&self) -> Vec<CommittedOffset> {
        ask_coordinator(&self.addresses, (Coordinated::Group, GROUP), &fetch(true)).await.unwrap().offsets
    }

    async fn visible(&self) -> Vec<CommittedOffset> {
        ask_coordinator(&self.addresses, (Coordinated::Group, GROUP), &fetch(false)).await.unwrap().offsets
    }

    fn total(&self, metric: &str) -> f64 {
        let of = |id| {
            let text = http_get(self.cluster.process(id).admin_address(), "/metrics").unwrap().body;
            let line = text.lines().find(|line| line.starts_with(&format!("{metric} "))).unwrap().to_owned();
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
        };
        (1..=3).map(of).sum()
    }
}

fn fetch(require_stable: bool) -> OffsetFetchRequest {
    OffsetFetchRequest { group: GROUP.into(), member_id: None, member_epoch: 0, partitions: None, require_stable }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_count_with_the_commit_and_are_gone_with_the_abort() {
    let scene = Scene::set().await;
    let mut producer = scene.producer("tx", LONG).await;
    producer.commit_offsets(GROUP, vec![scene.at(0, 5), scene.at(2, 7)]).await.unwrap();
    assert_eq!(scene.visible().await, []);
    producer.end(true).await.unwrap();
    assert_eq!(scene.stable().await, [scene.at(0, 5), scene.at(2, 7)]);
    producer.commit_offsets(GROUP, vec![scene.at(0, 9)]).await.unwrap();
    producer.end(false).await.unwrap();
    assert_eq!(scene.stable().await, [scene.at(0, 5), scene.at(2, 7)]);
    assert_eq!(producer.identity.epoch, ProducerEpoch(2), "an epoch for each");
    scene.settled(&producer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_what_is_stable_waits_for_the_end() {
    let scene = Scene::set().await;
    let mut producer = scene.producer("tx", LONG).await;
    producer.commit_offsets(GROUP, vec![scene.at(0, 5)]).await.unwrap();
    let (coordinator, _) = scene.cluster.leader("__groups", shard_of(GROUP)).await;
    let refused = ask(scene.cluster.address(coordinator), &fetch(true)).await;
    let Err(NoAnswer::Fault(refused)) = refused else { panic!("{refused:?}") };
    assert_eq!(refused.code, ErrorCode::UnstableOffset);
    producer.end(true).await.unwrap();
    assert_eq!(scene.stable().await, [scene.at(0, 5)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_heard_of_though_the_coordinator_dies_after_it_has_decided() {
    let mut scene = Scene::set().await;
    for round in 0..3u64 {
        let id = format!("tx-{round}");
        let mut producer = scene.producer(&id, LONG).await;
        producer.commit_offsets(GROUP, vec![scene.at(1, round)]).await.unwrap();
        // Nobody hears of the end while the group has no coordinator.
        let coordinator = scene.coordinator_of(&id).await;
        let (groups, _) = scene.cluster.leader("__groups", shard_of(GROUP)).await;
        let commits = round != 1;
        let _ = if groups == coordinator { None } else { Some(scene.cluster.pause(groups)) };
        producer.end(commits).await.unwrap();
        let _ = scene.cluster.kill(coordinator);
        if groups != coordinator {
            scene.cluster.resume(groups);
        }
        let expected = if commits { round } else { round - 1 };
        assert_eq!(scene.stable().await, [scene.at(1, expected)], "round {round}");
        assert!(scene.cluster.is_down(coordinator), "all of that went on without it");
        scene.settled(&producer).await;
        scene.cluster.restart(coordinator);
        for topic in ["__groups", "__transactions"] {
            for shard in 0..SHARDS {
                let (leader, _) = scene.cluster.leader(topic, shard).await;
                scene.cluster.wait_in_sync((topic, shard), &[1, 2, 3], leader).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_producer_undoes_what_the_one_before_has_open_and_fences_it() {
    let scene = Scene::set().await;
    let mut zombie = scene.producer("tx", LONG).await;
    zombie.commit_offsets(GROUP, vec![scene.at(0, 5)]).await.unwrap();
    let mut successor = scene.producer("tx", LONG).await;
    assert_eq!(scene.stable().await, [], "what it had open is undone");
    assert_eq!(codes(zombie.commit_offsets(GROUP, vec![scene.at(0, 6)]).await), Some(ErrorCode::TransactionFenced));
    assert_eq!(codes(zombie.clone().end(true).await), Some(ErrorCode::TransactionFenced));
    assert_eq!(codes(zombie.ask_again().await), Some(ErrorCode::TransactionFenced));
    successor.commit_offsets(GROUP, vec![scene.at(0, 7)]).await.unwrap();
    successor.end(true).await.unwrap();
    assert_eq!(scene.stable().await, [scene.at(0, 7)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_nobody_ends_is_undone_after_its_timeout() {
    let scene = Scene::set().await;
    let mut producer = scene.producer("tx", 1_500).await;
    producer.commit_offsets(GROUP, vec![scene.at(0, 5)]).await.unwrap();
    wait_until("the metric to count it", async || (scene.total("tidelog_transactions_open") > 0.0).then_some(())).await;
    assert_eq!(scene.stable().await, [], "its timeout has passed");
    let described = producer.describe().await;
    let ended = described.ended.unwrap();
    assert_eq!(
        (ended.by, ended.committed, ended.identity),
        (TransactionEnder::Timeout, false, producer.identity.clone())
    );
    assert_eq!(codes(producer.clone().end(true).await), Some(ErrorCode::InvalidTransactionState));
    scene.settled(&producer).await;
    wait_until("the metrics to fall", async || {
        let sum = scene.total("tidelog_transactions_open") + scene.total("tidelog_transactions_open_oldest_seconds");
        (sum == 0.0).then_some(())
    })
    .await;
    producer.ask_again().await.unwrap();
    producer.commit_offsets(GROUP, vec![scene.at(0, 8)]).await.unwrap();
    producer.end(true).await.unwrap();
    assert_eq!(scene.stable().await, [scene.at(0, 8)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_may_ask_is_refused_with_its_reason() {
    let scene = Scene::set().await;
    let init = async |id: &str, timeout_ms, current: Option<ProducerIdentity>| {
        codes(init(&scene.addresses, id, timeout_ms, current).await)
    };
    assert_eq!(init("", 0, None).await, Some(ErrorCode::InvalidTransactionalId));
    assert_eq!(init("tab\there", 0, None).await, Some(ErrorCode::InvalidTransactionalId));
    assert_eq!(init("tx", 900_001, None).await, Some(ErrorCode::TransactionTimeout));
    let mut producer = scene.producer("tx", 0).await;
    let stranger = ProducerIdentity { epoch: ProducerEpoch(9), ..producer.identity.clone() };
    assert_eq!(init("tx", 0, Some(stranger.clone())).await, Some(ErrorCode::TransactionFenced));
    let forged = RawProducer { identity: stranger, ..producer.clone() };
    assert_eq!(codes(forged.commit_offsets(GROUP, vec![scene.at(0, 5)]).await), Some(ErrorCode::TransactionFenced));
    let unknown = RawProducer { id: "nobody".into(), ..producer.clone() };
    assert_eq!(codes(unknown.commit_offsets(GROUP, vec![scene.at(0, 5)]).await), Some(ErrorCode::UnknownTransaction));
    producer.end(true).await.unwrap();
    assert_eq!(scene.visible().await, [], "nothing came of any of it");
}
