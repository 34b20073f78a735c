//! EpochEnd: tells a follower where an epoch ended in the log here.

use std::sync::Arc;

use tidelog_protocol::WireError;
use tidelog_protocol::messages::{EpochEndPoint, EpochEndRequest, EpochEndResponse};
use tidelog_replication::EpochEndAnswer;

use super::Handle;
use crate::node::Node;
use crate::partition::Command;
use crate::session::Session;

impl Handle for EpochEndRequest {
    async fn handle(self, node: &Arc<Node>, session: &Arc<Session>) -> Result<EpochEndResponse, WireError> {
        session.member()?;
        let (partition, _) = node.registry.find(self.topic_id, self.partition)?;
        let Self { leader_epoch, epoch, .. } = self;
        let answer = partition.ask(|ticket| Command::EpochEnd { leader_epoch, epoch, ticket }).await?;
        let EpochEndAnswer { leader_epoch, asked, end, log_start } = answer;
        let end = end.map(|end| EpochEndPoint { epoch: end.epoch, end: end.end });
        Ok(EpochEndResponse { leader_epoch, epoch: asked, end, log_start })
    }
}
