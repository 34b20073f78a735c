//! Reads a coordinator's log: into a machine, or, where a part of it is lost, what is left. Blocks. Knows nothing of what the records mean.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use tidelog_coordination::salvage::{Remains, Remnant};
use tidelog_log::{LogReader, ReadError, ReadOutcome};
use tidelog_protocol::Offset;
use tidelog_protocol::records::{DEFAULT_DECOMPRESSED_BYTES_MAX, OwnedBatch};

use super::machine::Machine;
use crate::clock;

/// Bytes read at once.
const READ_BYTES: u32 = 1 << 20;

/// Damaged offsets, in order, no two ranges touching.
pub(super) type Damage = Vec<Range<Offset>>;

/// Why the log cannot be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// These offsets are damaged, in order; never empty.
    Damaged(Damage),
    /// A record says what this release does not understand.
    Strange(String),
    /// It cannot be read now.
    Refused(ReadError),
}

/// The machine as of `end`.
///
/// # Errors
/// [`Unreadable`].
pub(super) fn load<M: Machine>(reader: &LogReader, end: Offset) -> Result<M, Unreadable> {
    let mut machine = M::new();
    let damaged = walk(reader, end, |_, key, value| {
        machine.replay(&M::from_log(key, value)?);
        Ok(())
    })?;
    if !damaged.is_empty() {
        return Err(Unreadable::Damaged(damaged));
    }
    machine.loaded(clock::monotonic(), clock::now());
    Ok(machine)
}

/// What there is of the log besides its damaged ranges, and those.
///
/// # Errors
/// [`Unreadable`], but for damage.
pub(super) fn remains<M: Machine>(reader: &LogReader, end: Offset) -> Result<(Remains<M::Record>, Damage), Unreadable> {
    let mut latest: BTreeMap<Vec<u8>, (Offset, Vec<u8>)> = BTreeMap::new();
    let damaged = walk(reader, end, |offset, key, value| {
        match value {
            Some(value) => drop(latest.insert(key.to_vec(), (offset, value.to_vec()))),
            None => drop(latest.remove(key)),
        }
        Ok(())
    })?;
    let lost_up_to = damaged.last().map_or(Offset::ZERO, |range| range.end);
    let remnant = |(key, (offset, value)): (Vec<u8>, (Offset, Vec<u8>))| {
        let record = M::from_log(&key, Some(&value)).map_err(|why| strange(offset, &why))?;
        Ok(Remnant { record, is_doubtful: offset < lost_up_to })
    };
    let records = latest.into_iter().map(remnant).collect::<Result<_, _>>()?;
    let lost = damaged.iter().map(|range| range.end.0.saturating_sub(range.start.0)).sum();
    Ok((Remains { records, lost }, damaged))
}

/// Shows every record up to `end` that is whole; the answer is the ranges that are not.
fn walk(
    reader: &LogReader,
    end: Offset,
    mut take: impl FnMut(Offset, &[u8], Option<&[u8]>) -> Result<(), String>,
) -> Result<Damage, Unreadable> {
    let mut damaged: Damage = Vec::new();
    let mut at = reader.log_start();
    while at < end {
        let read = reader.read_blocking(at, end, READ_BYTES).and_then(|outcome| match outcome {
            ReadOutcome::Cold(cold) => cold.complete(),
            outcome => Ok(outcome),
        });
        match read {
            Ok(ReadOutcome::Batches(batches)) => {
                show(batches.bytes, &mut take)?;
                at = batches.next;
            }
            Ok(ReadOutcome::Cold(_) | ReadOutcome::UpToDate) => {
                // Never, where the end is the log's.
                let (from, log_start) = (at, reader.log_start());
                return Err(Unreadable::Refused(ReadError::OutOfRange { from, log_start, end: reader.written_end() }));
            }
            // What follows is walked as well: whoever is told shall know all of it.
            Err(ReadError::Corrupt { from, to }) if to > at => {
                match damaged.last_mut() {
                    Some(last) if last.end == from => last.end = to,
                    _ => damaged.push(from.max(reader.log_start())..to),
                }
                at = to;
            }
            Err(error) => return Err(Unreadable::Refused(error)),
        }
    }
    Ok(damaged)
}

fn show(
    mut bytes: Bytes,
    take: &mut impl FnMut(Offset, &[u8], Option<&[u8]>) -> Result<(), String>,
) -> Result<(), Unreadable> {
    let bad = |offset: Offset| move |error: tidelog_protocol::records::BatchError| strange(offset, &error.to_string());
    while !bytes.is_empty() {
        let batch = OwnedBatch::split_from(&mut bytes).map_err(bad(Offset::ZERO))?;
        let base = batch.header().base_offset;
        if batch.header().attributes.is_control() {
            continue;
        }
        for record in batch.records(DEFAULT_DECOMPRESSED_BYTES_MAX).map_err(bad(base))? {
            let record = record.map_err(bad(base))?;
            let key = record.key.as_deref().unwrap_or_default();
            take(record.offset, key, record.value.as_deref()).map_err(|why| strange(record.offset, &why))?;
        }
    }
    Ok(())
}

fn strange(offset: Offset, why: &str) -> Unreadable {
    Unreadable::Strange(format!("the record at offset {offset}: {why}"))
}
