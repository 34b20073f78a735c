//! Files that somebody takes away, or cuts short, while the broker runs: what goes there is acknowledged to nobody, and who reads hears what is
//! lost.

use std::fs;

use tidelog_client::NewTopic;
use tidelog_protocol::records::Compression;
use tidelog_protocol::{ErrorCode, TopicId};
use tidelog_tests::broker_process::BrokerSettings;
use tidelog_tests::contents::{read_all, read_around_damage};
use tidelog_tests::raw_connection::{RawConnection, batch};
use tidelog_tests::workload::create_topic;

async fn produce(connection: &mut RawConnection, topic: TopicId, value: &[u8]) -> Result<u64, ErrorCode> {
    let batch = batch(&[value], Compression::None);
    connection.produce(topic, &batch).await.map(|answer| answer.base_offset.0).map_err(|error| error.code)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_whose_folder_is_taken_away_acknowledges_nothing_more_and_says_so() {
    let broker = BrokerSettings::new().start();
    for topic in ["taken", "kept"] {
        create_topic(&broker.server(), &NewTopic::named(topic)).await.unwrap();
    }
    let mut connection = RawConnection::introduced(broker.address()).await;
    let (taken, kept) = (connection.topic_id("taken").await, connection.topic_id("kept").await);
    assert_eq!(produce(&mut connection, taken, b"before").await, Ok(0));
    fs::remove_dir_all(broker.data().join("taken-0")).unwrap();
    assert_eq!(produce(&mut connection, taken, b"after").await, Err(ErrorCode::StorageFailed));
    assert_eq!(produce(&mut connection, taken, b"again").await, Err(ErrorCode::OutOfService));
    assert_eq!(produce(&mut connection, kept, b"another").await, Ok(0));
    let ready = broker.http("/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("FAULT partitions: 1 partition out of service"), "{}", ready.body);
    let told = broker.log_lines("the partition is out of service");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].to_string().contains("deleted or moved while the broker ran"), "{}", told[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_is_cut_short_is_damage_to_who_reads_it_and_to_the_operator() {
    let broker = BrokerSettings::new().start();
    let topic = NewTopic::named("cut").config("segment.bytes", "65536").config("max.message.bytes", "32768");
    create_topic(&broker.server(), &topic).await.unwrap();
    let mut connection = RawConnection::introduced(broker.address()).await;
    let cut = connection.topic_id("cut").await;
    for number in 0..60 {
        assert_eq!(produce(&mut connection, cut, &[b'x'; 10_000]).await, Ok(number));
    }
    assert_eq!(read_all(&broker.server(), "cut").await[0].records.len(), 60, "all of it is whole");

    let mut segments: Vec<_> =
        fs::read_dir(broker.data().join("cut-0")).unwrap().map(|file| file.unwrap().path()).collect();
    segments.retain(|file| file.extension().is_some_and(|extension| extension == "log"));
    segments.sort();
    let base = |at: usize| segments[at].file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    fs::File::options().write(true).open(&segments[3]).unwrap().set_len(100).unwrap();
    let contents = read_around_damage(&broker.server(), "cut").await.remove(0);
    assert!(matches!(&contents.damaged[..], [range] if *range == (base(3)..base(4))), "{:?}", contents.damaged);
    assert_eq!(contents.records.len() as u64, 60 - (base(4) - base(3)), "the rest is served");
    assert_eq!(broker.log_lines("damaged").len(), 1, "an operator is told, once");
    let ready = broker.http("/readyz");
    assert!(ready.body.contains("warn  partitions: 1 partition with a damaged range"), "{}", ready.body);
}
