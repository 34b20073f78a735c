//! The coordinator of one transactional id, asked until it answers or time is over. What an answer means is the standing's business.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_protocol::api::Request;
use tidelog_protocol::messages::{EndTransactionRequest, InitProducerIdRequest, ProducerIdentity};
use tidelog_protocol::{ErrorCode, WireError};

use super::standing::{Conclusion, Ended, Initiated};
use crate::ClientError;
use crate::cluster::{Cluster, Coordinate, Purpose};

/// Who is asked, and for how long.
#[derive(Debug)]
pub(super) struct Coordinator {
    pub(super) cluster: Arc<Cluster>,
    pub(super) transactional_id: Arc<str>,
    pub(super) timeout_ms: u32,
    pub(super) end_timeout: Duration,
}

impl Coordinator {
    /// Asks who the producer is, being `current` as far as it knows.
    pub(super) async fn init(&self, current: Option<ProducerIdentity>) -> Initiated {
        let request = InitProducerIdRequest {
            transactional_id: Some(self.transactional_id.to_string()),
            transaction_timeout_ms: self.timeout_ms,
            current,
        };
        self.ask(&request, Initiated::of).await
    }

    /// Commits the transaction of an identity; `tried`: it may be committed already.
    pub(super) async fn commit(&self, identity: &ProducerIdentity, tried: bool) -> Ended {
        self.end(identity, true, tried).await
    }

    /// Aborts the transaction of an identity.
    pub(super) async fn abort(&self, identity: &ProducerIdentity) -> Ended {
        self.end(identity, false, false).await
    }

    async fn end(&self, identity: &ProducerIdentity, commit: bool, mut tried: bool) -> Ended {
        let request = EndTransactionRequest {
            transactional_id: self.transactional_id.to_string(),
            identity: identity.clone(),
            commit,
        };
        let judge = |answer| {
            let ended = Ended::of(answer, tried);
            tried |= commit && ended.may_be_done();
            ended
        };
        self.ask(&request, judge).await
    }

    /// Asks again for as long as an answer means nothing yet, or until time is over.
    async fn ask<R: Request, T: Conclusion>(
        &self,
        request: &R,
        mut judge: impl FnMut(Result<R::Response, ClientError>) -> T,
    ) -> T {
        let ends = Instant::now() + self.end_timeout;
        let mut failures = 0;
        let mut last = None;
        loop {
            let left = ends.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let timeout = left.min(self.cluster.options.request_timeout);
            let of = Coordinate::transaction(&self.transactional_id);
            let asked = self.cluster.ask_coordinator_once(of, request, Purpose::Requests, timeout);
            let answer = match tokio::time::timeout(left, asked).await {
                Ok(answer) => answer,
                Err(_) => Err(last.take().unwrap_or_else(|| silence(self.end_timeout))),
            };
            let conclusion = judge(answer);
            let Some(error) = conclusion.not_yet() else { return conclusion };
            failures += 1;
            let pause = self.cluster.backoff().draw_for(failures, error);
            if Instant::now() + pause >= ends {
                return conclusion;
            }
            tracing::debug!(id = %self.transactional_id, %error, "the coordinator does not answer yet");
            last = Some(error.clone());
            tokio::time::sleep(pause).await;
        }
    }
}

/// It was not even found out who it is.
fn silence(after: Duration) -> ClientError {
    WireError::new(ErrorCode::DeadlineExceeded, format!("no coordinator answered within {after:?}")).into()
}
