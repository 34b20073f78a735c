//! How partitions are spread: evenly, moving little, near the replicas; or in ranges.

use crate::cluster::Cluster;
use crate::group_paper;
use crate::group_paper::{Paper, heartbeat, joining};
use tidelog_coordination::groups::assignor::{Assignor, ReadTopic, Reader, Spread};
use tidelog_coordination::groups::partition_set::PartitionSet;
use tidelog_protocol::codec::Entropy;
use tidelog_protocol::messages::{GroupHeartbeatRequest, LEAVING};
use tidelog_protocol::{BrokerId, PartitionId, TopicId};

fn topic(index: u8, partitions: u32) -> ReadTopic<'static> {
    ReadTopic { id: TopicId([index; 16]), partitions, racks: Vec::new() }
}

fn reader<'a>(name: &'a str, topics: &[usize], had: &'a PartitionSet) -> Reader<'a> {
    Reader { name, rack: None, topics: topics.to_vec(), had }
}

fn set(partitions: impl IntoIterator<Item = (u8, u32)>) -> PartitionSet {
    partitions.into_iter().map(|(topic, at)| (TopicId([topic; 16]), PartitionId(at))).collect()
}

/// How many partitions changed hands of those that somebody had.
fn moved(before: &[PartitionSet], after: &[PartitionSet]) -> usize {
    before.iter().zip(after).map(|(before, after)| before.without(after).len()).sum()
}

#[test]
fn uniform_moves_no_more_than_evenness_asks_for() {
    let mut paper = Paper::new(12);
    for id in ["c", "a", "b"] {
        paper.join(id);
    }
    let targets = |paper: &mut Paper| -> Vec<(String, PartitionSet)> {
        let members = paper.describe().members;
        members.into_iter().map(|member| (member.member_id, PartitionSet::from_wire(&member.target))).collect()
    };
    assert_eq!(paper.shares(), [4, 4, 4]);
    let before = targets(&mut paper);
    paper.join("d");
    assert_eq!(paper.shares(), [3, 3, 3, 3]);
    for ((_, before), (_, after)) in before.iter().zip(targets(&mut paper)) {
        assert!(after.is_within(before), "a newcomer takes from all, and nobody else gets anything");
    }
    let before = targets(&mut paper);
    paper.beat(heartbeat("b", LEAVING)).expect("it leaves");
    assert_eq!(paper.shares(), [4, 4, 4]);
    for (id, after) in targets(&mut paper) {
        let had = &before.iter().find(|(before, _)| *before == id).expect("it was there").1;
        assert!(had.is_within(&after), "who stays keeps all");
    }
}

#[test]
fn uniform_moves_the_fewest_of_what_is_uneven() {
    let had = [set((0..4).map(|at| (1, at))), set((4..8).map(|at| (1, at))), set((8..12).map(|at| (1, at))), set([])];
    let names = ["a", "b", "c", "d"];
    let readers = names.iter().zip(&had).map(|(name, had)| reader(name, &[0], had)).collect();
    let after = Assignor::Uniform.spread(&Spread { topics: vec![topic(1, 12)], readers });
    assert!(after.iter().all(|owned| owned.len() == 3));
    assert_eq!(moved(&had, &after), 3);
}

/// For random groups: an exact partition, even among members that read the same, sticky, and the same again for the same question.
#[test]
fn uniform_is_exact_even_and_at_rest() {
    for seed in 0..2_000 {
        let mut chance = Entropy::new(seed);
        let topics: Vec<_> = (0..1 + chance.below(4)).map(|at| topic(at as u8, chance.below(9) as u32)).collect();
        let names: Vec<String> = (0..1 + chance.below(7)).map(|at| format!("m{at}")).collect();
        let subscriptions: Vec<Vec<usize>> =
            names.iter().map(|_| (0..topics.len()).filter(|_| chance.below(3) > 0).collect()).collect();
        // What they had: anything, also what does not exist, what another had too, or what they do not read.
        let mut drawn = || (chance.below(5) as u8, chance.below(10) as u32);
        let had: Vec<PartitionSet> = names.iter().map(|_| set((0..6).map(|_| drawn()))).collect();
        let ask = |had: &[PartitionSet]| {
            let readers = names.iter().zip(&subscriptions).zip(had);
            let readers = readers.map(|((name, topics), had)| reader(name, topics, had)).collect();
            Assignor::Uniform.spread(&Spread { topics: topics.clone(), readers })
        };
        let after = ask(&had);
        let read: PartitionSet = (0..topics.len())
            .filter(|topic| subscriptions.iter().any(|topics| topics.contains(topic)))
            .flat_map(|at| {
                (0..topics[at].partitions).map(move |partition| (TopicId([at as u8; 16]), PartitionId(partition)))
            })
            .collect();
        let mut all = PartitionSet::EMPTY;
        for (owned, topics) in after.iter().zip(&subscriptions) {
            assert!(owned.is_apart_from(&all), "seed {seed}: owned once");
            assert!(
                owned.iter().all(|(id, _)| topics.contains(&usize::from(id.0[0]))),
                "seed {seed}: only what it reads"
            );
            all.take_in(owned);
        }
        assert_eq!(all, read, "seed {seed}: all of it");
        for (one, topics) in after.iter().zip(&subscriptions) {
            for (other, _) in after.iter().zip(&subscriptions).filter(|(_, others)| *others == topics) {
                assert!(one.len().abs_diff(other.len()) <= 1, "seed {seed}: even among those that read the same");
            }
        }
        assert_eq!(ask(&after), after, "seed {seed}: nothing moves where nothing changed");
    }
}

#[test]
fn uniform_prefers_a_partition_near_the_member_among_equals() {
    let mut cluster = Cluster::with_racks(2, |broker| Some(format!("rack-{broker}")));
    for (name, broker) in [("near-1", 1), ("near-2", 2)] {
        cluster.topic_on(name, [broker], &[]);
    }
    let mut paper = Paper::over(cluster, 1);
    let at = |rack: &str, id: &str| GroupHeartbeatRequest {
        rack: Some(rack.into()),
        subscription: group_paper::subscription(&["near-1", "near-2"]),
        ..joining(id, &[])
    };
    // In the order of ids the wrong ones would come first.
    paper.beat(at("rack-2", "a")).expect("it joins");
    paper.beat(at("rack-1", "b")).expect("it joins");
    let members = paper.describe().members;
    for (member, broker) in members.iter().zip([2, 1]) {
        let topic = paper.cluster.controller.image().topic_named(&format!("near-{broker}")).expect("it exists");
        assert_eq!(topic.partitions[0].replicas, [BrokerId(broker)]);
        assert_eq!(PartitionSet::from_wire(&member.target), [(topic.id, PartitionId(0))].into_iter().collect());
    }
}

#[test]
fn range_gives_contiguous_ranges_and_topics_alike() {
    let none = PartitionSet::EMPTY;
    let spread = Spread {
        topics: vec![topic(1, 5), topic(2, 5), topic(3, 2)],
        readers: vec![reader("b", &[0, 1, 2], &none), reader("a", &[0, 1], &none)],
    };
    let after = Assignor::Range.spread(&spread);
    let alike = |partitions: std::ops::Range<u32>| partitions.flat_map(|at| [(1, at), (2, at)]);
    assert_eq!(after[1], set(alike(0..3)), "the first by name");
    assert_eq!(after[0], set(alike(3..5).chain([(3, 0), (3, 1)])));
}

#[test]
fn the_assignor_that_most_members_ask_for_holds() {
    let mut paper = Paper::new(4);
    let wants = |id: &str, assignor: &str| GroupHeartbeatRequest {
        assignor: Some(assignor.into()),
        ..joining(id, &["orders"])
    };
    paper.join("a");
    assert_eq!(paper.describe().assignor, "uniform");
    paper.beat(wants("b", "range")).expect("it joins");
    assert_eq!(paper.describe().assignor, "range");
    paper.beat(wants("c", "uniform")).expect("it joins");
    assert_eq!(paper.describe().assignor, "uniform", "among equals the first");
    let epoch = paper.describe().epoch;
    let changes = GroupHeartbeatRequest { assignor: Some("range".into()), ..heartbeat("c", epoch) };
    paper.beat(changes).expect("it stays");
    assert_eq!((paper.describe().assignor.as_str(), paper.describe().epoch), ("range", epoch + 1));
}
