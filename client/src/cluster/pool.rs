//! One connection per broker and purpose, opened when it is first needed and again after it ended. Knows nothing of who leads
//! what.

use std::sync::Arc;

use std::time::{Duration, Instant};

use foldhash::{HashMap, HashMapExt};
use parking_lot::Mutex;

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
}

impl Place {
    fn usable(&self) -> Option<Connection> {
        self.current.lock().as_ref().filter(|connection| !connection.is_leaving()).cloned()
    }
}

impl Pool {
    pub(super) fn new(greeting: Greeting) -> Self {
        Self { greeting, places: Mutex::new(HashMap::new()), shunned: Mutex::new(HashMap::new()) }
    }

    fn place(&self, address: &Address, purpose: Purpose) -> Arc<Place> {
        Arc::clone(self.places.lock().entry((address.clone(), purpose)).or_default())
    }

    pub(super) fn is_connected(&self, address: &Address, purpose: Purpose) -> bool {
        self.place(address, purpose).usable().is_some()
    }

    /// All connections that are open.
    pub(super) fn open(&self) -> Vec<Connection> {
        let places: Vec<Arc<Place>> = self.places.lock().values().cloned().collect();
        places.iter().filter_map(|place| place.usable()).collect()
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
        let _one_at_a_time = place.dialling.lock().await;
        if let Some(connection) = place.usable() {
            return Ok(connection);
        }
        let connection = net::connect(address, &self.greeting).await.inspect_err(|_| self.shun(address))?;
        let before = place.current.lock().replace(connection.clone());
        // Dropped without the lock: the last handle of a connection calls everyone who waits on it.
        drop(before);
        Ok(connection)
    }
}
