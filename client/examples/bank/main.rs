//! A bank whose accounts are streams of events: tellers send money to and fro between few accounts, so that their commands conflict; a clearing brings it to where
//! it was sent; a view has the balances in SQLite. All of them are processes of their own over three brokers. At the end everything is read from the
//! beginning and judged, the view is dropped and rebuilt, and money is conserved, or not.
//!
//! ```text
//! cargo build --bin tidelog-broker
//! cargo run -p tidelog-client --features event-store,outbox-sqlite --example bank -- --chaos --duration 30s
//! ```
//!
//! `--chaos` kills tellers, clearing, view and brokers again and again; `--seed N` does so in the same order; `--server HOST:PORT` uses brokers that are there.
//! `--without-version` has tellers append whatever the version is by then, `--without-command-ids` has the clearing forget which transfers it has brought: the
//! verdict must be bad then.

mod account;
#[path = "../demo/mod.rs"]
mod demo;
mod followers;
mod teller;
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
use tidelog_client::event_store::{Aggregate, AppendError, EventStore, Version};

use account::{Account, Moved, name};
use followers::Balances;

const OPENED_WITH: i64 = 1_000;
const ACCOUNTS: usize = 6;
const TELLERS: usize = 4;
const USAGE: &str = "\
bank [FLAGS]

  --chaos                 kill tellers, clearing, view and brokers again and again
  --seed N                do so in the same order as another time; another one each time if absent
  --duration 30s          for how long, in seconds (30s) or minutes (2m)
  --server HOST:PORT      use brokers that are there, instead of three of its own
  --without-version       a safety is switched off: tellers do not say on which version they decided
  --without-command-ids   a safety is switched off: the clearing does not name its commands
  --help                  show this";

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = Arguments::of_process();
    if arguments.switch("--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let role = arguments.role();
    let ended = match role.as_deref() {
        None => play(arguments).await,
        Some(role) => tokio::select! {
            ended = act(role, arguments) => ended.map(|()| true),
            () = orphaned() => Ok(true),
        },
    };
    conclude(ended)
}

/// One of the processes, until it is killed.
async fn act(role: &str, mut arguments: Arguments) -> Result<(), Failure> {
    let client = Client::connect(&arguments.required("--server")?).await?;
    let store = client.event_store(arguments.required("--store")?).open().await?;
    match role {
        "teller" => teller::run(store, arguments).await,
        "clearing" => followers::clear(store, arguments).await,
        "view" => followers::view(store, arguments).await,
        other => Err(format!("there is no role {other}\n\n{USAGE}").into()),
    }
}

/// What was asked for.
struct Options {
    chaos: bool,
    seed: u64,
    duration: Duration,
    /// Safeties that are switched off.
    without: Vec<&'static str>,
}

/// The whole demo; true where the verdict is good.
async fn play(mut arguments: Arguments) -> Result<bool, Failure> {
    let options = Options {
        chaos: arguments.switch("--chaos"),
        seed: arguments.seed()?,
        duration: arguments.duration(Duration::from_secs(30))?,
        without: ["--without-version", "--without-command-ids"]
            .into_iter()
            .filter(|name| arguments.switch(name))
            .collect(),
    };
    let server = arguments.value("--server")?;
    arguments.finish(USAGE)?;
    let folder = tempfile::tempdir()?;
    let cluster = if server.is_none() { Some(Cluster::start(folder.path())?) } else { None };
    let server = server.or(cluster.as_ref().map(|cluster| cluster.servers().to_owned())).unwrap_or_default();
    println!(
        "{TELLERS} tellers send money between {ACCOUNTS} accounts of {OPENED_WITH} for {:?}; seed {}. Killed on the way: {}. Switched off: {}.\n",
        options.duration,
        options.seed,
        if options.chaos { "everybody" } else { "nobody" },
        if options.without.is_empty() { "nothing".into() } else { options.without.join(", ") },
    );
    // Brokers that are there may have seen a bank before.
    let name = format!("bank-{}", std::process::id());
    let store = Client::connect(&server).await?.event_store(&name).create(3, None).await?;
    open_accounts(&store).await?;
    let mut cast = cast(folder.path(), &server, &name, &options)?;
    let balances = Balances::open(&folder.path().join("view.db")).await?;
    let mut timeline = Timeline::new(&["sent", "arrived", "under way"], 2);
    let mut chaos = Chaos::new(options.seed, options.chaos);
    let began = Instant::now();
    while began.elapsed() < options.duration {
        chaos.moment(&mut cast, cluster.as_ref(), &mut timeline).await?;
        timeline.draw(&balances.numbers().await?);
    }

    println!("\nThe tellers go home; what is under way arrives.");
    cast.drain(..TELLERS).for_each(|mut teller| teller.kill());
    let mut verdict = verdict::settled(&store, folder.path(), &mut cast).await?;
    verdict.compare("the view", &balances, &mut cast).await?;
    timeline.draw(&balances.numbers().await?);
    println!("The view is dropped and rebuilt.");
    if let Some(view) = cast.last_mut() {
        view.kill();
        balances.drop_all().await?;
        timeline.draw(&balances.numbers().await?);
        view.restart()?;
    }
    verdict.compare("the view that was rebuilt", &balances, &mut cast).await?;
    timeline.draw(&balances.numbers().await?);
    println!("\n{verdict}{}", chaos.said());
    Ok(verdict.is_good())
}

async fn open_accounts(store: &EventStore) -> Result<(), Failure> {
    for id in (0..ACCOUNTS).map(name) {
        let opened = vec![Account::encode(&Moved::Opened { cents: OPENED_WITH })];
        match store.append_once(&id, "open", Version::NONE, opened).await {
            Ok(_) => {}
            Err(AppendError::InDoubt(why)) => return Err(format!("the brokers do not answer: {why}").into()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The processes: tellers, the clearing, the view.
fn cast(folder: &Path, server: &str, name: &str, options: &Options) -> Result<Vec<Actor>, Failure> {
    let path = folder.display().to_string();
    let common = ["--server", server, "--store", name, "--folder", &path];
    let start = |actor: String, role: &str, seed: u64| {
        let seed = seed.to_string();
        let mut arguments = [&[role], &common[..], &["--name", &actor, "--seed", &seed]].concat();
        arguments.extend(&options.without);
        Actor::start(&actor, &arguments, folder.join(format!("{actor}.log")))
    };
    let mut cast = Vec::new();
    for teller in 0..TELLERS {
        cast.push(start(format!("teller-{teller}"), "teller", options.seed.wrapping_add(teller as u64))?);
    }
    cast.push(start("clearing".into(), "clearing", 0)?);
    cast.push(start("view".into(), "view", 0)?);
    Ok(cast)
}
