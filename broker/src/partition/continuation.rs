//! What a leader pushed, fitted to where a follower's log ends. Compaction puts empty batches together, and each replica does so by itself: a
//! follower that was away may end in the middle of what is one empty batch at its leader. Pure.

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use tidelog_protocol::Offset;
use tidelog_protocol::records::{BatchHeader, HEADER_BYTES};

/// Batches back to back, and their headers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Continuation {
    pub(super) payload: Bytes,
    pub(super) headers: SmallVec<[BatchHeader; 4]>,
}

impl Continuation {
    /// The same with what an empty batch says of offsets before `end` left out. Batches that end before it stay: they are known.
    pub(super) fn continuing(self, end: Offset) -> Self {
        let Self { payload, mut headers } = self;
        let straddles = |header: &BatchHeader| header.base_offset < end && end < header.next_offset();
        let cut = headers.iter().position(straddles);
        let found = cut.and_then(|index| Some((index, headers[index].empty_within(end..Offset::MAX)?)));
        let Some((index, rest)) = found else { return Self { payload, headers } };
        let position: usize = headers[..index].iter().map(BatchHeader::total_bytes).sum();
        let bytes = rest.sealed();
        let mut fitted = BytesMut::with_capacity(payload.len());
        fitted.extend_from_slice(&payload[..position]);
        fitted.extend_from_slice(&bytes);
        fitted.extend_from_slice(&payload[position + HEADER_BYTES..]);
        headers[index] = BatchHeader::parse_compacted(&bytes).unwrap_or(rest);
        Self { payload: fitted.freeze(), headers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidelog_protocol::records::{BatchBuilder, Batches, Compression, NO_HEADERS};
    use tidelog_protocol::{LeaderEpoch, Timestamp};

    fn batch(base: u64, records: u64) -> (BatchHeader, Vec<u8>) {
        let mut builder = BatchBuilder::new(1 << 10);
        for _ in 0..records {
            builder.append(Timestamp(1), Some(b"k"), Some(b"v"), NO_HEADERS).unwrap();
        }
        let mut bytes = builder.finish(Compression::None).unwrap().to_vec();
        tidelog_protocol::records::stamp(&mut bytes, Offset(base), LeaderEpoch(3));
        (BatchHeader::parse(&bytes).unwrap(), bytes)
    }

    fn pushed(batches: &[(u64, u64, bool)]) -> Continuation {
        let mut payload = Vec::new();
        for &(base, records, is_empty) in batches {
            let (header, bytes) = batch(base, records);
            payload.extend(if is_empty { header.emptied().sealed().to_vec() } else { bytes });
        }
        let headers = Batches::compacted(&payload).map(|batch| *batch.unwrap().header()).collect();
        Continuation { payload: payload.into(), headers }
    }

    #[test]
    fn an_empty_batch_is_cut_to_what_is_new_and_all_else_stays() {
        let whole = pushed(&[(10, 2, false), (12, 8, true), (20, 1, false)]);
        for end in [9, 10, 11, 12, 20, 21] {
            assert_eq!(whole.clone().continuing(Offset(end)), whole, "{end}");
        }
        let cut = whole.clone().continuing(Offset(15));
        let found: Vec<_> = Batches::compacted(&cut.payload)
            .map(|batch| {
                let batch = batch.unwrap();
                batch.verify_crc().unwrap();
                *batch.header()
            })
            .collect();
        assert_eq!(found[..], cut.headers[..]);
        let spans: Vec<_> = found.iter().map(|header| (header.base_offset.0, header.next_offset().0)).collect();
        assert_eq!(spans, [(10, 12), (15, 20), (20, 21)]);
        assert_eq!(found[1].leader_epoch, Some(LeaderEpoch(3)));
        assert_eq!(cut.payload[..whole.headers[0].total_bytes()], whole.payload[..whole.headers[0].total_bytes()]);
    }
}
