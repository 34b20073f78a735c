//! What stands beside the segments of a partition folder, as an opening log finds it: checkpoint, epochs, where the log
//! begins. Decides what of it is believed; knows nothing of what is in the segments (see [`crate::recovery`]).

use tidelog_protocol::Offset;
use tracing::warn;

use crate::checkpoint::{self, Checkpoint};
use crate::compaction::cleaned::{self, Cleaned};
use crate::leader_epochs::{self, LeaderEpochs};
use crate::noted_start::{self, NotedStart};
use crate::open_error::OpenError;
use crate::producer_files;
use crate::segment::Place;
use crate::segment_files::{PRODUCERS, remove_if_there};
use crate::small_file::{self, SmallFileError};
use crate::storage_error::StorageError;
use crate::witness::Witness;
use crate::written_since::{self, WrittenSince};

/// Refuses a folder in which a later release wrote any of this: what it says is not known, and to pass over it may undo it.
pub(crate) fn refuse_later(place: &Place, producers: &[Offset]) -> Result<(), OpenError> {
    let named = [
        (checkpoint::FILE_NAME, checkpoint::KIND),
        (leader_epochs::FILE_NAME, leader_epochs::KIND),
        (noted_start::FILE_NAME, noted_start::KIND),
        (written_since::FILE_NAME, written_since::KIND),
        (cleaned::FILE_NAME, cleaned::KIND),
    ];
    let named = named.into_iter().map(|(name, kind)| (place.dir.join(name), kind));
    let snapshots = producers.iter().map(|&offset| (place.path(offset, PRODUCERS), producer_files::KIND));
    for (path, kind) in named.chain(snapshots) {
        if let Some(found) = small_file::later_version(&*place.disk, &path, kind)? {
            return Err(OpenError::Newer { path, found, newest: kind.version });
        }
    }
    Ok(())
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Bookkeeping {
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) noted_start: NotedStart,
    /// Those of a distrusted log are rebuilt from its batches.
    pub(crate) epochs: LeaderEpochs,
    /// Why the checkpoint is not to be believed about segments.
    pub(crate) distrusted: Option<String>,
    pub(crate) written_since: WrittenSince,
    /// Where the tail begins that no checkpoint covers; `None` where a checkpoint may have been there and is lost.
    pub(crate) tail_from: Option<Offset>,
    /// Everything below was durable once, though no checkpoint may say so.
    pub(crate) durable: Offset,
}

/// Reads all of it.
pub(crate) fn read(place: &Place, logs: &[Offset], witness: Witness) -> Result<Bookkeeping, StorageError> {
    let disk = &*place.disk;
    let written_since = WrittenSince::read(disk, &place.dir)?;
    let checkpoint = match Checkpoint::read(disk, &place.dir) {
        Err(SmallFileError::Storage(error)) => return Err(error),
        read => read,
    };
    let epochs = match LeaderEpochs::read(disk, &place.dir) {
        Err(SmallFileError::Storage(error)) => return Err(error),
        read => read,
    };
    let noted_start = match NotedStart::read(disk, &place.dir) {
        Err(SmallFileError::Storage(error)) => return Err(error),
        read => read,
    };
    if let Err(lost) = &checkpoint
        && !logs.is_empty()
    {
        tell_of_lost_checkpoint(place, lost, &noted_start);
    }
    let noted_start = noted_start.unwrap_or_default();
    // A folder without a segment is new.
    let durable = match witness {
        Witness::Note(end) if !logs.is_empty() => end,
        _ => Offset::ZERO,
    };
    let mut checkpoint = match checkpoint {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            // Logs that earlier releases made got their first checkpoint late, but long before a second segment.
            let is_young = matches!(error, SmallFileError::Missing) && matches!(logs, [] | [Offset::ZERO]);
            return Ok(Bookkeeping {
                checkpoint: None,
                noted_start,
                epochs: LeaderEpochs::default(),
                distrusted: (!logs.is_empty()).then(|| format!("checkpoint: {error}")),
                written_since,
                tail_from: is_young.then(|| logs.first().copied().unwrap_or_default().max(durable)),
                durable,
            });
        }
    };
    let tail_from = Some(checkpoint.recovery_point.max(durable));
    let distrusted = match epochs {
        Err(error) if checkpoint.recovery_point > checkpoint.log_start => format!("leader epochs: {error}"),
        epochs => {
            let is_known = |base: &Offset| checkpoint.segments.binary_search_by_key(base, |record| record.base).is_ok();
            let old = |base: &&Offset| (checkpoint.log_start..checkpoint.recovery_point).contains(*base);
            match logs.iter().filter(old).find(|base| !is_known(base)) {
                Some(stray) => format!("checkpoint: it does not know the segment at offset {stray}"),
                None => {
                    let (checkpoint, epochs) = (Some(checkpoint), epochs.unwrap_or_default());
                    return Ok(Bookkeeping {
                        checkpoint,
                        noted_start,
                        epochs,
                        distrusted: None,
                        written_since,
                        tail_from,
                        durable,
                    });
                }
            }
        }
    };
    let dir = place.dir.display();
    warn!(%dir, why = distrusted, "damaged: what is noted of segments and leader epochs is found out anew from the records; epochs of which no record is left are forgotten");
    // What can be told about segments is found out anew; the log start offset and how far the log was durable cannot be: without
    // the latter, damage near the end would be cut off as a torn tail.
    checkpoint.segments.clear();
    checkpoint.holes.clear();
    let (checkpoint, epochs) = (Some(checkpoint), LeaderEpochs::default());
    let distrusted = Some(distrusted);
    Ok(Bookkeeping { checkpoint, noted_start, epochs, distrusted, written_since, tail_from, durable })
}

/// Once per opening: what nothing says any more has consequences that nobody would think of otherwise.
fn tell_of_lost_checkpoint(place: &Place, lost: &SmallFileError, noted_start: &Result<NotedStart, SmallFileError>) {
    let (dir, checkpoint) = (place.dir.display(), lost.to_string());
    let log_start = match noted_start {
        Ok(noted) if *noted != NotedStart::default() => {
            warn!(%dir, checkpoint, "the checkpoint is lost, and found out anew from the segments: damage at the very end of the log is taken for a write that was under way, and a segment that is gone there is not missed, but for what is noted elsewhere of the log; what is gone between the noted start and the first segment is told as damage");
            return;
        }
        Ok(_) => "there is none".to_owned(),
        Err(error) => error.to_string(),
    };
    warn!(%dir, checkpoint, log_start, "nothing tells where the log begins but its first segment: what was cut off the front of that one is there again, and segments before it, or at the very end, that are gone are not missed, but for what is noted elsewhere of the log");
}

/// How far a log that ends at `end` was compacted. What the file says of records that are not there must not be said of those to come.
pub(crate) fn read_cleaned(place: &Place, end: Offset) -> Result<Cleaned, StorageError> {
    let (disk, dir) = (&*place.disk, &*place.dir);
    let mut cleaned = Cleaned::read(disk, dir)?;
    if cleaned.clamp(end) {
        match cleaned.write(disk, dir) {
            Err(error) if error.is_transient() => remove_if_there(disk, &dir.join(cleaned::FILE_NAME))?,
            written => written?,
        }
    }
    Ok(cleaned)
}

/// False where there is no room for the time being: a log opens all the same, and writes its epochs before its next checkpoint.
pub(crate) fn write_if_there_is_room(place: &Place, epochs: &LeaderEpochs) -> Result<bool, StorageError> {
    match epochs.write(&*place.disk, &place.dir) {
        Ok(()) => Ok(true),
        Err(error) if error.is_transient() => Ok(false),
        Err(error) => Err(error),
    }
}

/// As [`write_if_there_is_room`], of the start of a log whose first segment begins at `first`: noted by none of the releases before the file.
pub(crate) fn note_start(
    place: &Place,
    noted: &mut NotedStart,
    start: Offset,
    first: Offset,
) -> Result<(), StorageError> {
    match noted.store(&*place.disk, &place.dir, start, first) {
        Err(error) if error.is_transient() => Ok(()),
        stored => stored,
    }
}
