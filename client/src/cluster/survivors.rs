//! Partitions whose leader cannot be reached, as after the loss of a majority: when a replica that is there is asked for what it knows to be
//! settled, and which. Whether it may serve that says its broker, which refuses as long as a controller hears of it. The rule is pure; below it
//! stands how a replica is asked.

use std::time::{Duration, Instant};

use tidelog_protocol::messages::{Isolation, ListOffsetsRequest, OffsetAnswer, OffsetQuery, Position};
use tidelog_protocol::{BrokerId, Offset, PartitionId, WireError};

use super::image::Place;
use super::{Cluster, OVERDUE, Purpose, TopicImage};
use crate::ClientError;
use crate::address::Address;

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
fn others(place: &Place) -> Vec<BrokerId> {
    let lagging = place.replicas.iter().filter(|broker| !place.in_sync.contains(broker));
    place.in_sync.iter().chain(lagging).copied().filter(|broker| Some(*broker) != place.leader).collect()
}

impl Cluster {
    /// The brokers besides the leader that may hold what is settled of a partition, the likeliest first.
    pub(crate) fn others(&self, image: &TopicImage, partition: PartitionId) -> Vec<BrokerId> {
        let mut others = image.partition(partition).map(others).unwrap_or_default();
        others.retain(|broker| self.known_address(*broker).is_ok());
        others
    }

    /// Where a broker is, as far as is known.
    pub(crate) fn known_address(&self, broker: BrokerId) -> Result<Address, ClientError> {
        let known = self.known.read().brokers.get(&broker).map(|known| known.address.clone());
        known.ok_or_else(|| ClientError::Argument(format!("the cluster has no broker {broker}")))
    }

    /// What one replica knows of these positions, as far as records are settled.
    pub(crate) async fn settled_offsets(
        &self,
        image: &TopicImage,
        (partition, broker): (PartitionId, BrokerId),
        (positions, isolation): (&[Position], Isolation),
    ) -> Result<Vec<OffsetAnswer>, ClientError> {
        let address = self.known_address(broker)?;
        let query = |position: &Position| OffsetQuery { partition, position: position.clone() };
        let request = ListOffsetsRequest {
            topic_id: image.id,
            queries: positions.iter().map(query).collect(),
            committed_only: isolation == Isolation::ReadCommitted,
            settled: true,
        };
        let asked = async { self.connection(&address, Purpose::Requests).await?.call_within(&request, OVERDUE).await };
        let answered = tokio::time::timeout(OVERDUE, asked).await.unwrap_or_else(|_| {
            let reason = format!("it does not answer within {OVERDUE:?}");
            Err(ClientError::Unreachable { address: address.clone(), reason })
        });
        let answers = answered?.answers;
        match answers.iter().find_map(|answer| answer.fault.clone()) {
            Some(fault) => Err(WireError::from(fault).into()),
            None if answers.len() == positions.len() => Ok(answers),
            None => Err(ClientError::Argument(format!("broker {broker} left questions unanswered"))),
        }
    }

    /// The same of the first replica that serves what it knows to be settled.
    pub(crate) async fn ask_survivors(
        &self,
        image: &TopicImage,
        partition: PartitionId,
        (positions, isolation): (&[Position], Isolation),
    ) -> Result<(BrokerId, Vec<OffsetAnswer>), ClientError> {
        let mut last = ClientError::NoLeader { topic: image.name.to_string(), partition };
        for broker in self.others(image, partition) {
            match self.settled_offsets(image, (partition, broker), (positions, isolation)).await {
                Ok(answers) => return Ok((broker, answers)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use tidelog_protocol::{ErrorCode, LeaderEpoch};

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
    fn those_in_sync_are_asked_before_those_that_lag_and_never_the_leader() {
        let ids = |ids: &[u32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
        let (replicas, in_sync) = (ids(&[1, 2, 3, 4]), ids(&[4, 1, 3]));
        let place = Place { leader: Some(BrokerId(1)), leader_epoch: LeaderEpoch(2), in_sync, replicas };
        assert_eq!(others(&place), ids(&[4, 3, 2]));
    }
}
