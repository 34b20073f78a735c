//! Record batches: iterated, read borrowed and owned, validated. All ways of reading say the same; what was validated reads
//! without an error.

use bytes::Bytes;
use tidelog_protocol::records::{
    BatchError, Batches, ControlRecord, OwnedBatch, ProduceLimits, RawBatch, Scratch, validate_produce,
};

use super::mend;

const LIMITS: ProduceLimits =
    ProduceLimits { batch_bytes_max: 64 << 10, decompressed_bytes_max: 1 << 20, decompressed_in_all_max: usize::MAX };

/// The lowest bit of the first byte says whether checksums are put right first; batches follow.
pub fn check(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else { return };
    let mut bytes = rest.to_vec();
    if first & 1 == 1 {
        mend::batches(&mut bytes);
    }
    let bytes = Bytes::from(bytes);
    iterate(Batches::new(&bytes), &bytes);
    iterate(Batches::compacted(&bytes), &bytes);
    let mut rest = bytes.clone();
    while let Ok(batch) = OwnedBatch::split_from(&mut rest) {
        read_both_ways(&batch);
    }
    validate(bytes);
}

/// Batches stand back to back, and an error ends them.
fn iterate(mut batches: Batches<'_>, bytes: &[u8]) {
    let mut at = 0;
    while let Some(batch) = batches.next() {
        match batch {
            Ok(batch) => {
                assert_eq!(batch.bytes(), &bytes[at..at + batch.header().total_bytes()]);
                let (written, read) = (batch.header().encode(), &batch.bytes()[..61]);
                // Any negative epoch is none.
                let epoch = if batch.header().leader_epoch.is_none() { 12..16 } else { 12..12 };
                assert_eq!(
                    (&written[..epoch.start], &written[epoch.end..]),
                    (&read[..epoch.start], &read[epoch.end..])
                );
                at += batch.bytes().len();
                assert_eq!(batches.position(), at);
            }
            Err(_) => assert!(batches.next().is_none() && batches.position() == at),
        }
    }
}

fn read_both_ways(batch: &OwnedBatch) {
    let raw = RawBatch::parse_compacted(batch.bytes()).expect("it was split off as a whole batch");
    let mut scratch = Scratch::with_limit(LIMITS.decompressed_bytes_max);
    match (raw.records(&mut scratch), batch.records(LIMITS.decompressed_bytes_max)) {
        (Ok(mut borrowed), Ok(mut owned)) => loop {
            match (borrowed.next(), owned.next()) {
                (None, None) => break,
                (Some(Ok(a)), Some(Ok(b))) => {
                    assert_eq!((a.offset, a.timestamp), (b.offset, b.timestamp));
                    assert_eq!((a.key, a.value), (b.key.as_deref(), b.value.as_deref()));
                    assert!(a.headers.eq(b.headers()) && a.headers.len() == b.headers().count());
                    assert!(a.offset >= raw.header().base_offset && a.offset <= raw.header().last_offset());
                    let _ = ControlRecord::parse(&a);
                }
                (Some(Err(a)), Some(Err(b))) => {
                    assert_eq!(a, b);
                    assert!(borrowed.next().is_none() && owned.next().is_none(), "reading goes on after {a}");
                    break;
                }
                (a, b) => panic!("borrowed {a:?}, owned {b:?}"),
            }
        },
        (a, b) => assert_eq!(a.err(), b.err()),
    }
}

fn validate(bytes: Bytes) {
    let Ok(valid) = validate_produce(bytes.clone(), LIMITS) else { return };
    assert_eq!(valid.payload(), &bytes);
    let (mut records, mut keyless, mut largest, mut total) = (0, false, None, 0);
    let mut scratch = Scratch::with_limit(LIMITS.decompressed_bytes_max);
    for (header, batch) in valid.batches() {
        let raw = RawBatch::parse(&batch).expect("valid");
        assert_eq!((raw.header(), raw.verify_crc()), (header, Ok(())));
        assert!(batch.len() <= LIMITS.batch_bytes_max && raw.bytes().len() == batch.len());
        total += batch.len();
        let read: Result<Vec<_>, BatchError> = raw.records(&mut scratch).expect("valid").collect();
        for (index, record) in read.expect("a valid batch reads without an error").iter().enumerate() {
            assert_eq!(record.offset.0, index as u64);
            keyless |= record.key.is_none();
            largest = largest.max(Some(record.timestamp));
            records += 1;
        }
    }
    assert_eq!((valid.records(), valid.has_keyless_records(), total), (records, keyless, bytes.len()));
    assert_eq!(Some(valid.max_timestamp()), largest);
}
