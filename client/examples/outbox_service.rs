//! Takes orders: each is written with the event that tells of it, in one transaction, and a relay publishes the events.

use tidelog_client::outbox::{Event, Outbox, stage};
use tidelog_client::{Client, sql};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Takes one order: both rows are there, or neither.
pub async fn place_order(shop: &sqlx::SqlitePool, customer: &str, item: &str) -> Result<(), Failure> {
    let mut transaction = shop.begin_with("BEGIN IMMEDIATE").await?;
    let order = sqlx::query("INSERT INTO orders (customer, item) VALUES (?, ?)").bind(customer).bind(item);
    let number = order.execute(&mut *transaction).await?.last_insert_rowid();
    let placed = Event::of("order", customer, "OrderPlaced").payload(format!("{number} {item}"));
    stage(&mut transaction, placed).await?;
    Ok(transaction.commit().await?)
}

/// Opens the shop, takes these orders and publishes their events until `stop`.
pub async fn serve(
    database: &str,
    server: &str,
    orders: &[(&str, &str)],
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let shop = sql::open_sqlite(database).await?;
    sqlx::query("CREATE TABLE IF NOT EXISTS orders (customer TEXT NOT NULL, item TEXT NOT NULL)")
        .execute(&shop)
        .await?;
    let outbox = Outbox::sqlite(shop.clone());
    outbox.migrate().await?;
    for (customer, item) in orders {
        place_order(&shop, customer, item).await?;
    }
    let relay = outbox.relay(Client::connect(server).await?).create_topics(3);
    Ok(relay.run(stop).await?)
}

#[tokio::main]
#[allow(dead_code, reason = "a test calls the functions")]
async fn main() -> Result<(), Failure> {
    serve("sqlite:shop.db", "127.0.0.1:9092", &[("mia", "lamp"), ("mia", "bulb")], std::future::pending()).await
}
