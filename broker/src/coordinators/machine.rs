//! What a coordinator's driver needs of a machine. Knows nothing of any one machine, nor of the log.

use std::sync::Arc;

use tidelog_coordination::salvage::Remains;
use tidelog_coordination::{ClusterImage, Refusal};
use tidelog_protocol::{Monotonic, Timestamp};

use super::shard::Shard;
use crate::node::Node;

/// A key, and what holds for it from now on; `None` where nothing does any more.
pub(crate) type KeyValue = (Vec<u8>, Option<Vec<u8>>);

/// What a machine decides on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment<'a> {
    /// The metadata.
    pub(crate) image: &'a ClusterImage,
    /// For how long something takes.
    pub(crate) now: Monotonic,
    /// For people, and for what one broker notes and another reads.
    pub(crate) wall: Timestamp,
}

/// The pure rules of a coordinator, over the records of one partition. Only `replay` changes what is durable; what else it notes is lost
/// when another broker takes over.
pub(crate) trait Machine: Send + 'static {
    /// What can be asked.
    type Command: Send + Sync;
    /// The answer.
    type Reply: Send;
    /// What is stored.
    type Record: Send + 'static;

    /// Empty.
    fn new() -> Self;

    /// Decides: records to be stored all together, and the reply, which may leave once they are.
    ///
    /// # Errors
    /// What the rules say. Nothing is to be stored then.
    fn decide(
        &mut self,
        command: &Self::Command,
        moment: Moment<'_>,
    ) -> Result<(Vec<Self::Record>, Self::Reply), Refusal>;

    /// What is due though nobody asked.
    fn expire(&mut self, moment: Moment<'_>) -> Vec<Self::Record>;

    /// Takes in what is stored.
    fn replay(&mut self, record: &Self::Record);

    /// The whole log was taken in.
    fn loaded(&mut self, now: Monotonic, wall: Timestamp);

    /// This broker was away for so long that silence says nothing: whoever is waited for may have spoken. What has its time whoever speaks goes on.
    fn forgive(&mut self, _now: Monotonic) {}

    /// Starts what works beside a shard for as long as it leads.
    fn accompany(_shard: &Arc<Shard<Self>>, _node: &Arc<Node>)
    where
        Self: Sized,
    {
    }

    /// What is written anew of a log of which a part is lost for good.
    fn salvage(remains: Remains<Self::Record>, wall: Timestamp) -> Vec<Self::Record>;

    /// A record as the log holds it.
    fn to_log(record: &Self::Record) -> KeyValue;

    /// A record of the log.
    ///
    /// # Errors
    /// Why it cannot be read; a later release may have written it.
    fn from_log(key: &[u8], value: Option<&[u8]>) -> Result<Self::Record, String>;
}
