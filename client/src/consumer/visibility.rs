//! Which of the batches that were pushed are the program's. Pure; knows nothing of streams.
//!
//! The broker pushes what stands in the log as it stands there, and says with it which transactions were undone. A batch belongs to one of
//! them where it is transactional, of the same producer, and lies between the transaction's first record and its marker: a producer has one
//! transaction at a time, and what it wrote outside of it lies outside of these offsets.

use tidelog_protocol::messages::AbortedTransaction;
use tidelog_protocol::records::BatchHeader;

/// Markers are nobody's, and what was undone is not there for whoever was told of it.
pub(super) fn is_seen(header: &BatchHeader, aborted: &[AbortedTransaction]) -> bool {
    !header.attributes.is_control() && !aborted.iter().any(|undone| belongs(header, undone))
}

fn belongs(header: &BatchHeader, undone: &AbortedTransaction) -> bool {
    header.attributes.is_transactional()
        && header.producer_id == undone.producer_id
        && (undone.first_offset..undone.marker_offset).contains(&header.base_offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidelog_protocol::records::{Attributes, BatchBuilder, Compression, NO_HEADERS, Producer, RawBatch};
    use tidelog_protocol::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

    fn header(producer: i64, attributes: Attributes, offset: u64) -> BatchHeader {
        let mut builder = BatchBuilder::new(1 << 10);
        builder.set_attributes(attributes);
        builder.set_producer(Producer {
            id: ProducerId(producer),
            epoch: ProducerEpoch(3),
            base_sequence: Sequence(0),
        });
        builder.append(Timestamp(0), None, Some(b"value"), NO_HEADERS).unwrap();
        let mut batch = builder.finish(Compression::None).unwrap().to_vec();
        tidelog_protocol::records::stamp(&mut batch, Offset(offset), LeaderEpoch(0));
        *RawBatch::parse(&batch).unwrap().header()
    }

    fn undone(producer: i64, first: u64, marker: u64) -> AbortedTransaction {
        AbortedTransaction {
            producer_id: ProducerId(producer),
            first_offset: Offset(first),
            marker_offset: Offset(marker),
        }
    }

    #[test]
    fn a_marker_is_never_seen() {
        let control = Attributes::default().transactional().control();
        assert!(!is_seen(&header(7, control, 5), &[]));
        assert!(!is_seen(&header(7, control, 9), &[undone(7, 5, 9)]));
    }

    #[test]
    fn what_was_undone_is_left_out_and_nothing_else_of_that_producer_or_of_others() {
        let transactional = Attributes::default().transactional();
        let aborted = [undone(7, 10, 20), undone(8, 12, 14)];
        for (producer, offset, seen) in [
            (7, 9, true),
            (7, 10, false),
            (7, 19, false),
            // The transaction after it.
            (7, 21, true),
            (8, 11, true),
            (8, 13, false),
            (8, 15, true),
            (9, 13, true),
        ] {
            let header = header(producer, transactional, offset);
            assert_eq!(is_seen(&header, &aborted), seen, "producer {producer} at {offset}");
        }
        // A producer id without a transaction is nobody whose records could be undone.
        assert!(is_seen(&header(7, Attributes::default(), 15), &aborted));
        assert!(is_seen(&header(7, transactional, 15), &[]));
    }
}
