//! Consumer groups with server-side assignment (the model of KIP-848), pure: one [`Groups`] holds the groups of one partition of the
//! internal topic. Knows nothing of the log that holds its records, nor of connections; the time comes as an argument.
//!
//! In the order a heartbeat meets them:
//! - [`command`]: what can be asked for, what comes back, and the limits.
//! - [`records`]: what is written, keyed for compaction: the state is the latest value of each key and nothing else.
//!
//! What drives it owes it this:
//! - **Records in order, before the next call**: the records of a decision are replayed (or the whole machine is thrown away and
//!   rebuilt from the log) before `handle` or `expire` is called again; those of one group are stored all together or not at all.
//! - **Answers wait**: an answer, a refusal too, leaves once every record replayed until then is stored: it may speak of them.
//! - **The image has caught up**: with the metadata by which this broker leads the partition, at least. Offsets of topics that it
//!   does not know are dropped as those of deleted ones.
//!
//! What a member owes it, so that no two ever work on one partition:
//! - A partition counts as owned from the answer that gives it until the member has let go of it; `owned` in a heartbeat is what it
//!   owns as that heartbeat is sent. It stands in the first heartbeat after each answer that says what it may own.
//! - It lets go of everything once a session passed since it *sent* the last heartbeat that was answered, once its rebalance
//!   timeout passed since it sent the last one whose answer took nothing from it, and when it is told that it is no member any more.
//! - A new life of the process, and whoever left, comes under a new member id.

pub mod command;
pub mod records;

use tidelog_protocol::{Monotonic, Offset, PartitionId, Timestamp, TopicId};

use alloc::vec::Vec;

use crate::command::Refusal;
use crate::image::ClusterImage;
pub use command::{Bounds, GroupCommand, GroupDecision, GroupLimits, GroupReply};
pub use records::{GroupRecord, RecordError};

/// The groups of one partition of the internal topic.
#[derive(Clone, Debug)]
pub struct Groups {
    limits: GroupLimits,
}

impl Groups {
    /// None yet.
    #[must_use]
    pub const fn new(limits: GroupLimits) -> Self {
        Self { limits }
    }

    /// Decides on `command`. Changes soft state only: who was heard of when. All else changes by replay alone.
    ///
    /// # Errors
    /// [`Refusal`] with a code of the wire's table.
    pub fn handle(
        &mut self,
        command: &GroupCommand,
        image: &ClusterImage,
        now: Monotonic,
        wall: Timestamp,
    ) -> Result<GroupDecision, Refusal> {
        let _ = (command, image, now, wall, &self.limits);
        Err(Refusal::new(tidelog_protocol::ErrorCode::Unsupported, "not yet"))
    }

    /// What the passing of time and the image bring about: sessions and rebalance timeouts that ended, topics that came, grew or were
    /// deleted. To be called about every 100 ms; costs next to nothing while nothing is due.
    pub fn expire(&mut self, image: &ClusterImage, now: Monotonic) -> Vec<GroupRecord> {
        let _ = (image, now);
        Vec::new()
    }

    /// Applies a stored record.
    pub fn replay(&mut self, record: &GroupRecord) {
        let _ = record;
    }

    /// The whole log was replayed: everyone gets a whole session from `now`.
    pub fn loaded(&mut self, now: Monotonic) {
        let _ = now;
    }

    /// How far a group has come.
    #[must_use]
    pub fn committed(&self, group: &str, topic: TopicId, partition: PartitionId) -> Option<Offset> {
        let _ = (group, topic, partition);
        None
    }
}
