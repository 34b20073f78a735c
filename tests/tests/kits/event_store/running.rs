//! A broker of its own for each test, and what the tests store. Knows nothing of what is asserted.

use bytes::Bytes;
use tempfile::TempDir;
use tidelog_broker::config::{Advertise, PathText};
use tidelog_broker::{Broker, Config};
use tidelog_client::Client;
use tidelog_client::event_store::*;

/// A broker in this process.
pub struct Running {
    pub broker: Broker,
    _folder: TempDir,
}

impl Running {
    pub async fn start() -> Self {
        Self::advertised(Advertise::default()).await
    }

    /// Clients are told to dial this.
    pub async fn advertised(advertise: Advertise) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            admin_listen: "127.0.0.1:0".parse().unwrap(),
            data: PathText(folder.path().join("data")),
            disk_free_min_bytes: 0,
            advertise,
            ..Config::default()
        };
        Self { broker: Broker::start(config).await.unwrap(), _folder: folder }
    }

    /// A client with connections and knowledge of its own, as another process has.
    pub async fn client(&self) -> Client {
        Client::connect(&self.broker.address().to_string()).await.unwrap()
    }

    pub async fn store(&self, name: &str) -> EventStore {
        self.client().await.event_store(name).create(3, None).await.unwrap()
    }
}

pub fn event(text: &str) -> Vec<NewEvent> {
    vec![NewEvent::new("said", text.to_owned())]
}

pub fn texts(events: &[StoredEvent]) -> Vec<String> {
    events.iter().map(|event| String::from_utf8(event.payload.to_vec()).unwrap()).collect()
}

/// Cents on an account, which is never below zero.
#[derive(Clone, Default, Debug, PartialEq)]
pub struct Account(pub i64);

impl Aggregate for Account {
    type Event = i64;
    type Refusal = String;
    const STATE_SCHEMA: u16 = 1;

    fn apply(&mut self, moved: &i64) {
        self.0 += moved;
    }

    fn encode(moved: &i64) -> NewEvent {
        NewEvent::new("moved", moved.to_string())
    }

    fn decode(kind: &str, payload: &[u8]) -> Result<i64, BoxError> {
        match kind {
            "moved" => Ok(std::str::from_utf8(payload)?.parse()?),
            other => Err(format!("an account has no events {other:?}").into()),
        }
    }

    fn save(&self) -> Bytes {
        self.0.to_string().into()
    }

    fn restore(state: &[u8]) -> Result<Self, BoxError> {
        Ok(Self(std::str::from_utf8(state)?.parse()?))
    }
}

pub fn withdraw(amount: i64) -> impl FnMut(&Account) -> Result<Vec<i64>, String> + Send + 'static {
    move |account: &Account| {
        if account.0 < amount { Err(format!("{} are there", account.0)) } else { Ok(vec![-amount]) }
    }
}
