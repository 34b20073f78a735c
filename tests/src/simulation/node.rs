//! A simulated broker: the real machines of one partition, driven the way the broker's shell drives them. Knows nothing of other
//! brokers but what arrives, and of time but what its own clock says.

use std::collections::BTreeMap;
use std::mem::take;

use tidelog_coordination::ClusterImage;
use tidelog_coordination::command::Registration;
use tidelog_protocol::{
    BrokerEpoch, BrokerId, FolderStamp, LeaderEpoch, MetadataIndex, Monotonic, Offset, PartitionEpoch,
};
use tidelog_replication::{Effects, EpochHistory, Follower, Leader, Membership, PartitionOffsets, Word};

use super::disk::{Disk, Value};
use super::invariants::{Invariants, Life};
use super::message::{Message, Place};
use super::producer::Kind;
use super::settings::{Settings, ShellFlaw};

mod following;
mod leading;

/// What a node wants of the world.
#[derive(Clone, Debug)]
pub enum Out {
    /// Send this.
    Send(Place, Message),
    /// Flush the log as it stands.
    Flush {
        /// Where it ends.
        end: Offset,
        /// See [`Disk::generation`].
        generation: u32,
    },
}

/// What a node is given with every input.
pub struct Context<'a> {
    /// The node's clock.
    pub now: Monotonic,
    /// The cluster.
    pub settings: &'a Settings,
    /// Where it confesses what it did.
    pub checks: &'a mut Invariants,
    /// What it wants.
    pub out: &'a mut Vec<Out>,
}

/// Values of one produce request, parked until they are kept.
pub(super) struct Ticket {
    values: Vec<Value>,
    /// It is that of a marker.
    marker: Option<Word>,
}

enum Role {
    /// Nobody leads, or nothing is known yet.
    Idle(PartitionOffsets, EpochHistory),
    Leads(Box<Leads>),
    Follows(Follower),
}

struct Leads {
    leader: Leader<Ticket>,
    effects: Effects<Ticket>,
    /// Next offset to push to each follower, and the watermark it was last told.
    streams: BTreeMap<BrokerId, (Offset, Offset)>,
}

/// A broker's process. It dies with everything in it but the disk.
pub struct Process {
    life: Life,
    broker_epoch: Option<BrokerEpoch>,
    /// It was told to register anew.
    registers: bool,
    /// The registration that its folder is older than.
    older_than: Option<BrokerEpoch>,
    image: ClusterImage,
    role: Role,
    /// By its own clock; `None` while it holds no lease.
    lease_until: Option<Monotonic>,
    /// Counts questions, so that an answer to an earlier one is told apart.
    attempt: u32,
    heard_from_leader: Monotonic,
    shown_watermark: Offset,
    /// Up to where whoever reads what is committed was shown something.
    shown_stable: Offset,
    /// What an answer of the controller said ahead of the metadata.
    ahead: Option<(MetadataIndex, LeaderEpoch, Membership)>,
    /// The proposal under way, and when it was sent.
    proposal: Option<(PartitionEpoch, Monotonic)>,
    flushing: bool,
    poisoned: bool,
    remembered: Offset,
}

impl Process {
    /// A start: recovers the disk, and registers once it ticks.
    pub fn start(life: Life, disk: &mut Disk, now: Monotonic) -> Self {
        let (offsets, epochs) = disk.recover();
        disk.stamps.push(FolderStamp(u64::from(life.0.0) << 32 | u64::from(life.1)));
        Self {
            life,
            broker_epoch: None,
            registers: false,
            older_than: None,
            image: ClusterImage::default(),
            role: Role::Idle(offsets, epochs),
            lease_until: None,
            attempt: 0,
            heard_from_leader: now,
            shown_watermark: offsets.high_watermark(),
            shown_stable: Offset::ZERO,
            ahead: None,
            proposal: None,
            flushing: false,
            poisoned: false,
            remembered: disk.watermark,
        }
    }

    /// Which life this is.
    pub const fn life(&self) -> Life {
        self.life
    }

    /// Its registration.
    pub const fn broker_epoch(&self) -> Option<BrokerEpoch> {
        self.broker_epoch
    }

    /// True after a flush failed; it stops soon.
    pub const fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// The leadership it believes to hold.
    pub fn leads(&self) -> Option<LeaderEpoch> {
        match &self.role {
            Role::Leads(leads) => Some(leads.leader.epoch()),
            Role::Idle(..) | Role::Follows(_) => None,
        }
    }

    /// The leadership it takes part in.
    fn leader_epoch(&self) -> LeaderEpoch {
        match &self.role {
            Role::Idle(..) => LeaderEpoch(0),
            Role::Leads(leads) => leads.leader.epoch(),
            Role::Follows(follower) => follower.following().epoch,
        }
    }

    /// The partition's offsets here.
    pub fn offsets(&self) -> PartitionOffsets {
        match &self.role {
            Role::Idle(offsets, _) => *offsets,
            Role::Leads(leads) => leads.leader.offsets(),
            Role::Follows(follower) => follower.offsets(),
        }
    }

    /// A message arrives.
    pub fn receive(&mut self, from: Place, message: Message, disk: &mut Disk, cx: &mut Context<'_>) {
        match message {
            Message::Registered { epoch } => {
                if self.broker_epoch < Some(epoch) {
                    // What was done under an earlier registration counts no more.
                    let (offsets, epochs) = self.resign(cx);
                    self.role = Role::Idle(offsets, epochs);
                    (self.broker_epoch, self.registers) = (Some(epoch), false);
                    self.take_role(disk, cx);
                }
            }
            Message::FolderIsOlder { than } => self.older_than = Some(than),
            Message::RegisterAnew => self.registers = true,
            Message::HeartbeatAnswer { sent_at, fenced } => self.heartbeat_answered(sent_at, fenced, cx),
            Message::Image(image) => {
                if image.as_of() > self.image.as_of() {
                    self.image = image;
                    if let Some(stamp) = self.image.broker(self.life.0).and_then(|broker| broker.stamp) {
                        disk.heard(stamp);
                    }
                    self.take_role(disk, cx);
                }
            }
            Message::AlterInSyncAnswer { partition_epoch, held } => {
                self.in_sync_answered(partition_epoch, held, cx);
            }
            Message::EpochEnd { leader_epoch, epoch } => self.epoch_end_asked(from, (leader_epoch, epoch), cx),
            Message::Follow { terms, attempt } => self.follow_asked(from, (terms, attempt), disk, cx),
            Message::Progress(progress) => self.progressed(progress, cx),
            Message::EpochEndAnswer(answer) => self.drive(disk, cx, |follower, out| follower.epoch_end(answer, out)),
            Message::FollowAnswer { answer, attempt } => {
                if attempt == self.attempt {
                    self.drive(disk, cx, |follower, out| follower.follows(answer, out));
                }
            }
            Message::Item { offer, batches } => self.offered(offer, batches, disk, cx),
            Message::Register { .. } | Message::Heartbeat { .. } | Message::AlterInSync { .. } => {}
        }
        self.settle(disk, cx);
    }

    /// Time has passed.
    pub fn tick(&mut self, disk: &mut Disk, cx: &mut Context<'_>) {
        self.speak_to_the_controller(disk, cx);
        let lease_ended = self.lease_until.is_some_and(|until| cx.now >= until);
        if lease_ended {
            self.lease_until = None;
        }
        match &mut self.role {
            Role::Leads(leads) => {
                if lease_ended {
                    cx.checks.events.leases_ended += 1;
                    leads.leader.lease_ended(&mut leads.effects);
                }
                if let Some((partition_epoch, sent_at)) = self.proposal
                    && cx.now.ms_since(sent_at) > 3 * cx.settings.tick_ms
                {
                    self.proposal = None;
                    leads.leader.alteration_failed(partition_epoch);
                }
                leads.leader.tick(cx.now, &mut leads.effects);
            }
            Role::Follows(follower) => {
                let silent_for = cx.now.ms_since(self.heard_from_leader);
                let anew = !follower.is_fetching() || silent_for > 3 * cx.settings.tick_ms;
                self.drive(
                    disk,
                    cx,
                    |follower, out| if anew { follower.interrupted(out) } else { follower.report(out) },
                );
            }
            Role::Idle(..) => {}
        }
        disk.watermark = self.offsets().high_watermark();
        self.settle(disk, cx);
    }

    /// A flush is over.
    pub fn flushed(&mut self, flushed: Result<Offset, ()>, disk: &mut Disk, cx: &mut Context<'_>) {
        self.flushing = false;
        match (flushed, &mut self.role) {
            (Ok(end), Role::Leads(leads)) => leads.leader.flushed(end, &mut leads.effects),
            (Ok(end), Role::Follows(_)) => self.drive(disk, cx, |follower, out| follower.flushed(end, out)),
            (Err(()), Role::Leads(leads)) => {
                self.poisoned = true;
                leads.leader.poisoned(&mut leads.effects);
            }
            (Err(()), Role::Follows(follower)) => {
                self.poisoned = true;
                follower.poisoned();
            }
            (_, Role::Idle(..)) => {}
        }
        self.settle(disk, cx);
    }

    fn speak_to_the_controller(&mut self, disk: &Disk, cx: &mut Context<'_>) {
        let Some(epoch) = self.broker_epoch.filter(|_| !self.registers) else {
            let Disk { incarnation, closed_cleanly, ref stamps, .. } = *disk;
            let (stamps, older_than) = (stamps.clone(), self.older_than);
            let register = Message::Register { incarnation, closed_cleanly, stamps, older_than };
            cx.out.push(Out::Send(Place::Controller, register));
            return;
        };
        let broker = Registration { broker_id: self.life.0, epoch };
        let (applied, sent_at) = (self.image.as_of(), cx.now);
        cx.out.push(Out::Send(Place::Controller, Message::Heartbeat { broker, applied, sent_at }));
    }

    /// A lease counts from when the heartbeat was sent.
    fn heartbeat_answered(&mut self, sent_at: Monotonic, fenced: bool, cx: &mut Context<'_>) {
        let until = sent_at.plus_ms(cx.settings.lease_ms);
        if fenced || until <= cx.now {
            return;
        }
        self.lease_until = self.lease_until.max(Some(until));
        // Every time: a leadership that began between the end of a lease and the tick that notices it holds none.
        if let Role::Leads(leads) = &mut self.role {
            leads.leader.lease_renewed(&mut leads.effects);
        }
    }

    /// The role that the metadata gives this broker. Metadata from before its own registration speaks of an earlier life of it.
    fn take_role(&mut self, disk: &mut Disk, cx: &mut Context<'_>) {
        let me = self.life.0;
        let known = self.image.broker(me).map(|broker| broker.epoch);
        let believes = cx.settings.shell_flaw == Some(ShellFlaw::OldMetadataBelieved);
        if self.poisoned || (!believes && (known.is_none() || known != self.broker_epoch)) {
            return;
        }
        let Some(topic) = self.image.topics().next().cloned() else { return };
        let state = &topic.partitions[0];
        let membership = Membership {
            replicas: state.replicas.clone(),
            in_sync: state.in_sync.clone(),
            partition_epoch: state.partition_epoch,
        };
        match state.leader {
            Some(leader) if leader == me => {
                let changed = self.leads() != Some(state.leader_epoch);
                if changed {
                    self.begin_to_lead((state.leader_epoch, &topic.config), membership, disk, cx);
                } else {
                    self.membership_changed(&membership);
                }
                self.take_the_controllers_word();
            }
            Some(leader) => self.follow(leader, state.leader_epoch, disk, cx),
            None => {
                if let Role::Leads(_) = self.role {
                    let (offsets, epochs) = self.resign(cx);
                    self.role = Role::Idle(offsets, epochs);
                }
            }
        }
    }

    /// Ends the role there is.
    fn resign(&mut self, cx: &mut Context<'_>) -> (PartitionOffsets, EpochHistory) {
        let idle = Role::Idle(PartitionOffsets::default(), EpochHistory::default());
        match std::mem::replace(&mut self.role, idle) {
            Role::Idle(offsets, epochs) => (offsets, epochs),
            Role::Follows(follower) => follower.resigned(),
            Role::Leads(leads) => {
                let Leads { leader, mut effects, .. } = *leads;
                let resigned = leader.resigned(&mut effects);
                cx.checks.events.failed += effects.failed.len() as u64;
                resigned
            }
        }
    }

    /// Does what the last input led to.
    fn settle(&mut self, disk: &mut Disk, cx: &mut Context<'_>) {
        self.carry_out(disk, cx);
        let mut watermark = self.offsets().high_watermark();
        if cx.settings.shell_flaw == Some(ShellFlaw::WatermarkCheckpointTrusted) {
            watermark = watermark.max(self.remembered.min(disk.end()));
        }
        if watermark != self.shown_watermark {
            let under = self.leader_epoch();
            cx.checks.watermark_moved(self.life, (self.shown_watermark, watermark), (under, disk));
            self.shown_watermark = watermark;
        }
        self.show_what_is_stable(disk, cx);
        if !self.flushing && disk.flushed_end() < disk.end() && !self.gave_up() {
            self.flushing = true;
            cx.out.push(Out::Flush { end: disk.end(), generation: disk.generation() });
        }
    }

    /// What is committed can be read here up to the last stable offset, but for what was undone.
    fn show_what_is_stable(&mut self, disk: &mut Disk, cx: &mut Context<'_>) {
        let offsets = self.offsets();
        let unstable = disk.producers.first_unstable(offsets.log_start(), offsets.high_watermark());
        let stable = offsets.held_back(unstable).last_stable();
        if stable <= self.shown_stable {
            return;
        }
        let shown = self.shown_stable..stable;
        let aborted = disk.producers.aborted_within(shown.clone()).unwrap_or_default();
        for batch in disk.from(shown.start).iter().filter(|batch| batch.base < shown.end) {
            let Some(signature) = batch.signature.filter(|_| batch.kind == Kind::Transactional) else { continue };
            let is_hidden = aborted.iter().any(|aborted| {
                let range = aborted.first_offset..=aborted.marker_offset;
                aborted.producer_id == signature.id && range.contains(&batch.base)
            });
            cx.checks.shown(self.life, (signature, batch.base), is_hidden);
        }
        self.shown_stable = stable;
    }

    fn gave_up(&self) -> bool {
        match &self.role {
            Role::Leads(leads) => leads.leader.is_poisoned(),
            Role::Idle(..) | Role::Follows(_) => self.poisoned,
        }
    }

    fn send(out: &mut Vec<Out>, to: BrokerId, message: Message) {
        out.push(Out::Send(Place::Broker(to), message));
    }
}

/// Takes the effects out of a buffer and leaves it empty.
fn taken<T>(list: &mut Vec<T>) -> Vec<T> {
    take(list)
}
