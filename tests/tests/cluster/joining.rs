//! Becoming part of a cluster and ceasing to be: who cannot be reached is refused and leaves nothing behind, whose place was taken says so and
//! ends, and who waits says for whom.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings, StartRefusal};
use tidelog_tests::command::CommandLine;
use tidelog_tests::http::http_get;
use tidelog_tests::loopback;
use tidelog_tests::patience::wait_for;

fn founder() -> BrokerProcess {
    BrokerSettings::new().set("broker_id", "1").start()
}

fn joiner(id: u32, of: &BrokerProcess) -> BrokerSettings {
    BrokerSettings::new().set("broker_id", &id.to_string()).arg("--join").arg(of.server())
}

fn promote(at: &BrokerProcess, id: u32) {
    let id = id.to_string();
    drop(CommandLine::of("tidelog").args(["--server", &at.server(), "cluster", "promote", &id]).run().success());
}

#[track_caller]
fn refused(settings: BrokerSettings) -> StartRefusal {
    match settings.try_start() {
        Ok(broker) => panic!("it started: {broker:?}"),
        Err(refusal) => refusal,
    }
}

/// The number under which a broker answers.
fn number(of: &BrokerProcess) -> String {
    let told = CommandLine::of("tidelog").args(["--server", &of.server(), "--output", "json", "ping"]).run().success();
    let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
    told["broker_id"].to_string()
}

#[test]
fn brokers_that_nobody_numbers_get_the_next_numbers_though_they_join_together_and_keep_them() {
    let home = tempfile::tempdir().unwrap();
    let data: Vec<_> = ["a", "b", "c", "d"].map(|name| home.path().join(name)).into();
    let founder = BrokerSettings::new().data(&data[0]).start();
    assert_eq!(number(&founder), "1");
    let contact = founder.server();
    let unnumbered = |at: &Path| BrokerSettings::new().data(at).arg("--join").arg(contact.clone());
    let started: Vec<_> = std::thread::scope(|scope| {
        let joins: Vec<_> = data[1..3].iter().map(|data| scope.spawn(move || unnumbered(data).start())).collect();
        joins.into_iter().map(|join| join.join().unwrap()).collect()
    });
    let numbers: Vec<_> = started.iter().map(number).collect();
    assert_eq!(BTreeSet::from_iter(numbers.iter().map(String::as_str)), BTreeSet::from(["2", "3"]));
    // One above the highest, whatever is free below; and a number that is told holds.
    let told = joiner(7, &founder).start();
    let next = unnumbered(&data[3]).start();
    assert_eq!([number(&told), number(&next)], ["7", "8"]);
    // They are who they were, whether they are told again whom to join or not.
    let addresses: Vec<_> = started.iter().map(BrokerProcess::address).collect();
    drop((next, started));
    let refusal = refused(BrokerSettings::new().data(&data[3]).set("broker_id", "2"));
    assert!(refusal.sentence().contains("belongs to broker 8"), "{}", refusal.sentence());
    let told_again = unnumbered(&data[1]).listen(addresses[0]).start();
    let not_told = BrokerSettings::new().data(&data[2]).listen(addresses[1]).start();
    assert_eq!([number(&told_again), number(&not_told)], numbers[..]);
}

#[test]
fn a_broker_that_nobody_reaches_is_refused_with_its_address_and_leaves_nothing_behind() {
    let first = founder();
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let nobody = TcpListener::bind(loopback::fresh()).unwrap().local_addr().unwrap().to_string();
    // Where nobody listens, and where another broker does.
    for (advertised, why) in [(nobody, "refused"), (first.server(), "this is broker 1, not 2")] {
        let refusal = refused(joiner(2, &first).data(&data).set("advertise", &advertised));
        let sentence = refusal.sentence();
        assert_eq!(refusal.code, Some(1), "{sentence}");
        for part in [&advertised, "set advertise", "does not reach", why] {
            assert!(sentence.contains(part), "no {part:?} in: {sentence}");
        }
        assert!(!data.exists(), "the folder is left: {:?}", std::fs::read_dir(&data));
        assert!(first.log_lines("taken into the metadata quorum").is_empty());
    }
    // Nothing of it is in the way of the next try, under another id either; a folder that was there stays.
    std::fs::create_dir(&data).unwrap();
    let refusal = refused(joiner(1, &first).data(&data));
    assert!(refusal.sentence().contains("is there at"), "{}", refusal.sentence());
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0);
    let second = joiner(3, &first).data(&data).start();
    assert_eq!(second.http("/readyz").status, 200);
    assert_eq!(first.log_lines("taken into the metadata quorum").len(), 1);
}

/// Three voters, and the third is thought dead: a broker with an empty folder takes its place.
fn displaced(silence: impl FnOnce(&mut BrokerProcess)) -> (Vec<BrokerProcess>, BrokerProcess) {
    let first = founder();
    let (second, mut third) = (joiner(2, &first).start(), joiner(3, &first).start());
    promote(&first, 2);
    promote(&first, 3);
    silence(&mut third);
    let other = joiner(3, &first).start();
    assert!(!first.log_lines("given up, and its vote with it").is_empty() || !second.log_lines("given up").is_empty());
    (vec![first, second, other], third)
}

#[test]
fn a_running_broker_whose_place_was_taken_says_so_and_ends() {
    let (cluster, mut third) = displaced(|third| third.pause());
    third.resume();
    let status = third.wait_for_end();
    assert_eq!(status.code(), Some(1));
    let text = third.log_text();
    assert!(text.contains("has taken the place of") && text.contains("empty data folder"), "{text}");
    for broker in &cluster {
        assert_eq!(broker.http("/readyz").status, 200);
    }
}

#[test]
fn a_broker_that_comes_back_after_its_place_was_taken_says_so_and_ends() {
    let (cluster, mut third) = displaced(BrokerProcess::kill);
    let text = match third.try_restart() {
        // A slow machine may let it serve what it has first.
        Ok(()) => {
            assert_eq!(third.wait_for_end().code(), Some(1));
            third.log_text()
        }
        Err(refusal) => {
            assert_eq!(refusal.code, Some(1));
            refusal.stderr
        }
    };
    assert!(text.contains("has taken the place of"), "{text}");
    for broker in &cluster {
        assert_eq!(broker.http("/readyz").status, 200);
    }
}

#[test]
fn a_broker_that_missed_its_removal_is_told_of_it() {
    let first = founder();
    let mut second = joiner(2, &first).start();
    second.kill();
    let remove = || {
        let done = CommandLine::of("tidelog").args(["--server", &first.server(), "cluster", "remove", "2"]).run();
        (done.code == Some(0)).then_some(())
    };
    wait_for("the end of its lease", remove);
    let text = match second.try_restart() {
        Ok(()) => {
            assert_eq!(second.wait_for_end().code(), Some(1));
            second.log_text()
        }
        Err(refusal) => refusal.stderr,
    };
    assert!(text.contains("was removed from the cluster"), "{text}");
    let status = CommandLine::of("tidelog").args(["--server", &first.server(), "cluster", "status"]).run();
    let page = status.expect_code(0).text();
    assert!(!page.contains(&second.server()), "it is part of the cluster again: {page}");
}

#[test]
fn a_broker_that_waits_for_the_quorum_says_for_whom_in_its_log_and_on_its_admin_port() {
    let mut first = founder();
    let mut second = joiner(2, &first).start();
    promote(&first, 2);
    second.kill();
    first.kill();
    let admin = second.admin_address();
    let seen = std::thread::spawn(move || {
        wait_for("the admin port of a broker that waits", || {
            let answer = http_get(admin, "/readyz").ok()?;
            assert_eq!(http_get(admin, "/livez").ok()?.status, 200);
            answer.body.contains("FAULT started: waiting for the quorum (members").then_some(answer)
        })
    });
    second.restart();
    let answer = seen.join().unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains(&first.server()), "{}", answer.body);
    let told = second.log_lines("waiting for the quorum (members");
    assert!(!told.is_empty(), "{}", second.log_text());
    assert!(told[0]["message"].as_str().unwrap().contains(&first.server()));
    let now = second.http("/readyz");
    assert_eq!(now.status, 503, "it serves what it has, but for a majority it waits still");
    assert!(now.body.contains("ok    started"), "{}", now.body);
}

#[test]
fn who_is_told_to_join_where_no_broker_is_says_so_at_once() {
    let server = TcpListener::bind(loopback::fresh()).unwrap();
    let address = server.local_addr().unwrap().to_string();
    let answering = std::thread::spawn(move || {
        let (mut asked, _) = server.accept().unwrap();
        asked.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").unwrap();
        // Held until the other side has read it.
        drop(asked.read(&mut [0; 64]));
        server
    });
    let refusal = refused(BrokerSettings::new().set("broker_id", "2").arg("--join").arg(&address));
    drop(answering.join().unwrap());
    assert_eq!(refusal.code, Some(1));
    let sentence = refusal.sentence();
    assert!(sentence.contains("who is no broker") && sentence.contains("set join to a broker"), "{sentence}");
    assert!(!refusal.stderr.contains("asking again"), "{}", refusal.stderr);
}

#[test]
fn a_broker_that_shall_join_itself_says_so_at_once_unless_it_belongs_to_a_cluster() {
    let first = founder();
    let mut second = joiner(2, &first).start();
    let (at, second_data) = (second.address(), second.data().to_owned());
    assert!(second.terminate().success());
    let itself = |data: &Path| {
        BrokerSettings::new().set("broker_id", "2").data(data).listen(at).arg("--join").arg(at.to_string())
    };
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let refusal = refused(itself(&data));
    assert_eq!(refusal.code, Some(1));
    let sentence = refusal.sentence();
    assert!(sentence.contains("is this broker itself") && sentence.contains("set join to a broker"), "{sentence}");
    assert!(!refusal.stderr.contains("asking again") && !data.exists(), "{}", refusal.stderr);
    // Where all have the same settings, one of them is told to join itself at each start.
    let again = itself(&second_data).start();
    assert_eq!(again.http("/readyz").status, 200);
    assert_eq!(first.log_lines("taken into the metadata quorum").len(), 1);
}

#[test]
fn a_member_that_founds_a_cluster_of_its_own_is_told_of_by_the_others() {
    let first = founder();
    let mut second = joiner(2, &first).start();
    let at = second.address();
    second.kill();
    let home = tempfile::tempdir().unwrap();
    let stranger = BrokerSettings::new().set("broker_id", "2").data(home.path().join("data")).listen(at).start();
    let told = wait_for("a word of the stranger", || {
        first.log_lines("somebody else answers where a member of the metadata quorum should be").into_iter().next()
    });
    let text = told.to_string();
    assert!(text.contains(&at.to_string()) && text.contains("belongs to cluster"), "{text}");
    drop(stranger);
}
