//! The first contact, where some of the addresses are of brokers that cannot serve yet: another is asked, and then they are again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::broker::TestBroker;
use crate::peer::Peer;
use tidelog_client::*;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

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

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_before_the_broker_says_who_it_is_is_dialled_again() {
    let serving = TestBroker::start().await;
    let gate = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, target) = (gate.local_addr().unwrap().to_string(), serving.address);
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = taken.clone();
    let _gate = AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok((mut here, _)) = gate.accept().await {
            // The first two end as soon as they are taken.
            if counted.fetch_add(1, Ordering::SeqCst) >= 2 {
                let mut there = TcpStream::connect(target).await.unwrap();
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut here, &mut there).await });
            }
        }
    }));
    Client::connect(&address).await.unwrap();
    assert!(taken.load(Ordering::SeqCst) >= 3, "nothing was broken");
    // One that goes on like this is told of.
    let never = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = never.local_addr().unwrap().to_string();
    let _never = AbortOnDropHandle::new(tokio::spawn(async move { while never.accept().await.is_ok() {} }));
    let error = Client::connect(&address).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
}
