//! An entry of the metadata log as a record batch: its index is the batch's offset, its term the leader epoch, and the batch has one
//! record. The same bytes lie in the log and travel between members. Knows nothing of where they come from.

use bytes::{BufMut, Bytes, BytesMut};
use openraft::EntryPayload;
use tidelog_coordination::{MetadataRecord, RecordError};
use tidelog_protocol::messages::RaftMembership;
use tidelog_protocol::records::{
    BatchBuilder, BatchError, BatchHeader, Batches, BuildError, Compression, NO_HEADERS, RawBatch, Scratch, stamp,
};
use tidelog_protocol::{LeaderEpoch, Message, MetadataIndex, Offset, message};

use super::raft_types::{ON_DISK, Proposal, RaftEntry, membership_message, membership_of, position};
use crate::clock;

/// The largest entry, in bytes: what one frame between members may carry, with room for the rest of the frame.
pub(super) const ENTRY_BYTES_MAX: usize = 32 << 20;
/// First byte of the record's key: which form its value has. Logs of releases without a quorum have records without a key.
const FORM: u8 = 1;
/// The form, and the index of the first entry of the write that this one was part of (u64). Everything before that one was durable by
/// then, which tells a torn last write from damage to what was answered.
const KEY_BYTES: usize = 9;

message! {
    /// What an entry says; nothing, where a leader only marks that it begins.
    pub struct EntryBody {
        /// Who belongs to the quorum from here on.
        1 membership: Option<RaftMembership>,
        /// What was proposed.
        1 proposal: Option<ProposalBody>,
    }
}

message! {
    /// Records that hold together.
    pub struct ProposalBody {
        /// The image that the decision saw.
        1 decided_on: MetadataIndex,
        /// The records, each behind its length (u32).
        1 records: Bytes,
    }
}

/// Why bytes are no entry.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// The batch is damaged.
    #[error("a batch of the metadata log does not parse: {0}")]
    Batch(#[from] BatchError),
    /// Too much for one entry.
    #[error("the change does not fit into one entry of the metadata log: {0}; ask for less at once")]
    Build(#[from] BuildError),
    /// A record is damaged, or a newer release wrote it.
    #[error("the metadata log holds a record that this release cannot use: {0}")]
    Record(#[from] RecordError),
    /// The batch is none of this log.
    #[error("a batch of the metadata log is no entry: {0}")]
    Form(String),
}

/// The entry as a batch, written together with others of which the first has the index `first`.
///
/// # Errors
/// [`EntryError::Build`] where it is too large.
pub(super) fn encode(entry: &RaftEntry, first: u64) -> Result<Bytes, EntryError> {
    let (mut membership, mut proposal) = (None, None);
    match &entry.payload {
        EntryPayload::Blank => {}
        EntryPayload::Membership(members) => membership = Some(membership_message(members)),
        EntryPayload::Normal(Proposal { decided_on, records }) => {
            proposal = Some(ProposalBody { decided_on: *decided_on, records: records.clone() });
        }
    }
    let body = EntryBody { membership, proposal }.to_body(ON_DISK);
    let mut builder = BatchBuilder::new(ENTRY_BYTES_MAX);
    let mut key = [FORM; KEY_BYTES];
    key[1..].copy_from_slice(&first.to_le_bytes());
    builder.append(clock::now(), Some(&key), Some(&body), NO_HEADERS)?;
    let mut batch = BytesMut::from(builder.finish(Compression::None)?);
    let term = i32::try_from(entry.log_id.leader_id.term)
        .map_err(|_| EntryError::Form(format!("term {} is out of range", entry.log_id.leader_id.term)))?;
    stamp(&mut batch, Offset(entry.log_id.index), LeaderEpoch(term as u32));
    Ok(batch.freeze())
}

/// The entries of batches that lie back to back, their checksums verified.
///
/// # Errors
/// [`EntryError`].
pub(super) fn decode_all(bytes: &[u8]) -> Result<Vec<RaftEntry>, EntryError> {
    let mut scratch = Scratch::with_limit(2 * ENTRY_BYTES_MAX);
    let mut entries = Vec::new();
    for batch in Batches::new(bytes) {
        let batch = batch?;
        batch.verify_crc()?;
        entries.push(decode(&batch, &mut scratch)?);
    }
    Ok(entries)
}

fn decode(batch: &RawBatch<'_>, scratch: &mut Scratch) -> Result<RaftEntry, EntryError> {
    let BatchHeader { base_offset, leader_epoch, last_offset_delta, .. } = *batch.header();
    let Some(term) = leader_epoch.filter(|_| last_offset_delta == 0) else {
        return Err(EntryError::Form("it has no term, or several records".into()));
    };
    let mut records = batch.records(scratch)?;
    let record = records.next().ok_or_else(|| EntryError::Form("it has no record".into()))??;
    first_of_key(record.key)?;
    let body = EntryBody::from_body(record.value.unwrap_or_default(), ON_DISK)
        .map_err(|error| EntryError::Form(error.to_string()))?;
    let payload = match (body.membership, body.proposal) {
        (Some(membership), _) => EntryPayload::Membership(membership_of(membership)),
        (None, Some(ProposalBody { decided_on, records })) => EntryPayload::Normal(Proposal { decided_on, records }),
        (None, None) => EntryPayload::Blank,
    };
    Ok(RaftEntry { log_id: position(u64::from(term.0), base_offset.0), payload })
}

fn first_of_key(key: Option<&[u8]>) -> Result<u64, EntryError> {
    let key = key.unwrap_or_default();
    match key.split_first_chunk::<1>() {
        Some(([FORM], first)) if key.len() == KEY_BYTES => {
            Ok(first.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
        }
        _ => Err(EntryError::Form(format!("its form is {key:?}, this release knows {FORM}"))),
    }
}

/// Index of the first entry of the write that this batch was part of.
///
/// # Errors
/// [`EntryError`].
pub(super) fn first_of_write(batch: &RawBatch<'_>, scratch: &mut Scratch) -> Result<u64, EntryError> {
    let record = batch.records(scratch)?.next().ok_or_else(|| EntryError::Form("it has no record".into()))??;
    first_of_key(record.key)
}

/// True where the batch was written by a release without a quorum.
///
/// # Errors
/// [`BatchError`].
pub(super) fn is_of_one_broker(batch: &RawBatch<'_>, scratch: &mut Scratch) -> Result<bool, BatchError> {
    match batch.records(scratch)?.next() {
        Some(record) => Ok(record?.key.is_none()),
        None => Ok(false),
    }
}

/// Records back to back, each behind its length.
pub(super) fn pack<'a>(records: impl IntoIterator<Item = &'a MetadataRecord>) -> Bytes {
    let mut packed = BytesMut::new();
    for record in records {
        let start = packed.len();
        packed.put_u32_le(0);
        record.encode(&mut packed);
        let length = (packed.len() - start - 4) as u32;
        packed[start..start + 4].copy_from_slice(&length.to_le_bytes());
    }
    packed.freeze()
}

/// What [`pack`] packed.
///
/// # Errors
/// [`EntryError`].
pub(super) fn unpack(mut packed: &[u8]) -> Result<Vec<MetadataRecord>, EntryError> {
    let mut records = Vec::new();
    while !packed.is_empty() {
        let cut = || EntryError::Form("its records are cut short".into());
        let (length, rest) = packed.split_first_chunk::<4>().ok_or_else(cut)?;
        let (record, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(cut)?;
        records.push(MetadataRecord::decode(record)?);
        packed = rest;
    }
    Ok(records)
}
