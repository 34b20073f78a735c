//! A member of the pipeline of `tests/transactions/pipeline.rs`, as a process that can be killed: reads as a member of a group, makes two records of each, and
//! commits both and its offsets in one transaction; notes when it asks for that. Ends only by a signal, or with what it cannot go on after.
//!
//! `pipeline-member SERVERS GROUP TRANSACTIONAL_ID INPUT OUTPUT PARTITIONS NOTES`

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use tidelog_client::{ExactlyOnceOptions, PartitionId, Record, SendError, Start};
use tidelog_tests::cluster::round::client;
use tidelog_tests::pipeline::asked::{Listener, Notes};
use tidelog_tests::pipeline::job::{Half, Made};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |name: &'static str| arguments.next().context(name);
    let (servers, group) = (argument("SERVERS")?, argument("GROUP")?);
    let (transactional_id, input, output) = (argument("TRANSACTIONAL_ID")?, argument("INPUT")?, argument("OUTPUT")?);
    let partitions: u32 = argument("PARTITIONS")?.parse()?;
    let notes: &'static Notes = Box::leak(Box::new(Notes::open(Path::new(&argument("NOTES")?))?));
    tracing::subscriber::set_global_default(Listener(notes))?;
    let client = client().connect(&servers).await.context("to connect")?;
    let builder = client.group(&group).topics([input.as_str()]).start(Start::Beginning);
    let consumer = builder.session_timeout(Duration::from_secs(3)).build().await.context("to join the group")?;
    let builder = client.transactional_producer(&transactional_id).transaction_timeout(Duration::from_secs(5));
    let producer = builder.build().await.context("to begin as a producer")?;
    // No other process, and no earlier life of this one, has the same.
    let born = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
    let life = format!("{transactional_id}.{}.{born}", std::process::id());
    let tries = AtomicU64::new(0);
    let options = ExactlyOnceOptions::default().records(50);
    let work = producer.exactly_once_with(consumer, options, std::future::pending(), |record, transaction| {
        let attempt = format!("{life}.{}", tries.fetch_add(1, Ordering::Relaxed));
        notes.tries(&attempt);
        let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
        let input = value.split(' ').next().unwrap_or_default().to_owned();
        let output = output.clone();
        async move {
            for half in Half::BOTH {
                let made = Made { input: input.clone(), half, attempt: attempt.clone() };
                let to = PartitionId(half.partition(record.partition().0, partitions));
                // Where it is not written, the commit fails.
                let _delivery =
                    transaction.send(Record::to(output.as_str()).value(made.to_string()).partition(to)).await?;
            }
            Ok::<(), SendError>(())
        }
    });
    Ok(work.await?)
}
