//! The service of the guide to the outbox, as it stands there: its orders and their events are the same.

#[path = "../../../client/examples/outbox_service.rs"]
mod service;

use std::sync::Arc;

use tidelog_client::{Client, Start};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::patience::{wait_until, within_limit};
use tokio::sync::Notify;

#[tokio::test(flavor = "multi_thread")]
async fn the_service_of_the_guide_publishes_each_order_once_and_is_as_short_as_it_says() {
    let broker = BrokerProcess::start();
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("shop.db").display());
    let server = broker.server();
    let client = Client::connect(&server).await.unwrap();
    for round in 1..=2 {
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let (database, server) = (database.clone(), server.clone());
        let serving = tokio::spawn(async move {
            let orders = [("mia", "lamp"), ("jo", "rug"), ("mia", "bulb")];
            service::serve(&database, &server, &orders, async move { stopped.notified().await }).await
        });
        let values = wait_until("the events of the orders", async || {
            let topic = client.consumer().topic("outbox.event.order").start(Start::Beginning);
            let mut consumer = topic.until_end().build().await.ok()?;
            let mut values = Vec::new();
            while let Some(record) = consumer.next().await {
                let record = record.unwrap();
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                values.push((text(record.key.as_deref().unwrap()), text(record.value.as_deref().unwrap())));
            }
            (values.len() >= 3 * round).then_some(values)
        })
        .await;
        stop.notify_one();
        within_limit("the service to end", serving).await.unwrap().unwrap();
        let of = |key: &str| -> Vec<String> {
            let of_key = values.iter().filter(|(found, _)| found == key);
            of_key.map(|(_, value)| value.clone()).collect()
        };
        assert_eq!(of("mia")[..2], ["1 lamp", "3 bulb"]);
        assert_eq!(of("jo")[..1], ["2 rug"]);
        assert_eq!(values.len(), 3 * round, "each once");
    }
    let code = include_str!("../../../client/examples/outbox_service.rs");
    let lines = code.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with("//")).count();
    assert!(lines <= 40, "the guide says that it takes about thirty lines; it takes {lines}");
}
