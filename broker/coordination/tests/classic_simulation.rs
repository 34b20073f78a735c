//! Classic groups live through some hundred seeds of random troubles, and what must hold is checked all the time. Bugs planted on purpose are
//! found.
#![allow(clippy::panic, reason = "a failed test")]

mod classic_paper;
mod classic_world;
mod cluster;
#[path = "group_world/compaction.rs"]
mod compaction;
mod group_paper;
mod seeds;

use std::panic::{AssertUnwindSafe, catch_unwind};

use classic_world::{Tally, World};
use seeds::{Run, seeds};
use tidelog_coordination::groups::{GroupFlaw, GroupFlaws};

#[test]
fn classic_groups_stay_sound_and_settle_whatever_happens() {
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
fn a_commit_of_an_earlier_generation_is_caught() {
    let said = caught(GroupFlaw::ClassicCommitUnfenced, 1_000);
    assert!(said.contains("NoCommitFromAnEarlierGeneration"), "{said}");
}

#[test]
fn a_second_assignment_is_caught() {
    let said = caught(GroupFlaw::AssignedTwice, 1_000);
    assert!(said.contains("OneAssignment") || said.contains("OnlyTheLeaderAssigns"), "{said}");
}

#[test]
fn an_assignment_by_another_than_the_leader_is_caught() {
    let said = caught(GroupFlaw::FollowerAssigns, 1_000);
    assert!(said.contains("OnlyTheLeaderAssigns"), "{said}");
}

#[test]
fn two_lives_of_one_instance_are_caught() {
    let said = caught(GroupFlaw::InstanceUnfenced, 1_000);
    assert!(said.contains("OneLifeOfAnInstance") || said.contains("NoCommitOfAFormerLife"), "{said}");
}
