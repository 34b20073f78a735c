//! The warehouse: packs a parcel for each order that it hears of, in a database of its own, exactly once. Knows nothing of the shop's database.

use std::time::Duration;

use sqlx::SqlitePool;
use tidelog_client::sink::SqlSink;
use tidelog_client::sql::open_sqlite;
use tidelog_client::{Client, Start};

use super::TOPIC;
use super::demo::Failure;
use super::demo::arguments::Arguments;

/// Makes the tables.
pub async fn prepare(database: &str) -> Result<(), Failure> {
    let pool = open_sqlite(database).await?;
    let table = "CREATE TABLE parcels (packed INTEGER PRIMARY KEY AUTOINCREMENT, customer TEXT NOT NULL, number INTEGER NOT NULL)";
    sqlx::query(table).execute(&pool).await?;
    Ok(SqlSink::new(pool, "parcels").migrate().await?)
}

/// Packs until it is killed.
pub async fn run(mut arguments: Arguments) -> Result<(), Failure> {
    let client = Client::connect(&arguments.required("--server")?).await?;
    let pool: SqlitePool = open_sqlite(&arguments.required("--database")?).await?;
    let group =
        client.group("warehouse").topics([TOPIC]).start(Start::Beginning).session_timeout(Duration::from_secs(3));
    let sink = SqlSink::new(pool, "parcels");
    sink.run(group, std::future::pending(), async |transaction, record| -> Result<(), Failure> {
        let value = std::str::from_utf8(record.value.as_deref().unwrap_or_default())?;
        let (customer, number) = value.split_once(' ').ok_or("an event that is no order")?;
        let number: i64 = number.parse()?;
        let pack = sqlx::query("INSERT INTO parcels (customer, number) VALUES (?, ?)").bind(customer).bind(number);
        pack.execute(&mut **transaction).await?;
        Ok(())
    })
    .await
    .map_err(|error| error.to_string().into())
}

/// All parcels, as they were packed.
pub async fn parcels(database: &str) -> Result<Vec<(String, i64)>, Failure> {
    let pool = open_sqlite(database).await?;
    Ok(sqlx::query_as("SELECT customer, number FROM parcels ORDER BY packed").fetch_all(&pool).await?)
}

/// How many.
pub async fn count(database: &str) -> Result<i64, Failure> {
    let pool = open_sqlite(database).await?;
    Ok(sqlx::query_scalar("SELECT count(*) FROM parcels").fetch_one(&pool).await?)
}
