//! The quorum of one broker: metadata records in a flushed log of the project's own format, one batch per proposal, and the image
//! that replaying them gives. Knows nothing of what the records mean.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidelog_coordination::{ClusterImage, MetadataRecord, RecordError};
use tidelog_log::{
    AppendError, Disk, FlusherHandle, Group, Identity, Log, LogListener, LogOptions, OpenError, ReadError, ReadOutcome,
    SegmentOptions, StorageError,
};
use tidelog_protocol::records::{
    BatchBuilder, BatchError, Batches, BuildError, Compression, NO_HEADERS, ProduceLimits, Scratch, validate_produce,
};
use tidelog_protocol::{BrokerId, ErrorCode, IncarnationId, LeaderEpoch, MetadataIndex, Offset, PartitionId, TopicId};
use tokio::sync::watch;
use tracing::error;

use crate::clock;

/// Folder of the metadata log in the data folder. `__` keeps it apart from users' topics.
const FOLDER: &str = "__cluster_metadata-0";
/// Identity of the metadata log; no topic has it.
const TOPIC: TopicId = TopicId(*b"cluster-metadata");
/// Metadata is small: small segments.
const SEGMENT_BYTES: u32 = 64 << 20;
/// How often, and after which pause, a flush is tried that finds no file descriptor.
const FLUSH_TRIES: u32 = 50;
const FLUSH_PAUSE: Duration = Duration::from_millis(100);

/// What this broker is in the quorum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It runs the controller.
    Leader {
        /// Itself.
        broker: BrokerId,
    },
}

/// Why metadata cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum QuorumError {
    /// The log cannot be opened.
    #[error("the metadata log cannot be opened: {0}")]
    Open(#[from] OpenError),
    /// The log cannot be written.
    #[error("the metadata log cannot be written: {0}")]
    Append(#[from] AppendError),
    /// The log cannot be read.
    #[error("the metadata log cannot be read: {0}")]
    Read(#[from] ReadError),
    /// A batch of it is damaged.
    #[error("the metadata log holds a batch that does not parse: {0}; restore the data folder from a copy")]
    Batch(#[from] BatchError),
    /// Too much for one entry.
    #[error("the change does not fit into one entry of the metadata log: {0}; ask for less at once")]
    Build(#[from] BuildError),
    /// A record of it is damaged or from a newer release.
    #[error("the metadata log holds a record that this release cannot use: {0}")]
    Record(#[from] RecordError),
    /// A damaged range: going on would forget topics.
    #[error("the metadata log is damaged at offsets {from} to {to}; restore the folder {FOLDER} from a copy")]
    Damaged {
        /// First offset lost.
        from: Offset,
        /// First offset after them.
        to: Offset,
    },
    /// It failed while the records were written. They may be there at the next start, and nothing may follow them until then.
    #[error(
        "the metadata log failed while it was written: {why}; whether the change holds is known after the next start of the broker"
    )]
    Failed {
        /// How.
        why: String,
    },
    /// It failed earlier. Nothing was written.
    #[error(
        "the metadata log failed earlier: {why}; nothing was changed, and nothing will be until the broker restarts"
    )]
    OutOfService {
        /// How.
        why: String,
    },
    /// The log is closed.
    #[error("the metadata log is closed: the broker shuts down")]
    Closed,
}

impl QuorumError {
    /// How the wire says it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Append(AppendError::StorageFull | AppendError::OutOfDescriptors(_)) => ErrorCode::StorageFull,
            Self::Append(AppendError::TooLarge { .. }) | Self::Build(_) => ErrorCode::TooLarge,
            Self::OutOfService { .. } => ErrorCode::OutOfService,
            Self::Closed => ErrorCode::ShuttingDown,
            Self::Failed { .. } | Self::Append(_) => ErrorCode::StorageFailed,
            // Of reading: no proposal meets them.
            Self::Open(_) | Self::Read(_) | Self::Batch(_) | Self::Record(_) | Self::Damaged { .. } => {
                ErrorCode::Internal
            }
        }
    }
}

/// Metadata: propose, watch, role.
#[derive(Clone, Debug)]
pub struct Quorum {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    broker: BrokerId,
    log: Mutex<Option<Log>>,
    failure: Arc<Failure>,
    image: watch::Sender<Arc<ClusterImage>>,
}

/// Why the log takes nothing any more: its image may have missed what is on the disk.
#[derive(Debug, Default)]
struct Failure(OnceLock<String>);

impl Failure {
    fn note(&self, why: &str) {
        if self.0.set(why.into()).is_ok() {
            error!(why, "the metadata log is out of service: topics cannot be changed until the broker restarts");
        }
    }
}

impl LogListener for Failure {
    fn flushed(&self, _end: Offset) {}

    fn poisoned(&self, error: &Arc<StorageError>) {
        self.note(&error.to_string());
    }
}

impl Quorum {
    /// Opens the metadata log in `data` and replays it. Blocks.
    ///
    /// # Errors
    /// [`QuorumError`]; the broker must not start on half of its metadata.
    pub fn open(
        data: &Path,
        disk: Arc<dyn Disk>,
        flusher: FlusherHandle,
        broker: BrokerId,
        incarnation: IncarnationId,
    ) -> Result<Self, QuorumError> {
        let failure = Arc::<Failure>::default();
        let options = LogOptions {
            dir: data.join(FOLDER),
            disk,
            identity: Identity { topic: TOPIC, partition: PartitionId(0), incarnation },
            segment: SegmentOptions { segment_bytes: SEGMENT_BYTES, ..SegmentOptions::default() },
            flusher,
            listener: failure.clone(),
        };
        let (log, report) = Log::open(options)?;
        if let Some(hole) = report.holes.first() {
            return Err(QuorumError::Damaged { from: hole.from, to: hole.to });
        }
        let image = replay(&log)?;
        let shared = Shared { broker, log: Mutex::new(Some(log)), failure, image: watch::Sender::new(Arc::new(image)) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The image and its changes.
    #[must_use]
    pub fn image(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.shared.image.subscribe()
    }

    /// What this broker is.
    #[must_use]
    pub fn role(&self) -> Role {
        Role::Leader { broker: self.shared.broker }
    }

    /// Makes the records hold, all or none: they are durable and in the image when this returns.
    ///
    /// # Errors
    /// [`QuorumError::Failed`]: whether they hold is known after the next start, and every later proposal is refused until then. Any
    /// other: nothing holds.
    pub async fn propose(&self, records: Vec<MetadataRecord>) -> Result<MetadataIndex, QuorumError> {
        let shared = self.shared.clone();
        let done = tokio::task::spawn_blocking(move || shared.write(&records)).await;
        done.unwrap_or_else(|_| {
            // A bug of ours, somewhere between the log and the image: no more may be built on either.
            self.shared.failure.note("it met a state it did not expect");
            Err(QuorumError::Failed { why: "it met a state it did not expect".into() })
        })
    }

    /// Why no proposal is taken any more.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.shared.failure.0.get().map(String::as_str)
    }

    /// Flushes and closes the log.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub async fn close(&self) -> Result<(), QuorumError> {
        let shared = self.shared.clone();
        let done = tokio::task::spawn_blocking(move || match shared.log.lock().take() {
            Some(log) => log.close().map_err(QuorumError::from),
            None => Ok(()),
        });
        done.await.unwrap_or(Err(QuorumError::Closed))
    }
}

impl Shared {
    fn write(&self, records: &[MetadataRecord]) -> Result<MetadataIndex, QuorumError> {
        let mut open = self.log.lock();
        if let Some(why) = self.failure.0.get() {
            return Err(QuorumError::OutOfService { why: why.clone() });
        }
        let log = open.as_mut().ok_or(QuorumError::Closed)?;
        let payload = batch_of(records)?;
        let limits = ProduceLimits { batch_bytes_max: SEGMENT_BYTES as usize, ..ProduceLimits::default() };
        let batches = validate_produce(payload, limits)?;
        // The image first: what does not follow from it must never become durable.
        let mut image = (**self.image.borrow()).clone();
        let mut index = image.as_of();
        for (position, record) in records.iter().enumerate() {
            index = index_of(log.end().plus(position as u64));
            image.apply(index, record);
        }
        let appended =
            log.append(&[Group::new(batches.payload(), batches.headers())], LeaderEpoch(0)).map_err(failed)?;
        assert!(index.0 == appended.next_offset.0, "one offset for each record");
        flush_patiently(log).map_err(|error| {
            // Written, but not in the image: nothing may follow.
            let why = error.to_string();
            self.failure.note(&why);
            QuorumError::Failed { why }
        })?;
        self.image.send_replace(Arc::new(image));
        Ok(index)
    }
}

/// A log that was poisoned on the way may hold what it was given, or not.
fn failed(error: AppendError) -> QuorumError {
    match error {
        AppendError::Poisoned(cause) => QuorumError::Failed { why: cause.to_string() },
        refused => QuorumError::Append(refused),
    }
}

/// A flush that finds no file descriptor has not failed; its records are written, and there is no way back.
fn flush_patiently(log: &Log) -> Result<(), AppendError> {
    let mut tries = FLUSH_TRIES;
    loop {
        match log.flush() {
            Err(AppendError::OutOfDescriptors(_)) if tries > 0 => tries -= 1,
            flushed => return flushed,
        }
        std::thread::sleep(FLUSH_PAUSE);
    }
}

/// The metadata index of the record at `offset`; 0 is "before the first".
fn index_of(offset: Offset) -> MetadataIndex {
    MetadataIndex(offset.0 + 1)
}

fn batch_of(records: &[MetadataRecord]) -> Result<Bytes, BuildError> {
    let mut builder = BatchBuilder::new(SEGMENT_BYTES as usize);
    let now = clock::now();
    for record in records {
        builder.append(now, None, Some(&record.to_bytes()), NO_HEADERS)?;
    }
    builder.finish(Compression::None)
}

fn replay(log: &Log) -> Result<ClusterImage, QuorumError> {
    let reader = log.reader();
    let mut image = ClusterImage::default();
    let mut scratch = Scratch::default();
    let mut next = reader.log_start();
    while next < log.end() {
        let ReadOutcome::Batches(batches) = reader.read_blocking(next, log.end(), 4 << 20)? else { break };
        for batch in Batches::new(&batches.bytes) {
            for record in batch?.records(&mut scratch)? {
                let record = record?;
                let decoded = MetadataRecord::decode(record.value.unwrap_or_default())?;
                image.apply(index_of(record.offset), &decoded);
            }
        }
        next = batches.next;
    }
    Ok(image)
}
