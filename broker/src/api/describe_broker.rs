//! DescribeBroker: what this process uses, as the system tells it.

use std::sync::Arc;

use tidelog_protocol::WireError;
use tidelog_protocol::messages::{DescribeBrokerRequest, DescribeBrokerResponse};

use super::Handle;
use crate::node::{Node, SOFTWARE};
use crate::process;
use crate::session::Session;

impl Handle for DescribeBrokerRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<DescribeBrokerResponse, WireError> {
        let (rss_bytes, rss_peak_bytes) = process::resident_bytes();
        Ok(DescribeBrokerResponse {
            broker_id: node.broker_id,
            software: SOFTWARE.into(),
            uptime_ms: u64::try_from(node.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            cpu_us: u64::try_from(process::cpu_time().as_micros()).unwrap_or(u64::MAX),
            rss_bytes,
            rss_peak_bytes,
            connections: u32::try_from(node.metrics.connections.get()).unwrap_or(0),
            partitions: u32::try_from(node.registry.len()).unwrap_or(u32::MAX),
        })
    }
}
