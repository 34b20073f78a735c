//! One partition on disk: segments, indexes, recovery, retention, checkpoints, and the group-commit flusher. Knows nothing of sockets,
//! replication or producers.
//!
//! In the order a batch meets them:
//! - [`disk`]: the one door to the operating system; [`os_disk`] is the real one; `map` holds the only `unsafe`.
//! - [`log`]: the writer: offsets, one write for all that waits, rolling. `append_error`: why it refuses.
//! - `segment`, `segment_index`, `offset_index`, `time_index`, `segment_files`: one file of batches, its sparse indexes, its names.
//! - `state`: the ends, segments, holes and poison that the writer publishes and everybody else reads.
//! - [`flusher`]: group commit and upkeep; `flush_metrics`: what it counts; [`waits`]: what the disk was asked for and has not done; `upkeep`: grow ahead, prepare the next segment, checkpoint.
//! - [`reader`], `lookup`, `verified`, `residency`: slices of the map, never cold and never unverified.
//! - `founding`, [`recovery`], `recovery_report`, `bookkeeping`, `scan`, [`checkpoint`], `noted_start`, [`leader_epochs`], [`identity`], [`hole`], `damage`, `unfinished`, `open_error`, `written_since`,
//!   `small_file`, [`witness`]: opening after a crash.
//! - `producer_files`: what is known of idempotent producers, across restarts. [`undone`]: which transactions were aborted. `headers`: both from
//!   the headers of batches, and the markers among them.
//! - [`timestamps`]: from times to offsets. [`retention`], `truncate`: moving the start and the end of a log. `reclaim`: what is deleted makes room
//!   little by little.
//! - [`compaction`]: the latest value of each key stays. `swap`: other files in the place of segments, under live readers.
//! - [`scrub`]: a slow second look at what lies on the disk. [`repair`]: putting back what is damaged. [`dump`]: any file, offline.
//! - [`data_dir`]: the lock, the format and the names of all partitions. [`space`]: refuse before the disk is full.
//! - [`fault`]: the disk for tests that fails on command. `flaws`: a bug that this crate's tests plant; `sample`: a batch for them.

mod append_error;
mod bookkeeping;
pub mod checkpoint;
pub mod compaction;
pub mod complaint;
mod damage;
pub mod data_dir;
pub mod disk;
pub mod dump;
pub mod fault;
mod flaws;
mod flush_metrics;
pub mod flusher;
mod founding;
mod headers;
pub mod hole;
pub mod identity;
pub mod leader_epochs;
pub mod log;
mod lookup;
pub mod map;
mod noted_start;
mod offset_index;
mod open_error;
pub mod os_disk;
mod producer_files;
pub mod reader;
mod reclaim;
pub mod recovery;
mod recovery_report;
pub mod repair;
mod residency;
pub mod retention;
#[cfg(test)]
mod sample;
mod scan;
pub mod scrub;
mod segment;
mod segment_files;
mod segment_index;
pub mod small_file;
pub mod space;
mod state;
mod storage_error;
mod swap;
mod tail_rules;
mod time_index;
pub mod timestamps;
mod truncate;
pub mod undone;
mod unfinished;
mod upkeep;
mod verified;
pub mod waits;
pub mod witness;
mod written_since;

pub use append_error::AppendError;
pub use compaction::{
    AbortedTransaction, Backlog, Compacted, Compaction, CompactionDriver, CompactionError, CompactionRules,
    CompactionStep,
};
pub use complaint::Complaint;
pub use data_dir::{DataDir, DataDirError, Format, PartitionDir, format_of};
pub use disk::{Disk, DiskFile};
pub use dump::{BatchEntry, CrcCheck, Dump, DumpEntry, DumpError, FieldValue};
pub use flush_metrics::FlushMetrics;
pub use flusher::{Flusher, FlusherHandle, FlusherOptions};
pub use hole::Hole;
pub use identity::{Identity, IdentityError};
pub use log::{Appended, Group, Log, LogOptions};
pub use offset_index::OffsetEntry;
pub use open_error::OpenError;
pub use os_disk::OsDisk;
pub use reader::{Batches, LogReader, PendingRead, ReadError, ReadOutcome, SegmentSummary};
pub use recovery_report::RecoveryReport;
pub use repair::{Repair, RepairError};
pub use retention::{DeleteError, Deleted, Retention, RetentionLimits};
pub use scrub::{Scrub, Scrubbed};
pub use segment::SegmentOptions;
pub use space::SpaceGuard;
pub use state::{LogListener, Unheard};
pub use storage_error::StorageError;
pub use time_index::TimeEntry;
pub use timestamps::TimedOffset;
pub use waits::{DiskWait, DiskWaits, DiskWork};
pub use witness::Witness;
