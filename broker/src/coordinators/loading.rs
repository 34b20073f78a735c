//! Reads a coordinator's log into a machine. Blocks. Knows nothing of what the records mean.

use bytes::Bytes;
use tidelog_log::{LogReader, ReadOutcome};
use tidelog_protocol::Offset;
use tidelog_protocol::records::{DEFAULT_DECOMPRESSED_BYTES_MAX, OwnedBatch};

use super::machine::Machine;
use crate::clock;

/// Bytes read at once.
const READ_BYTES: u32 = 1 << 20;

/// The machine as of `end`.
///
/// # Errors
/// Why the log cannot be read, for people.
pub(super) fn load<M: Machine>(reader: &LogReader, end: Offset) -> Result<M, String> {
    let mut machine = M::new();
    let mut at = reader.log_start();
    while at < end {
        match reader.read_blocking(at, end, READ_BYTES).map_err(|error| error.to_string())? {
            ReadOutcome::Batches(batches) => {
                replay(&mut machine, batches.bytes)?;
                at = batches.next;
            }
            ReadOutcome::Cold(cold) => match cold.complete().map_err(|error| error.to_string())? {
                ReadOutcome::Batches(batches) => {
                    replay(&mut machine, batches.bytes)?;
                    at = batches.next;
                }
                ReadOutcome::UpToDate | ReadOutcome::Cold(_) => return Err(format!("nothing can be read at {at}")),
            },
            ReadOutcome::UpToDate => return Err(format!("the log ends at {at}, not at {end}")),
        }
    }
    machine.loaded(clock::monotonic(), clock::now());
    Ok(machine)
}

fn replay<M: Machine>(machine: &mut M, mut bytes: Bytes) -> Result<(), String> {
    while !bytes.is_empty() {
        let batch = OwnedBatch::split_from(&mut bytes).map_err(|error| error.to_string())?;
        if batch.header().attributes.is_control() {
            continue;
        }
        for record in batch.records(DEFAULT_DECOMPRESSED_BYTES_MAX).map_err(|error| error.to_string())? {
            let record = record.map_err(|error| error.to_string())?;
            let key = record.key.as_deref().unwrap_or_default();
            let read = M::from_log(key, record.value.as_deref());
            machine.replay(&read.map_err(|why| format!("the record at offset {}: {why}", record.offset))?);
        }
    }
    Ok(())
}
