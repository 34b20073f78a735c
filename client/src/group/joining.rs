//! How a member comes about: its parts put together, and the first answer waited for. Knows nothing of records.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::GroupError;
use super::builder::MemberSettings;
use super::consumer::GroupConsumer;
use super::heartbeats::Heartbeats;
use super::member::{Member, Rules};
use super::shared::{Identity, Shared};
use super::work::Work;
use crate::Consumer;
use crate::cluster::Cluster;

/// Events that wait for the member's task: it takes each at once.
const EVENTS: usize = 256;
/// How much longer than one question may take it is tried to join: as long as it takes until another coordinates, where one hangs.
const FAILOVER: Duration = Duration::from_secs(10);
/// How long a session is taken to be where the broker has not said: its usual default.
const SESSION_MS: u64 = 45_000;

/// Joins a group.
pub(super) async fn join(
    cluster: Arc<Cluster>,
    group: String,
    settings: MemberSettings,
) -> Result<GroupConsumer, GroupError> {
    let (events, commands) = mpsc::channel(EVENTS);
    let reader = Consumer::of_changing(Arc::clone(&cluster), settings.reading.clone());
    let session_ms = if settings.session_ms == 0 { SESSION_MS } else { settings.session_ms.into() };
    let rules = Rules {
        is_static: settings.instance_id.is_some(),
        backoff: cluster.backoff(),
        patience: cluster.options.request_timeout,
        rebalance_ms: settings.rebalance_ms.into(),
        // The one before may have been heard of a moment ago.
        taken_patience_ms: session_ms + session_ms / 2,
    };
    let shared = Arc::new(Shared {
        group: group.into(),
        work: Mutex::new(Work::new(reader, settings.unfinished_max)),
        identity: watch::Sender::new(Identity::new()),
        events,
        committing: tokio::sync::Mutex::new(()),
        calling: tokio::sync::Mutex::new(()),
        returned: Notify::new(),
        ended: CancellationToken::new(),
        born: Instant::now(),
        failed_last: Mutex::new(None),
        cluster,
        settings,
    });
    let patience = shared.cluster.options.request_timeout
        + FAILOVER
        + if rules.is_static { Duration::from_millis(rules.taken_patience_ms) } else { Duration::ZERO };
    let member = Member::new(rules, shared.now());
    let heartbeats = Heartbeats { shared: Arc::clone(&shared), member, commands, asking: None, is_leaving: false };
    shared.cluster.runtime.spawn(heartbeats.run());
    let committing = Arc::clone(&shared);
    let ended = shared.ended.clone();
    shared.cluster.runtime.spawn(async move {
        ended.run_until_cancelled_owned(async move { committing.commit_now_and_then().await }).await
    });

    let mut identity = shared.identity.subscribe();
    // Dropped on the way out of here, it leaves in the background.
    let mut consumer = GroupConsumer::new(shared);
    let joined = async { identity.wait_for(|me| me.epoch > 0 || me.ended).await.is_ok_and(|me| !me.ended) };
    match tokio::time::timeout(patience, joined).await {
        Ok(true) => Ok(consumer),
        Ok(false) => Err(consumer.why_it_ended().await),
        Err(_) => Err(consumer.why_it_did_not_join(patience)),
    }
}
