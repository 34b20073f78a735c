//! A simulated broker that leads. Knows nothing of following.

use tidelog_coordination::TopicConfig;
use tidelog_coordination::command::Registration;
use tidelog_protocol::messages::Acks;
use tidelog_protocol::{LeaderEpoch, MetadataIndex, Offset, PartitionEpoch, Sequence};
use tidelog_replication::{
    Admission, AppendedRange, Effects, FollowOutcome, FollowTerms, InSyncProposal, Leader, Leadership, MarkerAdmission,
    MarkerEpoch, Membership, Offer, Outcome, ProduceTerms, ReplicaProgress, Word,
};

use super::{Context, Leads, Message, Out, Place, Process, Role, Ticket, taken};
use crate::simulation::disk::{Batch, Disk, Value};
use crate::simulation::producer::{Kind, Request, Signature};
use crate::simulation::settings::ShellFlaw;

impl Process {
    /// A producer sends values in one batch. False where this broker takes none.
    pub fn produce(&mut self, values: &[Value], acks: Acks, disk: &mut Disk, cx: &mut Context<'_>) -> bool {
        let life = self.life;
        let Role::Leads(leads) = &mut self.role else { return false };
        let Leads { leader, effects, .. } = &mut **leads;
        let terms = ProduceTerms { leader_epoch: None, acks, expected_log_end: None };
        if self.poisoned || leader.admit(&terms).is_err() {
            cx.checks.events.failed += 1;
            return false;
        }
        let base = leader.offsets().log_end();
        let batch = Batch { base, epoch: leader.epoch(), signature: None, kind: Kind::Plain, values: values.into() };
        append((leader, effects), batch, acks, disk);
        cx.checks.wrote(life, leader.epoch());
        self.settle(disk, cx);
        true
    }

    /// An idempotent producer sends a batch, perhaps again.
    pub fn produce_numbered(
        &mut self,
        (request, word): (&Request, Option<Word>),
        disk: &mut Disk,
        cx: &mut Context<'_>,
    ) -> Option<Word> {
        let life = self.life;
        let Role::Leads(leads) = &mut self.role else { return None };
        let Leads { leader, effects, .. } = &mut **leads;
        let terms = ProduceTerms { leader_epoch: None, acks: Acks::All, expected_log_end: None };
        let header = request.header();
        let judged = || leader.admit_with_word(&terms, &[header], (&disk.producers, word)).ok();
        let believed = word.is_some() && cx.settings.shell_flaw == Some(ShellFlaw::WordNotJudgedAnew);
        let admission = match self.poisoned {
            true => None,
            false if believed && leader.admit(&terms).is_ok() => Some(Admission::Append),
            false => judged(),
        };
        match admission {
            None => cx.checks.events.failed += 1,
            Some(Admission::AskCoordinator { producer, epoch }) => return Some(Word { producer, epoch }),
            Some(Admission::Append) => {
                let base = leader.offsets().log_end();
                let values = request.values.clone();
                let (epoch, signature, kind) = (leader.epoch(), Some(request.signature), request.kind);
                let batch = Batch { base, epoch, signature, kind, values };
                leader.sequenced(&[header]);
                append((leader, effects), batch, Acks::All, disk);
                cx.checks.wrote(life, leader.epoch());
            }
            Some(Admission::Duplicate { base_offset, next_offset }) => {
                cx.checks.events.duplicates += 1;
                if cx.settings.shell_flaw == Some(ShellFlaw::DuplicateAckedAtOnce) {
                    cx.checks.acked(base_offset, &request.values);
                }
                let range = AppendedRange { base_offset, next_offset, bytes: 0 };
                let ticket = Ticket { values: request.values.to_vec(), marker: None };
                leader.duplicated(range, Acks::All, ticket, effects);
            }
        }
        self.settle(disk, cx);
        None
    }

    /// A coordinator wants a transaction ended; `value` is the marker's, if one is written.
    pub fn write_marker(
        &mut self,
        (word, outcome): (Word, Outcome),
        value: Value,
        disk: &mut Disk,
        cx: &mut Context<'_>,
    ) {
        let life = self.life;
        let Role::Leads(leads) = &mut self.role else { return };
        let Leads { leader, effects, .. } = &mut **leads;
        if self.poisoned {
            return;
        }
        match leader.admit_marker(word, MarkerEpoch::Next, &disk.producers) {
            Err(_) => cx.checks.events.failed += 1,
            Ok(MarkerAdmission::Append) => {
                let signature = Signature { id: word.producer, epoch: word.epoch, first: Sequence::NONE };
                let (kind, values) = (Kind::Marker(outcome), vec![value].into());
                let marker = Request { signature, kind, values };
                leader.sequenced(&[marker.header()]);
                let (base, epoch) = (leader.offsets().log_end(), leader.epoch());
                let batch = Batch { base, epoch, signature: Some(signature), kind, values: marker.values };
                append((leader, effects), batch, Acks::All, disk);
                cx.checks.marker_written(word, value);
                cx.checks.wrote(life, leader.epoch());
            }
            Ok(MarkerAdmission::Stands { next_offset }) => {
                cx.checks.events.markers_again += 1;
                let range = AppendedRange { base_offset: next_offset, next_offset, bytes: 0 };
                leader.duplicated(range, Acks::All, Ticket { values: Vec::new(), marker: Some(word) }, effects);
            }
        }
        self.settle(disk, cx);
    }

    pub(super) fn begin_to_lead(
        &mut self,
        (epoch, config): (LeaderEpoch, &TopicConfig),
        membership: Membership,
        disk: &Disk,
        cx: &mut Context<'_>,
    ) {
        let (offsets, epochs) = self.resign(cx);
        let leadership = Leadership {
            leader: self.life.0,
            epoch,
            membership,
            lag_max_ms: cx.settings.lag_max_ms,
            min_in_sync: config.min_in_sync_replicas,
            durability: config.durability,
        };
        cx.checks.leads(self.life, epoch, disk);
        let mut leader = Leader::flawed(offsets, epochs, &leadership, cx.settings.flaws);
        let mut effects = Effects::new();
        if self.lease_until.is_none_or(|until| cx.now >= until) {
            leader.lease_ended(&mut effects);
        }
        // Whoever is fenced is dead here, or soon heard of again.
        leader.bar(&[]);
        let streams = std::collections::BTreeMap::new();
        self.role = Role::Leads(Box::new(Leads { leader, effects, streams }));
    }

    pub(super) fn membership_changed(&mut self, membership: &Membership) {
        if let Role::Leads(leads) = &mut self.role {
            let Leads { leader, effects, streams } = &mut **leads;
            leader.membership_changed(membership, effects);
            leader.bar(&[]);
            streams.retain(|follower, _| membership.replicas.contains(follower));
        }
    }

    pub(super) fn epoch_end_asked(
        &mut self,
        from: Place,
        (leader_epoch, epoch): (LeaderEpoch, LeaderEpoch),
        cx: &mut Context<'_>,
    ) {
        let Role::Leads(leads) = &self.role else { return };
        match leads.leader.epoch_end(leader_epoch, epoch) {
            Ok(answer) => cx.out.push(Out::Send(from, Message::EpochEndAnswer(answer))),
            Err(_) => cx.checks.events.fenced += 1,
        }
    }

    pub(super) fn follow_asked(
        &mut self,
        from: Place,
        (terms, attempt): (FollowTerms, u32),
        disk: &Disk,
        cx: &mut Context<'_>,
    ) {
        let Role::Leads(leads) = &mut self.role else { return };
        let Leads { leader, streams, .. } = &mut **leads;
        match leader.follow(&terms) {
            Ok(answer) => {
                cx.out.push(Out::Send(from, Message::FollowAnswer { answer, attempt }));
                streams.remove(&terms.replica);
                if answer.outcome == FollowOutcome::Streams {
                    let never = Offset::MAX;
                    streams.insert(terms.replica, (answer.from, never));
                }
                self.push(disk, cx);
            }
            Err(_) => cx.checks.events.fenced += 1,
        }
    }

    pub(super) fn progressed(&mut self, progress: ReplicaProgress, cx: &mut Context<'_>) {
        if let Role::Leads(leads) = &mut self.role
            && leads.leader.progress(progress, &mut leads.effects).is_err()
        {
            cx.checks.events.fenced += 1;
        }
    }

    /// What the controller holds is believed once the metadata here has come as far: a topic's minimum may have changed before.
    pub(super) fn in_sync_answered(
        &mut self,
        partition_epoch: PartitionEpoch,
        held: Option<(MetadataIndex, LeaderEpoch, Membership)>,
        cx: &mut Context<'_>,
    ) {
        let Role::Leads(leads) = &mut self.role else { return };
        let Leads { leader, .. } = &mut **leads;
        match held {
            None => {
                cx.checks.events.refused_proposals += 1;
                leader.alteration_failed(partition_epoch);
            }
            Some(held) => {
                if held.2.partition_epoch == partition_epoch {
                    // It held already, and nothing was decided.
                    leader.alteration_failed(partition_epoch);
                }
                self.ahead = Some(held);
                self.take_the_controllers_word();
            }
        }
    }

    pub(super) fn take_the_controllers_word(&mut self) {
        if let Some((index, epoch, membership)) = self.ahead.take() {
            if self.leads() != Some(epoch) {
                return;
            }
            if index <= self.image.as_of() {
                self.membership_changed(&membership);
            } else {
                self.ahead = Some((index, epoch, membership));
            }
        }
    }

    /// Answers producers, asks the controller, pushes to followers.
    pub(super) fn carry_out(&mut self, disk: &Disk, cx: &mut Context<'_>) {
        let (me, broker_epoch) = (self.life.0, self.broker_epoch);
        let Role::Leads(leads) = &mut self.role else { return };
        let Leads { effects, leader, .. } = &mut **leads;
        for released in taken(&mut effects.released) {
            // Only acks=all promises anything that a crash could break.
            if released.next_offset <= leader.offsets().high_watermark() {
                cx.checks.acked(released.base_offset, &released.ticket.values);
                cx.checks.marker_stands(released.ticket.marker);
            }
        }
        cx.checks.events.failed += effects.failed.len() as u64;
        if let (Some(proposal), Some(epoch)) = (effects.alter_in_sync.take(), broker_epoch) {
            self.proposal = Some((proposal.partition_epoch, cx.now));
            count(&proposal, leader.replicas().in_sync_count(), cx);
            let leader = Registration { broker_id: me, epoch };
            cx.out.push(Out::Send(Place::Controller, Message::AlterInSync { leader, proposal }));
        }
        effects.clear();
        self.push(disk, cx);
    }

    fn push(&mut self, disk: &Disk, cx: &mut Context<'_>) {
        let Role::Leads(leads) = &mut self.role else { return };
        let Leads { leader, streams, .. } = &mut **leads;
        let offsets = leader.offsets();
        let (high_watermark, log_start) = (offsets.high_watermark(), offsets.log_start());
        for (follower, (next, told)) in streams.iter_mut() {
            if *next < offsets.written_end() || *told != high_watermark {
                let offer = Offer { leader_epoch: leader.epoch(), high_watermark, log_start };
                let batches = disk.from(*next).to_vec();
                (*next, *told) = (offsets.written_end(), high_watermark);
                Self::send(cx.out, *follower, Message::Item { offer, batches });
            }
        }
    }
}

fn append((leader, effects): (&mut Leader<Ticket>, &mut Effects<Ticket>), batch: Batch, acks: Acks, disk: &mut Disk) {
    let (base_offset, next_offset, values) = (batch.base, batch.next(), batch.values.to_vec());
    let marker = batch.signature.filter(|_| matches!(batch.kind, Kind::Marker(_)));
    let marker = marker.map(|signature| Word { producer: signature.id, epoch: signature.epoch });
    leader.appended(AppendedRange { base_offset, next_offset, bytes: 0 }, acks, Ticket { values, marker });
    disk.append(batch);
    leader.written(next_offset, effects);
}

fn count(proposal: &InSyncProposal, held: usize, cx: &mut Context<'_>) {
    if proposal.in_sync.len() > held {
        cx.checks.events.expansions += 1;
    } else if proposal.in_sync.len() < held {
        cx.checks.events.shrinks += 1;
    }
}
