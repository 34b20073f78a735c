//! Heartbeat: a member of a classic group lives, and hears whether it is to join again.

use std::sync::Arc;

use tidelog_coordination::groups::classic::{ClassicCaller, ClassicCommand};
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::heartbeat::{HeartbeatRequest, HeartbeatResponse};

use super::groups::ask_classic;
use super::{Asker, Handle};
use crate::node::Node;

impl Handle for HeartbeatRequest {
    async fn handle(self, node: &Arc<Node>, _: &Asker) -> HeartbeatResponse {
        let group = self.group_id.clone();
        let caller = ClassicCaller {
            group: self.group_id,
            generation: self.generation_id,
            member_id: self.member_id,
            instance_id: self.group_instance_id,
        };
        let heard = ask_classic(node, &group, ClassicCommand::Heartbeat(caller)).await;
        let error = heard.map_or_else(|refused| refused.error(), |_| KafkaError::None);
        HeartbeatResponse { error_code: error.code(), ..Default::default() }
    }
}
