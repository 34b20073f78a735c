//! How fast a relay publishes, and how long an event waits at a thousand a second, from SQLite and from PostgreSQL, over one broker: `outbox_rates [EVENTS]`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidelog_client::outbox::{Event, Outbox};
use tidelog_client::{Client, NewTopic, Start};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::outbox::database::{Home, ShopDatabase};

const TOPIC: &str = "outbox.event.order";
const RATE: u64 = 1_000;
const SECONDS: u64 = 10;

#[tokio::main]
async fn main() {
    let events = std::env::args().nth(1).map_or(200_000, |text| text.parse().expect("EVENTS is a number"));
    // SQLite has one writer at a time; in PostgreSQL a thousand commits a second are more than one connection has.
    measure::<sqlx::Sqlite>("SQLite", Home::sqlite(), events, 1).await;
    measure::<sqlx::Postgres>("PostgreSQL", Home::postgres(), events, 6).await;
}

async fn measure<DB: ShopDatabase>(name: &str, home: Home, events: u64, writers: u64) {
    let broker = BrokerProcess::start();
    let client = Client::connect(&broker.server()).await.expect("the broker answers");
    client.admin().create_topic(&NewTopic::named(TOPIC).partitions(3)).await.expect("the topic can be made");
    let pool = DB::open(&home.url()).await;
    let outbox = DB::outbox(&pool);
    outbox.migrate().await.expect("the tables can be made");

    for first in (0..events).step_by(500) {
        let mut transaction = DB::begin(&pool).await.expect("a transaction");
        for number in first..(first + 500).min(events) {
            stage::<DB>(&mut transaction, number, vec![b'x'; 200]).await;
        }
        transaction.commit().await.expect("it is committed");
    }
    let began = Instant::now();
    let published = outbox.relay(client.clone()).drain().await.expect("it can be published");
    let seconds = began.elapsed().as_secs_f64();
    println!("{name}: {published} events of 200 bytes in {seconds:.2} s: {:.0} events/s", published as f64 / seconds);

    let waits = lag::<DB>(&outbox, &client, &pool, writers).await;
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    println!(
        "{name}: at {RATE} events/s for {SECONDS} s, from before the commit to the consumer, ms: p50 {:.1}, p99 {:.1}, most {:.1}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

async fn stage<DB: ShopDatabase>(transaction: &mut sqlx::Transaction<'static, DB>, number: u64, payload: Vec<u8>) {
    let event = Event::of("order", format!("customer-{}", number % 1_000), "OrderPlaced").payload(payload);
    DB::stage(transaction, event).await.expect("it is staged");
}

/// How long each event took to the consumer, sorted, in milliseconds.
async fn lag<DB: ShopDatabase>(
    outbox: &Outbox<DB::Tables>,
    client: &Client,
    pool: &sqlx::Pool<DB>,
    writers: u64,
) -> Vec<f64> {
    let relay = tokio::spawn(outbox.relay(client.clone()).run(std::future::pending()));
    let mut consumer = client.consumer().topic(TOPIC).start(Start::End).build().await.expect("it can be read");
    let total = (RATE * SECONDS) as usize;
    let reading = tokio::spawn(async move {
        let mut waits = Vec::with_capacity(total);
        while waits.len() < total {
            let record = consumer.next().await.expect("it goes on").expect("it can be read");
            let value = record.value.as_deref().expect("it has a value");
            let sent = u64::from_be_bytes(value[..8].try_into().expect("eight bytes"));
            waits.push(now().saturating_sub(sent) as f64 / 1e6);
        }
        waits
    });
    // The relay has nothing of before, and the consumer is at the end.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let began = tokio::time::Instant::now();
    let mut writing = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let pool = pool.clone();
        writing.spawn(async move {
            for number in (writer..RATE * SECONDS).step_by(writers as usize) {
                tokio::time::sleep_until(began + Duration::from_micros(number * 1_000_000 / RATE)).await;
                let mut transaction = DB::begin(&pool).await.expect("a transaction");
                let payload = [&now().to_be_bytes()[..], &[b'x'; 192]].concat();
                stage::<DB>(&mut transaction, number, payload).await;
                transaction.commit().await.expect("it is committed");
            }
        });
    }
    writing.join_all().await;
    println!("{} events in {:.2} s by {writers} writers", RATE * SECONDS, began.elapsed().as_secs_f64());
    let mut waits = reading.await.expect("the reader ends");
    relay.abort();
    waits.sort_by(f64::total_cmp);
    waits
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64)
}
