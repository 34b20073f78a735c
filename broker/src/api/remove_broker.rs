//! RemoveBroker: a broker is forgotten, by the metadata and by the quorum that keeps them.

use std::sync::Arc;

use tidelog_coordination::Command;
use tidelog_protocol::messages::{RemoveBrokerRequest, RemoveBrokerResponse, VoterChange};
use tidelog_protocol::{ErrorCode, MetadataIndex, WireError};

use crate::change::AtController;
use crate::node::Node;

impl AtController for RemoveBrokerRequest {
    /// Whatever speaks against it is looked for before anything is changed. The quorum goes first: should the broker come back just then,
    /// the metadata still know it, and asking again goes on where this stopped.
    async fn decide(self, node: &Arc<Node>) -> Result<(RemoveBrokerResponse, MetadataIndex), WireError> {
        let broker_id = self.broker_id;
        let remove = Command::RemoveBroker { broker_id };
        let quorum = node.controllers.quorum();
        if quorum.members().iter().filter(|known| known.is_voter).all(|voter| voter.member.broker == broker_id) {
            node.controllers.take_office().await?;
            node.controllers.confirm().await?;
            let sentence = format!("broker {broker_id} is the last voter on metadata: promote another first");
            return Err(WireError::new(ErrorCode::InvalidVoters, sentence));
        }
        match node.controllers.plan(&remove).await {
            // It joined and never registered.
            Err(error)
                if error.code == ErrorCode::UnknownBroker
                    && quorum.members().iter().any(|known| known.member.broker == broker_id) =>
            {
                quorum.change_voters(broker_id, VoterChange::Remove).await?;
                Ok((RemoveBrokerResponse {}, node.controllers.image().as_of()))
            }
            Err(error) => Err(error),
            Ok(_) => {
                quorum.change_voters(broker_id, VoterChange::Remove).await?;
                let (_, as_of) = node.controllers.submit(remove).await?;
                Ok((RemoveBrokerResponse {}, as_of))
            }
        }
    }
}
