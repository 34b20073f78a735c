//! Exactly once from end to end with unmodified clients of Kafka: members of a group that read, process and write within transactions, while brokers
//! are killed and stand still. What comes out is what went in: as often, and for each key in the same order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidelog_client::{Acks, Client, Isolation, NewTopic, Record, Start};
use tidelog_tests::chance::{rounds, seeded};
use tidelog_tests::cluster::round::client;
use tidelog_tests::cluster::{Cluster, ClusterSettings, Evidence};
use tidelog_tests::command::{CommandLine, Started, system};
use tidelog_tests::kafka_java::{class_path, program_with};
use tidelog_tests::patience::{LIMIT, insist, wait_until, within_limit};
use tidelog_tests::pipeline::storm::{Fault, Storm};
use tidelog_tests::requirements::{Need, requires};
use tidelog_tests::transacting::until_settled;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const PARTITIONS: u32 = 12;
const KEYS: u64 = 40;
const GROUP: &str = "pipes";

/// The program of a client, whose arguments are those of `pipeline.py` and `Pipeline.java`.
trait Program {
    fn call(&self, arguments: &[&str]) -> CommandLine;
}

struct Python;

impl Program for Python {
    fn call(&self, arguments: &[&str]) -> CommandLine {
        let python = std::env::var("TEST_PYTHON").unwrap_or_else(|_| "python3".into());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/python/pipeline.py");
        CommandLine::system(&python).args([script]).args(arguments)
    }
}

struct Java(tempfile::TempDir);

impl Java {
    fn compiled() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/java/Pipeline.java");
        let _ = system("javac", &["-cp", &class_path(), "-d", folder.path().to_str().unwrap(), source]);
        Self(folder)
    }
}

impl Program for Java {
    fn call(&self, arguments: &[&str]) -> CommandLine {
        program_with(self.0.path(), "Pipeline").args(arguments)
    }
}

/// A member, which is never to end by itself.
struct Member(Started);

impl Member {
    /// Records that its transactions brought so far.
    fn committed(&self) -> u64 {
        let said = self.0.stdout_so_far();
        said.lines().filter_map(|line| line.strip_prefix("committed ")?.parse::<u64>().ok()).sum()
    }

    fn assert_alive(&mut self) {
        assert!(self.0.is_alive(), "a member ended by itself:\n{}", self.0.stderr_so_far());
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- what a member said ---\n{}\n---", self.0.stderr_so_far());
        }
    }
}

/// A producer of numbered records, whose keys take turns.
struct Load {
    stop: watch::Sender<bool>,
    task: JoinHandle<u64>,
}

impl Load {
    async fn start(servers: &str, topic: &'static str) -> Self {
        let client = client().connect(servers).await.unwrap();
        let producer = client.producer().acks(Acks::All).delivery_timeout(LIMIT).build().unwrap();
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            let mut deliveries = Vec::new();
            for number in 0_u64.. {
                if *stopped.borrow() {
                    break;
                }
                let record = Record::to(topic).key(format!("key-{}", number % KEYS)).value(number.to_string());
                deliveries.push(producer.send(record).await.unwrap());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let sent = deliveries.len() as u64;
            for delivery in deliveries {
                delivery.await.unwrap();
            }
            sent
        });
        Self { stop, task }
    }

    /// Records that were sent, all of them acknowledged.
    async fn stop(self) -> u64 {
        self.stop.send(true).unwrap();
        within_limit("the outcome of every send", self.task).await.unwrap()
    }
}

/// The values of each key, in their order.
type ByKey = BTreeMap<String, Vec<u64>>;

/// A topic as the native client reads it.
async fn by_key(servers: &str, topic: &str, isolation: Isolation) -> ByKey {
    within_limit("a topic to be read to its end", async {
        let client = Client::connect(servers).await.unwrap();
        let reading = client.consumer().topic(topic).start(Start::Beginning).isolation(isolation).until_end();
        let mut consumer = reading.build().await.unwrap();
        let mut found = ByKey::new();
        while let Some(record) = consumer.next().await {
            let record = record.unwrap();
            let [key, value] =
                [&record.key, &record.value].map(|part| String::from_utf8(part.clone().unwrap().to_vec()).unwrap());
            found.entry(key).or_default().push(value.parse().unwrap());
        }
        found
    })
    .await
}

/// A topic as the program printed it.
fn printed(text: &str) -> ByKey {
    let mut found = ByKey::new();
    for line in text.lines() {
        let (key, value) = line.split_once(' ').unwrap();
        found.entry(key.to_owned()).or_default().push(value.parse().unwrap());
    }
    found
}

fn count(by_key: &ByKey) -> usize {
    by_key.values().map(Vec::len).sum()
}

/// What is missing, too much or in another order, for each key where there is something.
fn differences(wanted: &ByKey, found: &ByKey) -> Vec<String> {
    let keys = wanted.keys().chain(found.keys()).collect::<std::collections::BTreeSet<_>>();
    let none = Vec::new();
    let told = keys.into_iter().filter_map(|key| {
        let [wanted, found] = [wanted, found].map(|all| all.get(key).unwrap_or(&none));
        let at = wanted.iter().zip(found).take_while(|(wanted, found)| wanted == found).count();
        let next = |values: &[u64]| format!("{:?}", values.iter().skip(at).take(5).collect::<Vec<_>>());
        (wanted != found).then(|| {
            let (of, there) = (wanted.len(), found.len());
            format!("{key}: {there} of {of} records; from record {at} on {} for {}", next(found), next(wanted))
        })
    });
    told.collect()
}

async fn comes_out_once(test: &str, program: &impl Program) {
    let mut rng = seeded(test);
    let mut cluster = Cluster::start(ClusterSettings::three()).await;
    let servers = cluster.servers();
    let native = client().connect(&servers).await.unwrap();
    for topic in ["in", "out"] {
        let new = NewTopic::named(topic).partitions(PARTITIONS).replication_factor(3);
        native.admin().create_topic(&new.config("min.insync.replicas", "2")).await.unwrap();
        cluster.wait_healed(topic).await;
    }
    let load = Load::start(&servers, "in").await;
    let member = |name| Member(program.call(&["transform", &servers, GROUP, name, "in", "out"]).start());
    let mut members = ["pipe-1", "pipe-2"].map(member);

    let begin = Instant::now();
    let mut evidence = Evidence::default();
    let faults = [
        Fault::KillLeader,
        Fault::PauseBroker,
        Fault::KillTransactionCoordinator,
        Fault::PauseBroker,
        Fault::KillGroupCoordinator,
    ];
    for fault in (0..rounds(2)).flat_map(|_| faults) {
        come_through(&mut members, 100).await;
        let mut storm = Storm { cluster: &mut cluster, members: &mut [], output: "out", rng: &mut rng };
        evidence.add(storm.strike(fault).await);
    }
    evidence.assert_happened();
    come_through(&mut members, 100).await;
    for topic in ["in", "out"] {
        cluster.wait_healed(topic).await;
    }
    let stormed = begin.elapsed();
    let sent = load.stop().await;
    wait_drained(&native).await;
    members.iter_mut().for_each(Member::assert_alive);
    cluster.assert_alive();
    until_settled(&native, "out").await;

    let input = by_key(&servers, "in", Isolation::ReadUncommitted).await;
    let output = by_key(&servers, "out", Isolation::ReadCommitted).await;
    let everything = by_key(&servers, "out", Isolation::ReadUncommitted).await;
    let read = tokio::task::block_in_place(|| program.call(&["read", &servers, "out"]).run().success());
    let read = printed(&String::from_utf8(read).unwrap());
    let undone = count(&everything) - count(&output);
    for member in &members {
        println!("a member said:\n{}", member.0.stderr_so_far());
    }
    println!("{} in, {} out, {undone} undone within {stormed:?}: {evidence}", count(&input), count(&output));
    assert_eq!(count(&input) as u64, sent, "the producer is idempotent");
    assert_eq!(differences(&input, &output), Vec::<String>::new());
    assert_eq!(differences(&input, &read), Vec::<String>::new(), "as the client itself reads it");
    assert!(undone > 0, "nothing was undone, so who reads what is committed had nothing to leave out");
}

/// Something comes through between any two faults, or the second would meet nobody at work.
async fn come_through(members: &mut [Member], more: u64) {
    let committed = |members: &mut [Member]| {
        members.iter_mut().for_each(Member::assert_alive);
        members.iter().map(Member::committed).sum::<u64>()
    };
    let wanted = committed(members) + more;
    wait_until("records to come through", async || (committed(members) >= wanted).then_some(())).await;
}

/// Until the group has read everything.
async fn wait_drained(client: &Client) {
    insist("the pipeline to come to rest", async || {
        let lag = client.admin().group_lag(GROUP).await.map_err(|error| error.to_string())?;
        let is_done = lag.len() == PARTITIONS as usize && lag.iter().all(|one| one.lag() == Some(0));
        is_done.then_some(()).ok_or_else(|| format!("{lag:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_of_confluent_kafka_brings_out_what_went_in_whichever_broker_breaks() {
    let test = "a_pipeline_of_confluent_kafka_brings_out_what_went_in_whichever_broker_breaks";
    if requires(test, &[Need::KafkaPython]) {
        comes_out_once(test, &Python).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_of_the_java_client_brings_out_what_went_in_whichever_broker_breaks() {
    let test = "a_pipeline_of_the_java_client_brings_out_what_went_in_whichever_broker_breaks";
    if requires(test, &[Need::KafkaJava, Need::JavaCompiler]) {
        comes_out_once(test, &Java::compiled()).await;
    }
}

#[test]
fn what_is_lost_doubled_or_out_of_order_is_told() {
    let good = ByKey::from([("a".into(), vec![1, 2, 3])]);
    assert_eq!(differences(&good, &good), Vec::<String>::new());
    for bad in [vec![1, 3], vec![1, 2, 2, 3], vec![1, 3, 2], vec![]] {
        assert_eq!(differences(&good, &ByKey::from([("a".into(), bad.clone())])).len(), 1, "{bad:?}");
    }
    let more = ByKey::from([("a".into(), vec![1, 2, 3]), ("b".into(), vec![4])]);
    assert_eq!(differences(&good, &more).len(), 1, "a key that nobody sent");
}
