//! How the compaction of a log is: how much there is to do, when it was done last, what happens now, and why it does not get on. Part of
//! DescribeTopics.

use crate::ids::Timestamp;
use crate::{message, wire_enum};

wire_enum! {
    /// What compaction does with a log now.
    pub enum CompactionStage {
        /// Nothing: not enough is dirty, or others come first.
        0 Idle,
        /// It learns the last offset of each key in what is dirty.
        1 Learning,
        /// It writes segments anew.
        2 Rewriting,
        /// It failed, and is tried again later.
        3 Waiting,
    }
}

message! {
    /// How the compaction of a log is.
    pub struct CompactionState {
        /// Bytes that could be cleaned and were not.
        1 dirty_bytes: u64,
        /// Bytes that were cleaned. What is in the active segment, or younger than the topic's lag, is neither.
        1 clean_bytes: u64,
        /// When a pass over it ended last; absent where none is known of.
        1 cleaned_at: Option<Timestamp>,
        /// What it does now.
        1 stage: CompactionStage,
        /// Which segment of the stage it is at, from 1 on; 0 where there is none.
        1 segment: u32,
        /// How many segments the stage has.
        1 segments: u32,
        /// Passes in a row that failed.
        1 failures: u32,
        /// Why the last of them did; absent once one succeeds.
        1 last_error: Option<String>,
        /// When it is tried again, in milliseconds from now; 0 where nothing waits.
        1 retry_in_ms: u32,
    }
}

impl CompactionState {
    /// What part of it is dirty, from 0 to 1.
    #[must_use]
    pub fn dirty_ratio(&self) -> f64 {
        let all = self.clean_bytes.saturating_add(self.dirty_bytes);
        if all == 0 { 0.0 } else { self.dirty_bytes as f64 / all as f64 }
    }
}
