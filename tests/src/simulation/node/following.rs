//! A simulated broker that follows. Knows nothing of leading.

use std::collections::VecDeque;

use tidelog_protocol::{BrokerId, LeaderEpoch};
use tidelog_replication::{BatchSpan, Follower, FollowerEffect, Following, Offer, Take};

use super::{Context, Message, Process, Role};
use crate::simulation::disk::{Batch, Disk};
use crate::simulation::settings::ShellFlaw;

impl Process {
    pub(super) fn follow(&mut self, leader: BrokerId, epoch: LeaderEpoch, disk: &mut Disk, cx: &mut Context<'_>) {
        let Some(broker_epoch) = self.broker_epoch else { return };
        let following = Following { replica: self.life.0, broker_epoch, leader, epoch };
        if let Role::Follows(follower) = &self.role {
            if epoch > follower.following().epoch {
                self.heard_from_leader = cx.now;
                self.drive(disk, cx, |follower, out| follower.leadership_changed(following, out));
            }
            return;
        }
        let (offsets, epochs) = self.resign(cx);
        self.heard_from_leader = cx.now;
        let mut effects = Vec::new();
        let follower = Follower::flawed(offsets, epochs, following, (cx.settings.flaws, &mut effects));
        self.role = Role::Follows(follower);
        self.do_all(effects, disk, cx);
    }

    /// Gives the follower an input and does what it asks. Nothing while this broker does not follow.
    pub(super) fn drive(
        &mut self,
        disk: &mut Disk,
        cx: &mut Context<'_>,
        input: impl FnOnce(&mut Follower, &mut Vec<FollowerEffect>),
    ) {
        let Role::Follows(follower) = &mut self.role else { return };
        let mut effects = Vec::new();
        input(follower, &mut effects);
        self.do_all(effects, disk, cx);
    }

    pub(super) fn offered(&mut self, offer: Offer, batches: Vec<Batch>, disk: &mut Disk, cx: &mut Context<'_>) {
        let Role::Follows(follower) = &mut self.role else { return };
        if offer.leader_epoch == follower.following().epoch {
            self.heard_from_leader = cx.now;
        } else {
            cx.checks.events.fenced += 1;
        }
        let mut effects = Vec::new();
        let taken = follower.offered(offer, batches.iter().map(Batch::span), &mut effects);
        if let Ok(Take::From(from)) = taken {
            let news: Vec<Batch> = batches.into_iter().filter(|batch| batch.base >= from).collect();
            let spans: Vec<BatchSpan> = news.iter().map(Batch::span).collect();
            news.into_iter().for_each(|batch| disk.append(batch));
            follower.written(spans, &mut effects);
        }
        assert!(!matches!(taken, Ok(Take::RestartAt(_))), "no log here begins inside a batch");
        self.do_all(effects, disk, cx);
    }

    fn do_all(&mut self, effects: Vec<FollowerEffect>, disk: &mut Disk, cx: &mut Context<'_>) {
        let mut queue = VecDeque::from(effects);
        while let Some(effect) = queue.pop_front() {
            let Role::Follows(follower) = &mut self.role else { return };
            let leader = follower.following().leader;
            let mut more = Vec::new();
            match effect {
                FollowerEffect::AskEpochEnd { leader_epoch, epoch } => {
                    Self::send(cx.out, leader, Message::EpochEnd { leader_epoch, epoch });
                }
                FollowerEffect::Follow(terms) => {
                    self.attempt += 1;
                    Self::send(cx.out, leader, Message::Follow { terms, attempt: self.attempt });
                }
                FollowerEffect::Report(progress) => Self::send(cx.out, leader, Message::Progress(progress)),
                FollowerEffect::Truncate { to, settled_lost } => {
                    let (before, known) = (disk.end(), disk.producers.clone());
                    let end = disk.truncate_to(to);
                    if cx.settings.shell_flaw == Some(ShellFlaw::ProducersOutliveCut) {
                        disk.producers = known;
                    }
                    cx.checks.events.cuts += 1;
                    cx.checks.events.records_cut += before.since(end);
                    if settled_lost > 0 {
                        cx.checks.settled_cut(self.life, settled_lost);
                    }
                    follower.truncated(end, &mut more);
                }
                FollowerEffect::RestartAt { at, settled_lost } => {
                    if settled_lost > 0 {
                        cx.checks.settled_cut(self.life, settled_lost);
                    }
                    cx.checks.events.cuts += 1;
                    disk.truncate_to(at);
                    follower.restarted(at, &mut more);
                }
                FollowerEffect::RaiseWatermark(_) | FollowerEffect::RaiseLogStart(_) => {}
            }
            queue.extend(more);
        }
    }
}
