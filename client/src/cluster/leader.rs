//! Requests that only the leader of a partition answers: found, asked, and asked again where the leadership moved. Knows nothing
//! of records.

use foldhash::{HashMap, HashMapExt};
use tidelog_protocol::api::Request;
use tidelog_protocol::error::Actor;
use tidelog_protocol::messages::{Isolation, ListOffsetsRequest, OffsetAnswer, OffsetQuery, Position};
use tidelog_protocol::{PartitionId, WireError};

use super::{Cluster, Patience, Purpose, TopicImage};
use crate::ClientError;
use crate::address::Address;

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
        let mut patience = Patience::repeating(&self.options);
        loop {
            let image = self.topic(topic).await?;
            let answers = self.ask_offsets(&image, queries, isolation).await;
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
        isolation: Isolation,
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
            let answer = connection
                .call(&ListOffsetsRequest { topic_id: image.id, queries: asked, committed_only, settled: false })
                .await?;
            for (at, answer) in places.into_iter().zip(answer.answers) {
                if let Some(fault) = &answer.fault {
                    let error = ClientError::Broker(WireError::from(fault.clone()));
                    if error.is_retriable() {
                        return Err(error);
                    }
                }
                answers[at] = Some(answer);
            }
        }
        answers.into_iter().collect::<Option<Vec<_>>>().ok_or_else(|| {
            ClientError::Argument(format!("a broker answered fewer than the {} queries it was asked", queries.len()))
        })
    }
}
