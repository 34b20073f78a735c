//! Kafka's transactions by hand: every version of their APIs, and the codes that clients are told.

use bytes::Bytes;
use tidelog_protocol::kafka::add_offsets_to_txn::AddOffsetsToTxnRequest;
use tidelog_protocol::kafka::add_partitions_to_txn::{AddPartitionsToTxnRequest, AddPartitionsToTxnTopic};
use tidelog_protocol::kafka::describe_producers::{DescribeProducersRequest, ProducerState, TopicRequest};
use tidelog_protocol::kafka::describe_transactions::{DescribeTransactionsRequest, TopicData, TransactionState};
use tidelog_protocol::kafka::end_txn::EndTxnRequest;
use tidelog_protocol::kafka::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use tidelog_protocol::kafka::find_coordinator::{FindCoordinatorRequest, TRANSACTION};
use tidelog_protocol::kafka::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use tidelog_protocol::kafka::list_transactions::ListTransactionsRequest;
use tidelog_protocol::kafka::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic};
use tidelog_protocol::kafka::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use tidelog_protocol::kafka::{KafkaError, Request};
use tidelog_protocol::records::{BatchBuilder, Compression, NO_HEADERS, Producer as BatchProducer};
use tidelog_protocol::{ProducerEpoch, ProducerId, Sequence, Timestamp};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::patience::wait_until;
use tidelog_tests::raw_kafka::{RawKafka, produce};

const TOPIC: &str = "orders";
const GROUP: &str = "readers";

/// A producer that speaks the versions next to one number.
struct Producer {
    kafka: RawKafka,
    version: i16,
    name: String,
    id: i64,
    epoch: i16,
    sequence: i32,
}

impl Producer {
    /// Connected, and nobody yet; there is the topic.
    async fn open(broker: &BrokerProcess, name: &str, version: i16) -> Self {
        let mut kafka = RawKafka::open(broker.address()).await;
        kafka.make(TOPIC).await;
        Self { kafka, version, name: name.into(), id: -1, epoch: -1, sequence: 0 }
    }

    async fn started(broker: &BrokerProcess, name: &str, version: i16) -> Self {
        let mut this = Self::open(broker, name, version).await;
        let init = this.init(60_000).await;
        assert_eq!(init.error_code, 0);
        this
    }

    async fn call<R: Request>(&mut self, request: &R) -> R::Response {
        let version = self.version.clamp(*R::API.versions().start(), *R::API.versions().end());
        self.kafka.call(request, version).await
    }

    /// Asks who it is, once its coordinator is ready.
    async fn init(&mut self, timeout_ms: i32) -> InitProducerIdResponse {
        let find = FindCoordinatorRequest {
            key: self.name.clone(),
            key_type: TRANSACTION,
            coordinator_keys: vec![self.name.clone()],
        };
        // Version 0 knows groups alone.
        let version = self.version.max(1);
        self.kafka.call(&find, version).await;
        let request = InitProducerIdRequest {
            transactional_id: Some(self.name.clone()),
            transaction_timeout_ms: timeout_ms,
            producer_id: self.id,
            producer_epoch: self.epoch,
        };
        loop {
            let told = self.call(&request).await;
            let waits = [KafkaError::CoordinatorLoadInProgress, KafkaError::NotCoordinator];
            if waits.iter().all(|error| told.error_code != error.code()) {
                if told.error_code == 0 {
                    (self.id, self.epoch, self.sequence) = (told.producer_id, told.producer_epoch, 0);
                }
                return told;
            }
        }
    }

    fn partitions(&self, topics: &[(&str, &[i32])]) -> AddPartitionsToTxnRequest {
        let topic = |(name, partitions): &(&str, &[i32])| AddPartitionsToTxnTopic {
            name: (*name).into(),
            partitions: partitions.to_vec(),
        };
        AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.name.clone(),
            v3_and_below_producer_id: self.id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: topics.iter().map(topic).collect(),
        }
    }

    async fn add_all(&mut self, topics: &[(&str, &[i32])]) -> Vec<i16> {
        let told = self.call(&self.partitions(topics)).await.results_by_topic_v3_and_below;
        let partitions = told.into_iter().flat_map(|topic| topic.results_by_partition);
        partitions.map(|partition| partition.partition_error_code).collect()
    }

    async fn add(&mut self) -> i16 {
        loop {
            let error = self.add_all(&[(TOPIC, &[0])]).await.remove(0);
            if error != KafkaError::ConcurrentTransactions.code() {
                return error;
            }
        }
    }

    async fn send(&mut self, value: &str) -> i16 {
        let mut builder = BatchBuilder::new(1 << 10);
        let (id, epoch) = (ProducerId(self.id), ProducerEpoch(self.epoch));
        builder.set_producer(BatchProducer { id, epoch, base_sequence: Sequence(self.sequence) });
        builder.set_attributes(builder.attributes().transactional());
        builder.append(Timestamp(5), None, Some(value.as_bytes()), NO_HEADERS).unwrap();
        let records: Bytes = builder.finish(Compression::None).unwrap();
        let mut request = produce(TOPIC, Some(records));
        request.transactional_id = Some(self.name.clone());
        let mut told = self.call(&request).await;
        let error = told.responses.remove(0).partition_responses.remove(0).error_code;
        self.sequence += i32::from(error == 0);
        error
    }

    async fn add_group(&mut self) -> i16 {
        let request = AddOffsetsToTxnRequest {
            transactional_id: self.name.clone(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            group_id: GROUP.into(),
        };
        loop {
            let error = self.call(&request).await.error_code;
            if error != KafkaError::ConcurrentTransactions.code() {
                return error;
            }
        }
    }

    fn noting(&self, offset: i64) -> TxnOffsetCommitRequest {
        let place = TxnOffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
        TxnOffsetCommitRequest {
            transactional_id: self.name.clone(),
            group_id: GROUP.into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            topics: vec![TxnOffsetCommitRequestTopic { name: TOPIC.into(), partitions: vec![place] }],
            ..Default::default()
        }
    }

    async fn note_as(&mut self, request: TxnOffsetCommitRequest) -> i16 {
        loop {
            let error = self.call(&request).await.topics.remove(0).partitions.remove(0).error_code;
            if error != KafkaError::CoordinatorLoadInProgress.code() && error != KafkaError::NotCoordinator.code() {
                return error;
            }
        }
    }

    async fn note(&mut self, offset: i64) -> i16 {
        let request = self.noting(offset);
        // There are no groups before somebody asks for one.
        self.call(&FindCoordinatorRequest {
            key: GROUP.into(),
            coordinator_keys: vec![GROUP.into()],
            ..Default::default()
        })
        .await;
        self.note_as(request).await
    }

    async fn end(&mut self, committed: bool) -> i16 {
        let request = EndTxnRequest {
            transactional_id: self.name.clone(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed,
        };
        self.call(&request).await.error_code
    }

    /// How far the group has come, and why that is not told.
    async fn offset(&mut self) -> (i64, i16) {
        let topic = OffsetFetchRequestTopic { name: TOPIC.into(), partition_indexes: vec![0] };
        let topics = Some(vec![topic]);
        let group = OffsetFetchRequestGroup { group_id: GROUP.into(), topics, ..Default::default() };
        let request = OffsetFetchRequest { groups: vec![group], require_stable: true, ..Default::default() };
        let mut group = self.kafka.call(&request, 8).await.groups.remove(0);
        let place = group.topics.pop().and_then(|mut topic| topic.partitions.pop());
        place.map_or((-1, group.error_code), |place| (place.committed_offset, place.error_code))
    }

    async fn fetch(&mut self, isolation_level: i8) -> PartitionData {
        let place = FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() };
        let request = FetchRequest {
            max_bytes: 50 << 20,
            session_epoch: -1,
            isolation_level,
            topics: vec![FetchTopic { topic: TOPIC.into(), partitions: vec![place], ..Default::default() }],
            ..Default::default()
        };
        self.kafka.call(&request, 11).await.responses.remove(0).partitions.remove(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_every_version_one_epoch_writes_one_transaction_after_the_other() {
    for version in 0..=5 {
        let broker = BrokerProcess::start();
        let mut producer = Producer::started(&broker, "billing", version).await;
        let first = (producer.id, producer.epoch);
        for (turn, committed) in [false, true, false].into_iter().enumerate() {
            assert_eq!((producer.add().await, producer.add_group().await), (0, 0), "version {version}");
            assert_eq!((producer.send("one").await, producer.send("two").await), (0, 0));
            assert_eq!(producer.note(10 + turn as i64).await, 0);
            assert_eq!(producer.offset().await.1, KafkaError::UnstableOffsetCommit.code());
            let open = producer.fetch(1).await;
            assert_eq!((open.last_stable_offset, open.high_watermark), (3 * turn as i64, 3 * turn as i64 + 2));
            assert_eq!((producer.end(committed).await, producer.end(committed).await), (0, 0), "it is asked again");
            let settled = 3 * (turn as i64 + 1);
            wait_until("the marker", async || (producer.fetch(1).await.last_stable_offset == settled).then_some(()))
                .await;
        }
        wait_until("the group's", async || (producer.offset().await == (11, 0)).then_some(())).await;
        assert_eq!((producer.id, producer.epoch), first);
        let undone = producer.fetch(1).await.aborted_transactions.unwrap();
        let firsts: Vec<_> = undone.iter().map(|aborted| (aborted.producer_id, aborted.first_offset)).collect();
        assert_eq!(firsts, [(first.0, 0), (first.0, 6)]);
        assert_eq!(producer.fetch(0).await.aborted_transactions, None);
        assert_eq!(producer.end(true).await, 0, "nothing is open");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_has_the_code_that_clients_know() {
    let broker = BrokerProcess::start();
    let mut producer = Producer::open(&broker, "billing", 5).await;
    for timeout in [0, -1, 900_001] {
        let error = producer.init(timeout).await.error_code;
        assert_eq!(error, KafkaError::InvalidTransactionTimeout.code(), "{timeout} ms");
    }
    let mut stranger = Producer::open(&broker, "nobody", 5).await;
    (stranger.id, stranger.epoch) = (77, 0);
    assert_eq!(stranger.add().await, KafkaError::InvalidProducerIdMapping.code());
    assert_eq!(stranger.end(true).await, KafkaError::InvalidProducerIdMapping.code());

    assert_eq!(producer.init(60_000).await.error_code, 0);
    assert_eq!(producer.send("unannounced").await, KafkaError::InvalidTxnState.code());
    assert_eq!(producer.note(3).await, KafkaError::InvalidTxnState.code());
    let told = producer.add_all(&[(TOPIC, &[0, 1]), ("nowhere", &[0])]).await;
    let (unknown, skipped) = (KafkaError::UnknownTopicOrPartition.code(), KafkaError::OperationNotAttempted.code());
    assert_eq!(told, [skipped, unknown, unknown]);
    assert_eq!(producer.end(true).await, 0, "nothing was taken in");

    assert_eq!((producer.add().await, producer.add_group().await), (0, 0));
    assert_eq!((producer.send("zombie").await, producer.note(3).await), (0, 0));
    let mut member = producer.noting(4);
    (member.generation_id, member.member_id) = (7, "gone".into());
    assert_eq!(producer.note_as(member).await, KafkaError::IllegalGeneration.code());

    // Another takes its place: what is open is aborted, and the first hears it whatever it does.
    let mut second = Producer::open(&broker, "billing", 5).await;
    while second.init(60_000).await.error_code == KafkaError::ConcurrentTransactions.code() {}
    assert_eq!((second.id, second.epoch > producer.epoch), (producer.id, true));
    let (fenced, over) = (KafkaError::ProducerFenced.code(), KafkaError::InvalidProducerEpoch.code());
    for (version, expected) in [(5, fenced), (1, over)] {
        producer.version = version;
        assert_eq!((producer.add().await, producer.add_group().await), (expected, expected), "version {version}");
        assert_eq!(producer.end(true).await, expected);
        assert_eq!((producer.send("zombie").await, producer.note(3).await), (over, over));
    }
    // Earlier ones do not say who they were, and take the place of whoever is there.
    for (version, expected) in [(5, fenced), (3, over)] {
        producer.version = version;
        assert_eq!(producer.init(60_000).await.error_code, expected);
    }
    assert_eq!((producer.offset().await.0, second.add().await, second.send("second").await), (-1, 0, 0));
    assert_eq!(second.end(true).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_whose_transaction_timed_out_goes_on_under_the_next_epoch() {
    let broker = BrokerProcess::start();
    let mut producer = Producer::open(&broker, "slow", 5).await;
    assert_eq!(producer.init(1_000).await.error_code, 0);
    let before = (producer.id, producer.epoch);
    assert_eq!((producer.add().await, producer.send("late").await), (0, 0));
    wait_until("the timeout", async || (producer.fetch(1).await.last_stable_offset == 2).then_some(())).await;
    assert_eq!(producer.end(true).await, KafkaError::ProducerFenced.code());
    assert_eq!(producer.init(1_000).await.error_code, 0, "nobody has taken its place");
    assert_eq!((producer.id, producer.epoch), (before.0, before.1 + 1));
    assert_eq!((producer.add().await, producer.send("again").await, producer.end(true).await), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn transactional_ids_are_listed_and_described() {
    let broker = BrokerProcess::start();
    let mut open = Producer::started(&broker, "open", 5).await;
    let idle = Producer::started(&broker, "idle", 5).await;
    assert_eq!(open.add().await, 0);
    let of = |name: &str, filters: &[&str], producers: &[i64], duration: i64| {
        (
            name.to_owned(),
            ListTransactionsRequest {
                state_filters: filters.iter().map(|filter| (*filter).into()).collect(),
                producer_id_filters: producers.to_vec(),
                duration_filter: duration,
            },
        )
    };
    for (expected, request) in [
        of("idle open", &[], &[], -1),
        of("open", &["Ongoing", "Sleeping"], &[], -1),
        of("idle", &[], &[idle.id], -1),
        of("", &[], &[], 3_600_000),
    ] {
        let listed = open.call(&request).await;
        let names: Vec<_> = listed.transaction_states.iter().map(|state| state.transactional_id.as_str()).collect();
        assert_eq!((listed.error_code, names.join(" ")), (0, expected));
        let is_unknown = request.state_filters.len() == 2;
        assert_eq!(listed.unknown_state_filters, if is_unknown { vec!["Sleeping"] } else { vec![] });
    }
    let transactional_ids = ["open", "idle", "gone", "open"].map(String::from).to_vec();
    let described = open.call(&DescribeTransactionsRequest { transactional_ids }).await.transaction_states;
    let [one, two, three] = described.try_into().unwrap();
    assert!(one.transaction_start_time_ms > 0);
    let expected = TransactionState {
        transactional_id: "open".into(),
        transaction_state: "Ongoing".into(),
        transaction_timeout_ms: 60_000,
        transaction_start_time_ms: one.transaction_start_time_ms,
        producer_id: open.id,
        topics: vec![TopicData { topic: TOPIC.into(), partitions: vec![0] }],
        ..Default::default()
    };
    assert_eq!(one, expected);
    assert_eq!((two.transaction_state.as_str(), two.transaction_start_time_ms), ("Empty", -1));
    assert_eq!(
        (three.transactional_id.as_str(), three.error_code),
        ("gone", KafkaError::TransactionalIdNotFound.code())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_producers_of_a_partition_are_described() {
    let broker = BrokerProcess::start();
    let mut producer = Producer::started(&broker, "writer", 5).await;
    assert_eq!((producer.add().await, producer.send("one").await, producer.send("two").await), (0, 0, 0));
    let asked =
        |name: &str, partitions: &[i32]| TopicRequest { name: name.into(), partition_indexes: partitions.into() };
    let topics = vec![asked(TOPIC, &[0, 0, 7, -1]), asked("nowhere", &[0]), asked(TOPIC, &[0])];
    let request = DescribeProducersRequest { topics };
    let told = producer.call(&request).await.topics;
    let codes: Vec<Vec<i16>> =
        told.iter().map(|topic| topic.partitions.iter().map(|partition| partition.error_code).collect()).collect();
    let unknown = KafkaError::UnknownTopicOrPartition.code();
    assert_eq!(codes, [vec![0, unknown, unknown], vec![unknown], vec![]], "each once");
    let expected = ProducerState {
        producer_id: producer.id,
        producer_epoch: producer.epoch.into(),
        last_sequence: 1,
        last_timestamp: 5,
        coordinator_epoch: -1,
        current_txn_start_offset: 0,
    };
    assert_eq!(told[0].partitions[0].active_producers, std::slice::from_ref(&expected));
    assert_eq!(producer.end(true).await, 0);
    wait_until("the marker", async || {
        let told = producer.call(&request).await.topics.remove(0).partitions.remove(0);
        let closed = ProducerState { current_txn_start_offset: -1, ..expected.clone() };
        (told.active_producers == [closed]).then_some(())
    })
    .await;
}
