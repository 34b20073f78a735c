//! The bytes of transaction records: they stay what they were, survive the round trip, and nonsense is an error. What compaction leaves of
//! them is in the simulation.

use std::collections::BTreeSet;
use std::fmt::Write;

use proptest::prelude::*;
use tidelog_coordination::ClusterImage;
use tidelog_coordination::transactions::{RecordError, TransactionLimits, TransactionRecord, Transactions};
use tidelog_protocol::codec::Entropy;
use tidelog_protocol::messages::TransactionState;
use tidelog_protocol::{Monotonic, Timestamp};

const GOLDEN: &str = include_str!("golden/transaction_records.txt");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("golden bytes are hexadecimal");
    (0..text.len()).step_by(2).map(byte).collect()
}

fn draw(seed: u64) -> TransactionRecord {
    TransactionRecord::draw(&mut Entropy::new(seed))
}

fn read(record: &TransactionRecord) -> Result<TransactionRecord, RecordError> {
    TransactionRecord::from_key_value(&record.key(), record.value().as_deref())
}

/// Three lines per record: its key, its value, and what they mean. New versions add lines. Bytes never change.
#[test]
fn a_log_written_by_an_older_version_reads_the_same() {
    let lines: Vec<_> = GOLDEN.lines().collect();
    let mut states = BTreeSet::new();
    for three in lines.chunks(3) {
        let [key, value, meaning] = three else { unreachable!("the golden file has three lines per record") };
        let (key, value) = (unhex(key), unhex(value));
        let record = TransactionRecord::from_key_value(&key, Some(&value)).expect("golden bytes are a record");
        assert_eq!(format!("{record:?}"), *meaning);
        assert_eq!((record.key(), record.value().as_ref()), (key, Some(&value)));
        states.extend(record.value.map(|value| value.state));
    }
    let mut missing = String::new();
    for state in TransactionState::ALL.iter().filter(|state| !states.contains(*state)) {
        let record = (0..).map(draw).find(|record| record.value.as_ref().is_some_and(|value| value.state == *state));
        let record = record.expect("every state is drawn");
        let value = record.value().expect("it has one");
        let _ = writeln!(missing, "{}\n{}\n{record:?}", hex(&record.key()), hex(&value));
    }
    assert!(missing.is_empty(), "records without golden bytes, add:\n{missing}");
}

#[test]
fn every_record_survives_the_round_trip() {
    for seed in 0..500 {
        let record = draw(seed);
        assert_eq!(read(&record), Ok(record.clone()), "seed {seed}");
        let tombstone = TransactionRecord::from_key_value(&record.key(), None).expect("a tombstone");
        assert_eq!((tombstone.key(), tombstone.value()), (record.key(), None));
    }
}

#[test]
fn what_a_newer_broker_wrote_asks_for_an_upgrade() {
    let record = draw(1);
    let mut value = record.value().expect("it has one");
    value[0] = 2;
    let error = TransactionRecord::from_key_value(&record.key(), Some(&value)).expect_err("a newer version");
    assert_eq!(
        error.to_string(),
        "record TransactionValue of unknown version 2: a newer broker wrote it; upgrade this one"
    );
    value[0] = 1;
    value.push(0);
    let error = TransactionRecord::from_key_value(&record.key(), Some(&value));
    assert_eq!(error, Err(RecordError::Length { name: "TransactionValue", version: 1 }));
    let mut key = record.key();
    key[0] = 99;
    assert_eq!(TransactionRecord::from_key_value(&key, None), Err(RecordError::UnknownType { kind: 99 }));
}

#[test]
fn a_record_cut_short_is_an_error() {
    let (key, value) = (draw(3).key(), draw(3).value().expect("it has one"));
    for cut in 0..key.len() {
        assert!(TransactionRecord::from_key_value(&key[..cut], Some(&value)).is_err(), "key cut at {cut}");
    }
    for cut in 0..value.len() {
        assert!(TransactionRecord::from_key_value(&key, Some(&value[..cut])).is_err(), "value cut at {cut}");
    }
}

proptest! {
    #[test]
    fn nonsense_never_panics(
        mut key in proptest::collection::vec(any::<u8>(), 4..60),
        mut value in proptest::collection::vec(any::<u8>(), 2..160),
    ) {
        key[..4].copy_from_slice(&[1, 0, 1, 0]);
        value[..2].copy_from_slice(&[1, 0]);
        let _ = TransactionRecord::from_key_value(&key, Some(&value));
    }

    #[test]
    fn records_in_any_order_never_panic(seeds in proptest::collection::vec(0..40u64, 1..40)) {
        let mut transactions = Transactions::new(TransactionLimits::default());
        for seed in seeds {
            let record = draw(seed);
            transactions.replay(&record);
            transactions.replay(&TransactionRecord { value: None, ..record.clone() });
            transactions.replay(&record);
        }
        transactions.loaded(Monotonic(5), Timestamp(5));
        let _ = transactions.pending_markers();
        for wall in [i64::MIN, 0, i64::MAX] {
            let due = transactions.expire(&ClusterImage::default(), Monotonic(u64::MAX), Timestamp(wall));
            due.iter().for_each(|record| transactions.replay(record));
        }
    }
}
