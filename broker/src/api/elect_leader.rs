//! ElectLeader: the preferred leaders, or one that may have lost records.

use tidelog_coordination::{Command, Reply};
use tidelog_protocol::messages::{ElectLeaderRequest, ElectLeaderResponse, NamedPartition};
use tidelog_protocol::{ErrorCode, MetadataIndex, WireError};
use tracing::warn;

use super::faults;
use crate::change::{Change, Witness};
use crate::node::Node;

impl Change for ElectLeaderRequest {
    fn command(self, _: &Node) -> Command {
        let partition = self.partition.map(|NamedPartition { topic, partition }| (topic, partition));
        match (partition, self.unclean) {
            (Some((topic, partition)), Some(broker_id)) => Command::ElectUnclean { topic, partition, broker_id },
            (partition, _) => Command::ElectPreferred { partition },
        }
    }

    fn witness(&self) -> Option<Witness> {
        let (NamedPartition { topic, partition }, broker) = (self.partition.clone()?, self.unclean?);
        Some(Box::new(move |decided| match decided {
            Ok(_) => {
                warn!(%topic, %partition, %broker, "unclean election by an operator's order: records that only others held are lost")
            }
            Err(error) => {
                warn!(%topic, %partition, %broker, %error, "an operator ordered an unclean election and was told no")
            }
        }))
    }

    fn check(&self, _: &Node) -> Result<(), WireError> {
        if self.unclean.is_some() && self.partition.is_none() {
            let sentence = "an unclean election is of one partition: name it";
            return Err(WireError::new(ErrorCode::InvalidElection, sentence));
        }
        Ok(())
    }

    fn answer(decided: Reply, _: MetadataIndex) -> Result<ElectLeaderResponse, WireError> {
        match decided {
            Reply::Elected { count } => Ok(ElectLeaderResponse { elected: count }),
            other => Err(faults::unexpected(&other)),
        }
    }
}
