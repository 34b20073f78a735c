//! Groups live through some hundred seeds of random troubles, and what must hold is checked all the time. Bugs planted on purpose are found.
#![allow(clippy::panic, reason = "a failed test")]

mod cluster;
mod group_world;
mod seeds;

use std::panic::{AssertUnwindSafe, catch_unwind};

use group_world::{Tally, World};
use seeds::{Run, seeds};
use tidelog_coordination::groups::{GroupFlaw, GroupFlaws};

#[test]
fn groups_stay_sound_and_settle_whatever_happens() {
    let mut total = Tally::default();
    let seeds = seeds(150);
    let many = seeds.end - seeds.start > 1;
    // What is rare may take some more.
    let more = if many { 10 * (seeds.end - seeds.start) } else { 0 };
    for seed in seeds.start..seeds.end + more {
        if seed >= seeds.end && total.missing().is_empty() {
            break;
        }
        let run = Run(seed);
        let mut world = World::new(seed, GroupFlaws::NONE);
        world.run();
        total.add(&world.tally);
        drop(run);
    }
    println!("{total:?}");
    if many {
        assert_eq!(total.missing(), Vec::<&str>::new(), "every kind of trouble has happened");
    }
}

/// What the first run that fails says.
fn caught(flaw: GroupFlaw, runs: u64) -> String {
    for seed in seeds(runs) {
        let run = catch_unwind(AssertUnwindSafe(|| World::new(seed, GroupFlaws::with(flaw)).run()));
        if let Err(said) = run {
            return said.downcast_ref::<String>().cloned().unwrap_or_default();
        }
    }
    panic!("nothing was noticed of {flaw:?}");
}

#[test]
fn a_commit_taken_whatever_its_epoch_is_caught() {
    let said = caught(GroupFlaw::CommitUnfenced, 2_000);
    assert!(said.contains("NoCommitFromAnEarlierTenure"), "{said}");
}

#[test]
fn a_partition_given_before_it_is_let_go_of_is_caught() {
    let said = caught(GroupFlaw::GivenTooEarly, 200);
    assert!(said.contains("NobodyShares"), "{said}");
}

#[test]
fn a_rebalance_that_stops_the_world_is_caught() {
    let said = caught(GroupFlaw::EverythingRevoked, 200);
    assert!(said.contains("KeptPartitionIsNeverTaken"), "{said}");
}

#[test]
fn offsets_noted_after_their_transaction_has_ended_are_caught() {
    let said = caught(GroupFlaw::LateOffsetsTaken, 2_000);
    assert!(said.contains("NothingOfAnUndoneTransaction") || said.contains("NoHangingTransaction"), "{said}");
}

#[test]
fn an_end_that_ends_a_later_transaction_is_caught() {
    let said = caught(GroupFlaw::EndUnfenced, 2_000);
    assert!(said.contains("NothingOfAnUndoneTransaction") || said.contains("CommittedTransactionIsWhole"), "{said}");
}
