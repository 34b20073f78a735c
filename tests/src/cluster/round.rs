//! A workload under a fault, and the three assertions: the fault happened, the invariants held, the cluster healed in bounded time. Knows
//! nothing of the fault.

use std::sync::Arc;
use std::time::Duration;

use tidelog_client::{Acks, Client, ClientBuilder, NewTopic, PartitionId, Record, Start};

use super::observer::Observer;
use super::tail::Tail;
use super::{Cluster, Evidence};
use crate::checkers::{ALL, Invariant, Run, assert_holds, duplicates};
use crate::contents::{PartitionContents, read_all};
use crate::history::{History, Outcome};
use crate::patience::{LIMIT, within_limit};
use crate::workload::{Workload, wait_for_acks};

/// Acknowledged sends before the fault, and again after it.
const PROGRESS: usize = 100;

/// What is sent while the fault lasts, and what must hold afterwards.
#[derive(Clone)]
pub struct Round {
    /// The topic.
    pub topic: String,
    /// Its partitions; as many producers write, one to each.
    pub partitions: u32,
    /// Its replicas.
    pub replicas: u16,
    /// Its further settings.
    pub configs: Vec<(String, String)>,
    /// How long a producer tries to deliver a record.
    pub delivery_timeout: Duration,
    /// Batches of a partition under way at once.
    pub batches_in_flight: usize,
    /// Pause of a producer between two sends.
    pub pause: Duration,
    /// What must hold.
    pub invariants: Vec<&'static dyn Invariant>,
    /// True where what was read once must stay true.
    pub reads_along: bool,
    /// True where no send may be refused or stay unknown.
    pub delivers_all: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Survived {
    /// Everything sent, and what a fresh consumer read.
    pub run: Run,
    /// Records that stand twice, because an acknowledgement was lost.
    pub duplicates: usize,
    /// How long the cluster took to heal, counted from the end of the fault.
    pub healed_within: Duration,
}

impl Round {
    /// Three partitions with three replicas each, of which two must be in sync; every send gets through in the end.
    #[must_use]
    pub fn on(topic: &str) -> Self {
        Self {
            topic: topic.into(),
            partitions: 3,
            replicas: 3,
            configs: vec![("min.insync.replicas".into(), "2".into())],
            delivery_timeout: LIMIT,
            batches_in_flight: 5,
            pause: Duration::from_millis(2),
            invariants: ALL.to_vec(),
            reads_along: true,
            delivers_all: true,
        }
    }

    /// With a further setting of the topic.
    #[must_use]
    pub fn config(mut self, key: &str, value: &str) -> Self {
        self.configs.push((key.into(), value.into()));
        self
    }

    /// Creates the topic, sends, does `fault` meanwhile (which ends it, too, and says what proves it), and judges.
    ///
    /// # Panics
    /// Where one of the three assertions fails.
    pub async fn survives(
        &self,
        cluster: &mut Cluster,
        fault: impl AsyncFnOnce(&mut Cluster, &Arc<History>) -> Evidence,
    ) -> Survived {
        let history = Arc::new(History::new(&self.topic));
        let servers = cluster.servers();
        self.create(&servers).await;
        cluster.wait_healed(&self.topic).await;
        let observer = Observer::start(cluster, &self.topic);
        let tail = Tail::start(client(), &servers, &self.topic).await;
        let load = self.workload().start(&servers, &history).await;
        wait_for_acks(&history, PROGRESS).await;

        let evidence = fault(cluster, &history).await;
        evidence.assert_happened();

        let healed_within = cluster.wait_healed(&self.topic).await;
        wait_for_acks(&history, history.acked() + PROGRESS).await;
        load.stop().await;
        assert_can_be_used(&servers, &self.topic).await;
        cluster.assert_alive();
        // A preferred leader may have been brought back meanwhile.
        cluster.wait_healed(&self.topic).await;
        cluster.wait_settled(&self.topic).await;

        let fresh = without_probes(read_all(&servers, &self.topic).await);
        let run = Run { sent: history.sent(), contents: fresh.clone() };
        let duplicates = duplicates(&run);
        let mut all_reads = run.clone();
        if self.reads_along {
            all_reads.contents.extend(without_probes(tail.finish(&fresh).await));
        }
        assert_holds(&all_reads, &self.invariants);
        if self.delivers_all {
            assert_all_delivered(&run);
        }
        if self.reads_along {
            observer.assert_nothing_went_back();
        } else {
            observer.assert_no_epoch_went_back();
        }
        let compared = cluster.assert_replicas_byte_identical(&self.topic, self.partitions, usize::from(self.replicas));
        println!(
            "{}: {evidence}; {} sent, {} acknowledged, {duplicates} stand twice, healed within {healed_within:?}, {compared} \
             bytes compared",
            self.topic,
            run.sent.len(),
            history.acked(),
        );
        Survived { run, duplicates, healed_within }
    }

    fn workload(&self) -> Workload {
        Workload {
            producers: self.partitions,
            delivery_timeout: self.delivery_timeout,
            batches_in_flight: self.batches_in_flight,
            pause: self.pause,
            client: client(),
            ..Workload::on(&self.topic)
        }
    }

    async fn create(&self, servers: &str) {
        let topic = NewTopic::named(&self.topic).partitions(self.partitions).replication_factor(self.replicas);
        let topic = self.configs.iter().fold(topic, |topic, (key, value)| topic.config(key, value));
        let client = client().connect(servers).await.unwrap();
        within_limit("the topic to be created", client.admin().create_topic(&topic)).await.unwrap();
    }
}

/// How the clients of fault tests are set up: half-open connections are noticed within seconds, so that a test need not last longer.
#[must_use]
pub fn client() -> ClientBuilder {
    Client::builder().request_timeout(Duration::from_secs(5)).keepalive(Duration::from_secs(2))
}

const PROBE: &str = "probe";

/// One produce to each partition, and one consume of what was produced.
async fn assert_can_be_used(servers: &str, topic: &str) {
    within_limit("one produce and one consume", async {
        let client = client().connect(servers).await.unwrap();
        let producer = client.producer().acks(Acks::All).build().unwrap();
        let partitions = producer.topic(topic).await.unwrap().partitions();
        for partition in (0..partitions).map(PartitionId) {
            let record = Record::to(topic).value(PROBE).partition(partition);
            let offset = producer.send(record).await.unwrap().await.unwrap().offset.expect("acks=all tells the offset");
            let builder = client.consumer().partition_from(topic, partition, Start::Offset(offset));
            let read = builder.build().await.unwrap().next().await.expect("a record").unwrap();
            assert_eq!((read.offset, read.value.as_deref()), (offset, Some(PROBE.as_bytes())));
        }
    })
    .await;
}

/// Probes are no part of the history. They come last, so that nothing is missing in the middle without them.
fn without_probes(mut contents: Vec<PartitionContents>) -> Vec<PartitionContents> {
    for contents in &mut contents {
        while contents.records.last().is_some_and(|(_, value)| value == PROBE) {
            contents.records.pop();
        }
    }
    contents
}

#[track_caller]
fn assert_all_delivered(run: &Run) {
    let lost: Vec<_> = run.sent.iter().filter(|sent| !matches!(sent.outcome, Outcome::Acked { .. })).collect();
    assert!(lost.is_empty(), "{} sends were not delivered, such as {:?}", lost.len(), lost[0]);
}
