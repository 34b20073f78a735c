//! What a coordinator says of a transaction that hangs somewhere, and what the leader of the partition makes of what all of them say.

use crate::transaction_paper::{Paper, bumped, identity, limits};
use tidelog_coordination::transactions::{FateVerdict, Inquiry, Transactions, marker_of};
use tidelog_protocol::messages::{ProducerIdentity, TransactionFate};
use tidelog_protocol::{PartitionId, ProducerEpoch, ProducerId};

#[test]
fn a_partition_that_asks_hears_how_its_transaction_ended_whoever_coordinates() {
    let mut paper = Paper::new();
    let first = paper.begin();
    let fate = |paper: &Paper, of: &ProducerIdentity| {
        let now = paper.transactions.fate(of);
        let mut elsewhere = Transactions::new(limits());
        paper.log.iter().for_each(|record| elsewhere.replay(record));
        assert_eq!(elsewhere.fate(of), now, "it is in the records");
        now
    };
    paper.add(&first, &[0]).expect("it is open");
    assert_eq!(fate(&paper, &first), TransactionFate::Ongoing);
    let second = identity(paper.end(&first, true));
    assert_eq!(fate(&paper, &first), TransactionFate::Committed, "it is decided, wherever its markers are");
    let marker = paper.markers().expect("its markers are due").identity;
    assert_eq!(marker_of(&first), marker, "it is written as the coordinator would");
    paper.finish();
    assert_eq!(fate(&paper, &first), TransactionFate::Committed);
    paper.add(&second, &[1]).expect("the next is open");
    assert_eq!(fate(&paper, &first), TransactionFate::Committed);
    assert_eq!(fate(&paper, &second), TransactionFate::Ongoing);
    paper.end(&second, false).expect("it is undone");
    assert_eq!(fate(&paper, &second), TransactionFate::Aborted);
    assert_eq!(fate(&paper, &first), TransactionFate::Superseded, "how the one before ended is forgotten");
    let stranger = ProducerIdentity { producer_id: ProducerId(77), epoch: ProducerEpoch(0) };
    assert_eq!(fate(&paper, &stranger), TransactionFate::Unknown);
    let later = ProducerIdentity { epoch: ProducerEpoch(9), ..first.clone() };
    assert_eq!(fate(&paper, &later), TransactionFate::Ongoing, "records were lost here: nobody is fenced for it");
    // Its id is forgotten.
    paper.finish();
    paper.pass(100);
    paper.pass(60_000);
    assert_eq!(fate(&paper, &bumped(&first)), TransactionFate::Unknown);
}

#[test]
fn a_lost_marker_is_written_again_and_what_nobody_knows_is_undone_once_all_have_said_so() {
    use TransactionFate::{Aborted, Committed, Ongoing, Superseded, Unknown};
    let verdict = |said: &[(&[u32], TransactionFate)]| {
        let mut inquiry = Inquiry::new(3);
        for (looked, fate) in said {
            inquiry.hear(&looked.iter().copied().map(PartitionId).collect::<Vec<_>>(), *fate);
        }
        inquiry.verdict()
    };
    let ends = |commit| FateVerdict::Ends { commit };
    assert_eq!(verdict(&[]), FateVerdict::Waits);
    assert_eq!(verdict(&[(&[0], Committed)]), ends(true), "one that knows is enough");
    assert_eq!(verdict(&[(&[0], Unknown), (&[1], Aborted), (&[2], Unknown)]), ends(false));
    assert_eq!(verdict(&[(&[0], Superseded)]), ends(false));
    assert_eq!(verdict(&[(&[0, 1, 2], Ongoing)]), FateVerdict::Waits, "it goes on");
    assert_eq!(verdict(&[(&[0, 1], Unknown)]), FateVerdict::Waits, "whoever has not spoken may know it");
    assert_eq!(verdict(&[(&[0, 1], Unknown), (&[], Unknown)]), FateVerdict::Waits);
    assert_eq!(verdict(&[(&[0, 1], Unknown), (&[2], Unknown)]), ends(false));
    assert_eq!(verdict(&[(&[2], Ongoing), (&[0, 1], Unknown)]), FateVerdict::Waits);
}
