//! In-sync sets that leaders here ask the controller for, until somebody takes them there. Only the latest of a partition counts, so however
//! long no controller answers, this never holds more than one of each. Knows nothing of who carries them.

use std::collections::HashMap;

use parking_lot::Mutex;
use tidelog_replication::InSyncProposal;
use tokio::sync::Notify;

use super::handle::Handle;
use super::upstream::Replica;

/// An in-sync set that a leader here asks for. It waits for a newer partition epoch, or for [`super::Command::AlterationFailed`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposed {
    /// The partition.
    pub replica: Replica,
    /// What it asks for.
    pub proposal: InSyncProposal,
}

/// What is asked for and was not taken away yet.
#[derive(Debug, Default)]
pub struct Proposals {
    asked: Mutex<HashMap<Replica, InSyncProposal>>,
    news: Notify,
}

impl Proposals {
    /// Asks for an in-sync set, in place of what was asked for the same partition before: a leader that asks again expects no answer to
    /// that any more.
    pub fn ask(&self, proposed: Proposed) {
        let Proposed { replica, proposal } = proposed;
        self.asked.lock().insert(replica, proposal);
        self.news.notify_one();
    }

    /// Waits until something is asked for, and takes so much of it at most.
    pub async fn take(&self, count_max: usize) -> Vec<Proposed> {
        loop {
            let taken = self.take_now(count_max);
            if !taken.is_empty() {
                return taken;
            }
            self.news.notified().await;
        }
    }

    fn take_now(&self, count_max: usize) -> Vec<Proposed> {
        let mut asked = self.asked.lock();
        let replicas: Vec<Replica> = asked.keys().take(count_max).copied().collect();
        let take = |replica| asked.remove(&replica).map(|proposal| Proposed { replica, proposal });
        replicas.into_iter().filter_map(take).collect()
    }
}

impl Replica {
    /// The partition that `handle` stands for.
    #[must_use]
    pub fn of(handle: &Handle) -> Self {
        Self { topic_id: handle.topic_id(), partition: handle.partition() }
    }
}

#[cfg(test)]
mod tests {
    use tidelog_protocol::{LeaderEpoch, PartitionEpoch, PartitionId, TopicId};

    use super::*;

    fn proposed(index: u32, partition_epoch: u32) -> Proposed {
        let replica = Replica { topic_id: TopicId([1; 16]), partition: PartitionId(index) };
        let (leader_epoch, partition_epoch) = (LeaderEpoch(1), PartitionEpoch(partition_epoch));
        Proposed { replica, proposal: InSyncProposal { leader_epoch, partition_epoch, in_sync: Vec::new() } }
    }

    #[tokio::test]
    async fn however_long_nobody_answers_only_the_latest_of_a_partition_waits() {
        let proposals = Proposals::default();
        for round in 0..10_000 {
            proposals.ask(proposed(round % 3, round));
        }
        let mut taken = proposals.take(1_000).await;
        taken.sort_by_key(|taken| taken.replica.partition);
        assert_eq!(taken, [proposed(0, 9_999), proposed(1, 9_997), proposed(2, 9_998)]);
        assert_eq!(proposals.take_now(1_000), [], "what was taken is asked for no more");
    }

    #[tokio::test]
    async fn what_does_not_fit_is_taken_the_next_time() {
        let proposals = Proposals::default();
        (0..5).for_each(|index| proposals.ask(proposed(index, 1)));
        let (first, second) = (proposals.take(3).await, proposals.take(3).await);
        assert_eq!((first.len(), second.len()), (3, 2));
        tokio::select! {
            biased;
            _ = proposals.take(3) => unreachable!("nothing is asked for"),
            () = async { proposals.ask(proposed(7, 1)) } => {}
        }
        assert_eq!(proposals.take(3).await, [proposed(7, 1)]);
    }
}
