//! The warehouse: packs a parcel for each order that it hears of, in a database of its own, exactly once. Knows nothing of the shop's database.

use std::time::Duration;

use sqlx::{SqliteConnection, SqlitePool};
use tidelog_client::sink::SqlSink;
use tidelog_client::sql::open_sqlite;
use tidelog_client::{Client, ConsumerRecord, GroupConsumerBuilder, GroupRecord, Start};

use super::TOPIC;
use super::demo::Failure;
use super::demo::arguments::Arguments;

/// Where offsets are committed first, so many orders at most are packed together, and more are waited for for so long.
const TOGETHER: usize = 50;
/// And each takes so long.
const PACKING: Duration = Duration::from_millis(4);
const GATHERING: Duration = Duration::from_millis(100);

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
    if arguments.switch("--commit-first") {
        return commit_first(group, &pool).await;
    }
    let sink = SqlSink::new(pool, "parcels");
    sink.run(group, std::future::pending(), async |transaction, record| pack(&mut *transaction, record).await)
        .await
        .map_err(|error| error.to_string().into())
}

/// The safety is switched off: what is committed is not packed yet, and nobody packs it where this one is killed.
async fn commit_first(group: GroupConsumerBuilder, pool: &SqlitePool) -> Result<(), Failure> {
    let mut consumer = group.build().await?;
    while let Some(first) = consumer.take().await {
        let mut records = vec![first?];
        while records.len() < TOGETHER
            && let Ok(Some(record)) = tokio::time::timeout(GATHERING, consumer.take()).await
        {
            records.push(record?);
        }
        let orders: Vec<ConsumerRecord> = records.iter().map(|record| record.record().clone()).collect();
        records.into_iter().for_each(GroupRecord::done);
        if let Err(error) = consumer.commit().await {
            eprintln!("{error}");
        }
        for order in &orders {
            // Long enough that it is killed over one.
            tokio::time::sleep(PACKING).await;
            pack(&mut *pool.acquire().await?, order).await?;
        }
    }
    Ok(())
}

async fn pack(connection: &mut SqliteConnection, record: &ConsumerRecord) -> Result<(), Failure> {
    let value = std::str::from_utf8(record.value.as_deref().unwrap_or_default())?;
    let (customer, number) = value.split_once(' ').ok_or("an event that is no order")?;
    let number: i64 = number.parse()?;
    let pack = sqlx::query("INSERT INTO parcels (customer, number) VALUES (?, ?)").bind(customer).bind(number);
    pack.execute(connection).await?;
    Ok(())
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
