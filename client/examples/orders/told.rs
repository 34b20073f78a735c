//! What the services' events tell: each as it stands in its topic, and what all of them come to. Knows nothing of databases.

use std::collections::BTreeMap;
use std::str::from_utf8;
use std::sync::Arc;

use parking_lot::Mutex;
use tidelog_client::saga::SagaInput;
use tidelog_client::{Client, ConsumeError, ConsumerRecord, NewTopic, Start};

use super::demo::Failure;
use super::order::Order;
use super::services::{SERVICES, Service};

const PARTITIONS: u32 = 3;

/// An event.
pub struct Told<'a> {
    pub from: &'static Service,
    pub kind: &'a str,
    /// Of the order.
    pub id: &'a str,
    pub order: Order,
}

/// How often a service told of an order what.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    pub done: u64,
    pub refused: u64,
    pub undone: u64,
    /// What was done and not undone, in the unit of the service.
    pub amount: i64,
}

impl Counts {
    /// How many events there are.
    pub const fn events(&self) -> u64 {
        self.done + self.refused + self.undone
    }
}

/// What all events come to: of each service, of each order.
#[derive(Clone, Default)]
pub struct Tally(Arc<Mutex<BTreeMap<&'static str, BTreeMap<String, Counts>>>>);

/// The topic of a service's events.
pub fn topic(shop: &str, service: &Service) -> String {
    format!("{shop}.{}", service.name)
}

/// Makes the topics of all events.
pub async fn create_topics(client: &Client, shop: &str) -> Result<(), Failure> {
    for service in &SERVICES {
        let topic = NewTopic::named(topic(shop, service)).partitions(PARTITIONS);
        client.admin().create_topic(&topic).await?;
    }
    Ok(())
}

impl<'a> Told<'a> {
    /// What a record says.
    pub fn of(record: &'a ConsumerRecord) -> Result<Self, Failure> {
        let service = record.topic().rsplit_once('.').map_or(record.topic(), |(_, service)| service);
        let kind = record.headers().find(|header| header.name() == "type").and_then(|header| header.value);
        Ok(Self {
            from: Service::named(service)?,
            kind: from_utf8(kind.ok_or("an event without a type")?)?,
            id: from_utf8(record.key.as_deref().ok_or("an event without an order")?)?,
            order: Order::decode(record.value.as_deref().ok_or("an event without what was ordered")?)?,
        })
    }
}

impl Tally {
    /// That of all events that are there.
    pub async fn of_all(client: &Client, shop: &str) -> Result<Self, Failure> {
        let tally = Self::default();
        let reader = client.consumer().start(Start::Beginning).until_end();
        let mut events = SERVICES.iter().fold(reader, |reader, from| reader.topic(topic(shop, from))).build().await?;
        while let Some(record) = events.next().await {
            tally.count(&Told::of(&record?)?);
        }
        Ok(tally)
    }

    /// Follows the events for as long as this is waited for.
    pub async fn follow(self, client: Client, shop: String) -> Failure {
        let reader = client.consumer().start(Start::Beginning);
        let reader = SERVICES.iter().fold(reader, |reader, from| reader.topic(topic(&shop, from)));
        let mut events = match reader.build().await {
            Ok(events) => events,
            Err(error) => return error.into(),
        };
        while let Some(record) = events.next().await {
            let record = match record {
                Ok(record) => record,
                // Where the brokers were away it goes on with what it knows.
                Err(ConsumeError::Client(error)) if error.is_retriable() => continue,
                Err(error) => return error.into(),
            };
            match Told::of(&record) {
                Ok(told) => self.count(&told),
                Err(error) => return error,
            }
        }
        "the events have ended".into()
    }

    fn count(&self, told: &Told<'_>) {
        let mut tally = self.0.lock();
        let counts = tally.entry(told.from.name).or_default().entry(told.id.into()).or_default();
        let amount = told.from.amount(&told.order);
        match told.kind {
            kind if kind == told.from.done => {
                counts.done += 1;
                counts.amount += amount;
            }
            kind if kind == told.from.undone => {
                counts.undone += 1;
                counts.amount -= amount;
            }
            _ => counts.refused += 1,
        }
    }

    /// What a service told, by order.
    pub fn told_by(&self, service: &Service) -> BTreeMap<String, Counts> {
        self.0.lock().get(service.name).cloned().unwrap_or_default()
    }

    /// What a service told, of all orders.
    pub fn total(&self, service: &Service) -> Counts {
        let tally = self.0.lock();
        let all = tally.get(service.name).into_iter().flat_map(BTreeMap::values);
        all.fold(Counts::default(), |sum, one| Counts {
            done: sum.done + one.done,
            refused: sum.refused + one.refused,
            undone: sum.undone + one.undone,
            amount: sum.amount + one.amount,
        })
    }
}
