//! Keeps the stream of one partition open: finds the leader, subscribes, and does so again where it ended. Knows offsets, nothing
//! of records.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidelog_protocol::messages::{Position, SubscribeRequest, UnsubscribeRequest};
use tidelog_protocol::{BrokerId, CorrelationId, ErrorCode, Offset, TopicId};
use tokio::sync::Notify;

use super::builder::{OutOfRange, Settings};
use super::inbox::{Bearing, Inbox, Intake, Slot};
use super::repair_wait::{Patience, RepairWait};
use super::{ConsumeError, TopicPartition};
use crate::ClientError;
use crate::cluster::{Cluster, Purpose, Search, Survivor, TopicImage, Turn};
use crate::net::{Connection, Ticket};

/// One partition's subscription.
pub(super) struct Subscription {
    pub(super) cluster: Arc<Cluster>,
    pub(super) inbox: Arc<Inbox>,
    /// The inbox has something to look at.
    pub(super) changed: Arc<Notify>,
    pub(super) slot: Slot,
    pub(super) source: Arc<TopicPartition>,
    /// The topic that is meant, where another one of the same name is not.
    pub(super) topic_id: Option<TopicId>,
    pub(super) settings: Settings,
}

/// How long the broker may take over the end of a stream.
const UNSUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(10);

impl Subscription {
    /// Runs until its consumer is gone.
    pub(super) async fn run(self) {
        let mut failures = 0;
        let mut failed_at = None;
        let mut wait = Duration::ZERO;
        // A nearby replica that failed is not asked before the leader has served.
        let mut by_leader = false;
        let mut repair_wait = RepairWait::default();
        let mut search = Search::new(self.settings.survivors);
        let mut survivor = None;
        loop {
            tokio::time::sleep(wait).await;
            let bearing = self.bearing().await;
            let (generation, position) = (bearing.generation, bearing.position.clone());
            let error = match self.open(bearing, failed_at, (by_leader, &mut search)).await {
                Ok((connection, stream, read_from)) => {
                    (failures, by_leader) = (0, false);
                    search.served();
                    if read_from.is_some() || survivor.is_some() {
                        survivor = read_from;
                        self.inbox.survives(self.slot, generation, survivor);
                    }
                    let ended = self.attend(&connection, stream, generation).await;
                    self.inbox.closed(self.slot);
                    match ended {
                        Some(error) => error,
                        None => {
                            (wait, failed_at) = (Duration::ZERO, None);
                            repair_wait.ends();
                            continue;
                        }
                    }
                }
                Err(error) => {
                    search.failed(&error, Instant::now());
                    error
                }
            };
            failures += 1;
            by_leader = self.settings.rack.is_some() && !by_leader;
            let now = Instant::now();
            failed_at = Some(now);
            if self.inbox.position(self.slot) != position {
                repair_wait.ends();
            }
            match repair_wait.refused(&error, self.settings.repair_patience, now) {
                Some(Patience::Left(refusals)) => {
                    // Its stream opens each time, and ends with the first read.
                    wait = self.cluster.backoff().draw(refusals, error.retry_after_ms());
                    if refusals == 1 {
                        tracing::warn!(topic = %self.source.topic, partition = %self.source.partition, %error, "a damaged range is waited for");
                    }
                }
                Some(Patience::Over) => self.inbox.fail(self.slot, generation, self.refused(error)),
                None => {
                    wait = self.cluster.backoff().draw(failures, error.retry_after_ms());
                    self.react(generation, error);
                }
            }
        }
    }

    /// Where to start; waits while the partition stands still.
    async fn bearing(&self) -> Bearing {
        loop {
            let bearing = self.inbox.bearing(self.slot);
            if !bearing.halted {
                return bearing;
            }
            self.changed.notified().await;
        }
    }

    async fn open(
        &self,
        bearing: Bearing,
        failed_at: Option<Instant>,
        (by_leader, search): (bool, &mut Search),
    ) -> Result<(Connection, CorrelationId, Option<Survivor>), ClientError> {
        let topic = self.source.topic.as_str();
        let image = match failed_at {
            Some(failed_at) => self.cluster.refreshed(topic, failed_at).await?,
            None => self.cluster.topic(topic).await?,
        };
        if self.topic_id.is_some_and(|topic_id| topic_id != image.id) {
            return Err(ClientError::UnknownTopic { topic: topic.into() });
        }
        let others = self.cluster.others(&image, self.source.partition);
        if let Turn::Survivor(broker) = search.turn(&others, Instant::now()) {
            return self.open_at_survivor(&image, broker, &bearing).await;
        }
        let rack = self.settings.rack.as_deref().filter(|_| !by_leader);
        let nearby = rack.and_then(|rack| self.cluster.nearby(&image, self.source.partition, rack));
        let is_nearby = nearby.is_some();
        let leader = image.partition(self.source.partition)?.leader;
        if let Some(leader) = leader.filter(|_| !is_nearby && self.may_be_adrift(failed_at)) {
            match self.open_at_survivor(&image, leader, &bearing).await {
                // It is in touch with a controller, or of a release that cannot be asked.
                Err(ClientError::Broker(_) | ClientError::Argument(_)) => {}
                opened => return opened,
            }
        }
        let server = match nearby {
            Some(nearby) => nearby,
            None => self.cluster.leader(&image, self.source.partition)?,
        };
        let connection = self.cluster.connection(&server.address, Purpose::Streams).await?;
        let request =
            SubscribeRequest { leader_epoch: Some(server.epoch), nearby: is_nearby, ..self.request(&image, &bearing) };
        let stream = self.subscribe(&connection, request, bearing.generation).await?;
        Ok((connection, stream, None))
    }

    /// Whether the leader is first asked as the others are: it may be out of touch with the controller by now, and then its end is not taken for
    /// that of the log. One that has just said where its log ends is not.
    fn may_be_adrift(&self, failed_at: Option<Instant>) -> bool {
        self.settings.survivors.is_some_and(|patience| failed_at.is_some() || patience.is_zero())
    }

    /// Reads on from another replica than the leader's, or from a leader that may have been replaced, where its broker says that it may be.
    async fn open_at_survivor(
        &self,
        image: &TopicImage,
        broker: BrokerId,
        bearing: &Bearing,
    ) -> Result<(Connection, CorrelationId, Option<Survivor>), ClientError> {
        let (place, end) = ((broker, &[self.source.partition][..]), [Position::LATEST]);
        let settled = self.cluster.settled_offsets(image, place, (&end, self.settings.isolation)).await?;
        let answers = settled.into_iter().next().transpose()?.unwrap_or_default();
        let end = answers.first().and_then(|answer| answer.offset).unwrap_or_default();
        let connection = self.cluster.connection(&self.cluster.known_address(broker)?, Purpose::Streams).await?;
        // Whatever leadership it knows of: what is settled under one is so under all.
        let request = SubscribeRequest { settled: true, ..self.request(image, bearing) };
        let stream = self.subscribe(&connection, request, bearing.generation).await?;
        Ok((connection, stream, Some(Survivor { broker, end })))
    }

    fn request(&self, image: &TopicImage, bearing: &Bearing) -> SubscribeRequest {
        SubscribeRequest {
            topic_id: image.id,
            partition: self.source.partition,
            position: bearing.position.clone(),
            leader_epoch: None,
            isolation: self.settings.isolation,
            credit_bytes: bearing.credit_bytes,
            item_bytes_max: self.settings.item_bytes,
            last_epoch: bearing.last_epoch,
            nearby: false,
            settled: false,
        }
    }

    async fn subscribe(
        &self,
        connection: &Connection,
        request: SubscribeRequest,
        generation: u64,
    ) -> Result<CorrelationId, ClientError> {
        let topic_id = request.topic_id;
        let intake = Intake { inbox: Arc::clone(&self.inbox), slot: self.slot, generation, topic_id };
        let (stream, answer) = connection.open_stream(&request, Arc::new(intake)).await?;
        if !self.inbox.opened(self.slot, generation, (connection.clone(), stream), answer.high_watermark) {
            end(connection, stream);
        }
        Ok(stream)
    }

    /// Waits until the stream is over; `None` where another shall be opened at once.
    async fn attend(&self, connection: &Connection, stream: CorrelationId, generation: u64) -> Option<ClientError> {
        let guard = EndsStream { connection, stream };
        loop {
            if let Some(verdict) = self.inbox.verdict(self.slot, generation) {
                return verdict;
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = connection.leaving() => {
                    // The broker asked to leave: wherever the partition is led next, the stream goes on there.
                    drop(guard);
                    let reason = "the broker is shutting down".into();
                    let address = connection.address().clone();
                    return Some(ClientError::Disconnected { address, reason });
                }
            }
        }
    }

    /// Lets the next try start where it shall; where none can help the program is told.
    fn react(&self, generation: u64, error: ClientError) {
        let failure = match error {
            ClientError::Broker(refusal) if refusal.code == ErrorCode::OffsetOutOfRange => {
                let position = match self.settings.out_of_range {
                    OutOfRange::Earliest => Position::EARLIEST,
                    OutOfRange::Latest => Position::LATEST,
                    OutOfRange::Fail => {
                        let (log_start, log_end) = refusal.range.unwrap_or_default();
                        let asked = self.inbox.position(self.slot).value;
                        let failure = ConsumeError::OffsetOutOfRange {
                            topic: self.source.topic.clone(),
                            partition: self.source.partition,
                            offset: Offset::from_signed(asked).unwrap_or_default(),
                            log_start,
                            log_end,
                        };
                        return self.inbox.fail(self.slot, generation, failure);
                    }
                };
                tracing::warn!(topic = %self.source.topic, partition = %self.source.partition, error = %refusal,
                    "goes on elsewhere, as the out-of-range policy says");
                return self.inbox.reposition(self.slot, generation, position);
            }
            ClientError::Broker(refusal) if refusal.code == ErrorCode::LogTruncated => {
                let (_, parts_at) = refusal.range.unwrap_or_default();
                if self.settings.out_of_range != OutOfRange::Fail {
                    tracing::warn!(topic = %self.source.topic, partition = %self.source.partition, error = %refusal,
                        "goes on where the logs part, as the out-of-range policy allows");
                    return self.inbox.part_at(self.slot, generation, parts_at);
                }
                let read = self.inbox.position(self.slot).value;
                ConsumeError::Truncated {
                    topic: self.source.topic.clone(),
                    partition: self.source.partition,
                    offset: Offset::from_signed(read).unwrap_or_default(),
                    parts_at,
                }
            }
            error if error.is_retriable() => {
                tracing::debug!(topic = %self.source.topic, partition = %self.source.partition, %error, "stream ended");
                return;
            }
            source => self.refused(source),
        };
        self.inbox.fail(self.slot, generation, failure);
    }

    /// The partition cannot be read.
    fn refused(&self, source: ClientError) -> ConsumeError {
        ConsumeError::Partition { topic: self.source.topic.clone(), partition: self.source.partition, source }
    }
}

/// Ends a stream that its subscription turned away from, also where the consumer was dropped.
struct EndsStream<'a> {
    connection: &'a Connection,
    stream: CorrelationId,
}

impl Drop for EndsStream<'_> {
    fn drop(&mut self) {
        end(self.connection, self.stream);
    }
}

/// Nobody waits for the answer: items that still come find no handler.
fn end(connection: &Connection, stream: CorrelationId) {
    connection.forget_stream(stream);
    let ignore = Ticket::Answered(Box::new(|_| {}));
    connection.submit(&UnsubscribeRequest { stream }, Bytes::new(), UNSUBSCRIBE_TIMEOUT, ignore);
}
