//! A consumer that reads along while a fault lasts: what it was shown once must stay true. Knows nothing of faults.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tidelog_client::{ClientBuilder, Start};
use tokio::task::JoinHandle;

use crate::contents::PartitionContents;
use crate::patience::insist;

#[derive(Debug, Default)]
struct Seen {
    contents: BTreeMap<u32, PartitionContents>,
    ended: Option<String>,
}

/// The consumer at work.
#[derive(Debug)]
pub struct Tail {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Tail {
    /// Begins to read a topic from its beginning.
    ///
    /// # Panics
    /// Where the cluster cannot be reached.
    pub async fn start(client: ClientBuilder, servers: &str, topic: &str) -> Self {
        let client = client.connect(servers).await.unwrap();
        let mut consumer = client.consumer().topic(topic).start(Start::Beginning).build().await.unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let sink = seen.clone();
        let task = tokio::spawn(async move {
            let why = loop {
                match consumer.next().await {
                    Some(Ok(record)) => {
                        let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned();
                        let value = value.split(' ').next().unwrap_or_default().to_string();
                        let partition = record.partition().0;
                        let mut seen = sink.lock().unwrap();
                        let contents = seen.contents.entry(partition).or_default();
                        contents.partition = partition;
                        contents.records.push((record.offset.0, value));
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
        self.seen.lock().unwrap().contents.values().map(|contents| contents.records.len()).sum()
    }

    /// Everything it read, once it has come as far as `fresh`, which another consumer read to the end.
    ///
    /// # Panics
    /// Where it gave up or does not come so far.
    pub async fn finish(self, fresh: &[PartitionContents]) -> Vec<PartitionContents> {
        let last = |contents: Option<&PartitionContents>| Some(contents?.records.last()?.0);
        insist("the consumer that reads along to come to the end", async || {
            let seen = self.seen.lock().unwrap();
            for wanted in fresh {
                let (has, end) = (last(seen.contents.get(&wanted.partition)), last(Some(wanted)));
                if has < end {
                    let why = seen.ended.as_deref().unwrap_or("it waits");
                    return Err(format!("at {has:?} of {end:?} in partition {}: {why}", wanted.partition));
                }
            }
            Ok(())
        })
        .await;
        self.task.abort();
        std::mem::take(&mut self.seen.lock().unwrap().contents).into_values().collect()
    }
}
