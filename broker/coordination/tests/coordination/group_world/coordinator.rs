//! A coordinator: the machine, and a log of which only a part is stored. Knows nothing of who asks.

use tidelog_coordination::groups::{
    Bounds, GroupCommand, GroupDecision, GroupFlaws, GroupLimits, GroupRecord, GroupReply, Groups,
};
use tidelog_coordination::{ClusterImage, Refusal};
use tidelog_protocol::Monotonic;
use tidelog_protocol::codec::Entropy;
use tidelog_protocol::messages::DescribeGroupResponse;

use super::GROUP;
use super::compaction::{compacted, describe, state};
use super::oracle::Oracle;
use crate::cluster::NOW;

pub struct Coordinator {
    pub groups: Groups,
    pub away_until: u64,
    flaws: GroupFlaws,
    log: Vec<Vec<GroupRecord>>,
    stored: usize,
}

pub fn limits() -> GroupLimits {
    GroupLimits {
        session_ms: Bounds { min: 1_000, default: 5_000, max: 20_000 },
        rebalance_ms: Bounds { min: 1_000, default: 6_000, max: 60_000 },
        heartbeat_ms: 1_000,
        ..GroupLimits::default()
    }
}

impl Coordinator {
    pub fn new(flaws: GroupFlaws) -> Self {
        let groups = Groups::with_flaws(limits(), flaws);
        Self { groups, away_until: 0, flaws, log: Vec::new(), stored: 0 }
    }

    pub fn handle(
        &mut self,
        command: &GroupCommand,
        image: &ClusterImage,
        now: Monotonic,
        oracle: &mut Oracle,
    ) -> Result<GroupReply, Refusal> {
        let GroupDecision { records, reply } = self.groups.handle(command, image, now, NOW)?;
        self.write(records, oracle);
        Ok(reply)
    }

    pub fn expire(&mut self, image: &ClusterImage, now: Monotonic, oracle: &mut Oracle) {
        let records = self.groups.expire(image, now);
        self.write(records, oracle);
    }

    fn write(&mut self, records: Vec<GroupRecord>, oracle: &mut Oracle) {
        for record in &records {
            self.groups.replay(record);
        }
        oracle.watch(&records);
        if !records.is_empty() {
            self.log.push(records);
        }
    }

    pub const fn written(&self) -> usize {
        self.log.len()
    }

    pub const fn stored(&self) -> usize {
        self.stored
    }

    pub const fn store(&mut self) {
        self.stored = self.log.len();
    }

    pub fn records(&self) -> impl Iterator<Item = &GroupRecord> {
        self.log.iter().flatten()
    }

    /// Another broker takes over: what was not stored may be lost. Was it? And was the log compacted before?
    pub fn move_elsewhere(&mut self, chance: &mut Entropy, now: Monotonic) -> (bool, bool) {
        let unstored = (self.log.len() - self.stored) as u64;
        let lost = chance.below(unstored + 1) as usize;
        self.log.truncate(self.log.len() - lost);
        self.stored = self.log.len();
        let whole = replayed(self.flaws, self.log.iter().flatten().cloned(), now);
        let compact = chance.below(2) == 0;
        self.groups = whole;
        if compact {
            let records: Vec<GroupRecord> = self.log.iter().flatten().cloned().collect();
            let left = compacted(&records, chance);
            let from_left = replayed(self.flaws, left.iter().cloned(), now);
            assert_eq!(state(&from_left), state(&self.groups), "compaction changes nothing");
            self.groups = from_left;
            self.log = left.into_iter().map(|record| vec![record]).collect();
            self.stored = self.log.len();
        }
        (lost > 0, compact)
    }

    pub fn describe(&mut self, now: Monotonic) -> Option<DescribeGroupResponse> {
        describe(&mut self.groups, GROUP, now)
    }
}

/// The machine that a log makes, each record by way of its bytes.
fn replayed(flaws: GroupFlaws, records: impl Iterator<Item = GroupRecord>, now: Monotonic) -> Groups {
    let mut groups = Groups::with_flaws(limits(), flaws);
    for record in records {
        let read = GroupRecord::from_key_value(&record.key(), record.value().as_deref()).expect("it reads back");
        assert_eq!(read, record);
        groups.replay(&read);
    }
    groups.loaded(now);
    groups
}
