//! Producers that write unique values through the client, over every fault, and record what they were told. Knows nothing of brokers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidelog_client::{
    Client, ClientBuilder, ClientError, Delivery, NewTopic, PartitionId, Producer, RecordRef, SendError, TopicProducer,
};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::history::{History, Operation, Outcome};
use crate::patience::{LIMIT, within_limit};

/// What is sent, and how.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The topic; it must exist.
    pub topic: String,
    /// Producers, each a connection of its own; the n-th writes to partition n modulo the partitions.
    pub producers: u32,
    /// Bytes of a value, padding included.
    pub value_bytes: usize,
    /// Records that a producer leaves unanswered.
    pub unanswered_max: usize,
    /// How long the client tries to deliver a record.
    pub delivery_timeout: Duration,
    /// Batches of a partition under way at once.
    pub batches_in_flight: usize,
    /// Pause of a producer between two sends.
    pub pause: Duration,
    /// How its clients are set up.
    pub client: ClientBuilder,
}

impl Workload {
    /// Two producers with values of 100 bytes that give up on nothing within the patience of a test.
    #[must_use]
    pub fn on(topic: &str) -> Self {
        Self {
            topic: topic.into(),
            producers: 2,
            value_bytes: 100,
            unanswered_max: 500,
            delivery_timeout: LIMIT,
            batches_in_flight: 5,
            pause: Duration::ZERO,
            client: Client::builder(),
        }
    }

    /// Starts sending.
    ///
    /// # Panics
    /// Where the broker cannot be reached or has no such topic.
    pub async fn start(self, server: &str, history: &Arc<History>) -> Load {
        // A runtime of its own: a client that is let go of still delivers what it took, as long as its runtime lives.
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for producer in 0..self.producers {
            let (server, workload, history, stop) = (server.to_owned(), self.clone(), history.clone(), stop.clone());
            let (started, is_started) = oneshot::channel();
            tasks.push(runtime.spawn(async move {
                let sending = Sending::open(producer, workload, &server, history).await;
                // The test may have ended already.
                let _ = started.send(());
                sending.run(stop).await;
            }));
            within_limit("a producer to start", is_started).await.expect("a producer starts");
        }
        Load { stop, tasks, runtime: Some(runtime) }
    }
}

/// Producers at work.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
    runtime: Option<Runtime>,
}

impl Load {
    /// Sends nothing more and waits until every send has its outcome.
    ///
    /// # Panics
    /// Where a producer failed or does not end.
    pub async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in std::mem::take(&mut self.tasks) {
            within_limit("the outcome of every send", task).await.unwrap();
        }
    }

    /// Ends the producers where they stand, as if their processes were killed: what has no outcome is unknown.
    pub async fn abandon(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        for task in std::mem::take(&mut self.tasks) {
            // Cancelled, or done before that.
            let _ = task.await;
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Sending {
    producer: u32,
    workload: Workload,
    // Holds the producer of `topic` alive.
    sender: Producer,
    topic: TopicProducer,
    history: Arc<History>,
    waiting: VecDeque<(Operation, Delivery)>,
}

impl Sending {
    async fn open(producer: u32, workload: Workload, server: &str, history: Arc<History>) -> Self {
        let client = workload.client.clone().connect(server).await.unwrap();
        let builder = client.producer().delivery_timeout(workload.delivery_timeout);
        let sender = builder.max_in_flight(workload.batches_in_flight).build().unwrap();
        let topic = sender.topic(&workload.topic).await.unwrap();
        Self { producer, workload, sender, topic, history, waiting: VecDeque::new() }
    }

    async fn run(mut self, stop: Arc<AtomicBool>) {
        let partition = self.producer % self.topic.partitions();
        while !stop.load(Ordering::Relaxed) {
            let (operation, mut value) = self.history.invoke(self.producer, partition);
            value.push(' ');
            let padding = self.workload.value_bytes.saturating_sub(value.len());
            value.extend(std::iter::repeat_n('.', padding));
            let record =
                RecordRef { partition: Some(PartitionId(partition)), ..RecordRef::new(None, value.as_bytes()) };
            match self.topic.send_record(&record).await {
                Ok(delivery) => self.waiting.push_back((operation, delivery)),
                Err(error) => self.history.complete(operation, told(Err(error))),
            }
            while self.waiting.len() >= self.workload.unanswered_max
                || self.waiting.front().is_some_and(|(_, delivery)| delivery.now().is_some())
            {
                self.settle_one().await;
            }
            // A send that waits for nothing must not keep its thread.
            match self.workload.pause {
                Duration::ZERO => tokio::task::yield_now().await,
                pause => tokio::time::sleep(pause).await,
            }
        }
        // Each delivery tells its own failure.
        let _ = self.sender.flush().await;
        while !self.waiting.is_empty() {
            self.settle_one().await;
        }
    }

    async fn settle_one(&mut self) {
        if let Some((operation, delivery)) = self.waiting.pop_front() {
            let outcome = told(delivery.await);
            self.history.complete(operation, outcome);
        }
    }
}

/// What a delivery says, in the words of a history.
fn told(delivery: Result<tidelog_client::Receipt, SendError>) -> Outcome {
    match delivery {
        Ok(receipt) => match receipt.offset {
            Some(offset) => Outcome::Acked { offset: offset.0, replicas_flushed: receipt.replicas_flushed },
            None => Outcome::Unknown { error: "sent without asking for an acknowledgement".into() },
        },
        Err(error) if error.may_be_written() => Outcome::Unknown { error: error.to_string() },
        Err(error) => Outcome::Refused { error: error.to_string() },
    }
}

/// Creates a topic.
///
/// # Errors
/// Those of the client.
pub async fn create_topic(server: &str, topic: &NewTopic) -> Result<(), ClientError> {
    Client::connect(server).await?.admin().create_topic(topic).await.map(drop)
}

/// Waits until so many sends of the history are acknowledged.
///
/// # Panics
/// Where that takes too long.
pub async fn wait_for_acks(history: &History, count: usize) {
    crate::patience::wait_until("acknowledged sends", async || (history.acked() >= count).then_some(())).await;
}

/// Waits until so many more sends to a partition are acknowledged.
///
/// # Panics
/// Where that takes too long.
pub async fn wait_for_more_acks(history: &History, partition: u32, more: usize) {
    let count = history.acked_in(partition) + more;
    crate::patience::wait_until("acknowledged sends", async || (history.acked_in(partition) >= count).then_some(()))
        .await;
}
