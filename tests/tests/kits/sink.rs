//! Exactly once into a database: the sink, with real databases, through rebalances, zombies, failures and a database that is put back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::{Pool, Postgres, Sqlite, Transaction};
use tidelog_client::inbox::{Inbox, InboxDatabase};
use tidelog_client::sink::{SinkDatabase, SinkError, SqlSink};
use tidelog_client::{Client, GroupConsumerBuilder, NewTopic, PartitionId, Record, Start};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::chance::seeded;
use tidelog_tests::outbox::database::{Home, ShopDatabase};
use tidelog_tests::patience::{wait_for, wait_until};
use tidelog_tests::postgres_process::PostgresProcess;
use tidelog_tests::requirements::{Need, requires};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

const PARTITIONS: u32 = 4;

/// A database with a table of effects: one row for each.
pub(super) trait Effects: ShopDatabase + SinkDatabase + InboxDatabase {
    async fn effect(transaction: &mut Transaction<'_, Self>, value: String) -> Result<(), sqlx::Error>;
    async fn effects(pool: &Pool<Self>) -> BTreeMap<String, i64>;
}

macro_rules! effects_in {
    ($database:ty) => {
        impl Effects for $database {
            async fn effect(transaction: &mut Transaction<'_, Self>, value: String) -> Result<(), sqlx::Error> {
                let insert = sqlx::query("INSERT INTO effect (value) VALUES ($1)").bind(value);
                insert.execute(&mut **transaction).await.map(drop)
            }

            async fn effects(pool: &Pool<Self>) -> BTreeMap<String, i64> {
                let count = "SELECT value, count(*) FROM effect GROUP BY value";
                let counted: Vec<(String, i64)> = sqlx::query_as(count).fetch_all(pool).await.unwrap();
                counted.into_iter().collect()
            }
        }
    };
}

effects_in!(Sqlite);
effects_in!(Postgres);

pub(super) async fn prepare<DB: Effects>(pool: &Pool<DB>) {
    DB::execute(pool, "CREATE TABLE effect (value TEXT NOT NULL)").await;
    SqlSink::new(pool.clone(), "effects").migrate().await.unwrap();
    Inbox::default().migrate(pool).await.unwrap();
}

pub(super) async fn open_topic(broker: &BrokerProcess) -> Client {
    let client = Client::connect(&broker.server()).await.unwrap();
    client.admin().create_topic(&NewTopic::named("in").partitions(PARTITIONS)).await.unwrap();
    client
}

pub(super) async fn send(client: &Client, numbers: std::ops::Range<u32>) {
    let producer = client.producer().build().unwrap();
    for number in numbers {
        let record = Record::to("in").partition(PartitionId(number % PARTITIONS)).value(format!("v{number}"));
        drop(producer.send(record).await.unwrap());
    }
    producer.flush().await.unwrap();
}

fn group(client: &Client) -> GroupConsumerBuilder {
    client.group("effects").topics(["in"]).start(Start::Beginning).session_timeout(Duration::from_secs(3))
}

pub(super) fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap()
}

/// A member that runs until it is told to stop.
struct Member {
    stop: Arc<Notify>,
    running: JoinHandle<Result<(), SinkError>>,
}

impl Member {
    /// Each record takes `pause` within its transaction.
    fn start<DB: Effects>(pool: &Pool<DB>, group: GroupConsumerBuilder, pause: Duration) -> Self {
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let sink = SqlSink::new(pool.clone(), "effects").batch_records(20);
        // A member has a thread of its own: what it does within a transaction need not move between threads.
        let runtime = tokio::runtime::Handle::current();
        let running = tokio::task::spawn_blocking(move || {
            runtime.block_on(sink.run(group, async move { stopped.notified().await }, async |transaction, record| {
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                DB::effect(transaction, text(record.value.as_deref())).await
            }))
        });
        Self { stop, running }
    }

    async fn end(self) {
        self.stop.notify_one();
        self.running.await.unwrap().unwrap();
    }
}

async fn wait_for_all<DB: Effects>(pool: &Pool<DB>, records: usize) {
    wait_until("every record to have an effect", async || (DB::effects(pool).await.len() == records).then_some(()))
        .await;
}

/// A member comes, works until so many records have had their effect, each once, and leaves.
async fn work_through<DB: Effects>(pool: &Pool<DB>, client: &Client, records: u32) {
    let member = Member::start(pool, group(client), Duration::ZERO);
    wait_for_all(pool, records as usize).await;
    member.end().await;
    assert_once(pool, records).await;
}

pub(super) async fn assert_once<DB: Effects>(pool: &Pool<DB>, records: u32) {
    let effects = DB::effects(pool).await;
    let doubled: Vec<_> = effects.iter().filter(|(_, times)| **times > 1).collect();
    assert!(doubled.is_empty(), "had more than one effect: {doubled:?}");
    let missing: Vec<_> = (0..records).map(|n| format!("v{n}")).filter(|value| !effects.contains_key(value)).collect();
    assert!(missing.is_empty(), "had no effect: {missing:?}");
    assert_eq!(effects.len(), records as usize);
}

/// Members come and go while records are sent; each record has one effect.
async fn rebalances<DB: Effects>(test: &str, home: Home) {
    let mut rng = seeded(test);
    let broker = BrokerProcess::start();
    let client = open_topic(&broker).await;
    let pool = DB::open(&home.url()).await;
    prepare(&pool).await;
    let mut members = vec![Member::start(&pool, group(&client), Duration::from_millis(1))];
    for round in 0..8 {
        send(&client, round * 100..(round + 1) * 100).await;
        if members.len() > 1 && rng.bool() {
            members.remove(rng.usize(..members.len())).end().await;
        } else {
            members.push(Member::start(&pool, group(&client), Duration::from_millis(1)));
        }
    }
    wait_for_all(&pool, 800).await;
    for member in members {
        member.end().await;
    }
    assert_once(&pool, 800).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_come_and_go_bring_each_record_into_sqlite_once() {
    rebalances::<Sqlite>("rebalances_sqlite", Home::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_come_and_go_bring_each_record_into_postgres_once() {
    let name = "members_that_come_and_go_bring_each_record_into_postgres_once";
    if requires(name, &[Need::Postgres]) {
        rebalances::<Postgres>(name, Home::postgres()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_says_where_to_go_on_whatever_the_group_says() {
    let broker = BrokerProcess::start();
    let client = open_topic(&broker).await;
    let home = Home::sqlite();
    let pool = Sqlite::open(&home.url()).await;
    prepare(&pool).await;
    send(&client, 0..100).await;
    let member = Member::start(&pool, group(&client), Duration::ZERO);
    wait_for_all(&pool, 100).await;
    member.end().await;
    // The group has forgotten all of it.
    client.admin().delete_group("effects").await.unwrap();
    send(&client, 100..200).await;
    work_through(&pool, &client, 200).await;
    // And now the group is ahead of the database, as that was put back.
    for undone in ["DELETE FROM effect", "UPDATE sink_offset SET next_offset = 0"] {
        Sqlite::execute(&pool, undone).await;
    }
    work_through(&pool, &client, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_database_is_filled_from_the_start_though_the_group_has_committed_everything() {
    let broker = BrokerProcess::start();
    let client = open_topic(&broker).await;
    send(&client, 0..100).await;
    for home in [Home::sqlite(), Home::sqlite()] {
        let pool = Sqlite::open(&home.url()).await;
        prepare(&pool).await;
        work_through(&pool, &client, 100).await;
    }
    // Where nothing of the start is told, the group's offsets do not stand in for it.
    let home = Home::sqlite();
    let pool = Sqlite::open(&home.url()).await;
    prepare(&pool).await;
    let group = client.group("effects").topics(["in"]);
    let run = SqlSink::new(pool, "effects").run(group, std::future::pending(), async |_, _| Ok::<(), String>(()));
    let failed = tidelog_tests::patience::within_limit("the sink to end", run).await.unwrap_err();
    assert!(failed.to_string().contains("start"), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_before_the_first_effect_of_a_sink_that_starts_at_the_end_is_not_passed_over() {
    let broker = BrokerProcess::start();
    let client = open_topic(&broker).await;
    let home = Home::sqlite();
    let pool = Sqlite::open(&home.url()).await;
    prepare(&pool).await;
    send(&client, 0..40).await;
    let at_the_end = || group(&client).start(Start::End);
    let member = Member::start(&pool, at_the_end(), Duration::ZERO);
    let noted = "UPDATE sink_offset SET sink = sink WHERE next_offset = 10";
    wait_until("the sink to note its beginning", async || {
        (Sqlite::execute(&pool, noted).await == u64::from(PARTITIONS)).then_some(())
    })
    .await;
    member.end().await;
    send(&client, 40..80).await;
    let member = Member::start(&pool, at_the_end(), Duration::ZERO);
    wait_for_all(&pool, 40).await;
    member.end().await;
    let expected = (40..80).map(|n| (format!("v{n}"), 1)).collect::<BTreeMap<_, _>>();
    assert_eq!(Sqlite::effects(&pool).await, expected);
}

/// A member is caught within its transaction, while another claims its partitions.
async fn zombie<DB: Effects>(home: Home) {
    let broker = BrokerProcess::start();
    let client = open_topic(&broker).await;
    let pool = DB::open(&home.url()).await;
    prepare(&pool).await;
    send(&client, 0..40).await;
    let member = Member::start(&pool, group(&client), Duration::ZERO);
    wait_for_all(&pool, 40).await;
    // As another would that has the partitions by now: the member does not know.
    let claimed = DB::execute(&pool, "UPDATE sink_offset SET epoch = epoch + 1").await;
    assert_eq!(claimed, u64::from(PARTITIONS));
    let epochs_before = epochs(&pool).await;
    send(&client, 40..80).await;
    // It is refused, and being the owner all the same it claims them again.
    wait_for_all(&pool, 80).await;
    member.end().await;
    assert_once(&pool, 80).await;
    assert!(epochs(&pool).await > epochs_before, "it wrote under a number that was not its own any more");
}

async fn epochs<DB: Effects>(pool: &Pool<DB>) -> u64 {
    // Counts rows whose number is above three: first claim, the other's, the second claim.
    DB::execute(pool, "UPDATE sink_offset SET epoch = epoch WHERE epoch >= 3").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_partitions_another_has_claimed_writes_nothing() {
    zombie::<Sqlite>(Home::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_partitions_another_has_claimed_writes_nothing_in_postgres() {
    let name = "a_member_whose_partitions_another_has_claimed_writes_nothing_in_postgres";
    if requires(name, &[Need::Postgres]) {
        zombie::<Postgres>(Home::postgres()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_effect_that_fails_takes_its_transaction_with_it_and_comes_again() {
    let broker = BrokerProcess::start();
    let client = open_topic(&broker).await;
    let home = Home::sqlite();
    let pool = Sqlite::open(&home.url()).await;
    prepare(&pool).await;
    send(&client, 0..40).await;
    let fails = AtomicU32::new(0);
    let sink = SqlSink::new(pool.clone(), "effects");
    let run = sink.run(group(&client), std::future::pending(), async |transaction, record| {
        let value = text(record.value.as_deref());
        if value == "v21" {
            fails.fetch_add(1, Ordering::Relaxed);
            return Err("v21 cannot be had".to_owned());
        }
        Sqlite::effect(transaction, value).await.map_err(|error| error.to_string())
    });
    let failed = tidelog_tests::patience::within_limit("the sink to end", run).await.unwrap_err();
    let SinkError::Effect { partition, cause, .. } = &failed else { panic!("{failed}") };
    assert_eq!((*partition, cause.to_string().as_str(), fails.into_inner()), (PartitionId(1), "v21 cannot be had", 1));
    assert!(!Sqlite::effects(&pool).await.contains_key("v21"));
    work_through(&pool, &client, 40).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_without_its_table_says_so() {
    let broker = BrokerProcess::start();
    let client = open_topic(&broker).await;
    let home = Home::sqlite();
    let pool = Sqlite::open(&home.url()).await;
    let run =
        SqlSink::new(pool, "effects").run(group(&client), std::future::pending(), async |_, _| Ok::<(), String>(()));
    let failed = tidelog_tests::patience::within_limit("the sink to end", run).await.unwrap_err();
    assert!(failed.to_string().contains("migrat"), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_within_an_effect_is_waited_for() {
    let name = "a_database_that_goes_away_within_an_effect_is_waited_for";
    if !requires(name, &[Need::Postgres]) {
        return;
    }
    let broker = BrokerProcess::start();
    let client = open_topic(&broker).await;
    let process = Arc::new(Mutex::new(PostgresProcess::start()));
    let url = process.lock().unwrap().url();
    let pool = Postgres::open(&url).await;
    prepare(&pool).await;
    send(&client, 0..40).await;
    let failed = Arc::new(AtomicU32::new(0));
    let sink = SqlSink::new(pool.clone(), "effects");
    let (gone, repaired) = (Arc::clone(&failed), Arc::clone(&process));
    let repair = tokio::task::spawn_blocking(move || {
        wait_for("an effect to fail", || (gone.load(Ordering::Relaxed) > 0).then_some(()));
        repaired.lock().unwrap().restart();
    });
    let stop = async {
        repair.await.unwrap();
        wait_for_all(&pool, 40).await;
    };
    let run = sink.run(group(&client), stop, async |transaction, record| {
        let value = text(record.value.as_deref());
        if value == "v21" && failed.load(Ordering::Relaxed) == 0 {
            process.lock().unwrap().crash();
        }
        let affected = Postgres::effect(transaction, value).await;
        failed.fetch_add(u32::from(affected.is_err()), Ordering::Relaxed);
        affected
    });
    tidelog_tests::patience::within_limit("the sink to go on", run).await.unwrap();
    assert!(failed.load(Ordering::Relaxed) > 0, "no effect failed");
    assert_once(&pool, 40).await;
}

/// The topic goes, and another comes under its name.
pub(super) async fn make_anew(client: &Client) {
    client.admin().delete_topic("in").await.unwrap();
    wait_until("the topic to be made again", async || {
        client.admin().create_topic(&NewTopic::named("in").partitions(PARTITIONS)).await.ok()
    })
    .await;
}

/// Nothing of a topic that was made again has had its effect, wherever the one before it had come to.
async fn another_topic<DB: Effects>(home: Home) {
    let broker = BrokerProcess::start();
    let client = open_topic(&broker).await;
    let pool = DB::open(&home.url()).await;
    prepare(&pool).await;
    send(&client, 0..100).await;
    let member = Member::start(&pool, group(&client), Duration::ZERO);
    wait_for_all(&pool, 100).await;
    member.end().await;
    // As an earlier release left it.
    DB::execute(&pool, "ALTER TABLE sink_offset DROP COLUMN topic_id").await;
    SqlSink::new(pool.clone(), "effects").migrate().await.unwrap();
    SqlSink::new(pool.clone(), "effects").migrate().await.unwrap();
    send(&client, 100..120).await;
    work_through(&pool, &client, 120).await;
    make_anew(&client).await;
    send(&client, 120..320).await;
    work_through(&pool, &client, 320).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_again_is_read_from_its_start_into_sqlite() {
    another_topic::<Sqlite>(Home::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_again_is_read_from_its_start_into_postgres() {
    let name = "a_topic_that_was_made_again_is_read_from_its_start_into_postgres";
    if requires(name, &[Need::Postgres]) {
        another_topic::<Postgres>(Home::postgres()).await;
    }
}
