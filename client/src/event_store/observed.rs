//! What a record of the store's topics says to the index. Knows nothing of who reads it.

use tidelog_protocol::Offset;
use tidelog_protocol::records::Record;

use super::envelope::{EVENT_HEADER, EnvelopeFault, EventEnvelope, SNAPSHOT_HEADER, SnapshotEnvelope, decode};

/// A record that counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Observed {
    pub(super) offset: Offset,
    pub(super) id: Box<[u8]>,
    pub(super) what: What,
}

/// What it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum What {
    Event(EventEnvelope),
    Snapshot(SnapshotEnvelope),
}

impl Observed {
    /// What a record is; `None` for one that the store did not write, and does not count.
    pub(super) fn of(record: &Record<'_>) -> Result<Option<Self>, EnvelopeFault> {
        let what = if let Some(bytes) = header(record, EVENT_HEADER) {
            What::Event(decode(bytes)?)
        } else if let Some(bytes) = header(record, SNAPSHOT_HEADER) {
            What::Snapshot(decode(bytes)?)
        } else {
            return Ok(None);
        };
        let id = record.key.ok_or_else(|| EnvelopeFault::Malformed("it has no key".into()))?;
        Ok(Some(Self { offset: record.offset, id: id.into(), what }))
    }
}

/// The value of a header; empty where it has none.
pub(super) fn header<'r>(record: &Record<'r>, name: &str) -> Option<&'r [u8]> {
    let mut headers = record.headers;
    headers.find(|header| header.key == name.as_bytes()).map(|header| header.value.unwrap_or_default())
}
