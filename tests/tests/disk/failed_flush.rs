//! A flush that fails, on the unmodified binary: the kernel reports it once and would lie the second time, so it is final. Needs root and
//! strace.

use tidelog_client::NewTopic;
use tidelog_protocol::messages::{Acks, ProduceRequest};
use tidelog_protocol::records::Compression;
use tidelog_protocol::{ErrorCode, TopicId};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::contents::read_all;
use tidelog_tests::raw_connection::{RawConnection, batch, produce_request};
use tidelog_tests::requirements::{Need, requires};
use tidelog_tests::syscall_fault::SyscallFault;
use tidelog_tests::workload::create_topic;

async fn produce(connection: &mut RawConnection, topic: TopicId, value: &str) -> Result<u64, ErrorCode> {
    let batch = batch(&[value.as_bytes()], Compression::None);
    connection.produce(topic, &batch).await.map(|answer| answer.base_offset.0).map_err(|error| error.code)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_flush_takes_its_partition_out_of_service_and_no_other() {
    if !requires("a_failed_flush_takes_its_partition_out_of_service_and_no_other", &[Need::Strace]) {
        return;
    }
    let mut broker = BrokerProcess::start();
    let server = broker.server();
    for topic in ["unlucky", "healthy"] {
        create_topic(&server, &NewTopic::named(topic)).await.unwrap();
    }
    let mut connection = RawConnection::introduced(broker.address()).await;
    let (unlucky, healthy) = (connection.topic_id("unlucky").await, connection.topic_id("healthy").await);
    assert_eq!(produce(&mut connection, unlucky, "before").await, Ok(0));
    assert_eq!(produce(&mut connection, healthy, "before").await, Ok(0));
    assert_eq!(broker.http("/readyz").status, 200);

    let fault = SyscallFault::on(broker.pid(), "fdatasync:error=EIO:when=1");
    assert_eq!(produce(&mut connection, unlucky, "hit").await, Err(ErrorCode::StorageFailed));
    let injected = fault.injected();
    assert!(injected.iter().any(|call| call.contains("unlucky-0")), "the fault hit something else: {injected:?}");
    drop(fault);

    // The disk would say yes now, and that would be a lie.
    for _ in 0..3 {
        assert_eq!(produce(&mut connection, unlucky, "after").await, Err(ErrorCode::OutOfService));
    }
    assert_eq!(produce(&mut connection, healthy, "after").await, Ok(1));
    assert!(broker.is_alive());
    assert_eq!(broker.http("/livez").status, 200);
    let ready = broker.http("/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("FAULT partitions: 1 partition out of service"), "{}", ready.body);
    assert!(ready.body.contains("ok    log-writable"), "{}", ready.body);
    assert!(broker.http("/metrics").body.contains("tidelog_partitions_poisoned 1"));
    assert_eq!(broker.log_lines("the partition is out of service").len(), 1, "an operator is told, once");

    // Only a restart, which reads what the disk really has, brings it back.
    broker.kill();
    broker.restart();
    let mut connection = RawConnection::introduced(broker.address()).await;
    assert!(produce(&mut connection, unlucky, "again").await.is_ok());
    assert_eq!(broker.http("/readyz").status, 200);
    let values: Vec<String> =
        read_all(&server, "unlucky").await.remove(0).records.into_iter().map(|(_, v)| v).collect();
    assert_eq!(
        (values.first().map(String::as_str), values.last().map(String::as_str)),
        (Some("before"), Some("again"))
    );
    assert!(!values.contains(&"after".to_string()), "what was refused must not be there: {values:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_is_never_acknowledged_and_the_others_live_on() {
    if !requires("a_failed_write_is_never_acknowledged_and_the_others_live_on", &[Need::Strace]) {
        return;
    }
    let mut broker = BrokerProcess::start();
    let server = broker.server();
    for topic in ["unlucky", "healthy"] {
        create_topic(&server, &NewTopic::named(topic).config("durability", "written")).await.unwrap();
    }
    let mut connection = RawConnection::introduced(broker.address()).await;
    let (unlucky, healthy) = (connection.topic_id("unlucky").await, connection.topic_id("healthy").await);
    assert_eq!(produce(&mut connection, unlucky, "before").await, Ok(0));

    let fault = SyscallFault::on(broker.pid(), "pwritev,pwritev2,pwrite64:error=EIO");
    assert_eq!(produce(&mut connection, unlucky, "hit").await, Err(ErrorCode::StorageFailed));
    assert!(fault.injected().iter().any(|call| call.contains("unlucky-0")), "{:?}", fault.injected());
    drop(fault);
    assert_eq!(produce(&mut connection, unlucky, "after").await, Err(ErrorCode::OutOfService));
    assert_eq!(produce(&mut connection, healthy, "after").await, Ok(0));
    assert!(broker.is_alive());

    broker.kill();
    broker.restart();
    let mut connection = RawConnection::introduced(broker.address()).await;
    assert_eq!(produce(&mut connection, unlucky, "again").await, Ok(1));
    let records = read_all(&server, "unlucky").await.remove(0).records;
    assert_eq!(records, [(0, "before".to_string()), (1, "again".to_string())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_is_told_though_no_acknowledgement_was_wanted() {
    if !requires("a_failed_write_is_told_though_no_acknowledgement_was_wanted", &[Need::Strace]) {
        return;
    }
    let broker = BrokerProcess::start();
    create_topic(&broker.server(), &NewTopic::named("unlucky")).await.unwrap();
    let mut connection = RawConnection::introduced(broker.address()).await;
    let unlucky = connection.topic_id("unlucky").await;
    assert_eq!(produce(&mut connection, unlucky, "before").await, Ok(0));

    let request = ProduceRequest { acks: Acks::None, ..produce_request(unlucky) };
    let fault = SyscallFault::on(broker.pid(), "pwritev,pwritev2,pwrite64:error=EIO");
    // What it was admitted for did not come about.
    let refused = connection.call(&request, &batch(&[b"hit"], Compression::None)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::StorageFailed, "{refused}");
    assert!(fault.injected().iter().any(|call| call.contains("unlucky-0")), "{:?}", fault.injected());
    drop(fault);
    let refused = connection.call(&request, &batch(&[b"after"], Compression::None)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::OutOfService, "{refused}");
}
