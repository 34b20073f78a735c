//! Transactions of one producer that follow each other while the one before is being committed: each is seen as a whole or not at all, in their order,
//! and none holds behind one that does not.

#![allow(clippy::unwrap_used)] // Tests only; clippy sees just the functions marked as one.

use tidelog_client::{Client, SendError, TransactionError, TransactionalProducer};
use tidelog_tests::patience::within_limit;
use tidelog_tests::transacting::{cluster_with, committed, producer, send, try_send, until_settled};

#[tokio::test(flavor = "multi_thread")]
async fn transactions_follow_each_other_while_the_one_before_is_committed() {
    let (_cluster, client) = cluster_with(&[("orders", 3)]).await;
    let mut producer = producer(&client, "billing-1").await;
    let mut before = None;
    let mut expected = Vec::new();
    for number in 0..50 {
        let transaction = producer.begin().await.unwrap();
        let without = expected.len();
        // One that sends nothing in between holds up nobody.
        if number % 7 != 3 {
            let values = ["a", "b", "c"].map(|partition| format!("{number:02}{partition}"));
            send(&transaction, "orders", &values.each_ref().map(String::as_str)).await;
            expected.extend(values);
        }
        match number % 10 {
            // Dropped or aborted behind one that is being committed: nothing of it is seen.
            5 => {
                drop(transaction);
                expected.truncate(without);
            }
            6 => {
                transaction.abort().await.unwrap();
                expected.truncate(without);
            }
            7 => transaction.commit().await.unwrap(),
            _ => {
                if let Some(before) = before.replace(transaction.commit_in_background()) {
                    within_limit("a commit", before).await.unwrap();
                }
            }
        }
    }
    within_limit("the last commit", before.unwrap()).await.unwrap();
    until_settled(&client, "orders").await;
    expected.sort();
    assert_eq!(committed(&client, "orders").await, expected);
}

/// How a transaction ended that was begun behind another, and the other.
struct Behind {
    first: Result<(), TransactionError>,
    second: Result<(), TransactionError>,
}

/// Commits a transaction of some records in the background that an operator aborts before, and has another follow it.
async fn follow_one_that_is_undone(client: &Client, producer: &mut TransactionalProducer, background: bool) -> Behind {
    let transaction = producer.begin().await.unwrap();
    send(&transaction, "orders", &["a", "b", "c"]).await;
    transaction.flush().await.unwrap();
    client.admin().abort_transaction("billing-1").await.unwrap();
    let first = transaction.commit_in_background();
    let second = match producer.begin().await {
        Ok(transaction) => {
            // The first may be found undone in the middle of this.
            let sent = try_send(&transaction, "orders", &["d", "e", "f"]).await;
            assert!(matches!(sent, Ok(()) | Err(SendError::Undone)), "{sent:?}");
            match background {
                true => within_limit("the second", transaction.commit_in_background()).await,
                false => transaction.commit().await,
            }
        }
        // The first was found undone before.
        Err(error) => Err(error),
    };
    Behind { first: within_limit("the first", first).await, second }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_behind_one_that_is_undone_does_not_hold_either_and_the_next_one_does() {
    let (_cluster, client) = cluster_with(&[("orders", 3)]).await;
    let mut producer = producer(&client, "billing-1").await;
    for round in 0..6 {
        let Behind { first, second } = follow_one_that_is_undone(&client, &mut producer, round % 2 == 0).await;
        let first = first.unwrap_err();
        assert!(matches!(first, TransactionError::Undone(_)), "{first}");
        let second = second.unwrap_err();
        assert!(matches!(&second, TransactionError::Follows { cause } if **cause == first), "{second}");
        assert!(second.is_undone());
        let transaction = producer.begin().await.unwrap();
        send(&transaction, "orders", &[&format!("{round}x")]).await;
        transaction.commit().await.unwrap();
    }
    until_settled(&client, "orders").await;
    assert_eq!(committed(&client, "orders").await, ["0x", "1x", "2x", "3x", "4x", "5x"]);

    // Who was told of it begins the next one without having to hear of it again.
    let transaction = producer.begin().await.unwrap();
    send(&transaction, "orders", &["a"]).await;
    transaction.flush().await.unwrap();
    client.admin().abort_transaction("billing-1").await.unwrap();
    within_limit("the commit", transaction.commit_in_background()).await.unwrap_err();
    let transaction = producer.begin().await.unwrap();
    send(&transaction, "orders", &["6x"]).await;
    transaction.commit().await.unwrap();
    until_settled(&client, "orders").await;
    assert_eq!(committed(&client, "orders").await.last().unwrap(), "6x");
}
