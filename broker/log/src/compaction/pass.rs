//! One pass over a log: learn the last offset of each key, write segments anew, exchange them.
//!
//! Nothing but the offset map grows with the log. Everything that is read is checked as recovery would, so that damage is not copied under a
//! checksum that matches. Knows nothing of when a pass is due.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidelog_protocol::records::{BatchHeader, RawBatch, Scratch, Thinned, Thinner};
use tidelog_protocol::{Offset, ProducerId};

use super::cleaned::Cleaned;
use super::offset_map::OffsetMap;
use super::rewrite::{Rewrite, RewriteError, joined};
use super::survival::{Aborted, Fate, Grace, Survival};
use super::{Cleanable, Compacted, CompactionDriver, CompactionError, CompactionRules, CompactionStep, MAP_BYTES_MIN};
use crate::leader_epochs::LeaderEpochs;
use crate::reader::LogReader;
use crate::scan::{Window, epoch_matches};
use crate::segment::Segment;
use crate::state::LogState;
use crate::storage_error::Context;

/// Producers of which the last batch is remembered, so that its header stays. Those beyond lose theirs once it is empty.
const PRODUCERS_MAX: usize = 100_000;
/// Segments that become one at once, each of which has a descriptor open until then.
const GROUP_MAX: usize = 64;

pub(super) struct Pass<'p> {
    state: &'p Arc<LogState>,
    rules: &'p CompactionRules<'p>,
    cleanable: Cleanable,
    driver: &'p mut dyn CompactionDriver,
    aborted: Aborted,
    epochs: LeaderEpochs,
    /// Where the last batch of each producer begins, of those in the dirty part.
    producers: HashMap<ProducerId, Offset>,
    done: Compacted,
}

impl<'p> Pass<'p> {
    pub(super) fn new(
        state: &'p Arc<LogState>,
        rules: &'p CompactionRules<'p>,
        cleanable: Cleanable,
        driver: &'p mut dyn CompactionDriver,
    ) -> Self {
        Self {
            aborted: Aborted::new(rules.aborted),
            epochs: state.epochs.lock().clone(),
            state,
            rules,
            cleanable,
            driver,
            producers: HashMap::new(),
            done: Compacted::default(),
        }
    }

    pub(super) fn run(mut self) -> Result<Compacted, CompactionError> {
        let segments = self.cleanable.segments.clone();
        if let Some(pair) = segments.windows(2).find(|pair| pair[0].end_offset() != pair[1].base()) {
            return Err(CompactionError::Damaged(pair[0].end_offset()));
        }
        let (map, upto) = self.learn(&segments)?;
        self.done.keys = map.keys();
        self.done.map_bytes = map.bytes();
        self.done.upto = upto;
        self.done.is_partial = upto < self.cleanable.end();
        let cleaned = self.begin(&segments)?;
        let aborted = std::mem::take(&mut self.aborted);
        let grace = Grace {
            now: self.rules.now,
            lasts: self.rules.tombstone_grace,
            // Not above what is told by now: it may have been told already that no tombstone goes there.
            below: self.driver.tombstones_below().min(self.tombstones_below()),
        };
        let mut survival = Survival::new(&map, &aborted, &cleaned, upto, grace);
        let concerned = segments.iter().take_while(|segment| segment.base() < upto).cloned().collect::<Vec<_>>();
        let mut rest = &concerned[..];
        while !rest.is_empty() {
            let segment = concerned.len() - rest.len() + 1;
            self.driver.steps(CompactionStep::Rewrites { segment, of: concerned.len() });
            let done = self.clean(rest, &mut survival)?;
            rest = &rest[done..];
        }
        self.finish(&cleaned, upto, survival.tombstones())?;
        Ok(self.done)
    }

    /// Fills the map from the dirty part, and says up to where it goes.
    fn learn(&mut self, segments: &[Arc<Segment>]) -> Result<(OffsetMap, Offset), CompactionError> {
        let (from, end) = (self.cleanable.from, self.cleanable.end());
        let mut map = OffsetMap::new(self.rules.map_bytes.max(MAP_BYTES_MIN), end.since(from));
        let mut scratch = Scratch::new();
        let dirty: Vec<_> = segments.iter().filter(|segment| segment.end_offset() > from).collect();
        for (before, segment) in dirty.iter().enumerate() {
            self.driver.steps(CompactionStep::Learns { segment: before + 1, of: dirty.len() });
            let mut walk = Walk::new(segment)?;
            while let Some((header, bytes)) = walk.next(self.state, &self.epochs)? {
                let total = bytes.len() as u64;
                let is_known = header.next_offset() <= from;
                if !is_known {
                    self.note_producer(&header);
                }
                if !is_known && !header.attributes.is_control() && !self.aborted.holds(&header) {
                    let of = |error| CompactionError::Batch { offset: header.base_offset, error };
                    let batch = RawBatch::parse_compacted(bytes).map_err(of)?;
                    for record in batch.records(&mut scratch).map_err(of)? {
                        let record = record.map_err(of)?;
                        let Some(key) = record.key.filter(|_| record.offset >= from) else { continue };
                        if !map.note(key, record.offset) {
                            return Ok((map, record.offset));
                        }
                    }
                }
                self.done.read_bytes += total;
                keep_pace(self.driver, total)?;
            }
        }
        Ok((map, end))
    }

    fn tombstones_below(&self) -> Offset {
        self.rules.tombstones_below.min(self.rules.below)
    }

    fn note_producer(&mut self, header: &BatchHeader) {
        let BatchHeader { producer_id, base_offset, record_count, .. } = *header;
        let has_room = self.producers.len() < PRODUCERS_MAX || self.producers.contains_key(&producer_id);
        if producer_id != ProducerId::NONE && record_count > 0 && has_room {
            self.producers.insert(producer_id, base_offset);
        }
    }

    /// Writes down what the pass is about to rest on.
    fn begin(&self, segments: &[Arc<Segment>]) -> Result<Cleaned, CompactionError> {
        let state = self.state;
        let mut upkeep = state.upkeep.lock();
        if state.retired.load(Ordering::Acquire) {
            return Err(CompactionError::Changed);
        }
        // Every segment of the pass is in it with its end: what a crash leaves of an exchange is told by that.
        state.checkpoint(&mut upkeep, crate::checkpoint::Shutdown::Running)?;
        let (now, grace) = (self.rules.now, self.rules.tombstone_grace);
        let mut cleaned = state.cleaned.lock().clone();
        cleaned.seen_to = segments.last().map_or(cleaned.seen_to, |last| cleaned.seen_to.max(last.end_offset()));
        let due = cleaned.spans.iter().filter(|span| super::is_over(span.at, grace, now));
        let dropped = due.map(|span| span.upto).max().unwrap_or_default();
        cleaned.dropped_below = cleaned.dropped_below.max(dropped.min(self.tombstones_below()));
        cleaned.write(&*state.place.disk, &state.place.dir)?;
        *state.cleaned.lock() = cleaned.clone();
        Ok(cleaned)
    }

    fn finish(&self, begun: &Cleaned, upto: Offset, tombstones: &[u64]) -> Result<(), CompactionError> {
        let state = self.state;
        let _no_restart = state.upkeep.lock();
        let mut cleaned = state.cleaned.lock().clone();
        if cleaned != *begun || state.retired.load(Ordering::Acquire) {
            return Err(CompactionError::Changed);
        }
        cleaned.finish(upto, self.rules.now, tombstones);
        if cleaned != *begun {
            cleaned.write(&*state.place.disk, &state.place.dir)?;
            *state.cleaned.lock() = cleaned;
        }
        Ok(())
    }

    /// Writes one file in place of the first segments, as many as fit into it, unless that would be as it is. The answer is how many are done.
    fn clean(&mut self, segments: &[Arc<Segment>], survival: &mut Survival<'_>) -> Result<usize, CompactionError> {
        let first = &segments[0];
        let is_alone = !segments.get(1).is_some_and(|next| self.fits(first, first.end_bytes(), next));
        if is_alone {
            let mut trial = survival.clone();
            if !self.would_change(first, &mut trial)? {
                *survival = trial;
                return Ok(1);
            }
        }
        let mut output = Rewrite::begin(self.state.next_place(), first.base())?;
        let group = match self.fill_all(&mut output, segments, survival) {
            Ok(taken) => &segments[..taken],
            Err(error) => {
                output.discard();
                return Err(error);
            }
        };
        let rewritten = output.finish().map_err(|error| of_rewrite(error, first.base()))?;
        let after = rewritten.end.bytes;
        self.state.swap_in(group, rewritten)?;
        self.done.replaced_bytes += group.iter().map(|segment| segment.end_bytes()).sum::<u64>();
        self.done.written_bytes += after;
        self.done.replaced_segments += group.len();
        self.done.written_segments += 1;
        Ok(group.len())
    }

    /// Whether `next` certainly fits behind `bytes` bytes of a segment that begins where `first` does.
    fn fits(&self, first: &Segment, bytes: u64, next: &Segment) -> bool {
        let is_near = next.end_offset().since(first.base()) <= i32::MAX as u64;
        is_near && bytes + next.end_bytes() <= u64::from(self.state.segment_bytes())
    }

    fn fill_all(
        &mut self,
        output: &mut Rewrite,
        segments: &[Arc<Segment>],
        survival: &mut Survival<'_>,
    ) -> Result<usize, CompactionError> {
        let mut thinner = Thinner::new();
        let mut taken = 0;
        for segment in segments.iter().take(GROUP_MAX) {
            if taken > 0 && !self.fits(&segments[0], output.bytes(), segment) {
                break;
            }
            output.reserve(segment.end_bytes())?;
            self.fill(output, segment, survival, &mut thinner)?;
            taken += 1;
        }
        Ok(taken)
    }

    fn fill(
        &mut self,
        output: &mut Rewrite,
        segment: &Segment,
        survival: &mut Survival<'_>,
        thinner: &mut Thinner,
    ) -> Result<(), CompactionError> {
        let mut walk = Walk::new(segment)?;
        while let Some((header, bytes)) = walk.next(self.state, &self.epochs)? {
            let total = bytes.len() as u64;
            let pushed = match judge(thinner, survival, &header, bytes)? {
                Thinned::Whole => output.push(bytes),
                Thinned::Some(thinned) => output.push(thinned),
                Thinned::Nothing => output.push_empty(self.emptied(&header)),
            };
            pushed.map_err(|error| of_rewrite(error, header.base_offset))?;
            self.done.read_bytes += total;
            // What is written counts as much as what is read, and is hardly ever more.
            keep_pace(self.driver, 2 * total)?;
        }
        Ok(())
    }

    fn would_change(&mut self, segment: &Segment, survival: &mut Survival<'_>) -> Result<bool, CompactionError> {
        let mut thinner = Thinner::new();
        let mut walk = Walk::new(segment)?;
        let mut empty: Option<BatchHeader> = None;
        while let Some((header, bytes)) = walk.next(self.state, &self.epochs)? {
            let total = bytes.len() as u64;
            match judge(&mut thinner, survival, &header, bytes)? {
                Thinned::Whole => empty = None,
                Thinned::Nothing if header.record_count == 0 => {
                    let header = self.emptied(&header);
                    if empty.is_some_and(|earlier| joined(&earlier, &header).is_some()) {
                        return Ok(true);
                    }
                    empty = Some(header);
                }
                Thinned::Some(_) | Thinned::Nothing => return Ok(true),
            }
            self.done.read_bytes += total;
            keep_pace(self.driver, total)?;
        }
        Ok(false)
    }

    /// What is left of a batch without records. The last of a producer goes on to tell its sequence.
    fn emptied(&self, header: &BatchHeader) -> BatchHeader {
        let empty = header.emptied();
        let is_marker = header.attributes.is_control();
        let has_later = self.producers.get(&header.producer_id).is_some_and(|&last| header.base_offset < last);
        if is_marker || has_later { empty.anonymous() } else { empty }
    }
}

/// What is left of a batch; nothing of one that is empty already.
fn judge<'t>(
    thinner: &'t mut Thinner,
    survival: &mut Survival<'_>,
    header: &BatchHeader,
    bytes: &[u8],
) -> Result<Thinned<'t>, CompactionError> {
    if header.record_count == 0 {
        return Ok(Thinned::Nothing);
    }
    match survival.batch(header) {
        Fate::Stays => Ok(Thinned::Whole),
        Fate::Goes => Ok(Thinned::Nothing),
        Fate::EachRecord => {
            let of = |error| CompactionError::Batch { offset: header.base_offset, error };
            let batch = RawBatch::parse_compacted(bytes).map_err(of)?;
            thinner.thin(&batch, |record| survival.keeps(record)).map_err(of)
        }
    }
}

fn keep_pace(driver: &mut dyn CompactionDriver, bytes: u64) -> Result<(), CompactionError> {
    match driver.pace(bytes) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(CompactionError::Stopped),
    }
}

fn of_rewrite(error: RewriteError, offset: Offset) -> CompactionError {
    match error {
        RewriteError::Batch(error) => CompactionError::Batch { offset, error },
        RewriteError::TooLarge => CompactionError::TooLarge(offset),
        RewriteError::Storage(error) => CompactionError::Storage(error),
    }
}

/// Walks the batches of a segment, each of them whole and in its place.
struct Walk<'s> {
    segment: &'s Segment,
    window: Window,
    position: u64,
    expected: Offset,
}

impl<'s> Walk<'s> {
    fn new(segment: &'s Segment) -> Result<Self, CompactionError> {
        let file = segment.file().context("open", &segment.path())?;
        // The walk is about to read in what is not there any more.
        segment.is_resident(0..segment.end_bytes()).context("map", &segment.path())?;
        let window = Window::new(file, segment.end_bytes());
        Ok(Self { segment, window, position: 0, expected: segment.base() })
    }

    fn next(
        &mut self,
        state: &Arc<LogState>,
        epochs: &LeaderEpochs,
    ) -> Result<Option<(BatchHeader, &[u8])>, CompactionError> {
        let path = self.segment.path();
        let at = self.position;
        if at >= self.segment.end_bytes() {
            return Ok(None);
        }
        let header = self.window.batch(at).context("read", &path)?;
        let Some(header) = header.filter(|header| header.base_offset == self.expected && epoch_matches(epochs, header))
        else {
            // A read finds out how far the damage goes, and remembers it.
            self.segment.verified.forget(self.segment.end_bytes());
            let _ =
                LogReader::new(Arc::clone(state)).read_blocking(self.expected.max(state.log_start()), Offset::MAX, 1);
            return Err(CompactionError::Damaged(self.expected));
        };
        self.position += header.total_bytes() as u64;
        self.expected = header.next_offset();
        let bytes = self.window.bytes(at, header.total_bytes()).context("read", &path)?;
        Ok(Some((header, bytes)))
    }
}
