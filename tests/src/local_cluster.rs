//! Several brokers in this process over one metadata log: fast to start and to kill, and a test says itself when a lease ends. Each broker
//! has a runtime of its own, so that killing it leaves nothing of it running. Knows nothing of what is right.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tidelog_broker::broker::SharedMetadata;
use tidelog_broker::config::{Advertise, OwnId, PathText};
use tidelog_broker::member::{Address, Member as QuorumMember};
use tidelog_broker::peer::{PeerIdentity, Peers};
use tidelog_broker::quorum::{Beginning, Controllers, Quorum, QuorumStorage, StorageOptions};
use tidelog_broker::{Broker, Config, StartError};
use tidelog_coordination::command::{CreateTopic, Registration};
use tidelog_coordination::records::FeatureLevel;
use tidelog_coordination::{ClusterImage, Command, PartitionImage};
use tidelog_log::{DataDir, DataDirError, FlusherHandle, OsDisk};
use tidelog_protocol::messages::ConfigEntry;
use tidelog_protocol::{BrokerId, ClusterId, LeaderEpoch, PartitionId, TopicId};
use tokio::runtime::Runtime;

use crate::cuttable_link::CuttableLink;
use crate::loopback;
use crate::patience::wait_for;
use crate::stalling_disk::StallingDisk;

/// The cluster.
pub struct LocalCluster {
    folder: TempDir,
    metadata: SharedMetadata,
    /// Runs what is asked of the metadata, and the links.
    runtime: Runtime,
    members: Vec<Member>,
    settings: fn(&mut Config),
}

struct Member {
    running: Option<(Broker, Runtime)>,
    listen: SocketAddr,
    /// The way that the other brokers have to it; clients that dial it directly do not take it.
    link: CuttableLink,
    disk: StallingDisk,
}

impl LocalCluster {
    /// Starts so many brokers, with ids from 1 on.
    ///
    /// # Panics
    /// Where they do not start.
    #[must_use]
    pub fn start(brokers: u32) -> Self {
        Self::start_with(brokers, |_| {})
    }

    /// As [`LocalCluster::start`], with other settings.
    ///
    /// # Panics
    /// Where they do not start.
    #[must_use]
    pub fn start_with(brokers: u32, settings: fn(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = runtime();
        let cluster = ClusterId([9; 16]);
        let data = DataDir::open(Arc::new(OsDisk), &folder.path().join("metadata"), Some(cluster)).unwrap();
        let controllers = runtime.block_on(controllers(Arc::new(data)));
        let metadata = SharedMetadata { cluster, controllers };
        let member = |_| {
            let link = runtime.block_on(CuttableLink::open());
            Member { running: None, listen: loopback::fresh(), link, disk: StallingDisk::default() }
        };
        let members = (0..brokers).map(member).collect();
        let mut cluster = Self { folder, metadata, runtime, members, settings };
        (1..=brokers).for_each(|id| cluster.start_broker(id));
        cluster
    }

    /// Starts a broker that is not running, on the folder that it had.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn start_broker(&mut self, id: u32) {
        let data = self.data(id);
        let member = &mut self.members[id as usize - 1];
        let link = member.link.address();
        let mut config = Config {
            broker_id: OwnId(Some(id)),
            data: PathText(data),
            listen: member.listen,
            admin_listen: SocketAddr::new(member.listen.ip(), 0),
            advertise: Advertise(Some((link.ip().to_string(), link.port()))),
            rack: format!("rack-{id}"),
            housekeeping_interval_ms: 200,
            disk_free_min_bytes: 0,
            ..Config::default()
        };
        (self.settings)(&mut config);
        let runtime = runtime();
        let broker = wait_for("the life before to let go of the folder", || {
            let metadata = Some(self.metadata.clone());
            match runtime.block_on(Broker::start_within(config.clone(), Arc::new(member.disk.clone()), metadata)) {
                Err(StartError::Data(DataDirError::InUse { .. })) => None,
                started => Some(started.unwrap()),
            }
        });
        member.link.lead_to(broker.address());
        member.running = Some((broker, runtime));
    }

    /// Ends a broker as `kill -9` would.
    ///
    /// # Panics
    /// Where it is not running.
    pub fn kill(&mut self, id: u32) {
        let (broker, runtime) = self.members[id as usize - 1].running.take().expect("it runs");
        drop(broker);
        runtime.shutdown_timeout(Duration::from_secs(30));
    }

    /// Where clients reach a broker.
    ///
    /// # Panics
    /// Where it is not running.
    #[must_use]
    pub fn address(&self, id: u32) -> SocketAddr {
        self.members[id as usize - 1].running.as_ref().expect("it runs").0.address()
    }

    /// Where a broker's data is.
    #[must_use]
    pub fn data(&self, id: u32) -> PathBuf {
        self.folder.path().join(format!("broker-{id}"))
    }

    /// The disk of a broker.
    #[must_use]
    pub fn disk(&self, id: u32) -> &StallingDisk {
        &self.members[id as usize - 1].disk
    }

    /// Nothing passes between a broker and those that dial it as the metadata says.
    ///
    /// # Panics
    /// Where what passed before does not end.
    pub fn cut_off(&self, id: u32) {
        self.members[id as usize - 1].link.cut();
    }

    /// The way to a broker is open again.
    pub fn mend(&self, id: u32) {
        self.members[id as usize - 1].link.mend();
    }

    /// The lease of a broker ends, or it is heard of again.
    pub fn fence(&self, id: u32) {
        self.submit(Command::FenceBroker(self.registration(id)));
    }

    /// A broker is heard of again.
    pub fn unfence(&self, id: u32) {
        self.submit(Command::UnfenceBroker(self.registration(id)));
    }

    /// A broker leads the one partition of a topic by order, whatever is lost by it.
    pub fn elect_unclean(&self, topic: &str, id: u32) {
        let (topic, broker_id) = (topic.into(), BrokerId(id));
        self.submit(Command::ElectUnclean { topic, partition: PartitionId(0), broker_id });
    }

    /// Bytes that a broker has pushed to consumers of a topic.
    ///
    /// # Panics
    /// Where it is not running.
    #[must_use]
    pub fn pushed_bytes(&self, id: u32, topic: &str) -> u64 {
        self.members[id as usize - 1].running.as_ref().expect("it runs").0.metrics().topic(topic).bytes_out.get()
    }

    /// What a broker counts, as Prometheus reads it.
    ///
    /// # Panics
    /// Where it is not running.
    #[must_use]
    pub fn metrics_text(&self, id: u32) -> String {
        self.members[id as usize - 1].running.as_ref().expect("it runs").0.metrics().render().unwrap()
    }

    /// Whether a broker knows of a damaged range at its own.
    ///
    /// # Panics
    /// Where it is not running.
    #[must_use]
    pub fn is_damaged(&self, id: u32) -> bool {
        self.members[id as usize - 1].running.as_ref().expect("it runs").0.metrics().partitions_corrupt.get() > 0
    }

    /// Damaged ranges that a broker has put back.
    ///
    /// # Panics
    /// Where it is not running.
    #[must_use]
    pub fn repaired(&self, id: u32) -> u64 {
        self.members[id as usize - 1].running.as_ref().expect("it runs").0.metrics().ranges_repaired.get()
    }

    /// Makes sure that a broker has repaired one range: it counts a moment after the range can be read again.
    ///
    /// # Panics
    /// Where it does not, or repaired more.
    #[track_caller]
    pub fn assert_repaired_one(&self, id: u32) {
        wait_for("a repair to be counted", || (self.repaired(id) > 0).then_some(()));
        assert_eq!(self.repaired(id), 1, "broker {id}");
    }

    /// The metadata.
    #[must_use]
    pub fn image(&self) -> Arc<ClusterImage> {
        self.metadata.controllers.image()
    }

    /// The one partition of a topic.
    ///
    /// # Panics
    /// Where there is no such topic.
    #[must_use]
    pub fn partition(&self, topic: &str) -> PartitionImage {
        self.image().topic_named(topic).expect("the topic exists").partition(PartitionId(0)).unwrap().clone()
    }

    /// Waits until these brokers are in sync with the one partition of a topic.
    ///
    /// # Panics
    /// Where that never comes.
    pub fn wait_in_sync(&self, topic: &str, brokers: &[u32]) {
        let wanted: Vec<BrokerId> = brokers.iter().map(|id| BrokerId(*id)).collect();
        wait_for(&format!("{brokers:?} in sync, not {:?}", self.partition(topic)), || {
            let mut in_sync = self.partition(topic).in_sync;
            in_sync.sort();
            (in_sync == wanted).then_some(())
        });
    }

    /// Who leads the one partition of a topic, and under which epoch.
    ///
    /// # Panics
    /// Where nobody does.
    #[must_use]
    pub fn leader(&self, topic: &str) -> (u32, LeaderEpoch) {
        let state = self.partition(topic);
        (state.leader.expect("somebody leads").0, state.leader_epoch)
    }

    /// Creates a topic of one partition with a replica on every broker.
    ///
    /// # Panics
    /// Where it cannot be created.
    pub fn create_topic(&self, name: &str, configs: &[(&str, &str)]) -> TopicId {
        let topic_id = TopicId(rand_id());
        let entry = |(key, value): &(&str, &str)| ConfigEntry { key: (*key).into(), value: (*value).into() };
        self.submit(Command::CreateTopic(CreateTopic {
            topic_id,
            name: name.into(),
            partitions: 1,
            replication_factor: self.members.len() as u16,
            configs: configs.iter().map(entry).collect(),
            validate_only: false,
            internal: false,
        }));
        topic_id
    }

    fn registration(&self, id: u32) -> Registration {
        let broker_id = BrokerId(id);
        Registration { broker_id, epoch: self.image().broker(broker_id).expect("it has registered").epoch }
    }

    fn submit(&self, command: Command) {
        let _ = self.runtime.block_on(self.metadata.controllers.submit(command)).unwrap();
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some((broker, runtime)) = member.running.take() {
                drop(broker);
                runtime.shutdown_background();
            }
        }
    }
}

async fn controllers(data: Arc<DataDir>) -> Controllers {
    let address = Address { host: "localhost".into(), port: 1 };
    let member = QuorumMember { broker: BrokerId(0), incarnation: data.format().incarnation };
    let peers = Peers::new(PeerIdentity { cluster: data.format().cluster, member });
    let options = StorageOptions { data, flusher: FlusherHandle::detached(), broker: BrokerId(0), address };
    let quorum = Quorum::start(QuorumStorage::open(options).unwrap(), peers, Beginning::Found).await.unwrap();
    quorum.leads().await.unwrap();
    // Nobody is heard of here, so nobody could say what he knows: all of it is known to all from the beginning.
    let level = vec![FeatureLevel { level: FeatureLevel::NEWEST }.into()];
    let empty = quorum.image().borrow().as_of();
    let _ = quorum.propose(empty, level).await.unwrap();
    Controllers::new(quorum)
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn rand_id() -> [u8; 16] {
    fastrand::u128(..).to_be_bytes()
}
