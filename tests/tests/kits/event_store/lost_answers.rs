//! Answers that are lost after the broker has done what was asked: the append is neither made twice nor told as a conflict with itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidelog_broker::config::Advertise;
use tidelog_client::Client;
use tidelog_client::event_store::*;
use tidelog_tests::loopback;
use tidelog_tests::patience::within_limit;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::running::{Running, event, texts};

const ROUNDS: u64 = 15;

/// A way to a broker on which connections can be doomed: what they carry still arrives there, and the answer does not come back. Those that are
/// opened afterwards are well until the next time.
struct Doom {
    address: SocketAddr,
    target: watch::Sender<Option<SocketAddr>>,
    generation: watch::Sender<u64>,
    lost: Arc<AtomicU64>,
}

impl Doom {
    async fn open() -> Self {
        let listener = TcpListener::bind(loopback::fresh()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (target, mut targets) = watch::channel(None);
        let (generation, generations) = watch::channel(0);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        tokio::spawn(async move {
            while let Ok((here, _)) = listener.accept().await {
                let Ok(target) = targets.wait_for(Option::is_some).await.map(|target| *target) else { return };
                let (generations, lost) = (generations.clone(), Arc::clone(&counted));
                tokio::spawn(async move {
                    let Ok(there) = TcpStream::connect(target.unwrap()).await else { return };
                    let ((from_here, to_here), (from_there, to_there)) = (here.into_split(), there.into_split());
                    tokio::select! {
                        () = forth(from_here, to_there) => {}
                        () = back(from_there, to_here, generations, &lost) => {}
                    }
                });
            }
        });
        Self { address, target, generation, lost }
    }
}

async fn forth(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let _ = tokio::io::copy(&mut from, &mut to).await;
}

async fn back(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, generations: watch::Receiver<u64>, lost: &AtomicU64) {
    let own = *generations.borrow();
    let mut buffer = vec![0; 64 << 10];
    while let Ok(bytes) = from.read(&mut buffer).await
        && bytes > 0
    {
        if *generations.borrow() > own {
            lost.fetch_add(1, Ordering::SeqCst);
            return;
        }
        if to.write_all(&buffer[..bytes]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_whose_answer_is_lost_is_made_once_and_is_not_told_that_it_conflicts_with_itself() {
    let way = Doom::open().await;
    let advertise = Advertise(Some((way.address.ip().to_string(), way.address.port())));
    let broker = Running::advertised(advertise).await;
    way.target.send_replace(Some(broker.broker.address()));
    let client = Client::connect(&way.address.to_string()).await.unwrap();
    let store = client.event_store("answers").create(1, None).await.unwrap();
    store.append("sure", Version::NONE, event("before")).await.unwrap();
    for round in 0..ROUNDS {
        way.generation.send_modify(|generation| *generation += 1);
        // No command id, which would tell: the place of the batch is all the proof there is.
        let (any, sure) = (event(&round.to_string()), event(&round.to_string()));
        let appends = async {
            tokio::join!(store.append("any", Expected::Any, any), store.append("sure", Version(round + 1), sure))
        };
        let (any, sure) = within_limit("the appends", appends).await;
        assert_eq!((any.unwrap().version, sure.unwrap().version), (Version(round + 1), Version(round + 2)));
    }
    assert!(way.lost.load(Ordering::SeqCst) >= ROUNDS, "hardly an answer was lost");
    let expected: Vec<String> = (0..ROUNDS).map(|round| round.to_string()).collect();
    assert_eq!(texts(&store.load("any").await.unwrap().events), expected);
    assert_eq!(texts(&store.load("sure").await.unwrap().events)[1..], expected);
}
