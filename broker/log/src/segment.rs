//! One file of batches, named by its first offset, with its indexes: what the writer appends to and every reader maps.
//!
//! Knows bytes, positions and where batches begin; knows nothing of flushing, retention or who reads. Its file is allocated in steps, always
//! before bytes are written there, so that a write never runs out of space half way: born with the first step (temp name → allocate →
//! fdatasync → rename → fsync of the folder), grown fourfold up to full size. A later step needs no flush of its own: the fdatasync
//! that makes the bytes in it durable makes the length durable too.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use tidelog_protocol::{Offset, records::BatchHeader};

use crate::checkpoint::{Marks, SegmentEnd, SegmentRecord};
use crate::disk::{Disk, DiskFile, PartialWrite, write_all_at};
use crate::map::{self, Map};
use crate::segment_files::{self, INDEX, LOG, TIME_INDEX, file_name};
use crate::segment_index::{SegmentIndex, extend_file};
use crate::storage_error::StorageError;
use crate::verified::Verified;
use crate::{offset_index, time_index};

/// How segments are cut and indexed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentOptions {
    /// Largest size of a segment, in bytes (Kafka's `segment.bytes`). At least one batch must fit. At most 2³¹ − 1.
    pub segment_bytes: u32,
    /// Log bytes between two index entries (Kafka's `index.interval.bytes`).
    pub index_interval_bytes: u32,
    /// Bytes that the first segment of a partition reserves; it grows fourfold whenever it is half full.
    pub first_allocation_bytes: u32,
}

impl Default for SegmentOptions {
    /// 256 MiB segments, an entry each 4 KiB; an idle partition costs 64 KiB of disk.
    fn default() -> Self {
        Self { segment_bytes: 256 << 20, index_interval_bytes: 4096, first_allocation_bytes: 64 << 10 }
    }
}

#[derive(Debug)]
pub(crate) struct Segment {
    base: Offset,
    dir: Arc<Path>,
    disk: Arc<dyn Disk>,
    options: SegmentOptions,
    /// Size at which the next segment begins: that of `options`, until the segment takes its first batch.
    full_bytes: AtomicU32,
    /// Published copies of `contents.end`: offset first, so that whoever sees a position sees an offset that covers it.
    end_offset: AtomicU64,
    end_bytes: AtomicU64,
    /// Bytes known to be durable.
    synced_bytes: AtomicU64,
    /// Bytes reserved on the disk.
    allocated: AtomicU64,
    /// Length of the file that no loss of power takes back.
    certain_bytes: AtomicU64,
    growth: Mutex<()>,
    contents: RwLock<Contents>,
    /// Shared by those that have one file.
    open: Arc<RwLock<Open>>,
    /// This one before it was cut, each time: as long as anybody has one of them, bytes behind the end may be looked at.
    uncut: Vec<Weak<Self>>,
    pub(crate) verified: Verified,
    /// Read since the last look of the upkeep, which closes what nobody uses.
    pub(crate) touched: AtomicBool,
    /// Its name does not lead to its file: the descriptor stays open.
    pinned: AtomicBool,
}

#[derive(Debug)]
struct Contents {
    end: SegmentEnd,
    /// `None` while it rests in its files.
    index: Option<SegmentIndex>,
    marks: Marks,
}

#[derive(Debug, Default)]
struct Open {
    file: Option<Arc<dyn DiskFile>>,
    map: Option<Arc<Map>>,
}

/// Where the files of a log live and how they are cut.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) dir: Arc<Path>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) options: SegmentOptions,
}

impl Place {
    pub(crate) fn path(&self, base: Offset, extension: &str) -> PathBuf {
        self.dir.join(file_name(base, extension))
    }
}

impl Segment {
    /// A segment that was born just now, without a batch.
    pub(crate) fn born(place: &Place, base: Offset, file: Arc<dyn DiskFile>, allocated: u64) -> Self {
        let record = SegmentRecord { base, end: SegmentEnd::empty(base), marks: Marks::default() };
        let mut segment = Self::known(place, record, allocated);
        *segment.certain_bytes.get_mut() = allocated.max(u64::from(place.options.first_allocation_bytes));
        segment.contents.get_mut().index = Some(SegmentIndex::default());
        segment.open.write().file = Some(file);
        segment
    }

    /// A segment as a checkpoint describes it; nothing is opened before it is needed.
    pub(crate) fn known(place: &Place, record: SegmentRecord, allocated: u64) -> Self {
        let bytes = record.end.bytes;
        Self {
            base: record.base,
            dir: Arc::clone(&place.dir),
            disk: Arc::clone(&place.disk),
            options: place.options,
            full_bytes: AtomicU32::new(place.options.segment_bytes),
            end_offset: AtomicU64::new(record.end.offset.0),
            end_bytes: AtomicU64::new(bytes),
            synced_bytes: AtomicU64::new(bytes),
            allocated: AtomicU64::new(allocated),
            certain_bytes: AtomicU64::new(0),
            growth: Mutex::new(()),
            contents: RwLock::new(Contents { end: record.end, index: None, marks: record.marks }),
            open: Arc::default(),
            uncut: Vec::new(),
            verified: Verified::from(bytes),
            touched: AtomicBool::new(false),
            pinned: AtomicBool::new(false),
        }
    }

    /// A segment as a scan found it, with the index that the scan made. Its file was flushed.
    pub(crate) fn scanned(place: &Place, base: Offset, end: SegmentEnd, found: Scanned) -> Self {
        let record = SegmentRecord { base, end, marks: found.marks };
        let mut segment = Self::known(place, record, found.allocated);
        *segment.certain_bytes.get_mut() = found.allocated;
        segment.contents.get_mut().index = Some(found.index);
        segment.open.write().file = Some(found.file);
        segment.verified = found.verified;
        segment
    }

    /// The same file with less in it, which ends at `end` and is never written to again; `index` is that of what stays. Everything there must be
    /// durable, and whoever still has the segment as it was finds it unchanged.
    pub(crate) fn sealed_at(self: &Arc<Self>, end: SegmentEnd, index: SegmentIndex) -> Self {
        let place = Place { dir: Arc::clone(&self.dir), disk: Arc::clone(&self.disk), options: self.options };
        let record = SegmentRecord { base: self.base, end, marks: Marks::default() };
        let mut segment = Self::known(&place, record, self.allocated());
        *segment.certain_bytes.get_mut() = self.certain_bytes();
        segment.contents.get_mut().index = Some(index);
        segment.open = Arc::clone(&self.open);
        segment.uncut = self.uncut.iter().cloned().chain([Arc::downgrade(self)]).collect();
        segment.verified = self.verified.below(end.bytes);
        segment
    }

    pub(crate) fn base(&self) -> Offset {
        self.base
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.named(LOG)
    }

    fn named(&self, extension: &str) -> PathBuf {
        self.dir.join(file_name(self.base, extension))
    }

    /// Offset after the last record, at least as new as every position seen before the call.
    pub(crate) fn end_offset(&self) -> Offset {
        Offset(self.end_offset.load(Ordering::Acquire))
    }

    pub(crate) fn end_bytes(&self) -> u64 {
        self.end_bytes.load(Ordering::Acquire)
    }

    /// Size at which the next segment begins.
    pub(crate) fn full_bytes(&self) -> u64 {
        u64::from(self.full_bytes.load(Ordering::Acquire))
    }

    /// By the writer, while there is no batch in it.
    pub(crate) fn adopt_full_bytes(&self, bytes: u32) {
        self.full_bytes.store(bytes, Ordering::Release);
    }

    pub(crate) fn allocated(&self) -> u64 {
        self.allocated.load(Ordering::Acquire)
    }

    /// Recovery cut the file there.
    pub(crate) fn set_allocated(&self, bytes: u64) {
        self.allocated.store(bytes, Ordering::Release);
        self.certain_bytes.store(bytes, Ordering::Release);
    }

    /// As long as the file stays at least, unless somebody cuts it.
    pub(crate) fn certain_bytes(&self) -> u64 {
        self.certain_bytes.load(Ordering::Acquire)
    }

    /// Whether the file has more than its batches.
    pub(crate) fn has_spare_room(&self) -> bool {
        self.end_bytes() < self.allocated().max(self.certain_bytes())
    }

    /// Makes the length durable that the file has. As final as any flush.
    pub(crate) fn sync_length(&self) -> io::Result<()> {
        let allocated = self.allocated();
        self.file()?.sync_data()?;
        self.certain_bytes.fetch_max(allocated, Ordering::AcqRel);
        Ok(())
    }

    /// Bytes from here on are in the page cache for certain: the kernel drops no page that was not written back.
    pub(crate) fn synced_bytes(&self) -> u64 {
        self.synced_bytes.load(Ordering::Acquire)
    }

    /// End and marks at one instant.
    pub(crate) fn record(&self) -> SegmentRecord {
        let contents = self.contents.read();
        SegmentRecord { base: self.base, end: contents.end, marks: contents.marks }
    }

    /// Whether a batch of that many bytes and that last offset still fits.
    pub(crate) fn has_room(&self, bytes: u64, next_offset: Offset) -> bool {
        self.end_bytes() + bytes <= self.full_bytes() && next_offset.since(self.base) <= u64::from(u32::MAX >> 1)
    }

    /// Makes sure that bytes up to `end` have blocks, and takes ahead no more than is to `spare`. The answer is how many it took. Callers:
    /// the writer when it must, the upkeep ahead of it.
    pub(crate) fn grow(&self, end: u64, spare: u64) -> io::Result<u64> {
        if end <= self.allocated() {
            return Ok(0);
        }
        let _one_at_a_time = self.growth.lock();
        let allocated = self.allocated();
        if end <= allocated {
            return Ok(0);
        }
        if end - allocated > spare {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let full = self.full_bytes().max(end);
        let step = allocated.max(u64::from(self.options.first_allocation_bytes) / 4).saturating_mul(4);
        let target = step.max(end).min(full).min(allocated.saturating_add(spare));
        let file = self.file()?;
        match file.allocate(allocated..target) {
            Ok(()) => self.allocated.store(target, Ordering::Release),
            // On a nearly full disk exactly what is needed may still fit.
            Err(_) if end < target => {
                file.allocate(allocated..end)?;
                self.allocated.store(end, Ordering::Release);
            }
            Err(error) => return Err(error),
        }
        Ok(self.allocated() - allocated)
    }

    /// Whether the next step should be reserved now, while nobody waits for it.
    pub(crate) fn wants_growth(&self) -> bool {
        let allocated = self.allocated();
        self.end_bytes() > allocated / 2 && allocated < self.full_bytes()
    }

    /// Writes at the end, without publishing. Blocks must have been reserved.
    pub(crate) fn write(&self, parts: &mut [IoSlice<'_>]) -> Result<(), PartialWrite> {
        let file = self.file().map_err(|error| PartialWrite { written: 0, error })?;
        write_all_at(&*file, parts, self.end_bytes())
    }

    /// Zeros what a failed write left behind the end; no batch begins with zeros.
    pub(crate) fn erase_unpublished(&self, written: u64) -> io::Result<()> {
        let zeros = [0; 4096];
        let (mut position, end) = (self.end_bytes(), self.end_bytes() + written);
        let file = self.file()?;
        while position < end {
            let count = zeros.len().min((end - position) as usize);
            write_all_at(&*file, &mut [IoSlice::new(&zeros[..count])], position).map_err(|partial| partial.error)?;
            position += count as u64;
        }
        Ok(())
    }

    /// Publishes batches that were written at the end.
    pub(crate) fn publish<'h>(&self, headers: impl Iterator<Item = BatchHeader> + 'h) {
        let mut contents = self.contents.write();
        let Contents { end, index, .. } = &mut *contents;
        let index = index.as_mut().expect("the writer loads the index before it appends");
        for header in headers {
            index.note(self.base, end, &header, self.options.index_interval_bytes);
        }
        self.end_offset.store(end.offset.0, Ordering::Release);
        self.end_bytes.store(end.bytes, Ordering::Release);
    }

    /// The one descriptor of this segment.
    pub(crate) fn file(&self) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = self.opened() {
            return Ok(file);
        }
        let mut open = self.open.write();
        if let Some(file) = &open.file {
            return Ok(Arc::clone(file));
        }
        let file = self.disk.open(&self.path())?;
        open.file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// The descriptor, if it is open already.
    pub(crate) fn opened(&self) -> Option<Arc<dyn DiskFile>> {
        self.open.read().file.clone()
    }

    /// A map that reaches at least to `end`.
    pub(crate) fn map(&self, end: u64) -> io::Result<Arc<Map>> {
        if let Some(map) = &self.open.read().map
            && map.bytes() >= end
        {
            return Ok(Arc::clone(map));
        }
        let file = self.file()?;
        let mut open = self.open.write();
        // Beyond the end of the file, for the file to grow into: one map serves the segment's whole life.
        let map = Arc::new(file.map(end.max(self.full_bytes()))?);
        open.map = Some(Arc::clone(&map));
        Ok(map)
    }

    /// What `search` finds in the index; `None` while the index rests in its files.
    pub(crate) fn search<T>(&self, search: impl FnOnce(&SegmentIndex) -> T) -> Option<T> {
        self.contents.read().index.as_ref().map(search)
    }

    /// Whether [`Segment::search`] would find an index in memory.
    pub(crate) fn is_indexed(&self) -> bool {
        self.contents.read().index.is_some()
    }

    /// Brings the index back from its files. False where they are missing or damaged: it must be rebuilt.
    pub(crate) fn load_index(&self) -> io::Result<bool> {
        if self.is_indexed() {
            return Ok(true);
        }
        let (marks, end) = {
            let contents = self.contents.read();
            (contents.marks, contents.end)
        };
        if marks.offsets.entries == 0 && end.bytes > u64::from(self.options.index_interval_bytes) {
            // It was never saved: one that is empty would have every search begin at the front.
            return Ok(false);
        }
        let loaded = SegmentIndex::load(&*self.disk, &self.named(INDEX), &self.named(TIME_INDEX), &marks)?;
        let found = loaded.is_some();
        let mut contents = self.contents.write();
        if contents.index.is_none() {
            contents.index = loaded;
        }
        Ok(found || contents.index.is_some())
    }

    /// Takes an index that was rebuilt from the log; its files are written anew at the next checkpoint.
    pub(crate) fn adopt_index(&self, index: SegmentIndex) {
        let mut contents = self.contents.write();
        if contents.index.is_none() {
            contents.index = Some(index);
            contents.marks = Marks::default();
        }
    }

    /// Writes to the index files, durably, what they lack of the segment as `as_of` describes it. One caller at a time.
    pub(crate) fn save_index(&self, as_of: &SegmentRecord) -> io::Result<Marks> {
        let (before, unwritten) = {
            let contents = self.contents.read();
            let Some(index) = &contents.index else { return Ok(contents.marks) };
            (contents.marks, index.unwritten(&contents.marks, as_of))
        };
        let (offsets, times, marks) = unwritten;
        if marks != before {
            let disk = &*self.disk;
            extend_file(disk, &self.named(INDEX), before.offsets, offset_index::ENTRY_BYTES, &offsets)?;
            extend_file(disk, &self.named(TIME_INDEX), before.times, time_index::ENTRY_BYTES, &times)?;
            self.contents.write().marks = marks;
        }
        Ok(marks)
    }

    /// Bytes that are not durable yet, as far as this process knows.
    pub(crate) fn dirty_bytes(&self) -> u64 {
        self.end_bytes().saturating_sub(self.synced_bytes())
    }

    /// Makes everything published so far durable; the answer is how many bytes that were.
    pub(crate) fn sync(&self) -> io::Result<u64> {
        let synced = self.end_bytes();
        let dirty = synced.saturating_sub(self.synced_bytes());
        if dirty > 0 {
            self.sync_length()?;
            self.synced_bytes.fetch_max(synced, Ordering::AcqRel);
        }
        Ok(dirty)
    }

    /// Makes sure that its name leads to its file, in its length. One whose name is about to be another's, or that nobody has open, says nothing.
    pub(crate) fn find_again(&self) -> Result<(), StorageError> {
        let _no_growth = self.growth.lock();
        match self.opened() {
            Some(file) if !self.pinned.load(Ordering::Acquire) => {
                segment_files::find_again(&*self.disk, &self.path(), &*file, self.allocated())
            }
            _ => Ok(()),
        }
    }

    /// Gives back reserved blocks behind the end, and what was cut off, unless somebody may be looking through a map: another dump tool then
    /// sees batches only.
    pub(crate) fn trim(&self) -> io::Result<()> {
        // Whoever has it may be about to map what was cut off.
        if self.uncut.iter().any(|uncut| uncut.strong_count() > 0) {
            return Ok(());
        }
        let file = self.file()?;
        let mut open = self.open.write();
        let _no_growth = self.growth.lock();
        let end = self.end_bytes();
        // A map that nobody reads through any more is let go of. It may have brought zeros behind the end into the page cache, which the
        // next opening could not tell from bytes that were written.
        if open.map.as_ref().is_some_and(|map| Arc::strong_count(map) == 1) {
            open.map = None;
        }
        // Whoever holds a slice may look at it, though nobody has the segment any more that it is of.
        if open.map.is_none() && self.has_spare_room() && !map::is_mapped(file.id()?) {
            file.set_bytes(end)?;
            file.sync_data()?;
            self.set_allocated(end);
        }
        Ok(())
    }

    /// Opens the file for good: another is about to have its name.
    pub(crate) fn pin(&self) -> io::Result<()> {
        self.pinned.store(true, Ordering::Release);
        self.file().map(drop)
    }

    /// The name leads to the file (again).
    pub(crate) fn unpin(&self) {
        self.pinned.store(false, Ordering::Release);
    }

    /// Lets go of descriptor, map and index of a segment that is sealed, saved and unread.
    pub(crate) fn rest(&self) {
        let mut open = self.open.write();
        if self.dirty_bytes() > 0 || self.pinned.load(Ordering::Acquire) {
            return;
        }
        *open = Open::default();
        drop(open);
        // Nobody looks at its pages any more, and whoever reads the file brings them in.
        self.verified.forget(self.end_bytes());
        let mut contents = self.contents.write();
        let saved = contents.index.as_ref().is_some_and(|index| {
            let Marks { offsets, times } = contents.marks;
            index.offsets.entries().len() == offsets.entries as usize
                && index.times.entries().len() == times.entries as usize
        });
        if saved {
            contents.index = None;
        }
    }
}

/// What a scan of a segment's file found, beside its end.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) index: SegmentIndex,
    pub(crate) marks: Marks,
    pub(crate) verified: Verified,
    pub(crate) allocated: u64,
}
