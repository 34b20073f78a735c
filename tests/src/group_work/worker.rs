//! A member that processes records one after the other, notes down what it does, and leaves when told to. Knows nothing of the other members.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidelog_client::group::{Call, CommitMode, Commits, GroupConsumerBuilder, RebalanceListener};
use tidelog_client::{ConsumerRecord, TopicPartition};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::notes::{Life, Notes, What};

/// A member in a task of its own.
#[derive(Debug)]
pub struct Worker {
    life: Life,
    notes: Notes,
    stop: Arc<(AtomicBool, Notify)>,
    task: JoinHandle<()>,
}

struct Listener {
    life: Life,
    notes: Notes,
}

impl Listener {
    fn note(&self, partitions: &[TopicPartition], what: fn(Life, u32) -> What) -> Call<'static> {
        partitions.iter().for_each(|at| self.notes.note(what(self.life, at.partition.0)));
        Box::pin(async {})
    }
}

impl RebalanceListener for Listener {
    fn assigned<'a>(&'a self, partitions: &'a [TopicPartition]) -> Call<'a> {
        self.note(partitions, What::Assigned)
    }
    fn revoked<'a>(&'a self, partitions: &'a [TopicPartition], _: &'a Commits) -> Call<'a> {
        self.note(partitions, What::Revoked)
    }
    fn lost<'a>(&'a self, partitions: &'a [TopicPartition]) -> Call<'a> {
        self.note(partitions, What::Lost)
    }
}

impl Worker {
    /// Joins as `builder` says, commits every 200 ms what it is done with, and processes until it is told to leave.
    #[must_use]
    pub fn start(life: Life, builder: GroupConsumerBuilder, notes: &Notes) -> Self {
        let stop = Arc::new((AtomicBool::new(false), Notify::new()));
        let listener = Listener { life, notes: notes.clone() };
        let commit = CommitMode::Auto { interval: Duration::from_millis(200) };
        let builder = builder.commit(commit).on_rebalance(listener);
        let task = tokio::spawn(work(life, builder, notes.clone(), Arc::clone(&stop)));
        Self { life, notes: notes.clone(), stop, task }
    }

    /// Which life it is.
    #[must_use]
    pub const fn life(&self) -> Life {
        self.life
    }

    /// Tells it to leave, and does not wait for that.
    #[must_use]
    pub fn leave(self) -> JoinHandle<()> {
        self.notes.note(What::Leaves(self.life));
        self.stop.0.store(true, Ordering::SeqCst);
        self.stop.1.notify_one();
        self.task
    }
}

async fn work(life: Life, builder: GroupConsumerBuilder, notes: Notes, stop: Arc<(AtomicBool, Notify)>) {
    notes.note(What::Joins(life));
    let mut consumer = builder.build().await.unwrap();
    while !stop.0.load(Ordering::SeqCst) {
        let record = tokio::select! {
            record = consumer.next() => record.expect("a member goes on until it leaves").unwrap(),
            () = stop.1.notified() => break,
        };
        let (partition, offset) = (record.partition().0, record.offset.0);
        notes.note(What::Processed { life, partition, offset, age: age(record) });
    }
    // The record in hand was processed.
    consumer.done();
    consumer.leave().await.unwrap();
}

/// What a record says of when it was sent: microseconds of the wall clock, as [`Load`](super::Load) writes them.
fn age(record: &ConsumerRecord) -> Duration {
    let value = record.value.as_deref().unwrap_or_default();
    let sent = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
    Duration::from_micros(now_us().saturating_sub(sent))
}

pub(super) fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros() as u64)
}
