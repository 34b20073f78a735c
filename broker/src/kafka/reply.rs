//! The duty to answer one request of a client that speaks Kafka's protocol. Knows nothing of what is answered.

use std::sync::Arc;

use tidelog_protocol::kafka::{ApiKey, Message, frame_of};

use super::answers::Turn;
use super::client::Client;
use crate::budget::Lent;
use crate::outbox::OutFrame;
use crate::session::UnderWay;

/// From so many bytes on an answer is a large one.
const LARGE_BYTES: usize = 64 << 10;

/// The duty. Dropped without an answer it ends the connection, so that no client waits for nothing, nor takes the next answer for this one.
#[derive(Debug)]
#[must_use]
pub(super) struct Reply {
    pub(super) client: Arc<Client>,
    turn: Turn,
    /// API, version, and what the answer is known by.
    to: (ApiKey, i16, i32),
    settled: bool,
    /// Held for its drop.
    _under_way: UnderWay,
}

impl Reply {
    pub(super) fn new(client: Arc<Client>, turn: Turn, to: (ApiKey, i16, i32)) -> Self {
        let under_way = UnderWay::begin(&client.session);
        Self { client, turn, to, settled: false, _under_way: under_way }
    }

    /// The version in which it is answered.
    pub(super) fn version(&self) -> i16 {
        self.to.1
    }

    /// Answers.
    pub(super) fn send<M: Message>(self, answer: &M) {
        self.send_within(answer, None);
    }

    /// Answers. A large answer, which may be most of what was asked once more, keeps the memory of its request until it is out.
    pub(super) fn send_within<M: Message>(mut self, answer: &M, lent: Option<Lent>) {
        let (api, version, correlation_id) = self.to;
        let mut parts = frame_of(api, version, correlation_id, answer);
        let head = parts.remove(0);
        let mut frame = OutFrame { head, payload: parts, lent: None };
        if frame.bytes() >= LARGE_BYTES {
            frame.lent = lent;
        }
        self.settle(Some(frame));
    }

    /// Ends the duty of a request that wants no answer.
    pub(super) fn stay_silent(mut self) {
        self.settle(None);
    }

    fn settle(&mut self, answer: Option<OutFrame>) {
        self.settled = true;
        self.client.answers.settle(self.turn, answer, &self.client.session.outbox);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.settled {
            self.client.end(format!("the broker dropped a request of Kafka's {} without an answer", self.to.0.name()));
        }
    }
}
