//! What the client knows of the cluster: where partitions live, and a connection to each broker it needs. Knows nothing of
//! records.

mod any;
mod coordinator;
mod dial;
mod image;
mod leader;
mod newest;
mod patience;
mod pool;
mod settled;
mod shards;
mod silence;
mod survivors;

pub(crate) use coordinator::Coordinate;
use coordinator::Coordinators;
use image::Known;
pub(crate) use image::{Leader, TopicImage};
pub(crate) use patience::Patience;
pub(crate) use pool::Purpose;
pub use survivors::Survivor;
pub(crate) use survivors::{Search, Turn};

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use foldhash::HashMap;
use parking_lot::RwLock;
use tidelog_protocol::api::Request;
use tidelog_protocol::messages::{MetadataRequest, MetadataResponse};
use tidelog_protocol::{BrokerId, ClusterId, ErrorCode, MetadataIndex, PartitionId, TopicId, TopicName};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use crate::ClientError;
use crate::address::{Address, Addresses};
use crate::admin::topic_name;
use crate::backoff::Backoff;
use crate::client::ClientBuilder;
use crate::net::{Connection, Greeting, cut_short};
use pool::Pool;

/// How long one broker is waited for where others could be asked.
const OVERDUE: Duration = Duration::from_secs(2);

/// After how long without a controller it is told that there is none, once every broker has said so.
const LOST: Duration = Duration::from_secs(5);

/// The state behind every handle.
pub(crate) struct Cluster {
    pub(crate) options: ClientBuilder,
    /// Where the client's tasks run.
    pub(crate) runtime: Handle,
    bootstrap: Addresses,
    pool: Arc<Pool>,
    known: RwLock<Everything>,
    coordinators: RwLock<Coordinators>,
    /// Held while metadata are fetched, so that a hundred who miss the same topic ask once.
    fetching: Mutex<()>,
    /// Answers that did not help. Each of them turns to another broker: one that is cut off from the cluster answers as always, and knows
    /// nothing new for as long as that lasts.
    setbacks: AtomicUsize,
}

#[derive(Default)]
struct Everything {
    cluster_id: Option<ClusterId>,
    /// As of which record of the metadata log.
    as_of: MetadataIndex,
    brokers: HashMap<BrokerId, Known>,
    topics: HashMap<TopicName, Arc<TopicImage>>,
    /// Who was heard to lead something no more that another leads now, or to keep up with its leader no more, and when.
    deposed: HashMap<Address, Instant>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cluster({:?})", self.bootstrap)
    }
}

impl Cluster {
    /// Connects to one broker and learns of the others.
    pub(crate) async fn open(options: ClientBuilder, bootstrap: Addresses) -> Result<Arc<Self>, ClientError> {
        let greeting = Greeting {
            client_id: options.client_id.clone(),
            connect_timeout: options.connect_timeout,
            request_timeout: options.request_timeout,
            deadline: options.deadline,
            keepalive: options.keepalive,
            cluster: OnceLock::new(),
        };
        let cluster = Arc::new(Self {
            options,
            runtime: Handle::current(),
            bootstrap,
            pool: Arc::new(Pool::new(greeting)),
            known: RwLock::new(Everything::default()),
            coordinators: RwLock::default(),
            fetching: Mutex::new(()),
            setbacks: AtomicUsize::new(0),
        });
        cluster.bootstrap().await?;
        cluster.runtime.spawn(silence::watch(Arc::downgrade(&cluster)));
        Ok(cluster)
    }

    /// The first metadata, of whichever address has them. One that answers, but cannot serve yet, is no reason to give up while others may:
    /// each is asked, then all again as [`Patience`] allows. Where none even answers there is nothing to wait for.
    async fn bootstrap(&self) -> Result<(), ClientError> {
        let request = MetadataRequest { topics: Some(Vec::new()) };
        let mut patience = Patience::repeating(&self.options);
        let mut asked = 0usize;
        loop {
            let answer = async {
                let connection = self.any().await?;
                let said = self.noting_silence(&connection, connection.call(&request).await)?;
                self.newest_of_given(&request, (connection.address().clone(), said)).await
            };
            let error = match answer.await {
                Ok(response) => {
                    self.learn(&response);
                    return Ok(());
                }
                Err(error @ ClientError::Unreachable { .. }) => return Err(error),
                Err(error) => error,
            };
            self.set_back();
            asked += 1;
            if !error.is_retriable() || asked.is_multiple_of(self.bootstrap.as_slice().len()) {
                patience.after(error).await?;
            }
        }
    }

    async fn ask_any<R: Request>(&self, request: &R) -> Result<R::Response, ClientError> {
        let connection = self.any().await?;
        self.noting_silence(&connection, connection.call(request).await)
    }

    /// Asks whoever is at this address.
    async fn ask_at<R: Request>(
        &self,
        address: &Address,
        request: &R,
        patience: Duration,
    ) -> Result<R::Response, ClientError> {
        let connection = self.pool.connection(address, Purpose::Requests).await?;
        self.noting_silence(&connection, connection.call_within(request, patience).await)
    }

    fn noting_silence<T>(&self, asked: &Connection, result: Result<T, ClientError>) -> Result<T, ClientError> {
        let is_of_no_use = result.as_ref().is_err_and(|error| match error {
            ClientError::TimedOut { .. } | ClientError::Disconnected { .. } => true,
            // It may be cut off from those that have one.
            error => error.code() == Some(ErrorCode::NoQuorum),
        });
        if is_of_no_use {
            self.pool.shun(asked.address());
        }
        result
    }

    pub(crate) const fn backoff(&self) -> Backoff {
        self.options.backoff
    }

    /// Where a broker may be asked, in the order in which they should be: those that did not answer last.
    fn addresses(&self) -> Vec<Address> {
        let mut addresses: Vec<Address> =
            self.known.read().brokers.values().map(|known| known.address.clone()).collect();
        addresses.sort_unstable_by(|one, other| (&one.host, one.port).cmp(&(&other.host, other.port)));
        let setbacks = self.setbacks.load(Ordering::Relaxed);
        let turn = setbacks / 2 % addresses.len().max(1);
        addresses.rotate_left(turn);
        if setbacks.is_multiple_of(2) {
            // The ones that worked last are the likeliest to work, though not the only ones that may.
            addresses.sort_by_key(|address| !self.pool.is_connected(address, Purpose::Requests));
        }
        let mut given = self.bootstrap.as_slice().to_vec();
        if addresses.is_empty() {
            let turn = setbacks % given.len().max(1);
            given.rotate_left(turn);
        }
        for address in given {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses.sort_by_key(|address| self.pool.is_shunned(address));
        addresses
    }

    /// The connection to a broker of this address.
    pub(crate) async fn connection(&self, address: &Address, purpose: Purpose) -> Result<Connection, ClientError> {
        self.pool.connection(address, purpose).await
    }

    /// Asks any broker, and again as [`Patience`] allows.
    pub(crate) async fn call<R: Request>(&self, request: &R) -> Result<R::Response, ClientError> {
        let mut patience = Patience::of(&self.options, R::API);
        let (began, mut lost) = (Instant::now(), 0);
        loop {
            match self.ask_any(request).await {
                Ok(answer) => return Ok(answer),
                // Every broker knows every topic: asking again would only make a typing error take long. And for a full disk somebody must
                // do something, who has to hear of it.
                Err(error)
                    if matches!(
                        error.code(),
                        Some(ErrorCode::UnknownTopic | ErrorCode::UnknownPartition | ErrorCode::StorageFull)
                    ) =>
                {
                    return Err(error);
                }
                Err(error) => {
                    self.set_back();
                    let is_lost = error.code() == Some(ErrorCode::NoQuorum);
                    lost += usize::from(is_lost);
                    // Each has looked for a controller for a while: to wait on without a word would help nobody.
                    if is_lost && lost >= self.brokers() && began.elapsed() >= LOST {
                        return Err(error);
                    }
                    patience.after(error).await?;
                }
            }
        }
    }

    /// How many brokers there are, as far as is known.
    pub(crate) fn brokers(&self) -> usize {
        self.known.read().brokers.len()
    }

    fn set_back(&self) {
        self.setbacks.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks this broker, once: it is about the broker itself, and whoever asks wants to know that it does not answer.
    pub(crate) async fn call_broker<R: Request>(
        &self,
        broker: BrokerId,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        let address = self.address_of(broker).await?;
        self.connection(&address, Purpose::Requests).await?.call(request).await
    }

    /// Where a broker is; asks where that is not known.
    async fn address_of(&self, broker: BrokerId) -> Result<Address, ClientError> {
        let address = |known: &Everything| known.brokers.get(&broker).map(|known| known.address.clone());
        let known = address(&self.known.read());
        match known {
            Some(address) => Ok(address),
            None => {
                self.metadata(Some(Vec::new())).await?;
                let known = address(&self.known.read());
                known.ok_or_else(|| ClientError::Argument(format!("the cluster has no broker {broker}")))
            }
        }
    }

    /// Fetches metadata and keeps what they say, unless newer are known. `None` asks for all topics.
    pub(crate) async fn metadata(&self, topics: Option<Vec<TopicName>>) -> Result<MetadataResponse, ClientError> {
        // Asking twice does no harm, so here even an unknown outcome is tried again, once; and where others could answer, none is waited
        // for long.
        let request = MetadataRequest { topics };
        let (began, limit) = (Instant::now(), cut_short(self.options.request_timeout, self.options.deadline));
        let mut again = true;
        loop {
            let left = limit.saturating_sub(began.elapsed()).max(Duration::from_millis(1));
            let patience = if self.addresses().len() > 1 { left.min(OVERDUE) } else { left };
            let asked = async {
                let connection = self.any().await?;
                let said = self.noting_silence(&connection, connection.call_within(&request, patience).await)?;
                Ok(self.newest(&request, (connection.address().clone(), said)).await)
            };
            match asked.await {
                Ok(response) => {
                    self.learn(&response);
                    return Ok(response);
                }
                Err(ClientError::TimedOut { .. }) if began.elapsed() < limit => {}
                Err(error) if error.is_retriable() && again => again = false,
                Err(error) => return Err(error),
            }
            self.set_back();
        }
    }

    /// Keeps what a broker said, unless newer is known.
    fn learn(&self, response: &MetadataResponse) {
        let now = Instant::now();
        let mut known = self.known.write();
        // Of another cluster may be whoever was dialled before it was known which this is.
        if *self.pool.cluster(response.cluster_id) != response.cluster_id {
            return;
        }
        let is_known = known.cluster_id.is_some();
        if is_known && response.as_of <= known.as_of {
            self.set_back();
        }
        if is_known && response.as_of < known.as_of {
            return;
        }
        known.cluster_id = Some(response.cluster_id);
        known.as_of = response.as_of;
        known.brokers = response
            .brokers
            .iter()
            .map(|broker| {
                let address = Address { host: broker.host.clone(), port: broker.port };
                (broker.broker_id, Known { address, rack: broker.rack.clone() })
            })
            .collect();
        for name in &response.unknown {
            known.topics.remove(name.as_str());
        }
        for topic in &response.topics {
            let image = TopicImage::new(topic, now);
            let before = known.topics.get(&topic.name).cloned();
            for broker in before.iter().flat_map(|before| before.deposed_in(&image)) {
                if let Some(address) = known.brokers.get(&broker).map(|broker| broker.address.clone()) {
                    known.deposed.insert(address, now);
                }
            }
            known.topics.insert(topic.name.clone(), Arc::new(image));
        }
    }

    /// What is known of a topic; asks where nothing is, or what is has grown old.
    pub(crate) async fn topic(&self, name: &str) -> Result<Arc<TopicImage>, ClientError> {
        let known = self.known_topic(name);
        match known {
            Some(image) if image.as_of.elapsed() < self.options.metadata_max_age => Ok(image),
            Some(image) => self.refreshed(name, image.as_of).await,
            None => {
                let mut patience = Patience::repeating(&self.options);
                loop {
                    match self.fetch(name, None).await {
                        Ok(image) => return Ok(image),
                        Err(error) => patience.after(error).await?,
                    }
                }
            }
        }
    }

    /// What is known of a topic without asking.
    pub(crate) fn known_topic(&self, name: &str) -> Option<Arc<TopicImage>> {
        self.known.read().topics.get(name).cloned()
    }

    /// The name of the topic with this id; asks where it is not known.
    pub(crate) async fn topic_of(&self, id: TopicId) -> Result<TopicName, ClientError> {
        let known =
            |known: &Everything| known.topics.iter().find(|(_, image)| image.id == id).map(|(name, _)| name.clone());
        let name = known(&self.known.read());
        if let Some(name) = name {
            return Ok(name);
        }
        let all = self.metadata(None).await?.topics;
        let found = all.into_iter().find(|topic| topic.topic_id == id).map(|topic| topic.name);
        found.ok_or_else(|| ClientError::UnknownTopic { topic: id.to_string() })
    }

    /// What the cluster says of a topic now, unless somebody asked after `stale` already.
    pub(crate) async fn refreshed(&self, name: &str, stale: Instant) -> Result<Arc<TopicImage>, ClientError> {
        self.fetch(name, Some(stale)).await
    }

    async fn fetch(&self, name: &str, stale: Option<Instant>) -> Result<Arc<TopicImage>, ClientError> {
        let topic = topic_name(name)?;
        let _one_at_a_time = self.fetching.lock().await;
        if let Some(image) = self.known_topic(name)
            && stale.is_none_or(|stale| image.as_of > stale)
        {
            return Ok(image);
        }
        self.metadata(Some(vec![topic])).await?;
        self.known_topic(name).ok_or_else(|| ClientError::UnknownTopic { topic: name.into() })
    }

    /// Who leads a partition, as far as is known.
    pub(crate) fn leader(&self, topic: &TopicImage, partition: PartitionId) -> Result<Leader, ClientError> {
        let place = topic.partition(partition)?;
        let known = self.known.read();
        match place.leader.and_then(|leader| known.brokers.get(&leader)) {
            Some(known) => Ok(Leader { address: known.address.clone(), epoch: place.leader_epoch }),
            None => Err(ClientError::NoLeader { topic: topic.name.to_string(), partition }),
        }
    }

    /// A replica of a partition in this rack that keeps up with its leader, where the leader is elsewhere.
    pub(crate) fn nearby(&self, topic: &TopicImage, partition: PartitionId, rack: &str) -> Option<Leader> {
        let place = topic.partition(partition).ok()?;
        let known = self.known.read();
        let is_near =
            |broker: &BrokerId| known.brokers.get(broker).is_some_and(|known| known.rack.as_deref() == Some(rack));
        if place.leader.as_ref().is_some_and(is_near) {
            return None;
        }
        let near = place.in_sync.iter().find(|broker| is_near(broker))?;
        let address = known.brokers.get(near)?.address.clone();
        Some(Leader { address, epoch: place.leader_epoch })
    }
}
