//! A member lets go of partitions: waits for what the program has in its hands, tells it, and commits what is done. Knows nothing of
//! heartbeats.

use std::sync::Arc;
use std::time::Duration;

use super::builder::CommitMode;
use super::commits::Commits;
use super::member::Place;
use super::shared::Shared;
use super::work::Run;

/// Partitions of which nothing more is handed out.
pub(super) struct LettingGo {
    pub(super) shared: Arc<Shared>,
    pub(super) claimed: Vec<(Place, Run)>,
}

impl LettingGo {
    /// Runs until they may be others'. Returns those that were lost meanwhile: of them nothing is to be said.
    pub(super) async fn run(&self) -> Vec<Place> {
        let shared = &self.shared;
        self.out_of_hand().await;
        {
            // Whoever is being told that they came is through with it before being told that they go.
            let _alone = shared.calling.lock().await;
            let told = shared.work.lock().told(&self.claimed);
            if !told.is_empty() {
                tracing::debug!(group = %shared.group, partitions = ?told, "partitions revoked");
                shared.settings.listener.revoked(&told, &Commits { shared: Arc::clone(shared) }).await;
            }
        }
        if let CommitMode::Auto { .. } = shared.settings.commit
            && let Err(error) = shared.commit_done(Some(&self.claimed)).await
        {
            tracing::warn!(group = %shared.group, %error, "could not commit partitions that were taken away: their records come again");
        }
        let lost = {
            let mut work = shared.work.lock();
            let held = work.all();
            work.forget(&self.claimed);
            self.claimed.iter().filter(|claimed| !held.contains(claimed)).map(|(place, _)| *place).collect()
        };
        shared.returned.notify_waiters();
        lost
    }

    /// Waits until what was being let go of before is gone, too.
    pub(super) async fn the_others(&self) {
        self.until(|shared| shared.work.lock().all().is_empty()).await;
    }

    /// Waits until the program has none of their records in its hands, or has kept them for half the time there is.
    async fn out_of_hand(&self) {
        if !self.until(|shared| shared.work.lock().is_out_of_hand(&self.claimed)).await {
            tracing::warn!(group = %self.shared.group,
                "records of partitions that were taken away are still being processed: others get them, too");
        }
    }

    /// True once it is so, false where it is not after half the time that there is to let go.
    async fn until(&self, is_so: impl Fn(&Shared) -> bool) -> bool {
        let wait = async {
            loop {
                let returned = self.shared.returned.notified();
                tokio::pin!(returned);
                returned.as_mut().enable();
                if is_so(&self.shared) {
                    return;
                }
                returned.await;
            }
        };
        let half = Duration::from_millis(u64::from(self.shared.settings.rebalance_ms) / 2);
        tokio::time::timeout(half, wait).await.is_ok()
    }
}

/// Partitions that may be others' already. They were forgotten as that was found out.
pub(super) async fn tell_of_loss(shared: Arc<Shared>, lost: Vec<crate::TopicPartition>) {
    let _alone = shared.calling.lock().await;
    tracing::warn!(group = %shared.group, partitions = ?lost, "partitions lost: the member was fenced, or not heard of for its session");
    shared.settings.listener.lost(&lost).await;
}
