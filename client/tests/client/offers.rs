//! Exactly once across a pause that costs a member its partitions: what it read before is not the group's to take from it any more, though it has
//! them again by then, under an epoch that holds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::broker::TestBroker;
use parking_lot::Mutex;
use tidelog_client::group::*;
use tidelog_client::*;
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_secs(60);

/// How often partitions came, and how often they were lost.
#[derive(Clone, Default)]
struct Told {
    assigned: Arc<AtomicU32>,
    lost: Arc<AtomicU32>,
}

impl RebalanceListener for Told {
    fn assigned<'a>(&'a self, partitions: &'a [TopicPartition]) -> Call<'a> {
        self.assigned.fetch_add(partitions.len() as u32, Ordering::SeqCst);
        Box::pin(async {})
    }
    fn revoked<'a>(&'a self, _: &'a [TopicPartition], _: &'a Commits) -> Call<'a> {
        Box::pin(async {})
    }
    fn lost<'a>(&'a self, partitions: &'a [TopicPartition]) -> Call<'a> {
        self.lost.fetch_add(partitions.len() as u32, Ordering::SeqCst);
        Box::pin(async {})
    }
}

async fn soon<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(started.elapsed() < PATIENCE, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn send(client: &Client, value: &'static str) {
    let producer = client.producer().build().unwrap();
    producer.send(Record::to("orders").value(value)).await.unwrap().await.unwrap();
}

/// What is committed of the output.
async fn invoices(client: &Client) -> Vec<String> {
    let builder = client.consumer().topic("invoices").start(Start::Beginning).until_end();
    let mut consumer = builder.build().await.unwrap();
    let mut values = Vec::new();
    while let Some(record) = consumer.next().await {
        values.push(String::from_utf8(record.unwrap().value.clone().unwrap().to_vec()).unwrap());
    }
    values
}

/// Makes an invoice of each order, exactly once, until it is told to stop; `meanwhile` is called with each once its invoice was sent.
async fn process(
    (address, id): (SocketAddr, &str),
    told: Told,
    mut stop: watch::Receiver<bool>,
    meanwhile: impl Fn() + Sync,
) {
    let client = Client::connect(&address.to_string()).await.unwrap();
    let group = client.group("billing").topics(["orders"]).start(Start::Beginning);
    let consumer = group.session_timeout(Duration::from_secs(6)).on_rebalance(told).build().await.unwrap();
    let producer = client.transactional_producer(id).build().await.unwrap();
    let meanwhile = &meanwhile;
    let handler = |order: ConsumerRecord, transaction: TransactionSender| async move {
        let mut invoice = Record::to("invoices");
        invoice.value = order.value.clone();
        let sent = transaction.send(invoice).await.map(drop);
        meanwhile();
        sent
    };
    let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
    producer.exactly_once_with(consumer, ExactlyOnceOptions::default(), stopped, handler).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_before_a_partition_was_lost_is_not_committed_once_it_is_back() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("orders", 1).await;
    client.admin().create_topic(&NewTopic::named("invoices").partitions(1)).await.unwrap();
    send(&client, "first").await;

    // All that it does is done on one thread, which waits in the middle of a transaction: as a process that stands still.
    let told = Told::default();
    let (stop_paused, paused_stops) = watch::channel(false);
    let (here, is_here) = mpsc::channel();
    let (go, goes) = mpsc::channel();
    let gate = Mutex::new(Some((here, goes)));
    let (address, tells) = (broker.address, told.clone());
    let paused = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(process((address, "paused"), tells, paused_stops, || {
            if let Some((here, goes)) = gate.lock().take() {
                here.send(()).unwrap();
                goes.recv().unwrap();
            }
        }));
    });
    tokio::task::spawn_blocking(move || is_here.recv_timeout(PATIENCE)).await.unwrap().unwrap();
    assert_eq!((told.assigned.load(Ordering::SeqCst), told.lost.load(Ordering::SeqCst)), (1, 0));

    // Its session ends, and another does the work.
    let (stop_other, other_stops) = watch::channel(false);
    let other = tokio::spawn(process((address, "other"), Told::default(), other_stops, || {}));
    soon("the other's invoice", async || (!invoices(&client).await.is_empty()).then_some(())).await;
    stop_other.send(true).unwrap();
    other.await.unwrap();

    // It gets back what it had, and must not commit what it holds of before.
    go.send(()).unwrap();
    soon("the partition to be lost and to come back", async || {
        let counts = (told.assigned.load(Ordering::SeqCst), told.lost.load(Ordering::SeqCst));
        (counts == (2, 1)).then_some(())
    })
    .await;
    send(&client, "second").await;
    soon("the second invoice", async || invoices(&client).await.contains(&"second".into()).then_some(())).await;
    assert_eq!(invoices(&client).await, ["first", "second"], "each once");
    stop_paused.send(true).unwrap();
    tokio::task::spawn_blocking(move || paused.join()).await.unwrap().unwrap();
}
