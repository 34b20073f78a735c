//! Opening a partition folder: what is believed, what is cut, what is fenced.
//!
//! Begins at the checkpointed recovery point (without one at the oldest segment) and walks the chain of batches from there. At the first
//! bad batch, at offset X:
//! - X at or past the durable end and nothing valid behind it: a **torn tail**, cut there. Doing it twice changes nothing.
//! - otherwise **corruption**: what follows is kept, and X up to the next valid batch becomes a [`Hole`] that is answered with an error.
//!   Cutting there is how committed records get lost (Protocol-Aware Recovery, FAST'18).
//!
//! Knows nothing of appends and reads; hands over segments, holes, epochs and ends.

use std::io;
use std::sync::Arc;

use tidelog_protocol::Offset;
use tidelog_protocol::records::BatchHeader;

use crate::checkpoint::{Checkpoint, Marks, SegmentEnd, SegmentRecord, Shutdown};
use crate::damage::{Damage, Unresolved};
use crate::disk::{DiskFile, is_full};
use crate::hole::{Hole, Holes};
use crate::identity::{Identity, IdentityError};
use crate::leader_epochs::{Change, LeaderEpochs};
use crate::scan::{Next, Window, epoch_follows, is_untouched};
use crate::segment::{Place, Scanned, Segment};
use crate::segment_files::{self, LOG, Prepared};
use crate::segment_index::SegmentIndex;
use crate::small_file::SmallFileError;
use crate::state::Ends;
use crate::storage_error::{Context, StorageError};
use crate::verified::Verified;

/// Why a partition folder cannot be opened at all. Damage that can be fenced is in the [`RecoveryReport`] instead.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder is another partition's, a later release's, or nobody's.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The disk refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Two segments claim the same offsets: a copy was put there, or two brokers wrote one folder.
    #[error("{} begins before offset {expected}, where the segment before it ends: move the one that does not belong there away", path.display())]
    Overlap {
        /// The later of the two.
        path: std::path::PathBuf,
        /// Where the earlier one ends.
        expected: Offset,
    },
}

/// What opening a log found and did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecoveryReport {
    /// How the last writer ended. [`Shutdown::Clean`] only if nothing had to be scanned.
    pub shutdown: Shutdown,
    /// Why the scan had to begin at the oldest segment, if it had to.
    pub distrusted: Option<String>,
    /// Bytes that were read and checked.
    pub scanned_bytes: u64,
    /// Bytes of a torn tail that were cut off.
    pub torn_bytes: u64,
    /// Ranges that cannot be served, oldest first: not empty means that this replica must not lead until it is repaired.
    pub holes: Vec<Hole>,
}

/// What an open log starts from.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) holes: Holes,
    pub(crate) epochs: LeaderEpochs,
    /// The epochs could not be written yet.
    pub(crate) epochs_dirty: bool,
    pub(crate) ends: Ends,
    pub(crate) report: RecoveryReport,
}

/// Opens or creates the folder.
pub(crate) fn recover(place: &Place, identity: &Identity) -> Result<Recovered, OpenError> {
    create_folder(place)?;
    let listing = segment_files::list(&*place.disk, &place.dir)?;
    claim(place, identity, listing.logs.is_empty())?;
    for name in &listing.leftovers {
        segment_files::remove_if_there(&*place.disk, &place.dir.join(name))?;
    }
    let (checkpoint, epochs, distrusted) = read_bookkeeping(place, &listing.logs)?;
    if checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.shutdown == Shutdown::Running) {
        // A killed process may have renamed files and not come to make that durable; what is acted on now must not be undone.
        place.disk.sync_dir(&place.dir).context("flush", &place.dir)?;
    }
    let mut recovery = Recovery {
        place,
        stored_epochs: epochs.clone(),
        epochs,
        segments: Vec::new(),
        holes: Vec::new(),
        expected: Offset::ZERO,
        upper: Offset::MAX,
        durable_end: Offset::ZERO,
        damage: Unresolved::default(),
        folder_dirty: false,
        report: RecoveryReport {
            shutdown: Shutdown::Running,
            distrusted,
            scanned_bytes: 0,
            torn_bytes: 0,
            holes: vec![],
        },
    };
    let log_start = recovery.run(checkpoint, &listing.logs)?;
    recovery.finish(log_start)
}

fn create_folder(place: &Place) -> Result<(), StorageError> {
    match place.disk.create_dir(&place.dir) {
        Ok(()) => {
            let parent = place.dir.parent().unwrap_or(&place.dir);
            place.disk.sync_dir(parent).context("flush", parent)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).context("create", &place.dir),
    }
}

/// Makes sure that the folder is this partition's; an empty one becomes it.
fn claim(place: &Place, expected: &Identity, is_empty: bool) -> Result<(), OpenError> {
    let path = place.dir.join(crate::identity::FILE_NAME);
    match Identity::read(&*place.disk, &place.dir) {
        Ok(found) if found.is_same_partition(expected) => Ok(()),
        Ok(found) => Err(IdentityError::Mismatch { path, found, expected: *expected }.into()),
        Err(SmallFileError::Newer { found, newest }) => Err(IdentityError::Newer { path, found, newest }.into()),
        Err(SmallFileError::Storage(error)) => Err(error.into()),
        Err(SmallFileError::Missing | SmallFileError::Damaged(_)) if is_empty => {
            Ok(expected.write(&*place.disk, &place.dir)?)
        }
        Err(error) => Err(IdentityError::Unknown { path, reason: error.to_string() }.into()),
    }
}

type Bookkeeping = (Option<Checkpoint>, LeaderEpochs, Option<String>);

/// The checkpoint and the epochs, and why the former is not to be believed about segments. The epochs of a distrusted log are
/// rebuilt from its batches.
fn read_bookkeeping(place: &Place, logs: &[Offset]) -> Result<Bookkeeping, StorageError> {
    let disk = &*place.disk;
    let checkpoint = match Checkpoint::read(disk, &place.dir) {
        Err(SmallFileError::Storage(error)) => return Err(error),
        read => read,
    };
    let epochs = match LeaderEpochs::read(disk, &place.dir) {
        Err(SmallFileError::Storage(error)) => return Err(error),
        read => read,
    };
    let mut checkpoint = match checkpoint {
        Ok(checkpoint) => checkpoint,
        Err(_) if logs.is_empty() => return Ok((None, LeaderEpochs::default(), None)),
        Err(error) => return Ok((None, LeaderEpochs::default(), Some(format!("checkpoint: {error}")))),
    };
    let distrusted = match epochs {
        Err(error) if checkpoint.recovery_point > checkpoint.log_start => format!("leader epochs: {error}"),
        epochs => {
            let is_known = |base: &Offset| checkpoint.segments.binary_search_by_key(base, |record| record.base).is_ok();
            let old = |base: &&Offset| (checkpoint.log_start..checkpoint.recovery_point).contains(*base);
            match logs.iter().filter(old).find(|base| !is_known(base)) {
                Some(stray) => format!("checkpoint: it does not know the segment at offset {stray}"),
                None => return Ok((Some(checkpoint), epochs.unwrap_or_default(), None)),
            }
        }
    };
    // What can be told about segments is found out anew; the log start offset and how far the log was durable cannot be: without
    // the latter, damage near the end would be cut off as a torn tail.
    checkpoint.segments.clear();
    checkpoint.holes.clear();
    Ok((Some(checkpoint), LeaderEpochs::default(), Some(distrusted)))
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
    damage: Unresolved,
    folder_dirty: bool,
    report: RecoveryReport,
}

impl Recovery<'_> {
    /// Walks everything; the answer is the log start offset.
    fn run(&mut self, checkpoint: Option<Checkpoint>, logs: &[Offset]) -> Result<Offset, OpenError> {
        let log_start = checkpoint.as_ref().map_or_else(|| logs.first().copied().unwrap_or_default(), |c| c.log_start);
        self.expected = log_start;
        let logs = self.drop_deleted(logs, log_start)?;
        if let Some(&first) = logs.first() {
            self.expected = first.min(log_start);
        }
        let mut unknown = &logs[..];
        if let Some(checkpoint) = checkpoint {
            self.durable_end = checkpoint.recovery_point;
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

    /// Segments wholly below the log start were deleted, but for the unlink.
    fn drop_deleted(&mut self, logs: &[Offset], log_start: Offset) -> Result<Vec<Offset>, StorageError> {
        let kept = logs.partition_point(|&base| base <= log_start).saturating_sub(1);
        for &base in &logs[..kept] {
            segment_files::remove(self.place, base)?;
            self.folder_dirty = true;
        }
        Ok(logs[kept..].to_vec())
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
        let length = self.place.disk.file_bytes(&path).context("measure", &path)?;
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
        if base < self.expected && !self.segments.is_empty() {
            return Err(OpenError::Overlap { path: self.place.path(base, LOG), expected: self.expected });
        }
        if self.damage.first().is_none() && base > self.expected {
            let (segment, position) = self.segments.last().map_or((base, 0), |last| (last.base(), last.end_bytes()));
            let damage = Damage { from: self.expected, segment, position, length: position, rest: Next::Zeros };
            self.damage.note(damage);
        }
        self.expected = base;
        // A killed process may not have come to make its name durable.
        self.folder_dirty = true;
        self.scan(base, SegmentEnd::empty(base), None)
    }

    /// Walks one segment from `start` on, and adds it.
    fn scan(&mut self, base: Offset, start: SegmentEnd, known: Option<SegmentRecord>) -> Result<(), OpenError> {
        let path = self.place.path(base, LOG);
        let scanned = self.scan_file(base, start, known).context("read", &path)?;
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

        let (mut index, marks) = self.index_before(base, &start, known)?;
        let mut end = start;
        let mut window = Window::new(Arc::clone(&file), length);
        loop {
            let at = end.bytes;
            let chained = window.batch(at)?;
            let chained = chained.filter(|h| h.base_offset == self.expected && epoch_follows(&self.epochs, h));
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
                    self.damage.note(Damage { from, segment: base, position: at, length, rest: next.clone() });
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

    /// Whether a batch claims a newer epoch that the batch behind it knows nothing of: a flipped bit, for epochs never go down.
    fn is_false_rise(&self, window: &mut Window, at: u64, header: &BatchHeader) -> io::Result<bool> {
        if self.epochs.latest() == header.leader_epoch {
            return Ok(false);
        }
        let mut follower = window.batch(at + header.total_bytes() as u64)?;
        if follower.is_none() && self.upper != Offset::MAX {
            let file = self.place.disk.open(&self.place.path(self.upper, LOG))?;
            let length = file.bytes()?;
            follower = Window::new(file, length).batch(0)?;
        }
        let follower = follower.filter(|follower| follower.base_offset == header.next_offset());
        Ok(follower.is_some_and(|follower| follower.leader_epoch < header.leader_epoch))
    }

    fn note_epoch(&mut self, header: &BatchHeader) {
        if let Some(epoch) = header.leader_epoch
            && self.epochs.latest().is_none_or(|latest| latest < epoch)
        {
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

    fn finish(mut self, log_start: Offset) -> Result<Recovered, OpenError> {
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
            // A new life after the end: behind damaged bytes nothing may be appended.
            while let Some(last) = self.segments.pop_if(|last| last.base() >= end && last.end_bytes() == 0) {
                segment_files::remove(self.place, last.base())?;
            }
            let prepared = Prepared::make(self.place, u64::from(self.place.options.first_allocation_bytes))?;
            let (file, allocated) = prepared.name(self.place, end)?;
            self.segments.push(Arc::new(Segment::born(self.place, end, file, allocated)));
            self.folder_dirty = true;
        }
        if self.folder_dirty {
            self.place.disk.sync_dir(&self.place.dir).context("flush", &self.place.dir)?;
        }
        let mut epochs = self.epochs;
        let _: Change = epochs.truncate_to(end);
        let epochs_dirty = epochs != self.stored_epochs && !write_if_there_is_room(self.place, &epochs)?;
        let holes = Holes::new(self.holes).within(log_start..end);
        self.report.holes = holes.all().to_vec();
        let ends = Ends { log_start, end };
        Ok(Recovered { segments: self.segments, holes, epochs, epochs_dirty, ends, report: self.report })
    }

    /// Nothing valid follows the damage: its bytes and the segments behind it were never acked.
    fn cut_torn_tail(&mut self) -> Result<(), OpenError> {
        let Some(damage) = self.damage.take_first() else { return Ok(()) };
        while let Some(last) = self.segments.pop_if(|last| last.base() > damage.segment) {
            segment_files::remove(self.place, last.base())?;
            self.folder_dirty = true;
        }
        self.expected = damage.from;
        if damage.rest != Next::Garbage {
            return Ok(());
        }
        let path = self.place.path(damage.segment, LOG);
        self.report.torn_bytes += damage.length - damage.position;
        let file: Arc<dyn DiskFile> = self.place.disk.open(&path).context("open", &path)?;
        // Nobody has mapped it yet: the log is being opened, under the lock of the data folder.
        file.set_bytes(damage.position).and_then(|()| file.sync_data()).context("cut", &path)?;
        if let Some(last) = self.segments.last() {
            last.set_allocated(damage.position);
        }
        Ok(())
    }
}

/// False where the disk is full: a log opens all the same, and writes its epochs before its next checkpoint.
fn write_if_there_is_room(place: &Place, epochs: &LeaderEpochs) -> Result<bool, StorageError> {
    match epochs.write(&*place.disk, &place.dir) {
        Ok(()) => Ok(true),
        Err(error) if is_full(&error.source) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The index of the first `limit` bytes of a segment from the batches alone, and where they end.
pub(crate) fn rebuild_index(
    file: Arc<dyn DiskFile>,
    base: Offset,
    limit: u64,
    holes: &Holes,
    interval: u32,
) -> io::Result<(SegmentIndex, SegmentEnd)> {
    let mut index = SegmentIndex::default();
    let mut end = SegmentEnd::empty(base);
    let mut window = Window::new(file, limit);
    while end.bytes < limit {
        if let Some(hole) = holes.starting_at(base, end.bytes) {
            end.bytes = hole.bytes.end;
            continue;
        }
        // Only what is believed becomes an entry; damage that nobody knew yet is found when it is read.
        let Some(header) = window.batch(end.bytes)? else { break };
        index.note(base, &mut end, &header, interval);
    }
    Ok((index, end))
}
