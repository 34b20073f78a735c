//! What sagas do in a second, over one broker, while their workers are killed: `saga_rates [SAGAS [SECONDS_BETWEEN_KILLS]]`.
//!
//! Sagas of four steps, of which one try in ten fails and one step in two hundred is refused, driven by two workers that are processes of their own; one of
//! them, in turn, is killed (`kill -9`) every so often and started again. In the end each saga must have ended, done or compensated, and how much memory a worker
//! took is said. What the steps did is not judged here: they do nothing.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tidelog_client::saga::*;
use tidelog_client::{Backoff, Client};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::process_figures::ProcessFigures;
use tokio::task::JoinSet;

const WORKERS: usize = 2;
const STEPS: [&str; 4] = ["order", "inventory", "payment", "shipping"];
/// Sagas that are started at once.
const STARTING: usize = 256;
/// No saga comes to an end for so long: something is wrong.
const PATIENCE: Duration = Duration::from_secs(120);

/// Fails by chance; refuses by what the saga is about, so that every try hears the same.
fn definition() -> Definition<String> {
    let backoff = Backoff { first: Duration::from_millis(50), max: Duration::from_secs(1) };
    let retry = RetryPolicy { attempts: 10, backoff };
    let mut definition = Definition::named("order");
    for (at, name) in (0..).zip(STEPS) {
        let step = Step::new(name, move |call: Call<String>| async move {
            let is_refused = call.input().parse().is_ok_and(|number: u64| number % 200 == at);
            match (is_refused, fastrand::u8(..10)) {
                (true, _) => Err(StepError::refused("as this saga wants")),
                (false, 0) => Err(StepError::failed("by chance")),
                (false, _) => Ok(""),
            }
        });
        let undoing = |_| async { if fastrand::u8(..10) == 0 { Err(StepError::failed("by chance")) } else { Ok(()) } };
        definition = definition.step(step.retry(retry).compensation(undoing).compensation_retry(retry));
    }
    definition.build().expect("it is one")
}

async fn open(server: &str) -> Sagas {
    let client = Client::connect(server).await.expect("the broker answers");
    Sagas::of(client.event_store("sagas").create(6, None).await.expect("the store opens"))
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, server] = &arguments[..]
        && role == "worker"
    {
        let definition = definition();
        let worker = open(server).await.worker().drives(&definition).session_timeout(Duration::from_secs(3));
        return worker.run(std::future::pending()).await.expect("the worker goes on");
    }
    let number = |at: usize| arguments.get(at).map(|text| text.parse().expect("a number"));
    let (sagas, between) = (number(0).unwrap_or(10_000), Duration::from_secs(number(1).unwrap_or(3)));
    let broker = BrokerProcess::start();
    let server = broker.server();
    let store = open(&server).await;

    let began = Instant::now();
    start(&store, sagas).await;
    println!("{sagas} sagas started in {:.1} s: {:.0} a second", began.elapsed().as_secs_f64(), rate(sagas, began));
    drive(&store, &server, sagas, between).await;
}

fn rate(count: u64, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64()
}

async fn start(store: &Sagas, sagas: u64) {
    let (definition, mut starting) = (definition(), JoinSet::new());
    for number in 0..sagas {
        if starting.len() >= STARTING {
            starting.join_next().await;
        }
        let (store, definition) = (store.clone(), definition.clone());
        starting.spawn(async move {
            let id = format!("saga-{number}");
            while let Err(error) = store.start(&definition, &id, &number.to_string()).await {
                assert!(error.is_retriable(), "{error}");
            }
        });
    }
    while let Some(started) = starting.join_next().await {
        started.expect("it is started");
    }
}

async fn drive(store: &Sagas, server: &str, sagas: u64, between: Duration) {
    let begin = || {
        let program = std::env::current_exe().expect("a process knows its executable");
        let mut command = Command::new(program);
        command.args(["worker", server]).stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it starts")
    };
    let began = Instant::now();
    let mut workers: Vec<Child> = (0..WORKERS).map(|_| begin()).collect();
    let (mut kills, mut memory, mut next) = (0, 0, began + between);
    let (mut left_before, mut moved) = (sagas as usize, Instant::now());
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let figures = workers.iter().filter_map(|worker| ProcessFigures::of(worker.id()));
        memory = figures.map(|figures| figures.anonymous_bytes).max().unwrap_or(0).max(memory);
        let left = store.list(|saga| !saga.phase.is_end()).await.expect("sagas can be listed").len();
        if left == 0 {
            break;
        }
        if left < left_before {
            (left_before, moved) = (left, Instant::now());
        }
        assert!(moved.elapsed() < PATIENCE, "{left} sagas do not end");
        if Instant::now() >= next {
            let victim = &mut workers[kills % WORKERS];
            victim.kill().and_then(|()| victim.wait()).expect("it can be killed");
            *victim = begin();
            kills += 1;
            next = Instant::now() + between;
        }
    }
    println!(
        "all ended after {:.1} s and {kills} kills: {:.0} a second; a worker took {} MiB at most",
        began.elapsed().as_secs_f64(),
        rate(sagas, began),
        memory >> 20
    );
    for mut worker in workers {
        worker.kill().and_then(|()| worker.wait().map(drop)).expect("it can be killed");
    }
    judge(store, sagas).await;
}

async fn judge(store: &Sagas, sagas: u64) {
    let all = store.list(|_| true).await.expect("sagas can be listed");
    let count = |phase| all.iter().filter(|listing| listing.saga.phase == phase).count() as u64;
    let attempts: u64 =
        all.iter().flat_map(|listing| &listing.saga.steps).map(|step| u64::from(step.action.attempts)).sum();
    let refused = (0..sagas).filter(|number| number % 200 < STEPS.len() as u64).count() as u64;
    let (done, compensated) = (count(Phase::Done), count(Phase::Compensated));
    println!("{done} done, {compensated} compensated, {attempts} tries of actions");
    assert_eq!(done + compensated, sagas, "each saga has ended, and none is lost");
    assert!(compensated >= refused, "{refused} were to be refused");
}
