//! What happens in the world of a group because its members commit within transactions: coordinators are asked, ends are sent until they are
//! confirmed, and come late and twice. Knows nothing of members.

use tidelog_coordination::groups::{GroupCommand, GroupReply};
use tidelog_protocol::Monotonic;
use tidelog_protocol::messages::{OffsetCommitRequest, OffsetFetchRequest, ProducerIdentity};

use super::producers::number;
use super::{GROUP, Parcel, Waiting, World};

/// A commit on its way from the group's coordinator to that of its transaction, and back.
pub(super) enum Question {
    Asked(OffsetCommitRequest),
    TakenIn(OffsetCommitRequest),
}

impl World {
    /// A client hears who its producer is.
    pub(super) fn learn_producer(&mut self, client: usize) {
        self.clients[client].producer = Some(self.producers.identity(client));
    }

    /// A transaction is ended: by its producer, which hears of it, or by its timeout.
    pub(super) fn end_transaction(&mut self) {
        let Some(client) = self.any_client(|client| client.producer.is_some()) else { return };
        let is_known = self.clients[client].is_running() && self.clients[client].works_on(self.now).is_some();
        let commit = is_known && !self.one_in(3);
        if let Some(transaction) = self.producers.end(client, commit) {
            self.tally.transactions_committed += u64::from(commit);
            self.tally.transactions_undone += u64::from(!commit);
            if commit {
                self.oracle.decide(transaction);
            }
        }
        if is_known {
            self.learn_producer(client);
        }
    }

    /// The coordinator of a transaction is asked, or has answered.
    pub(super) fn take_in(
        &mut self,
        Parcel { client, number, content: (life, question), .. }: Parcel<(u64, Question)>,
    ) {
        match question {
            Question::Asked(commit) => {
                let identity = commit.transaction.as_ref().map(|transaction| transaction.identity.clone());
                if self.producers.take_in(&identity.expect("it is within a transaction")) {
                    let arrives = self.now + self.delay();
                    let content = (life, Question::TakenIn(commit));
                    self.questions.push(Parcel { arrives, client, number, content });
                }
            }
            // Whoever asked coordinates no more: it cannot write, and another does not know of the question.
            Question::TakenIn(_) if life != self.tally.moves || self.now < self.coordinator.away_until => {}
            Question::TakenIn(commit) => {
                self.arrive(Parcel { arrives: self.now, client, number, content: GroupCommand::CommitTakenIn(commit) });
            }
        }
    }

    pub(super) fn acknowledge(&mut self, noted: Option<OffsetCommitRequest>) {
        let Some(OffsetCommitRequest { transaction: Some(transaction), offsets, .. }) = noted else { return };
        let partitions = offsets.into_iter().map(|offset| (offset.topic_id, offset.partition));
        self.producers.acknowledge(number(&transaction.identity), partitions);
    }

    /// Sent again and again until they are confirmed; each copy may come much later.
    pub(super) fn send_ends(&mut self) {
        for (client, command) in self.producers.markers() {
            if self.calm || self.one_in(8) {
                let arrives = self.now + self.delay();
                self.ends.push(Parcel { arrives, client, number: 0, content: command });
            }
        }
    }

    pub(super) fn hear_end(&mut self, Parcel { client, content, .. }: Parcel<GroupCommand>) {
        let before = self.coordinator.written();
        let image = self.cluster.controller.image();
        let told = self.coordinator.handle(&content, image, Monotonic(self.now), &mut self.oracle);
        assert_eq!(told, Ok(GroupReply::Ended), "seed {}", self.seed);
        let needs = self.coordinator.written();
        self.tally.ends_again += u64::from(needs == before);
        let GroupCommand::EndTransaction { identity, .. } = content else { unreachable!("nothing else is sent so") };
        self.waiting.push((needs, Parcel { arrives: 0, client, number: 0, content: Waiting::End(identity) }));
    }

    pub(super) fn confirm(&mut self, identity: &ProducerIdentity) {
        if let Some((transaction, acknowledged)) = self.producers.confirm(identity) {
            self.oracle.check_whole(transaction, &acknowledged, self.cluster.controller.image());
        }
    }

    /// NoHangingTransaction: every end has come through, and nothing is left pending.
    pub(super) fn assert_nothing_open(&mut self) {
        assert_eq!(self.producers.markers(), [], "NoHangingTransaction: seed {}", self.seed);
        let fetch = OffsetFetchRequest {
            group: GROUP.into(),
            member_id: None,
            member_epoch: 0,
            partitions: None,
            require_stable: true,
        };
        let image = self.cluster.controller.image();
        let fetch = GroupCommand::Fetch(fetch);
        let fetched = self.coordinator.handle(&fetch, image, Monotonic(self.now), &mut self.oracle);
        assert!(fetched.is_ok(), "NoHangingTransaction: seed {}: {fetched:?}", self.seed);
    }
}
