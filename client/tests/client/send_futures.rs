//! The futures of the public API can move between the threads of a runtime. Compiles or does not; nothing is run.

use tidelog_client::group::{GroupConsumer, RunOptions};
use tidelog_client::*;

fn send<T: Send>(_: T) {}

#[allow(dead_code)]
fn every_future_is_send(client: &Client, producer: &Producer, topic: &TopicProducer, consumer: &mut Consumer) {
    let admin = client.admin();
    send(Client::connect("a"));
    send(admin.create_topic(&NewTopic::named("a")));
    send(admin.delete_topic("a"));
    send(admin.describe_topics(&["a"]));
    send(admin.list_offsets("a", &[]));
    send(admin.delete_records("a", PartitionId(0), None));
    send(producer.topic("a"));
    send(producer.send(Record::to("a")));
    send(producer.flush());
    send(topic.send(None, b""));
    send(client.consumer().build());
    send(consumer.seek("a", PartitionId(0), Start::End));
    send(consumer.next_batch());
    send(consumer.next());
}

#[allow(dead_code)]
fn every_future_of_transactions_is_send(
    client: &Client,
    producer: &mut TransactionalProducer,
    [ended, undone]: [Transaction<'_>; 2],
    (running, reading): (TransactionalProducer, GroupConsumer),
) {
    send(client.transactional_producer("a").build());
    send(producer.settle());
    send(producer.begin());
    send(ended.send(Record::to("a")));
    send(ended.flush());
    send(ended.commit());
    send(undone.abort());
    send(
        running
            .exactly_once(reading, |_, transaction| async move { transaction.send(Record::to("a")).await.map(drop) }),
    );
}

#[allow(dead_code)]
fn every_future_of_a_group_is_send(
    client: &Client,
    consumer: &mut GroupConsumer,
    [leaving, running]: [GroupConsumer; 2],
) {
    let admin = client.admin();
    send(client.group("a").build());
    send(consumer.next());
    send(consumer.take());
    send(consumer.commit());
    send(consumer.commits().commit());
    send(consumer.commit_async());
    send(consumer.seek("a", PartitionId(0), Start::End));
    send(leaving.leave());
    let handler = |_| async { Ok::<(), String>(()) };
    send(running.run_with(RunOptions::new(1), std::future::pending(), handler));
    send(admin.list_groups());
    send(admin.describe_group("a"));
    send(admin.group_lag("a"));
    send(admin.wait_for_group("a", "b", PartitionId(0), Offset(0), std::time::Duration::ZERO));
    send(admin.delete_group("a"));
    send(admin.list_transactions(TransactionFilter::All));
    send(admin.dead_letters("a").redrive(&tidelog_client::group::RedriveFilter::default()));
}

#[allow(dead_code)]
fn handles_are_shared_between_threads() {
    fn check<T: Send + Sync + 'static>() {}
    check::<Client>();
    check::<Admin>();
    check::<Producer>();
    check::<TopicProducer>();
    check::<Consumer>();
    check::<Delivery>();
    check::<GroupConsumer>();
}

#[test]
fn the_futures_above_compile() {}
