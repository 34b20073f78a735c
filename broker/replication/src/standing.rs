//! What a log knows of one producer: its newest epoch, its last batches under it, and the transaction that it has open (KIP-98, KIP-360, KIP-890).
//! Knows nothing of other producers, nor of what a new batch means in its light.

use tidelog_protocol::records::BatchHeader;
use tidelog_protocol::{Offset, ProducerEpoch, Sequence, Timestamp};

use crate::flaws::{Flaw, Flaws};
use crate::sequence;

/// So many batches of a producer are remembered: as many as it may have under way at once.
pub const BATCHES_REMEMBERED: usize = 5;

/// A batch of a producer in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Sequence of its first record.
    pub first: Sequence,
    /// Sequence of its last record.
    pub last: Sequence,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Its largest timestamp.
    pub timestamp: Timestamp,
}

impl Span {
    const NONE: Self =
        Self { first: Sequence::NONE, last: Sequence::NONE, base_offset: Offset::ZERO, timestamp: Timestamp::NONE };

    /// The batch of this header, at `base_offset`.
    #[must_use]
    pub const fn of(header: &BatchHeader, base_offset: Offset) -> Self {
        Self {
            first: header.base_sequence,
            last: sequence::last_of(header),
            base_offset,
            timestamp: header.max_timestamp,
        }
    }

    /// Offset of the record of this sequence, if the batch holds it.
    #[must_use]
    pub fn offset_of(&self, wanted: Sequence) -> Option<Offset> {
        let within = sequence::distance(self.first, wanted);
        (within <= sequence::distance(self.first, self.last)).then(|| self.base_offset.plus(within.into()))
    }
}

/// Something of a producer that comes into a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Records.
    Batch { epoch: ProducerEpoch, span: Span, transactional: bool },
    /// A marker: what an earlier epoch has open ends, or its own, and those before its own are fenced.
    Marker { epoch: ProducerEpoch, offset: Offset },
}

impl Step {
    /// What the batch of this header is, at `base_offset`.
    pub(crate) const fn of(header: &BatchHeader, base_offset: Offset) -> Self {
        let epoch = header.producer_epoch;
        if header.attributes.is_control() {
            return Self::Marker { epoch, offset: base_offset };
        }
        let transactional = header.attributes.is_transactional();
        Self::Batch { epoch, span: Span::of(header, base_offset), transactional }
    }

    pub(crate) const fn epoch(&self) -> ProducerEpoch {
        match self {
            Self::Batch { epoch, .. } | Self::Marker { epoch, .. } => *epoch,
        }
    }

    pub(crate) const fn offset(&self) -> Offset {
        match self {
            Self::Batch { span, .. } => span.base_offset,
            Self::Marker { offset, .. } => *offset,
        }
    }
}

/// A transaction of which no marker stands in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Open {
    /// Offset of its first record.
    pub first: Offset,
    /// Age of the log when that came.
    pub since_ms: u64,
}

/// What is known of one producer. Invariant: offsets rise, and none lies above [`Standing::heard_at`].
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Its newest epoch: one that it wrote under, or that a marker told of.
    pub epoch: ProducerEpoch,
    /// Age of the log when it was last heard of.
    pub(crate) seen_at_ms: u64,
    heard_at: Offset,
    open: Option<Open>,
    spans: [Span; BATCHES_REMEMBERED],
    count: usize,
}

impl Standing {
    /// Nothing but the epoch, told of at `heard_at`.
    pub(crate) const fn fence(epoch: ProducerEpoch, heard_at: Offset, seen_at_ms: u64) -> Self {
        Self { epoch, seen_at_ms, heard_at, open: None, spans: [Span::NONE; BATCHES_REMEMBERED], count: 0 }
    }

    /// As the first thing that is heard of it leaves it.
    pub(crate) fn begun(step: Step, now_ms: u64) -> Self {
        let mut standing = Self::fence(step.epoch(), step.offset(), now_ms);
        if let Step::Batch { span, transactional, .. } = step {
            standing.push(span, transactional, now_ms);
        }
        standing
    }

    /// Its last batches under that epoch, oldest first.
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.spans[..self.count]
    }

    /// The last of them; none where only a marker told of the epoch.
    #[must_use]
    pub fn last(&self) -> Option<&Span> {
        self.spans().last()
    }

    /// The sequence that comes next.
    #[must_use]
    pub fn expected(&self) -> Sequence {
        self.last().map_or(Sequence(0), |last| sequence::plus(last.last, 1))
    }

    /// The transaction that it has open.
    #[must_use]
    pub const fn open(&self) -> Option<Open> {
        self.open
    }

    /// Does it write within transactions? Only such a producer has one open, or was told of by a marker and has written nothing since. No leader
    /// takes anything else of it from then on; where one of an earlier release did, that is what is known of it. Of one that keeps its epoch from
    /// one transaction to the next it is not known between two.
    #[must_use]
    pub const fn is_transactional(&self) -> bool {
        self.open.is_some() || self.count == 0
    }

    /// Has it nothing open, and does nothing of it lie at or above `settled`?
    pub(crate) fn is_settled(&self, settled: Offset) -> bool {
        self.heard_at < settled && self.open.is_none()
    }

    /// Was nothing but batches of the first epoch ever heard of it, neither a later one nor a marker?
    pub(crate) fn knows_only_its_first_epoch(&self) -> bool {
        self.epoch == ProducerEpoch(0) && self.last().is_some_and(|last| last.base_offset == self.heard_at)
    }

    /// Is one of its last batches part of a transaction? The one that is open takes in all that was written since it began, and what an epoch has
    /// open ends with the epoch: so nothing before is part of any.
    #[must_use]
    pub fn is_within(&self, span: &Span) -> bool {
        self.open.is_some_and(|open| span.base_offset >= open.first)
    }

    /// Offset of its last batch or marker.
    #[must_use]
    pub const fn heard_at(&self) -> Offset {
        self.heard_at
    }

    /// Something more of it comes into the log.
    pub(crate) fn take(&mut self, step: Step, now_ms: u64, flaws: Flaws) {
        let is_marker = matches!(step, Step::Marker { .. });
        if is_marker && flaws.has(Flaw::MarkerEndsLaterTransaction) {
            self.open = None;
        }
        if step.epoch() < self.epoch {
            // A leader lets nothing of an older epoch in; what another program put there must not take the fence away.
            return;
        }
        if step.epoch() > self.epoch {
            *self = Self::begun(step, now_ms);
            return;
        }
        match step {
            Step::Batch { span, transactional, .. } if self.count == 0 || span.base_offset > self.heard_at => {
                self.push(span, transactional, now_ms);
            }
            // Its producer goes on under the same epoch, with the numbers that come next. Where nothing is open it stood already.
            Step::Marker { offset, .. } if self.open.is_some() && offset > self.heard_at => {
                self.open = None;
                self.heard_at = offset;
                self.seen_at_ms = now_ms;
            }
            Step::Batch { .. } | Step::Marker { .. } => {}
        }
    }

    /// As a snapshot says.
    pub(crate) fn remember(&mut self, heard_at: Offset, open: Option<Open>) {
        self.heard_at = self.heard_at.max(heard_at);
        self.open = open;
    }

    fn push(&mut self, span: Span, transactional: bool, now_ms: u64) {
        if self.count == BATCHES_REMEMBERED {
            self.spans.rotate_left(1);
            self.count -= 1;
        }
        self.spans[self.count] = span;
        self.count += 1;
        self.heard_at = self.heard_at.max(span.base_offset);
        self.seen_at_ms = now_ms;
        if transactional && self.open.is_none() {
            self.open = Some(Open { first: span.base_offset, since_ms: now_ms });
        }
    }
}

impl PartialEq for Standing {
    /// Whether they know the same, however old either is.
    fn eq(&self, other: &Self) -> bool {
        let first = |standing: &Self| standing.open.map(|open| open.first);
        (self.epoch, self.heard_at, first(self), self.spans())
            == (other.epoch, other.heard_at, first(other), other.spans())
    }
}
impl Eq for Standing {}

/// What a step makes of what is known of its producer.
pub(crate) fn advance(standing: &mut Option<Standing>, step: Step, now_ms: u64, flaws: Flaws) {
    match standing {
        Some(known) => known.take(step, now_ms, flaws),
        None => *standing = Some(Standing::begun(step, now_ms)),
    }
}
