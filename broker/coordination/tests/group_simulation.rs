//! Groups live through thousands of random troubles, and what must hold is checked all the time. Bugs planted on purpose are found.
#![allow(clippy::panic, reason = "a failed test")]

mod cluster;
mod group_world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{SystemTime, UNIX_EPOCH};

use group_world::{Tally, World};
use tidelog_coordination::groups::{GroupFlaw, GroupFlaws};

/// Repeats a run: the seed that it printed.
const SEED_VARIABLE: &str = "TEST_SEED";
/// Longer runs: how many times as many rounds as usual.
const ROUNDS_VARIABLE: &str = "TEST_ROUNDS";

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// The seeds of a test: the one that was asked for, or new ones.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    match number(SEED_VARIABLE) {
        Some(seed) => seed..seed + 1,
        None => {
            let start = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64 >> 10);
            let rounds = usual * number(ROUNDS_VARIABLE).unwrap_or(1);
            println!("seeds {start} to {}", start + rounds - 1);
            start..start + rounds
        }
    }
}

/// Says which run it was that failed.
struct Run(u64);

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{SEED_VARIABLE}={}", self.0);
        }
    }
}

#[test]
fn groups_stay_sound_and_settle_whatever_happens() {
    let mut total = Tally::default();
    let seeds = seeds(150);
    let many = seeds.end - seeds.start > 1;
    for seed in seeds {
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
