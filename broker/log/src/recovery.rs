//! Opening a partition folder: what is believed, what is cut, what is fenced.
//!
//! Begins at the checkpointed recovery point (without one at the oldest segment) and walks the chain of batches from there. At the first
//! bad batch, at offset X:
//! - X at or past the durable end and nothing valid behind it: a **torn tail**, cut there. Doing it twice changes nothing.
//! - X at or past it with valid batches behind, and proof that no flush ever covered X (see [`crate::unfinished`]), or no promise that one would
//!   (see [`crate::written_since`]): a torn tail as well, written back out of order. What is behind is given up with it, and counted.
//! - otherwise **corruption**: what follows is kept, and X up to the next valid batch becomes a [`Hole`] that is answered with an error.
//!   Cutting there is how committed records get lost (Protocol-Aware Recovery, FAST'18).
//!
//! What somebody else noted of the end (see [`crate::witness`]) counts as what a checkpoint says of it.
//!
//! Knows nothing of appends and reads; hands over segments, holes, epochs and ends.

use std::io;
use std::sync::Arc;

use tidelog_protocol::Offset;
use tidelog_protocol::records::BatchHeader;

use crate::bookkeeping::{self, Bookkeeping};
use crate::checkpoint::{Checkpoint, Marks, SegmentEnd, SegmentRecord, Shutdown};
use crate::compaction::cleaned::Cleaned;
use crate::damage::{Damage, Unresolved};
use crate::founding::{self, Founded};
use crate::hole::{Hole, Holes};
use crate::identity::Identity;
use crate::leader_epochs::{Change, LeaderEpochs};
use crate::noted_start::NotedStart;
use crate::open_error::OpenError;
use crate::recovery_report::RecoveryReport;
use crate::scan::{Next, Window, begins_before, epoch_follows, is_untouched};
use crate::segment::{Place, Scanned, Segment};
use crate::segment_files::{self, LOG, Prepared};
use crate::segment_index::{SegmentIndex, rebuild_index};
use crate::state::Ends;
use crate::storage_error::Context;
use crate::swap::recover_swaps;
use crate::tail_rules::{TailRules, Verdict, is_false_rise};
use crate::unfinished::Unwritten;
use crate::verified::Verified;
use crate::witness::Witness;
use crate::written_since::WrittenSince;

/// What an opened log holds.
#[derive(Debug)]
pub(crate) struct Holdings {
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) holes: Holes,
    pub(crate) epochs: LeaderEpochs,
    /// The epochs could not be written yet.
    pub(crate) epochs_dirty: bool,
    pub(crate) written_since: WrittenSince,
    pub(crate) cleaned: Cleaned,
    pub(crate) noted_start: NotedStart,
    pub(crate) ends: Ends,
}

/// What an open log starts from.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) holdings: Holdings,
    /// Offsets of the snapshots of producers, in order.
    pub(crate) snapshots: Vec<Offset>,
    pub(crate) report: RecoveryReport,
}

/// Opens or creates the folder.
pub(crate) fn recover(place: &Place, identity: &Identity, witness: Witness) -> Result<Recovered, OpenError> {
    founding::create_folder(place)?;
    let mut listing = segment_files::list(&*place.disk, &place.dir)?;
    let founded = founding::claim(place, identity, &listing)?;
    if founded == Founded::Now {
        listing.logs.clear();
    }
    // Before anything is changed.
    bookkeeping::refuse_later(place, &listing.producers)?;
    if !listing.swaps.is_empty() {
        recover_swaps(place, &listing.swaps, &listing.logs)?;
        listing = segment_files::list(&*place.disk, &place.dir)?;
    }
    if founded == Founded::Before {
        founding::refuse_lost(place, &listing.logs)?;
    }
    for name in &listing.leftovers {
        segment_files::remove_if_there(&*place.disk, &place.dir.join(name))?;
    }
    let Bookkeeping { checkpoint, noted_start, epochs, distrusted, written_since, tail_from, durable } =
        bookkeeping::read(place, &listing.logs, witness)?;
    if witness != Witness::Replicas {
        founding::refuse_endless(place, checkpoint.as_ref(), &listing.logs)?;
    }
    if checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.shutdown == Shutdown::Running) {
        // A killed process may have renamed files and not come to make that durable; what is acted on now must not be undone.
        place.disk.sync_dir(&place.dir).context("flush", &place.dir)?;
    }
    let least = u64::from(place.options.first_allocation_bytes);
    let mut recovery = Recovery {
        place,
        stored_epochs: epochs.clone(),
        epochs,
        segments: Vec::new(),
        holes: Vec::new(),
        expected: Offset::ZERO,
        upper: Offset::MAX,
        durable_end: durable,
        tail_from,
        written_since,
        noted_start,
        least_bytes: least.max(checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.reserved_bytes)),
        is_cut: false,
        was_cut_at: None,
        discarded: Vec::new(),
        damage: Unresolved::default(),
        folder_dirty: false,
        report: RecoveryReport::begun(distrusted),
    };
    let log_start = recovery.run(checkpoint, &listing.logs)?;
    let (holdings, report) = recovery.finish(log_start)?;
    if let (Founded::Now, Some(first)) = (founded, holdings.segments.first()) {
        founding::found(place, identity, first)?;
    }
    Ok(Recovered { holdings, snapshots: listing.producers, report })
}

struct Recovery<'a> {
    place: &'a Place,
    stored_epochs: LeaderEpochs,
    epochs: LeaderEpochs,
    segments: Vec<Arc<Segment>>,
    holes: Vec<Hole>,
    /// Where the next batch must begin.
    expected: Offset,
    /// Where the next segment begins: no batch of the present one reaches further.
    upper: Offset,
    /// Everything below was durable once.
    durable_end: Offset,
    /// As [`Bookkeeping::tail_from`].
    tail_from: Option<Offset>,
    written_since: WrittenSince,
    noted_start: NotedStart,
    /// No segment's file is cut to less.
    least_bytes: u64,
    /// The log ends at the first damage, whatever lies behind it.
    is_cut: bool,
    /// Where the segment before has whole batches that belong where the next begins: what was cut off, if that one takes their place.
    was_cut_at: Option<Offset>,
    /// Segments behind the end of the log.
    discarded: Vec<Offset>,
    damage: Unresolved,
    folder_dirty: bool,
    report: RecoveryReport,
}

impl Recovery<'_> {
    /// Walks everything; the answer is the log start offset.
    fn run(&mut self, checkpoint: Option<Checkpoint>, logs: &[Offset]) -> Result<Offset, OpenError> {
        let first = logs.first().copied().unwrap_or_default();
        let noted_start = self.noted_start.offset();
        let log_start = match &checkpoint {
            Some(checkpoint) => checkpoint.log_start.max(noted_start),
            // Segments that are gone from before the first: the log went beyond them.
            None if self.noted_start.is_known() => {
                self.durable_end = self.durable_end.max(first);
                noted_start
            }
            None => first,
        };
        self.expected = log_start;
        self.durable_end = self.durable_end.max(noted_start);
        let kept = segment_files::remove_below(self.place, logs, log_start)?;
        self.folder_dirty |= kept.len() < logs.len();
        let logs = kept;
        if let Some(&first) = logs.first() {
            self.expected = first.min(log_start);
        }
        let mut unknown = logs;
        if let Some(checkpoint) = checkpoint {
            self.durable_end = self.durable_end.max(checkpoint.recovery_point);
            self.report.shutdown = checkpoint.shutdown;
            self.holes = checkpoint.holes;
            let records: Vec<_> = checkpoint
                .segments
                .into_iter()
                .filter(|r| r.end.offset > log_start || logs.contains(&r.base))
                .collect();
            for (index, record) in records.iter().enumerate() {
                unknown = unknown.strip_prefix(&[record.base]).unwrap_or(unknown);
                let next_record = records.get(index + 1).map(|next| next.base);
                self.upper = next_record.or_else(|| unknown.first().copied()).unwrap_or(Offset::MAX);
                self.take_known(*record, logs.contains(&record.base), records.len() - index)?;
            }
        }
        for (index, &base) in unknown.iter().enumerate() {
            self.report.shutdown = Shutdown::Running;
            self.upper = unknown.get(index + 1).copied().unwrap_or(Offset::MAX);
            self.take_unknown(base)?;
        }
        Ok(log_start)
    }

    /// A segment of the checkpoint; `from_end` counts it from the last, which may have grown since.
    fn take_known(&mut self, record: SegmentRecord, exists: bool, from_end: usize) -> Result<(), OpenError> {
        if record.base > self.expected {
            // The records leave a gap where they knew a hole; holes of the checkpoint are kept as they are.
            self.expected = record.base;
        }
        if !exists {
            let segment = self.segments.last().map_or(record.base, |segment| segment.base());
            self.holes.push(Hole { from: record.base.max(self.expected), to: record.end.offset, segment, bytes: 0..0 });
            self.expected = record.end.offset;
            return Ok(());
        }
        let path = self.place.path(record.base, LOG);
        let measured = self.place.disk.file_bytes(&path);
        let length = measured.context("measure", &path).map_err(|error| OpenError::of_segment(error, &path))?;
        if length < record.end.bytes {
            // Its end is gone. What remains is found by walking it from the start.
            self.expected = record.base;
            self.scan(record.base, SegmentEnd::empty(record.base), None)?;
            self.close_damage(record.end.offset);
            self.expected = record.end.offset;
            return Ok(());
        }
        self.expected = record.end.offset;
        if from_end > 1 || length == record.end.bytes {
            self.segments.push(Arc::new(Segment::known(self.place, record, length)));
            return Ok(());
        }
        self.scan(record.base, record.end, Some(record))
    }

    fn take_unknown(&mut self, base: Offset) -> Result<(), OpenError> {
        let path = self.place.path(base, LOG);
        let is_copy = self.was_cut_at == Some(base) && begins_before(self.place, base).context("read", &path)?;
        if (base < self.expected || is_copy) && !self.segments.is_empty() {
            return Err(OpenError::Overlap { path, expected: self.expected });
        }
        if self.damage.first().is_none() && base > self.expected {
            let (segment, position) = self.segments.last().map_or((base, 0), |last| (last.base(), last.end_bytes()));
            let damage = Damage { from: self.expected, segment, position, length: position, rest: Next::Zeros };
            self.damage.note(damage);
            self.is_cut = self.rules().is_unpromised(self.expected);
        }
        if self.is_cut {
            return self.discard_segment(base);
        }
        self.expected = base;
        // A killed process may not have come to make its name durable.
        self.folder_dirty = true;
        self.scan(base, SegmentEnd::empty(base), None)
    }

    /// Walks one segment from `start` on, and adds it.
    fn scan(&mut self, base: Offset, start: SegmentEnd, known: Option<SegmentRecord>) -> Result<(), OpenError> {
        let path = self.place.path(base, LOG);
        let scanned = self.scan_file(base, start, known).context("read", &path);
        let scanned = scanned.map_err(|error| OpenError::of_segment(error, &path))?;
        self.segments.push(Arc::new(scanned));
        Ok(())
    }

    fn scan_file(&mut self, base: Offset, start: SegmentEnd, known: Option<SegmentRecord>) -> io::Result<Segment> {
        let file = self.place.disk.open(&self.place.path(base, LOG))?;
        let length = file.bytes()?;
        if let Some(record) = known
            && is_untouched(&*file, start.bytes, length)?
        {
            return Ok(Segment::known(self.place, record, length));
        }
        self.report.shutdown = Shutdown::Running;
        // Past the page cache: after a failed flush it holds bytes that never reached the disk.
        file.sync_data()?;
        file.evict(start.bytes..length)?;
        let unwritten = Unwritten::within(&*file, start.bytes..length)?;

        let (mut index, marks) = self.index_before(base, &start, known)?;
        let mut end = start;
        let mut window = Window::new(Arc::clone(&file), length).skipping(&unwritten);
        loop {
            let at = end.bytes;
            let chained = window.batch(at)?;
            let chained = chained.filter(|h| h.base_offset == self.expected && epoch_follows(&self.epochs, h));
            if self.expected == self.upper {
                // Reserved space, or what was cut off (`truncate`): not given back yet.
                self.was_cut_at = chained.map(|header| header.base_offset);
                break;
            }
            let good = match chained {
                Some(header) if self.is_false_rise(&mut window, at, &header)? => None,
                chained => chained,
            };
            let header = match good {
                Some(header) => header,
                None if at == length => break,
                None => {
                    let epochs = self.epochs.clone();
                    let upper = self.upper;
                    let fits = |header: &BatchHeader| header.next_offset() <= upper && epoch_follows(&epochs, header);
                    let mut next = window.batch_after(at, self.expected, &fits)?;
                    while let Next::Batch(found, header) = &next
                        && self.is_false_rise(&mut window, *found, header)?
                    {
                        next = window.batch_after(*found, self.expected, &fits)?;
                    }
                    let from = self.expected;
                    // Reserved space behind a full segment is noted as damage, and loses nothing.
                    let is_first = self.damage.first().is_none_or(|first| first.from == from);
                    self.damage.note(Damage { from, segment: base, position: at, length, rest: next.clone() });
                    let ends_log = is_first
                        && match self.rules().judge(from, self.upper, &next) {
                            _ if crate::flaws::cuts_at_any_damage() => true,
                            Verdict::GoesOn => false,
                            Verdict::Ends => true,
                            Verdict::EndsIfProven { behind } => unwritten.proves(&mut window, at, from, behind)?,
                        };
                    if ends_log {
                        self.is_cut = true;
                        self.discard(&mut window, next, &fits)?;
                        break;
                    }
                    let Next::Batch(found, header) = next else { break };
                    end.bytes = found;
                    header
                }
            };
            self.holes.extend(self.damage.resolve(header.base_offset, base, end.bytes));
            index.note(base, &mut end, &header, self.place.options.index_interval_bytes);
            self.expected = end.offset;
            self.note_epoch(&header);
        }
        self.report.scanned_bytes += window.read_bytes();
        let verified = Verified::from(start.bytes);
        Ok(Segment::scanned(self.place, base, end, Scanned { file, index, marks, verified, allocated: length }))
    }

    fn rules(&self) -> TailRules {
        TailRules { tail_from: self.tail_from, written_since: self.written_since.now }
    }

    /// Counts what lies behind the end of the log.
    fn discard(&mut self, window: &mut Window, mut next: Next, fits: &dyn Fn(&BatchHeader) -> bool) -> io::Result<()> {
        let from = self.damage.first().map_or(self.expected, |damage| damage.from);
        while let Next::Batch(at, header) = next {
            let end = header.next_offset();
            self.report.discarded_offsets = self.report.discarded_offsets.max(end.since(from));
            let behind = at + header.total_bytes() as u64;
            next = match window.batch(behind)?.filter(|header| header.base_offset == end) {
                Some(header) => Next::Batch(behind, header),
                None => window.batch_after(behind, end, fits)?,
            };
        }
        Ok(())
    }

    /// A segment behind the end of the log.
    fn discard_segment(&mut self, base: Offset) -> Result<(), OpenError> {
        let path = self.place.path(base, LOG);
        let counted = (|| {
            let upper = self.upper;
            let fits = |header: &BatchHeader| header.next_offset() <= upper;
            let mut window = Window::open(&*self.place.disk, &path)?;
            let first = match window.batch(0)?.filter(|header| header.base_offset == base) {
                Some(header) => Next::Batch(0, header),
                None => window.batch_after(0, base, &fits)?,
            };
            self.discard(&mut window, first, &fits)?;
            self.report.scanned_bytes += window.read_bytes();
            Ok(())
        })();
        counted.context("read", &path)?;
        self.discarded.push(base);
        Ok(())
    }

    /// The index of what lies before the scan: from its files, or from the log where they are damaged.
    fn index_before(
        &self,
        base: Offset,
        start: &SegmentEnd,
        known: Option<SegmentRecord>,
    ) -> io::Result<(SegmentIndex, Marks)> {
        let Some(record) = known else { return Ok((SegmentIndex::default(), Marks::default())) };
        let segment = Segment::known(self.place, record, start.bytes);
        if segment.load_index()?
            && let Some(index) = segment.search(Clone::clone)
        {
            return Ok((index, record.marks));
        }
        let holes = Holes::new(self.holes.clone());
        let (index, _) =
            rebuild_index(segment.file()?, base, start.bytes, &holes, self.place.options.index_interval_bytes)?;
        Ok((index, Marks::default()))
    }

    /// As [`is_false_rise`], after a look at the batches behind.
    fn is_false_rise(&self, window: &mut Window, at: u64, header: &BatchHeader) -> io::Result<bool> {
        if self.epochs.latest() == header.leader_epoch {
            return Ok(false);
        }
        let behind = at + header.total_bytes() as u64;
        let mut followers = window.batch_pair(behind)?;
        if followers[0].is_none() && self.upper != Offset::MAX {
            followers = Window::open(&*self.place.disk, &self.place.path(self.upper, LOG))?.batch_pair(0)?;
        }
        Ok(is_false_rise(self.epochs.latest(), header, &followers))
    }

    /// Of batches below the newest epoch's start the file has said all there is: they were deleted, or it knows of them.
    fn note_epoch(&mut self, header: &BatchHeader) {
        if let Some(epoch) = header.leader_epoch
            && self.epochs.starts().last().is_none_or(|last| last.epoch < epoch && last.start <= header.base_offset)
        {
            // Whether they differ from what is stored is seen once all is read.
            let _ = self.epochs.assign(epoch, header.base_offset);
        }
    }

    /// The damage reaches up to an offset that is known to have been durable.
    fn close_damage(&mut self, to: Offset) {
        self.holes.extend(self.damage.resolve(to, Offset::MAX, 0));
        if self.expected < to {
            let (segment, position) = self.segments.last().map_or((to, 0), |last| (last.base(), last.end_bytes()));
            self.holes.push(Hole { from: self.expected, to, segment, bytes: position..position });
        }
    }

    fn finish(mut self, log_start: Offset) -> Result<(Holdings, RecoveryReport), OpenError> {
        if let Some(damage) = self.damage.first() {
            if damage.from < self.durable_end {
                self.close_damage(self.durable_end);
                self.expected = self.durable_end;
            } else {
                self.cut_torn_tail()?;
            }
        }
        if self.expected < self.durable_end {
            self.close_damage(self.durable_end);
            self.expected = self.durable_end;
        }
        let end = self.expected.max(log_start);
        let active_fits = self.segments.last().is_some_and(|last| last.end_offset() == end);
        if !active_fits {
            // A new life after the end: behind damaged bytes nothing may be appended. First of all, so that there is a segment at any time.
            let prepared = Prepared::make(self.place, u64::from(self.place.options.first_allocation_bytes))?;
            let (file, allocated) = prepared.name(self.place, end)?;
            while let Some(last) = self.segments.pop_if(|last| last.base() >= end && last.end_bytes() == 0) {
                segment_files::make_way(self.place, last.base(), end)?;
            }
            self.segments.push(Arc::new(Segment::born(self.place, end, file, allocated)));
            self.folder_dirty = true;
        }
        if self.folder_dirty {
            self.place.disk.sync_dir(&self.place.dir).context("flush", &self.place.dir)?;
        }
        let mut epochs = self.epochs;
        let _: Change = epochs.truncate_to(end);
        let epochs_dirty = epochs != self.stored_epochs && !bookkeeping::write_if_there_is_room(self.place, &epochs)?;
        // Those below the log start count as long as their segment is there: whoever looks for a batch hops over their bytes.
        let first = self.segments.first().map_or(log_start, |first| first.base().min(log_start));
        bookkeeping::note_start(self.place, &mut self.noted_start, log_start, first)?;
        let holes = Holes::new(self.holes).within(first..end);
        self.report.holes = holes.within(log_start..end).all().to_vec();
        let ends = Ends { log_start, end };
        let cleaned = bookkeeping::read_cleaned(self.place, end)?;
        let Self { segments, written_since, noted_start, report, .. } = self;
        let holdings = Holdings { segments, holes, epochs, epochs_dirty, written_since, cleaned, noted_start, ends };
        Ok((holdings, report))
    }

    /// Nothing valid follows the damage, or nothing that anybody was promised: its bytes and the segments behind it go.
    fn cut_torn_tail(&mut self) -> Result<(), OpenError> {
        let Some(damage) = self.damage.take_first() else { return Ok(()) };
        for base in std::mem::take(&mut self.discarded).into_iter().rev() {
            segment_files::remove(self.place, base)?;
            self.folder_dirty = true;
        }
        while let Some(last) = self.segments.pop_if(|last| last.base() > damage.segment) {
            segment_files::remove(self.place, last.base())?;
            self.folder_dirty = true;
        }
        self.expected = damage.from;
        if damage.rest == Next::Zeros {
            return Ok(());
        }
        if self.is_cut {
            // Before the gap goes: without it, what a crash brings back of those segments would look like rot.
            self.place.disk.sync_dir(&self.place.dir).context("flush", &self.place.dir)?;
        }
        self.report.torn_bytes += damage.length - damage.position;
        let Damage { segment, position, length, .. } = damage;
        // Nobody has mapped it yet: the log is being opened, under the lock of the data folder.
        let kept = segment_files::cut(self.place, segment, position, length, self.least_bytes)?;
        if let Some(last) = self.segments.last() {
            last.set_allocated(kept);
        }
        Ok(())
    }
}
