//! Topics with one replica in a cluster: what was acknowledged stands or falls with one disk, so nothing of it may be given up that is still there.

use std::path::Path;

use tidelog_client::{Client, NewTopic, TopicProducer};
use tidelog_protocol::{BrokerId, Offset, TopicId};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::patience::wait_for;

/// Zeros from the first byte of a batch on to the end of its block look like a block that no flush ever wrote. Gives the first offset that is lost.
fn forget_to_the_end_of_a_block(log: &Path) -> u64 {
    let mut bytes = std::fs::read(log).unwrap();
    let mut at = 0;
    while at % 512 == 0 || at % 512 > 400 {
        // Base offset, then how long the rest is.
        let rest = u32::from_be_bytes(bytes[at + 8..at + 12].try_into().unwrap());
        at += 12 + rest as usize;
    }
    let offset = u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    let end = at.next_multiple_of(4096);
    bytes[at..end].fill(0);
    std::fs::write(log, &bytes).unwrap();
    offset
}

/// Has the broker noted that so much of the topic's partition is settled?
fn has_noted(broker: &BrokerProcess, topic_id: TopicId, end: u64) -> bool {
    let noted = std::fs::read(broker.data().join("high-watermarks")).unwrap_or_default();
    let entry = [&topic_id.0[..], &0_u32.to_be_bytes(), &end.to_be_bytes()].concat();
    noted.windows(entry.len()).any(|bytes| bytes == entry)
}

async fn send(topic: &TopicProducer) -> Option<Offset> {
    topic.send(None, b"value").await.unwrap().await.unwrap().offset
}

#[tokio::test(flavor = "multi_thread")]
async fn what_had_been_noted_of_one_is_not_taken_for_unfinished_though_nobody_leads_it_yet() {
    let first = BrokerSettings::new().set("broker_id", "1").start();
    let joiner = BrokerSettings::new().set("broker_id", "2").set("housekeeping_interval_ms", "200");
    let mut second = joiner.arg("--join").arg(first.server()).start();
    let client = Client::connect(&first.server()).await.unwrap();
    // Leaders are spread: one of two topics is led by the broker that founded nothing.
    let names = ["one", "other"];
    for name in names {
        client.admin().create_topic(&NewTopic::named(name).partitions(1).replication_factor(1)).await.unwrap();
    }
    let described = client.admin().describe_topics(&names).await.unwrap();
    let led = described.iter().find(|topic| topic.partitions[0].leader == Some(BrokerId(2))).unwrap();
    let topic = client.producer().build().unwrap().topic(led.name.as_str()).await.unwrap();
    for offset in 0..150 {
        assert_eq!(send(&topic).await, Some(Offset(offset)));
    }
    wait_for("the end to be noted", || has_noted(&second, led.topic_id, 150).then_some(()));
    second.kill();
    let folder = second.data().join(format!("{}-0", led.name));
    let lost = forget_to_the_end_of_a_block(&folder.join("00000000000000000000.log"));
    assert!((1..80).contains(&lost), "there is something before the gap, and a block and more behind it: {lost}");
    second.restart();
    assert_eq!(send(&topic).await, Some(Offset(150)), "no offset is given out again, and what stands behind is kept");
    assert_eq!(second.log_lines("power was lost").len(), 0, "{}", second.log_text());
}
