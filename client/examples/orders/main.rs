//! A shop of four services, each with a database of its own: an order is noted, its pieces reserved, paid for, and shipped; where a card is refused or a street
//! is not found, all of that is undone. Clerk, services and, where there are any, workers are processes of their own over three brokers. At the end the four databases
//! are compared with each other and with the events in which the services tell what they did, each by its outbox.
//!
//! ```text
//! cargo build --bin tidelog-broker
//! cargo run -p tidelog-client --features saga,outbox-sqlite --example orders -- --chaos --duration 30s
//! cargo run -p tidelog-client --features saga,outbox-sqlite --example orders -- --choreography --chaos --duration 30s
//! ```
//!
//! The same services work in two styles. In an *orchestration* a saga for each order asks one after the other, and asks those that did their part to
//! undo it where a later one refuses. In a *choreography* nobody asks: each service reacts to the events of the one before it by doing its part, and to those of the
//! one behind it, where that refused or took back its own, by taking back its part.
//!
//! `--chaos` kills clerk, workers, services and brokers again and again; `--seed N` does so in the same order; `--refusals N` has N of a hundred cards refused (and a quarter
//! as many streets not found); `--server HOST:PORT` uses brokers that are there. `--without-keys` has services be asked without idempotency keys, so that what is asked
//! again is done again, and `--choreography --without-inbox` has them react again to an event that comes again: the verdict must be bad then.

mod books;
mod choreography;
mod clerk;
#[path = "../demo/mod.rs"]
mod demo;
mod ends;
mod fulfilment;
mod ledger;
mod order;
mod picture;
mod service;
mod services;
mod style;
mod told;
mod verdict;
mod watch;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use demo::arguments::Arguments;
use demo::cast::{Actor, orphaned};
use demo::chaos::Chaos;
use demo::cluster::Cluster;
use demo::timeline::Timeline;
use demo::{Failure, conclude};
use tidelog_client::Client;
use tidelog_client::saga::Sagas;

use books::Books;
use choreography::Listener;
use clerk::Desk;
use fulfilment::fulfilment;
use services::{SERVICES, Service};
use style::Style;
use verdict::Verdict;
use watch::Watch;

const WORKERS: usize = 2;
const USAGE: &str = "\
orders [FLAGS]

  --choreography          services react to each other's events; if absent, a saga asks them one after the other
  --chaos                 kill clerk, workers, services and brokers again and again
  --seed N                do so in the same order as another time; another one each time if absent
  --duration 30s          for how long, in seconds (30s) or minutes (2m)
  --refusals 20           of a hundred cards so many are refused
  --server HOST:PORT      use brokers that are there, instead of three of its own
  --without-keys          a safety is switched off: services are asked without idempotency keys
  --without-inbox         a safety is switched off, with --choreography: services have no inbox
  --help                  show this";

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = Arguments::of_process();
    if arguments.switch("--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let role = arguments.role();
    conclude(match role.as_deref() {
        None => play(arguments).await,
        Some(role) => tokio::select! {
            ended = act(role, arguments) => ended.map(|()| true),
            () = orphaned() => Ok(true),
        },
    })
}

/// One of the processes, until it is killed.
async fn act(role: &str, mut arguments: Arguments) -> Result<(), Failure> {
    let client = Client::connect(&arguments.required("--server")?).await?;
    let (shop, folder) = (arguments.required("--shop")?, arguments.required("--folder")?);
    let (folder, style) = (Path::new(&folder), Style::of(&mut arguments)?);
    match (role, style) {
        ("clerk", Style::Orchestration(keys)) => {
            let sagas = Sagas::of(client.event_store(shop).open().await?);
            clerk::run(Desk::Sagas(sagas, fulfilment(folder, keys)?), folder, arguments).await
        }
        ("clerk", Style::Choreography(_)) => {
            let books = Books::open(folder, Service::named("order")?).await?;
            clerk::run(Desk::Books(books), folder, arguments).await
        }
        ("worker", Style::Orchestration(keys)) => {
            let sagas = Sagas::of(client.event_store(shop).open().await?);
            fulfilment::work(sagas, fulfilment(folder, keys)?).await
        }
        ("service", _) => {
            let service = Service::named(&arguments.required("--name")?)?;
            let books = Books::open(folder, service).await?.refusing(arguments.required("--refusals")?.parse()?);
            serve(books, style, client, &shop, folder).await
        }
        (other, _) => Err(format!("there is no role {other}\n\n{USAGE}").into()),
    }
}

/// A service, which publishes what it tells by itself.
async fn serve(books: Books, style: Style, client: Client, shop: &str, folder: &Path) -> Result<(), Failure> {
    let publishing = books.publish(client.clone(), shop);
    let working = async {
        match style {
            Style::Orchestration(_) => service::run(books.clone(), folder).await,
            Style::Choreography(inbox) => Listener { books: books.clone(), inbox }.run(&client, shop).await,
        }
    };
    tokio::try_join!(publishing, working).map(drop)
}

/// What was asked for.
struct Options {
    seed: u64,
    /// Of a hundred cards so many are refused.
    refusals: u8,
    style: Style,
}

impl Options {
    fn of(arguments: &mut Arguments) -> Result<Self, Failure> {
        let refusals = match arguments.value("--refusals")? {
            None => 20,
            Some(text) => text.parse().ok().filter(|of| *of <= 100).ok_or("--refusals is a number up to 100")?,
        };
        Ok(Self { seed: arguments.seed()?, refusals, style: Style::of(arguments)? })
    }
}

/// The whole demo; true where the verdict is good.
async fn play(mut arguments: Arguments) -> Result<bool, Failure> {
    let (is_chaotic, options) = (arguments.switch("--chaos"), Options::of(&mut arguments)?);
    let (duration, server) = (arguments.duration(Duration::from_secs(30))?, arguments.value("--server")?);
    arguments.finish(USAGE)?;
    let folder = tempfile::tempdir()?;
    let cluster = if server.is_none() { Some(Cluster::start(folder.path())?) } else { None };
    let server = server.or(cluster.as_ref().map(|cluster| cluster.servers().to_owned())).unwrap_or_default();
    let Options { seed, refusals, style } = options;
    println!(
        "A shop of four services takes orders for {duration:?}, of which {refusals} in a hundred cannot be paid; seed {seed}. {}. Killed on the way: {}. Switched off: {}.\n",
        style.told(),
        if is_chaotic { "everybody" } else { "nobody" },
        style.switched_off(),
    );
    // Brokers that are there may have seen a shop before.
    let shop = format!("orders-{}", std::process::id());
    let client = Client::connect(&server).await?;
    let watch = Watch::prepare(style, &client, &shop, folder.path()).await?;
    let mut cast = cast(folder.path(), &server, &shop, &options)?;
    let mut following = watch.follow(&client, &shop);
    let mut timeline = Timeline::new(&watch.columns(), 1);
    let mut chaos = Chaos::new(seed, is_chaotic);
    let began = Instant::now();
    while began.elapsed() < duration {
        tokio::select! {
            moment = chaos.moment(&mut cast, cluster.as_ref(), &mut timeline) => moment?,
            ended = &mut following => return Err(ended?),
        }
        timeline.draw(&watch.numbers());
    }

    println!("\nThe clerk goes home; what is under way ends.");
    cast.remove(0).kill();
    let orders = watch.settled(folder.path(), &mut cast).await?;
    timeline.draw(&watch.numbers());
    let verdict = Verdict::of(&orders, folder.path(), &client, &shop).await?;
    println!("\n{verdict}{}", chaos.said());
    Ok(verdict.is_good())
}

/// The processes; the clerk first.
fn cast(folder: &Path, server: &str, shop: &str, options: &Options) -> Result<Vec<Actor>, Failure> {
    let path = folder.display().to_string();
    let common = [&["--server", server, "--shop", shop, "--folder", &path], options.style.words()].concat();
    let log = |name: &str| folder.join(format!("{name}.log"));
    let seed = options.seed.to_string();
    let mut cast = vec![Actor::start("clerk", &[&["clerk"], &common[..], &["--seed", &seed]].concat(), log("clerk"))?];
    if matches!(options.style, Style::Orchestration(_)) {
        for worker in 0..WORKERS {
            let name = format!("worker-{worker}");
            cast.push(Actor::start(&name, &[&["worker"], &common[..]].concat(), log(&name))?);
        }
    }
    for service in &SERVICES {
        let refusals = match service.name {
            "shipping" => options.refusals / 4,
            _ => options.refusals,
        };
        let refusals = refusals.to_string();
        let own = ["--name", service.name, "--refusals", &refusals];
        cast.push(Actor::start(service.name, &[&["service"], &common[..], &own].concat(), log(service.name))?);
    }
    Ok(cast)
}
