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
//! must be bad then. So must it with `--commit-first`, which takes away what the sink is there for: the warehouse commits its offsets in the brokers before it packs, and
//! what it was killed over nobody packs.

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
const USAGE: &str = "\
outbox [FLAGS]

  --chaos                 kill shop, relays, warehouse and brokers again and again
  --seed N                do so in the same order as another time; another one each time if absent
  --duration 30s          for how long, in seconds (30s) or minutes (2m)
  --database URL          keep the shop in this PostgreSQL (postgres://USER@HOST/NAME) instead of a SQLite of its own
  --server HOST:PORT      use brokers that are there, instead of three of its own
  --stage-outside         a safety is switched off: events are written in a transaction of their own
  --commit-first          a safety is switched off: the warehouse commits its offsets before it packs
  --help                  show this";

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = Arguments::of_process();
    if arguments.switch("--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
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
    let chaos = arguments.switch("--chaos");
    let without = ["--stage-outside", "--commit-first"].into_iter().filter(|name| arguments.switch(name)).collect();
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

    let places = Places { folder: folder.path(), server: &server, database: &database, warehouse: &warehouse };
    let mut cast = cast(&places, seed, without)?;
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

/// Where everything is.
struct Places<'a> {
    folder: &'a Path,
    server: &'a str,
    database: &'a str,
    warehouse: &'a str,
}

/// The processes; the shop first. Each is told which safeties are switched off.
fn cast(places: &Places<'_>, seed: u64, without: Vec<&str>) -> Result<Vec<Actor>, Failure> {
    let Places { folder, server, database, warehouse } = places;
    let seed = seed.to_string();
    let log = |name: &str| folder.join(format!("{name}.log"));
    let shop = [&["shop", "--database", database, "--seed", &seed], &without[..]].concat();
    let relay = ["relay", "--server", server, "--database", database];
    let packs = [&["warehouse", "--server", server, "--database", warehouse], &without[..]].concat();
    Ok(vec![
        Actor::start("shop", &shop, log("shop"))?,
        Actor::start("relay A", &relay, log("relay-a"))?,
        Actor::start("relay B", &relay, log("relay-b"))?,
        Actor::start("warehouse", &packs, log("warehouse"))?,
    ])
}
