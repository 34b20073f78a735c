//! Which transactions of a producer are over in a group: a commit of theirs that was on its way while they were ended is refused. A fence must
//! outlast a commit for which the transaction's coordinator was asked before the end, and no more: whoever asks it later hears that it is over.
//! Knows nothing of what transactions note.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::{Monotonic, ProducerEpoch, ProducerId};

use super::records::{FenceKey, FenceValue, GroupRecord};

/// How long one stays, in milliseconds. Nobody waits for an answer of the transaction's coordinator for so long.
const KEPT_MS: u64 = 15 * 60_000;
/// How many are forgotten at once.
const FORGOTTEN_MAX: usize = 1_000;

/// A producer in a group.
type Fenced = (String, ProducerId);

#[derive(Clone, Copy, Debug)]
struct Fence {
    epoch: ProducerEpoch,
    since: Option<Monotonic>,
    /// How often it was put up while this coordinator kept it.
    ends: u64,
}

/// The fences of all groups.
#[derive(Clone, Debug, Default)]
pub(super) struct Fences {
    epochs: BTreeMap<Fenced, Fence>,
    /// Those whose time does not count yet.
    fresh: BTreeSet<Fenced>,
    /// The others, by when it began to.
    aging: BTreeSet<(Monotonic, Fenced)>,
}

impl Fences {
    /// Everything of the producer before this epoch is over.
    pub fn epoch(&self, group: &str, producer_id: ProducerId) -> Option<ProducerEpoch> {
        self.epochs.get(&(group.to_owned(), producer_id)).map(|fence| fence.epoch)
    }

    /// How many transactions of the producer have ended here, as long as its fence stands: a commit that was asked for before the last of them is
    /// of one that is over, also where the next has the same epoch.
    pub fn ends(&self, group: &str, producer_id: ProducerId) -> u64 {
        self.epochs.get(&(group.to_owned(), producer_id)).map_or(0, |fence| fence.ends)
    }

    /// Applies a record.
    pub fn replay(&mut self, key: &FenceKey, value: Option<&FenceValue>) {
        let fenced = (key.group.clone(), key.producer_id);
        let mut ends = 0;
        if let Some(known) = self.epochs.remove(&fenced) {
            ends = known.ends;
            self.fresh.remove(&fenced);
            if let Some(since) = known.since {
                self.aging.remove(&(since, fenced.clone()));
            }
        }
        if let Some(value) = value {
            self.epochs.insert(fenced.clone(), Fence { epoch: value.epoch, since: None, ends: ends + 1 });
            self.fresh.insert(fenced);
        }
    }

    /// What is to be stored: those that nobody needs any more are forgotten.
    pub fn expire(&mut self, now: Monotonic) -> Vec<GroupRecord> {
        for fenced in core::mem::take(&mut self.fresh) {
            if let Some(fence) = self.epochs.get_mut(&fenced) {
                fence.since = Some(now);
                self.aging.insert((now, fenced));
            }
        }
        let over = self.aging.iter().take_while(|(since, _)| now >= since.plus_ms(KEPT_MS)).take(FORGOTTEN_MAX);
        let forget = |(_, (group, producer_id)): &(Monotonic, Fenced)| {
            GroupRecord::Fence(FenceKey { group: group.clone(), producer_id: *producer_id }, None)
        };
        over.map(forget).collect()
    }
}
