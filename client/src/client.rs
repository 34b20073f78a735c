//! The handle that everything else hangs on, and how it is opened. Knows nothing of frames or partitions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::address::Addresses;
use crate::backoff::Backoff;
use crate::cluster::Cluster;
use crate::consumer::ConsumerBuilder;
use crate::group::GroupConsumerBuilder;
use crate::producer::ProducerBuilder;
use crate::transactions::TransactionalProducerBuilder;
use crate::{Admin, ClientError};

/// A handle on a cluster. Clones are cheap and share connections and metadata; the connections close once the last handle
/// (and every producer and consumer made from one) is gone.
///
/// It must be opened inside a Tokio runtime with time and IO enabled, and its tasks live on that runtime.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) cluster: Arc<Cluster>,
}

impl Client {
    /// Connects with default settings to a cluster of which at least one broker answers at `addresses`:
    /// `host:port` or several separated by commas. Brokers that answer but cannot serve yet are asked again for as long as
    /// [`ClientBuilder::request_timeout`] says.
    ///
    /// # Errors
    /// [`ClientError::Address`]; [`ClientError::Unreachable`], [`ClientError::Incompatible`] or [`ClientError::TimedOut`] of the
    /// last address tried, where none answered; [`ClientError::Broker`] where none could serve.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), tidelog_client::ClientError> {
    /// let client = tidelog_client::Client::connect("broker-1:9092,broker-2:9092").await?;
    /// println!("the broker has {}", client.admin().ping().await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(addresses: &str) -> Result<Self, ClientError> {
        Self::builder().connect(addresses).await
    }

    /// For settings other than the defaults.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Topics, offsets and state of the cluster.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(Arc::clone(&self.cluster))
    }

    /// Starts to describe a producer.
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder::new(Arc::clone(&self.cluster))
    }

    /// Starts to describe a producer of transactions. The id names it for as long as it is in use: of two that are built under one id the later
    /// one fences the earlier one, and what that had open is undone.
    pub fn transactional_producer(&self, transactional_id: impl Into<String>) -> TransactionalProducerBuilder {
        TransactionalProducerBuilder::new(Arc::clone(&self.cluster), transactional_id.into())
    }

    /// Starts to describe a consumer.
    pub fn consumer(&self) -> ConsumerBuilder {
        ConsumerBuilder::new(Arc::clone(&self.cluster))
    }

    /// Starts to describe a member of a group, which shares partitions with the others and remembers how far they have come.
    pub fn group(&self, group: impl Into<String>) -> GroupConsumerBuilder {
        GroupConsumerBuilder::new(Arc::clone(&self.cluster), group.into())
    }
}

/// Settings of a [`Client`].
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    pub(crate) client_id: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) deadline: Option<Instant>,
    pub(crate) keepalive: Duration,
    pub(crate) metadata_max_age: Duration,
    pub(crate) backoff: Backoff,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            client_id: String::new(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            deadline: None,
            keepalive: Duration::from_secs(3),
            metadata_max_age: Duration::from_secs(60),
            backoff: Backoff::DEFAULT,
        }
    }
}

impl ClientBuilder {
    /// Name of the application, as it shows in the broker's logs and metrics. Default: empty.
    #[must_use]
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = client_id.into();
        self
    }

    /// How long name resolution, TCP connect and the first exchange may take together, per address. Default: 5 s.
    #[must_use]
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long an answer is waited for, in whole milliseconds; also the deadline that the broker is told. A producer
    /// retries within its own delivery timeout. Default: 30 s.
    #[must_use]
    pub const fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// When everything that is asked through this client ends at the latest, connecting included: for a program that does one thing and must
    /// not take longer, whatever that takes in requests and tries. Default: never.
    #[must_use]
    pub const fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// After how much silence a connection is probed with a ping (half of it where streams are pushed over it), so that a half-open one and a
    /// broker that hangs are noticed: it is given up where no answer comes within as long again, or 10 s, and producers and consumers go on
    /// wherever the partition is led by then. They do so earlier where another broker says that it is led elsewhere: that is asked as soon
    /// as an answer is overdue, after 1.5 s, or a ping, after 0.5 s. (What is not idempotent waits, as it might be written twice.) Over a way
    /// that takes longer than this for one batch it should be more. Default: 3 s.
    #[must_use]
    pub const fn keepalive(mut self, keepalive: Duration) -> Self {
        self.keepalive = keepalive;
        self
    }

    /// After what time metadata are fetched anew though nothing failed, so that new partitions and limits are seen. Default:
    /// 1 min.
    #[must_use]
    pub const fn metadata_max_age(mut self, age: Duration) -> Self {
        self.metadata_max_age = age;
        self
    }

    /// The waits between tries. Default: [`Backoff::DEFAULT`].
    #[must_use]
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Connects, as [`Client::connect`].
    ///
    /// # Errors
    /// As [`Client::connect`]; [`ClientError::Argument`] for a timeout below 1 ms or beyond 49 days.
    pub async fn connect(self, addresses: &str) -> Result<Client, ClientError> {
        let addresses: Addresses = addresses.parse()?;
        for (name, value) in [("connect timeout", self.connect_timeout), ("request timeout", self.request_timeout)] {
            if value.as_millis() == 0 || value.as_millis() > u32::MAX.into() {
                return Err(ClientError::Argument(format!("a {name} of {value:?} is not within 1 ms and 49 days")));
            }
        }
        Ok(Client { cluster: Cluster::open(self, addresses).await? })
    }
}
