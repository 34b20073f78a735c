//! The client's transactions against a cluster: seen as a whole or not at all, undone unless committed, fenced by who comes later; and a group
//! that processes exactly once while its members die.

#![allow(clippy::unwrap_used)] // Tests only; clippy sees just the functions marked as one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tidelog_client::group::{DeadLetterTopic, RedriveFilter, RetryPolicy};
use tidelog_client::{
    Backoff, Client, ConsumerRecord, ExactlyOnceOptions, Isolation, NewTopic, PartitionId, Record, SendError, Start,
    TransactionError, TransactionSender,
};
use tidelog_tests::patience::{LIMIT, wait_until, within_limit};
use tidelog_tests::transacting::{cluster_with, committed, producer, send, until_settled, values};
use tokio::sync::Notify;

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_seen_as_a_whole_and_nothing_before_it() {
    let (_cluster, client) = cluster_with(&[("orders", 3), ("stock", 1)]).await;
    let mut producer = producer(&client, "billing-1").await;
    let transaction = producer.begin().await.unwrap();
    send(&transaction, "orders", &["a", "b", "c"]).await;
    send(&transaction, "stock", &["-3"]).await;
    transaction.flush().await.unwrap();
    assert_eq!(values(&client, "orders", Isolation::ReadUncommitted).await, ["a", "b", "c"]);
    assert_eq!(committed(&client, "orders").await, [""; 0]);
    // What others write behind it waits as well.
    let other = client.producer().build().unwrap();
    other.send(Record::to("stock").value("plain")).await.unwrap().await.unwrap();
    assert_eq!(committed(&client, "stock").await, [""; 0]);
    transaction.commit().await.unwrap();
    until_settled(&client, "orders").await;
    until_settled(&client, "stock").await;
    assert_eq!(committed(&client, "orders").await, ["a", "b", "c"]);
    assert_eq!(committed(&client, "stock").await, ["-3", "plain"]);

    // The next one begins at once, however often; one that sends nothing costs nothing.
    for number in 0..20 {
        let transaction = producer.begin().await.unwrap();
        if number % 2 == 0 {
            send(&transaction, "stock", &[&format!("{number:02}")]).await;
        }
        transaction.commit().await.unwrap();
    }
    until_settled(&client, "stock").await;
    let mut expected: Vec<String> = (0..20).step_by(2).map(|number| format!("{number:02}")).collect();
    expected.extend(["-3".into(), "plain".into()]);
    expected.sort();
    assert_eq!(committed(&client, "stock").await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_aborted_or_dropped_is_never_seen_and_the_next_one_begins_after_it() {
    let (_cluster, client) = cluster_with(&[("orders", 3)]).await;
    let mut producer = producer(&client, "billing-1").await;
    let transaction = producer.begin().await.unwrap();
    send(&transaction, "orders", &["a", "b", "c"]).await;
    transaction.flush().await.unwrap();
    transaction.abort().await.unwrap();

    let transaction = producer.begin().await.unwrap();
    send(&transaction, "orders", &["d", "e", "f"]).await;
    transaction.flush().await.unwrap();
    let sender = transaction.sender();
    drop(transaction);
    let late = sender.send(Record::to("orders").value("late")).await.unwrap_err();
    assert!(matches!(late, SendError::TransactionEnded | SendError::Undone), "{late}");

    // Dropped with records that never left, too.
    let transaction = producer.begin().await.unwrap();
    send(&transaction, "orders", &["g"]).await;
    drop(transaction);

    let transaction = producer.begin().await.unwrap();
    send(&transaction, "orders", &["x", "y"]).await;
    transaction.commit().await.unwrap();
    until_settled(&client, "orders").await;
    assert_eq!(committed(&client, "orders").await, ["x", "y"]);
    let all = values(&client, "orders", Isolation::ReadUncommitted).await;
    assert!(["a", "b", "c", "d", "e", "f"].iter().all(|value| all.iter().any(|it| it == value)), "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_producer_under_the_same_id_fences_the_first() {
    let (_cluster, client) = cluster_with(&[("orders", 2)]).await;
    let mut first = producer(&client, "billing-1").await;
    let transaction = first.begin().await.unwrap();
    send(&transaction, "orders", &["a", "b"]).await;
    transaction.flush().await.unwrap();

    let mut second = producer(&client, "billing-1").await;
    // It tries to go on, at a partition it wrote to and at its end.
    let record = Record::to("orders").value("c").partition(PartitionId(0));
    let refused = transaction.send(record).await.unwrap().await.unwrap_err();
    assert!(!refused.is_retriable(), "{refused}");
    let error = transaction.commit().await.unwrap_err();
    assert!(matches!(error, TransactionError::Fenced { in_doubt: false, .. }), "{error}");
    assert!(error.is_undone());
    assert!(matches!(first.begin().await, Err(TransactionError::Fenced { .. })));

    let transaction = second.begin().await.unwrap();
    send(&transaction, "orders", &["x", "y"]).await;
    transaction.commit().await.unwrap();
    until_settled(&client, "orders").await;
    assert_eq!(committed(&client, "orders").await, ["x", "y"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_not_written_fails_the_commit_and_undoes_the_others() {
    let (_cluster, client) = cluster_with(&[("orders", 2)]).await;
    let keyed = NewTopic::named("latest").partitions(1).config("cleanup.policy", "compact");
    client.admin().create_topic(&keyed).await.unwrap();
    let mut producer = producer(&client, "billing-1").await;
    let transaction = producer.begin().await.unwrap();
    send(&transaction, "orders", &["a", "b"]).await;
    transaction.flush().await.unwrap();
    // Without a key it has no place in a compacted topic; nobody looks at its delivery.
    send(&transaction, "latest", &["no key"]).await;
    let error = transaction.commit().await.unwrap_err();
    assert!(matches!(&error, TransactionError::NotWritten { cause: SendError::Rejected(_) }), "{error}");
    let transaction = producer.begin().await.unwrap();
    send(&transaction, "orders", &["x"]).await;
    transaction.commit().await.unwrap();
    until_settled(&client, "orders").await;
    assert_eq!(committed(&client, "orders").await, ["x"]);
    assert_eq!(committed(&client, "latest").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_open_for_too_long_is_undone_and_the_commit_says_so() {
    let (_cluster, client) = cluster_with(&[("orders", 2)]).await;
    let building = client.transactional_producer("billing-1").transaction_timeout(Duration::from_secs(1));
    let mut producer = building.build().await.unwrap();
    let transaction = producer.begin().await.unwrap();
    send(&transaction, "orders", &["a", "b"]).await;
    transaction.flush().await.unwrap();
    until_settled(&client, "orders").await;
    let error = transaction.commit().await.unwrap_err();
    assert!(matches!(error, TransactionError::Undone(_)), "{error}");
    assert_eq!(error.actor(), tidelog_client::Actor::ClientAborts);
    let transaction = producer.begin().await.unwrap();
    send(&transaction, "orders", &["x", "y"]).await;
    transaction.commit().await.unwrap();
    until_settled(&client, "orders").await;
    assert_eq!(committed(&client, "orders").await, ["x", "y"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_go_on_over_the_death_of_each_broker() {
    let (mut cluster, client) = cluster_with(&[("orders", 6)]).await;
    let mut producer = producer(&client, "billing-1").await;
    let mut expected = Vec::new();
    for victim in 1..=3 {
        for number in 0..30 {
            if number == 10 {
                let _ = cluster.kill(victim);
            }
            let values: Vec<String> = (0..6).map(|partition| format!("{victim}-{number:02}-{partition}")).collect();
            let texts: Vec<&str> = values.iter().map(String::as_str).collect();
            let transaction = producer.begin().await.unwrap();
            send(&transaction, "orders", &texts).await;
            match transaction.commit().await {
                Ok(()) => expected.extend(values),
                Err(error) if error.is_undone() => {}
                Err(error) => {
                    assert!(matches!(error, TransactionError::InDoubt { .. }), "{error}");
                    if producer.settle().await.is_ok() {
                        expected.extend(values);
                    }
                }
            }
        }
        assert!(cluster.is_down(victim), "all of that went on without it");
        cluster.restart(victim);
        cluster.wait_settled("orders").await;
    }
    assert!(expected.len() > 6 * 3 * 20, "{}", expected.len());
    until_settled(&client, "orders").await;
    expected.sort();
    assert_eq!(committed(&client, "orders").await, expected);
}

/// What a member's handler shares with the test.
#[derive(Default)]
struct Handling {
    count: AtomicUsize,
    /// The next record is written, and then nothing more is done.
    freezes: AtomicBool,
    frozen: Notify,
    stop: Notify,
}

/// A process with a member: its runtime is shut down as a kill ends a process, so that it neither leaves nor aborts.
struct Member {
    runtime: tokio::runtime::Runtime,
    running: tokio::task::JoinHandle<Result<(), TransactionError>>,
    handling: Arc<Handling>,
}

impl Member {
    fn start(servers: String, id: &'static str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let handling = Arc::<Handling>::default();
        let (shared, stopping) = (Arc::clone(&handling), Arc::clone(&handling));
        let running = runtime.spawn(async move {
            let client = Client::connect(&servers).await.unwrap();
            let building = client.transactional_producer(id).transaction_timeout(Duration::from_secs(5));
            let producer = building.build().await?;
            let group = client.group("pipeline").topics(["in"]).start(Start::Beginning);
            let consumer = group.session_timeout(Duration::from_secs(6)).build().await?;
            let options = ExactlyOnceOptions::default().records(50);
            let handler = move |record: ConsumerRecord, transaction: TransactionSender| {
                let handling = Arc::clone(&shared);
                async move {
                    let mut made = Record::to("out");
                    (made.key, made.value) = (record.key.clone(), record.value.clone());
                    let delivery = transaction.send(made).await?;
                    handling.count.fetch_add(1, Ordering::Relaxed);
                    if handling.freezes.load(Ordering::Relaxed) {
                        delivery.await?;
                        handling.frozen.notify_one();
                        std::future::pending::<()>().await;
                    }
                    Ok::<(), SendError>(())
                }
            };
            producer.exactly_once_with(consumer, options, async move { stopping.stop.notified().await }, handler).await
        });
        Self { runtime, running, handling }
    }

    /// Ends it where a record of an open transaction is written.
    async fn kill(self) {
        self.handling.freezes.store(true, Ordering::Relaxed);
        within_limit("a record to be written", self.handling.frozen.notified()).await;
        self.runtime.shutdown_background();
    }

    fn handled(&self) -> usize {
        self.handling.count.load(Ordering::Relaxed)
    }

    async fn stop(self) {
        self.handling.stop.notify_one();
        within_limit("a member that stops", self.running).await.unwrap().unwrap();
        self.runtime.shutdown_background();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_processes_exactly_once_while_members_die_and_come_back() {
    let (cluster, client) = cluster_with(&[("in", 6), ("out", 4)]).await;
    let first = Member::start(cluster.servers(), "pipeline-1");
    let second = Member::start(cluster.servers(), "pipeline-2");
    let (enough, producer) = (Arc::new(AtomicBool::new(false)), client.producer().build().unwrap());
    let feeding = tokio::spawn({
        let enough = Arc::clone(&enough);
        async move {
            let mut fed = 0;
            while !enough.load(Ordering::Relaxed) {
                let mut deliveries = Vec::new();
                for number in fed..fed + 20 {
                    let record = Record::to("in").key(number.to_string()).value(format!("{number:08}"));
                    deliveries.push(producer.send(record).await.unwrap());
                }
                for delivery in deliveries {
                    delivery.await.unwrap();
                }
                fed += 20;
            }
            fed
        }
    });
    wait_until("both members to work", async || (first.handled() > 100 && second.handled() > 100).then_some(())).await;
    // In the midst of a transaction, with more to come. It comes back under its id.
    first.kill().await;
    let back = Member::start(cluster.servers(), "pipeline-1");
    wait_until("the one that came back to work", async || (back.handled() > 100).then_some(())).await;
    // This one does not: its transaction times out, and then others get its partitions.
    second.kill().await;
    let before = back.handled();
    wait_until("the last one to go on", async || (back.handled() > before + 500).then_some(())).await;
    enough.store(true, Ordering::Relaxed);
    let fed = within_limit("the feed to end", feeding).await.unwrap();

    let mut seen = client.consumer().topic("out").start(Start::Beginning).build().await.unwrap();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let read = async {
        while counts.len() < fed {
            let record = seen.next().await.unwrap().unwrap();
            let value = String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap();
            *counts.entry(value).or_default() += 1;
        }
    };
    if tokio::time::timeout(LIMIT * 2, read).await.is_err() {
        panic!("only {} of {fed} came", counts.len());
    }
    back.stop().await;
    until_settled(&client, "out").await;
    let out = committed(&client, "out").await;
    let expected: Vec<String> = (0..fed).map(|number| format!("{number:08}")).collect();
    assert_eq!(out.len(), fed, "each once");
    assert_eq!(out, expected);
    let all = values(&client, "out", Isolation::ReadUncommitted).await.len();
    assert!(all >= fed + 2, "two were killed in the midst of a transaction, and {} records are undone", all - fed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_keeps_failing_goes_to_the_dead_letters_once_and_the_others_on() {
    let (_cluster, client) = cluster_with(&[("in", 1), ("out", 1)]).await;
    let plain = client.producer().build().unwrap();
    for number in 0..10 {
        plain.send(Record::to("in").value(number.to_string())).await.unwrap().await.unwrap();
    }
    let consumer = client.group("pipeline").topics(["in"]).start(Start::Beginning).build().await.unwrap();
    let backoff = Backoff { first: Duration::from_millis(1), max: Duration::from_millis(2) };
    let options = ExactlyOnceOptions::default()
        .retry(RetryPolicy { attempts: 3, backoff })
        .dead_letters(DeadLetterTopic::Named("bad".into()));
    let (tries, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let stopped = Arc::clone(&stop);
    let counts = Arc::clone(&tries);
    let running = tokio::spawn(producer(&client, "pipeline-1").await.exactly_once_with(
        consumer,
        options,
        async move { stopped.notified().await },
        move |record, transaction| {
            let counts = Arc::clone(&counts);
            async move {
                let value = record.value.clone().unwrap();
                // Sent before it fails: undone with the rest.
                let _delivery = transaction
                    .send(Record::to("out").value(value.clone()))
                    .await
                    .map_err(|error| error.to_string())?;
                if &value[..] == b"7" {
                    counts.fetch_add(1, Ordering::Relaxed);
                    return Err("seven".to_owned());
                }
                Ok(())
            }
        },
    ));
    let expected: Vec<String> = (0..10).filter(|number| *number != 7).map(|number| number.to_string()).collect();
    wait_until("the others", async || (committed(&client, "out").await == expected).then_some(())).await;
    stop.notify_one();
    within_limit("the end of the run", running).await.unwrap().unwrap();
    assert_eq!(tries.load(Ordering::Relaxed), 3);
    until_settled(&client, "bad").await;
    assert_eq!(committed(&client, "bad").await, ["7"]);
    let lag = client.admin().group_lag("pipeline").await.unwrap();
    assert_eq!(lag[0].lag(), Some(0));
}

/// Copies every value of `in` to `out` with its key; a handler that fails on "bad".
async fn copying(
    client: &Client,
    options: ExactlyOnceOptions,
    stop: Arc<Notify>,
) -> tokio::task::JoinHandle<Result<(), TransactionError>> {
    let consumer = client.group("pipeline").topics(["in"]).start(Start::Beginning).build().await.unwrap();
    let producer = producer(client, "pipeline-1").await;
    let handler = |record: ConsumerRecord, transaction: TransactionSender| async move {
        let value = record.value.clone().unwrap();
        if &value[..] == b"bad" {
            return Err("bad".to_owned());
        }
        let mut copy = Record::to("out").value(value);
        copy.key = record.key.clone();
        transaction.send(copy).await.map(drop).map_err(|error| error.to_string())
    };
    tokio::spawn(producer.exactly_once_with(consumer, options, async move { stop.notified().await }, handler))
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_record_waits_for_its_next_try_other_partitions_go_on() {
    let (_cluster, client) = cluster_with(&[("in", 2), ("out", 1)]).await;
    let plain = client.producer().build().unwrap();
    let send = async |partition: u32, value: &str| {
        let record = Record::to("in").partition(PartitionId(partition)).value(value.to_owned());
        plain.send(record).await.unwrap().await.unwrap();
    };
    send(0, "bad").await;
    send(0, "behind it").await;
    send(1, "first").await;
    // Nobody waits for the second try here.
    let hour = Duration::from_secs(3_600);
    let options =
        ExactlyOnceOptions::default().retry(RetryPolicy { attempts: 2, backoff: Backoff { first: hour, max: hour } });
    let stop = Arc::new(Notify::new());
    let running = copying(&client, options, Arc::clone(&stop)).await;
    wait_until("the other partition", async || (committed(&client, "out").await == ["first"]).then_some(())).await;
    for number in 0..3 {
        send(1, &format!("later {number}")).await;
        let enough = number + 2;
        wait_until("what came later", async || (committed(&client, "out").await.len() == enough).then_some(())).await;
    }
    assert!(!committed(&client, "out").await.contains(&"behind it".to_owned()), "its own partition keeps its order");
    stop.notify_one();
    within_limit("the end of the run", running).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_whose_output_is_refused_for_good_becomes_a_dead_letter_and_the_others_go_on() {
    let (_cluster, client) = cluster_with(&[("in", 2)]).await;
    let compacted = NewTopic::named("out").partitions(1).config("cleanup.policy", "compact");
    client.admin().create_topic(&compacted).await.unwrap();
    let plain = client.producer().build().unwrap();
    for number in 0..40u32 {
        let mut record = Record::to("in").partition(PartitionId(number % 2)).value(format!("{number:02}"));
        // A compacted topic takes nothing without a key.
        if number != 7 && number != 20 {
            record = record.key(number.to_string());
        }
        plain.send(record).await.unwrap().await.unwrap();
    }
    let backoff = Backoff { first: Duration::from_millis(1), max: Duration::from_millis(2) };
    let options = ExactlyOnceOptions::default()
        .retry(RetryPolicy { attempts: 2, backoff })
        .dead_letters(DeadLetterTopic::Named("bad".into()));
    let stop = Arc::new(Notify::new());
    let running = copying(&client, options, Arc::clone(&stop)).await;
    let expected: Vec<String> =
        (0..40).filter(|number| *number != 7 && *number != 20).map(|number| format!("{number:02}")).collect();
    wait_until("the others", async || (committed(&client, "out").await == expected).then_some(())).await;
    wait_until("all to be committed", async || {
        let lag = client.admin().group_lag("pipeline").await.ok()?;
        lag.iter().all(|at| at.committed.is_some() && at.lag() == Some(0)).then_some(())
    })
    .await;
    stop.notify_one();
    within_limit("the end of the run", running).await.unwrap().unwrap();
    until_settled(&client, "bad").await;
    assert_eq!(committed(&client, "bad").await, ["07", "20"]);
    let letters = client.admin().dead_letters_in("bad").list(&RedriveFilter::default(), 10).await.unwrap();
    assert!(letters.iter().all(|letter| letter.attempts == 2 && letter.cause.contains("key")), "{letters:?}");
}
