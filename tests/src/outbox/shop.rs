//! Transactions of an application with an outbox: each counts an event of an aggregate and stages it; some are long, some are undone, some touch several aggregates. Knows
//! nothing of relays.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::Pool;
use tidelog_client::outbox::Event;
use tidelog_client::sql::DatabaseError;

use super::database::ShopDatabase;

/// The kind of aggregate, which names the topic `outbox.event.order`.
pub const AGGREGATE_TYPE: &str = "order";

/// Makes all tables.
///
/// # Panics
/// Where that does not work.
pub async fn prepare<DB: ShopDatabase>(pool: &Pool<DB>) {
    DB::prepare(pool).await;
    DB::outbox(pool).migrate().await.unwrap();
}

/// How a transaction ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It is committed.
    Commit,
    /// It is undone.
    Undo,
}

/// One transaction: an event of each of `keys`, then a pause, then its end.
///
/// # Errors
/// Where the database undid it.
pub async fn transact<DB: ShopDatabase>(
    pool: &Pool<DB>,
    keys: &[&str],
    pause: Duration,
    end: End,
) -> Result<(), DatabaseError> {
    let mut transaction = DB::begin(pool).await?;
    for key in keys {
        let number = DB::count(&mut transaction, key).await?;
        let event = Event::of(AGGREGATE_TYPE, *key, "OrderPlaced").payload(format!("{key} {number}"));
        DB::stage(&mut transaction, event).await?;
    }
    if !pause.is_zero() {
        // It is the length of the transaction.
        tokio::time::sleep(pause).await;
    }
    match end {
        End::Commit => transaction.commit().await?,
        End::Undo => transaction.rollback().await?,
    }
    Ok(())
}

/// So many random transactions, one after the other.
///
/// # Panics
/// Where the database refuses one for good.
pub async fn trade<DB: ShopDatabase>(pool: Pool<DB>, mut rng: fastrand::Rng, transactions: u32, keys: u32) {
    for _ in 0..transactions {
        let mut touched: Vec<String> = (0..rng.u32(1..=3)).map(|_| format!("customer-{}", rng.u32(..keys))).collect();
        // In one order everywhere, or transactions would have to be undone for one another.
        touched.sort();
        touched.dedup();
        let touched: Vec<&str> = touched.iter().map(String::as_str).collect();
        let pause = Duration::from_millis(if rng.u8(..10) == 0 { rng.u64(5..40) } else { 0 });
        let end = if rng.u8(..10) == 0 { End::Undo } else { End::Commit };
        while let Err(error) = transact(&pool, &touched, pause, end).await {
            assert!(error.is_retriable(), "{error}");
        }
    }
}

/// How many events each aggregate has.
pub async fn committed<DB: ShopDatabase>(pool: &Pool<DB>) -> BTreeMap<String, i64> {
    DB::counts(pool).await.into_iter().collect()
}
