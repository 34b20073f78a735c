//! The clerk: takes orders, and writes down which of them are taken: of which a saga is started, or which stand in the database of the order service. Knows
//! nothing of what becomes of them.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use tidelog_client::saga::{Definition, Sagas};

use super::books::Books;
use super::demo::Failure;
use super::demo::arguments::Arguments;
use super::demo::cast::begin_life;
use super::ledger;
use super::order::Order;

/// What was written down.
pub const TOLD: &str = "clerk.told";

/// Where orders are brought.
pub enum Desk {
    /// A saga begins for each.
    Sagas(Sagas, Definition<Order>),
    /// Each is placed in the database of the order service, which tells the others.
    Books(Books),
}

impl Desk {
    /// Takes an order; an error's sentence where it is to be brought again.
    async fn take(&self, id: &str, order: &Order) -> Result<Result<(), String>, Failure> {
        match self {
            Self::Sagas(sagas, definition) => match sagas.start(definition, id, order).await {
                Err(error) if !error.is_retriable() => Err(error.into()),
                started => Ok(started.map(drop).map_err(|error| error.to_string())),
            },
            Self::Books(books) => match ledger::place(books, id, order).await {
                Err(error) if !error.is_retriable() => Err(error.into()),
                placed => Ok(placed.map_err(|error| error.to_string())),
            },
        }
    }
}

/// Works until it is killed.
pub async fn run(desk: Desk, folder: &Path, mut arguments: Arguments) -> Result<(), Failure> {
    // Each life has orders of its own, as it does not know what the one before it had under way.
    let life = begin_life(&folder.join("clerk.lives"))?;
    let mut chance = fastrand::Rng::with_seed(arguments.seed()?.wrapping_mul(1_000).wrapping_add(life));
    let mut told = File::options().create(true).append(true).open(folder.join(TOLD))?;
    for at in 0.. {
        let (id, order) = (format!("order-{life}-{at}"), Order::draw(&mut chance));
        // It brings it again until it knows.
        while let Err(sentence) = desk.take(&id, &order).await? {
            eprintln!("{sentence}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // One write, so that a line is there or not.
        told.write_all(format!("{id}\n").as_bytes())?;
        tokio::time::sleep(Duration::from_millis(chance.u64(5..60))).await;
    }
    Ok(())
}
