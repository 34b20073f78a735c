//! Streams that clients open and leave alone: they take memory, so there are so many and no more.

use tidelog_client::NewTopic;
use tidelog_protocol::messages::{Isolation, Position, SubscribeRequest};
use tidelog_protocol::records::Compression;
use tidelog_protocol::{ErrorCode, PartitionId, TopicId};
use tidelog_tests::broker_process::BrokerSettings;
use tidelog_tests::patience::wait_until;
use tidelog_tests::raw_connection::{RawConnection, batch};
use tidelog_tests::workload::create_topic;

const BUDGET_BYTES: u64 = 4 << 20;
/// An eighth of the budget, at 2 KiB a stream.
const STREAMS: usize = 256;

fn subscribe(topic_id: TopicId) -> SubscribeRequest {
    SubscribeRequest {
        topic_id,
        partition: PartitionId(0),
        leader_epoch: None,
        position: Position::LATEST,
        isolation: Isolation::ReadUncommitted,
        credit_bytes: 1 << 20,
        item_bytes_max: 1 << 20,
        nearby: false,
        settled: false,
        last_epoch: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_streams_are_bounded_for_one_client_and_for_all_and_come_free_with_them() {
    let broker = BrokerSettings::new().set("memory_budget_bytes", &BUDGET_BYTES.to_string()).start();
    create_topic(&broker.server(), &NewTopic::named("idle").partitions(1)).await.unwrap();
    let mut first = RawConnection::introduced(broker.address()).await;
    let topic_id = first.topic_id("idle").await;
    for number in 0..=STREAMS / 4 {
        let id = first.ask(&subscribe(topic_id), &[]).await;
        let told = RawConnection::outcome(&first.answer(id).await);
        if number < STREAMS / 4 {
            assert!(told.is_ok(), "{number}: {told:?}");
        } else {
            let refusal = told.unwrap_err();
            assert_eq!(refusal.code, ErrorCode::Overloaded);
            assert!(refusal.message.contains("this connection") && refusal.retry_after_ms > 0, "{refusal}");
        }
    }
    // Others have theirs, until there is no more.
    let mut others = Vec::new();
    let refusal = 'all: loop {
        assert!(others.len() < 4, "there is no end");
        let mut connection = RawConnection::introduced(broker.address()).await;
        for _ in 0..STREAMS / 4 {
            let id = connection.ask(&subscribe(topic_id), &[]).await;
            if let Err(refusal) = RawConnection::outcome(&connection.answer(id).await) {
                break 'all refusal;
            }
        }
        others.push(connection);
    };
    assert_eq!(refusal.code, ErrorCode::Overloaded);
    assert!(refusal.message.contains("memory_budget_bytes"), "{refusal}");
    // Requests do not live on that memory.
    first.produce(topic_id, &batch(&[b"value"], Compression::None)).await.unwrap();
    drop(others);
    let mut later = RawConnection::introduced(broker.address()).await;
    wait_until("a stream to be opened", async || {
        let id = later.ask(&subscribe(topic_id), &[]).await;
        RawConnection::outcome(&later.answer(id).await).ok()
    })
    .await;
}
