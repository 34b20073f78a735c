//! The offsets of one partition on one replica and the order they always stand in. Knows nothing of who moves them.

use tidelog_protocol::Offset;

/// The offsets of a partition, by name. Upper ends are exclusive. [`PartitionOffsets`] vouches for their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ends {
    /// First offset that can be read.
    pub log_start: Offset,
    /// First offset of the oldest open transaction, capped by the high watermark.
    pub last_stable: Offset,
    /// First offset not yet on all in-sync replicas; consumers read below it.
    pub high_watermark: Offset,
    /// Next offset that is not durable here yet.
    pub flushed_end: Offset,
    /// Next offset that is not in the log's page cache here yet.
    pub written_end: Offset,
    /// Next offset to be assigned.
    pub log_end: Offset,
}

/// The offsets of a partition, where always
/// `log_start ≤ last_stable ≤ high_watermark ≤ log_end`, `flushed_end ≤ written_end ≤ log_end` and `high_watermark ≤ written_end`.
/// The watermark may lie above the flushed end: durability `written` allows it.
///
/// # Panics
/// Every transition asserts that order, and that each offset moves only the way it may: a breach is a bug of ours, and going
/// on would acknowledge what is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PartitionOffsets(Ends);

impl PartitionOffsets {
    /// The one way to make them.
    ///
    /// # Panics
    /// Where `ends` do not stand in order.
    #[must_use]
    pub fn new(ends: Ends) -> Self {
        assert!(ends.log_start <= ends.last_stable, "log start above last stable offset: {ends:?}");
        assert!(ends.last_stable <= ends.high_watermark, "last stable offset above high watermark: {ends:?}");
        assert!(ends.high_watermark <= ends.written_end, "high watermark above written end: {ends:?}");
        assert!(ends.flushed_end <= ends.written_end, "flushed end above written end: {ends:?}");
        assert!(ends.written_end <= ends.log_end, "written end above log end: {ends:?}");
        Self(ends)
    }

    /// As recovery found a log: nothing assigned beyond what stands in it. `high_watermark` is the remembered one, clamped into
    /// the log, because a checkpoint may be older than a deletion or newer than a torn tail.
    #[must_use]
    pub fn recovered(log_start: Offset, high_watermark: Offset, flushed_end: Offset, log_end: Offset) -> Self {
        let high_watermark = high_watermark.clamp(log_start, log_end);
        Self::new(Ends {
            log_start,
            last_stable: high_watermark,
            high_watermark,
            flushed_end,
            written_end: log_end,
            log_end,
        })
    }

    /// All of them at once.
    #[must_use]
    pub const fn ends(&self) -> Ends {
        self.0
    }

    /// First offset that can be read.
    #[must_use]
    pub const fn log_start(&self) -> Offset {
        self.0.log_start
    }

    /// First offset that a reader of committed transactions cannot read.
    #[must_use]
    pub const fn last_stable(&self) -> Offset {
        self.0.last_stable
    }

    /// First offset that consumers cannot read yet.
    #[must_use]
    pub const fn high_watermark(&self) -> Offset {
        self.0.high_watermark
    }

    /// Next offset that is not durable here yet.
    #[must_use]
    pub const fn flushed_end(&self) -> Offset {
        self.0.flushed_end
    }

    /// Next offset that is not written here yet.
    #[must_use]
    pub const fn written_end(&self) -> Offset {
        self.0.written_end
    }

    /// Next offset to be assigned.
    #[must_use]
    pub const fn log_end(&self) -> Offset {
        self.0.log_end
    }

    /// Offsets up to `log_end` are assigned to records that are about to be written.
    pub fn assign(&mut self, log_end: Offset) {
        assert!(log_end > self.0.log_end, "an append assigns at least one offset: {log_end} after {self:?}");
        *self = Self::new(Ends { log_end, ..self.0 });
    }

    /// The write failed without a trace: offsets above the written end are free again.
    pub fn unassign(&mut self) {
        *self = Self::new(Ends { log_end: self.0.written_end, ..self.0 });
    }

    /// The log holds everything below `end`.
    pub fn written(&mut self, end: Offset) {
        assert!(end >= self.0.written_end, "written end moves back to {end}: {self:?}");
        *self = Self::new(Ends { written_end: end, ..self.0 });
    }

    /// Everything below `end` is durable. A completion that was overtaken by a later one changes nothing.
    pub fn flushed(&mut self, end: Offset) {
        *self = Self::new(Ends { flushed_end: end.max(self.0.flushed_end), ..self.0 });
    }

    /// The same for whoever reads what is committed, where the oldest transaction that is not settled begins at `first_unstable`. What was deleted
    /// of it is not waited for.
    #[must_use]
    pub fn held_back(self, first_unstable: Option<Offset>) -> Self {
        let Ends { log_start, high_watermark, .. } = self.0;
        let last_stable = first_unstable.unwrap_or(high_watermark).clamp(log_start, high_watermark);
        Self::new(Ends { last_stable, ..self.0 })
    }

    /// The watermark moves to `to`; never back. With no transaction open the last stable offset moves with it.
    pub fn raise_watermark(&mut self, to: Offset) {
        assert!(to >= self.0.high_watermark, "high watermark moves back to {to}: {self:?}");
        *self = Self::new(Ends { high_watermark: to, last_stable: to, ..self.0 });
    }

    /// A follower's log was cut at `end`, because its leader's parts from it there. Where settled records were among what was cut (after
    /// a loss that the topic's durability allows, or an unclean election) the watermark goes back with it.
    pub fn truncated(&mut self, end: Offset) {
        assert!(end >= self.0.log_start, "a cut below the log start at {end}: {self:?}");
        let ends = self.0;
        *self = Self::new(Ends {
            log_start: ends.log_start,
            last_stable: ends.last_stable.min(end),
            high_watermark: ends.high_watermark.min(end),
            flushed_end: ends.flushed_end.min(end),
            written_end: ends.written_end.min(end),
            log_end: ends.written_end.min(end),
        });
    }

    /// A follower's log was emptied and goes on at `at`, because its leader's begins there.
    pub fn restarted(&mut self, at: Offset) {
        *self = Self::recovered(at, at, at, at);
    }

    /// Everything below `to` is gone by retention or on request; a lower `to` changes nothing.
    pub fn raise_log_start(&mut self, to: Offset) {
        *self = Self::new(Ends { log_start: to.max(self.0.log_start), ..self.0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_ten() -> PartitionOffsets {
        PartitionOffsets::recovered(Offset(2), Offset(5), Offset(10), Offset(10))
    }

    #[test]
    fn an_append_is_assigned_then_written_then_flushed_then_readable() {
        let mut offsets = at_ten();
        offsets.assign(Offset(15));
        offsets.written(Offset(15));
        offsets.flushed(Offset(13));
        offsets.raise_watermark(Offset(13));
        let expected = Ends {
            log_start: Offset(2),
            last_stable: Offset(13),
            high_watermark: Offset(13),
            flushed_end: Offset(13),
            written_end: Offset(15),
            log_end: Offset(15),
        };
        assert_eq!(offsets.ends(), expected);
    }

    #[test]
    fn the_oldest_unsettled_transaction_holds_the_last_stable_offset_back_and_nothing_else() {
        let offsets = at_ten();
        let stable = |first: Option<u64>| offsets.held_back(first.map(Offset)).last_stable();
        assert_eq!([None, Some(4), Some(9), Some(1)].map(stable), [5, 4, 5, 2].map(Offset));
        assert_eq!(offsets.held_back(Some(Offset(4))).high_watermark(), Offset(5));
    }

    #[test]
    fn a_failed_write_frees_its_offsets() {
        let mut offsets = at_ten();
        offsets.assign(Offset(15));
        offsets.unassign();
        assert_eq!(offsets, at_ten());
    }

    #[test]
    fn a_remembered_watermark_outside_the_log_is_clamped() {
        let after_torn_tail = PartitionOffsets::recovered(Offset(0), Offset(9), Offset(7), Offset(7));
        assert_eq!(after_torn_tail.high_watermark(), Offset(7));
        let after_retention = PartitionOffsets::recovered(Offset(8), Offset(3), Offset(9), Offset(9));
        assert_eq!(after_retention.high_watermark(), Offset(8));
    }

    #[test]
    #[should_panic(expected = "high watermark moves back")]
    fn the_watermark_never_moves_back() {
        at_ten().raise_watermark(Offset(4));
    }

    #[test]
    #[should_panic(expected = "high watermark above written end")]
    fn the_watermark_never_passes_what_is_written() {
        let mut offsets = at_ten();
        offsets.assign(Offset(15));
        offsets.raise_watermark(Offset(11));
    }

    #[test]
    #[should_panic(expected = "flushed end above written end")]
    fn nothing_unwritten_is_flushed() {
        at_ten().flushed(Offset(11));
    }

    #[test]
    #[should_panic(expected = "log start above last stable")]
    fn the_log_start_never_passes_the_watermark() {
        at_ten().raise_log_start(Offset(6));
    }

    #[test]
    #[should_panic(expected = "written end moves back")]
    fn the_written_end_never_moves_back() {
        at_ten().written(Offset(9));
    }
}
