//! WriteMarkers: a coordinator on another broker tells how transactions ended. The answer says who knows by then.

use std::sync::Arc;

use tidelog_protocol::messages::{TransactionMarkers, WriteMarkersRequest, WriteMarkersResponse};
use tidelog_protocol::{ErrorCode, WireError};

use super::Handle;
use crate::coordinators::write_markers;
use crate::node::Node;
use crate::session::Session;

/// Places in one request; who sends it asks for far fewer.
const PLACES_MAX: usize = 10_000;

impl Handle for WriteMarkersRequest {
    async fn handle(self, node: &Arc<Node>, session: &Arc<Session>) -> Result<WriteMarkersResponse, WireError> {
        session.member()?;
        let places = |markers: &TransactionMarkers| {
            let partitions: usize = markers.partitions.iter().map(|topic| topic.partitions.len()).sum();
            partitions + markers.groups.len()
        };
        let count: usize = self.markers.iter().map(places).sum();
        if count > PLACES_MAX {
            let sentence = format!("markers for {count} places in one request; {PLACES_MAX} may be");
            return Err(WireError::new(ErrorCode::TooLarge, sentence));
        }
        Ok(write_markers(node, &self).await)
    }
}
