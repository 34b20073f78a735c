//! Which aborted transactions have batches in what is read, so that whoever reads what is committed leaves them out. Knows nothing of who reads.

use bytes::Bytes;
use tidelog_log::LogReader;
use tidelog_protocol::messages::AbortedTransaction;
use tidelog_protocol::records::{BatchHeader, Batches};
use tidelog_protocol::{Offset, ProducerId, WireError};
use tokio::task::spawn_blocking;

use super::refusals;

/// Those with batches in `payload`, which ends at `end` and was read below the last stable offset. The latest are known; earlier ones are looked for in the log.
///
/// # Errors
/// Where the log cannot be read.
pub(super) async fn undone_in(
    reader: &LogReader,
    payload: &Bytes,
    end: Offset,
) -> Result<Vec<AbortedTransaction>, WireError> {
    let Ok(first) = BatchHeader::parse_compacted(payload) else { return Ok(Vec::new()) };
    let range = first.base_offset..end;
    let known = reader.aborted_known(range.clone());
    if known.as_ref().is_some_and(Vec::is_empty) {
        return Ok(Vec::new());
    }
    let batches = transactional(payload);
    if batches.is_empty() {
        return Ok(Vec::new());
    }
    let reaching = match known {
        Some(known) => known,
        None => {
            let reader = reader.clone();
            let found = spawn_blocking(move || reader.aborted_found(range, usize::MAX)).await;
            found
                .map_err(|_| refusals::unexpected("looking for aborted transactions"))?
                .map_err(|e| refusals::of_read(&e))?
                .aborted
        }
    };
    Ok(with_batches(reaching, &batches))
}

/// Whose, and where they begin; sorted.
fn transactional(payload: &Bytes) -> Vec<(ProducerId, Offset)> {
    let headers = Batches::compacted(payload).map_while(Result::ok).map(|batch| *batch.header());
    let ours = headers.filter(|header| header.attributes.is_transactional() && !header.attributes.is_control());
    let mut batches: Vec<_> = ours.map(|header| (header.producer_id, header.base_offset)).collect();
    batches.sort_unstable();
    batches
}

fn with_batches(mut aborted: Vec<AbortedTransaction>, batches: &[(ProducerId, Offset)]) -> Vec<AbortedTransaction> {
    aborted.retain(|aborted| {
        let from = (aborted.producer_id, aborted.first_offset);
        let first = batches.get(batches.partition_point(|batch| *batch < from));
        first.is_some_and(|&(producer, base)| producer == aborted.producer_id && base < aborted.marker_offset.plus(1))
    });
    aborted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_transactions_with_batches_in_the_payload_are_named() {
        let aborted = |producer, first, marker| AbortedTransaction {
            producer_id: ProducerId(producer),
            first_offset: Offset(first),
            marker_offset: Offset(marker),
        };
        let batches = [(1, 10), (1, 20), (3, 12)].map(|(producer, base)| (ProducerId(producer), Offset(base)));
        let named = [aborted(1, 0, 10), aborted(1, 15, 30), aborted(3, 12, 13)];
        let others = [aborted(1, 11, 19), aborted(1, 21, 90), aborted(2, 0, 90), aborted(3, 0, 11), aborted(4, 0, 9)];
        let all = [&named[..], &others[..]].concat();
        assert_eq!(with_batches(all, &batches), named);
        assert_eq!(with_batches(others.to_vec(), &[]), []);
    }
}
