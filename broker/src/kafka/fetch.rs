//! Fetch: batches of many partitions as slices of the log, or a wait until there are enough. Errors end the wait at once. There are no fetch
//! sessions: every request names all that it reads, which is always legal.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::codec::Uuid;
use tidelog_protocol::kafka::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse};

use super::reading::{Place, failed};
use super::topics::{find, isolation, partition};
use super::{Asker, Handle};
use crate::budget::Lent;
use crate::node::Node;

/// Most bytes of one answer, whatever is asked for: all of it waits for its client at once.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Longest wait, whatever is asked for.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// What waiting for one partition takes, in bytes.
const PLACE_BYTES: usize = 256;
/// A request may wait for so many without memory of the budget: what any connection holds is more.
const PLACES_FREE: usize = 16;
/// One request waits with no more than this part of the memory for streams.
const WAIT_SHARE: u64 = 16;
/// Whoever cannot wait here asks again after so long.
const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Handle for FetchRequest {
    async fn handle(self, node: &Arc<Node>, asker: &Asker) -> FetchResponse {
        if self.session_id != 0 {
            let error_code = KafkaError::FetchSessionIdNotFound.code();
            return FetchResponse { error_code, ..Default::default() };
        }
        let wait = Duration::from_millis(self.max_wait_ms.max(0) as u64).min(WAIT_MAX);
        let until = asker.arrived + wait;
        let least = usize::try_from(self.min_bytes).unwrap_or(0);
        let most = usize::try_from(self.max_bytes).unwrap_or(0).clamp(1, ANSWER_BYTES_MAX);
        let mut topics = places(node, self);
        let places = topics.iter().map(|topic| topic.places.len()).sum();
        let mut room = None;
        let mut lease = node.lease.standing();
        let had_lease = lease.borrow_and_update().holds;
        loop {
            let (responses, bytes, is_urgent) = read(&mut topics, most).await;
            let is_over = Instant::now() >= until || node.draining.is_cancelled();
            let is_answer = bytes >= least || is_urgent || is_over || places == 0;
            if !is_answer && room.is_none() {
                room = room_to_wait(node, places);
            }
            if is_answer || room.is_none() {
                let mut responses = responses;
                count(&topics, &responses);
                if bytes == 0 && !had_lease && !lease.borrow().holds {
                    // Another may lead by now, and would not be heard of: whoever reads here looks who does.
                    disown(&topics, &mut responses);
                }
                let pause = if is_answer { Duration::ZERO } else { wait.min(ASK_AGAIN) };
                return FetchResponse { responses, throttle_time_ms: pause.as_millis() as i32, ..Default::default() };
            }
            let _parked = asker.parks();
            tokio::select! {
                biased;
                () = asker.client.session.closed.cancelled() => return FetchResponse::default(),
                () = any_changed(&mut topics) => {}
                () = node.draining.cancelled() => {}
                () = tokio::time::sleep_until(until.into()) => {}
            }
        }
    }
}

/// Memory to wait for so many partitions, where they are so many that it matters. It is of what streams have, which wait for the same.
/// `None` where there is too little: the client is to ask again.
fn room_to_wait(node: &Node, places: usize) -> Option<Option<Lent>> {
    if places <= PLACES_FREE {
        return Some(None);
    }
    let (pool, bytes) = (&node.budget.streams, places.saturating_mul(PLACE_BYTES));
    let is_too_much = bytes as u64 > pool.size_bytes() / WAIT_SHARE;
    let lent = if is_too_much { None } else { pool.try_lend(bytes) };
    lent.map(Some)
}

/// What is read of a topic.
struct Topic {
    name: String,
    id: Uuid,
    /// Where a partition cannot be read, its index and why.
    places: Vec<Result<Place, (i32, KafkaError)>>,
}

fn places(node: &Arc<Node>, request: FetchRequest) -> Vec<Topic> {
    let image = node.controllers.image();
    let isolation = isolation(request.isolation_level);
    let of_topic = |asked: tidelog_protocol::kafka::fetch::FetchTopic| {
        let topic = find(&image, asked.topic_id, &asked.topic);
        let places = asked.partitions.into_iter().map(|place| {
            let index = place.partition;
            let (handle, _) = partition(node, &topic, index).map_err(|error| (index, error))?;
            Ok(Place::new(handle, place, isolation))
        });
        Topic { places: places.collect(), name: asked.topic, id: asked.topic_id }
    };
    // A topic of which nothing is asked is not answered, and whatever its name is, it is not kept.
    request.topics.into_iter().filter(|topic| !topic.partitions.is_empty()).map(of_topic).collect()
}

/// What there is: the answers, how many bytes of batches they have, and whether the client must hear of something at once.
async fn read(topics: &mut [Topic], most: usize) -> (Vec<FetchableTopicResponse>, usize, bool) {
    let (mut bytes, mut is_urgent) = (0, false);
    let mut responses = Vec::with_capacity(topics.len());
    for topic in topics {
        let mut partitions = Vec::with_capacity(topic.places.len());
        for place in &mut topic.places {
            let data = match place {
                Err((index, error)) => failed(*index, *error),
                Ok(place) => {
                    let data = place.read(most.saturating_sub(bytes)).await;
                    bytes += data.records.as_ref().map_or(0, bytes::Bytes::len);
                    data
                }
            };
            is_urgent |= data.error_code != KafkaError::None.code() || data.diverging_epoch.epoch >= 0;
            partitions.push(data);
        }
        responses.push(FetchableTopicResponse { topic: topic.name.clone(), topic_id: topic.id, partitions });
    }
    (responses, bytes, is_urgent)
}

/// Waits until any of the partitions has published something.
async fn any_changed(topics: &mut [Topic]) {
    let places = topics.iter_mut().flat_map(|topic| topic.places.iter_mut().flatten());
    let mut waits: Vec<Pin<Box<dyn Future<Output = ()> + Send + '_>>> =
        places.map(|place| Box::pin(place.changed()) as _).collect();
    poll_fn(|context| {
        let is_any = waits.iter_mut().any(|wait| wait.as_mut().poll(context).is_ready());
        if is_any { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Counts what leaves.
fn count(topics: &[Topic], responses: &[FetchableTopicResponse]) {
    for (topic, response) in topics.iter().zip(responses) {
        for (place, data) in topic.places.iter().zip(&response.partitions) {
            if let (Ok(place), Some(records)) = (place, &data.records) {
                place.count(records.len());
            }
        }
    }
}

/// Says of what others may lead that this broker does not.
fn disown(topics: &[Topic], responses: &mut [FetchableTopicResponse]) {
    for (topic, response) in topics.iter().zip(responses) {
        for (place, data) in topic.places.iter().zip(&mut response.partitions) {
            if place.as_ref().is_ok_and(Place::has_peers) {
                *data = failed(data.partition_index, KafkaError::NotLeaderOrFollower);
            }
        }
    }
}
