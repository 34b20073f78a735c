//! A shop of four services, each with a database of its own: an order is noted, its pieces reserved, paid for, and shipped, as a saga; where a card is refused or a street
//! is not found, all of that is undone. Clerk, workers and services are processes of their own over three brokers. At the end the four databases are compared with
//! what the sagas say.
//!
//! ```text
//! cargo build --bin tidelog-broker
//! cargo run -p tidelog-client --features saga,outbox-sqlite --example orders -- --chaos --duration 30s
//! ```
//!
//! `--chaos` kills clerk, workers, services and brokers again and again; `--seed N` does so in the same order; `--refusals N` has N of a hundred cards refused (and a quarter
//! as many streets not found); `--server HOST:PORT` uses brokers that are there. `--without-keys` has services be asked without idempotency keys, so that what is asked
//! again is done again: the verdict must be bad then.

mod clerk;
#[path = "../demo/mod.rs"]
mod demo;
mod fulfilment;
mod order;
mod picture;
mod service;
mod verdict;

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

use picture::{COLUMNS, Picture};
use service::{REST, SERVICES, ask};
use verdict::{Verdict, settled};

const WORKERS: usize = 2;
/// How long a service may take to come to rest.
const REST_MAX: Duration = Duration::from_secs(30);
const USAGE: &str =
    "orders [--chaos] [--seed N] [--duration 30s] [--refusals 20] [--server HOST:PORT] [--without-keys]";

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = Arguments::of_process();
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
    if role == "service" {
        return service::run(arguments).await;
    }
    let client = Client::connect(&arguments.required("--server")?).await?;
    let sagas = Sagas::of(client.event_store(arguments.required("--store")?).open().await?);
    match role {
        "clerk" => clerk::run(sagas, arguments).await,
        "worker" => fulfilment::work(sagas, arguments).await,
        other => Err(format!("there is no role {other}\n\n{USAGE}").into()),
    }
}

/// What was asked for.
struct Options {
    seed: u64,
    /// Of a hundred cards so many are refused.
    refusals: u8,
    without_keys: bool,
}

/// The whole demo; true where the verdict is good.
async fn play(mut arguments: Arguments) -> Result<bool, Failure> {
    let (is_chaotic, without_keys) = (arguments.switch("--chaos"), arguments.switch("--without-keys"));
    let (seed, duration) = (arguments.seed()?, arguments.duration(Duration::from_secs(30))?);
    let refusals = match arguments.value("--refusals")? {
        None => 20,
        Some(text) => text.parse().ok().filter(|of| *of <= 100).ok_or("--refusals is a number up to 100")?,
    };
    let server = arguments.value("--server")?;
    arguments.finish(USAGE)?;
    let folder = tempfile::tempdir()?;
    let cluster = if server.is_none() { Some(Cluster::start(folder.path())?) } else { None };
    let server = server.or(cluster.as_ref().map(|cluster| cluster.servers().to_owned())).unwrap_or_default();
    println!(
        "A shop of four services takes orders for {duration:?}, of which {refusals} in a hundred cannot be paid; seed {seed}. Killed on the way: {}. Switched off: {}.\n",
        if is_chaotic { "everybody" } else { "nobody" },
        if without_keys { "idempotency keys" } else { "nothing" },
    );
    // Brokers that are there may have seen a shop before.
    let name = format!("orders-{}", std::process::id());
    let store = Client::connect(&server).await?.event_store(&name).create(3, None).await?;
    let sagas = Sagas::of(store.clone());
    let options = Options { seed, refusals, without_keys };
    let mut cast = cast(folder.path(), &server, &name, &options)?;
    let picture = Picture::default();
    let mut following = tokio::spawn(picture.clone().follow(store));
    let mut timeline = Timeline::new(&COLUMNS, 1);
    let mut chaos = Chaos::new(seed, is_chaotic);
    let began = Instant::now();
    while began.elapsed() < duration {
        tokio::select! {
            moment = chaos.moment(&mut cast, cluster.as_ref(), &mut timeline) => moment?,
            ended = &mut following => return Err(ended?),
        }
        timeline.draw(&picture.numbers());
    }

    println!("\nThe clerk goes home; what is under way ends.");
    cast.remove(0).kill();
    let all = settled(&sagas, &mut cast).await?;
    timeline.draw(&picture.numbers());
    // Calls that somebody gave up waiting for arrive as well, before anything is judged.
    for (service, _) in SERVICES {
        tokio::time::timeout(REST_MAX, ask(folder.path(), service, REST)).await??;
    }
    let verdict = Verdict::of(&all, folder.path()).await?;
    println!("\n{verdict}{}", chaos.said());
    Ok(verdict.is_good())
}

/// The processes; the clerk first.
fn cast(folder: &Path, server: &str, store: &str, options: &Options) -> Result<Vec<Actor>, Failure> {
    let path = folder.display().to_string();
    let common = ["--server", server, "--store", store, "--folder", &path];
    let log = |name: &str| folder.join(format!("{name}.log"));
    let seed = options.seed.to_string();
    let mut cast = vec![Actor::start("clerk", &[&["clerk"], &common[..], &["--seed", &seed]].concat(), log("clerk"))?];
    for worker in 0..WORKERS {
        let name = format!("worker-{worker}");
        let mut arguments = [&["worker"], &common[..]].concat();
        arguments.extend(options.without_keys.then_some("--without-keys"));
        cast.push(Actor::start(&name, &arguments, log(&name))?);
    }
    for (service, _) in SERVICES {
        let refusals = match service {
            "payment" => options.refusals,
            "shipping" => options.refusals / 4,
            _ => 0,
        };
        let refusals = refusals.to_string();
        let arguments = ["service", "--folder", &path, "--name", service, "--refusals", &refusals];
        cast.push(Actor::start(service, &arguments, log(service))?);
    }
    Ok(cast)
}
