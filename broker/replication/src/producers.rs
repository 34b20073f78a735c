//! What a log knows of the idempotent producers that wrote to it: for each its epoch, its last batches and its open transaction (KIP-98, KIP-360).
//! It is what the batches of the log say, in their order, so every replica knows the same, and it is kept beside the log, so that retention takes
//! nothing of it. Knows nothing of files, leaders or acks; what a new batch means in its light, `sequencing` says.
//!
//! Time is the age of the log: milliseconds for which it was open. No clock that jumps can make it forget.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::{Bound, Range};

use tidelog_protocol::messages::{
    AbortedTransaction, OpenTransaction, ProducerStanding, ProducersSnapshot, SequenceSpan,
};
use tidelog_protocol::records::BatchHeader;
use tidelog_protocol::{Offset, ProducerEpoch, ProducerId, Sequence};

use crate::flaws::{Flaw, Flaws};
pub use crate::standing::{BATCHES_REMEMBERED, Span, Standing};
use crate::standing::{Open, Step, advance};
use crate::transactions::{Outcome, Transactions};

/// Where a log knows this many producers, others are forgotten as new ones come. Markers may tell of as many more.
pub const PRODUCERS_MAX: usize = 10_000;

/// So many more than necessary are forgotten early at once, so that not every new producer asks for room.
const FORGOTTEN_EARLY: usize = PRODUCERS_MAX / 10;

/// For so long a producer may still send again what it sent last: whoever was silent for longer is forgotten without a trace.
pub const SILENCE_MS_MIN: u64 = 15 * 60 * 1_000;

/// The transactions that are open in a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenTransactions {
    /// How many.
    pub count: usize,
    /// For how long the oldest has been, in milliseconds of the log being open.
    pub oldest_ms: u64,
}

/// All producers of one log.
#[derive(Clone, Debug)]
pub struct Producers {
    by_id: BTreeMap<ProducerId, Standing>,
    /// Every batch below was taken into account, and none at or above.
    end: Offset,
    age_ms: u64,
    forgotten_below: ProducerId,
    early_below: ProducerId,
    transactions: Transactions,
    flaws: Flaws,
}

impl Producers {
    /// Of a log that begins at `end` and never held anything.
    #[must_use]
    pub fn new(end: Offset) -> Self {
        Self {
            by_id: BTreeMap::new(),
            end,
            age_ms: 0,
            forgotten_below: ProducerId(0),
            early_below: ProducerId(0),
            transactions: Transactions::default(),
            flaws: Flaws::NONE,
        }
    }

    /// Of a log that held something before `end`, nobody knows what.
    #[must_use]
    pub fn unknown(end: Offset) -> Self {
        Self { forgotten_below: ProducerId(i64::MAX), ..Self::new(end) }
    }

    /// The same with a planted bug; see [`Flaws`].
    #[must_use]
    pub fn flawed(self, flaws: Flaws) -> Self {
        Self { flaws, ..self }
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

    /// May this producer, of which nothing is known, still send again what it began with? It was not silent for long, perhaps, when it was
    /// forgotten.
    #[must_use]
    pub fn may_have_begun(&self, producer: ProducerId) -> bool {
        producer < self.early_below && !self.by_id.contains_key(&producer)
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

    /// The log has taken this batch, at its base offset. One that was taken into account before changes nothing, and so does a control batch:
    /// what it says stands in its record, see [`Producers::note_marker`].
    pub fn note(&mut self, header: &BatchHeader) {
        if header.base_offset < self.end {
            return;
        }
        self.end = header.next_offset();
        let id = header.producer_id;
        if id < ProducerId(0) || header.base_sequence < Sequence(0) || header.attributes.is_control() {
            return;
        }
        // One that is lost: its marker went with records that were settled.
        self.take(id, Step::of(header, header.base_offset), Outcome::Aborted);
    }

    /// The log has taken this marker, at its base offset.
    pub fn note_marker(&mut self, header: &BatchHeader, outcome: Outcome) {
        if header.base_offset < self.end {
            return;
        }
        self.end = header.next_offset();
        if header.producer_id >= ProducerId(0) {
            self.take(header.producer_id, Step::of(header, header.base_offset), outcome);
        }
    }

    fn take(&mut self, id: ProducerId, step: Step, outcome: Outcome) {
        let (now_ms, flaws) = (self.age_ms, self.flaws);
        let Some(known) = self.by_id.get_mut(&id) else {
            let begun = Standing::begun(step, now_ms);
            if let Some(open) = begun.open() {
                self.transactions.begun(id, open.first);
            }
            self.by_id.insert(id, begun);
            return;
        };
        let before = known.open();
        // Its own marker was lost with records that were settled, and this one is a later transaction's: it says nothing of it. Of one that only a
        // leader told of the epoch is not known.
        let is_later =
            matches!(step, Step::Marker { epoch, .. } if !ends(known.epoch, epoch) && known.last().is_some());
        let outcome = if is_later { Outcome::Aborted } else { outcome };
        known.take(step, now_ms, flaws);
        let after = known.open();
        if before == after {
            return;
        }
        if let Some(open) = before {
            // A later epoch's batch says that a marker stood before it, and is none.
            let last = match step {
                Step::Batch { span, .. } => Offset(span.base_offset.0.saturating_sub(1)),
                Step::Marker { offset, .. } => offset,
            };
            self.transactions.ended(id, open.first, (last, outcome));
        }
        if let Some(open) = after {
            self.transactions.begun(id, open.first);
        }
    }

    /// What lies between here and `end` cannot be read: it may be anybody's.
    pub fn skip_to(&mut self, end: Offset) {
        if end > self.end {
            self.end = end;
            self.forgotten_below = ProducerId(i64::MAX);
            self.transactions.unsure_below(end);
        }
    }

    /// First offset that whoever reads what is committed cannot read, as far as transactions say: that of the oldest that is open or whose marker
    /// lies at or above the high watermark. Lets go of what is known of transactions before the log's start.
    pub fn first_unstable(&mut self, log_start: Offset, high_watermark: Offset) -> Option<Offset> {
        self.transactions.settle(log_start, high_watermark);
        if self.flaws.has(Flaw::UnsettledMarkersCount) {
            return self.transactions.first_open();
        }
        self.transactions.first_unstable()
    }

    /// The undone transactions that reach into `range`, by their markers; `None` where that was too long ago, and only the log itself tells.
    #[must_use]
    pub fn aborted_within(&self, range: Range<Offset>) -> Option<Vec<AbortedTransaction>> {
        self.transactions.aborted_within(&range)
    }

    /// What is open.
    #[must_use]
    pub fn open_transactions(&self) -> OpenTransactions {
        let count = self.transactions.open_count();
        if count == 0 {
            return OpenTransactions::default();
        }
        let ages = self.by_id.values().filter_map(Standing::open).map(|open| self.age_ms.saturating_sub(open.since_ms));
        OpenTransactions { count, oldest_ms: ages.max().unwrap_or(0) }
    }

    /// Transactions that have been open for at least `ms`, up to `count_max`: who wrote them, under which epoch; those of producers behind `after` come
    /// first. Those of which only a leader told that they were open, and not under which epoch, are not among them.
    #[must_use]
    pub fn open_for(&self, ms: u64, after: Option<ProducerId>, count_max: usize) -> Vec<(ProducerId, ProducerEpoch)> {
        if self.transactions.open_count() == 0 {
            return Vec::new();
        }
        let is_old = |standing: &Standing| {
            let since = standing.open().map(|open| open.since_ms);
            standing.last().is_some() && since.is_some_and(|since| self.age_ms.saturating_sub(since) >= ms)
        };
        let behind = self.by_id.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
        let before = after.map(|after| self.by_id.range(..=after)).into_iter().flatten();
        let old = behind.chain(before).filter(|(_, standing)| is_old(standing));
        old.map(|(id, standing)| (*id, standing.epoch)).take(count_max).collect()
    }

    /// The log was open for so much longer.
    pub const fn elapse(&mut self, ms: u64) {
        self.age_ms = self.age_ms.saturating_add(ms);
    }

    /// Forgets producers that were silent for `silence_ms` (never less than [`SILENCE_MS_MIN`]), have nothing open, and of which nothing lies at or
    /// above `settled`: what they sent last is acknowledged or given up. Where there are more than [`PRODUCERS_MAX`], makes
    /// [room](Producers::make_room). Says how many.
    pub fn forget(&mut self, silence_ms: u64, settled: Offset) -> usize {
        // A leader makes room when somebody new comes. Nobody asks a follower, which would know all that its leader has forgotten.
        if self.by_id.len() > PRODUCERS_MAX {
            return self.make_room(settled);
        }
        self.forget_silent(silence_ms.max(SILENCE_MS_MIN), settled)
    }

    /// Forgets producers so that there is room for others: those that were silent for [`SILENCE_MS_MIN`], as [`Producers::forget`] does, and where
    /// there are none, some that were heard of less long ago. Says how many.
    pub fn make_room(&mut self, settled: Offset) -> usize {
        match self.forget_silent(SILENCE_MS_MIN, settled) {
            0 => self.forget_early(settled),
            forgotten => forgotten,
        }
    }

    fn forget_silent(&mut self, silence_ms: u64, settled: Offset) -> usize {
        let Some(before) = self.age_ms.checked_sub(silence_ms) else { return 0 };
        self.forget_where(|standing| standing.seen_at_ms <= before && standing.is_settled(settled)).0
    }

    /// Forgets those that were silent for longest of all that are known by their numbers when they come again: they never had another epoch, so
    /// that whoever has this one and an id that was given out before theirs may be one of them, and is told to take another. Those whose
    /// transaction or later epoch was heard of stay: that is what keeps out what comes late.
    fn forget_early(&mut self, settled: Offset) -> usize {
        let is_first = |standing: &Standing| standing.is_settled(settled) && standing.knows_only_its_first_epoch();
        let mut seen: Vec<u64> =
            self.by_id.values().filter(|known| is_first(known)).map(|known| known.seen_at_ms).collect();
        let excess = self.by_id.len().saturating_sub(PRODUCERS_MAX);
        let Some(last) = (excess + FORGOTTEN_EARLY).min(seen.len()).checked_sub(1) else { return 0 };
        let until = *seen.select_nth_unstable(last).1;
        let mut left = last + 1;
        let (forgotten, below) = self.forget_where(|standing| {
            let goes = left > 0 && standing.seen_at_ms <= until && is_first(standing);
            left -= usize::from(goes);
            goes
        });
        self.early_below = self.early_below.max(below);
        forgotten
    }

    /// Says how many, and below which id they lie.
    fn forget_where(&mut self, mut goes: impl FnMut(&Standing) -> bool) -> (usize, ProducerId) {
        let (known, mut below) = (self.by_id.len(), ProducerId(0));
        self.by_id.retain(|id, standing| {
            let goes = goes(standing);
            if goes {
                below = below.max(ProducerId(id.0.saturating_add(1)));
            }
            !goes
        });
        self.forgotten_below = self.forgotten_below.max(below);
        (known - self.by_id.len(), below)
    }

    /// In how many milliseconds of the log being open [`Producers::forget`] can have made it `count` fewer at the earliest, where nothing more is
    /// heard of them and what they sent is settled by then.
    #[must_use]
    pub fn fewer_in_ms(&self, count: usize) -> u64 {
        // What is open ends with a marker first, of which the same holds.
        let idle = self.by_id.values().filter(|standing| standing.open().is_none());
        let left = |standing: &Standing| standing.seen_at_ms.saturating_add(SILENCE_MS_MIN).saturating_sub(self.age_ms);
        let mut left: Vec<u64> = idle.map(left).collect();
        if count == 0 || count > left.len() {
            return SILENCE_MS_MIN;
        }
        *left.select_nth_unstable(count - 1).1
    }

    /// All of it, to be stored or sent.
    #[must_use]
    pub fn snapshot(&self) -> ProducersSnapshot {
        let span = |span: &Span| {
            let Span { first, last, base_offset, timestamp } = *span;
            SequenceSpan { first, last, base_offset, timestamp }
        };
        let transaction = |open: Open| OpenTransaction { first_offset: open.first, since_ms: open.since_ms };
        let standing = |(id, standing): (&ProducerId, &Standing)| ProducerStanding {
            producer_id: *id,
            epoch: standing.epoch,
            seen_at_ms: standing.seen_at_ms,
            batches: standing.spans().iter().map(span).collect(),
            heard_at: standing.heard_at(),
            transaction: standing.open().map(transaction),
        };
        let (ended, aborted, aborted_from) = self.transactions.snapshot();
        ProducersSnapshot {
            end: self.end,
            age_ms: self.age_ms,
            forgotten_below: self.forgotten_below,
            producers: self.by_id.iter().map(standing).collect(),
            ended,
            aborted,
            aborted_from,
            early_below: self.early_below,
        }
    }

    /// As it was when the snapshot was made; `None` where it cannot be one.
    #[must_use]
    pub fn restored(snapshot: &ProducersSnapshot) -> Option<Self> {
        let mut by_id = BTreeMap::new();
        let aborted = (&snapshot.aborted[..], snapshot.aborted_from);
        let mut transactions = Transactions::restored(&snapshot.ended, aborted, snapshot.end)?;
        for standing in &snapshot.producers {
            let id = standing.producer_id;
            let known = restored(standing, snapshot.end).filter(|_| id >= ProducerId(0))?;
            if let Some(open) = known.open() {
                transactions.begun(id, open.first);
            }
            if by_id.insert(id, known).is_some() {
                return None;
            }
        }
        let ProducersSnapshot { end, age_ms, forgotten_below, early_below, .. } = *snapshot;
        Some(Self { by_id, end, age_ms, forgotten_below, early_below, transactions, flaws: Flaws::NONE })
    }

    /// For a replica that lacks what lies below its log, of which it knows what it holds: adds what the leader knows of that. The leader's
    /// word is younger than this end of the log; what it says of batches at or above comes with those batches. A producer of which it
    /// remembers nothing older may have written below all the same: nothing is proven of it until its batches come. What was open here and has
    /// ended there is open here until its marker comes. `false` where the snapshot cannot be one.
    pub fn adopt(&mut self, theirs: &ProducersSnapshot) -> bool {
        let Some(theirs) = Self::restored(theirs) else { return false };
        let end = self.end;
        let mut forgotten_below = theirs.forgotten_below;
        let across: BTreeMap<ProducerId, Offset> = theirs.transactions.open_across(end).collect();
        let mut ids: Vec<ProducerId> = theirs.by_id.keys().chain(across.keys()).copied().collect();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            let known = known_before(theirs.standing(id), across.get(&id).copied(), (end, self.age_ms));
            match (known, self.by_id.get(&id)) {
                (Some(known), ours) if ours.is_none_or(|ours| ours.heard_at() < known.heard_at()) => {
                    if let Some(open) = ours.and_then(Standing::open) {
                        self.transactions.forgotten(id, open.first);
                    }
                    if let Some(open) = known.open() {
                        self.transactions.begun(id, open.first);
                    }
                    self.by_id.insert(id, known);
                }
                (None, None) => forgotten_below = forgotten_below.max(ProducerId(id.0.saturating_add(1))),
                _ => {}
            }
        }
        self.forgotten_below = forgotten_below;
        self.early_below = self.early_below.max(theirs.early_below);
        true
    }
}

impl PartialEq for Producers {
    /// Whether they know the same, however old either is.
    fn eq(&self, other: &Self) -> bool {
        self.end == other.end
            && self.by_id == other.by_id
            && self.forgotten_below == other.forgotten_below
            && self.early_below == other.early_below
    }
}
impl Eq for Producers {}

/// Is a marker of the epoch `marker` that of the transaction of the epoch `open`, and not of a later one?
#[must_use]
pub fn ends(open: ProducerEpoch, marker: ProducerEpoch) -> bool {
    i32::from(marker.0) <= i32::from(open.0) + 1
}

/// What of a leader's knowledge of a producer was so when the log ended at `end`. `across` is where a transaction began that was open then.
fn known_before(theirs: Option<&Standing>, across: Option<Offset>, (end, now_ms): (Offset, u64)) -> Option<Standing> {
    if let Some(first) = across {
        // Under which epoch is not told: an earlier one than its marker's, which may be any but the first.
        let mut known = Standing::fence(ProducerEpoch(0), first, now_ms);
        known.remember(first, Some(Open { first, since_ms: now_ms }));
        return Some(known);
    }
    let theirs = theirs?;
    let mut known = None;
    for span in theirs.spans().iter().filter(|span| span.base_offset < end) {
        let step = Step::Batch { epoch: theirs.epoch, span: *span, transactional: false };
        advance(&mut known, step, now_ms, Flaws::NONE);
    }
    let open = theirs.open().filter(|open| open.first < end).map(|open| Open { since_ms: now_ms, ..open });
    let told = theirs.heard_at() < end || open.is_some();
    if known.is_none() && told {
        let heard_at = theirs.heard_at().min(Offset(end.0.saturating_sub(1)));
        known = Some(Standing::fence(theirs.epoch, heard_at, now_ms));
    }
    if let Some(known) = &mut known {
        let heard_at = if theirs.heard_at() < end { theirs.heard_at() } else { known.heard_at() };
        known.remember(heard_at, open);
    }
    known
}

fn restored(standing: &ProducerStanding, end: Offset) -> Option<Standing> {
    let fits = |span: &SequenceSpan| span.first >= Sequence(0) && span.last >= Sequence(0) && span.base_offset < end;
    let rises = standing.batches.is_sorted_by(|earlier, later| earlier.base_offset < later.base_offset);
    let open = standing.transaction.as_ref();
    let open = open.map(|open| Open { first: open.first_offset, since_ms: open.since_ms });
    // An earlier release does not say, and has no standing without batches.
    let last = standing.batches.last().map(|last| last.base_offset);
    let heard_at = last.map_or(standing.heard_at, |last| last.max(standing.heard_at));
    let is_told = heard_at < end && open.is_none_or(|open| open.first <= heard_at);
    let fit = standing.batches.len() <= BATCHES_REMEMBERED && standing.batches.iter().all(fits);
    if standing.epoch < ProducerEpoch(0) || !rises || !is_told || !fit {
        return None;
    }
    let first = standing.batches.first().map_or(heard_at, |first| first.base_offset);
    let mut known = Standing::fence(standing.epoch, first, standing.seen_at_ms);
    for span in &standing.batches {
        let SequenceSpan { first, last, base_offset, timestamp } = *span;
        let span = Span { first, last, base_offset, timestamp };
        let step = Step::Batch { epoch: standing.epoch, span, transactional: false };
        known.take(step, standing.seen_at_ms, Flaws::NONE);
    }
    known.remember(heard_at, open);
    Some(known)
}
