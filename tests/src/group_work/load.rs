//! Records that keep coming, to every partition in turn, each with the time of its sending. Knows nothing of who reads them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidelog_client::{Client, PartitionId, Record};
use tokio::task::JoinHandle;

use super::worker::now_us;

/// A producer in a task of its own.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<BTreeMap<u32, u64>>,
}

impl Load {
    /// Begins to send one record to each partition of a topic every `interval`.
    #[must_use]
    pub fn start(client: &Client, topic: &'static str, partitions: u32, interval: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(send(client.clone(), topic, (partitions, interval), Arc::clone(&stop)));
        Self { stop, task }
    }

    /// Ends, and says where each partition ends.
    ///
    /// # Panics
    /// Where a record was not acknowledged.
    pub async fn end(self) -> BTreeMap<u32, u64> {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap()
    }
}

async fn send(
    client: Client,
    topic: &'static str,
    (partitions, interval): (u32, Duration),
    stop: Arc<AtomicBool>,
) -> BTreeMap<u32, u64> {
    let producer = client.producer().build().unwrap();
    let mut ends = BTreeMap::new();
    let mut ticks = tokio::time::interval(interval);
    let mut sent = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let _ = ticks.tick().await;
        for partition in 0..partitions {
            let record = Record::to(topic).partition(PartitionId(partition)).value(now_us().to_string());
            sent.push((partition, producer.send(record).await.unwrap()));
        }
        // Not waited for here: a broker that is away must not hold up the other partitions.
        if sent.len() > 100_000 {
            take(&mut sent, &mut ends).await;
        }
    }
    producer.flush().await.unwrap();
    take(&mut sent, &mut ends).await;
    ends
}

async fn take(sent: &mut Vec<(u32, tidelog_client::Delivery)>, ends: &mut BTreeMap<u32, u64>) {
    for (partition, delivery) in sent.drain(..) {
        let receipt = delivery.await.unwrap();
        let end = receipt.offset.expect("acks=all tells the offset").0 + 1;
        let known = ends.entry(partition).or_insert(0);
        *known = (*known).max(end);
    }
}
