//! One client that speaks Kafka's protocol: what it has asked and how it is answered. Knows nothing of sockets; the connection drains the outbox
//! of its session.

use std::sync::{Arc, OnceLock};

use tidelog_protocol::kafka::ApiKey;

use super::answers::Answers;
use super::reply::Reply;
use crate::detour::Detour;
use crate::session::Session;

/// Longest client id that is kept, in characters.
const CLIENT_ID_CHARS: usize = 200;

/// So many of its requests wait behind the one that is worked on: clients that send more at once gain nothing.
const LINE_MAX: usize = 16;

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    /// What it has in common with those who speak the native protocol.
    pub(crate) session: Arc<Session>,
    pub(super) answers: Answers,
    /// Its requests, produce aside, one after the other.
    pub(super) line: Detour,
    /// Why the connection is to end.
    ending: OnceLock<String>,
}

impl Client {
    /// One that has asked nothing yet.
    pub(crate) fn new(session: Arc<Session>) -> Arc<Self> {
        Arc::new(Self { session, answers: Answers::default(), line: Detour::default(), ending: OnceLock::new() })
    }

    /// Whether more of it may be read: it has asked so little that is not begun, and so few bytes of answers wait for others.
    pub(crate) fn may_ask(&self, bytes_max: usize) -> bool {
        self.line.waiting() < LINE_MAX && self.answers.bytes() < bytes_max
    }

    /// The duty to answer a request, behind those before it.
    pub(super) fn reply_to(self: &Arc<Self>, api: ApiKey, version: i16, correlation_id: i32) -> Reply {
        Reply::new(self.clone(), self.answers.begin(), (api, version, correlation_id))
    }

    /// What it calls itself; the first that was said holds.
    pub(super) fn note_name(&self, name: Option<&str>) {
        let mut known = self.session.client_id.lock();
        if known.is_empty()
            && let Some(name) = name
        {
            *known = name.chars().take(CLIENT_ID_CHARS).collect();
        }
    }

    /// Ends the connection: Kafka has no other way to say that a request without an answer went wrong.
    pub(crate) fn end(&self, reason: String) {
        // The first reason is the one that counts.
        let _ = self.ending.set(reason);
        self.session.closed.cancel();
    }

    /// Why the connection was ended from here.
    pub(crate) fn ending(&self) -> Option<&str> {
        self.ending.get().map(String::as_str)
    }
}
