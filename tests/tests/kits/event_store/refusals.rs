//! What the store refuses, and says so: topics that lose events, arguments out of range, schemas that nobody knows, records that do not belong there.

use bytes::Bytes;
use tidelog_client::event_store::*;
use tidelog_client::{NewTopic, Offset, PartitionId, Record};
use tidelog_tests::patience::within_limit;

use super::running::{Running, event, texts};

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_would_not_keep_the_events_are_refused() {
    let broker = Running::start().await;
    let client = broker.client().await;
    let admin = client.admin();
    let refusal = async |name: &str| client.event_store(name).open().await.unwrap_err().to_string();

    assert!(refusal("nowhere").await.contains("nowhere"));
    client.event_store("good").create(2, None).await.unwrap();
    for (key, value, back) in [("retention.ms", "60000", "-1"), ("retention.bytes", "1000000", "-1")] {
        admin.alter_topic("good", &[(key, value)], &[]).await.unwrap();
        let text = refusal("good").await;
        assert!(text.contains("good") && text.contains(key) && text.contains(value), "{text}");
        admin.alter_topic("good", &[(key, back)], &[]).await.unwrap();
    }
    admin.alter_topic("good", &[("cleanup.policy", "compact")], &[]).await.unwrap();
    assert!(refusal("good").await.contains("cleanup.policy is compact"));
    admin.alter_topic("good", &[("cleanup.policy", "delete")], &[]).await.unwrap();
    admin.alter_topic("good.snapshots", &[("cleanup.policy", "delete")], &[]).await.unwrap();
    assert!(refusal("good").await.contains("good.snapshots"));
    admin.alter_topic("good.snapshots", &[("cleanup.policy", "compact")], &[]).await.unwrap();
    client.event_store("good").open().await.unwrap();

    for name in ["good", "good.snapshots", "good.index"] {
        admin.create_partitions(name, 3).await.unwrap();
    }
    let text = refusal("good").await;
    assert!(text.contains("3 partitions now") && text.contains("over 2"), "{text}");

    admin.create_topic(&NewTopic::named("foreign").partitions(1)).await.unwrap();
    let error = client.event_store("foreign").create(1, None).await.unwrap_err();
    assert!(
        error.to_string().contains("retention.ms"),
        "that of a topic nobody thought of deletes after a week: {error}"
    );
    admin.alter_topic("foreign", &[("retention.ms", "-1")], &[]).await.unwrap();
    let producer = client.producer().build().unwrap();
    producer.send(Record::to("foreign").value("x")).await.unwrap().await.unwrap();
    let error = client.event_store("foreign").create(1, None).await.unwrap_err();
    assert!(error.to_string().contains("not written by an event store"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_out_of_range_are_named() {
    let broker = Running::start().await;
    let client = broker.client().await;
    let store = broker.store("arguments").await;
    let refused = |error: AppendError| match error {
        AppendError::Store(StoreError::Argument(text)) => text,
        error => panic!("{error}"),
    };
    assert!(refused(store.append("", Expected::Any, event("x")).await.unwrap_err()).contains("1 to 1024"));
    assert!(refused(store.append("a", Expected::Any, Vec::new()).await.unwrap_err()).contains("not 0"));
    assert!(
        refused(store.append_once("a", vec![b'c'; 2_000], Expected::Any, event("x")).await.unwrap_err())
            .contains("2000")
    );
    let unnumbered = vec![NewEvent::new("k", "v").schema(0)];
    assert!(refused(store.append("a", Expected::Any, unnumbered).await.unwrap_err()).contains("schema"));
    let large = vec![NewEvent::new("k", vec![0; 2 << 20])];
    let error = store.append("a", Expected::Any, large).await.unwrap_err();
    assert!(matches!(error, AppendError::Store(StoreError::TooLarge { .. })), "{error}");
    assert_eq!(store.version("a").await.unwrap(), Version::NONE);
    assert!(client.event_store("arguments").command_window(0).open().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_earlier_schemas_are_read_as_todays_and_of_later_ones_not_at_all() {
    let broker = Running::start().await;
    let client = broker.client().await;
    let old = client.event_store("schemas").create(1, None).await.unwrap();
    old.append("a", Expected::Any, vec![NewEvent::new("paid", "3"), NewEvent::new("noted", "n")]).await.unwrap();

    let cents = |euros: &Bytes| Ok(Bytes::from(format!("{}00", std::str::from_utf8(euros)?)));
    let upcasters = Upcasters::new().upcast("paid", 1, cents);
    let new = client.event_store("schemas").upcasters(upcasters).open().await.unwrap();
    new.append("a", Version(2), vec![NewEvent::new("paid", "450").schema(2)]).await.unwrap();
    let events = new.load("a").await.unwrap().events;
    assert_eq!(texts(&events), ["300", "n", "450"]);
    assert_eq!(events.iter().map(|event| event.schema).collect::<Vec<_>>(), [2, 1, 2]);

    old.catch_up("a").await.unwrap();
    let error = old.load("a").await.unwrap_err();
    assert_eq!(error, StoreError::UnknownSchema { kind: "paid".into(), schema: 2, current: 1 });
    // What does not need it goes on.
    assert_eq!(old.append("b", Version::NONE, event("x")).await.unwrap().version, Version(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_breaks_the_chain_stops_its_partition_and_one_of_others_does_not_count() {
    let broker = Running::start().await;
    let client = broker.client().await;
    let store = client.event_store("chain").create(1, None).await.unwrap();
    let made = store.append("a", Version::NONE, event("x")).await.unwrap();
    let producer = client.producer().build().unwrap();
    producer.send(Record::to("chain").key("a").value("stray")).await.unwrap().await.unwrap();
    store.append("a", Version(1), event("y")).await.unwrap();
    assert_eq!(texts(&store.load("a").await.unwrap().events), ["x", "y"]);

    // The first event once more, as a producer without the condition may write it.
    let reader = client.consumer().partition_from("chain", PartitionId(0), tidelog_client::Start::Offset(made.offset));
    let record = reader.build().await.unwrap().next().await.unwrap().unwrap();
    let header = record.headers().next().unwrap();
    let copy =
        Record::to("chain").key("a").value("x").header(header.name(), Bytes::copy_from_slice(header.value.unwrap()));
    producer.send(copy).await.unwrap().await.unwrap();
    let error = within_limit("the partition to stop", async {
        loop {
            if let Err(error) = store.load("a").await {
                return error;
            }
            tokio::task::yield_now().await;
        }
    });
    let error = error.await;
    assert!(matches!(error, StoreError::Inconsistent { offset: Offset(4), .. }), "{error}");
    let error = store.append("a", Expected::Any, event("z")).await.unwrap_err();
    assert!(error.to_string().contains("version 1"), "{error}");
}
