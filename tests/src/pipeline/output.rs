//! Reading the output of a pipeline: afterwards, and along. Knows nothing of what must hold of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tidelog_client::{Client, ConsumerRecord, Isolation, Start};
use tokio::task::JoinHandle;

use super::asked;
use super::claims::{At, Shown};
use super::job::Made;
use crate::cluster::round::client;
use crate::patience::{insist, within_limit};

/// The output from its first record to its end.
///
/// # Panics
/// Where it cannot be read, or holds what no member writes.
pub async fn read(servers: &str, topic: &str, isolation: Isolation) -> BTreeMap<At, Made> {
    within_limit("the output to be read to its end", async {
        let client = Client::connect(servers).await.unwrap();
        let builder = client.consumer().topic(topic).start(Start::Beginning).isolation(isolation).until_end();
        let mut consumer = builder.build().await.unwrap();
        let mut found = BTreeMap::new();
        while let Some(record) = consumer.next().await {
            let (at, made) = placed(&record.unwrap());
            assert_eq!(found.insert(at, made), None, "{at:?} was shown twice");
        }
        found
    })
    .await
}

fn placed(record: &ConsumerRecord) -> (At, Made) {
    let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
    let made = Made::parse(&value).unwrap_or_else(|| panic!("no member writes {value:?}"));
    ((record.partition().0, record.offset.0), made)
}

#[derive(Debug, Default)]
struct Seen {
    records: Vec<Shown>,
    ended: Option<String>,
}

/// A consumer, while the faults last.
#[derive(Debug)]
pub struct Along {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Along {
    /// Of what is committed, from the beginning.
    ///
    /// # Panics
    /// Where the cluster cannot be reached.
    pub async fn start(servers: &str, topic: &str) -> Self {
        Self::reading(servers, topic, Isolation::ReadCommitted).await
    }

    /// As [`Along::start`], of this.
    ///
    /// # Panics
    /// Where the cluster cannot be reached.
    pub async fn reading(servers: &str, topic: &str, isolation: Isolation) -> Self {
        let client = client().connect(servers).await.unwrap();
        let builder = client.consumer().topic(topic).start(Start::Beginning).isolation(isolation);
        let mut consumer = builder.build().await.unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let sink = seen.clone();
        let task = tokio::spawn(async move {
            let why = loop {
                match consumer.next().await {
                    Some(Ok(record)) => {
                        let read_at = asked::now();
                        let (at, made) = placed(&record);
                        sink.lock().unwrap().records.push(Shown { at, made, read_at });
                    }
                    Some(Err(error)) => break error.to_string(),
                    None => break "it came to an end".into(),
                }
            };
            sink.lock().unwrap().ended = Some(why);
        });
        Self { seen, task }
    }

    /// Records read so far.
    ///
    /// # Panics
    /// Where the consumer panicked.
    #[must_use]
    pub fn records(&self) -> usize {
        self.seen.lock().unwrap().records.len()
    }

    /// Everything it read, once it has read as many as `committed` holds.
    ///
    /// # Panics
    /// Where it gave up or does not come so far.
    pub async fn finish(self, committed: usize) -> Vec<Shown> {
        insist("the consumer that reads along to come to the end", async || {
            let seen = self.seen.lock().unwrap();
            if seen.records.len() >= committed {
                return Ok(());
            }
            let why = seen.ended.as_deref().unwrap_or("it waits");
            Err(format!("{} of {committed} records: {why}", seen.records.len()))
        })
        .await;
        self.task.abort();
        std::mem::take(&mut self.seen.lock().unwrap().records)
    }
}
