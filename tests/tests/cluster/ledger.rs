//! A topic of one partition on three brokers, in which each record is a batch, so that a record can be damaged and the others are whole. Knows nothing
//! of what becomes of the damage.

use std::path::PathBuf;

use tidelog_broker::Config;
use tidelog_protocol::messages::{Isolation, Position, SubscribeRequest};
use tidelog_protocol::records::Compression;
use tidelog_protocol::{Offset, PartitionId, TopicId};
use tidelog_tests::command::{CommandLine, Finished};
use tidelog_tests::local_cluster::LocalCluster;
use tidelog_tests::patience::wait_until;
use tidelog_tests::raw_connection::{RawConnection, batch};

pub(crate) const TOPIC: &str = "ledger";
pub(crate) const RECORDS: u64 = 40;
/// The record that is damaged.
pub(crate) const ROTTEN: u64 = 20;

/// Runs to its end what needs no other thread, from a test that stops and starts brokers.
pub(crate) fn on_its_own<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn value(number: u64) -> Vec<u8> {
    format!("value-{number:06}").into_bytes()
}

pub(crate) struct Ledger {
    pub(crate) cluster: LocalCluster,
    pub(crate) topic_id: TopicId,
}

impl Ledger {
    /// On three brokers that are set up like this, all of which have all records.
    pub(crate) fn written(settings: fn(&mut Config)) -> Self {
        let cluster = LocalCluster::start_with(3, settings);
        // Whoever is left settles what is there.
        let topic_id = cluster.create_topic(TOPIC, &[("min.insync.replicas", "1")]);
        let ledger = Self { cluster, topic_id };
        on_its_own(async {
            for number in 0..RECORDS {
                ledger.produce(number).await;
            }
        });
        ledger.cluster.wait_in_sync(TOPIC, &[1, 2, 3]);
        ledger
    }

    pub(crate) fn leader(&self) -> u32 {
        self.cluster.leader(TOPIC).0
    }

    pub(crate) fn followers(&self) -> [u32; 2] {
        let leader = self.leader();
        [leader % 3 + 1, (leader + 1) % 3 + 1]
    }

    pub(crate) async fn produce(&self, number: u64) {
        let mut connection = RawConnection::introduced(self.cluster.address(self.leader())).await;
        let batch = batch(&[&value(number)], Compression::None);
        wait_until("a record to be taken", async || connection.produce(self.topic_id, &batch).await.ok()).await;
    }

    /// The log of a broker, as it lies on its disk.
    pub(crate) fn segment(&self, id: u32) -> PathBuf {
        self.cluster.data(id).join(format!("{TOPIC}-0/{:020}.log", 0))
    }

    /// What asks any replica for the records from there on.
    pub(crate) fn subscribe(&self, from: u64) -> SubscribeRequest {
        SubscribeRequest {
            topic_id: self.topic_id,
            partition: PartitionId(0),
            position: Position::offset(Offset(from)),
            leader_epoch: None,
            isolation: Isolation::ReadUncommitted,
            credit_bytes: 1 << 20,
            item_bytes_max: 1 << 20,
            last_epoch: None,
            nearby: true,
            settled: false,
        }
    }

    /// Runs a command against a broker.
    pub(crate) async fn tidelog(&self, broker: u32, line: &str) -> Finished {
        let server = self.cluster.address(broker).to_string();
        let command = CommandLine::of("tidelog").env("TIDELOG_SERVER", &server).args(line.split_whitespace());
        tokio::task::spawn_blocking(move || command.run()).await.unwrap()
    }
}
