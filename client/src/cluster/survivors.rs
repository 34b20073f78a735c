//! Partitions whose leader cannot be reached, as after the loss of a majority: when a replica that is there is asked for what it knows to be
//! settled, and which. Whether it may serve that says its broker, which refuses as long as a controller that hears of it names a leader.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use tidelog_protocol::{BrokerId, Offset, PartitionId};

use super::image::Place;
use crate::ClientError;

/// A replica that is read from in place of the leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Survivor {
    /// Its broker.
    pub broker: BrokerId,
    /// Up to here, exclusive, it knows records to be readable. There may be more that it does not know to be settled, or does not have.
    pub end: Offset,
}

/// Whom to ask for a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    Leader,
    Survivor(BrokerId),
}

/// The search for somebody who serves a partition.
#[derive(Debug)]
pub(crate) struct Search {
    /// How long the leader may be away before others are asked; `None` for ever.
    patience: Option<Duration>,
    away_since: Option<Instant>,
    /// Who was asked since the leader has been away for long, each time in vain.
    asked: usize,
    turn: Turn,
}

impl Search {
    pub(crate) const fn new(patience: Option<Duration>) -> Self {
        Self { patience, away_since: None, asked: 0, turn: Turn::Leader }
    }

    /// Whom to ask now: the leader, and once it was away for long, those of `others` in turn, and the leader after them.
    pub(crate) fn turn(&mut self, others: &[BrokerId], now: Instant) -> Turn {
        let is_long = self.patience.is_some_and(|patience| {
            let away = self.away_since.map(|since| now.saturating_duration_since(since));
            patience.is_zero() || away.is_some_and(|away| away >= patience)
        });
        let at = self.asked % (others.len() + 1);
        self.turn = others.get(at).filter(|_| is_long).map_or(Turn::Leader, |broker| Turn::Survivor(*broker));
        if is_long {
            self.asked += 1;
        }
        self.turn
    }

    /// Whoever had its turn did not serve.
    pub(crate) fn failed(&mut self, error: &ClientError, now: Instant) {
        match self.turn {
            Turn::Leader if is_away(error) => self.away_since = Some(self.away_since.unwrap_or(now)),
            // It is there, or another is, and says what is the matter.
            Turn::Leader => self.served(),
            Turn::Survivor(_) => {}
        }
    }

    /// Whoever had its turn has served; where that ended, the leader is the first to be asked.
    pub(crate) const fn served(&mut self) {
        (self.away_since, self.asked) = (None, 0);
    }
}

/// Whether nobody was there who could have answered.
const fn is_away(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::Unreachable { .. }
            | ClientError::Disconnected { .. }
            | ClientError::TimedOut { .. }
            | ClientError::NoLeader { .. }
    )
}

/// The replicas besides the leader's, those in sync first: they have all that is settled, though they may not know that of the last of it.
pub(super) fn others(place: &Place) -> Vec<BrokerId> {
    let lagging = place.replicas.iter().filter(|broker| !place.in_sync.contains(broker));
    place.in_sync.iter().chain(lagging).copied().filter(|broker| Some(*broker) != place.leader).collect()
}

/// Whom to ask for several partitions, as many as possible at once.
#[derive(Debug)]
pub(super) struct Round {
    /// Those that nobody has answered for, each with whom to ask, the likeliest first.
    left: BTreeMap<PartitionId, VecDeque<BrokerId>>,
}

impl Round {
    pub(super) fn new(left: impl IntoIterator<Item = (PartitionId, Vec<BrokerId>)>) -> Self {
        Self { left: left.into_iter().map(|(partition, brokers)| (partition, brokers.into())).collect() }
    }

    /// The next broker to ask, and for which: all of which it is the likeliest that is left.
    pub(super) fn next(&self) -> Option<(BrokerId, Vec<PartitionId>)> {
        let broker = *self.left.values().find_map(VecDeque::front)?;
        let its = self.left.iter().filter(|(_, brokers)| brokers.front() == Some(&broker));
        Some((broker, its.map(|(partition, _)| *partition).collect()))
    }

    /// It has answered for this one.
    pub(super) fn answered(&mut self, partition: PartitionId) {
        self.left.remove(&partition);
    }

    /// The one that was asked for this does not serve it.
    pub(super) fn refused(&mut self, partition: PartitionId) {
        if let Some(brokers) = self.left.get_mut(&partition) {
            brokers.pop_front();
        }
    }

    /// It answers nothing: it is asked for none of the others either.
    pub(super) fn is_silent(&mut self, broker: BrokerId) {
        self.left.values_mut().for_each(|brokers| brokers.retain(|other| *other != broker));
    }
}

#[cfg(test)]
mod tests {
    use tidelog_protocol::{ErrorCode, LeaderEpoch, WireError};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);
    const OTHERS: [BrokerId; 2] = [BrokerId(2), BrokerId(3)];

    fn away() -> ClientError {
        ClientError::NoLeader { topic: "logs".into(), partition: PartitionId(0) }
    }

    fn refused() -> ClientError {
        WireError::new(ErrorCode::NotLeader, "another leads").into()
    }

    #[test]
    fn replicas_are_asked_in_turn_once_the_leader_was_away_for_long_and_the_leader_after_them() {
        let (mut search, began) = (Search::new(Some(PATIENCE)), Instant::now());
        for second in 0..5 {
            let now = began + Duration::from_secs(second);
            assert_eq!(search.turn(&OTHERS, now), Turn::Leader, "after {second} s");
            search.failed(&away(), now);
        }
        let now = began + PATIENCE;
        let mut turn = |error: ClientError| {
            let turn = search.turn(&OTHERS, now);
            search.failed(&error, now);
            turn
        };
        assert_eq!([turn(refused()), turn(away())], OTHERS.map(Turn::Survivor));
        assert_eq!([turn(away()), turn(away())], [Turn::Leader, Turn::Survivor(BrokerId(2))]);
    }

    #[test]
    fn a_leader_that_answers_is_there_whatever_it_says() {
        let (mut search, began) = (Search::new(Some(PATIENCE)), Instant::now());
        for (second, error) in [(0, away()), (4, refused()), (6, away()), (10, away())] {
            let now = began + Duration::from_secs(second);
            assert_eq!(search.turn(&OTHERS, now), Turn::Leader, "after {second} s");
            search.failed(&error, now);
        }
        let now = began + Duration::from_secs(11);
        assert_eq!(search.turn(&OTHERS, now), Turn::Survivor(BrokerId(2)), "five seconds after it was there");
    }

    #[test]
    fn once_somebody_has_served_the_leader_has_all_its_time_again() {
        let (mut search, began) = (Search::new(Some(PATIENCE)), Instant::now());
        let _ = search.turn(&OTHERS, began);
        search.failed(&away(), began);
        let now = began + PATIENCE;
        assert_eq!(search.turn(&OTHERS, now), Turn::Survivor(BrokerId(2)));
        search.served();
        search.failed(&refused(), now);
        assert_eq!(search.turn(&OTHERS, now), Turn::Leader);
    }

    #[test]
    fn nobody_else_is_asked_by_whoever_does_not_want_it_and_the_leader_last_by_whoever_is_in_a_hurry() {
        let now = Instant::now();
        let mut search = Search::new(None);
        for minute in 0..10 {
            assert_eq!(search.turn(&OTHERS, now + PATIENCE * 12 * minute), Turn::Leader);
            search.failed(&away(), now);
        }
        let mut search = Search::new(Some(Duration::ZERO));
        let turns = [(); 3].map(|()| search.turn(&OTHERS, now));
        assert_eq!(turns, [Turn::Survivor(BrokerId(2)), Turn::Survivor(BrokerId(3)), Turn::Leader]);
        assert_eq!(Search::new(Some(Duration::ZERO)).turn(&[], now), Turn::Leader, "there is nobody else");
    }

    #[test]
    fn each_broker_is_asked_for_all_that_it_may_know_and_a_silent_one_once() {
        let ids = |ids: &[u32]| ids.iter().copied().map(PartitionId).collect::<Vec<_>>();
        let [first, second] = OTHERS;
        let mut round = Round::new((0..4).map(|at| (PartitionId(at), vec![first, second])));
        assert_eq!(round.next(), Some((first, ids(&[0, 1, 2, 3]))));
        round.answered(PartitionId(0));
        round.refused(PartitionId(1));
        assert_eq!(round.next(), Some((second, ids(&[1]))));
        round.is_silent(second);
        assert_eq!(round.next(), Some((first, ids(&[2, 3]))));
        round.is_silent(first);
        assert_eq!(round.next(), None, "nobody is left to ask");
        assert_eq!(Round::new([(PartitionId(0), Vec::new())]).next(), None);
    }

    #[test]
    fn those_in_sync_are_asked_before_those_that_lag_and_never_the_leader() {
        let ids = |ids: &[u32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
        let (replicas, in_sync) = (ids(&[1, 2, 3, 4]), ids(&[4, 1, 3]));
        let place = Place { leader: Some(BrokerId(1)), leader_epoch: LeaderEpoch(2), in_sync, replicas };
        assert_eq!(others(&place), ids(&[4, 3, 2]));
    }
}
