//! Exactly once from end to end: three brokers, twelve partitions, four members that read, process and write within transactions, under kills,
//! pauses, cut networks and rolling restarts of brokers, coordinators and members. What comes out is what went in.
//!
//! A long run, five minutes of faults: `PIPELINE_SECONDS=300 cargo test -p tidelog-tests --test transactions pipeline -- --nocapture`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_client::{Client, Isolation, NewTopic, PartitionId, Record};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::chance::seeded;
use tidelog_tests::cluster::round::client;
use tidelog_tests::cluster::{Cluster, ClusterSettings, Evidence, Wiring};
use tidelog_tests::contents;
use tidelog_tests::history::History;
use tidelog_tests::patience::{LIMIT, wait_until, within_limit};
use tidelog_tests::pipeline::asked;
use tidelog_tests::pipeline::claims::{Claim, Reading, undone, violations};
use tidelog_tests::pipeline::job::{Half, Made};
use tidelog_tests::pipeline::member::{MemberProcess, MemberSettings};
use tidelog_tests::pipeline::output::{self, Along};
use tidelog_tests::pipeline::storm::{Fault, Storm};
use tidelog_tests::requirements::{Need, requires};
use tidelog_tests::workload::{Workload, create_topic, wait_for_acks};

const PARTITIONS: u32 = 12;
const MEMBERS: usize = 4;

/// How long the faults go on, at least; each kind comes at least once.
fn duration() -> Duration {
    let seconds =
        std::env::var("PIPELINE_SECONDS").ok().map(|text| text.parse().expect("PIPELINE_SECONDS is a number"));
    Duration::from_secs(seconds.unwrap_or(20))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_brings_out_exactly_what_went_in_whatever_breaks() {
    let name = "a_pipeline_brings_out_exactly_what_went_in_whatever_breaks";
    if !requires(name, &[Need::Namespaces]) {
        return;
    }
    let mut rng = seeded(name);
    let mut cluster = Cluster::start(ClusterSettings::three().wiring(Wiring::Namespaces)).await;
    let servers = cluster.servers();
    let folder = tempfile::tempdir().unwrap();
    for topic in ["in", "out"] {
        let new =
            NewTopic::named(topic).partitions(PARTITIONS).replication_factor(3).config("min.insync.replicas", "2");
        create_topic(&servers, &new).await.unwrap();
        cluster.wait_healed(topic).await;
    }
    let settings = MemberSettings {
        servers: servers.clone(),
        group: "pipes".into(),
        input: "in".into(),
        output: "out".into(),
        partitions: PARTITIONS,
    };
    let mut members: Vec<_> =
        (0..MEMBERS).map(|number| MemberProcess::start(&settings, number, folder.path())).collect();
    let history = Arc::new(History::new("in"));
    let load = Workload {
        producers: PARTITIONS,
        delivery_timeout: LIMIT,
        pause: Duration::from_millis(10),
        client: client(),
        ..Workload::on("in")
    }
    .start(&servers, &history)
    .await;
    wait_for_acks(&history, 200).await;
    let along = Along::start(&servers, "out").await;

    let begin = Instant::now();
    let mut evidence = Evidence::default();
    let mut faults = Vec::new();
    let mut struck = BTreeMap::new();
    while begin.elapsed() < duration() || struck.len() < Fault::ALL.len() {
        if faults.is_empty() {
            faults = Fault::ALL.to_vec();
            rng.shuffle(&mut faults);
        }
        let Some(fault) = faults.pop() else { continue };
        // Something comes through between any two faults, or the second would meet nobody at work.
        wait_for_more(&along, 50).await;
        let mut storm = Storm { cluster: &mut cluster, members: &mut members, output: "out", rng: &mut rng };
        evidence.add(storm.strike(fault).await);
        *struck.entry(format!("{fault:?}")).or_insert(0_u32) += 1;
        members.iter_mut().for_each(MemberProcess::assert_alive);
    }
    evidence.assert_happened();
    for topic in ["in", "out"] {
        cluster.wait_healed(topic).await;
    }
    load.stop().await;
    wait_drained(&servers).await;
    members.iter_mut().for_each(MemberProcess::assert_alive);
    cluster.assert_alive();

    let input = contents::read_all(&servers, "in").await;
    let input: Vec<String> = input.into_iter().flat_map(|contents| contents.records).map(|(_, value)| value).collect();
    let committed = output::read(&servers, "out", Isolation::ReadCommitted).await;
    let everything = output::read(&servers, "out", Isolation::ReadUncommitted).await;
    let along = along.finish(committed.len()).await;
    let asked = asked::read(folder.path());
    let reading = Reading { input, committed, everything, along: vec![along], asked };
    println!(
        "{} in, {} out, {} undone, {struck:?}: {evidence}",
        reading.input.len(),
        reading.committed.len(),
        undone(&reading)
    );
    assert_eq!(violations(&reading), []);
    assert!(undone(&reading) > 0, "no fault ever met an open transaction");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_above_the_stable_offset_is_caught_also_where_all_of_it_is_committed_later() {
    let broker = BrokerProcess::start();
    let servers = broker.server();
    create_topic(&servers, &NewTopic::named("out").partitions(2)).await.unwrap();
    let good = Along::start(&servers, "out").await;
    // The planted bug: what takes itself for a reader of what is committed reads up to the high watermark.
    let planted = Along::reading(&servers, "out", Isolation::ReadUncommitted).await;
    let client = Client::connect(&servers).await.unwrap();
    let mut producer = client.transactional_producer("one").build().await.unwrap();
    let transaction = producer.begin().await.unwrap();
    for half in Half::BOTH {
        let made = Made { input: "a".into(), half, attempt: "1".into() };
        let record = Record::to("out").value(made.to_string()).partition(PartitionId(half.partition(0, 2)));
        let _delivery = transaction.send(record).await.unwrap();
    }
    transaction.flush().await.unwrap();
    wait_until("the other to read what is open", async || (planted.records() == 2).then_some(())).await;
    assert_eq!(good.records(), 0);
    let asked = [("1".to_owned(), asked::now())].into();
    transaction.commit().await.unwrap();

    let (good, planted) = (good.finish(2).await, planted.finish(2).await);
    let committed = output::read(&servers, "out", Isolation::ReadCommitted).await;
    let everything = output::read(&servers, "out", Isolation::ReadUncommitted).await;
    let mut reading = Reading { input: vec!["a".into()], committed, everything, along: vec![good], asked };
    assert_eq!(violations(&reading), []);
    assert_eq!(undone(&reading), 0, "what stands there in the end tells nothing of it");
    reading.along.push(planted);
    let found: Vec<Claim> = violations(&reading).into_iter().map(|(claim, _)| claim).collect();
    assert_eq!(found, [Claim::NothingReadAboveStableOffset; 2], "both records");
}

async fn wait_for_more(along: &Along, more: usize) {
    let wanted = along.records() + more;
    wait_until("records to come through", async || (along.records() >= wanted).then_some(())).await;
}

/// Until the group has read everything.
async fn wait_drained(servers: &str) {
    let client = client().connect(servers).await.expect("the cluster can be reached");
    within_limit("the pipeline to come to rest", async {
        loop {
            let lag = client.admin().group_lag("pipes").await;
            match lag {
                Ok(all) if all.len() == PARTITIONS as usize && all.iter().all(|one| one.lag() == Some(0)) => return,
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    })
    .await;
}
