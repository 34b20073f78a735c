//! A member of the simulation, which keeps to the contract: what it may work on, when it lets go, when it gives itself up. Knows nothing of
//! the coordinator but what it is told.

use std::collections::BTreeMap;

use tidelog_coordination::groups::partition_set::{PartitionSet, TopicPartition};
use tidelog_coordination::groups::{GroupCommand, GroupReply};
use tidelog_protocol::codec::Entropy;
use tidelog_protocol::messages::{
    CommitTransaction, CommittedOffset, GroupHeartbeatRequest, GroupHeartbeatResponse, LEAVING, OffsetCommitRequest,
    PAUSING, ProducerIdentity, Subscription,
};
use tidelog_protocol::{ErrorCode, Offset};

use super::producers::number;
use super::{Answer, GROUP, Tally};

/// A request that leaves.
pub struct Sent {
    pub command: GroupCommand,
    at: u64,
}

/// What stays the same as long as it lives.
pub struct Identity {
    pub id: String,
    pub instance: Option<String>,
    pub rack: Option<String>,
    pub assignor: Option<String>,
}

#[derive(Debug)]
pub struct Client {
    pub id: String,
    pub instance: Option<String>,
    pub epoch: i32,
    /// What it works on.
    pub owned: PartitionSet,
    pub cut_off_until: u64,
    pub stalled_until: u64,
    /// It does not let go in time.
    pub is_slow: bool,
    /// Where it commits within transactions: who its producer is, as it knows it.
    pub producer: Option<ProducerIdentity>,
    rack: Option<String>,
    assignor: Option<String>,
    subscription: Subscription,
    is_running: bool,
    was_stalled: bool,
    /// The part of `owned` that it has to let go of.
    must_let_go: PartitionSet,
    let_go_at: u64,
    has_let_go: bool,
    /// When it sent the first heartbeat after it had let go, until an answer shows that one came through.
    let_go_sent: Option<u64>,
    /// Since when each partition is its own.
    tenures: BTreeMap<TopicPartition, u64>,
    outstanding: Option<(u64, u64)>,
    next_beat: u64,
    answered_sent: u64,
    untaken_sent: u64,
    session_ms: u64,
    rebalance_ms: u32,
    says_all: bool,
    says_owned: bool,
    says_subscription: bool,
    beats: u64,
    refused: u32,
    chance: u64,
}

impl Client {
    pub fn new(identity: Identity, subscription: Subscription, now: u64, seed: u64) -> Self {
        let Identity { id, instance, rack, assignor } = identity;
        Self {
            id,
            instance,
            rack,
            assignor,
            subscription,
            epoch: 0,
            owned: PartitionSet::EMPTY,
            cut_off_until: 0,
            stalled_until: 0,
            is_slow: false,
            producer: None,
            is_running: true,
            was_stalled: false,
            must_let_go: PartitionSet::EMPTY,
            let_go_at: 0,
            has_let_go: false,
            let_go_sent: None,
            tenures: BTreeMap::new(),
            outstanding: None,
            next_beat: now,
            answered_sent: now,
            untaken_sent: now,
            session_ms: 5_000,
            rebalance_ms: if seed.is_multiple_of(2) { 0 } else { 1_000 },
            says_all: true,
            says_owned: true,
            says_subscription: true,
            beats: 0,
            refused: 0,
            chance: seed,
        }
    }

    pub const fn is_running(&self) -> bool {
        self.is_running
    }

    /// What it works on at this moment. One that was stalled looks at the time before it goes on.
    pub fn works_on(&self, now: u64) -> Option<&PartitionSet> {
        (self.is_running && !self.was_stalled && now >= self.stalled_until).then_some(&self.owned)
    }

    pub fn crash(&mut self) {
        self.is_running = false;
        self.owned = PartitionSet::EMPTY;
    }

    pub fn leave(&mut self, now: u64) -> Sent {
        self.crash();
        self.farewell(LEAVING, now)
    }

    pub fn pause(&mut self, now: u64) -> Sent {
        self.crash();
        self.farewell(PAUSING, now)
    }

    pub fn subscribe(&mut self, subscription: Subscription, now: u64) {
        self.subscription = subscription;
        self.says_subscription = true;
        self.next_beat = now;
    }

    pub fn has_sent(&mut self, number: u64, sent: &Sent) {
        if matches!(sent.command, GroupCommand::Heartbeat(_)) {
            self.outstanding = Some((number, sent.at));
        }
    }

    pub fn tick(&mut self, now: u64) -> Vec<Sent> {
        let mut sent = Vec::new();
        if !self.is_running {
            return sent;
        }
        if now < self.stalled_until {
            self.was_stalled = true;
            return sent;
        }
        if std::mem::take(&mut self.was_stalled) {
            // A zombie: the first thing it does is what it was about to do.
            sent.push(self.commit(&self.owned, now));
        }
        let rebalance_ms = if self.rebalance_ms == 0 { 6_000 } else { u64::from(self.rebalance_ms) };
        let rebalance_ends = self.untaken_sent + rebalance_ms.max(self.session_ms);
        if self.epoch > 0 && (now >= self.answered_sent + self.session_ms || now >= rebalance_ends) {
            self.give_up(now);
        }
        if !self.must_let_go.is_empty() && now >= self.let_go_at && !self.is_slow {
            sent.push(self.commit(&self.must_let_go, now));
            self.owned = self.owned.without(&self.must_let_go);
            self.must_let_go = PartitionSet::EMPTY;
            (self.says_owned, self.has_let_go, self.next_beat) = (true, true, now);
        }
        if self.epoch > 0 && !self.owned.is_empty() && self.draw().below(40) == 0 {
            sent.push(self.commit(&self.owned, now));
        }
        if self.outstanding.is_some_and(|(_, at)| now >= at + 1_500) {
            (self.outstanding, self.says_all, self.next_beat) = (None, true, now);
        }
        if self.outstanding.is_none() && now >= self.next_beat {
            sent.push(self.beat(now));
        }
        sent
    }

    pub fn hear(&mut self, number: u64, answer: Answer, now: u64, tally: &mut Tally) {
        let Some((_, sent_at)) = self.outstanding.filter(|(outstanding, _)| *outstanding == number) else { return };
        if !self.is_running || now < self.stalled_until {
            return;
        }
        self.outstanding = None;
        match answer {
            Answer::Reply(GroupReply::Heartbeat(response)) => self.learn(response, sent_at, now, tally),
            Answer::Refused(ErrorCode::FencedMember | ErrorCode::UnknownMember) => {
                tally.fenced += 1;
                self.give_up(now);
            }
            Answer::Refused(ErrorCode::InstanceTaken) => {
                tally.instance_taken += 1;
                self.refused += 1;
                if self.refused > 20 {
                    self.crash();
                }
                self.next_beat = now + 500;
            }
            Answer::Refused(code) => panic!("{} was refused: {code}", self.id),
            Answer::Reply(other) => panic!("{} got {other:?}", self.id),
        }
    }

    fn learn(&mut self, response: GroupHeartbeatResponse, sent_at: u64, now: u64, tally: &mut Tally) {
        self.epoch = response.member_epoch;
        self.answered_sent = sent_at;
        self.session_ms = u64::from(response.session_timeout_ms);
        self.next_beat = now + u64::from(response.heartbeat_interval_ms);
        if let Some(assignment) = response.assignment.as_deref().map(PartitionSet::from_wire) {
            for partition in assignment.without(&self.owned).iter() {
                self.tenures.insert(*partition, now);
            }
            let taken = self.owned.without(&assignment);
            if !taken.is_empty() && self.must_let_go.is_empty() {
                tally.handed_over += 1;
                self.let_go_at = now + self.draw().below(2_500);
            }
            self.owned.take_in(&assignment);
            self.must_let_go = taken;
            self.says_owned = true;
        }
        if let Some(let_go_sent) = self.let_go_sent.take() {
            self.untaken_sent = let_go_sent;
        }
        // An answer to what was sent before it let go does not say that the coordinator knows.
        if self.must_let_go.is_empty() && !self.has_let_go {
            self.untaken_sent = sent_at;
        }
    }

    /// It is no member any more, or must take itself for none.
    fn give_up(&mut self, now: u64) {
        self.epoch = 0;
        self.owned = PartitionSet::EMPTY;
        self.must_let_go = PartitionSet::EMPTY;
        self.outstanding = None;
        (self.has_let_go, self.let_go_sent, self.untaken_sent) = (false, None, now);
        self.says_all = true;
        self.next_beat = now;
    }

    fn beat(&mut self, now: u64) -> Sent {
        self.beats += 1;
        // Now and then everything is said: an old heartbeat that came late may have changed it back.
        let all = std::mem::take(&mut self.says_all) || self.epoch == 0 || self.beats.is_multiple_of(5);
        let subscription = std::mem::take(&mut self.says_subscription) || all;
        let owned = std::mem::take(&mut self.says_owned) || all;
        if std::mem::take(&mut self.has_let_go) {
            self.let_go_sent = Some(now);
        }
        let request = GroupHeartbeatRequest {
            instance_id: self.instance.clone(),
            rack: self.rack.clone().filter(|_| all),
            rebalance_timeout_ms: self.rebalance_ms,
            subscription: subscription.then(|| self.subscription.clone()),
            assignor: self.assignor.clone().filter(|_| all),
            owned: owned.then(|| self.owned.to_wire()),
            ..heartbeat(&self.id, self.epoch)
        };
        Sent { command: GroupCommand::Heartbeat(request), at: now }
    }

    fn farewell(&self, epoch: i32, now: u64) -> Sent {
        Sent { command: GroupCommand::Heartbeat(heartbeat(&self.id, epoch)), at: now }
    }

    /// Notes the time as the offset, and since when the partition is its own as the metadata.
    fn commit(&self, partitions: &PartitionSet, now: u64) -> Sent {
        let offset = |partition: &TopicPartition| CommittedOffset {
            topic_id: partition.0,
            partition: partition.1,
            offset: Offset(now),
            leader_epoch: self.producer.as_ref().map(number),
            metadata: self.tenures[partition].to_string(),
        };
        let request = OffsetCommitRequest {
            group: GROUP.into(),
            member_id: Some(self.id.clone()),
            member_epoch: self.epoch,
            offsets: partitions.iter().map(offset).collect(),
            transaction: self.producer.clone().map(|identity| {
                let transactional_id = self.id.clone();
                CommitTransaction { transactional_id, identity }
            }),
        };
        Sent { command: GroupCommand::Commit(request), at: now }
    }

    fn draw(&mut self) -> Entropy {
        self.chance = Entropy::new(self.chance).next();
        Entropy::new(self.chance)
    }
}

/// A heartbeat that says nothing but who and when.
pub fn heartbeat(member_id: &str, member_epoch: i32) -> GroupHeartbeatRequest {
    GroupHeartbeatRequest {
        group: GROUP.into(),
        member_id: member_id.into(),
        member_epoch,
        instance_id: None,
        rack: None,
        client_name: None,
        session_timeout_ms: 0,
        rebalance_timeout_ms: 0,
        subscription: None,
        assignor: None,
        owned: None,
        busy_ms: None,
    }
}
