//! Which brokers serve no more, and since when: clients of Kafka are told of them for a while longer. Knows nothing of why they went.
//!
//! Kafka's brokers notice one that was killed after nine seconds. Here others lead after half a second, and a client that is told so does not only
//! look for the leaders anew: the C library ends whatever it had to do with a broker that metadata does not name, and where that was the
//! coordinator of a group it waits for it for ever (librdkafka's issue 5511). While the broker is named, it asks for the coordinator anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidelog_coordination::ClusterImage;
use tidelog_protocol::BrokerId;

use crate::node::Node;

/// For how long: as long as Kafka's brokers take to notice, by default (`broker.session.timeout.ms`).
const NAMED_FOR: Duration = Duration::from_secs(9);

/// Whoever was seen to serve, and when it was seen to serve no more.
#[derive(Debug, Default)]
pub(crate) struct Departed(Mutex<BTreeMap<BrokerId, Option<Instant>>>);

impl Departed {
    /// Takes note of who serves now.
    pub(crate) fn note(&self, image: &ClusterImage, now: Instant) {
        self.note_each(image.brokers().map(|broker| (broker.broker_id, broker.is_live())), now);
    }

    fn note_each(&self, brokers: impl Iterator<Item = (BrokerId, bool)>, now: Instant) {
        let mut known = self.0.lock();
        let before = std::mem::take(&mut *known);
        *known = brokers
            .filter_map(|(broker, is_live)| match before.get(&broker) {
                _ if is_live => Some((broker, None)),
                Some(departed_at) => Some((broker, departed_at.or(Some(now)))),
                // When it went nobody here has seen.
                None => None,
            })
            .collect();
    }

    /// True of a broker that serves, or did until lately.
    pub(crate) fn is_named(&self, broker: BrokerId, now: Instant) -> bool {
        match self.0.lock().get(&broker) {
            Some(None) => true,
            Some(Some(departed_at)) => now.saturating_duration_since(*departed_at) < NAMED_FOR,
            None => false,
        }
    }
}

/// Takes note whenever the metadata change, until connections close.
pub(crate) async fn watch(node: Arc<Node>) {
    let mut images = node.controllers.images();
    let ends = node.connections_close.clone();
    let noting = async {
        loop {
            let image = images.borrow_and_update().clone();
            node.departed.note(&image, Instant::now());
            if images.changed().await.is_err() {
                return;
            }
        }
    };
    ends.run_until_cancelled(noting).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: BrokerId = BrokerId(1);

    #[test]
    fn a_broker_that_went_is_named_for_a_while() {
        let (departed, begin) = (Departed::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert!(!departed.is_named(ONE, at(0)));
        departed.note_each([(ONE, true)].into_iter(), at(0));
        assert!(departed.is_named(ONE, at(100)));
        for later in [100, 105] {
            departed.note_each([(ONE, false)].into_iter(), at(later));
        }
        assert!(departed.is_named(ONE, at(108)) && !departed.is_named(ONE, at(109)));
        departed.note_each([(ONE, true)].into_iter(), at(110));
        assert!(departed.is_named(ONE, at(110)));
    }

    #[test]
    fn a_broker_that_was_removed_or_never_served_is_not_named() {
        let (departed, now) = (Departed::default(), Instant::now());
        departed.note_each([(ONE, false), (BrokerId(2), true)].into_iter(), now);
        assert!(!departed.is_named(ONE, now));
        departed.note_each([(ONE, false)].into_iter(), now);
        assert!(!departed.is_named(BrokerId(2), now));
    }
}
