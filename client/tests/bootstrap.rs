//! The first contact, where some of the addresses are of brokers that cannot serve yet: another is asked, and then they are again.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

mod broker;
mod peer;

use std::sync::atomic::Ordering;

use broker::TestBroker;
use peer::Peer;
use tidelog_client::*;

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_starting_are_passed_over_for_one_that_serves() {
    let (first, second) = (Peer::starting_for(usize::MAX).await, Peer::starting_for(usize::MAX).await);
    let serving = TestBroker::start().await;
    let addresses = [first.address, second.address, serving.address].map(|address| address.to_string()).join(",");
    let client = Client::connect(&addresses).await.unwrap();
    for starting in [first, second] {
        let refused = starting.refused.load(Ordering::SeqCst);
        assert!((1..=2).contains(&refused), "each is asked once, and once whether it knows better: {refused}");
    }
    client.admin().describe_topics(&[]).await.unwrap();
}

#[tokio::test]
async fn brokers_that_are_starting_are_asked_again_until_one_serves() {
    let (first, second) = (Peer::starting_for(usize::MAX).await, Peer::starting_for(3).await);
    let addresses = [first.address, second.address].map(|address| address.to_string()).join(",");
    Client::connect(&addresses).await.unwrap();
    assert_eq!(second.refused.load(Ordering::SeqCst), 3);
    let refused = first.refused.load(Ordering::SeqCst);
    assert!((4..=5).contains(&refused), "in turn with the other, and once whether it knows better: {refused}");
}

#[tokio::test]
async fn a_client_of_brokers_that_never_serve_is_told_so_once_its_patience_is_over() {
    let starting = Peer::starting_for(usize::MAX).await;
    let patience = Client::builder().request_timeout(std::time::Duration::from_millis(900));
    let error = patience.connect(&starting.address.to_string()).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Overloaded), "{error}");
    assert!(starting.refused.load(Ordering::SeqCst) > 1, "and was patient");
}
