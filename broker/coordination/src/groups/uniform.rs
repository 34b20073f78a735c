//! The uniform assignor: even over all topics, sticky, near the replicas among equals. Knows nothing of epochs.
//!
//! Everyone keeps what it had and may still read. What nobody has goes to whoever has least. Then, while some member has at least two
//! more than one that could have a partition of it, the one with most gives: so members with the same topics differ by one at most,
//! and no partition moves that need not.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use tidelog_protocol::PartitionId;

use super::assignor::{Reader, Spread};
use super::partition_set::PartitionSet;

pub(super) fn spread(spread: &Spread<'_>) -> Vec<PartitionSet> {
    let mut table = Table::new(spread);
    let unowned = table.keep();
    table.fill(unowned);
    table.level();
    table.into_sets()
}

/// Readers with the same topics, by how much each has.
#[derive(Default)]
struct Class {
    by_load: BTreeSet<(usize, usize)>,
}

struct Table<'a> {
    spread: &'a Spread<'a>,
    /// For each reader: by topic the partitions that it has, and whether it had them before.
    held: Vec<BTreeMap<usize, BTreeMap<u32, bool>>>,
    loads: Vec<usize>,
    /// Readers by how much each has.
    by_load: BTreeSet<(usize, usize)>,
    class_of: Vec<usize>,
    classes: Vec<Class>,
    /// For each topic the classes that read it.
    classes_of: Vec<Vec<usize>>,
}

impl<'a> Table<'a> {
    fn new(spread: &'a Spread<'a>) -> Self {
        let mut indexes: BTreeMap<&[usize], usize> = BTreeMap::new();
        let mut class_of = Vec::with_capacity(spread.readers.len());
        for reader in &spread.readers {
            let next = indexes.len();
            class_of.push(*indexes.entry(&reader.topics).or_insert(next));
        }
        let mut classes: Vec<Class> = indexes.iter().map(|_| Class::default()).collect();
        let mut classes_of: Vec<Vec<usize>> = spread.topics.iter().map(|_| Vec::new()).collect();
        for (topics, class) in &indexes {
            for topic in *topics {
                classes_of[*topic].push(*class);
            }
        }
        for (reader, class) in class_of.iter().enumerate() {
            classes[*class].by_load.insert((0, reader));
        }
        Self {
            spread,
            held: spread.readers.iter().map(|_| BTreeMap::new()).collect(),
            loads: spread.readers.iter().map(|_| 0).collect(),
            by_load: (0..spread.readers.len()).map(|reader| (0, reader)).collect(),
            class_of,
            classes,
            classes_of,
        }
    }

    /// Everyone keeps what it had. Gives what is left, topics with fewest readers first.
    fn keep(&mut self) -> Vec<(usize, u32)> {
        let spread = self.spread;
        let index: BTreeMap<_, usize> =
            spread.topics.iter().enumerate().map(|(index, topic)| (topic.id, index)).collect();
        let mut taken: BTreeSet<(usize, u32)> = BTreeSet::new();
        for (reader, Reader { topics, had, .. }) in spread.readers.iter().enumerate() {
            for (topic, PartitionId(partition)) in had.iter() {
                let Some(topic) = index.get(topic).copied() else { continue };
                let exists = *partition < spread.topics[topic].partitions;
                if exists && topics.binary_search(&topic).is_ok() && taken.insert((topic, *partition)) {
                    self.give(reader, topic, *partition, true);
                }
            }
        }
        let mut topics: Vec<usize> = (0..spread.topics.len()).collect();
        topics.sort_by_key(|topic| self.readers_of(*topic).count());
        let all = topics.into_iter().flat_map(|topic| (0..spread.topics[topic].partitions).map(move |at| (topic, at)));
        all.filter(|partition| !taken.contains(partition)).collect()
    }

    fn fill(&mut self, unowned: Vec<(usize, u32)>) {
        let shares = self.shares();
        let mut left = Vec::new();
        for (topic, partition) in unowned {
            let near =
                |reader: &usize| self.is_near(*reader, topic, partition) && self.loads[*reader] < shares[*reader];
            let racks = &self.spread.topics[topic].racks;
            let near = if racks.is_empty() {
                None
            } else {
                self.readers_of(topic).filter(near).min_by_key(|reader| self.loads[*reader])
            };
            match near {
                Some(reader) => self.give(reader, topic, partition, false),
                None => left.push((topic, partition)),
            }
        }
        for (topic, partition) in left {
            if let Some(reader) = self.least(topic, partition) {
                self.give(reader, topic, partition, false);
            }
        }
    }

    /// How much each is sure to get, rounded down, where every topic is shared evenly by its readers.
    fn shares(&self) -> Vec<usize> {
        let spread = self.spread;
        let readers: Vec<u64> =
            (0..spread.topics.len()).map(|topic| self.readers_of(topic).count().max(1) as u64).collect();
        // In thousandths, so that the shares of many small topics add up.
        let part = |topic: &usize| u64::from(spread.topics[*topic].partitions) * 1_000 / readers[*topic];
        spread.readers.iter().map(|reader| (reader.topics.iter().map(part).sum::<u64>() / 1_000) as usize).collect()
    }

    fn level(&mut self) {
        while let Some((giver, topic, taker)) = self.uneven() {
            let Some(partition) = self.easiest(giver, topic, taker) else { return };
            self.take(giver, topic, partition);
            self.give(taker, topic, partition, false);
        }
    }

    /// The member with most that can give to one with at least two less.
    fn uneven(&self) -> Option<(usize, usize, usize)> {
        let least = self.by_load.first()?.0;
        let more = self.by_load.iter().rev().take_while(|(load, _)| *load >= least + 2);
        more.into_iter().find_map(|(load, giver)| {
            let takers = self.held[*giver].keys().filter_map(|topic| {
                let (least, taker) =
                    self.classes_of[*topic].iter().filter_map(|class| self.classes[*class].by_load.first()).min()?;
                Some((*least, *topic, *taker))
            });
            let (least, topic, taker) = takers.min()?;
            (least + 2 <= *load).then_some((*giver, topic, taker))
        })
    }

    /// What is given with least regret: what the giver never had, what lies nearer to the taker, the last.
    fn easiest(&self, giver: usize, topic: usize, taker: usize) -> Option<u32> {
        let held = self.held[giver].get(&topic)?;
        let regret = |(partition, kept): &(&u32, &bool)| {
            let at = **partition;
            (**kept, !self.is_near(taker, topic, at), self.is_near(giver, topic, at), core::cmp::Reverse(at))
        };
        held.iter().min_by_key(regret).map(|(partition, _)| *partition)
    }

    /// Whoever of a topic's readers has least; among equals one near a replica.
    fn least(&self, topic: usize, partition: u32) -> Option<usize> {
        let firsts = self.classes_of[topic].iter().filter_map(|class| self.classes[*class].by_load.first());
        let (load, first) = *firsts.min()?;
        if self.spread.topics[topic].racks.is_empty() {
            return Some(first);
        }
        let equal = |class: &usize| self.classes[*class].by_load.range((load, 0)..=(load, usize::MAX));
        let mut equals = self.classes_of[topic].iter().flat_map(equal).map(|(_, reader)| *reader);
        Some(equals.find(|reader| self.is_near(*reader, topic, partition)).unwrap_or(first))
    }

    fn readers_of(&self, topic: usize) -> impl Iterator<Item = usize> {
        self.classes_of[topic].iter().flat_map(|class| &self.classes[*class].by_load).map(|(_, reader)| *reader)
    }

    fn is_near(&self, reader: usize, topic: usize, partition: u32) -> bool {
        self.spread.topics[topic].is_near(partition, self.spread.readers[reader].rack)
    }

    fn give(&mut self, reader: usize, topic: usize, partition: u32, kept: bool) {
        self.held[reader].entry(topic).or_default().insert(partition, kept);
        self.reload(reader, self.loads[reader] + 1);
    }

    fn take(&mut self, reader: usize, topic: usize, partition: u32) {
        if let Some(held) = self.held[reader].get_mut(&topic) {
            held.remove(&partition);
            if held.is_empty() {
                self.held[reader].remove(&topic);
            }
        }
        self.reload(reader, self.loads[reader] - 1);
    }

    fn reload(&mut self, reader: usize, load: usize) {
        let before = core::mem::replace(&mut self.loads[reader], load);
        for by_load in [&mut self.by_load, &mut self.classes[self.class_of[reader]].by_load] {
            by_load.remove(&(before, reader));
            by_load.insert((load, reader));
        }
    }

    fn into_sets(self) -> Vec<PartitionSet> {
        let topics = &self.spread.topics;
        let set = |held: BTreeMap<usize, BTreeMap<u32, bool>>| {
            let partitions = held.into_iter().flat_map(|(topic, held)| held.into_keys().map(move |at| (topic, at)));
            partitions.map(|(topic, at)| (topics[topic].id, PartitionId(at))).collect()
        };
        self.held.into_iter().map(set).collect()
    }
}
