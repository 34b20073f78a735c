//! Keeps the stock of a shop as events: what is there follows from what came and went, and a command decides on it.

use tidelog_client::Client;
use tidelog_client::event_store::{Aggregate, BoxError, ExecuteError, Executed, NewEvent, Repository};

/// How many pieces of an item there are.
#[derive(Clone, Default)]
pub struct Item(pub i64);

impl Aggregate for Item {
    type Event = i64;
    type Refusal = String;

    fn apply(&mut self, moved: &i64) {
        self.0 += moved;
    }

    fn encode(moved: &i64) -> NewEvent {
        NewEvent::new("moved", moved.to_string())
    }

    fn decode(_: &str, payload: &[u8]) -> Result<i64, BoxError> {
        Ok(std::str::from_utf8(payload)?.parse()?)
    }
}

/// Reserves pieces for an order: once, however often it is asked for, and never more than there are, whoever else reserves.
pub async fn reserve(
    items: &Repository<Item>,
    item: &str,
    order: &str,
    pieces: i64,
) -> Result<Executed, ExecuteError<String>> {
    let decide =
        move |item: &Item| if item.0 < pieces { Err(format!("{} are left", item.0)) } else { Ok(vec![-pieces]) };
    items.execute_once(item, order, decide).await
}

/// Opens the stock, with a delivery of ten lamps that came once.
pub async fn open(server: &str) -> Result<Repository<Item>, BoxError> {
    let store = Client::connect(server).await?.event_store("stock").create(12, None).await?;
    let items = store.repository::<Item>();
    items.execute_once("lamp", "delivery-1", |_| Ok(vec![10])).await?;
    Ok(items)
}

#[tokio::main]
#[allow(dead_code, reason = "a test calls the functions")]
async fn main() -> Result<(), BoxError> {
    let items = open("127.0.0.1:9092").await?;
    println!("{:?}", reserve(&items, "lamp", "order-1", 2).await);
    println!("{} are left", items.load("lamp").await?.state.0);
    Ok(())
}
