//! A broker's life: start, serve, drain, close. Everything it is made of is put together here. Knows nothing of flags and signals.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidelog_log::data_dir::DataDir;
use tidelog_log::{Disk, Flusher, FlusherHandle, OsDisk, SpaceGuard};
use tidelog_protocol::{ClusterId, WireError};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::budget::Budget;
use crate::catch_up::CatchUp;
use crate::compactions::Compactions;
use crate::config::{Config, OwnId};
use crate::coordinators::{self, Coordinators};
use crate::departed::Departed;
use crate::files::Files;
use crate::folder::{Notes, Storage, Whose, cluster_to_join, note_owner, open_storage, take_back};
use crate::housekeeping;
use crate::joining::{self, JoinError};
use crate::lease::{self, Lease};
use crate::member::{Address, Member};
use crate::metrics::Metrics;
use crate::net::{self, Listener};
use crate::node::{Node, SOFTWARE};
use crate::partition::{Opening, Proposals, Registry, RegistryOptions};
use crate::peer::{PeerIdentity, Peers};
use crate::producer_ids::ProducerIds;
use crate::pulse::Pulse;
use crate::quorum::{Beginning, Controllers, Quorum, QuorumStorage};
use crate::registering::{Registered, register, register_late, served};
use crate::replica::Board;
use crate::stalls::{StallWatch, Stalls};
use crate::start_error::StartError;
use crate::vital::{BreakDown, Vital};
use crate::{
    admin_http, belonging, compactor, departed, lease_watch, own_id, process, producer_ids, replica, scrubber,
    shutdown, stamping, waiting,
};

/// How long tasks that were told to end may take to let go of the data folder.
const LETTING_GO: Duration = Duration::from_secs(2);

/// A broker that runs inside this process. Dropped without [`Broker::shutdown`] it stops as if killed: recovery runs at the next
/// start, and nothing acknowledged is lost.
#[derive(Debug)]
pub struct Broker {
    pub(crate) node: Arc<Node>,
    address: SocketAddr,
    admin_address: SocketAddr,
    data: Arc<DataDir>,
    flusher: Flusher,
    excluded: watch::Receiver<Option<JoinError>>,
    _pulse: Pulse,
    /// `None` where a disk may take any time.
    _stall_watch: Option<StallWatch>,
    /// Dropped with the broker: its tasks end.
    _end_tasks: [DropGuard; 2],
}

/// What a node is put together from.
struct Parts {
    data: Arc<DataDir>,
    flusher: FlusherHandle,
    space: Arc<SpaceGuard>,
    notes: Notes,
    controllers: Controllers,
    peers: Peers,
}

/// What the replicas here want of the world outside.
struct Replication {
    board: Arc<Board>,
    proposals: Arc<Proposals>,
}

/// A cluster whose metadata is kept elsewhere in this process.
#[derive(Clone, Debug)]
pub struct SharedMetadata {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its metadata.
    pub controllers: Controllers,
}

impl Broker {
    /// Starts a broker and returns when it serves. Must be called within a multi-threaded tokio runtime with IO and time.
    ///
    /// # Errors
    /// [`StartError`] says what to do.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_on(config, Arc::new(OsDisk)).await
    }

    /// As [`Broker::start`], over another door to the operating system: tests inject faults there.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start_on(config: Config, disk: Arc<dyn Disk>) -> Result<Self, StartError> {
        for _ in 0..own_id::RACES {
            match Self::start_within(config.clone(), disk.clone(), None).await {
                Err(error) if own_id::was_overtaken(&config, &*disk, &error) => {
                    info!(%error, "another has the number that was free: asking for the next")
                }
                ended => return ended,
            }
        }
        Self::start_within(config, disk, None).await
    }

    /// As [`Broker::start_on`], as one broker of several that share their metadata: tests run a cluster in one process so.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start_within(
        config: Config,
        disk: Arc<dyn Disk>,
        shared: Option<SharedMetadata>,
    ) -> Result<Self, StartError> {
        let started = Instant::now();
        // The ports first: a second broker started by mistake must not even look at the data folder.
        let listener = bind("listen", config.listen)?;
        if config.admin_listen == listener.address {
            return Err(StartError::OnePort(config.admin_listen));
        }
        let admin = bind("admin_listen", config.admin_listen)?;
        let (address, admin_address) = (listener.address, admin.address);
        let own = advertised(&config, address);
        let contact = joining::contact(&config).filter(|_| shared.is_none());
        let is_itself = contact.as_ref().is_some_and(|contact| joining::is_itself(contact, address));
        let whose = match (&shared, &contact) {
            (Some(shared), _) => Whose::Elsewhere(shared.cluster),
            (None, Some(contact)) => Whose::Here(cluster_to_join(&config, &*disk, contact, is_itself).await?),
            (None, None) => Whose::Here(None),
        };
        let broker = own_id::find(&config, &*disk, contact.as_ref().filter(|_| !is_itself)).await?;
        let config = Config { broker_id: OwnId(Some(broker.0)), ..config };
        let Storage { data, flusher, space, notes, quorum } =
            open_storage(&config, disk, (broker, &own), whose).await?;
        let member = Member { broker, incarnation: data.format().incarnation };
        let peers = Peers::new(PeerIdentity { cluster: data.format().cluster, member });
        // Who shares metadata with others in its process is told by them when its lease ends.
        let keeps_lease = shared.is_none();
        let (controllers, alone) = match (shared, quorum) {
            (Some(SharedMetadata { controllers, .. }), _) => (controllers, true),
            (None, quorum) => {
                let storage = quorum.expect("metadata that is kept nowhere else is kept here");
                let beginning = if contact.is_some() { Beginning::Join } else { Beginning::Found };
                start_quorum(storage, &peers, beginning).await?
            }
        };
        let parts = Parts { data: data.clone(), flusher: flusher.handle(), space, notes, controllers, peers };
        let lease = Arc::new(if keeps_lease { Lease::default() } else { Lease::for_ever() });
        let (node, replication) = assemble(config, started, parts, (member, lease));
        let _end_tasks = [node.draining.clone().drop_guard(), node.connections_close.clone().drop_guard()];
        let vital = node.vital.clone();
        if let Some(watch) = node.controllers.quorum().take_watch() {
            vital.watch("role in the quorum", watch);
            let changes = node.controllers.quorum().clone().finish_changes();
            let ends = node.connections_close.clone();
            vital.spawn("changes of the voters", async move {
                ends.run_until_cancelled(changes).await;
            });
        }
        let mut listener = Some(listener);
        if !alone && let Some(listener) = listener.take() {
            // The others cannot agree on anything as long as they cannot reach this one.
            vital.spawn("connections", net::serve(node.clone(), listener));
        }
        // Early: it says what the start waits for.
        let admin = admin.into_socket().into_std().map_err(StartError::Thread)?;
        vital.watch("admin port", admin_http::start(node.clone(), admin).map_err(StartError::Thread)?);
        if let Some(contact) = &contact {
            let taken_in = tokio::select! {
                taken_in = joining::be_taken_in(&node, contact, &own) => taken_in,
                never = waiting::tell(&node) => match never {},
            };
            if let Err(error) = taken_in {
                take_back(&node, flusher).await;
                return Err(error.into());
            }
        }
        note_owner(&node).await?;
        let registered = tokio::select! {
            registered = register(&node, &own) => registered.map_err(StartError::Register)?,
            refusal = belonging::lost(&node, contact.as_ref(), &own) => return Err(refusal.into()),
            never = waiting::tell(&node) => match never {},
        };
        open_partitions(&node).await?;
        node.ready.store(true, Ordering::Release);
        let _pulse = Pulse::start(tokio::runtime::Handle::current()).map_err(StartError::Thread)?;
        let _stall_watch = watch_disk(&node, &flusher).map_err(StartError::Thread)?;
        let (excluding, excluded) = watch::channel(None);
        let broker = Self {
            node: node.clone(),
            address,
            admin_address,
            data,
            flusher,
            excluded,
            _pulse,
            _stall_watch,
            _end_tasks,
        };

        vital.spawn("office of the controller", housekeeping::hold_office(node.clone()));
        vital.spawn("metadata", housekeeping::follow_metadata(node.clone()));
        vital.spawn("housekeeping", housekeeping::run(node.clone()));
        vital.spawn("scrubber", scrubber::run(node.clone()));
        vital.spawn("compactor", compactor::run(node.clone()));
        vital.spawn("coordinators", coordinators::run(node.clone()));
        vital.spawn("hanging transactions", coordinators::hanging::run(node.clone()));
        vital.spawn("producer ids", producer_ids::keep_ahead(node.clone()));
        replica::start(&node, &replication.board, replication.proposals);
        if keeps_lease {
            // No heartbeat before: the lease of the last registration is not this start's.
            match registered {
                Registered::Yes => vital.spawn("lease", lease::keep(node.clone())),
                Registered::NotYet => vital.spawn("registration", register_late(node.clone(), own.clone())),
            }
            vital.spawn("belonging", notice_exclusion(node.clone(), contact, own, excluding));
            vital.spawn("folder stamps", stamping::run(node.clone()));
            vital.spawn("leases of all", lease_watch::run(node.clone()));
            vital.spawn("departed brokers", departed::watch(node.clone()));
        }
        if let Some(listener) = listener {
            vital.spawn("connections", net::serve(node.clone(), listener));
        }
        if keeps_lease && registered == Registered::Yes {
            served(&node).await;
        }
        if let Some(warning) = node.files.warning() {
            warn!("{warning}");
        }
        let (partitions, millis) = (node.registry.len(), started.elapsed().as_millis() as u64);
        info!(%address, admin = %admin_address, data = %node.config.data, cluster = %node.cluster_id, partitions, millis, "{SOFTWARE} is ready");
        Ok(broker)
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the admin port is.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// What it counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.node.metrics
    }

    /// Waits until the cluster says that this broker is no part of it any more: another life of its data folder took its place, or an
    /// operator removed it. It is of no use then but to be shut down.
    pub async fn excluded(&self) -> JoinError {
        match self.excluded.clone().wait_for(Option::is_some).await.as_deref() {
            Ok(Some(refusal)) => refusal.clone(),
            // Nobody watches any more, or ever did.
            _ => std::future::pending().await,
        }
    }

    /// Waits until one of the tasks that it cannot do without has panicked. It is to be dropped then, and not shut down: nobody knows what
    /// state it is in.
    pub async fn broke_down(&self) -> BreakDown {
        self.node.vital.broke_down().await
    }

    /// Drains: accepts nothing new, tells clients to go, finishes what is under way (for `shutdown_timeout_ms` at most), flushes,
    /// marks every log clean, and lets go of the data folder.
    ///
    /// # Errors
    /// Where a log could not be closed cleanly; recovery then runs at the next start.
    pub async fn shutdown(self) -> Result<(), WireError> {
        let closed = shutdown::drain_and_close(&self.node).await;
        let Self { node, flusher, data, .. } = self;
        let held = Arc::downgrade(&data);
        drop(node);
        let released = tokio::task::spawn_blocking(move || {
            // The flusher may still write; the folder is let go of after it.
            drop(flusher);
            drop(data);
        });
        if released.await.is_err() {
            warn!("the flusher ended unexpectedly");
        }
        // So does what was told to end and has not got around to it yet: whoever starts here next must find the folder free.
        let free_by = Instant::now() + LETTING_GO;
        while held.strong_count() > 0 && Instant::now() < free_by {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if held.strong_count() > 0 {
            warn!("something of this broker still holds its data folder");
        }
        closed?;
        info!("stopped cleanly");
        Ok(())
    }
}

fn bind(key: &'static str, address: SocketAddr) -> Result<Listener, StartError> {
    Listener::bind(address).map_err(|error| StartError::Listen { key, address, error })
}

fn watch_disk(node: &Node, flusher: &Flusher) -> std::io::Result<Option<StallWatch>> {
    let limit = Duration::from_millis(node.config.disk_stall_ms);
    let start = || StallWatch::start(flusher.handle().waits(), limit, node.stalls.clone(), node.metrics.clone());
    (!limit.is_zero()).then(start).transpose()
}

/// Where clients and other brokers are told to connect.
fn advertised(config: &Config, address: SocketAddr) -> Address {
    let (host, port) = config.advertise.0.clone().unwrap_or((address.ip().to_string(), address.port()));
    Address { host, port }
}

/// The broker whose cluster this one joins.
/// Takes part in the quorum; true where nobody else does, and this broker leads it.
async fn start_quorum(
    storage: QuorumStorage,
    peers: &Peers,
    beginning: Beginning,
) -> Result<(Controllers, bool), StartError> {
    let founds = storage.is_fresh() && beginning == Beginning::Found;
    let quorum = Quorum::start(storage, peers.clone(), beginning).await?;
    let alone = founds || quorum.is_alone();
    if alone {
        quorum.leads().await?;
    }
    Ok((Controllers::new(quorum), alone))
}

async fn notice_exclusion(
    node: Arc<Node>,
    contact: Option<Address>,
    own: Address,
    excluding: watch::Sender<Option<JoinError>>,
) {
    let lost = belonging::lost(&node, contact.as_ref(), &own);
    if let Some(refusal) = node.draining.run_until_cancelled(lost).await {
        error!(%refusal, "this broker is no part of its cluster any more");
        excluding.send_replace(Some(refusal));
    }
}

async fn open_partitions(node: &Arc<Node>) -> Result<(), StartError> {
    let opened = node.clone();
    let open = move || {
        let image = opened.controllers.image();
        opened.registry.remove_leftovers(&image)?;
        opened.registry.apply(&image);
        Ok::<(), StartError>(())
    };
    tokio::task::spawn_blocking(open).await.map_err(|error| StartError::Thread(std::io::Error::other(error)))?
}

fn assemble(
    config: Config,
    started: Instant,
    parts: Parts,
    (member, lease): (Member, Arc<Lease>),
) -> (Arc<Node>, Replication) {
    let cluster_id = parts.data.format().cluster;
    let metrics = Arc::new(Metrics::new());
    let board = Arc::<Board>::default();
    let proposals = Arc::<Proposals>::default();
    let Notes { watermarks, closed_cleanly, stamps } = parts.notes;
    let opening = Opening {
        data: parts.data.clone(),
        flusher: parts.flusher,
        space: parts.space,
        metrics: metrics.clone(),
        queue_bytes_max: config.partition_queue_bytes_max,
        lease: lease.clone(),
        watermarks: watermarks.clone(),
        upstream: board.clone(),
        proposals: proposals.clone(),
        producer_id_expiration_ms: config.producer_id_expiration_ms,
        runtime: tokio::runtime::Handle::current(),
    };
    let registry = Registry::new(RegistryOptions { broker: member.broker, opening, metrics: metrics.clone() });
    let node = Arc::new(Node {
        budget: Budget::new(config.memory_budget_bytes),
        files: Files::new(process::file_limit(), config.connections_max),
        cluster_id,
        broker_id: member.broker,
        member,
        metrics,
        registry,
        controllers: parts.controllers,
        departed: Departed::default(),
        vital: Vital::default(),
        compactions: Compactions::default(),
        coordinators: Coordinators::default(),
        producer_ids: ProducerIds::default(),
        lease,
        stalls: Stalls::default(),
        disk_probe: Arc::default(),
        peers: parts.peers,
        data: parts.data,
        watermarks,
        closed_cleanly,
        stamps,
        catch_up: CatchUp::new(config.replica_catch_up_bytes_per_second),
        ready: AtomicBool::new(false),
        started,
        draining: CancellationToken::new(),
        connections_close: CancellationToken::new(),
        tasks: TaskTracker::new(),
        config,
    });
    (node, Replication { board, proposals })
}

#[cfg(test)]
#[allow(clippy::panic, reason = "a planted bug")]
mod tests {
    use tidelog_coordination::Command;
    use tidelog_coordination::command::CreateTopic;
    use tidelog_protocol::messages::Acks;
    use tidelog_protocol::records::{BatchBuilder, Compression, NO_HEADERS, ProduceLimits, validate_produce};
    use tidelog_protocol::{PartitionId, Timestamp, TopicId};
    use tidelog_replication::ProduceTerms;
    use tokio::sync::oneshot;

    use super::*;
    use crate::config::PathText;
    use crate::partition::{Append, Command as PartitionCommand};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_background_task_that_panics_is_the_end_of_the_broker() {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::start(config(&folder)).await.unwrap();
        let still = tokio::time::timeout(std::time::Duration::from_millis(50), broker.broke_down()).await;
        assert!(still.is_err(), "{still:?}");
        broker.node.vital.spawn("metadata", async { panic!("planted") });
        let limit = std::time::Duration::from_secs(60);
        let broken = tokio::time::timeout(limit, broker.broke_down()).await.unwrap();
        assert!(broken.to_string().contains("'metadata' panicked (planted)"), "{broken}");
    }

    fn config(folder: &tempfile::TempDir) -> Config {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let data = PathText(folder.path().join("data"));
        Config { listen: any, admin_listen: any, data, disk_free_min_bytes: 0, ..Config::default() }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_owner_that_breaks_down_keeps_nobody_waiting_and_is_no_clean_end() {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::start(config(&folder)).await.unwrap();
        let topic_id = TopicId([7; 16]);
        let create = Command::CreateTopic(CreateTopic {
            topic_id,
            name: "topic".into(),
            partitions: 1,
            replication_factor: 1,
            configs: Vec::new(),
            validate_only: false,
            internal: false,
        });
        let (_, index) = broker.node.controllers.submit(create).await.unwrap();
        broker.node.registry.applied(index).await;
        let (partition, _) = broker.node.registry.find(topic_id, PartitionId(0)).unwrap();
        let mut builder = BatchBuilder::new(1 << 20);
        builder.append(Timestamp(1), None, Some(b"value"), NO_HEADERS).unwrap();
        let batches = validate_produce(builder.finish(Compression::None).unwrap(), ProduceLimits::default()).unwrap();
        let (answer, answered) = oneshot::channel();
        let append = Append {
            batches,
            terms: ProduceTerms { leader_epoch: None, acks: Acks::All, expected_log_end: None },
            deadline: None,
            ticket: Box::new(move |result| drop(answer.send(result))),
            lent: None,
            ask: None,
        };
        let (inside, rest) = (partition.clone(), partition.clone());
        let both = move || {
            // Within the owner's turn, so that the next one takes both: what the first waits for is then with the leader.
            inside.append(append);
            inside.submit(PartitionCommand::DeleteRecords { before: None, ticket: Box::new(|_| panic!("planted")) });
        };
        let turn = PartitionCommand::DeleteRecords { before: None, ticket: Box::new(move |_| both()) };
        assert!(tokio::task::spawn_blocking(move || rest.submit(turn)).await.unwrap_err().is_panic());
        let waited = tokio::time::timeout(std::time::Duration::from_secs(60), answered).await;
        assert!(waited.unwrap().is_err(), "the ticket is dropped, not kept");
        let error = broker.shutdown().await.unwrap_err();
        assert!(error.message.contains("1 partition broke down"), "{error}");
    }
}
