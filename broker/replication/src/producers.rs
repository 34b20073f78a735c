//! What a log knows of the idempotent producers that wrote to it: for each its epoch and its last batches (KIP-98, KIP-360). It is what the
//! batches of the log say, in their order, so every replica knows the same, and it is kept beside the log, so that retention takes nothing of
//! it. Knows nothing of files, leaders or acks; what a new batch means in its light, `sequencing` says.
//!
//! Time is the age of the log: milliseconds for which it was open. No clock that jumps can make it forget.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use tidelog_protocol::messages::{ProducerStanding, ProducersSnapshot, SequenceSpan};
use tidelog_protocol::records::BatchHeader;
use tidelog_protocol::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use crate::sequence;

/// So many batches of a producer are remembered: as many as it may have under way at once.
pub const BATCHES_REMEMBERED: usize = 5;

/// Where a log knows this many producers, new ones wait until others were silent for [`SILENCE_MS_MIN`].
pub const PRODUCERS_MAX: usize = 10_000;

/// For so long a producer may still send again what it sent last: nothing younger is ever forgotten.
pub const SILENCE_MS_MIN: u64 = 15 * 60 * 1_000;

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

/// What is known of one producer. Invariant: at least one batch, offsets rise.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Its newest epoch.
    pub epoch: ProducerEpoch,
    /// Age of the log when it was last heard of.
    seen_at_ms: u64,
    spans: [Span; BATCHES_REMEMBERED],
    count: usize,
}

impl Standing {
    const fn begun(epoch: ProducerEpoch, first: Span, seen_at_ms: u64) -> Self {
        let mut spans = [Span::NONE; BATCHES_REMEMBERED];
        spans[0] = first;
        Self { epoch, seen_at_ms, spans, count: 1 }
    }

    /// Its last batches under that epoch, oldest first.
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.spans[..self.count]
    }

    /// The last of them.
    #[must_use]
    pub const fn last(&self) -> &Span {
        &self.spans[self.count - 1]
    }

    /// The sequence that comes next.
    #[must_use]
    pub const fn expected(&self) -> Sequence {
        sequence::plus(self.last().last, 1)
    }

    fn push(&mut self, span: Span) {
        if span.base_offset <= self.last().base_offset {
            // Known already, from a leader that has told all it knows.
            return;
        }
        if self.count == BATCHES_REMEMBERED {
            self.spans.rotate_left(1);
            self.count -= 1;
        }
        self.spans[self.count] = span;
        self.count += 1;
    }
}

impl PartialEq for Standing {
    fn eq(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.spans() == other.spans()
    }
}
impl Eq for Standing {}

/// What a batch does to what is known of its producer.
pub(crate) fn advance(standing: &mut Option<Standing>, epoch: ProducerEpoch, span: Span, now_ms: u64) {
    match standing {
        Some(known) if known.epoch == epoch => {
            known.push(span);
            known.seen_at_ms = now_ms;
        }
        // A leader lets nothing of an older epoch in; what another program put there must not take the fence away.
        Some(known) if known.epoch > epoch => {}
        _ => *standing = Some(Standing::begun(epoch, span, now_ms)),
    }
}

/// All producers of one log.
#[derive(Clone, Debug)]
pub struct Producers {
    by_id: BTreeMap<ProducerId, Standing>,
    /// Every batch below was taken into account, and none at or above.
    end: Offset,
    age_ms: u64,
    forgotten_below: ProducerId,
}

impl Producers {
    /// Of a log that begins at `end` and never held anything.
    #[must_use]
    pub const fn new(end: Offset) -> Self {
        Self { by_id: BTreeMap::new(), end, age_ms: 0, forgotten_below: ProducerId(0) }
    }

    /// Of a log that held something before `end`, nobody knows what.
    #[must_use]
    pub const fn unknown(end: Offset) -> Self {
        Self { by_id: BTreeMap::new(), end, age_ms: 0, forgotten_below: ProducerId(i64::MAX) }
    }

    /// Up to where the log was taken into account.
    #[must_use]
    pub const fn end(&self) -> Offset {
        self.end
    }

    /// True where everything is known of every producer that is heard of.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.forgotten_below < ProducerId(i64::MAX)
    }

    /// Has this producer, of which nothing is known, certainly never written to the log?
    #[must_use]
    pub fn never_wrote(&self, producer: ProducerId) -> bool {
        producer >= self.forgotten_below && !self.by_id.contains_key(&producer)
    }

    /// What is known of a producer.
    #[must_use]
    pub fn standing(&self, producer: ProducerId) -> Option<&Standing> {
        self.by_id.get(&producer)
    }

    /// How many producers are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// True where none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The age of the log, in milliseconds of being open.
    #[must_use]
    pub const fn age_ms(&self) -> u64 {
        self.age_ms
    }

    /// The log has taken this batch, at its base offset. One that was taken into account before changes nothing.
    pub fn note(&mut self, header: &BatchHeader) {
        if header.base_offset < self.end {
            return;
        }
        self.end = header.next_offset();
        let id = header.producer_id;
        if id < ProducerId(0) || header.base_sequence < Sequence(0) {
            return;
        }
        let now_ms = self.age_ms;
        let span = Span::of(header, header.base_offset);
        match self.by_id.get_mut(&id) {
            Some(known) if known.epoch == header.producer_epoch => {
                known.push(span);
                known.seen_at_ms = now_ms;
            }
            known => {
                let mut standing = known.as_deref().copied();
                advance(&mut standing, header.producer_epoch, span, now_ms);
                if let Some(standing) = standing {
                    self.by_id.insert(id, standing);
                }
            }
        }
    }

    /// What lies between here and `end` cannot be read: it may be anybody's.
    pub const fn skip_to(&mut self, end: Offset) {
        if end.0 > self.end.0 {
            self.end = end;
            self.forgotten_below = ProducerId(i64::MAX);
        }
    }

    /// The log was open for so much longer.
    pub const fn elapse(&mut self, ms: u64) {
        self.age_ms = self.age_ms.saturating_add(ms);
    }

    /// Forgets producers that were silent for `silence_ms` (never less than [`SILENCE_MS_MIN`]) and of which nothing lies at or above
    /// `settled`: what they sent last is acknowledged or given up. Says how many.
    pub fn forget(&mut self, silence_ms: u64, settled: Offset) -> usize {
        let silence_ms = silence_ms.max(SILENCE_MS_MIN);
        let Some(before) = self.age_ms.checked_sub(silence_ms) else { return 0 };
        let known = self.by_id.len();
        let mut forgotten_below = self.forgotten_below;
        self.by_id.retain(|id, standing| {
            let kept = standing.seen_at_ms > before || standing.last().base_offset >= settled;
            if !kept {
                forgotten_below = forgotten_below.max(ProducerId(id.0.saturating_add(1)));
            }
            kept
        });
        self.forgotten_below = forgotten_below;
        known - self.by_id.len()
    }

    /// All of it, to be stored or sent.
    #[must_use]
    pub fn snapshot(&self) -> ProducersSnapshot {
        let span = |span: &Span| {
            let Span { first, last, base_offset, timestamp } = *span;
            SequenceSpan { first, last, base_offset, timestamp }
        };
        let standing = |(id, standing): (&ProducerId, &Standing)| ProducerStanding {
            producer_id: *id,
            epoch: standing.epoch,
            seen_at_ms: standing.seen_at_ms,
            batches: standing.spans().iter().map(span).collect(),
        };
        ProducersSnapshot {
            end: self.end,
            age_ms: self.age_ms,
            forgotten_below: self.forgotten_below,
            producers: self.by_id.iter().map(standing).collect(),
        }
    }

    /// As it was when the snapshot was made; `None` where it cannot be one.
    #[must_use]
    pub fn restored(snapshot: &ProducersSnapshot) -> Option<Self> {
        let mut by_id = BTreeMap::new();
        for standing in &snapshot.producers {
            let id = standing.producer_id;
            let known = restored(standing, snapshot.end).filter(|_| id >= ProducerId(0))?;
            if by_id.insert(id, known).is_some() {
                return None;
            }
        }
        let ProducersSnapshot { end, age_ms, forgotten_below, .. } = *snapshot;
        Some(Self { by_id, end, age_ms, forgotten_below })
    }

    /// For a replica that lacks what lies below its log, of which it knows what it holds: adds what the leader knows of that. The leader's
    /// word is younger than this end of the log; what it says of batches at or above comes with those batches. A producer of which it
    /// remembers nothing older may have written below all the same: nothing is proven of it until its batches come. `false` where the
    /// snapshot cannot be one.
    pub fn adopt(&mut self, theirs: &ProducersSnapshot) -> bool {
        let Some(theirs) = Self::restored(theirs) else { return false };
        let end = self.end;
        let mut forgotten_below = theirs.forgotten_below;
        for (id, standing) in theirs.by_id {
            let older: Vec<Span> = standing.spans().iter().copied().filter(|span| span.base_offset < end).collect();
            let mut known: Option<Standing> = None;
            for span in older {
                advance(&mut known, standing.epoch, span, self.age_ms);
            }
            match (known, self.by_id.get(&id)) {
                (Some(known), ours) if ours.is_none_or(|ours| ours.last().base_offset < known.last().base_offset) => {
                    self.by_id.insert(id, known);
                }
                (None, None) => forgotten_below = forgotten_below.max(ProducerId(id.0.saturating_add(1))),
                _ => {}
            }
        }
        self.forgotten_below = forgotten_below;
        true
    }
}

impl PartialEq for Producers {
    /// Whether they know the same, however old either is.
    fn eq(&self, other: &Self) -> bool {
        self.end == other.end && self.by_id == other.by_id && self.forgotten_below == other.forgotten_below
    }
}
impl Eq for Producers {}

fn restored(standing: &ProducerStanding, end: Offset) -> Option<Standing> {
    let span = |span: &SequenceSpan| {
        let SequenceSpan { first, last, base_offset, timestamp } = *span;
        (first >= Sequence(0) && last >= Sequence(0) && base_offset < end).then_some(Span {
            first,
            last,
            base_offset,
            timestamp,
        })
    };
    let (first, rest) = standing.batches.split_first()?;
    if rest.len() >= BATCHES_REMEMBERED || standing.epoch < ProducerEpoch(0) {
        return None;
    }
    let mut known = Standing::begun(standing.epoch, span(first)?, standing.seen_at_ms);
    for next in rest {
        let next = span(next).filter(|next| next.base_offset > known.last().base_offset)?;
        known.push(next);
    }
    Some(known)
}
