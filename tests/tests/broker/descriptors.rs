//! A low limit of open files: what cannot be opened is not created, and clients find descriptors in any case.

use tidelog_protocol::records::Compression;
use tidelog_tests::broker_process::BrokerSettings;
use tidelog_tests::command::CommandLine;
use tidelog_tests::raw_connection::{RawConnection, batch};
use tidelog_tests::requirements::{Need, requires};

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_cannot_be_opened_are_not_created_and_clients_are_served() {
    let name = "partitions_that_cannot_be_opened_are_not_created_and_clients_are_served";
    if !requires(name, &[Need::Prlimit]) {
        return;
    }
    let broker = BrokerSettings::new().under(["prlimit", "--nofile=512:1024"]).start();
    let warned = broker.log_lines("connections_max = 10000");
    assert_eq!(warned.len(), 1, "{}", broker.log_text());
    let run = |words: &str| {
        let all = ["--server", &broker.server()].map(str::to_owned).into_iter();
        CommandLine::of("tidelog").args(all.chain(words.split(' ').map(str::to_owned))).run()
    };
    let refused = run("topics create big --partitions 3000");
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("1024 files") && refused.stderr.contains("ulimit -n"), "{}", refused.stderr);
    assert!(!broker.data().join("big-0").exists());
    // As many as it says, and clients beside them.
    let _ = run("topics create most --partitions 299").success();
    assert_ne!(run("topics add-partitions most --total 300").code, Some(0));
    let mut connections = Vec::new();
    for _ in 0..290 {
        connections.push(RawConnection::introduced(broker.address()).await);
    }
    let connection = connections.last_mut().unwrap();
    let topic_id = connection.topic_id("most").await;
    connection.produce(topic_id, &batch(&[b"value"], Compression::None)).await.unwrap();
    assert!(broker.log_lines("cannot accept").is_empty());
}
