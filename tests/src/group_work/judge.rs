//! Holds what members noted against what a group promises. Pure; knows nothing of clients.
//!
//! - **OneOwner**: from the moment that a partition is another's, its owner before processes nothing of it.
//! - **InOrderAndNoneSkipped**: an owner processes each offset once, one after the other.
//! - **GoesOnWhereTheGroupStopped**: the next owner begins where the one before ended; only behind one that lost the partition, or whose last
//!   commit may have failed, may it begin further back, and never below what the coordinator had said to be committed.
//! - **KeepersAreLeftAlone**: nobody is told to let go of a partition and given it again while no member came or went.
//! - **CommittedNeverGoesBack**: what the coordinator says of a partition only grows.

use std::collections::BTreeMap;
use std::time::Duration;

use super::notes::{Entry, Life, What};

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Judged {
    /// Every promise that was broken, in order.
    pub broken: Vec<String>,
    /// Times that a partition came to a member.
    pub assigned: u64,
    /// Times that a partition was taken from a member that stayed.
    pub taken_from_members: u64,
    /// Times that a partition was lost.
    pub lost: u64,
    /// Records processed.
    pub processed: u64,
    /// Records processed by more than one owner, each time but the first.
    pub again: u64,
    /// Ages of the records that a member processed while it had their partition all the time from before they were sent, ascending.
    pub kept_ages: Vec<Duration>,
    /// The next offset that nobody has processed, by partition.
    pub reached: BTreeMap<u32, u64>,
}

/// How a group was left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Faults {
    /// No broker was touched: every last commit succeeds, and nobody loses a partition.
    None,
    /// Brokers were.
    Brokers,
}

#[derive(Debug, Default)]
struct Partition {
    owner: Option<Owner>,
    /// One that was not told yet that it is none any more: it may have lost the partition before it hears of that.
    stale: BTreeMap<Life, bool>,
    /// Where the next owner begins at the latest.
    next: u64,
    /// The last owner may not have committed all it did.
    unsure: bool,
    committed: u64,
    revoked_from: Option<(Life, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    life: Life,
    since: Duration,
    /// The next offset that it processes, once it has begun.
    next: Option<u64>,
    /// Not below that.
    floor: u64,
}

/// Judges entries.
#[must_use]
pub fn judge(entries: &[Entry], faults: Faults) -> Judged {
    let mut judged = Judged::default();
    let mut partitions: BTreeMap<u32, Partition> = BTreeMap::new();
    let mut leaving: Vec<Life> = Vec::new();
    let mut changes = 0;
    for Entry { at, what } in entries.iter().copied() {
        let told = format!("at {} ms, {what:?}", at.as_millis());
        let mut broken = |why: String| judged.broken.push(format!("{told}: {why}"));
        match what {
            What::Joins(_) => changes += 1,
            What::Leaves(life) => {
                changes += 1;
                leaving.push(life);
            }
            What::Assigned(life, number) => {
                judged.assigned += 1;
                let partition = partitions.entry(number).or_default();
                if let Some(before) = partition.owner.take() {
                    if faults == Faults::None || before.life == life {
                        broken(format!("{} owns it (OneOwner)", before.life));
                    }
                    partition.close(before);
                    partition.unsure = true;
                    partition.stale.insert(before.life, true);
                }
                if partition.revoked_from == Some((life, changes)) && faults == Faults::None {
                    broken("it was taken from it before, and nobody came or went (KeepersAreLeftAlone)".into());
                }
                partition.owner = Some(Owner { life, since: at, next: None, floor: partition.committed });
            }
            What::Revoked(life, number) => {
                let partition = partitions.entry(number).or_default();
                judged.taken_from_members += u64::from(!leaving.contains(&life));
                match partition.owner.take_if(|owner| owner.life == life) {
                    Some(owner) => {
                        partition.close(owner);
                        partition.unsure |= faults == Faults::Brokers;
                        partition.revoked_from = Some((life, changes));
                    }
                    None => broken("it does not own it (OneOwner)".into()),
                }
            }
            What::Lost(life, number) => {
                judged.lost += 1;
                let partition = partitions.entry(number).or_default();
                if faults == Faults::None {
                    broken("nothing happened that could have cost it the partition".into());
                }
                if let Some(owner) = partition.owner.take_if(|owner| owner.life == life) {
                    partition.close(owner);
                    partition.unsure = true;
                } else if partition.stale.remove(&life).is_none() {
                    broken("it does not own it (OneOwner)".into());
                }
            }
            What::Processed { life, partition: number, offset, age } => {
                judged.processed += 1;
                let partition = partitions.entry(number).or_default();
                let Some(owner) = partition.owner.as_mut().filter(|owner| owner.life == life) else {
                    broken("it does not own it (OneOwner)".into());
                    continue;
                };
                match owner.next {
                    Some(next) if next != offset => {
                        broken(format!("it was to process {next} next (InOrderAndNoneSkipped)"));
                    }
                    Some(_) => {}
                    None if offset > partition.next => {
                        broken(format!("those from {} on were skipped (GoesOnWhereTheGroupStopped)", partition.next))
                    }
                    None if offset < partition.next && !partition.unsure => broken(format!(
                        "everything below {} was done and committed (GoesOnWhereTheGroupStopped)",
                        partition.next
                    )),
                    None if offset < owner.floor => broken(format!(
                        "the group was said to have come to {} before (GoesOnWhereTheGroupStopped)",
                        owner.floor
                    )),
                    None => {}
                }
                owner.next = Some(offset + 1);
                let reached = judged.reached.entry(number).or_default();
                judged.again += u64::from(offset < *reached);
                *reached = (*reached).max(offset + 1);
                if at.saturating_sub(age) >= owner.since {
                    judged.kept_ages.push(age);
                }
            }
            What::Committed { partition: number, offset } => {
                let partition = partitions.entry(number).or_default();
                if offset < partition.committed {
                    broken(format!("it was {} before (CommittedNeverGoesBack)", partition.committed));
                }
                partition.committed = partition.committed.max(offset);
            }
        }
    }
    judged.kept_ages.sort_unstable();
    judged
}

impl Partition {
    /// An ownership ends.
    fn close(&mut self, owner: Owner) {
        if let Some(next) = owner.next {
            // Who began further back and did not come as far settles nothing that was not settled.
            self.unsure &= next < self.next;
            self.next = self.next.max(next);
        }
    }
}

/// The value below which `share` of ascending values lie.
#[must_use]
pub fn percentile(ascending: &[Duration], share: f64) -> Duration {
    let at = ((ascending.len() as f64 * share) as usize).min(ascending.len().saturating_sub(1));
    ascending.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(whats: &[What], faults: Faults) -> Judged {
        let entry = |(at, what): (usize, &What)| Entry { at: Duration::from_millis(10 * at as u64), what: *what };
        judge(&whats.iter().enumerate().map(entry).collect::<Vec<_>>(), faults)
    }

    fn processed(life: Life, offset: u64) -> What {
        What::Processed { life, partition: 0, offset, age: Duration::from_millis(15) }
    }

    const HANDED_OVER: [What; 8] = [
        What::Joins(0),
        What::Assigned(0, 0),
        What::Processed { life: 0, partition: 0, offset: 0, age: Duration::from_millis(15) },
        What::Processed { life: 0, partition: 0, offset: 1, age: Duration::from_millis(15) },
        What::Joins(1),
        What::Revoked(0, 0),
        What::Assigned(1, 0),
        What::Processed { life: 1, partition: 0, offset: 2, age: Duration::from_millis(15) },
    ];

    #[track_caller]
    fn breaks(whats: &[What], faults: Faults, promise: &str) {
        let judged = told(whats, faults);
        assert!(judged.broken.first().is_some_and(|first| first.contains(promise)), "{promise}: {judged:?}");
    }

    #[test]
    fn a_partition_that_is_handed_over_breaks_nothing() {
        let judged = told(&HANDED_OVER, Faults::None);
        assert_eq!((&judged.broken[..], judged.processed, judged.again, judged.assigned), (&[][..], 3, 0, 2));
        assert_eq!((judged.taken_from_members, judged.lost, judged.reached[&0]), (1, 0, 3));
        assert_eq!(judged.kept_ages.len(), 1, "the first was sent before the partition came, and so was the third");
    }

    #[test]
    fn each_broken_promise_is_told() {
        let changed = |change: &dyn Fn(&mut Vec<What>)| {
            let mut whats = HANDED_OVER.to_vec();
            change(&mut whats);
            whats
        };
        let two = changed(&|whats| whats.retain(|what| !matches!(what, What::Revoked(..))));
        breaks(&two, Faults::None, "OneOwner");
        breaks(&changed(&|whats| whats.push(processed(0, 2))), Faults::Brokers, "OneOwner");
        breaks(&changed(&|whats| whats[3] = processed(0, 2)), Faults::None, "InOrderAndNoneSkipped");
        breaks(&changed(&|whats| whats[3] = processed(0, 0)), Faults::None, "InOrderAndNoneSkipped");
        breaks(&changed(&|whats| whats[7] = processed(1, 3)), Faults::Brokers, "GoesOnWhereTheGroupStopped");
        let again = changed(&|whats| whats[7] = processed(1, 1));
        breaks(&again, Faults::None, "GoesOnWhereTheGroupStopped");
        assert_eq!(told(&again, Faults::Brokers).broken, Vec::<String>::new(), "its last commit may have failed");
        let below = changed(&|whats| {
            whats[7] = processed(1, 1);
            whats.insert(6, What::Committed { partition: 0, offset: 2 });
        });
        breaks(&below, Faults::Brokers, "GoesOnWhereTheGroupStopped");
        let back = changed(&|whats| {
            whats.push(What::Committed { partition: 0, offset: 2 });
            whats.push(What::Committed { partition: 0, offset: 1 });
        });
        breaks(&back, Faults::Brokers, "CommittedNeverGoesBack");
        let interrupted = changed(&|whats| {
            whats[6] = What::Assigned(0, 0);
            whats[7] = processed(0, 2);
        });
        breaks(&interrupted, Faults::None, "KeepersAreLeftAlone");
    }

    #[test]
    fn who_lost_a_partition_may_hear_of_it_after_the_next_owner_but_must_do_nothing_more() {
        let mut whats = HANDED_OVER.to_vec();
        whats.remove(5);
        whats.push(What::Lost(0, 0));
        let judged = told(&whats, Faults::Brokers);
        assert_eq!((&judged.broken[..], judged.lost), (&[][..], 1));
    }
}
