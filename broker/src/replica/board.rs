//! What the owners of followed partitions want of their leaders, until somebody takes it there. Only the latest question and the latest
//! report of a partition count, so this never holds more than one of each. Knows nothing of connections.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tidelog_protocol::BrokerId;
use tidelog_replication::ReplicaProgress;
use tokio::sync::Notify;

use crate::partition::{Attempt, Question, Replica, Upstream};

/// Everything that is wanted.
#[derive(Debug, Default)]
pub(crate) struct Board {
    leaders: RwLock<HashMap<BrokerId, Arc<Slate>>>,
    /// A leader that was not on the board before.
    appeared: Notify,
}

/// What is wanted of one leader.
#[derive(Debug, Default)]
pub(super) struct Slate {
    wanted: Mutex<HashMap<Replica, Wanted>>,
    news: Notify,
}

/// What one partition wants, as far as it is news.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) question: Option<(Attempt, Question)>,
    pub(super) report: Option<ReplicaProgress>,
    /// It follows this leader no more; set before a question, it is overtaken by that.
    pub(super) left: bool,
    /// Its stream may push more.
    pub(super) refill: bool,
}

impl Slate {
    /// Waits until there is news since the last wait.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// All the news.
    pub(super) fn take(&self) -> HashMap<Replica, Wanted> {
        std::mem::take(&mut *self.wanted.lock())
    }

    /// Enough of what was pushed has been taken for the stream to be given credit anew.
    pub(super) fn refill(&self, replica: Replica) {
        self.note(replica, |wanted| wanted.refill = true);
    }

    /// Has the taker look again.
    pub(super) fn poke(&self) {
        self.news.notify_one();
    }

    fn note(&self, replica: Replica, change: impl FnOnce(&mut Wanted)) {
        change(self.wanted.lock().entry(replica).or_default());
        self.news.notify_one();
    }
}

impl Board {
    /// Every leader on the board.
    pub(super) fn leaders(&self) -> Vec<(BrokerId, Arc<Slate>)> {
        self.leaders.read().iter().map(|(leader, slate)| (*leader, slate.clone())).collect()
    }

    /// Waits until a leader has appeared since the last wait.
    pub(super) async fn appeared(&self) {
        self.appeared.notified().await;
    }

    fn slate(&self, leader: BrokerId) -> Arc<Slate> {
        if let Some(slate) = self.leaders.read().get(&leader) {
            return slate.clone();
        }
        let slate = self.leaders.write().entry(leader).or_default().clone();
        self.appeared.notify_one();
        slate
    }
}

impl Upstream for Board {
    fn ask(&self, replica: Replica, leader: BrokerId, attempt: Attempt, question: Question) {
        self.slate(leader).note(replica, |wanted| {
            wanted.question = Some((attempt, question));
            wanted.left = false;
        });
    }

    fn report(&self, replica: Replica, leader: BrokerId, progress: ReplicaProgress) {
        self.slate(leader).note(replica, |wanted| wanted.report = Some(progress));
    }

    fn leave(&self, replica: Replica) {
        for (_, slate) in self.leaders() {
            slate.note(replica, |wanted| *wanted = Wanted { left: true, ..Wanted::default() });
        }
    }
}

#[cfg(test)]
mod tests {
    use tidelog_protocol::{PartitionId, TopicId};

    use super::*;

    const LEADER: BrokerId = BrokerId(7);

    fn replica(index: u32) -> Replica {
        Replica { topic_id: TopicId([1; 16]), partition: PartitionId(index) }
    }

    #[test]
    fn only_the_latest_question_of_a_partition_is_carried() {
        let board = Board::default();
        for attempt in 1..=3 {
            board.ask(replica(0), LEADER, Attempt(attempt), Question::Pause);
        }
        let (leader, slate) = board.leaders().remove(0);
        assert_eq!(leader, LEADER);
        let taken = slate.take();
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[&replica(0)].question, Some((Attempt(3), Question::Pause)));
        assert!(slate.take().is_empty(), "what was taken is news no more");
    }

    #[test]
    fn who_left_and_asks_again_is_back() {
        let board = Board::default();
        board.ask(replica(0), LEADER, Attempt(1), Question::Pause);
        board.leave(replica(0));
        let slate = board.leaders().remove(0).1;
        let taken = slate.take();
        assert!(taken[&replica(0)].left && taken[&replica(0)].question.is_none());
        board.leave(replica(0));
        board.ask(replica(0), LEADER, Attempt(2), Question::Pause);
        assert!(!slate.take()[&replica(0)].left);
    }
}
