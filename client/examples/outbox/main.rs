//! A web shop whose orders and events never part, whoever is killed: a shop that takes orders, relays that publish them, and a warehouse that packs a parcel
//! for each, all of them processes of their own over three brokers.
//!
//! ```text
//! cargo build --bin tidelog-broker
//! cargo run -p tidelog-client --features outbox-sqlite,outbox-postgres --example outbox -- --chaos --duration 30s
//! ```
//!
//! `--chaos` kills the shop, relays, the warehouse and brokers again and again; `--seed N` does so in the same order; `--database URL` keeps the shop in a PostgreSQL; `--server
//! HOST:PORT` uses brokers that are there. `--stage-outside` takes away what the outbox is there for: events are written in a transaction of their own; the verdict
//! must be bad then.

#[path = "../demo/mod.rs"]
mod demo;
mod orders;
mod shop;
mod verdict;
mod warehouse;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use demo::arguments::Arguments;
use demo::cast::{Actor, orphaned};
use demo::chaos::Chaos;
use demo::cluster::Cluster;
use demo::timeline::Timeline;
use demo::{Failure, conclude};
use tidelog_client::outbox::{Outbox, Store};
use tidelog_client::sql::{open_postgres, open_sqlite};
use tidelog_client::{Client, NewTopic};

use orders::Database;

const TOPIC: &str = "outbox.event.order";
const USAGE: &str =
    "outbox [--chaos] [--seed N] [--duration 30s] [--database URL] [--server HOST:PORT] [--stage-outside]";

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = Arguments::of_process();
    let ended = match arguments.role().as_deref() {
        None => play(arguments).await,
        Some("shop") => tokio::select! {
            ended = shop::run(arguments) => ended.map(|()| true),
            () = orphaned() => Ok(true),
        },
        Some("relay") => relay(arguments).await.map(|()| true),
        Some("warehouse") => tokio::select! {
            ended = warehouse::run(arguments) => ended.map(|()| true),
            () = orphaned() => Ok(true),
        },
        Some(other) => Err(format!("there is no role {other}\n\n{USAGE}").into()),
    };
    conclude(ended)
}

/// A relay, until it is killed.
async fn relay(mut arguments: Arguments) -> Result<(), Failure> {
    let (server, database) = (arguments.required("--server")?, arguments.required("--database")?);
    let client = Client::connect(&server).await?;
    if database.starts_with("sqlite:") {
        publish(Outbox::sqlite(open_sqlite(&database).await?), client).await
    } else {
        publish(Outbox::postgres(open_postgres(&database).await?), client).await
    }
}

async fn publish<S: Store>(outbox: Outbox<S>, client: Client) -> Result<(), Failure> {
    // A short lease, since relays are killed all the time.
    Ok(outbox.relay(client).lease(Duration::from_secs(1)).batch_rows(50).run(orphaned()).await?)
}

/// The whole demo; true where the verdict is good.
async fn play(mut arguments: Arguments) -> Result<bool, Failure> {
    let (chaos, outside) = (arguments.switch("--chaos"), arguments.switch("--stage-outside"));
    let (seed, duration) = (arguments.seed()?, arguments.duration(Duration::from_secs(30))?);
    let (database, server) = (arguments.value("--database")?, arguments.value("--server")?);
    arguments.finish(USAGE)?;
    let folder = tempfile::tempdir()?;
    let cluster = if server.is_none() { Some(Cluster::start(folder.path())?) } else { None };
    let server = server.or(cluster.as_ref().map(|cluster| cluster.servers().to_owned())).unwrap_or_default();
    let database = database.unwrap_or_else(|| format!("sqlite:{}", folder.path().join("shop.db").display()));
    let warehouse = format!("sqlite:{}", folder.path().join("warehouse.db").display());
    println!(
        "A shop takes orders for {duration:?}; seed {seed}. Killed on the way: {}.",
        if chaos { "everybody" } else { "nobody" }
    );
    println!("An order in ten is undone, as the card is refused: nobody may hear of it.\n");
    let topic = NewTopic::named(TOPIC).partitions(3);
    Client::connect(&server).await?.admin().create_topic(&topic).await?;
    let shop = Database::open(&database).await?;
    shop.prepare().await?;
    warehouse::prepare(&warehouse).await?;

    let mut cast = cast(folder.path(), &server, &database, &warehouse, seed, outside)?;
    let mut timeline = Timeline::new(&["orders", "waiting", "parcels"], 1);
    let mut kills = Chaos::new(seed, chaos);
    let began = Instant::now();
    while began.elapsed() < duration {
        kills.moment(&mut cast, cluster.as_ref(), &mut timeline).await?;
        timeline.draw(&verdict::numbers(&shop, &warehouse).await?);
    }

    println!("\nThe shop closes; what is under way comes to rest.");
    cast[0].kill();
    let settled = verdict::wait_settled(&shop, &warehouse).await?;
    let verdict = verdict::judge(&shop, &warehouse).await?;
    timeline.draw(&verdict::numbers(&shop, &warehouse).await?);
    println!("\n{verdict}{}", kills.said());
    if !settled {
        println!("It did not come to rest within the time that it had.");
    }
    drop(cast);
    Ok(settled && verdict.is_good())
}

/// The processes; the shop first.
fn cast(
    folder: &Path,
    server: &str,
    database: &str,
    warehouse: &str,
    seed: u64,
    outside: bool,
) -> Result<Vec<Actor>, Failure> {
    let seed = seed.to_string();
    let log = |name: &str| folder.join(format!("{name}.log"));
    let mut shop = vec!["shop", "--database", database, "--seed", &seed];
    if outside {
        shop.push("--stage-outside");
    }
    let relay = ["relay", "--server", server, "--database", database];
    let packs = ["warehouse", "--server", server, "--database", warehouse];
    Ok(vec![
        Actor::start("shop", &shop, log("shop"))?,
        Actor::start("relay A", &relay, log("relay-a"))?,
        Actor::start("relay B", &relay, log("relay-b"))?,
        Actor::start("warehouse", &packs, log("warehouse"))?,
    ])
}
