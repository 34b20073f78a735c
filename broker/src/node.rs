//! What every part of a running broker can reach. No logic.

use std::sync::Arc;
use std::time::Instant;

use tidelog_protocol::{BrokerId, ClusterId};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::budget::Budget;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::partition::Registry;
use crate::quorum::Controllers;

/// Name and version, as hello and metrics tell them.
pub const SOFTWARE: &str = concat!("tidelog-broker ", env!("CARGO_PKG_VERSION"));

/// A running broker.
#[derive(Debug)]
pub struct Node {
    /// How it is set.
    pub config: Config,
    /// The cluster that it belongs to.
    pub cluster_id: ClusterId,
    /// Which broker of it this is.
    pub broker_id: BrokerId,
    /// Memory for requests.
    pub budget: Budget,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// The partitions here.
    pub registry: Registry,
    /// Metadata, and the way to change it.
    pub controllers: Controllers,
    /// When it started.
    pub started: Instant,
    /// Set when the broker begins to shut down: nothing new is accepted, clients are told to go.
    pub draining: CancellationToken,
    /// Set when what is under way is done, or had its time: connections close.
    pub connections_close: CancellationToken,
    /// Connections and background work.
    pub tasks: TaskTracker,
}
