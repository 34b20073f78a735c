//! Random lives of a leader against a naive account of the promises. Named invariants: NoAckBeforeItsPromise, NoAckTwice,
//! NoTicketLost, NoDueTicketHeldBack, MonotonicHighWatermark,
//! JoinsAtTheWatermarkOrPastIt.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidelog_protocol::messages::Acks;
use tidelog_protocol::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionEpoch};
use tidelog_replication::{
    AckFailure, AppendedRange, Durability, Effects, EpochHistory, FollowTerms, Leader, Leadership, Membership,
    PartitionOffsets, ReplicaEnds, ReplicaProgress,
};

const BROKERS: [BrokerId; 3] = [BrokerId(0), BrokerId(1), BrokerId(2)];
const LIFE: BrokerEpoch = BrokerEpoch(5);
const EPOCH: LeaderEpoch = LeaderEpoch(1);

#[derive(Clone, Debug)]
enum Step {
    Append { records: u64, acks: Acks },
    Write { share: u64 },
    Abandon,
    Flush { share: u64 },
    Progress { replica: usize, stale: bool, written: u64, flushed: u64 },
    InSync { with: [bool; 2] },
    Promises { durability: Durability, min_in_sync: u16 },
    DeleteBefore { share: u64 },
    Poison,
}

fn durability() -> impl Strategy<Value = Durability> {
    prop_oneof![Just(Durability::Flushed), Just(Durability::Written)]
}

fn step() -> impl Strategy<Value = Step> {
    let acks = prop_oneof![Just(Acks::None), Just(Acks::Leader), Just(Acks::All)];
    prop_oneof![
        8 => (1..4u64, acks).prop_map(|(records, acks)| Step::Append { records, acks }),
        6 => (0..=4u64).prop_map(|share| Step::Write { share }),
        1 => Just(Step::Abandon),
        5 => (0..=4u64).prop_map(|share| Step::Flush { share }),
        8 => (1..3usize, proptest::bool::weighted(0.1), 0..=5u64, 0..=5u64)
            .prop_map(|(replica, stale, written, flushed)| Step::Progress { replica, stale, written, flushed }),
        2 => any::<[bool; 2]>().prop_map(|with| Step::InSync { with }),
        2 => (durability(), 1..=3u16).prop_map(|(durability, min_in_sync)| Step::Promises { durability, min_in_sync }),
        1 => (0..=4u64).prop_map(|share| Step::DeleteBefore { share }),
        1 => Just(Step::Poison),
    ]
}

/// A place `quarters` of the way from `from` to `to`.
fn between(from: Offset, to: Offset, quarters: u64) -> Offset {
    from.plus(to.since(from) * quarters / 4)
}

struct Promise {
    acks: Acks,
    next: u64,
    needs_flush: bool,
}

/// Knows the world only from what the leader was told.
struct Account {
    ends: [(u64, u64); 3],
    in_sync: [bool; 3],
    /// In sync, or proposed to be.
    counts: [bool; 3],
    min_in_sync: u16,
    durability: Durability,
    watermark: u64,
    open: BTreeMap<usize, Promise>,
    poisoned: bool,
    changed: bool,
}

impl Account {
    fn common(&self, durability: Durability) -> u64 {
        let end = |(written, flushed)| if durability == Durability::Flushed { flushed } else { written };
        (0..3).filter(|i| self.counts[*i]).map(|i| end(self.ends[i])).min().unwrap_or(0)
    }

    fn settle(&mut self) {
        let in_sync = self.in_sync.iter().filter(|member| **member).count();
        if !self.poisoned && in_sync >= usize::from(self.min_in_sync) {
            self.watermark = self.watermark.max(self.common(self.durability));
        }
    }

    fn is_met(&self, promise: &Promise) -> bool {
        match promise.acks {
            Acks::None | Acks::Leader => self.ends[0].0 >= promise.next,
            Acks::All => {
                let flushed = !promise.needs_flush || self.common(Durability::Flushed) >= promise.next;
                self.watermark >= promise.next && flushed
            }
        }
    }
}

fn live(replicas: usize, durability: Durability, steps: &[Step]) -> Result<(), TestCaseError> {
    let leadership = Leadership {
        leader: BROKERS[0],
        epoch: EPOCH,
        membership: Membership {
            replicas: BROKERS[..replicas].to_vec(),
            in_sync: BROKERS[..replicas].to_vec(),
            partition_epoch: PartitionEpoch(0),
        },
        // Nothing here takes time: no follower lags.
        lag_max_ms: 3_000,
        min_in_sync: 1,
        durability,
    };
    let mut leader: Leader<usize> = Leader::new(PartitionOffsets::default(), EpochHistory::default(), &leadership);
    let mut effects = Effects::new();
    let mut partition_epoch = 0;
    let membership = |in_sync: &[BrokerId], partition_epoch| Membership {
        replicas: BROKERS[..replicas].to_vec(),
        in_sync: in_sync.to_vec(),
        partition_epoch: PartitionEpoch(partition_epoch),
    };
    for replica in &BROKERS[1..replicas] {
        let (from, last_epoch) = (Offset(0), None);
        let terms = FollowTerms { replica: *replica, broker_epoch: LIFE, leader_epoch: EPOCH, from, last_epoch };
        prop_assert!(leader.follow(&terms).is_ok());
    }
    let mut account = Account {
        ends: [(0, 0); 3],
        in_sync: [true, replicas > 1, replicas > 2],
        counts: [true, replicas > 1, replicas > 2],
        min_in_sync: 1,
        durability,
        watermark: 0,
        open: BTreeMap::new(),
        poisoned: false,
        changed: false,
    };
    for (id, step) in steps.iter().enumerate() {
        let before = leader.offsets();
        let offsets = before;
        match *step {
            Step::Append { records, acks } if !account.poisoned => {
                let base_offset = offsets.log_end();
                let next_offset = base_offset.plus(records);
                leader.appended(AppendedRange { base_offset, next_offset, bytes: 1 }, acks, id);
                let needs_flush = account.durability == Durability::Flushed;
                account.open.insert(id, Promise { acks, next: next_offset.0, needs_flush });
            }
            Step::Append { .. } => {}
            Step::Write { share } => {
                let end = between(offsets.written_end(), offsets.log_end(), share);
                leader.written(end, &mut effects);
                if !account.poisoned {
                    account.ends[0].0 = end.0;
                }
            }
            Step::Abandon => leader.append_abandoned(AckFailure::StorageFull, &mut effects),
            Step::Flush { share } => {
                let end = between(Offset::ZERO, offsets.written_end(), share);
                leader.flushed(end, &mut effects);
                if !account.poisoned {
                    account.ends[0].1 = account.ends[0].1.max(end.0);
                }
            }
            Step::Progress { replica, stale, written, flushed } => {
                let written_end = between(Offset::ZERO, offsets.written_end(), written);
                let flushed_end = between(Offset::ZERO, offsets.written_end(), flushed);
                let epoch = if stale { LeaderEpoch(0) } else { EPOCH };
                let ends = ReplicaEnds { written_end, flushed_end };
                let progress = ReplicaProgress { replica: BROKERS[replica], broker_epoch: LIFE, epoch, ends };
                if leader.progress(progress, &mut effects).is_ok() {
                    prop_assert!(!stale && replica < replicas && flushed_end <= written_end);
                    account.ends[replica] = (written_end.0, flushed_end.0);
                }
            }
            Step::InSync { with } => {
                let was = account.in_sync;
                account.in_sync = [true, with[0] && replicas > 1, with[1] && replicas > 2];
                account.counts = account.in_sync;
                // Whoever leaves has to report anew.
                for (ends, (was, is)) in account.ends.iter_mut().zip(was.into_iter().zip(account.in_sync)) {
                    *ends = if was && !is { (0, 0) } else { *ends };
                }
                let members: Vec<_> = (0..3).filter(|i| account.in_sync[*i]).map(|i| BROKERS[i]).collect();
                partition_epoch += 1;
                leader.membership_changed(&membership(&members, partition_epoch), &mut effects);
            }
            Step::Promises { durability, min_in_sync } => {
                (account.durability, account.min_in_sync) = (durability, min_in_sync);
                account.changed = true;
                leader.promises_changed(durability, min_in_sync, &mut effects);
            }
            Step::DeleteBefore { share } => {
                let _ = leader.delete_before(Some(between(offsets.log_start(), offsets.log_end(), share)));
            }
            Step::Poison => {
                account.poisoned = true;
                leader.poisoned(&mut effects);
            }
        }
        account.settle();
        let offsets = leader.offsets();
        prop_assert_eq!(offsets.high_watermark(), Offset(account.watermark), "after {:?}", step);
        let moved = (offsets.high_watermark() > before.high_watermark()).then_some(offsets.high_watermark());
        prop_assert_eq!(effects.high_watermark, moved);
        prop_assert!(offsets.high_watermark() >= before.high_watermark(), "MonotonicHighWatermark");
        for released in effects.released.drain(..) {
            let promise = account.open.remove(&released.ticket);
            let promise = promise.ok_or_else(|| TestCaseError::fail(format!("NoAckTwice: {released:?}")))?;
            prop_assert!(!account.poisoned && account.is_met(&promise), "NoAckBeforeItsPromise: {released:?}");
        }
        for failed in effects.failed.drain(..) {
            let promise = account.open.remove(&failed.ticket);
            prop_assert!(promise.is_some(), "NoAckTwice: {failed:?}");
            let unwritten = failed.next_offset > offsets.written_end();
            prop_assert!(account.poisoned || unwritten, "a written append fails only with the log: {failed:?}");
        }
        if let Some(proposal) = effects.alter_in_sync.take() {
            for member in proposal.in_sync {
                let at = member.broker.0 as usize;
                let end =
                    if account.durability == Durability::Flushed { account.ends[at].1 } else { account.ends[at].0 };
                prop_assert!(account.counts[at] || end >= account.watermark, "JoinsAtTheWatermarkOrPastIt");
                account.counts[at] = true;
            }
        }
        effects.clear();
        // After a change from flushed to written younger tickets may wait for older ones; the end of this life checks those.
        let in_order = |promise: &Promise| promise.acks == Acks::All && account.changed;
        let due = account.open.values().find(|promise| account.is_met(promise) && !in_order(promise));
        prop_assert!(account.poisoned || due.is_none(), "NoDueTicketHeldBack after {step:?}");
        prop_assert_eq!(leader.pending(), account.open.len(), "NoTicketLost");
        prop_assert_eq!(leader.pending_bytes(), account.open.len());
    }
    // Everything in flight arrives: each promise still open must then be met, and is.
    let end = leader.offsets().log_end();
    leader.promises_changed(account.durability, 1, &mut effects);
    leader.written(end, &mut effects);
    leader.membership_changed(&membership(&BROKERS[..1], partition_epoch + 1), &mut effects);
    while let Some(wanted) = leader.flush_wanted() {
        leader.flushed(wanted, &mut effects);
    }
    if !account.poisoned {
        prop_assert_eq!(effects.released.len(), account.open.len(), "NoDueTicketHeldBack");
    }
    prop_assert_eq!(leader.pending(), 0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn promises_are_kept_once_each_and_none_is_forgotten(
        replicas in 1..=3usize,
        durability in durability(),
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        live(replicas, durability, &steps)?;
    }
}
