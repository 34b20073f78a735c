//! The metadata log of releases without a quorum: batches of many records without keys, one metadata index each, no votes. It
//! becomes the snapshot that a quorum of one begins with. Knows nothing of what the records mean.

use tidelog_coordination::{ClusterImage, MetadataRecord};
use tidelog_log::{LogReader, ReadError, ReadOutcome};
use tidelog_protocol::MetadataIndex;
use tidelog_protocol::records::{Batches, Scratch};

use super::entry_batch::{self, EntryError};

/// Why such a log cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// The log cannot be read.
    #[error("the metadata log cannot be read: {0}")]
    Read(#[from] ReadError),
    /// A batch of it is damaged.
    #[error(transparent)]
    Entry(#[from] EntryError),
}

/// The image that such a log makes; `None` where the log is empty, or is one of a quorum.
///
/// # Errors
/// [`TakeOverError`]; the broker must not start on half of its metadata.
pub(super) fn replay(reader: &LogReader) -> Result<Option<ClusterImage>, TakeOverError> {
    let (mut next, end) = (reader.log_start(), reader.written_end());
    let mut image = ClusterImage::default();
    let mut scratch = Scratch::with_limit(2 * entry_batch::ENTRY_BYTES_MAX);
    while next < end {
        let ReadOutcome::Batches(batches) = reader.read_blocking(next, end, 4 << 20)? else { break };
        for batch in Batches::new(&batches.bytes) {
            let batch = batch.map_err(EntryError::from)?;
            if !entry_batch::is_of_one_broker(&batch, &mut scratch).map_err(EntryError::from)? {
                return Ok(None);
            }
            for record in batch.records(&mut scratch).map_err(EntryError::from)? {
                let record = record.map_err(EntryError::from)?;
                let decoded = MetadataRecord::decode(record.value.unwrap_or_default()).map_err(EntryError::from)?;
                image.apply(MetadataIndex(record.offset.0 + 1), &decoded);
            }
        }
        next = batches.next;
    }
    Ok((image.as_of() > MetadataIndex(0)).then_some(image))
}
