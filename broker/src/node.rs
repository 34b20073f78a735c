//! What every part of a running broker can reach. No logic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tidelog_log::DataDir;
use tidelog_protocol::{BrokerEpoch, BrokerId, ClusterId};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::budget::Budget;
use crate::catch_up::CatchUp;
use crate::compactions::Compactions;
use crate::config::Config;
use crate::coordinators::Coordinators;
use crate::departed::Departed;
use crate::files::Files;
use crate::folder_stamps::FolderStamps;
use crate::lease::Lease;
use crate::member::Member;
use crate::metrics::Metrics;
use crate::partition::Registry;
use crate::peer::Peers;
use crate::producer_ids::ProducerIds;
use crate::quorum::Controllers;
use crate::stalls::Stalls;
use crate::vital::Vital;
use crate::watermarks::Watermarks;

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
    /// Which life of its data folder this is.
    pub member: Member,
    /// Memory for requests.
    pub budget: Budget,
    /// File descriptors, for partitions and for clients.
    pub files: Files,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// The partitions here.
    pub registry: Registry,
    /// Metadata, and the way to change it.
    pub controllers: Controllers,
    /// Which brokers serve no more.
    pub(crate) departed: Departed,
    /// The tasks that it cannot do without.
    pub(crate) vital: Vital,
    /// How the compaction of each log is.
    pub(crate) compactions: Compactions,
    /// What this broker coordinates.
    pub coordinators: Coordinators,
    /// Producer ids to give out.
    pub producer_ids: ProducerIds,
    /// Whether this broker may acknowledge.
    pub lease: Arc<Lease>,
    /// Whether its disk hangs.
    pub stalls: Stalls,
    /// One look at the disk at a time: those that hang must not pile up.
    pub(crate) disk_probe: Arc<tokio::sync::Mutex<()>>,
    /// Links to the other brokers.
    pub peers: Peers,
    /// Where it keeps everything.
    pub data: Arc<DataDir>,
    /// How far replicated partitions were known to be settled.
    pub watermarks: Arc<Watermarks>,
    /// The registration under which its last life closed all its logs.
    pub closed_cleanly: Option<BrokerEpoch>,
    /// What its data folder is known by.
    pub(crate) stamps: Arc<FolderStamps>,
    /// Bounds what replicas that are not in sync get from here.
    pub catch_up: CatchUp,
    /// Set once everything that clients need is there.
    pub ready: AtomicBool,
    /// When it started.
    pub started: Instant,
    /// Set when the broker begins to shut down: nothing new is accepted, clients are told to go.
    pub draining: CancellationToken,
    /// Set when what is under way is done, or had its time: connections close.
    pub connections_close: CancellationToken,
    /// Connections and background work.
    pub tasks: TaskTracker,
}

impl Node {
    /// True where other brokers are registered, too: only then does a lease say anything.
    #[must_use]
    pub fn is_one_of_several(&self) -> bool {
        self.controllers.image().brokers().len() > 1
    }

    /// True once clients are served; before, only other brokers are.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}
