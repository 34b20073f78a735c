//! How long one call is tried: until it works, fails for good, or the request timeout has passed. Knows nothing of what is tried.

use std::time::{Duration, Instant};

use crate::ClientError;
use crate::backoff::Backoff;
use crate::client::ClientBuilder;
use crate::net::cut_short;

/// The tries of one call.
pub(crate) struct Patience {
    started: Instant,
    limit: Duration,
    backoff: Backoff,
    failures: u32,
    /// Doing it twice does no harm.
    repeats: bool,
}

impl Patience {
    pub(crate) fn new(options: &ClientBuilder) -> Self {
        let (limit, backoff) = (cut_short(options.request_timeout, options.deadline), options.backoff);
        Self { started: Instant::now(), limit, backoff, failures: 0, repeats: false }
    }

    /// For what may be done twice: an unknown outcome is no reason to stop.
    pub(crate) fn repeating(options: &ClientBuilder) -> Self {
        Self { repeats: true, ..Self::new(options) }
    }

    /// Waits before the next try, or hands `error` back where there shall be none. A failure of unknown outcome is final: only the
    /// caller knows whether a second try would do harm.
    pub(crate) async fn after(&mut self, error: ClientError) -> Result<(), ClientError> {
        self.failures += 1;
        let wait = self.backoff.draw_for(self.failures, &error);
        let worthwhile = error.is_retriable() && (self.repeats || !error.outcome_is_unknown());
        if !worthwhile || self.started.elapsed() + wait >= self.limit {
            return Err(error);
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }
}
