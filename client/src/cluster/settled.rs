//! Asks replicas whose leader cannot be reached for what they know to be settled. Whom, and in which order, [`super::survivors`] says.

use std::collections::BTreeMap;

use tidelog_protocol::messages::{Isolation, ListOffsetsRequest, OffsetAnswer, OffsetQuery, Position};
use tidelog_protocol::{BrokerId, PartitionId, ProtocolVersion, WireError};

use super::survivors::{self, Round};
use super::{Cluster, OVERDUE, Purpose, TopicImage};
use crate::ClientError;
use crate::address::Address;

/// Partitions that are asked for in one request.
const TOGETHER_MAX: usize = 1_000;

/// What is asked of each partition.
pub(crate) type Question<'a> = (&'a [Position], Isolation);

/// What a broker says of each of the partitions it was asked for.
type Answers = Vec<Result<Vec<OffsetAnswer>, ClientError>>;

/// Who answered for a partition, and what; or why the last of those who were asked did not.
pub(crate) type Settled = Result<(BrokerId, Vec<OffsetAnswer>), ClientError>;

/// From this version on brokers can be asked for what is settled; one before answers as if it were asked as the leader.
pub(super) const KNOWS_SETTLED: ProtocolVersion = ProtocolVersion(8);

impl Cluster {
    /// The brokers besides the leader that may hold what is settled of a partition, the likeliest first.
    pub(crate) fn others(&self, image: &TopicImage, partition: PartitionId) -> Vec<BrokerId> {
        let mut others = image.partition(partition).map(survivors::others).unwrap_or_default();
        others.retain(|broker| self.known_address(*broker).is_ok());
        others
    }

    /// All that may hold it. The leader comes last, as it could not be reached, unless it has just answered: then it is one that may have been
    /// replaced, and of those out of touch with the controller it knows most of what is settled.
    fn holders(&self, image: &TopicImage, partition: PartitionId) -> Vec<BrokerId> {
        let mut holders = self.others(image, partition);
        let leader = image.partition(partition).ok().and_then(|place| place.leader);
        let known = leader.and_then(|leader| Some((leader, self.known_address(leader).ok()?)));
        if let Some((leader, address)) = known {
            let at = if self.pool.is_connected(&address, Purpose::Requests) { 0 } else { holders.len() };
            holders.insert(at, leader);
        }
        // Who did not answer a moment ago costs time before another is asked.
        let is_shunned = |address| self.pool.is_shunned(&address);
        holders.sort_by_key(|broker| self.known_address(*broker).is_ok_and(is_shunned));
        holders
    }

    /// Where a broker is, as far as is known.
    pub(crate) fn known_address(&self, broker: BrokerId) -> Result<Address, ClientError> {
        let known = self.known.read().brokers.get(&broker).map(|known| known.address.clone());
        known.ok_or_else(|| ClientError::Argument(format!("the cluster has no broker {broker}")))
    }

    /// What one broker knows of each of these partitions, as far as records are settled.
    pub(crate) async fn settled_offsets(
        &self,
        image: &TopicImage,
        (broker, partitions): (BrokerId, &[PartitionId]),
        (positions, isolation): Question<'_>,
    ) -> Result<Answers, ClientError> {
        let address = self.known_address(broker)?;
        let query =
            |(partition, position): (PartitionId, &Position)| OffsetQuery { partition, position: position.clone() };
        let each = partitions.iter().flat_map(|partition| positions.iter().map(|position| (*partition, position)));
        let request = ListOffsetsRequest {
            topic_id: image.id,
            queries: each.map(query).collect(),
            committed_only: isolation == Isolation::ReadCommitted,
            settled: true,
        };
        let asked = async {
            let connection = self.connection(&address, Purpose::Requests).await?;
            match connection.version() < KNOWS_SETTLED {
                true => Err(ClientError::Argument(format!("broker {broker} cannot be asked for what is settled"))),
                false => connection.call_within(&request, OVERDUE).await,
            }
        };
        let answered = tokio::time::timeout(OVERDUE, asked).await.unwrap_or_else(|_| {
            let reason = format!("it does not answer within {OVERDUE:?}");
            Err(ClientError::Unreachable { address: address.clone(), reason })
        });
        let answers = answered?.answers;
        if answers.len() != request.queries.len() {
            return Err(ClientError::Argument(format!("broker {broker} left questions unanswered")));
        }
        let of_one = |answers: &[OffsetAnswer]| match answers.iter().find_map(|answer| answer.fault.clone()) {
            Some(fault) => Err(WireError::from(fault).into()),
            None => Ok(answers.to_vec()),
        };
        Ok(answers.chunks(positions.len().max(1)).map(of_one).collect())
    }

    /// The same, of the first replica of each partition that serves what it knows to be settled.
    pub(crate) async fn ask_survivors(
        &self,
        image: &TopicImage,
        partitions: &[PartitionId],
        question: Question<'_>,
    ) -> BTreeMap<PartitionId, Settled> {
        let unasked = |partition| ClientError::NoLeader { topic: image.name.to_string(), partition };
        let mut settled: BTreeMap<_, Settled> = partitions.iter().map(|at| (*at, Err(unasked(*at)))).collect();
        let mut round = Round::new(partitions.iter().map(|at| (*at, self.holders(image, *at))));
        while let Some((broker, mut asked)) = round.next() {
            // The others are next, of the same broker.
            asked.truncate(TOGETHER_MAX);
            match self.settled_offsets(image, (broker, &asked), question).await {
                Ok(answers) => {
                    for (partition, answers) in asked.into_iter().zip(answers) {
                        match &answers {
                            Ok(_) => round.answered(partition),
                            Err(_) => round.refused(partition),
                        }
                        settled.insert(partition, answers.map(|answers| (broker, answers)));
                    }
                }
                Err(error) => {
                    tracing::debug!(%broker, %error, "does not say what it knows to be settled");
                    if let (ClientError::Unreachable { .. }, Ok(address)) = (&error, self.known_address(broker)) {
                        self.pool.shun(&address);
                    }
                    round.is_silent(broker);
                }
            }
        }
        settled
    }
}
