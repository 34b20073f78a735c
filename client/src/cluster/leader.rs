//! Requests that only the leader of a partition answers: found, asked, and asked again where the leadership moved. Knows nothing
//! of records.

use foldhash::{HashMap, HashMapExt};
use tidelog_protocol::api::Request;
use tidelog_protocol::error::Actor;
use tidelog_protocol::messages::{Isolation, ListOffsetsRequest, OffsetAnswer, OffsetQuery, Position};
use tidelog_protocol::{ErrorCode, PartitionId, WireError};

use super::settled::KNOWS_SETTLED;
use super::{Cluster, Patience, Purpose, TopicImage};
use crate::ClientError;
use crate::address::Address;
use crate::net::Connection;

/// How far offsets shall be known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    /// The end is that of the log.
    All,
    /// A leader may be out of touch with the controller, and have been replaced: it says what it knows.
    Settled,
}

impl Cluster {
    /// Asks the leader of a partition with the request that `request` makes of the topic; refreshes what is known and asks again
    /// where that was out of date, as [`Patience`] allows.
    pub(crate) async fn ask_leader<R: Request>(
        &self,
        topic: &str,
        partition: PartitionId,
        request: impl Fn(&TopicImage) -> R + Send,
    ) -> Result<R::Response, ClientError> {
        let mut patience = Patience::of(&self.options, R::API);
        loop {
            let image = self.topic(topic).await?;
            let request = request(&image);
            let attempt = async {
                let leader = self.leader(&image, partition)?;
                self.connection(&leader.address, Purpose::Requests).await?.call(&request).await
            };
            let result = attempt.await;
            match self.refreshing(&image, result).await {
                Ok(answer) => return Ok(answer),
                Err(error) => patience.after(error).await?,
            }
        }
    }

    /// Passes a result on; where it says that what is known of the topic is out of date, asks for news first.
    async fn refreshing<T>(&self, image: &TopicImage, result: Result<T, ClientError>) -> Result<T, ClientError> {
        let Err(error) = &result else { return result };
        let outdated = error.actor() == Actor::ClientRefreshes
            || matches!(error, ClientError::UnknownPartition { .. } | ClientError::Unreachable { .. });
        if !outdated {
            return result;
        }
        // Where even the refresh fails, the first error says more; but a topic that is gone is final.
        match self.refreshed(&image.name, image.as_of).await {
            Err(gone @ ClientError::UnknownTopic { .. }) => Err(gone),
            Ok(news)
                if matches!(error, ClientError::UnknownPartition { .. })
                    && news.partitions.len() > image.partitions.len() =>
            {
                Err(ClientError::Broker(WireError::new(
                    tidelog_protocol::ErrorCode::UnknownPartition,
                    "the topic has grown; asking again",
                )))
            }
            _ => result,
        }
    }

    /// Offsets of one topic as they are for whoever reads so, each partition asked at its leader, in the order of the queries.
    pub(crate) async fn list_offsets(
        &self,
        topic: &str,
        queries: &[(PartitionId, Position)],
        isolation: Isolation,
    ) -> Result<Vec<OffsetAnswer>, ClientError> {
        self.offsets(topic, queries, (isolation, Known::All)).await
    }

    /// The same for whoever looks for a place to read from, and not for all there is: where a majority is lost and the leader is left, that says
    /// what it knows to be settled.
    pub(crate) async fn places(
        &self,
        topic: &str,
        queries: &[(PartitionId, Position)],
        isolation: Isolation,
    ) -> Result<Vec<OffsetAnswer>, ClientError> {
        self.offsets(topic, queries, (isolation, Known::Settled)).await
    }

    async fn offsets(
        &self,
        topic: &str,
        queries: &[(PartitionId, Position)],
        wanted: (Isolation, Known),
    ) -> Result<Vec<OffsetAnswer>, ClientError> {
        let mut patience = Patience::repeating(&self.options);
        loop {
            let image = self.topic(topic).await?;
            let answers = self.ask_offsets(&image, queries, wanted).await;
            match self.refreshing(&image, answers).await {
                Ok(answers) => return Ok(answers),
                Err(error) => patience.after(error).await?,
            }
        }
    }

    async fn ask_offsets(
        &self,
        image: &TopicImage,
        queries: &[(PartitionId, Position)],
        (isolation, known): (Isolation, Known),
    ) -> Result<Vec<OffsetAnswer>, ClientError> {
        let committed_only = isolation == Isolation::ReadCommitted;
        let mut by_leader: HashMap<Address, Vec<usize>> = HashMap::new();
        for (at, (partition, _)) in queries.iter().enumerate() {
            by_leader.entry(self.leader(image, *partition)?.address).or_default().push(at);
        }
        let mut answers: Vec<Option<OffsetAnswer>> = vec![None; queries.len()];
        for (address, places) in by_leader {
            let connection = self.connection(&address, Purpose::Requests).await?;
            let asked = places
                .iter()
                .map(|at| OffsetQuery { partition: queries[*at].0, position: queries[*at].1.clone() })
                .collect();
            let request = ListOffsetsRequest { topic_id: image.id, queries: asked, committed_only, settled: false };
            let said = match said(&connection, &request).await {
                Err(error) if known == Known::Settled && may_be_deposed(&connection, &error) => {
                    // One that leads no more refuses this, too; the first refusal says more.
                    said(&connection, &ListOffsetsRequest { settled: true, ..request }).await.map_err(|_| error)?
                }
                said => said?,
            };
            for (at, answer) in places.into_iter().zip(said) {
                answers[at] = Some(answer);
            }
        }
        answers.into_iter().collect::<Option<Vec<_>>>().ok_or_else(|| {
            ClientError::Argument(format!("a broker answered fewer than the {} queries it was asked", queries.len()))
        })
    }
}

/// What a broker answers, where it is no use to ask for any of it again.
async fn said(connection: &Connection, request: &ListOffsetsRequest) -> Result<Vec<OffsetAnswer>, ClientError> {
    let answers = connection.call(request).await?.answers;
    let faults = answers.iter().filter_map(|answer| answer.fault.clone());
    match faults.map(|fault| ClientError::from(WireError::from(fault))).find(ClientError::is_retriable) {
        Some(error) => Err(error),
        None => Ok(answers),
    }
}

/// Whether this is what a leader says that has lost touch with the controller, too.
fn may_be_deposed(connection: &Connection, error: &ClientError) -> bool {
    connection.version() >= KNOWS_SETTLED && error.code() == Some(ErrorCode::NotLeader)
}
