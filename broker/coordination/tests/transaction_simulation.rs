//! Transactions live through some hundred seeds of random troubles, and what must hold is checked all the time. Bugs planted on purpose are found.
#![allow(clippy::panic, reason = "a failed test")]

mod cluster;
mod seeds;
mod transaction_world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use seeds::{Run, seeds};
use tidelog_coordination::transactions::{TransactionFlaw, TransactionFlaws};
use transaction_world::{Tally, World};

#[test]
fn transactions_stand_whole_or_not_at_all_and_none_hangs() {
    let mut total = Tally::default();
    let seeds = seeds(200);
    let many = seeds.end - seeds.start > 1;
    // What is rare may take some more.
    let more = if many { 10 * (seeds.end - seeds.start) } else { 0 };
    for seed in seeds.start..seeds.end + more {
        if seed >= seeds.end && total.missing().is_empty() {
            break;
        }
        let run = Run(seed);
        let mut world = World::new(seed, TransactionFlaws::NONE);
        world.run();
        total.add(&world.scene.tally);
        drop(run);
    }
    println!("{total:?}");
    if many {
        assert_eq!(total.missing(), Vec::<&str>::new(), "every kind of trouble has happened");
    }
}

/// What the first run that fails says.
fn caught(flaw: TransactionFlaw, runs: u64) -> String {
    for seed in seeds(runs) {
        let run = catch_unwind(AssertUnwindSafe(|| World::new(seed, TransactionFlaws::with(flaw)).run()));
        if let Err(said) = run {
            return said.downcast_ref::<String>().cloned().unwrap_or_default();
        }
    }
    panic!("nothing was noticed of {flaw:?}");
}

#[test]
fn an_end_taken_whatever_its_epoch_is_caught() {
    let said = caught(TransactionFlaw::EndUnfenced, 500);
    assert!(said.contains("NothingLateEndsTheNext"), "{said}");
}

#[test]
fn markers_under_the_epoch_that_they_end_are_caught() {
    let said = caught(TransactionFlaw::MarkersUnbumped, 500);
    assert!(said.contains("NoHangingTransaction"), "{said}");
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
