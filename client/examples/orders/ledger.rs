//! What was ordered, in the database of the order service, where nobody orchestrates: placed together with the event that begins it all, and
//! completed as the last service tells that it did its part. Knows nothing of other services' databases.

use sqlx::{Sqlite, SqlitePool, Transaction};
use tidelog_client::saga::SagaInput;
use tidelog_client::sql::{DatabaseError, Dialect};

use super::books::Books;
use super::demo::Failure;
use super::ends::{End, Ended};
use super::order::Order;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, content BLOB NOT NULL, is_completed INTEGER NOT NULL DEFAULT 0)";
const ALL: &str =
    "SELECT id, content, is_completed, EXISTS (SELECT * FROM effects WHERE effects.id = orders.id) FROM orders";

/// Makes the table.
pub async fn migrate(pool: &SqlitePool) -> Result<(), DatabaseError> {
    sqlx::query(TABLE).execute(pool).await?;
    Ok(())
}

/// Takes an order: noted, and told to the others, in one transaction.
pub async fn place(books: &Books, id: &str, order: &Order) -> Result<(), DatabaseError> {
    let mut transaction = Sqlite::begin(&books.pool).await?;
    let note = sqlx::query("INSERT INTO orders (id, content) VALUES (?, ?)").bind(id).bind(order.encode().to_vec());
    note.execute(&mut *transaction).await?;
    books.act(&mut transaction, id, order).await?;
    Ok(transaction.commit().await?)
}

/// Notes that nothing of an order is open.
pub async fn complete(transaction: &mut Transaction<'_, Sqlite>, id: &str) -> Result<(), DatabaseError> {
    let complete = sqlx::query("UPDATE orders SET is_completed = 1 WHERE id = ?").bind(id);
    complete.execute(&mut **transaction).await?;
    Ok(())
}

/// How each order stands.
pub async fn read(pool: &SqlitePool) -> Result<Vec<Ended>, Failure> {
    let all: Vec<(String, Vec<u8>, bool, bool)> = sqlx::query_as(ALL).fetch_all(pool).await?;
    let ended = all.into_iter().map(|(id, content, is_completed, is_noted)| {
        let end = match (is_completed, is_noted) {
            (true, _) => End::Shipped,
            (false, false) => End::Undone,
            (false, true) => End::Never("it is placed, and neither completed nor cancelled".into()),
        };
        Ok(Ended { id, order: Order::decode(&content)?, end })
    });
    ended.collect()
}
