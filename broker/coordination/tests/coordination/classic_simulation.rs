//! Classic groups live through some hundred seeds of random troubles, and what must hold is checked all the time. Bugs planted on purpose are
//! found.

use crate::classic_world::World;
use crate::seeds;
use crate::seeds::{assert_broken, sweep};
use tidelog_coordination::groups::{GroupFlaw, GroupFlaws};

#[test]
fn classic_groups_stay_sound_and_settle_whatever_happens() {
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
fn a_commit_of_an_earlier_generation_is_caught() {
    let said = caught(GroupFlaw::ClassicCommitUnfenced, 1_000);
    assert!(said.contains("NoCommitFromAnEarlierGeneration"), "{said}");
}

#[test]
fn a_second_assignment_is_caught() {
    let said = caught(GroupFlaw::AssignedTwice, 1_000);
    assert_broken(&said, &["OneAssignment", "OnlyTheLeaderAssigns", "EverythingIsWorkedOnOnce"]);
}

#[test]
fn an_assignment_by_another_than_the_leader_is_caught() {
    let said = caught(GroupFlaw::FollowerAssigns, 1_000);
    // A follower knows of no members: what it says may also leave everybody without a part, to the end.
    assert_broken(&said, &["OnlyTheLeaderAssigns", "EverythingIsWorkedOnOnce"]);
}

#[test]
fn two_lives_of_one_instance_are_caught() {
    let said = caught(GroupFlaw::InstanceUnfenced, 1_000);
    assert_broken(&said, &["OneLifeOfAnInstance", "NoCommitOfAFormerLife", "EverybodyWorksInTheEnd"]);
}
