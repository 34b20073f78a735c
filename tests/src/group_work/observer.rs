//! How far a group says that it has come, asked again and again from outside, as brokers come and go. Knows nothing of members.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidelog_client::Client;
use tokio::task::JoinHandle;

use super::notes::{Notes, What};

/// Looks on in a task of its own, until it is dropped.
#[derive(Debug)]
pub struct Observer {
    looks: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Observer {
    /// Begins to ask.
    #[must_use]
    pub fn start(client: &Client, group: &'static str, notes: &Notes) -> Self {
        let (client, notes, looks) = (client.clone(), notes.clone(), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&looks);
        let task = tokio::spawn(async move {
            loop {
                // Who cannot answer now is asked again.
                if let Ok(offsets) = client.admin().group_offsets(group).await {
                    for at in offsets {
                        notes.note(What::Committed { partition: at.partition.0, offset: at.offset.0 });
                    }
                    counted.fetch_add(1, Ordering::SeqCst);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Self { looks, task }
    }

    /// How often it was answered so far.
    #[must_use]
    pub fn looks(&self) -> u64 {
        self.looks.load(Ordering::SeqCst)
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
