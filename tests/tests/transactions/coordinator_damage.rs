//! What coordinators keep is damaged on the only replica: whoever asks is told so at once, with the way out, everybody else is served, and the way
//! out loses only what it says.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tidelog_client::messages::CommittedOffset;
use tidelog_client::{Client, ErrorCode, Offset, PartitionId, TopicId};
use tidelog_protocol::api::Request;
use tidelog_protocol::frame::{Flags, Preface};
use tidelog_protocol::messages::{Fault, HelloRequest, ListGroupsRequest};
use tidelog_protocol::records::Batches;
use tidelog_protocol::{Message, ProtocolVersion};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::command::{CommandLine, Finished};
use tidelog_tests::patience::{wait_until, within_limit};
use tidelog_tests::raw_connection::RawConnection;
use tidelog_tests::raw_reader::RawReader;
use tidelog_tests::raw_transactions::{RawProducer, SHARDS, codes, create, ends, init, nothing_open, shard_of};
use tokio::io::AsyncReadExt;

const LONG: u32 = 900_000;

/// Nobody comes upon damage but who asks, and every attempt is told.
fn settings() -> BrokerSettings {
    BrokerSettings::new().set("scrub_bytes_per_second", "0").set("log_level", "debug")
}

fn segments(data: &Path, folder: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(data.join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
    logs.sort();
    logs
}

/// Offsets of the batches in a segment and where their bytes are.
fn batches(segment: &[u8]) -> Vec<(Range<u64>, Range<usize>)> {
    let mut at = 0;
    let whole = Batches::compacted(segment).map_while(Result::ok);
    let place = whole.map(|batch| {
        let bytes = at..at + batch.bytes().len();
        at = bytes.end;
        (batch.header().base_offset.0..batch.header().next_offset().0, bytes)
    });
    place.collect()
}

/// Flips a bit in the last byte of the batch that holds `offset`, in a log of one segment that nobody has open. The answer is its offsets.
fn damage(data: &Path, folder: &str, offset: u64) -> Range<u64> {
    let [file] = &segments(data, folder)[..] else { panic!("more than one segment") };
    let mut bytes = std::fs::read(file).unwrap();
    let (offsets, place) = batches(&bytes).into_iter().find(|(offsets, _)| offsets.contains(&offset)).unwrap();
    bytes[place.end - 1] ^= 1;
    std::fs::write(file, bytes).unwrap();
    offsets
}

/// So many keys of one shard.
fn neighbours<const N: usize>(name: &str, shard: u32) -> [String; N] {
    let names = (0..).map(|number| format!("{name}-{number}"));
    let mut found = names.filter(|name| shard_of(name) == shard);
    std::array::from_fn(|_| found.next().unwrap())
}

fn at(topic_id: TopicId, offset: u64) -> CommittedOffset {
    let (partition, offset, metadata) = (PartitionId(0), Offset(offset), String::new());
    CommittedOffset { topic_id, partition, offset, leader_epoch: None, metadata }
}

async fn tidelog(broker: &BrokerProcess, line: &str) -> Finished {
    let server = broker.server();
    let words: Vec<String> = ["--server", &server, "--output", "json"].map(String::from).into();
    let command = CommandLine::of("tidelog").args(words.into_iter().chain(line.split(' ').map(String::from)));
    tokio::task::spawn_blocking(move || command.run()).await.unwrap()
}

fn shown(finished: &Finished) -> Value {
    serde_json::from_slice(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

/// How often reading a shard came to nothing.
fn attempts(broker: &BrokerProcess, shard: u32) -> usize {
    let of = |line: &&Value| line["partition"].as_str() == Some(&shard.to_string());
    broker.log_lines("what is coordinated here still cannot be read").iter().filter(of).count()
}

/// A client of its next life.
async fn after_a_crash(broker: &mut BrokerProcess) -> Client {
    broker.kill();
    broker.restart();
    Client::connect(&broker.server()).await.unwrap()
}

async fn committed(client: &Client, group: &str) -> Result<Vec<u64>, ErrorCode> {
    let asked = within_limit("an answer, whatever it is", client.admin().group_offsets(group)).await;
    asked.map(|offsets| offsets.iter().map(|at| at.offset.0).collect()).map_err(|error| error.code().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_what_is_kept_of_groups_is_told_with_the_way_out_and_that_loses_only_what_stood_there() {
    let mut broker = settings().start();
    let client = Client::connect(&broker.server()).await.unwrap();
    let orders = create(&client, broker.address(), "orders").await;
    let [before, hit, after] = neighbours::<3>("group", 3);
    let [elsewhere] = neighbours::<1>("group", 4);
    let mut connection = RawConnection::introduced(broker.address()).await;
    for _ in 0..9 {
        let batch = tidelog_tests::raw_connection::batch(&[b"x"], tidelog_protocol::records::Compression::None);
        connection.produce(orders, &batch).await.unwrap();
    }
    for (group, offset) in [(&before, 1), (&hit, 2), (&hit, 5), (&after, 3), (&elsewhere, 4)] {
        client.admin().set_group_offsets(group, vec![at(orders, offset)]).await.unwrap();
    }
    drop(client);
    assert!(broker.terminate().success());
    let folder = "__groups-3";
    let [file] = &segments(broker.data(), folder)[..] else { panic!("more than one segment") };
    let written = batches(&std::fs::read(file).unwrap());
    assert_eq!(written.len(), 4, "one batch for each commit: {written:?}");
    let lost = damage(broker.data(), folder, written[2].0.start);
    broker.restart();

    let client = Client::connect(&broker.server()).await.unwrap();
    for group in [&before, &hit, &after] {
        assert_eq!(committed(&client, group).await, Err(ErrorCode::CorruptLog), "{group}");
    }
    assert_eq!(committed(&client, &elsewhere).await, Ok(vec![4]), "others are served");
    let error = client.admin().set_group_offsets(&hit, vec![at(orders, 6)]).await.unwrap_err().to_string();
    let way_out = format!("tidelog records delete __groups --partition 3 --before {} --accept-loss", lost.end);
    let damage = format!("offsets {} to {} (exclusive) are damaged", lost.start, lost.end);
    for part in [&way_out, &damage, "__groups, partition 3"] {
        assert!(error.contains(part), "{part} is missing: {error}");
    }
    let listed = tidelog(&broker, "groups list").await.expect_code(8);
    let groups = shown(&listed);
    assert_eq!(groups["groups"].as_array().unwrap().len(), 1, "{listed:?}");
    let [missing] = &groups["missing"].as_array().unwrap()[..] else { panic!("{listed:?}") };
    assert_eq!((&missing["shards"], &missing["of"]), (&1.into(), &SHARDS.into()));
    assert!(missing["cause"].as_str().unwrap().contains(&way_out), "{missing}");
    let ready = broker.http("/readyz");
    assert_eq!(ready.status, 200, "the rest is served");
    assert!(ready.body.contains("warn  coordinators: ") && ready.body.contains(&way_out), "{}", ready.body);
    let unread = |count: u32| {
        let line = format!("tidelog_coordinator_partitions_unread {count}\n");
        let broker = &broker;
        wait_until("the metric of what is unread", async move || {
            broker.http("/metrics").body.contains(&line).then_some(())
        })
    };
    unread(1).await;
    let status = tidelog(&broker, "cluster status").await;
    assert!(status.code != Some(0) && status.text().contains("damaged"), "{status:?}");
    refused_whole_in_the_version_before(&broker).await;

    // However often it is tried.
    wait_until("reading to be tried again", async || (attempts(&broker, 3) >= 3).then_some(())).await;
    let told: Vec<Value> = broker.log_lines("what is coordinated here cannot be read; it is tried again");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0]["level"] == "WARN" && told[0]["why"].as_str().unwrap().contains(&way_out), "{told:?}");

    // Nothing is given up that was not named.
    for (line, why) in [
        (format!("__groups --partition 3 --before {}", lost.end), "not deleted by hand"),
        (format!("__groups --partition 3 --before {} --accept-loss", lost.end - 1), &way_out),
        (format!("__groups --partition 3 --before {} --accept-loss", lost.end + 1), &way_out),
        ("__groups --partition 3 --before end --accept-loss".into(), "not deleted by hand"),
        (format!("__groups --partition 4 --before {} --accept-loss", lost.end), "all of it can be read"),
    ] {
        let refused = tidelog(&broker, &format!("records delete {line}")).await;
        assert!(refused.code != Some(0) && refused.stderr.contains(why), "{line}: {refused:?}");
    }
    assert_eq!(committed(&client, &before).await, Err(ErrorCode::CorruptLog), "nor was it");

    let _ = tidelog(&broker, &way_out["tidelog ".len()..]).await.success();
    let kept = async |client: &Client, when: &str| {
        for (group, offset) in [(&before, 1), (&hit, 2), (&after, 3), (&elsewhere, 4)] {
            let found = wait_until("a group", async || match committed(client, group).await {
                Err(ErrorCode::CorruptLog) | Err(ErrorCode::CoordinatorLoading) => None,
                found => Some(found),
            });
            assert_eq!(found.await, Ok(vec![offset]), "{group} {when}");
        }
    };
    kept(&client, "once it was given up").await;
    assert_eq!(shown(&tidelog(&broker, "groups list").await.expect_code(0))["groups"].as_array().unwrap().len(), 4);
    let ready = broker.http("/readyz").body;
    assert!(!ready.contains("warn"), "{ready}");
    unread(0).await;
    assert_eq!(broker.log_lines("an operator has given up what was damaged of what is coordinated here").len(), 1);
    let left = std::fs::read(&segments(broker.data(), folder)[0]).unwrap();
    assert!(batches(&left)[0].0.start >= lost.end, "the damaged file is gone");
    client.admin().set_group_offsets(&elsewhere, vec![at(orders, 4)]).await.unwrap();
    drop(client);
    let client = after_a_crash(&mut broker).await;
    kept(&client, "after a crash").await;
    client.admin().set_group_offsets(&hit, vec![at(orders, 6)]).await.unwrap();
    assert_eq!(committed(&client, &hit).await, Ok(vec![6]), "and goes on");
    let _ = tidelog(&broker, "cluster status").await.expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_at_the_end_of_such_a_log_is_given_up_likewise() {
    let mut broker = settings().start();
    let client = Client::connect(&broker.server()).await.unwrap();
    let orders = create(&client, broker.address(), "orders").await;
    let [kept, lost] = neighbours::<2>("group", 3);
    for group in [&kept, &lost] {
        client.admin().set_group_offsets(group, vec![at(orders, 0)]).await.unwrap();
    }
    drop(client);
    assert!(broker.terminate().success());
    // The bytes of the last batch are gone, as if they had never been written; that they were settled is noted elsewhere.
    let [file] = &segments(broker.data(), "__groups-3")[..] else { panic!("more than one segment") };
    let mut bytes = std::fs::read(file).unwrap();
    let (offsets, place) = batches(&bytes).pop().unwrap();
    bytes[place].fill(0);
    std::fs::write(file, bytes).unwrap();
    broker.restart();

    let client = Client::connect(&broker.server()).await.unwrap();
    for group in [&kept, &lost] {
        assert_eq!(committed(&client, group).await, Err(ErrorCode::CorruptLog), "{group}");
    }
    let way_out = format!("records delete __groups --partition 3 --before {} --accept-loss", offsets.end);
    let _ = tidelog(&broker, &way_out).await.success();
    let groups = wait_until("what is left", async || {
        let groups = client.admin().list_groups().await.ok()?;
        groups.missing.is_empty().then_some(groups.found)
    });
    let groups: Vec<String> = groups.await.into_iter().map(|listing| listing.group).collect();
    assert_eq!((groups.len(), groups.first()), (1, Some(&kept)), "the other was only in what is lost");
    client.admin().set_group_offsets(&lost, vec![at(orders, 0)]).await.unwrap();
    let client = after_a_crash(&mut broker).await;
    for group in [&kept, &lost] {
        assert_eq!(client.admin().group_offsets(group).await.unwrap().len(), 1, "{group}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_gone_altogether_is_told_and_listed_as_missing_and_given_up_on_an_operators_word() {
    let mut broker = settings().start();
    let client = Client::connect(&broker.server()).await.unwrap();
    let orders = create(&client, broker.address(), "orders").await;
    let [gone] = neighbours::<1>("group", 3);
    let [elsewhere] = neighbours::<1>("group", 4);
    for group in [&gone, &elsewhere] {
        client.admin().set_group_offsets(group, vec![at(orders, 0)]).await.unwrap();
    }
    drop(client);
    assert!(broker.terminate().success());
    let [file] = &segments(broker.data(), "__groups-3")[..] else { panic!("more than one segment") };
    std::fs::remove_file(file).unwrap();
    broker.restart();

    let client = Client::connect(&broker.server()).await.unwrap();
    let refused = within_limit("an answer", client.admin().group_offsets(&gone)).await.unwrap_err();
    let way_out = "tidelog records delete __groups --partition 3 --before 0 --accept-loss";
    let sentence = refused.to_string();
    assert!(
        !refused.is_retriable() && sentence.contains("__groups, partition 3") && sentence.contains(way_out),
        "{sentence}"
    );
    assert_eq!(committed(&client, &elsewhere).await, Ok(vec![0]), "others are served");
    let listed = tidelog(&broker, "groups list").await.expect_code(8);
    assert_eq!(shown(&listed)["groups"].as_array().unwrap().len(), 1, "{listed:?}");
    assert!(listed.stderr.contains("__groups, partition 3"), "{listed:?}");

    // Nothing is given up that was not named, and nothing of a user's.
    for line in ["__groups --partition 3 --before 1 --accept-loss", "__groups --partition 3 --before 0"] {
        let refused = tidelog(&broker, &format!("records delete {line}")).await;
        assert!(refused.code != Some(0) && refused.stderr.contains("are gone"), "{line}: {refused:?}");
    }
    let _ = tidelog(&broker, &way_out["tidelog ".len()..]).await.success();
    wait_until("an empty group", async || (committed(&client, &gone).await == Ok(vec![])).then_some(())).await;
    assert_eq!(committed(&client, &elsewhere).await, Ok(vec![0]), "nothing else was given up");
    assert_eq!(broker.log_lines("an operator has given up what was lost").len(), 1);
    client.admin().set_group_offsets(&gone, vec![at(orders, 0)]).await.unwrap();
    drop(client);
    let client = after_a_crash(&mut broker).await;
    for group in [&gone, &elsewhere] {
        assert_eq!(committed(&client, group).await, Ok(vec![0]), "{group}");
    }
    let _ = tidelog(&broker, "cluster status").await.expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_transactions_that_is_gone_is_given_up_and_what_was_open_is_undone() {
    let mut broker = settings().start();
    let client = Client::connect(&broker.server()).await.unwrap();
    let orders = create(&client, broker.address(), "orders").await;
    let addresses = [broker.address()];
    let [hit] = neighbours::<1>("id", 7);
    let mut lost = RawProducer::begin(&addresses, &hit, LONG).await;
    lost.send((orders, 0), 0, &["lost"]).await.unwrap();
    drop(client);
    assert!(broker.terminate().success());
    std::fs::remove_dir_all(broker.data().join("__transactions-7")).unwrap();
    std::fs::remove_dir_all(broker.data().join("orders-1")).unwrap();
    broker.restart();

    let way_out = "records delete __transactions --partition 7 --before 0 --accept-loss";
    let refused = init(&addresses, &hit, LONG, None).await.unwrap_err();
    assert!(refused.to_string().contains(way_out), "{refused}");
    let _ = tidelog(&broker, way_out).await.success();
    let of_a_user = tidelog(&broker, "records delete orders --partition 1 --before 0 --accept-loss").await;
    assert!(of_a_user.code != Some(0) && of_a_user.stderr.contains("or delete the topic"), "{of_a_user:?}");
    // Nobody knows any more that it was ever open.
    nothing_open(&addresses, orders, 0).await;
    assert_eq!(codes(lost.end(true).await), Some(ErrorCode::UnknownTransaction));
    assert!(codes(lost.send((orders, 0), 1, &["late"]).await).is_some(), "nor becomes anything else part of it");
    let mut reader = RawReader::of(broker.address(), "orders").await;
    assert_eq!(reader.committed(0, Offset(0)).await.unwrap().values(), Vec::<&str>::new());
    let mut successor = RawProducer::begin(&addresses, &hit, LONG).await;
    assert_ne!(successor.identity.producer_id, lost.identity.producer_id, "no epoch of it comes again");
    successor.send((orders, 0), 0, &["new"]).await.unwrap();
    successor.end(true).await.unwrap();
    nothing_open(&addresses, orders, 0).await;
    assert_eq!(reader.committed(0, Offset(0)).await.unwrap().values(), ["new"]);
}

/// One that cannot hear of a part that is missing hears nothing, rather than a part for the whole.
async fn refused_whole_in_the_version_before(broker: &BrokerProcess) {
    const BEFORE: ProtocolVersion = ProtocolVersion(5);
    let mut raw = RawConnection::open(broker.address()).await;
    raw.send(&Preface { version: BEFORE, features: 0 }.encode()).await;
    let mut answer = [0; 8];
    within_limit("the preface", raw.socket.read_exact(&mut answer)).await.unwrap();
    assert_eq!(Preface::decode(answer).unwrap().version, BEFORE);
    let hello = HelloRequest { client_id: "old".into(), software: "old".into(), peer: None };
    let id = raw.request(HelloRequest::API as u16, &hello.to_body(BEFORE), &[]).await;
    assert!(!raw.answer(id).await.header.flags.contains(Flags::FAULT));
    let id = raw.request(ListGroupsRequest::API as u16, &ListGroupsRequest {}.to_body(BEFORE), &[]).await;
    let answer = raw.answer(id).await;
    assert!(answer.header.flags.contains(Flags::FAULT), "{answer:?}");
    let fault = Fault::from_body(&answer.body, BEFORE).unwrap();
    assert_eq!(tidelog_protocol::WireError::from(fault).code, ErrorCode::CorruptLog);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_stood_in_the_damage_is_undone_its_producer_fenced_and_its_neighbours_go_on() {
    let mut broker = settings().start();
    let client = Client::connect(&broker.server()).await.unwrap();
    let orders = create(&client, broker.address(), "orders").await;
    let addresses = [broker.address()];
    let [hit, after] = neighbours::<2>("id", 7);
    // Who it is; that partition 0 belongs to it. Then the same of the other.
    let mut lost = RawProducer::begin(&addresses, &hit, LONG).await;
    lost.send((orders, 0), 0, &["lost"]).await.unwrap();
    let mut kept = RawProducer::begin(&addresses, &after, LONG).await;
    kept.send((orders, 1), 0, &["kept"]).await.unwrap();
    drop(client);
    assert!(broker.terminate().success());
    assert_eq!(damage(broker.data(), "__transactions-7", 1), 1..2);
    broker.restart();

    let client = Client::connect(&broker.server()).await.unwrap();
    assert_eq!(codes(lost.end(true).await), Some(ErrorCode::CorruptLog));
    assert_eq!(codes(kept.end(true).await), Some(ErrorCode::CorruptLog), "who knows what else stood there");
    assert_eq!(codes(init(&addresses, &hit, LONG, None).await), Some(ErrorCode::CorruptLog));
    let refused = within_limit("a partition that is to become part of it", kept.send((orders, 2), 0, &["more"]));
    assert_eq!(codes(refused.await), Some(ErrorCode::CorruptLog), "whoever leads it has asked");
    let listed = tidelog(&broker, "transactions list").await.expect_code(8);
    assert!(listed.stderr.contains("__transactions, partition 7"), "{listed:?}");
    let (stable, end) = ends(&addresses, orders, 0).await;
    assert_eq!((stable, end), (Offset(0), Offset(1)), "it is open");

    let way_out = "records delete __transactions --partition 7 --before 2 --accept-loss";
    let _ = tidelog(&broker, way_out).await.success();
    kept.end(true).await.unwrap();
    assert_eq!(codes(lost.end(true).await), Some(ErrorCode::TransactionFenced));
    // Nobody knows any more that it was ever open.
    nothing_open(&addresses, orders, 0).await;
    nothing_open(&addresses, orders, 1).await;
    let mut reader = RawReader::of(broker.address(), "orders").await;
    assert_eq!(reader.committed(0, Offset(0)).await.unwrap().values(), Vec::<&str>::new());
    assert_eq!(reader.committed(1, Offset(0)).await.unwrap().values(), ["kept"]);
    let mut successor = RawProducer::begin(&addresses, &hit, LONG).await;
    assert_ne!(successor.identity.producer_id, lost.identity.producer_id, "no epoch of it comes again");
    successor.send((orders, 0), 0, &["new"]).await.unwrap();
    successor.end(true).await.unwrap();
    nothing_open(&addresses, orders, 0).await;
    assert_eq!(reader.committed(0, Offset(0)).await.unwrap().values(), ["new"]);
    assert!(client.admin().list_transactions(tidelog_client::TransactionFilter::All).await.unwrap().missing.is_empty());
}
