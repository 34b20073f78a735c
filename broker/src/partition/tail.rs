//! The offsets that an owner publishes. A reader that has seen a tail may read everything below its ends. Knows nothing of who
//! waits.

use tidelog_protocol::{LeaderEpoch, Offset, WireError};

/// What is published of a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tail {
    /// First offset that can be read.
    pub log_start: Offset,
    /// First offset of the oldest open transaction, capped by the high watermark.
    pub last_stable: Offset,
    /// First offset that consumers cannot read yet.
    pub high_watermark: Offset,
    /// Next offset to be written.
    pub log_end: Offset,
    /// Every replica is known to have everything below on its disk, those that are not in sync, too; below, they are known not to need what was
    /// deleted. A replica that follows says so of what is settled: who is behind is asked to begin anew.
    pub common_end: Offset,
    /// The leadership.
    pub leader_epoch: LeaderEpoch,
    /// Where its log began to be led here, if it is. What was acknowledged before lies below it, but the high watermark of a new leader may
    /// still lie below that.
    pub led_from: Offset,
    /// Whether it is led here. A replica that follows serves those who are content with a nearby one.
    pub leads: bool,
    /// Whether other brokers hold replicas, from which damage here is repaired.
    pub has_peers: bool,
    /// Whether the disk failed here: until the broker starts again nobody can count on what there is.
    pub is_broken: bool,
    /// Why nothing is served any more.
    pub ended: Option<WireError>,
    /// Why not even what is settled is served: its log is closed, deleted or broken.
    pub closed: Option<WireError>,
}

impl Tail {
    /// Whether the high watermark is above all that any leader before has acknowledged. Where it is not, it may be lower than what was
    /// said before, and an end that is told from it would leave out what was acknowledged.
    #[must_use]
    pub fn knows_end(&self) -> bool {
        self.high_watermark >= self.led_from
    }
}
