//! A broker one of whose vital tasks panics ends as a process, and says so: whoever looks after it starts it again. The panic is a real one, of the
//! unmodified binary: a system that gives it no more threads, and a task that cannot go on without one. Needs root and strace.

use tidelog_client::NewTopic;
use tidelog_protocol::records::Compression;
use tidelog_tests::broker_process::BrokerSettings;
use tidelog_tests::contents::read_all;
use tidelog_tests::patience::wait_for;
use tidelog_tests::raw_connection::{RawConnection, batch};
use tidelog_tests::requirements::{Need, requires};
use tidelog_tests::syscall_fault::SyscallFault;
use tidelog_tests::workload::create_topic;

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_one_of_whose_vital_tasks_panics_ends_and_comes_back_with_all_that_it_acknowledged() {
    if !requires(
        "a_broker_one_of_whose_vital_tasks_panics_ends_and_comes_back_with_all_that_it_acknowledged",
        &[Need::Strace],
    ) {
        return;
    }
    let settings = BrokerSettings::new().set("housekeeping_interval_ms", "15000").set("scrub_bytes_per_second", "0");
    let mut broker = settings.start();
    create_topic(&broker.server(), &NewTopic::named("kept")).await.unwrap();
    let mut connection = RawConnection::introduced(broker.address()).await;
    let topic = connection.topic_id("kept").await;
    connection.produce(topic, &batch(&[b"value"], Compression::None)).await.unwrap();

    // Threads of the blocking pool that have nothing to do for ten seconds end, and housekeeping wants one each fifteen.
    let fault = SyscallFault::on(broker.pid(), "clone3:error=EPERM");
    wait_for("the broker to end", || (!broker.is_alive()).then_some(()));
    let refused = fault.injected().iter().filter(|line| line.contains("clone3(")).count();
    assert!(refused > 0, "no thread was asked for");
    drop(fault);
    let log = broker.log_text();
    assert_eq!(broker.wait_for_end().code(), Some(1), "{log}");
    assert!(log.contains("tidelog-broker: the broker broke down: its task '"), "{log}");
    assert!(log.contains("recovery runs at the next start"), "{log}");
    assert!(broker.log_lines("stopped cleanly").is_empty(), "what it would note at a clean end nobody knows: {log}");

    broker.restart();
    let contents = read_all(&broker.server(), "kept").await;
    assert_eq!(contents[0].records, [(0, "value".to_owned())]);
}
