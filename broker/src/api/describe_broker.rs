//! DescribeBroker: what this process uses, as the system tells it, and how far what it leads is settled.

use std::sync::Arc;

use tidelog_protocol::WireError;
use tidelog_protocol::messages::{DescribeBrokerRequest, DescribeBrokerResponse};

use super::Handle;
use crate::node::{Node, SOFTWARE};
use crate::process;
use crate::session::Session;

impl Handle for DescribeBrokerRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<DescribeBrokerResponse, WireError> {
        let memory = process::memory();
        let Led { partitions: leads, unsettled_records, unsettled_records_max } = led(node);
        Ok(DescribeBrokerResponse {
            broker_id: node.broker_id,
            software: SOFTWARE.into(),
            uptime_ms: u64::try_from(node.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            cpu_us: u64::try_from(process::cpu_time().as_micros()).unwrap_or(u64::MAX),
            rss_bytes: memory.anonymous,
            rss_peak_bytes: memory.resident_peak,
            connections: u32::try_from(node.metrics.connections.get()).unwrap_or(0),
            partitions: u32::try_from(node.registry.len()).unwrap_or(u32::MAX),
            leads,
            unsettled_records,
            unsettled_records_max,
        })
    }
}

/// What is led here, and how far its watermarks are behind.
#[derive(Default)]
struct Led {
    partitions: u32,
    unsettled_records: u64,
    unsettled_records_max: u64,
}

fn led(node: &Node) -> Led {
    let image = node.controllers.image();
    let mut led = Led::default();
    for topic in image.topics() {
        for (partition, _) in topic.partitions().filter(|(_, state)| state.leader == Some(node.broker_id)) {
            led.partitions += 1;
            let Ok((handle, _)) = node.registry.find(topic.id, partition) else { continue };
            let tail = handle.tail().borrow().clone();
            // Written before the next tail is published, or after: either way it is between the two.
            let unsettled = handle.reader().written_end().0.saturating_sub(tail.high_watermark.0);
            led.unsettled_records += unsettled;
            led.unsettled_records_max = led.unsettled_records_max.max(unsettled);
        }
    }
    led
}
