//! Brokers that say nothing while others have taken over what they did: another broker is asked as soon as an answer is overdue, and where it
//! names newer leaders, or replicas that keep up no longer, whoever waits for the silent one is told to go on elsewhere. Without that a broker
//! that hangs, whose connections stay open, would be waited for until the keepalive has given it up; and one that hangs while it is dialled, for
//! the whole time that a dial may take. Knows nothing of what is waited for.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tidelog_protocol::TopicName;
use tidelog_protocol::messages::MetadataRequest;

use super::Cluster;
use crate::address::Address;
use crate::net::Connection;

/// How often the connections are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long another broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often another is asked at the beginning, then later on: a broker that is slow for everybody is not to be given more to do.
const ASK_EVERY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));
/// Questions of the beginning.
const EAGER: u32 = 6;
/// Of a broker whose partitions are others', a sign of life is asked for after so much silence.
const PROBE_AFTER: Duration = Duration::from_secs(1);

/// Looks after the connections of a cluster as long as anybody has it.
pub(super) async fn watch(cluster: Weak<Cluster>) {
    let mut doubt = Doubt::default();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(cluster) = cluster.upgrade() else { return };
        doubt.look(&cluster).await;
    }
}

/// A time in which some connection is silent.
#[derive(Default)]
struct Doubt {
    asked: u32,
    asked_at: Option<Instant>,
}

impl Doubt {
    async fn look(&mut self, cluster: &Arc<Cluster>) {
        let silent = cluster.silent(Instant::now());
        if silent.is_empty() {
            return *self = Self::default();
        }
        let every = if self.asked < EAGER { ASK_EVERY.0 } else { ASK_EVERY.1 };
        if self.asked_at.is_none_or(|asked_at| asked_at.elapsed() >= every) {
            self.asked_at = Some(Instant::now());
            cluster.ask_another(&silent, self.asked as usize).await;
            self.asked += 1;
            // Leaves whom the answer has deposed; who is silent still is looked at again soon.
            let _ = cluster.silent(Instant::now());
        }
    }
}

impl Cluster {
    /// Gives up the connections to brokers that are silent while others have taken over what they did. Says where silence is not explained yet.
    fn silent(&self, now: Instant) -> Vec<Address> {
        let mut silent = self.silent_dials(now);
        for connection in self.pool.open() {
            let quiet = connection.quiet(now);
            let address = connection.address();
            let is_deposed = self.is_deposed_since(address, quiet.heard);
            if quiet.is_silent {
                self.pool.shun(address);
            }
            if is_deposed && quiet.is_silent {
                // Sent again, it might be written twice; it waits until the keepalive says that nobody is there.
                if !quiet.has_unrepeatable {
                    leave(&connection);
                }
            } else if is_deposed && now.saturating_duration_since(quiet.heard) >= PROBE_AFTER {
                connection.probe();
            } else if quiet.is_silent && !silent.contains(address) {
                silent.push(address.clone());
            }
        }
        silent
    }

    /// The same for what is not a connection yet.
    fn silent_dials(&self, now: Instant) -> Vec<Address> {
        let mut silent = Vec::new();
        for dial in self.pool.dials().into_iter().filter(|dial| dial.is_silent(now)) {
            self.pool.shun(&dial.address);
            if self.is_deposed_since(&dial.address, dial.began) {
                tracing::info!(address = %dial.address, "this broker answers no dial and others have taken over from it: going on there");
                dial.give_up();
            } else if !silent.contains(&dial.address) {
                silent.push(dial.address);
            }
        }
        silent
    }

    fn is_deposed_since(&self, address: &Address, since: Instant) -> bool {
        self.known.read().deposed.get(address).is_some_and(|deposed| *deposed > since)
    }

    /// Asks somebody who is not silent for metadata; the `turn`th of those that could be.
    async fn ask_another(&self, silent: &[Address], turn: usize) {
        let topics: Vec<TopicName> = self.known.read().topics.keys().cloned().collect();
        let mut others = self.addresses();
        others.retain(|address| !silent.contains(address));
        if others.is_empty() || topics.is_empty() {
            return;
        }
        let other = &others[turn % others.len()];
        let request = MetadataRequest { topics: Some(topics) };
        let asked = async { self.ask_at(other, &request, PATIENCE).await };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(response)) => self.learn(&response),
            Ok(Err(error)) => tracing::debug!(%other, %error, "asked because another broker is silent"),
            Err(_) => self.pool.shun(other),
        }
    }
}

fn leave(connection: &Connection) {
    tracing::info!(address = %connection.address(), "this broker is silent and others have taken over from it: going on there");
    connection.give_up("the broker is silent, and others have taken over from it");
}
