//! Records that fail, against a real broker: they are tried again, then set aside where they stop nothing, and can be sent back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::broker::TestBroker;
use parking_lot::Mutex;
use tidelog_client::group::*;
use tidelog_client::*;
use tokio::sync::Notify;

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8(bytes.unwrap().to_vec()).unwrap()
}

fn quickly() -> RetryPolicy {
    let backoff = Backoff { first: Duration::from_millis(5), max: Duration::from_millis(20) };
    RetryPolicy { attempts: 3, backoff }
}

async fn send(client: &Client, values: impl IntoIterator<Item = (u32, String, String)>) {
    let producer = client.producer().build().unwrap();
    for (partition, key, value) in values {
        let record = Record::to("orders").partition(PartitionId(partition)).key(key).value(value);
        drop(producer.send(record.header("origin", "web").timestamp(Timestamp(1_234))).await.unwrap());
    }
    producer.flush().await.unwrap();
}

/// What was processed, and how often each value was tried.
#[derive(Clone, Default)]
struct Log {
    done: Arc<Mutex<Vec<(String, String)>>>,
    tries: Arc<Mutex<BTreeMap<String, u32>>>,
    changed: Arc<Notify>,
}

impl Log {
    fn done(&self) -> Vec<(String, String)> {
        self.done.lock().clone()
    }

    /// Processes until `enough`, with a handler that refuses every value that begins with "bad", and panics on some.
    async fn run(
        &self,
        consumer: GroupConsumer,
        options: RunOptions,
        enough: impl Fn(&Log) -> bool,
    ) -> Result<(), GroupError> {
        let stop = async {
            let started = Instant::now();
            while !enough(self) {
                assert!(started.elapsed() < Duration::from_secs(60), "not enough came: {:?}", self.done());
                let _ = tokio::time::timeout(Duration::from_millis(20), self.changed.notified()).await;
            }
        };
        let handler = |record: ConsumerRecord| {
            let log = self.clone();
            let value = text(record.value.as_deref());
            if value.contains("at-once") {
                *log.tries.lock().entry(value).or_default() += 1;
                log.changed.notify_one();
                panic!("a handler panics before it does anything");
            }
            async move {
                let (key, value) = (text(record.key.as_deref()), text(record.value.as_deref()));
                *log.tries.lock().entry(value.clone()).or_default() += 1;
                tokio::task::yield_now().await;
                assert!(!value.contains("panic"), "a handler panics on purpose");
                if value.starts_with("bad") {
                    return Err(format!("{value} cannot be billed"));
                }
                log.done.lock().push((key, value));
                log.changed.notify_one();
                Ok(())
            }
        };
        consumer.run_with(options, stop, handler).await
    }
}

async fn consumer(client: &Client) -> GroupConsumer {
    client.group("billing").topics(["orders"]).start(Start::Beginning).build().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_before_it_has_any_work_has_failed_too() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("orders", 1).await;
    send(&client, ["bad-at-once", "fine"].map(|value| (0, value.into(), value.into()))).await;
    let log = Log::default();
    let all = |log: &Log| log.done().len() == 1 && log.tries.lock().get("bad-at-once") == Some(&3);
    let options = RunOptions::new(4).order(Order::Key).retry(quickly());
    log.run(consumer(&client).await, options, all).await.unwrap();
    let listed = client.admin().dead_letters("orders").list(&RedriveFilter::default(), 10).await.unwrap();
    let causes: Vec<_> = listed.iter().map(|letter| letter.cause.as_str()).collect();
    assert_eq!(causes, ["panicked: a handler panics before it does anything"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_record_stops_neither_its_partition_nor_other_keys_and_can_be_sent_back() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("orders", 2).await;
    let mut values = Vec::new();
    for n in 0..60u32 {
        let value = match n {
            7 => "bad-7".into(),
            20 => "bad-panic-20".into(),
            n => format!("v{n:02}"),
        };
        values.push((n % 2, format!("k{}", n % 5), value));
    }
    send(&client, values).await;
    let log = Log::default();
    let options = RunOptions::new(4).order(Order::Key).retry(quickly());
    let tried = |log: &Log, value: &str| log.tries.lock().get(value) == Some(&3);
    let all = |log: &Log| log.done().len() == 58 && tried(log, "bad-7") && tried(log, "bad-panic-20");
    let letters = client.admin().dead_letters("orders");
    log.run(consumer(&client).await, options.clone(), all).await.unwrap();

    // Each key of a partition in order; the bad ones were tried as often as they may.
    for key in 0..5 {
        for odd in 0..2 {
            let is_ours = |value: &str| value[1..].parse::<u32>().unwrap() % 2 == odd;
            let of_key: Vec<String> =
                log.done().into_iter().filter(|(k, v)| *k == format!("k{key}") && is_ours(v)).map(|(_, v)| v).collect();
            assert!(of_key.is_sorted() && !of_key.is_empty(), "{of_key:?}");
        }
    }
    let tries = log.tries.lock().clone();
    assert_eq!((tries["bad-7"], tries["bad-panic-20"], tries["v00"]), (3, 3, 1));
    let lag = client.admin().group_lag("billing").await.unwrap();
    assert_eq!(lag.iter().map(|lag| lag.lag()).collect::<Vec<_>>(), [Some(0), Some(0)], "all is done");

    let listed = letters.list(&RedriveFilter::default(), 10).await.unwrap();
    let mut causes: Vec<_> = listed.iter().map(|letter| letter.cause.clone()).collect();
    causes.sort();
    assert_eq!(causes, ["bad-7 cannot be billed", "panicked: a handler panics on purpose"]);
    let letter = listed.iter().find(|letter| letter.cause.starts_with("bad-7")).unwrap();
    assert_eq!(
        (letter.origin.topic.as_str(), letter.origin.partition, letter.origin.offset),
        ("orders", PartitionId(1), Offset(3))
    );
    assert_eq!((letter.origin.timestamp, letter.attempts, letter.group.as_str()), (Timestamp(1_234), 3, "billing"));
    assert_eq!(
        (text(letter.record.key.as_deref()), text(letter.record.value.as_deref())),
        ("k2".into(), "bad-7".into())
    );
    assert_eq!(letter.record.headers().next().unwrap().value, Some(&b"web"[..]));
    assert!(!letter.redriven);

    // Sent back by filter: only what it means, once, though asked for twice.
    let filter = RedriveFilter { cause: Some("cannot be billed".into()), ..RedriveFilter::default() };
    let nothing = Redriven::default();
    assert_eq!(letters.redrive(&filter).await.unwrap(), Redriven { sent: 1, passed: 1, ..nothing.clone() });
    assert_eq!(letters.redrive(&filter).await.unwrap(), Redriven { already: 1, passed: 1, ..nothing.clone() });
    let listed = letters.list(&RedriveFilter::default(), 10).await.unwrap();
    assert!(listed.iter().all(|letter| letter.redriven == letter.cause.starts_with("bad-7")), "{listed:?}");
    let mut back = client
        .consumer()
        .partition_from("orders", PartitionId(1), Start::Offset(Offset(30)))
        .until_end()
        .build()
        .await
        .unwrap();
    let record = back.next().await.unwrap().unwrap();
    assert_eq!(
        (text(record.value.as_deref()), record.timestamp, record.headers().len()),
        ("bad-7".into(), Timestamp(1_234), 1)
    );
    assert!(back.next().await.is_none());
    // All: that which was sent by another filter is not sent again.
    let all = RedriveFilter::default();
    assert_eq!(letters.redrive(&all).await.unwrap(), Redriven { sent: 1, already: 1, ..nothing });
    assert!(letters.list(&RedriveFilter::default(), 10).await.unwrap().iter().all(|letter| letter.redriven));
}

/// Writes dead letters as a member does that gives up at once: of each value, of this topic.
async fn fail_all(client: &Client, topic: &str, values: u32) {
    let consumer = client.group("billing").topics([topic]).start(Start::Beginning).build().await.unwrap();
    let letters = client.admin().dead_letters(topic);
    let stop = async {
        let started = Instant::now();
        let all = RedriveFilter::default();
        while letters.list(&all, 1_000).await.map_or(0, |listed| listed.len()) < values as usize {
            assert!(started.elapsed() < Duration::from_secs(60), "not all came");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let options = RunOptions::new(8).retry(RetryPolicy { attempts: 1, ..quickly() });
    consumer.run_with(options, stop, |_| async { Err::<(), _>("fails") }).await.unwrap();
}

async fn values_of(client: &Client, topic: &str) -> Vec<String> {
    let mut reader = client.consumer().topic(topic).start(Start::Beginning).until_end().build().await.unwrap();
    let mut values = Vec::new();
    while let Some(record) = reader.next().await {
        values.push(text(record.unwrap().value.as_deref()));
    }
    values.sort();
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_that_is_called_off_anywhere_is_taken_up_and_sends_each_once() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let broker = TestBroker::start().await;
    // As long as a name may be that leaves room for that of its dead letters.
    let topic = "t".repeat(236);
    let client = broker.client_with_topic(&topic, 3).await;
    let producer = client.producer().build().unwrap();
    let expected: Vec<String> = (0..400).map(|number| format!("v{number:03}")).collect();
    for value in &expected {
        drop(producer.send(Record::to(topic.as_str()).value(value.clone())).await.unwrap());
    }
    producer.flush().await.unwrap();
    fail_all(&client, &topic, 400).await;
    let letters = client.admin().dead_letters(&topic);
    let all = RedriveFilter::default();
    // From less than any machine takes to more than this one does.
    let (mut called_off, mut fenced, mut took) = (0, 0, Duration::from_millis(1));
    let done = loop {
        let limit = took.mul_f64(chance.f64());
        match tokio::time::timeout(limit, letters.redrive(&all)).await {
            // What one that was called off had asked for may be answered after what came later: that is the one which is fenced then.
            Ok(Err(TransactionError::Fenced { .. })) if fenced < called_off => fenced += 1,
            Ok(done) => break done.unwrap(),
            Err(_) => called_off += 1,
        }
        took = took.mul_f64(1.2);
    };
    assert_eq!((done.sent + done.already, done.left), (400, 0), "{done:?}");
    println!("called off {called_off} times, fenced {fenced} times; {} were sent before the last", done.already);
    assert!(called_off > 0, "nothing was called off");
    let twice: Vec<String> = expected.iter().flat_map(|value| [value.clone(), value.clone()]).collect();
    assert_eq!(values_of(&client, &topic).await, twice, "each came once more, and no more than that");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_nothing_takes_is_left_and_stops_no_other() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("orders", 1).await;
    let other = NewTopic::named("gone").partitions(2).config("durability", "written");
    client.admin().create_topic(&other).await.unwrap();
    let producer = client.producer().build().unwrap();
    for (topic, partition, value) in [("gone", 1, "a"), ("orders", 0, "b"), ("gone", 0, "c"), ("orders", 0, "d")] {
        let record = Record::to(topic).partition(PartitionId(partition)).value(value);
        drop(producer.send(record).await.unwrap());
    }
    producer.flush().await.unwrap();
    // All of them into one topic.
    let consumer = client.group("billing").topics(["orders", "gone"]).start(Start::Beginning).build().await.unwrap();
    let letters = client.admin().dead_letters_in("dead");
    let all = RedriveFilter::default();
    let stop = async {
        let started = Instant::now();
        while letters.list(&all, 10).await.map_or(0, |listed| listed.len()) < 4 {
            assert!(started.elapsed() < Duration::from_secs(60), "not all came");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let dead = DeadLetterTopic::Named("dead".into());
    let options = RunOptions::new(1).dead_letters(dead).retry(RetryPolicy { attempts: 1, ..quickly() });
    consumer.run_with(options, stop, |_| async { Err::<(), _>("fails") }).await.unwrap();

    client.admin().delete_topic("gone").await.unwrap();
    let done = letters.redrive(&all).await.unwrap();
    assert_eq!((done.sent, done.left, done.causes.len()), (2, 2, 2), "{done:?}");
    assert!(done.causes.iter().all(|cause| cause.to_string().contains("gone")), "{done:?}");
    assert_eq!(values_of(&client, "orders").await, ["b", "b", "d", "d"]);
    // Half of it is there again: the partition that is not is left.
    client.admin().create_topic(&NewTopic::named("gone").partitions(1)).await.unwrap();
    let done = client.admin().dead_letters_in("dead").redrive(&all).await.unwrap();
    assert_eq!((done.sent, done.already, done.left), (1, 2, 1), "{done:?}");
    assert_eq!(values_of(&client, "gone").await, ["c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_dead_letter_topic_the_run_ends_and_the_record_comes_again() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("orders", 1).await;
    let values = ["v0", "v1", "bad-2", "v3"].map(|value| (0, "k".to_owned(), value.to_owned()));
    send(&client, values).await;
    let options = RunOptions::new(4).retry(quickly()).dead_letters(DeadLetterTopic::None);
    let log = Log::default();
    let error = log.run(consumer(&client).await, options.clone(), |_| false).await.unwrap_err();
    let GroupError::Failed { offset, attempts, cause, .. } = &error else { panic!("{error}") };
    assert_eq!((*offset, *attempts, cause.as_str()), (Offset(2), 3, "bad-2 cannot be billed"));
    assert_eq!(log.done().len(), 2, "nothing of the partition passes it");
    assert_eq!(client.admin().group_offsets("billing").await.unwrap()[0].offset, Offset(2));
    let mut again = consumer(&client).await;
    assert_eq!(again.next().await.unwrap().unwrap().offset, Offset(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_waits_for_its_next_try_keeps_its_order_and_holds_up_no_other() {
    let broker = TestBroker::start().await;
    let client = broker.client_with_topic("orders", 1).await;
    let values = [("a", "bad-a0"), ("a", "v-a1"), ("b", "v-b0"), ("b", "v-b1")];
    send(&client, values.map(|(key, value)| (0, key.to_owned(), value.to_owned()))).await;
    let log = Log::default();
    // One at a time, and a long wait: `b` is done while `a` waits.
    let backoff = Backoff { first: Duration::from_millis(400), max: Duration::from_millis(400) };
    let options = RunOptions::new(1).order(Order::Key).retry(RetryPolicy { attempts: 2, backoff });
    log.run(consumer(&client).await, options, |log| log.done().len() == 3).await.unwrap();
    let done: Vec<String> = log.done().into_iter().map(|(_, value)| value).collect();
    assert_eq!(done, ["v-b0", "v-b1", "v-a1"]);
}
