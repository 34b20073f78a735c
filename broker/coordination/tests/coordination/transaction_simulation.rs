//! Transactions live through some hundred seeds of random troubles, and what must hold is checked all the time. Bugs planted on purpose are found.

use crate::seeds;
use crate::seeds::{assert_broken, sweep};
use crate::transaction_world::World;
use tidelog_coordination::transactions::{TransactionFlaw, TransactionFlaws};

#[test]
fn transactions_stand_whole_or_not_at_all_and_none_hangs() {
    sweep(200, |seed| {
        let mut world = World::new(seed, TransactionFlaws::NONE);
        world.run();
        world.scene.tally
    });
}

fn caught(flaw: TransactionFlaw, runs: u64) -> String {
    seeds::caught(flaw, runs, |seed| World::new(seed, TransactionFlaws::with(flaw)).run())
}

#[test]
fn an_end_taken_whatever_its_epoch_is_caught() {
    let said = caught(TransactionFlaw::EndUnfenced, 500);
    assert_broken(&said, &["NothingLateEndsTheNext", "AnsweredIsDecided"]);
}

#[test]
fn markers_under_the_epoch_that_they_end_are_caught() {
    let said = caught(TransactionFlaw::MarkersUnbumped, 500);
    assert_broken(&said, &["NoHangingTransaction", "OnlyWhatLostItsMarkerIsGivenUp", "AMarkerEndsItsOwn"]);
}

#[test]
fn an_open_transaction_that_is_taken_for_undone_is_caught() {
    let said = caught(TransactionFlaw::OngoingTakenForUndone, 500);
    assert!(said.contains("AMarkerEndsItsOwn"), "{said}");
}

#[test]
fn a_marker_that_is_lost_and_not_asked_for_is_caught() {
    let said = caught(TransactionFlaw::FatesUntold, 500);
    assert!(said.contains("NoHangingTransaction"), "{said}");
}
