//! Groups live through some hundred seeds of random troubles, and what must hold is checked all the time. Bugs planted on purpose are found.

use crate::group_world::World;
use crate::seeds;
use crate::seeds::{assert_broken, sweep};
use tidelog_coordination::groups::{GroupFlaw, GroupFlaws};

#[test]
fn groups_stay_sound_and_settle_whatever_happens() {
    sweep(150, |seed| {
        let mut world = World::new(seed, GroupFlaws::NONE);
        world.run();
        world.tally
    });
}

fn caught(flaw: GroupFlaw, runs: u64) -> String {
    seeds::caught(flaw, runs, |seed| World::new(seed, GroupFlaws::with(flaw)).run())
}

#[test]
fn a_commit_taken_whatever_its_epoch_is_caught() {
    let said = caught(GroupFlaw::CommitUnfenced, 2_000);
    assert!(said.contains("NoCommitFromAnEarlierTenure"), "{said}");
}

#[test]
fn a_partition_given_before_it_is_let_go_of_is_caught() {
    let said = caught(GroupFlaw::GivenTooEarly, 200);
    assert_broken(&said, &["NobodyShares", "NoCommitFromAnEarlierTenure"]);
}

#[test]
fn a_rebalance_that_stops_the_world_is_caught() {
    let said = caught(GroupFlaw::EverythingRevoked, 200);
    assert!(said.contains("KeptPartitionIsNeverTaken"), "{said}");
}

#[test]
fn offsets_noted_after_their_transaction_has_ended_are_caught() {
    let said = caught(GroupFlaw::LateOffsetsTaken, 2_000);
    assert_broken(&said, &["NothingOfAnUndoneTransaction", "NoHangingTransaction"]);
}

#[test]
fn an_end_that_ends_a_later_transaction_is_caught() {
    let said = caught(GroupFlaw::EndUnfenced, 2_000);
    // Such an end also takes the fence back, behind which comes, seldom, what was noted for a transaction that has ended long ago.
    let invariants = [
        "NothingOfAnUndoneTransaction",
        "CommittedTransactionIsWhole",
        "NoHangingTransaction",
        "NoCommitFromAnEarlierTenure",
    ];
    assert_broken(&said, &invariants);
}
