//! The clerk: takes orders, starts a saga for each, and writes down of which it was told that it is started. Knows nothing of services.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use tidelog_client::saga::Sagas;

use super::demo::Failure;
use super::demo::arguments::Arguments;
use super::demo::cast::begin_life;
use super::fulfilment::fulfilment;
use super::order::Order;

/// What was written down.
pub const TOLD: &str = "clerk.told";

/// Works until it is killed.
pub async fn run(sagas: Sagas, mut arguments: Arguments) -> Result<(), Failure> {
    let folder = arguments.required("--folder")?;
    let folder = Path::new(&folder);
    // Each life has orders of its own, as it does not know what the one before it had under way.
    let life = begin_life(&folder.join("clerk.lives"))?;
    let mut chance = fastrand::Rng::with_seed(arguments.seed()?.wrapping_mul(1_000).wrapping_add(life));
    let mut told = File::options().create(true).append(true).open(folder.join(TOLD))?;
    let definition = fulfilment(folder, false)?;
    for at in 0.. {
        let (id, order) = (format!("order-{life}-{at}"), Order::draw(&mut chance));
        // It starts it again until it knows.
        while let Err(error) = sagas.start(&definition, &id, &order).await {
            if !error.is_retriable() {
                return Err(error.into());
            }
            eprintln!("{error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // One write, so that a line is there or not.
        told.write_all(format!("{id}\n").as_bytes())?;
        tokio::time::sleep(Duration::from_millis(chance.u64(5..60))).await;
    }
    Ok(())
}
