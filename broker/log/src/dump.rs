//! Looking into one file of a log offline: what `tidelog log dump` prints. Takes no lock, changes nothing, believes nothing.
//!
//! The kind of file is told by its name. Knows nothing of output formats: it gives typed entries.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidelog_protocol::Offset;
use tidelog_protocol::messages::ProducerStanding;
use tidelog_protocol::records::{BatchHeader, HEADER_BYTES, RawBatch};

use crate::checkpoint::{self, Checkpoint};
use crate::compaction::cleaned::{self, Cleaned};
use crate::disk::{Disk, read_whole};
use crate::identity::{self, Identity};
use crate::leader_epochs::{self, EpochStart, LeaderEpochs};
use crate::offset_index::OffsetEntry;
use crate::os_disk::OsDisk;
use crate::producer_files;
use crate::scan::{Next, Window};
use crate::segment_files::{INDEX, LOG, PRODUCERS, TIME_INDEX, parse_name, parse_swap_name};
use crate::small_file::{self, Kind, SmallFileError};
use crate::storage_error::{Context, StorageError};
use crate::time_index::TimeEntry;

mod indexes;
mod notes;

pub use notes::{Field, FieldValue};

/// Index files of a full segment are far below this.
const INDEX_BYTES_MAX: u64 = 1 << 30;

/// One thing found in a file.
#[derive(Clone, PartialEq, Debug)]
pub enum DumpEntry {
    /// A batch.
    Batch(BatchEntry),
    /// Bytes of a segment that are no batch: damage, or a torn tail.
    Damage {
        /// Where they begin.
        position: u64,
        /// How many there are.
        bytes: u64,
    },
    /// Bytes of an index that break its rules.
    Misfit {
        /// Where they begin.
        position: u64,
        /// How many there are.
        bytes: u64,
        /// Which rule.
        reason: &'static str,
    },
    /// Reserved space behind the last batch.
    Zeros {
        /// Where it begins.
        position: u64,
        /// How much there is.
        bytes: u64,
    },
    /// An entry of an `.index` file.
    Offset {
        /// Last offset of the batch.
        offset: Offset,
        /// As it stands in the file.
        entry: OffsetEntry,
    },
    /// An entry of a `.timeindex` file.
    Time {
        /// Last offset of the batch.
        offset: Offset,
        /// As it stands in the file.
        entry: TimeEntry,
    },
    /// The checkpoint.
    Checkpoint(Checkpoint),
    /// An entry of the leader epochs.
    Epoch(EpochStart),
    /// Whose folder it is.
    Identity(Identity),
    /// What a snapshot knows of a producer.
    Producer(ProducerStanding),
    /// How far compaction has come.
    Compaction {
        /// Nothing from here on was looked at yet.
        seen_to: Offset,
        /// Nothing from here on is unclean.
        cleaned_to: Offset,
        /// Deletions below this may be forgotten, and none above.
        dropped_below: Offset,
    },
    /// The numbers of a file that holds a few.
    Note {
        /// The file.
        file: &'static str,
        /// What stands in it, in its order.
        fields: Vec<Field>,
    },
}

/// A batch in a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchEntry {
    /// Where it begins.
    pub position: u64,
    /// Its header.
    pub header: BatchHeader,
    /// Whether its bytes match its CRC field.
    pub crc: CrcCheck,
}

/// The outcome of verifying a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CrcCheck {
    /// The bytes are as they were written.
    Valid,
    /// They are not.
    Invalid,
}

/// Why a file cannot be dumped.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The name is none that a partition folder holds.
    #[error(
        "{}: not a file of a log that has something to show: expected a segment (<20 digits>.log), what stands beside one (.index, .timeindex, .producers), a checkpoint, leader-epochs, or one of {} more kinds that the command's --help names", path.display(), notes::names().count() + 3
    )]
    UnknownKind {
        /// The file.
        path: PathBuf,
    },
    /// The file is short, garbage, or of a later release.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The disk refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Iterates the entries of one file; ends after the first error.
#[derive(Debug)]
pub struct Dump(Source);

#[derive(Debug)]
enum Source {
    Segment(Box<SegmentWalk>),
    Entries(std::vec::IntoIter<DumpEntry>),
}

#[derive(Debug)]
struct SegmentWalk {
    path: PathBuf,
    window: Window,
    length: u64,
    position: u64,
    expected: Offset,
}

impl Dump {
    /// Opens a `.log`, `.index`, `.timeindex`, `.producers` or `.swap` file, or one of the small files of a partition, of a data folder or of the
    /// metadata log.
    ///
    /// # Errors
    /// [`DumpError`].
    pub fn open(path: &Path) -> Result<Self, DumpError> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some((base, _)) = parse_swap_name(name) {
            return segment(base, path);
        }
        let entries = match (parse_name(name), name) {
            (Some((base, LOG)), _) => return segment(base, path),
            (Some((_, PRODUCERS)), _) => {
                let (version, body) = small_with_version(path, producer_files::KIND)?;
                let snapshot = producer_files::decode(version, &body)
                    .map_err(|reason| DumpError::Damaged { path: path.to_owned(), reason })?;
                snapshot.producers.into_iter().map(DumpEntry::Producer).collect()
            }
            (_, cleaned::FILE_NAME) => {
                let body = small(path, cleaned::KIND)?;
                let found = Cleaned::decode(&body).ok_or_else(|| misfit(path))?;
                let (seen_to, cleaned_to, dropped_below) = (found.seen_to, found.cleaned_to(), found.dropped_below);
                vec![DumpEntry::Compaction { seen_to, cleaned_to, dropped_below }]
            }
            (Some((base, INDEX)), _) => indexes::offsets(base, &read(path)?),
            (Some((base, TIME_INDEX)), _) => indexes::times(base, &read(path)?),
            (_, checkpoint::FILE_NAME) => {
                let body = small(path, checkpoint::KIND)?;
                vec![DumpEntry::Checkpoint(Checkpoint::decode(&body).ok_or_else(|| misfit(path))?)]
            }
            (_, leader_epochs::FILE_NAME) => {
                let body = small(path, leader_epochs::KIND)?;
                let epochs = LeaderEpochs::decode(&body).ok_or_else(|| misfit(path))?;
                epochs.starts().iter().copied().map(DumpEntry::Epoch).collect()
            }
            (_, identity::FILE_NAME) => {
                let body = small(path, identity::KIND)?;
                vec![DumpEntry::Identity(Identity::decode(&body).ok_or_else(|| misfit(path))?)]
            }
            _ => match notes::entries(name, path)? {
                Some(entries) => entries,
                None => return Err(DumpError::UnknownKind { path: path.to_owned() }),
            },
        };
        Ok(Self(Source::Entries(entries.into_iter())))
    }
}

impl Iterator for Dump {
    type Item = Result<DumpEntry, DumpError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Source::Entries(entries) => entries.next().map(Ok),
            Source::Segment(walk) => match walk.next().context("read", &walk.path) {
                Ok(entry) => entry.map(Ok),
                Err(error) => {
                    self.0 = Source::Entries(Vec::new().into_iter());
                    Some(Err(error.into()))
                }
            },
        }
    }
}

impl SegmentWalk {
    fn next(&mut self) -> io::Result<Option<DumpEntry>> {
        let position = self.position;
        if position >= self.length {
            return Ok(None);
        }
        // A whole batch whose bytes changed is still shown as one, if its neighbours agree with its length.
        if let Some(batch) = self.batch(position)? {
            self.position += batch.header.total_bytes() as u64;
            self.expected = batch.header.next_offset();
            return Ok(Some(DumpEntry::Batch(batch)));
        }
        let next = self.window.batch_after(position, self.expected, &|_| true)?;
        self.position = match next {
            Next::Batch(found, header) => {
                self.expected = header.base_offset;
                found
            }
            Next::Zeros | Next::Garbage => self.length,
        };
        let bytes = self.position - position;
        Ok(Some(if next == Next::Zeros {
            DumpEntry::Zeros { position, bytes }
        } else {
            DumpEntry::Damage { position, bytes }
        }))
    }

    fn batch(&mut self, position: u64) -> io::Result<Option<BatchEntry>> {
        let Ok(header) = BatchHeader::parse_compacted(self.window.bytes(position, HEADER_BYTES)?) else {
            return Ok(None);
        };
        let bytes = self.window.bytes(position, header.total_bytes())?;
        let Ok(batch) = RawBatch::parse_compacted(bytes) else { return Ok(None) };
        let crc = if batch.verify_crc().is_ok() { CrcCheck::Valid } else { CrcCheck::Invalid };
        let chains = crc == CrcCheck::Valid || header.base_offset == self.expected;
        Ok(chains.then_some(BatchEntry { position, header, crc }))
    }
}

fn segment(base: Offset, path: &Path) -> Result<Dump, DumpError> {
    let file = OsDisk.open_read_only(path).context("open", path)?;
    let length = file.bytes().context("measure", path)?;
    let window = Window::new(Arc::clone(&file), length);
    let walk = SegmentWalk { path: path.to_owned(), window, length, position: 0, expected: base };
    Ok(Dump(Source::Segment(Box::new(walk))))
}

fn read(path: &Path) -> Result<Vec<u8>, StorageError> {
    read_whole(&OsDisk, path, INDEX_BYTES_MAX).context("read", path)
}

fn small(path: &Path, kind: Kind) -> Result<Vec<u8>, DumpError> {
    small_with_version(path, kind).map(|(_, body)| body)
}

fn small_with_version(path: &Path, kind: Kind) -> Result<(u16, Vec<u8>), DumpError> {
    match small_file::read(&OsDisk, path, kind) {
        Ok(found) => Ok(found),
        Err(SmallFileError::Storage(error)) => Err(error.into()),
        Err(error) => Err(DumpError::Damaged { path: path.to_owned(), reason: error.to_string() }),
    }
}

fn misfit(path: &Path) -> DumpError {
    DumpError::Damaged { path: path.to_owned(), reason: "its fields do not fit".to_owned() }
}
