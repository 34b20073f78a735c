//! The shop: takes orders of twenty customers, several at once, for as long as it lives. Knows nothing of brokers.

use std::time::Duration;

use super::demo::Failure;
use super::demo::arguments::Arguments;
use super::orders::{Database, Staging};

const CUSTOMERS: u32 = 20;
/// Orders under way at once.
const CLERKS: u64 = 4;

/// Runs until it is killed.
pub async fn run(mut arguments: Arguments) -> Result<(), Failure> {
    let database = Database::open(&arguments.required("--database")?).await?;
    let seed = arguments.seed()?;
    let staging = if arguments.switch("--stage-outside") { Staging::Outside } else { Staging::Within };
    let mut clerks = tokio::task::JoinSet::new();
    for clerk in 0..CLERKS {
        clerks.spawn(work(database.clone(), staging, fastrand::Rng::with_seed(seed.wrapping_add(clerk))));
    }
    while let Some(ended) = clerks.join_next().await {
        ended??;
    }
    Ok(())
}

async fn work(database: Database, staging: Staging, mut rng: fastrand::Rng) -> Result<(), Failure> {
    loop {
        let customer = format!("customer-{:02}", rng.u32(..CUSTOMERS));
        let is_refused = rng.u8(..10) == 0;
        match database.take(&customer, staging, is_refused).await {
            Ok(()) => {}
            Err(error) if error.is_retriable() => {}
            // Two clerks gave one customer's order the same number: the later one asks again.
            Err(error) if error.to_string().contains("unique") || error.to_string().contains("UNIQUE") => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(Duration::from_millis(rng.u64(2..25))).await;
    }
}
