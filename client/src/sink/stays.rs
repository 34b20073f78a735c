//! Which partitions a sink has, from where on, and under which number. Pure: knows neither database nor group.

use std::collections::BTreeMap;

use tidelog_protocol::{Offset, TopicId};

use crate::TopicPartition;

/// A partition in the sink's hands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stay {
    /// The topic that it is of: another may come to have the name.
    pub(super) topic_id: TopicId,
    /// Its number in the table of offsets.
    pub(super) epoch: i64,
    /// The next offset to take effect.
    pub(super) next: Offset,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Stays(BTreeMap<TopicPartition, Stay>);

impl Stays {
    /// A partition was claimed.
    pub(super) fn begin(&mut self, at: TopicPartition, stay: Stay) {
        self.0.insert(at, stay);
    }

    /// The topic of which it is in hand.
    pub(super) fn topic_id(&self, at: &TopicPartition) -> Option<TopicId> {
        self.0.get(at).map(|stay| stay.topic_id)
    }

    /// Partitions are gone.
    pub(super) fn end(&mut self, gone: &[TopicPartition]) {
        self.0.retain(|at, _| !gone.contains(at));
    }

    pub(super) fn has(&self, at: &TopicPartition) -> bool {
        self.0.contains_key(at)
    }

    /// Whether the record at `offset` of this topic shall have an effect.
    pub(super) fn takes(&self, at: &TopicPartition, topic_id: TopicId, offset: Offset) -> bool {
        self.0.get(at).is_some_and(|stay| stay.topic_id == topic_id && stay.next <= offset)
    }

    /// The moves that records make which take effect together: of each partition one, to behind its last record.
    pub(super) fn moves<'r>(
        &self,
        records: impl IntoIterator<Item = (&'r TopicPartition, Offset)>,
    ) -> BTreeMap<TopicPartition, Stay> {
        let mut moves: BTreeMap<TopicPartition, Stay> = BTreeMap::new();
        for (at, offset) in records {
            let Some(stay) = self.0.get(at) else { continue };
            let next = Offset(offset.0 + 1);
            let moved = moves.entry(at.clone()).or_insert(Stay { next, ..*stay });
            moved.next = moved.next.max(next);
        }
        moves
    }

    /// They hold.
    pub(super) fn moved(&mut self, moves: BTreeMap<TopicPartition, Stay>) {
        self.0.extend(moves);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PartitionId, TopicName};

    const TOPIC: TopicId = TopicId([1; 16]);

    fn at(partition: u32) -> TopicPartition {
        TopicPartition { topic: TopicName::new("t").unwrap(), partition: PartitionId(partition) }
    }

    #[test]
    fn what_had_its_effect_has_no_other() {
        let mut stays = Stays::default();
        stays.begin(at(0), Stay { topic_id: TOPIC, epoch: 3, next: Offset(5) });
        stays.begin(at(1), Stay { topic_id: TOPIC, epoch: 1, next: Offset::ZERO });
        assert!(
            !stays.takes(&at(0), TOPIC, Offset(4))
                && stays.takes(&at(0), TOPIC, Offset(5))
                && stays.takes(&at(0), TOPIC, Offset(9))
        );
        assert!(stays.takes(&at(1), TOPIC, Offset(0)) && !stays.takes(&at(2), TOPIC, Offset(0)));
        assert!(!stays.takes(&at(0), TopicId([2; 16]), Offset(5)), "it is of another topic of the name");
        let moves = stays.moves([(&at(0), Offset(5)), (&at(1), Offset(2)), (&at(0), Offset(8))]);
        assert_eq!(moves[&at(0)], Stay { topic_id: TOPIC, epoch: 3, next: Offset(9) });
        assert_eq!(moves[&at(1)], Stay { topic_id: TOPIC, epoch: 1, next: Offset(3) });
        stays.moved(moves);
        assert!(!stays.takes(&at(0), TOPIC, Offset(8)) && stays.takes(&at(0), TOPIC, Offset(9)));
        stays.end(&[at(0)]);
        assert!(!stays.takes(&at(0), TOPIC, Offset(9)) && !stays.has(&at(0)) && stays.has(&at(1)));
    }
}
