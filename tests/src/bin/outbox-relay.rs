//! A relay of an outbox as a process that can be killed, and that kills itself at a step where it is told to: the process ends there as by `kill -9`,
//! with nothing flushed, closed or said. Ends only by a signal, or with what it cannot go on after.
//!
//! `outbox-relay SERVERS DATABASE SHARDS LEASE_MS BATCH_ROWS [STEP TIME]`

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Signal, getpid, kill_process};
use tidelog_client::outbox::{Outbox, Step, Store};
use tidelog_client::sql::{open_postgres, open_sqlite};
use tidelog_tests::cluster::round::client;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let database = arguments.get(1).context("DATABASE")?;
    if database.starts_with("sqlite:") {
        run(Outbox::sqlite(open_sqlite(database).await?), &arguments).await
    } else {
        run(Outbox::postgres(open_postgres(database).await?), &arguments).await
    }
}

async fn run<S: Store>(outbox: Outbox<S>, arguments: &[String]) -> Result<()> {
    let servers = arguments.first().context("SERVERS")?;
    let number = |at: usize, name: &'static str| -> Result<u32> { Ok(arguments.get(at).context(name)?.parse()?) };
    let client = client().connect(servers).await?;
    let mut relay = outbox.relay(client).shards(number(2, "SHARDS")?).create_topics(3);
    relay = relay.lease(Duration::from_millis(number(3, "LEASE_MS")?.into())).batch_rows(number(4, "BATCH_ROWS")?);
    if let Some(name) = arguments.get(5) {
        let last = Step::ALL.into_iter().find(|step| format!("{step:?}") == *name).context("STEP")?;
        let (time, times) = (number(6, "TIME")?, AtomicU32::new(0));
        relay = relay.observer(move |_, step| {
            if step == last && times.fetch_add(1, Ordering::Relaxed) + 1 == time {
                let _ = kill_process(getpid(), Signal::KILL);
            }
        });
    }
    Ok(relay.run(std::future::pending()).await?)
}
