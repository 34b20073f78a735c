//! Looks on while a fault lasts: asks every broker again and again, and notes what must never go back. Knows nothing of faults.
//!
//! `MonotonicEpochs`: an epoch of a partition has one leader, whoever is asked, and no broker falls back behind an epoch that it has named.
//! `MonotonicHighWatermark`: within one life of a broker a watermark only rises, for as long as it holds the partition.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidelog_protocol::messages::LogHealth;
use tokio::task::JoinSet;

use super::Cluster;
use super::sight::{metadata, partitions_of, replicas_at};

/// Between two looks at a broker.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
struct Noted {
    looks: u64,
    leaders: HashMap<(usize, u32), u32>,
    epochs: HashMap<(u32, u32, usize), u32>,
    watermarks: HashMap<(u32, u32, usize), u64>,
    violations: Vec<String>,
}

/// The observer at work.
#[derive(Debug)]
pub struct Observer {
    noted: Arc<Mutex<Noted>>,
    // Its tasks end with it.
    _tasks: JoinSet<()>,
}

#[derive(Clone, Debug)]
struct Watched {
    broker: u32,
    address: SocketAddr,
    lives: Arc<AtomicU32>,
    topic: String,
}

impl Observer {
    /// Begins to look.
    #[must_use]
    pub fn start(cluster: &Cluster, topic: &str) -> Self {
        let noted = Arc::new(Mutex::new(Noted::default()));
        let mut tasks = JoinSet::new();
        for broker in 1..=cluster.brokers() {
            let (address, lives) = (cluster.address(broker), cluster.lives(broker));
            let watched = Watched { broker, address, lives, topic: topic.into() };
            let noted = noted.clone();
            tasks.spawn(async move {
                loop {
                    watched.look(&noted).await;
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        Self { noted, _tasks: tasks }
    }

    /// # Panics
    /// Where something went back, or where nothing was seen at all.
    #[track_caller]
    pub fn assert_nothing_went_back(&self) {
        self.assert_but(|_| false);
    }

    /// As [`Observer::assert_nothing_went_back`], where what was settled may be lost and watermarks fall with it.
    ///
    /// # Panics
    /// As there.
    #[track_caller]
    pub fn assert_no_epoch_went_back(&self) {
        self.assert_but(|violation| violation.starts_with("MonotonicHighWatermark"));
    }

    #[track_caller]
    fn assert_but(&self, is_allowed: impl Fn(&str) -> bool) {
        let noted = self.noted.lock().unwrap();
        assert!(noted.looks > 0, "no broker answered the observer once");
        let violations: Vec<_> = noted.violations.iter().filter(|violation| !is_allowed(violation)).cloned().collect();
        assert!(violations.is_empty(), "{}", violations.join("\n"));
    }
}

impl Watched {
    async fn look(&self, noted: &Mutex<Noted>) {
        let life = self.lives.load(Ordering::SeqCst);
        let (metadata, replicas) = (metadata(self.address).await, replicas_at(self.address, &self.topic).await);
        // Answers of two lives must not be mixed.
        if self.lives.load(Ordering::SeqCst) != life {
            return;
        }
        let mut noted = noted.lock().unwrap();
        let partitions = metadata.as_ref().ok().and_then(|metadata| partitions_of(metadata, &self.topic));
        for (index, state) in partitions.into_iter().flatten().enumerate() {
            noted.looks += 1;
            let (epoch, broker) = (state.leader_epoch.0, self.broker);
            if let Some(leader) = state.leader {
                let known = *noted.leaders.entry((index, epoch)).or_insert(leader.0);
                if known != leader.0 {
                    let sentence =
                        format!("MonotonicEpochs: epoch {epoch} of {index} has leaders {known} and {leader}");
                    noted.violations.push(sentence);
                }
            }
            let before = noted.epochs.insert((broker, life, index), epoch);
            if let Some(before) = before.filter(|before| *before > epoch) {
                noted
                    .violations
                    .push(format!("MonotonicEpochs: broker {broker} fell from {before} to {epoch} of {index}"));
            }
        }
        for (index, replica) in replicas.into_iter().flatten().enumerate() {
            let (watermark, broker) = (replica.high_watermark.0, self.broker);
            let place = (broker, life, index);
            // It holds none; one that it takes later begins anew.
            if replica.health == LogHealth::Offline {
                noted.watermarks.remove(&place);
                continue;
            }
            let before = noted.watermarks.insert(place, watermark);
            if let Some(before) = before.filter(|before| *before > watermark) {
                let sentence =
                    format!("MonotonicHighWatermark: broker {broker} fell from {before} to {watermark} of {index}");
                noted.violations.push(sentence);
            }
        }
    }
}
