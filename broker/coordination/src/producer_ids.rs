//! Producer ids: each is given out once in the life of the cluster, in blocks, so that brokers need not ask for every producer. What a broker
//! has not given out when it stops is lost, and so is a block whose answer is. Knows nothing of what producers do with them.

use alloc::format;
use alloc::vec;

use tidelog_protocol::{BrokerId, ErrorCode, ProducerId};

use crate::command::{Refusal, Reply};
use crate::controller::Decided;
use crate::image::ClusterImage;
use crate::records::ProducerIdBlock;

/// How many ids a broker gets at once.
pub const BLOCK: u32 = 1_000;

/// The next block, for `broker_id`.
pub(crate) fn allocate(image: &ClusterImage, broker_id: BrokerId) -> Result<Decided, Refusal> {
    if image.broker(broker_id).is_none() {
        let sentence = format!("broker {broker_id} is not registered");
        return Err(Refusal::new(ErrorCode::UnknownBroker, sentence));
    }
    let first = image.next_producer_id();
    let Some(end) = first.0.checked_add(i64::from(BLOCK)) else {
        return Err(Refusal::new(ErrorCode::Internal, "all producer ids are given out"));
    };
    let record = ProducerIdBlock { broker_id, first, end: ProducerId(end) };
    Ok((vec![record.into()], Reply::ProducerIds { first, count: BLOCK }))
}
