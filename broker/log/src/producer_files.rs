//! What a log knows of its idempotent producers and their transactions, across restarts and cuts: snapshots beside the segments, and the headers of
//! the batches behind the newest that can be believed, with what the markers among them say. So retention takes nothing of it, and opening reads no more than the tail.
//!
//! A snapshot is written with each checkpoint, after the flush that makes all of it durable and before the checkpoint that lets the log begin
//! behind it. One that reaches beyond the end of the log speaks of batches that are gone: it is removed, durably, before another batch
//! is appended. Where none can be believed the whole log is read; what lay before its first segment is unknown then, and is said to be
//! ([`Producers::unknown`]). Knows nothing of what the knowledge is for.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use tidelog_protocol::messages::ProducersSnapshot;
use tidelog_protocol::records::BatchHeader;
use tidelog_protocol::{Message, Offset, ProtocolVersion};
use tidelog_replication::Producers;
use tracing::warn;

use crate::headers::{Headers, Marker, near};
use crate::log::{Group, Log};
use crate::segment::Segment;
use crate::segment_files::{PRODUCERS, remove_if_there};
use crate::small_file::{self, Kind, SmallFileError};
use crate::state::{LogState, Upkeep};
use crate::storage_error::{Context, StorageError};

pub(crate) const KIND: Kind = Kind { magic: *b"TLpr", version: 3 };
/// The version of the messages that the file holds now.
const FORM: ProtocolVersion = ProtocolVersion(10);
/// And those that versions 1 and 2 of it held: from before there were transactions, and from before producers were forgotten early.
const EARLIER_FORMS: [ProtocolVersion; 2] = [ProtocolVersion(3), ProtocolVersion(4)];
/// So many are kept, besides a few that lie further back: a log is seldom cut far from its end.
const KEPT: usize = 4;

impl Log {
    /// What the log knows of its producers, as of its end. Held only for as long as `look` takes: the upkeep looks, too.
    pub fn with_producers<T>(&self, look: impl FnOnce(&mut Producers) -> T) -> T {
        look(&mut self.state.producers.lock())
    }

    /// Adds what the leader knows of producers that wrote below this log. False where it makes no sense. Blocks: it is stored at once, since no
    /// batch of this log says it again, and the replica may soon be the only one that knows. Where that cannot be done, or the log is not
    /// durable up to its end, it is stored with the next checkpoint.
    pub fn adopt_producers(&self, theirs: &ProducersSnapshot) -> bool {
        let known = {
            let mut producers = self.state.producers.lock();
            if !producers.adopt(theirs) {
                return false;
            }
            producers.snapshot()
        };
        self.state.producers_adopted.store(true, Ordering::Release);
        let mut upkeep = self.state.upkeep.lock();
        if known.end <= self.state.flushed_end() {
            match self.state.write_snapshot(&mut upkeep, &known) {
                Ok(()) => self.state.producers_adopted.store(false, Ordering::Release),
                Err(error) => {
                    warn!(%error, "what the leader knows of producers cannot be stored; the next checkpoint tries again");
                }
            }
        }
        true
    }
}

/// What a snapshot of this version of the file says.
pub(crate) fn decode(version: u16, body: &[u8]) -> Result<ProducersSnapshot, String> {
    let earlier = usize::from(version).checked_sub(1).and_then(|earlier| EARLIER_FORMS.get(earlier));
    let form = earlier.copied().unwrap_or(FORM);
    ProducersSnapshot::from_body(body, form).map_err(|error| error.to_string())
}

impl LogState {
    /// These batches stand in the log now.
    pub(crate) fn note_producers<'g>(&self, groups: impl Iterator<Item = &'g Group<'g>>, mut base: Offset) {
        let mut producers = self.producers.lock();
        for (header, bytes) in groups.flat_map(Group::batches) {
            let stamped = BatchHeader { base_offset: base, ..*header };
            base = stamped.next_offset();
            match header.attributes.is_control().then(|| Marker::of(bytes)) {
                Some(Marker::Ends(outcome)) => producers.note_marker(&stamped, outcome),
                _ => producers.note(&stamped),
            }
        }
    }

    /// At the opening of the log: from the newest of these snapshots that can be believed, and the batches behind it. True where batches were
    /// read for it.
    pub(crate) fn recover_producers(&self, snapshots: Vec<Offset>) -> Result<bool, StorageError> {
        let mut upkeep = self.upkeep.lock();
        upkeep.snapshots = snapshots;
        self.rebuild_producers(&mut upkeep, self.written_end())
    }

    /// As of `end`, where the log ends now.
    pub(crate) fn rebuild_producers(&self, upkeep: &mut Upkeep, end: Offset) -> Result<bool, StorageError> {
        self.drop_snapshots_behind(upkeep, end)?;
        let (producers, has_read) = self.known_at(upkeep, end)?;
        *self.producers.lock() = producers;
        Ok(has_read)
    }

    /// For a log that is about to be cut at `cut`, and to begin anew at `start`, which is not before.
    pub(crate) fn producers_as_of(&self, cut: Offset, start: Offset) -> Result<Producers, StorageError> {
        let mut upkeep = self.upkeep.lock();
        self.drop_snapshots_behind(&mut upkeep, cut)?;
        let (mut producers, _) = self.known_at(&mut upkeep, cut)?;
        producers.skip_to(start);
        if producers.is_complete() {
            // While the batches are there that it was read from.
            self.write_snapshot(&mut upkeep, &producers.snapshot())?;
        }
        Ok(producers)
    }

    /// For a log that begins anew where these end.
    pub(crate) fn replace_producers(&self, upkeep: &mut Upkeep, producers: Producers) -> Result<(), StorageError> {
        let kept = producers.is_complete() && upkeep.snapshots.last() == Some(&producers.end());
        for snapshot in if kept { Vec::new() } else { std::mem::take(&mut upkeep.snapshots) } {
            remove_if_there(&*self.place.disk, &self.place.path(snapshot, PRODUCERS))?;
        }
        *self.producers.lock() = producers;
        Ok(())
    }

    fn known_at(&self, upkeep: &mut Upkeep, end: Offset) -> Result<(Producers, bool), StorageError> {
        let first = self.segments().first().map_or(end, |segment| segment.base()).min(end);
        let mut producers = self
            .newest_snapshot(upkeep)?
            .unwrap_or_else(|| if first == Offset::ZERO { Producers::new(first) } else { Producers::unknown(first) });
        let begun = producers.end();
        self.replay(&mut producers, end);
        let has_read = begun < producers.end();
        Ok((producers, has_read))
    }

    /// Removes the snapshots that reach beyond `end`. Durable with the next fsync of the folder.
    pub(crate) fn drop_snapshots_behind(&self, upkeep: &mut Upkeep, end: Offset) -> Result<(), StorageError> {
        let kept = upkeep.snapshots.partition_point(|&snapshot| snapshot <= end);
        if kept == upkeep.snapshots.len() {
            return Ok(());
        }
        for snapshot in upkeep.snapshots.drain(kept..) {
            remove_if_there(&*self.place.disk, &self.place.path(snapshot, PRODUCERS))?;
        }
        self.place.disk.sync_dir(&self.place.dir).context("flush", &self.place.dir)
    }

    /// Stores what was known before the flush that has just ended, unless it is stored already, and lets go of older snapshots.
    pub(crate) fn store_producers(
        &self,
        upkeep: &mut Upkeep,
        snapshot: &ProducersSnapshot,
        segments: &[Arc<Segment>],
    ) -> Result<(), StorageError> {
        let disk = &*self.place.disk;
        let adopted = self.producers_adopted.swap(false, Ordering::AcqRel);
        if upkeep.snapshots.last() != Some(&snapshot.end) || adopted {
            self.write_snapshot(upkeep, snapshot).inspect_err(|_| {
                self.producers_adopted.store(adopted, Ordering::Release);
            })?;
        }
        let known = &upkeep.snapshots;
        let newest = known.len().saturating_sub(KEPT);
        // The log can be cut down to its start: the oldest from which it can be read on is kept, and those before the last two segments.
        let first = segments.first().map(|segment| known.partition_point(|&snapshot| snapshot < segment.base()));
        let last_two = segments.iter().rev().take(2);
        let before =
            last_two.map(|segment| known.partition_point(|&snapshot| snapshot <= segment.base()).checked_sub(1));
        let anchors: Vec<usize> = before.flatten().chain(first).collect();
        for index in (0..newest).rev().filter(|index| !anchors.contains(index)) {
            remove_if_there(disk, &self.place.path(upkeep.snapshots[index], PRODUCERS))?;
            upkeep.snapshots.remove(index);
        }
        Ok(())
    }

    fn write_snapshot(&self, upkeep: &mut Upkeep, snapshot: &ProducersSnapshot) -> Result<(), StorageError> {
        let mut body = BytesMut::new();
        snapshot.encode(&mut body, FORM);
        small_file::replace(&*self.place.disk, &self.place.path(snapshot.end, PRODUCERS), KIND, &body)?;
        upkeep.snapshots.retain(|&known| known != snapshot.end);
        upkeep.snapshots.push(snapshot.end);
        Ok(())
    }

    fn newest_snapshot(&self, upkeep: &mut Upkeep) -> Result<Option<Producers>, StorageError> {
        while let Some(&offset) = upkeep.snapshots.last() {
            let path = self.place.path(offset, PRODUCERS);
            let why = match small_file::read(&*self.place.disk, &path, KIND) {
                Ok((version, body)) => match decode(version, &body) {
                    Ok(snapshot) if snapshot.end == offset => match Producers::restored(&snapshot) {
                        Some(producers) => return Ok(Some(producers)),
                        None => "its entries make no sense".to_owned(),
                    },
                    Ok(_) => "it is of another offset than its name".to_owned(),
                    Err(why) => why,
                },
                Err(SmallFileError::Storage(error)) => return Err(error),
                Err(error) => error.to_string(),
            };
            warn!(path = %path.display(), why, "a snapshot of the producers is not used; an older one, or the log itself, tells instead");
            remove_if_there(&*self.place.disk, &path)?;
            upkeep.snapshots.pop();
        }
        Ok(None)
    }

    /// Goes on through the log from where the knowledge ends.
    fn replay(&self, producers: &mut Producers, end: Offset) {
        let segments = self.segments();
        for segment in segments.iter() {
            if segment.end_offset() <= producers.end() || producers.end() >= end {
                continue;
            }
            producers.skip_to(segment.base().min(end));
            if let Err(error) = self.replay_segment(producers, segment, end) {
                // Its records cannot be read either, and readers are told so. What they were is unknown.
                warn!(path = %segment.path().display(), %error, "headers cannot be read: what their producers wrote is unknown");
            }
            producers.skip_to(segment.end_offset().min(end));
        }
        producers.skip_to(end);
    }

    fn replay_segment(&self, producers: &mut Producers, segment: &Arc<Segment>, end: Offset) -> io::Result<()> {
        let holes = self.holes();
        let file = segment.file()?;
        let mut headers = Headers::new(&*file, segment.end_bytes());
        let (mut position, mut offset) = near(segment, producers.end(), &mut headers)?;
        while position < headers.limit && offset < end {
            if let Some(hole) = holes.starting_at(segment.base(), position) {
                producers.skip_to(hole.to.min(end));
                (position, offset) = (hole.bytes.end, hole.to);
                continue;
            }
            let header = headers.at(position)?.filter(|header| header.base_offset == offset);
            let Some(header) = header else { break };
            if header.next_offset() > end {
                break;
            }
            match header.attributes.is_control().then(|| headers.marker(position, &header)).transpose()? {
                Some(Marker::Ends(outcome)) => producers.note_marker(&header, outcome),
                Some(Marker::Damaged) => producers.skip_to(header.next_offset()),
                Some(Marker::Unknown) | None => producers.note(&header),
            }
            (position, offset) = (position + header.total_bytes() as u64, header.next_offset());
        }
        Ok(())
    }
}
