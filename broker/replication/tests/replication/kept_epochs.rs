//! Producers that keep their epoch from one transaction to the next (KIP-98): what their markers end, and what comes after.

use tidelog_protocol::messages::Acks;
use tidelog_protocol::records::{Attributes, BatchHeader};
use tidelog_protocol::{BrokerId, LeaderEpoch, Offset, PartitionEpoch, ProducerEpoch, ProducerId, Sequence, Timestamp};
use tidelog_replication::{
    Admission, Durability, EpochHistory, Flaws, Leader, Leadership, MarkerAdmission, MarkerEpoch, Membership, Outcome,
    PartitionOffsets, ProduceTerms, Producers, Refusal, SequenceFault, Word,
};

const ME: BrokerId = BrokerId(1);
const ALL: ProduceTerms = ProduceTerms { leader_epoch: None, acks: Acks::All, expected_log_end: None };
const P: ProducerId = ProducerId(1);
const APPEND: Result<Admission, SequenceFault> = Ok(Admission::Append);

fn batch(epoch: i16, first: i32) -> BatchHeader {
    BatchHeader {
        base_offset: Offset(0),
        batch_length: 49,
        leader_epoch: None,
        crc: 0,
        attributes: Attributes::default().transactional(),
        last_offset_delta: 0,
        base_timestamp: Timestamp(0),
        max_timestamp: Timestamp(0),
        producer_id: P,
        producer_epoch: ProducerEpoch(epoch),
        base_sequence: Sequence(first),
        record_count: 1,
    }
}

const fn word(epoch: i16) -> Word {
    Word { producer: P, epoch: ProducerEpoch(epoch) }
}

fn ask(epoch: i16) -> Result<Admission, SequenceFault> {
    Ok(Admission::AskCoordinator { producer: P, epoch: ProducerEpoch(epoch) })
}

/// What a log knows, and what its leader makes of more.
struct Partition {
    log: Producers,
    leader: Leader<()>,
}

impl Partition {
    fn new() -> Self {
        let leadership = Leadership {
            leader: ME,
            epoch: LeaderEpoch(1),
            membership: Membership { replicas: vec![ME], in_sync: vec![ME], partition_epoch: PartitionEpoch(0) },
            lag_max_ms: 1_000,
            min_in_sync: 1,
            durability: Durability::Written,
        };
        let offsets = PartitionOffsets::recovered(Offset(0), Offset(0), Offset(0), Offset(0));
        let leader = Leader::flawed(offsets, EpochHistory::default(), &leadership, Flaws::NONE);
        Self { log: Producers::new(Offset(0)), leader }
    }

    fn judge(&self, header: BatchHeader, word: Option<Word>) -> Result<Admission, SequenceFault> {
        self.leader.admit_with_word(&ALL, &[header], (&self.log, word)).map_err(|refusal| match refusal {
            Refusal::Sequence { fault, .. } => fault,
            other => panic!("{other:?}"),
        })
    }

    fn write(&mut self, epoch: i16, sequence: i32) {
        assert_eq!(self.judge(batch(epoch, sequence), Some(word(epoch))), APPEND);
        let base_offset = self.log.end();
        self.log.note(&BatchHeader { base_offset, ..batch(epoch, sequence) });
    }

    fn admits(&self, epoch: i16, carries: MarkerEpoch) -> bool {
        let admission = self.leader.admit_marker(word(epoch), carries, &self.log);
        admission.unwrap_or_else(|refusal| panic!("{refusal}")) == MarkerAdmission::Append
    }

    fn end(&mut self, epoch: i16, outcome: Outcome) {
        let attributes = Attributes::default().transactional().control();
        let base_sequence = Sequence::NONE;
        let header = BatchHeader { base_offset: self.log.end(), attributes, base_sequence, ..batch(epoch, 0) };
        self.log.note_marker(&header, outcome);
    }

    fn reopened(&self) -> Producers {
        Producers::restored(&self.log.snapshot()).unwrap_or_else(|| panic!("a snapshot that is none"))
    }
}

#[test]
fn the_next_transaction_has_the_epoch_of_the_last_and_the_numbers_that_follow() {
    let mut partition = Partition::new();
    partition.write(4, 0);
    partition.write(4, 1);
    assert!(partition.admits(4, MarkerEpoch::Own));
    partition.end(4, Outcome::Aborted);
    assert_eq!(partition.log.open_transactions().count, 0);
    assert_eq!(partition.log.first_unstable(Offset(0), Offset(3)), None);
    assert!(!partition.admits(4, MarkerEpoch::Own), "it stands");
    assert_eq!(partition.judge(batch(4, 2), None), ask(4), "its coordinator is asked for each");
    assert_eq!(partition.judge(batch(4, 2), Some(word(4))), APPEND);
    let gap = partition.judge(batch(4, 3), Some(word(4)));
    assert!(matches!(gap, Err(SequenceFault::Gap { .. })), "{gap:?}");
    partition.write(4, 2);
    assert_eq!(partition.log.first_unstable(Offset(0), Offset(4)), Some(Offset(3)));
    partition.end(4, Outcome::Committed);
    let undone = partition.log.aborted_within(Offset(0)..Offset(5)).unwrap_or_default();
    let places: Vec<_> = undone.iter().map(|aborted| (aborted.first_offset.0, aborted.marker_offset.0)).collect();
    assert_eq!(places, [(0, 2)]);
    assert_eq!(partition.reopened(), partition.log);
}

#[test]
fn a_batch_that_comes_again_after_the_end_is_part_of_no_later_transaction() {
    let mut partition = Partition::new();
    partition.write(4, 0);
    partition.end(4, Outcome::Committed);
    partition.write(4, 1);
    let again = partition.judge(batch(4, 0), Some(word(4)));
    assert!(matches!(again, Err(SequenceFault::StandsOutside { .. })), "{again:?}");
}

#[test]
fn a_marker_of_the_next_epoch_ends_what_the_kept_one_has_open_and_fences_it() {
    let mut partition = Partition::new();
    partition.write(4, 0);
    partition.end(4, Outcome::Committed);
    partition.write(4, 1);
    assert!(partition.admits(5, MarkerEpoch::Next));
    partition.end(5, Outcome::Aborted);
    assert_eq!(partition.log.open_transactions().count, 0);
    let late = partition.judge(batch(4, 2), Some(word(4)));
    assert!(matches!(late, Err(SequenceFault::TransactionOver { .. })), "{late:?}");
    assert!(!partition.admits(4, MarkerEpoch::Own), "whatever a zombie ends, it is over");
    partition.write(5, 0);
    assert!(!partition.admits(4, MarkerEpoch::Own));
    assert!(!partition.admits(5, MarkerEpoch::Next), "that one stands before what is open now");
}
