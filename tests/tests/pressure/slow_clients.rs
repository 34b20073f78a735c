//! Clients whose line is slow, but who go on: among others like them, and beside clients that waste what they get, their frames come through.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidelog_protocol::api::Api;
use tidelog_protocol::records::Compression;
use tidelog_protocol::{Message, ProtocolVersion, TopicId};
use tidelog_tests::patience::{wait_until, within_limit};
use tidelog_tests::raw_connection::{RawConnection, batch, produce_request};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use crate::returning_clients::{SILENT, broker, come_back, waiting};

/// Sends so many bytes ten times a second; true where all of them went out.
pub(crate) async fn steadily(connection: &mut RawConnection, rest: &[u8], bytes: usize) -> bool {
    for piece in rest.chunks(bytes) {
        if connection.socket.write_all(piece).await.is_err() {
            return false;
        }
        // It is slow by this alone.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    true
}

/// Sends a batch, so many bytes ten times a second, until it is acknowledged, and again so often on the same connection; how often it was sent.
async fn times_sent(address: SocketAddr, topic_id: TopicId, payload: &[u8], bytes: usize, count: usize) -> usize {
    let sending = async {
        let (mut times, mut acknowledged) = (0, 0);
        while acknowledged < count {
            let mut connection = RawConnection::introduced(address).await;
            loop {
                times += 1;
                let body = produce_request(topic_id).to_body(ProtocolVersion::CURRENT);
                let header = connection.header(Api::Produce as u16, &body, payload);
                let frame = [&header.encode(&[&body])[..], &body, payload].concat();
                let is_taken = steadily(&mut connection, &frame, bytes).await
                    && connection.next_frame().await.is_some_and(|frame| frame.header.api == Api::Produce as u16);
                acknowledged += usize::from(is_taken);
                if !is_taken || acknowledged == count {
                    break;
                }
            }
        }
        times
    };
    within_limit("frames to be acknowledged", sending).await
}

/// So many clients that each send a batch of so many bytes, so many of them ten times a second, so often.
struct Slow {
    clients: usize,
    value_bytes: usize,
    bytes: usize,
    frames: usize,
}

/// Lets them all send at once; they have to send few frames again.
async fn come_through(kinds: &[Slow]) {
    let broker = broker().await;
    let topic_id = RawConnection::introduced(broker.address()).await.topic_id("large").await;
    let mut clients = JoinSet::new();
    for kind in kinds {
        let payload = Arc::new(batch(&[&vec![b'x'; kind.value_bytes]], Compression::None));
        for _ in 0..kind.clients {
            let (address, payload, bytes, frames) = (broker.address(), payload.clone(), kind.bytes, kind.frames);
            clients.spawn(async move { times_sent(address, topic_id, &payload, bytes, frames).await });
        }
    }
    wait_until("some to wait", async || (waiting(&broker) > 2).then_some(())).await;
    let times: Vec<_> = clients.join_all().await;
    println!("they were sent so many times: {times:?}");
    let (all, least) =
        (times.iter().sum::<usize>(), kinds.iter().map(|kind| kind.clients * kind.frames).sum::<usize>());
    assert!(all <= least * 5 / 4, "they were sent again and again: {times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_do_not_cut_off_those_that_are_slower() {
    // A frame of the first takes a second longer than it may where others wait that are much faster; one of the others four.
    let slower = Slow { clients: 10, value_bytes: 1_500 << 10, bytes: 25 << 10, frames: 3 };
    come_through(&[slower, Slow { clients: 4, value_bytes: 6 << 20, bytes: 150 << 10, frames: 2 }]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_of_which_all_are_slow_do_not_cut_each_other_off() {
    // More than the time that a frame has where others wait that are faster.
    come_through(&[Slow { clients: 8, value_bytes: 6 << 20, bytes: 96 << 10, frames: 1 }]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_on_is_not_cut_off_however_long_others_have_waited() {
    const FRAMES: usize = 4;
    let broker = broker().await;
    let topic_id = RawConnection::introduced(broker.address()).await.topic_id("large").await;
    let given_up = Arc::new(AtomicUsize::new(0));
    let mut silent = JoinSet::new();
    for _ in 0..SILENT {
        silent.spawn(come_back(broker.address(), Ipv4Addr::LOCALHOST, 15 << 20, given_up.clone()));
    }
    wait_until("many to wait", async || {
        (waiting(&broker) > SILENT / 2 && given_up.load(Ordering::Relaxed) > 5).then_some(())
    })
    .await;
    let payload = batch(&[&vec![b'x'; 6 << 20]], Compression::None);
    let mut times = Vec::new();
    for _ in 0..FRAMES {
        // All of it in two seconds.
        times.push(times_sent(broker.address(), topic_id, &payload, 320 << 10, 1).await);
    }
    println!("they were sent so many times: {times:?}");
    assert!(waiting(&broker) > SILENT / 2, "nobody was in the way to the end");
    // On a machine that is busy a pause may be a long one.
    assert!(times.iter().sum::<usize>() <= 2 * FRAMES, "they were sent again and again: {times:?}");
    silent.shutdown().await;
}
