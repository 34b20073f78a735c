//! What an operator's machinery asks a running broker: alive, ready, metrics.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use tidelog_client::NewTopic;
use tidelog_protocol::records::Compression;
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::patience::LIMIT;
use tidelog_tests::raw_connection::{RawConnection, batch};
use tidelog_tests::workload::create_topic;

/// Every sample of an exposition, by name and labels; fails where a line is none.
fn samples(text: &str) -> HashMap<String, f64> {
    assert!(text.ends_with("# EOF\n"), "OpenMetrics ends with its own mark");
    let mut described = Vec::new();
    let mut samples = HashMap::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            if let Some(("TYPE", rest)) = comment.split_once(' ') {
                described.push(rest.split(' ').next().unwrap().to_string());
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        let family = name.split('{').next().unwrap();
        assert!(family.starts_with("tidelog_"), "{line}");
        assert!(described.iter().any(|known| family.starts_with(known.as_str())), "without a type: {line}");
        assert!(samples.insert(name.to_string(), value).is_none(), "twice: {line}");
    }
    samples
}

#[test]
fn a_broker_that_serves_is_alive_and_ready_and_says_of_what() {
    let broker = BrokerProcess::start();
    assert_eq!(broker.http("/livez").status, 200);
    let ready = broker.http("/readyz");
    assert_eq!(ready.status, 200);
    for check in ["accepting", "log-writable", "disk-space", "metadata", "partitions"] {
        assert!(ready.body.contains(&format!("ok    {check}\n")), "{}", ready.body);
    }
    assert_eq!(broker.http("/nothing").status, 404);
    let mut socket = TcpStream::connect(broker.admin_address()).unwrap();
    socket.write_all(b"this is no HTTP\r\n\r\n").unwrap();
    assert_eq!(broker.http("/livez").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_can_be_parsed_and_count_what_happened() {
    let broker = BrokerProcess::start();
    let before = samples(&broker.http("/metrics").body);
    create_topic(&broker.server(), &NewTopic::named("counted").partitions(3)).await.unwrap();
    let mut connection = RawConnection::introduced(broker.address()).await;
    let topic = connection.topic_id("counted").await;
    for _ in 0..5 {
        connection.produce(topic, &batch(&[b"one", b"two"], Compression::None)).await.unwrap();
    }
    let answer = broker.http("/metrics");
    assert!(answer.head.to_lowercase().contains("content-type: application/openmetrics-text"), "{}", answer.head);
    let after = samples(&answer.body);
    let grown = |name: &str| after.get(name).unwrap_or(&0.0) - before.get(name).unwrap_or(&0.0);
    assert_eq!(grown("tidelog_topic_records_in_total{topic=\"counted\"}"), 10.0, "{}", answer.body);
    assert_eq!(grown("tidelog_requests_total{api=\"Produce\"}"), 5.0);
    assert!(grown("tidelog_received_bytes_total") > 0.0);
    assert_eq!(after["tidelog_partitions"], 3.0);
    assert_eq!(after["tidelog_partitions_poisoned"], 0.0);
    assert!(after["tidelog_connections"] >= 1.0);
    let (resident, own) = ("tidelog_process_resident_memory_bytes", "tidelog_process_anonymous_memory_bytes");
    assert!(after[own] > 1e6 && after[own] < after[resident], "{own} is a part of {resident}");
    assert!(after["tidelog_disk_free_bytes"] > 0.0);
}

#[test]
fn a_scraper_that_knows_only_the_older_text_format_gets_that() {
    let broker = BrokerProcess::start();
    let mut socket = TcpStream::connect(broker.admin_address()).unwrap();
    let request = "GET /metrics HTTP/1.1\r\nhost: here\r\naccept: text/plain;version=0.0.4\r\n\r\n";
    socket.write_all(request.as_bytes()).unwrap();
    let answer = until_closed(&mut socket);
    assert!(answer.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("\n# TYPE tidelog_flushes_total counter\ntidelog_flushes_total "), "{answer}");
    assert!(!answer.contains("# EOF") && !answer.contains("# UNIT"), "{answer}");
}

/// What comes until the connection ends.
fn until_closed(socket: &mut TcpStream) -> String {
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut text = Vec::new();
    socket.read_to_end(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn a_client_of_the_admin_port_that_drips_its_request_is_cut_off() {
    let broker = BrokerSettings::new().set("admin_timeout_ms", "200").start();
    let mut silent = TcpStream::connect(broker.admin_address()).unwrap();
    let mut slow = TcpStream::connect(broker.admin_address()).unwrap();
    slow.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    // It never falls silent, so only a limit for the whole helps.
    let mut dripping = slow.try_clone().unwrap();
    let drip = std::thread::spawn(move || {
        while dripping.write_all(b"x-drip: drip\r\n").is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    slow.set_read_timeout(Some(LIMIT)).unwrap();
    let mut answer = [0; 12];
    slow.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    drip.join().unwrap();
    assert!(until_closed(&mut silent).starts_with("HTTP/1.1 408"));
    assert_eq!(broker.http("/livez").status, 200);
}

#[test]
fn a_crowd_of_silent_clients_does_not_keep_an_operator_out() {
    let broker = BrokerSettings::new().set("admin_connections_max", "3").set("admin_timeout_ms", "600000").start();
    let open = || TcpStream::connect(broker.admin_address()).unwrap();
    let mut crowd: Vec<TcpStream> = (0..8).map(|_| open()).collect();
    assert_eq!(broker.http("/livez").status, 200);
    // Eight and the operator came, three may stay: the oldest six went.
    for gone in &mut crowd[..6] {
        assert!(until_closed(gone).starts_with("HTTP/1.1 503"));
    }
    for stays in &mut crowd[6..] {
        stays.write_all(b"GET /livez HTTP/1.1\r\nhost: here\r\n\r\n").unwrap();
        let answer = until_closed(stays);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
}

#[test]
fn a_request_to_the_admin_port_without_end_is_refused() {
    let broker = BrokerSettings::new().set("admin_timeout_ms", "600000").start();
    let mut socket = TcpStream::connect(broker.admin_address()).unwrap();
    socket.write_all(b"GET /livez HTTP/1.1\r\n").unwrap();
    let line = [b"x-long: ", &[b'a'; 1000][..], b"\r\n"].concat();
    let mut endless = socket.try_clone().unwrap();
    let sending = std::thread::spawn(move || (0..200_000).take_while(|_| endless.write_all(&line).is_ok()).count());
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
    socket.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(sending.join().unwrap() < 200_000);
    assert_eq!(broker.http("/livez").status, 200);
}

#[test]
fn half_a_request_to_the_admin_port_does_not_hold_up_the_end_of_a_broker() {
    let mut broker = BrokerSettings::new().set("admin_timeout_ms", "600000").start();
    let mut half = TcpStream::connect(broker.admin_address()).unwrap();
    half.write_all(b"GET /livez HTTP/1.1\r\n").unwrap();
    // Whoever comes later is served: the broker has taken this one.
    assert_eq!(broker.http("/livez").status, 200);
    assert!(broker.terminate().success());
    let answer = until_closed(&mut half);
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("the broker stops"), "{answer}");
}
