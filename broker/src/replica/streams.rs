//! What is known of each partition that is followed from one leader: the question under way, the stream, when to try again. Knows
//! nothing of connections and of what is asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use tidelog_protocol::CorrelationId;

use crate::partition::{Attempt, Question, Replica};

/// The wait after the first failure, and the longest.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_millis(500);
/// For owners that ask for a pause.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// Where a partition stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// To be asked once there is a connection.
    Pending(Question),
    /// Asked, then, under this id.
    Asked(Question, CorrelationId, Instant),
    /// Its stream is open under this id.
    Streaming(CorrelationId),
    /// Its owner hears then that nothing came of it.
    Paused(Instant),
    /// Its owner has the word.
    Told,
}

/// One partition.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) attempt: Attempt,
    pub(super) state: State,
    /// Bytes taken for which no credit was given yet.
    pub(super) taken: Arc<AtomicU32>,
    failures: u32,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Streams {
    followed: HashMap<Replica, Followed>,
    by_correlation: HashMap<CorrelationId, Replica>,
}

impl Streams {
    pub(super) fn is_empty(&self) -> bool {
        self.followed.is_empty()
    }

    pub(super) fn find(&self, replica: Replica) -> Option<&Followed> {
        self.followed.get(&replica)
    }

    /// Whose id this is, as long as it means something.
    pub(super) fn whose(&self, correlation: CorrelationId) -> Option<Replica> {
        self.by_correlation.get(&correlation).copied()
    }

    /// An owner asks. Gives the stream that ends by it.
    pub(super) fn asked(&mut self, replica: Replica, attempt: Attempt, question: Question) -> Option<CorrelationId> {
        let state = match question {
            Question::Pause => State::Paused(Instant::now() + PAUSE),
            Question::EpochEnd { .. } | Question::Follow { .. } => State::Pending(question),
        };
        let ended = self.change(replica, state);
        let new = || Followed { attempt, state, taken: Arc::default(), failures: 0 };
        let followed = self.followed.entry(replica).or_insert_with(new);
        (followed.attempt, followed.state) = (attempt, state);
        ended
    }

    /// An owner follows no more. Gives the stream that ends by it.
    pub(super) fn left(&mut self, replica: Replica) -> Option<CorrelationId> {
        let ended = self.change(replica, State::Told);
        self.followed.remove(&replica);
        ended
    }

    /// A question went out.
    pub(super) fn sent(&mut self, replica: Replica, question: Question, correlation: CorrelationId) {
        self.change(replica, State::Asked(question, correlation, Instant::now()));
        self.by_correlation.insert(correlation, replica);
    }

    /// A stream is open.
    pub(super) fn opened(&mut self, replica: Replica, correlation: CorrelationId) {
        self.change(replica, State::Streaming(correlation));
        self.by_correlation.insert(correlation, replica);
        if let Some(followed) = self.followed.get_mut(&replica) {
            // The stream begins with credit of its own.
            followed.taken = Arc::default();
        }
    }

    /// The stream brought something.
    pub(super) fn delivered(&mut self, replica: Replica) {
        if let Some(followed) = self.followed.get_mut(&replica) {
            followed.failures = 0;
        }
    }

    /// The owner has the word.
    pub(super) fn told(&mut self, replica: Replica) {
        self.change(replica, State::Told);
    }

    /// It came to nothing: its owner hears of it after a while, a longer one each time.
    pub(super) fn failed(&mut self, replica: Replica) {
        let Some(followed) = self.followed.get_mut(&replica) else { return };
        let bound = RETRY_FIRST.saturating_mul(1 << followed.failures.min(10)).min(RETRY_MAX);
        followed.failures += 1;
        let due = Instant::now() + bound.mul_f64(0.5 + 0.5 * fastrand::f64());
        self.change(replica, State::Paused(due));
    }

    /// The connection is gone. Gives those that had a question or a stream there.
    pub(super) fn disconnected(&mut self) -> Vec<Replica> {
        self.by_correlation.clear();
        let had = |state: State| matches!(state, State::Asked(..) | State::Streaming(_));
        let lost = self.followed.iter().filter(|(_, followed)| had(followed.state));
        lost.map(|(replica, _)| *replica).collect()
    }

    /// Those to be asked now.
    pub(super) fn pending(&self) -> Vec<(Replica, Question)> {
        let pending = |(replica, followed): (&Replica, &Followed)| match followed.state {
            State::Pending(question) => Some((*replica, question)),
            State::Asked(..) | State::Streaming(_) | State::Paused(_) | State::Told => None,
        };
        self.followed.iter().filter_map(pending).collect()
    }

    /// Those whose pause is over.
    pub(super) fn due(&self, now: Instant) -> Vec<Replica> {
        let is_due = |followed: &Followed| matches!(followed.state, State::Paused(due) if due <= now);
        self.followed.iter().filter(|(_, followed)| is_due(followed)).map(|(replica, _)| *replica).collect()
    }

    /// When the next pause is over.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let due = |followed: &Followed| match followed.state {
            State::Paused(due) => Some(due),
            State::Pending(_) | State::Asked(..) | State::Streaming(_) | State::Told => None,
        };
        self.followed.values().filter_map(due).min()
    }

    /// True where a question has waited for its answer since before `then`.
    pub(super) fn waits_since(&self, then: Instant) -> bool {
        self.followed.values().any(|followed| matches!(followed.state, State::Asked(_, _, at) if at < then))
    }

    /// Changes the state; what came under the id that the old one had means nothing any more. Gives the stream that ends by it.
    fn change(&mut self, replica: Replica, state: State) -> Option<CorrelationId> {
        let followed = self.followed.get_mut(&replica)?;
        let before = std::mem::replace(&mut followed.state, state);
        let (id, stream) = match before {
            State::Streaming(id) => (id, Some(id)),
            State::Asked(_, id, _) => (id, None),
            State::Pending(_) | State::Paused(_) | State::Told => return None,
        };
        self.by_correlation.remove(&id);
        stream
    }
}

#[cfg(test)]
mod tests {
    use tidelog_protocol::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionId, TopicId};
    use tidelog_replication::FollowTerms;

    use super::*;

    const REPLICA: Replica = Replica { topic_id: TopicId([1; 16]), partition: PartitionId(0) };

    fn follow() -> Question {
        let terms = FollowTerms {
            replica: BrokerId(1),
            broker_epoch: BrokerEpoch(1),
            leader_epoch: LeaderEpoch(1),
            from: Offset(0),
            last_epoch: None,
        };
        Question::Follow { terms, wants_producers: false }
    }

    #[test]
    fn what_comes_for_an_earlier_question_is_nobodys() {
        let mut streams = Streams::default();
        streams.asked(REPLICA, Attempt(1), follow());
        streams.sent(REPLICA, follow(), CorrelationId(5));
        assert_eq!(streams.whose(CorrelationId(5)), Some(REPLICA));
        streams.opened(REPLICA, CorrelationId(5));
        assert_eq!(streams.asked(REPLICA, Attempt(2), follow()), Some(CorrelationId(5)), "the stream ends");
        assert_eq!(streams.whose(CorrelationId(5)), None);
        assert_eq!(streams.pending().len(), 1);
    }

    #[test]
    fn failures_are_told_later_and_later_until_something_comes() {
        let mut streams = Streams::default();
        streams.asked(REPLICA, Attempt(1), follow());
        let wait = |streams: &mut Streams| {
            let now = Instant::now();
            streams.failed(REPLICA);
            streams.next_due().unwrap() - now
        };
        assert!(wait(&mut streams) < Duration::from_millis(30));
        for _ in 0..10 {
            wait(&mut streams);
        }
        assert!(wait(&mut streams) >= Duration::from_millis(250));
        streams.delivered(REPLICA);
        assert!(wait(&mut streams) < Duration::from_millis(30));
    }

    #[test]
    fn a_lost_connection_concerns_who_had_something_there() {
        let mut streams = Streams::default();
        let other = Replica { partition: PartitionId(1), ..REPLICA };
        streams.asked(REPLICA, Attempt(1), follow());
        streams.asked(other, Attempt(1), follow());
        streams.sent(REPLICA, follow(), CorrelationId(5));
        assert_eq!(streams.disconnected(), [REPLICA]);
        assert_eq!(streams.pending(), [(other, follow())]);
    }
}
