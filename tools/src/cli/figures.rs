//! Figures of partitions that nobody vouches for, as their leader does not answer, is not there or may have been replaced: how they are shown, what
//! is said of them, and how the command ends. Knows nothing of which figures there are.

use std::collections::BTreeMap;

use tidelog_client::{BrokerId, ClientError};
use tidelog_protocol::messages::PartitionDescription;

use super::leading::{Leading, Led};
use crate::byte_size::counted;
use crate::exit::Exit;

/// A figure of one partition; `?` where its leader did not tell it.
pub(super) fn of_one(partition: &PartitionDescription, leading: &Leading, shown: String) -> String {
    if is_told(partition, leading) { shown } else { "?".into() }
}

/// Whether a leader told the figures of a partition, even if there may be more by now.
pub(super) fn is_told(partition: &PartitionDescription, leading: &Leading) -> bool {
    leading.of(partition.leader) <= Led::WithoutLease
}

/// The sum of a figure over partitions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sum {
    /// Of those that are told.
    told: u64,
    /// Whether any is.
    is_any_told: bool,
    /// Whether that is all.
    is_all: bool,
}

impl Sum {
    pub(super) fn of(
        partitions: &[PartitionDescription],
        leading: &Leading,
        figure: impl Fn(&PartitionDescription) -> u64,
    ) -> Self {
        let told = || partitions.iter().filter(|partition| is_told(partition, leading));
        Self {
            told: told().map(figure).sum(),
            is_any_told: told().next().is_some(),
            is_all: partitions.iter().all(|partition| leading.of(partition.leader) == Led::Well),
        }
    }

    /// For people.
    pub(super) fn shown(self, display: impl Fn(u64) -> String) -> String {
        match self {
            Self { is_all: true, told, .. } => display(told),
            Self { is_any_told: true, told, .. } => format!("at least {}", display(told)),
            Self { .. } => "?".into(),
        }
    }

    /// For programs: all of it, or nothing.
    pub(super) fn all(self) -> Option<u64> {
        self.is_all.then_some(self.told)
    }

    /// For programs: what is known of it.
    pub(super) const fn at_least(self) -> u64 {
        self.told
    }
}

/// Says on standard error whose figures are missing, and gives how to end.
pub(super) fn told<'a>(
    partitions: impl IntoIterator<Item = &'a PartitionDescription>,
    leading: &Leading,
    silent: &BTreeMap<BrokerId, ClientError>,
) -> Exit {
    let sentences = sentences(partitions, leading, silent);
    for sentence in &sentences {
        eprintln!("warning: {sentence}");
    }
    if sentences.is_empty() { Exit::Done } else { Exit::Partial }
}

fn sentences<'a>(
    partitions: impl IntoIterator<Item = &'a PartitionDescription>,
    leading: &Leading,
    silent: &BTreeMap<BrokerId, ClientError>,
) -> Vec<String> {
    let mut by_leader: BTreeMap<(Led, Option<BrokerId>), u64> = BTreeMap::new();
    for partition in partitions {
        *by_leader.entry((leading.of(partition.leader), partition.leader)).or_default() += 1;
    }
    let sentence = |((led, leader), count): ((Led, Option<BrokerId>), u64)| {
        let places = counted(count, "partition");
        let who = leader.map_or_else(|| "nobody".to_owned(), |leader| format!("broker {leader}"));
        match led {
            Led::Well => None,
            Led::WithoutLease => Some(format!(
                "{who} has no lease and may have been replaced as the leader of {places}: there may be more than it knows"
            )),
            Led::ByNobody => Some(format!("nobody leads {places}, so that their records and bytes are not known")),
            Led::ByNobodyThere => {
                let why = leader.and_then(|leader| silent.get(&leader)).map(|error| format!(": {error}"));
                let why = why.unwrap_or_else(|| ": it is away".into());
                Some(format!(
                    "{who} does not tell of {places} that it leads, so that their records and bytes are not known{why}"
                ))
            }
        }
    };
    by_leader.into_iter().filter_map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use tidelog_protocol::messages::LogHealth;
    use tidelog_protocol::{LeaderEpoch, Offset, PartitionId};

    use super::*;

    fn partition(leader: Option<u32>) -> PartitionDescription {
        PartitionDescription {
            partition: PartitionId(0),
            leader: leader.map(BrokerId),
            leader_epoch: LeaderEpoch(3),
            log_start: Offset(0),
            high_watermark: Offset(100),
            log_end: Offset(100),
            flushed_end: Offset(100),
            size_bytes: 7,
            segments: 1,
            health: LogHealth::Healthy,
            compaction: None,
        }
    }

    #[test]
    fn a_sum_says_whether_it_is_all_there_is() {
        let leading = Leading::default().but_for([BrokerId(2)]);
        let sum = |leaders: &[Option<u32>]| {
            let partitions: Vec<_> = leaders.iter().map(|leader| partition(*leader)).collect();
            Sum::of(&partitions, &leading, |partition| partition.size_bytes)
        };
        let shown = |leaders: &[Option<u32>]| sum(leaders).shown(|sum| sum.to_string());
        assert_eq!(shown(&[Some(1), Some(3)]), "14");
        assert_eq!((shown(&[Some(1), Some(2)]), shown(&[Some(1), None])), ("at least 7".into(), "at least 7".into()));
        assert_eq!(shown(&[Some(2), None]), "?");
        assert_eq!((sum(&[Some(1)]).all(), sum(&[Some(1), None]).all()), (Some(7), None));
        assert_eq!(sum(&[Some(1), None]).at_least(), 7);
        assert_eq!(of_one(&partition(Some(2)), &leading, "100".into()), "?");
        assert_eq!(of_one(&partition(Some(1)), &leading, "100".into()), "100");
    }

    #[test]
    fn who_does_not_answer_is_named_with_what_it_leads() {
        let error = ClientError::Argument("it hangs".into());
        let silent = BTreeMap::from([(BrokerId(2), error)]);
        let leading = Leading::default().but_for(silent.keys().copied());
        let partitions = [Some(1), Some(2), None, Some(2)].map(partition);
        let said = sentences(&partitions, &leading, &silent);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(
            said[0].starts_with("broker 2 does not tell of 2 partitions") && said[0].contains("it hangs"),
            "{said:?}"
        );
        assert!(said[1].starts_with("nobody leads 1 partition"), "{said:?}");
        assert_eq!(told(&partitions[..1], &leading, &silent), Exit::Done);
        assert_eq!(told(&partitions, &leading, &silent), Exit::Partial);
    }
}
