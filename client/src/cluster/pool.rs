//! One connection per broker and purpose, opened when it is first needed and again after it ended. Knows nothing of who leads
//! what.

use std::sync::Arc;

use std::time::{Duration, Instant};

use foldhash::{HashMap, HashMapExt};
use parking_lot::Mutex;
use tidelog_protocol::ClusterId;

use super::dial::Dial;
use crate::ClientError;
use crate::address::Address;
use crate::net::{self, Connection, Greeting};

/// What a connection is for. Streams have their own, so that an answer to a small request never stands in a queue behind
/// megabytes of pushed records.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Purpose {
    /// Requests and produce.
    Requests,
    /// Subscriptions.
    Streams,
    /// Requests that are meant to wait for long, and must not keep others waiting meanwhile.
    Waits,
}

/// The connections.
pub(super) struct Pool {
    greeting: Greeting,
    places: Mutex<HashMap<(Address, Purpose), Arc<Place>>>,
    /// Where nobody answered, and when.
    shunned: Mutex<HashMap<Address, Instant>>,
}

/// Who did not answer is asked last for so long.
const SHUNNED_FOR: Duration = Duration::from_secs(10);

/// Where one connection is kept.
#[derive(Default)]
struct Place {
    current: Mutex<Option<Connection>>,
    /// Held while dialling, so that a hundred who need the same broker dial once.
    dialling: tokio::sync::Mutex<()>,
    /// The dial under way, for those who look whether it takes long.
    dial: Mutex<Option<Dial>>,
    /// How the last dial failed, and when.
    failed: Mutex<Option<(Instant, ClientError)>>,
}

impl Place {
    fn usable(&self) -> Option<Connection> {
        self.current.lock().as_ref().filter(|connection| !connection.is_leaving()).cloned()
    }

    /// Why a dial failed that has ended since.
    fn failed_since(&self, since: Instant) -> Option<ClientError> {
        self.failed.lock().as_ref().filter(|(at, _)| *at > since).map(|(_, error)| error.clone())
    }

    async fn dial(&self, address: &Address, greeting: &Greeting) -> Result<Connection, ClientError> {
        let under_way = Dial::begin(address);
        *self.dial.lock() = Some(under_way.clone());
        let _over = Over(self);
        let dialled = under_way.unless_given_up(net::connect(address, greeting)).await;
        if let Err(error) = &dialled {
            *self.failed.lock() = Some((Instant::now(), error.clone()));
        }
        dialled
    }
}

/// A dial ends with whoever waits for it, too.
struct Over<'a>(&'a Place);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        drop(self.0.dial.lock().take());
    }
}

impl Pool {
    pub(super) fn new(greeting: Greeting) -> Self {
        Self { greeting, places: Mutex::new(HashMap::new()), shunned: Mutex::new(HashMap::new()) }
    }

    /// The cluster that is talked to: this one, where none was before.
    pub(super) fn cluster(&self, heard: ClusterId) -> &ClusterId {
        self.greeting.cluster.get_or_init(|| heard)
    }

    fn place(&self, address: &Address, purpose: Purpose) -> Arc<Place> {
        Arc::clone(self.places.lock().entry((address.clone(), purpose)).or_default())
    }

    pub(super) fn is_connected(&self, address: &Address, purpose: Purpose) -> bool {
        self.place(address, purpose).usable().is_some()
    }

    /// All connections that are open.
    pub(super) fn open(&self) -> Vec<Connection> {
        self.all_places().iter().filter_map(|place| place.usable()).collect()
    }

    /// All dials that are under way.
    pub(super) fn dials(&self) -> Vec<Dial> {
        self.all_places().iter().filter_map(|place| place.dial.lock().clone()).collect()
    }

    fn all_places(&self) -> Vec<Arc<Place>> {
        self.places.lock().values().cloned().collect()
    }

    /// Nobody answers at `address`: others are to be asked before it for a while.
    pub(super) fn shun(&self, address: &Address) {
        self.shunned.lock().insert(address.clone(), Instant::now());
    }

    pub(super) fn is_shunned(&self, address: &Address) -> bool {
        self.shunned.lock().get(address).is_some_and(|since| since.elapsed() < SHUNNED_FOR)
    }

    /// The open connection to `address`, or a new one.
    pub(super) async fn connection(&self, address: &Address, purpose: Purpose) -> Result<Connection, ClientError> {
        let place = self.place(address, purpose);
        if let Some(connection) = place.usable() {
            return Ok(connection);
        }
        let since = Instant::now();
        let _one_at_a_time = place.dialling.lock().await;
        if let Some(connection) = place.usable() {
            return Ok(connection);
        }
        // Who waited for a dial that failed does not begin another: of a hundred the last would wait a hundred times as long.
        if let Some(error) = place.failed_since(since) {
            return Err(error);
        }
        let connection = place.dial(address, &self.greeting).await.inspect_err(|_| self.shun(address))?;
        let before = place.current.lock().replace(connection.clone());
        // Dropped without the lock: the last handle of a connection calls everyone who waits on it.
        drop(before);
        Ok(connection)
    }
}
