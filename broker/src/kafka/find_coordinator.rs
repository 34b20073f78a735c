//! FindCoordinator: who coordinates groups or transactional producers, where this client reaches it.

use std::collections::HashSet;
use std::sync::Arc;

use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse, GROUP, TRANSACTION,
};
use tidelog_protocol::messages::{Coordinated, FindCoordinatorRequest as Native};

use super::groups::coordinator_code;
use super::topics::node_id;
use super::{Asker, Handle};
use crate::node::Node;
use crate::operations::addresses::addresses;
use crate::operations::coordinator::find_coordinator;

/// From this version on several are asked for at once.
const SEVERAL: i16 = 4;

impl Handle for FindCoordinatorRequest {
    async fn handle(self, node: &Arc<Node>, asker: &Asker) -> FindCoordinatorResponse {
        if asker.version < SEVERAL {
            let found = find(node, asker, self.key_type, self.key).await;
            return FindCoordinatorResponse {
                error_code: found.error_code,
                error_message: found.error_message,
                node_id: found.node_id,
                host: found.host,
                port: found.port,
                ..Default::default()
            };
        }
        let mut coordinators = Vec::new();
        let mut told = HashSet::new();
        for key in self.coordinator_keys {
            // Each once: an answer must not grow with how often something is asked for.
            if told.insert(key.clone()) {
                coordinators.push(find(node, asker, self.key_type, key).await);
            }
        }
        FindCoordinatorResponse { coordinators, ..Default::default() }
    }
}

async fn find(node: &Arc<Node>, asker: &Asker, key_type: i8, key: String) -> Coordinator {
    let refused = |key: String, error: KafkaError, sentence: String| Coordinator {
        key,
        node_id: -1,
        port: -1,
        error_code: error.code(),
        error_message: Some(sentence),
        ..Default::default()
    };
    let kind = match key_type {
        GROUP => Coordinated::Group,
        TRANSACTION => Coordinated::Transaction,
        _ => return refused(key, KafkaError::InvalidRequest, "groups and transactions are coordinated here".into()),
    };
    match find_coordinator(node, Native { kind, key: key.clone(), classic: true }).await {
        Err(error) => refused(key, coordinator_code(&error), error.message),
        Ok(found) => {
            let image = node.controllers.image();
            let address = addresses(node, asker.client.session.local, &image).into_iter();
            let address = address.into_iter().find(|broker| broker.broker_id == found.broker_id);
            let (host, port) = address.map_or((found.host, found.port), |broker| (broker.host, broker.port));
            Coordinator { key, node_id: node_id(found.broker_id), host, port: port.into(), ..Default::default() }
        }
    }
}
