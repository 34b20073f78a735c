//! What the demo itself sees of the shop, in either style: numbers for the timeline while it goes on, and how each order ended. Knows nothing of processes.

use std::path::Path;
use std::time::Duration;

use tidelog_client::Client;
use tidelog_client::event_store::EventStore;
use tidelog_client::saga::Sagas;
use tokio::task::JoinHandle;

use super::books::Books;
use super::demo::Failure;
use super::demo::cast::Actor;
use super::ends::{self, Ended};
use super::ledger;
use super::picture::{COLUMNS, Picture};
use super::service::{REST, ask};
use super::services::{SERVICES, Service};
use super::style::Style;
use super::told::{Tally, create_topics};

/// How long a service may take to come to rest.
const REST_MAX: Duration = Duration::from_secs(30);

/// Who sees it.
pub enum Watch {
    /// What the sagas say.
    Sagas(EventStore, Picture),
    /// What the order service says, and the events of all services.
    Events(Books, Tally),
}

impl Watch {
    /// Prepares what the shop needs in the cluster and in its folder.
    pub async fn prepare(style: Style, client: &Client, shop: &str, folder: &Path) -> Result<Self, Failure> {
        create_topics(client, shop).await?;
        match style {
            Style::Orchestration(_) => {
                Ok(Self::Sagas(client.event_store(shop).create(3, None).await?, Picture::default()))
            }
            Style::Choreography(_) => {
                let books = Books::open(folder, Service::named("order")?).await?;
                ledger::migrate(&books.pool).await?;
                Ok(Self::Events(books, Tally::default()))
            }
        }
    }

    /// Follows what happens; ends only where it cannot.
    pub fn follow(&self, client: &Client, shop: &str) -> JoinHandle<Failure> {
        match self {
            Self::Sagas(store, picture) => tokio::spawn(picture.clone().follow(store.clone())),
            Self::Events(_, tally) => tokio::spawn(tally.clone().follow(client.clone(), shop.into())),
        }
    }

    /// The columns of [`Watch::numbers`], the second of which is what is under way.
    pub const fn columns(&self) -> [&'static str; 6] {
        match self {
            Self::Sagas(..) => COLUMNS,
            Self::Events(..) => ["orders", "under way", "shipped", "undone", "refused", "refunded"],
        }
    }

    pub fn numbers(&self) -> [u64; 6] {
        match self {
            Self::Sagas(_, picture) => picture.numbers(),
            Self::Events(_, tally) => {
                let [order, inventory, payment, shipping] = SERVICES.each_ref().map(|service| tally.total(service));
                let under_way = order.done.saturating_sub(shipping.done + order.undone);
                let refused = inventory.refused + payment.refused + shipping.refused;
                [order.done, under_way, shipping.done, order.undone, refused, payment.undone]
            }
        }
    }

    /// Waits until nothing is under way: how each order ended.
    pub async fn settled(&self, folder: &Path, cast: &mut [Actor]) -> Result<Vec<Ended>, Failure> {
        match self {
            Self::Sagas(store, _) => {
                let all = ends::of_sagas(&Sagas::of(store.clone()), cast).await?;
                // Calls that somebody gave up waiting for arrive as well, before anything is judged.
                for service in &SERVICES {
                    tokio::time::timeout(REST_MAX, ask(folder, service.name, REST)).await??;
                }
                Ok(all)
            }
            Self::Events(books, tally) => ends::of_ledger(books, tally, cast).await,
        }
    }
}
