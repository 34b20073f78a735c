//! TxnOffsetCommit: how far a group has come, which counts once the transaction is committed. The group asks the transaction's coordinator whether it
//! was told of the group, and looks after that answer whether the transaction has ended meanwhile.

use std::sync::Arc;

use tidelog_coordination::groups::classic::{ClassicCaller, ClassicCommand, ClassicReply, ClassicTransactionCommit};
use tidelog_coordination::groups::{GroupCommand, GroupReply};
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use tidelog_protocol::messages::{AddToTransactionRequest, CommitTransaction};
use tidelog_protocol::{ErrorCode, WireError};

use super::groups::{Refused, UNEXPECTED, coordinator_code};
use super::offset_commit::{Noted, Notes};
use super::transactions::{identity, written_code};
use super::{Asker, Handle};
use crate::coordinators::take_in;
use crate::node::Node;

impl Handle for TxnOffsetCommitRequest {
    async fn handle(self, node: &Arc<Node>, _: &Asker) -> TxnOffsetCommitResponse {
        let image = node.controllers.image();
        let (mut notes, mut topics) = (Notes::new(&image), Vec::with_capacity(self.topics.len()));
        for asked in self.topics {
            let mut partitions = Vec::with_capacity(asked.partitions.len());
            for partition in asked.partitions {
                let partition_index = partition.partition_index;
                let asked_for = Noted {
                    partition_index,
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: partition.committed_metadata,
                };
                let error_code = notes.take(&asked.name, asked_for);
                partitions.push(TxnOffsetCommitResponsePartition { partition_index, error_code });
            }
            topics.push(TxnOffsetCommitResponseTopic { name: asked.name, partitions });
        }
        let commit = ClassicTransactionCommit {
            caller: ClassicCaller {
                group: self.group_id,
                generation: self.generation_id,
                member_id: self.member_id,
                instance_id: self.group_instance_id,
            },
            offsets: notes.offsets,
            transaction: CommitTransaction {
                transactional_id: self.transactional_id,
                identity: identity(self.producer_id, self.producer_epoch),
            },
            asked: None,
        };
        if let Err(error) = note(node, commit).await {
            let open = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            open.filter(|partition| partition.error_code == 0)
                .for_each(|partition| partition.error_code = error.code());
        }
        TxnOffsetCommitResponse { topics, ..Default::default() }
    }
}

async fn note(node: &Arc<Node>, mut commit: ClassicTransactionCommit) -> Result<(), KafkaError> {
    // The same shard throughout: one that was opened meanwhile may have missed the end, and one that leads no more appends nothing.
    let shard = node.coordinators.groups.of(node, &commit.caller.group).map_err(|error| code(&error))?;
    loop {
        let command = GroupCommand::Classic(ClassicCommand::CommitInTransaction(commit.clone()));
        let asked = commit.asked;
        match shard.ask(node, &command).await.map_err(|error| code(&error))? {
            GroupReply::Classic(said) => match *said {
                Ok(ClassicReply::Committed) => return Ok(()),
                Ok(ClassicReply::AskFirst(number)) if asked.is_none() => commit.asked = Some(number),
                Ok(_) => return Err(UNEXPECTED.error()),
                Err(refused) => return Err(Refused::from(refused).error()),
            },
            _ => return Err(UNEXPECTED.error()),
        }
        let CommitTransaction { transactional_id, identity } = commit.transaction.clone();
        let (partitions, groups) = (Vec::new(), vec![commit.caller.group.clone()]);
        let ask = AddToTransactionRequest { transactional_id, identity, partitions, groups, only_asks: true };
        take_in(node, ask).await.map_err(|error| code(&error))?;
    }
}

fn code(error: &WireError) -> KafkaError {
    match error.code {
        // Another producer's transaction is about to move the same offset. Clients know this one, and try again.
        ErrorCode::UnstableOffset => KafkaError::CoordinatorLoadInProgress,
        _ => written_code(error).unwrap_or_else(|| coordinator_code(error)),
    }
}
