//! How long one call is tried: until it works, fails for good, or the request timeout has passed. Knows nothing of what is tried.

use std::time::{Duration, Instant};

use tidelog_protocol::api::Api;

use crate::ClientError;
use crate::backoff::Backoff;
use crate::client::ClientBuilder;
use crate::net::cut_short;

/// With less time than this left no try is begun: it would only turn a failure of which all is known into one of unknown outcome.
const LEAST_TRY: Duration = Duration::from_millis(50);

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

    /// For a request of this API.
    pub(crate) fn of(options: &ClientBuilder, api: Api) -> Self {
        Self { repeats: only_reads(api), ..Self::new(options) }
    }

    /// Waits before the next try, or hands `error` back where there shall be none. A failure of unknown outcome is final: only the
    /// caller knows whether a second try would do harm.
    pub(crate) async fn after(&mut self, error: ClientError) -> Result<(), ClientError> {
        self.failures += 1;
        let wait = self.backoff.draw_for(self.failures, &error);
        let worthwhile = error.is_retriable() && (self.repeats || !error.outcome_is_unknown());
        let least = LEAST_TRY.min(self.limit / 4);
        let is_in_time = |wait: Duration| self.started.elapsed() + wait + least < self.limit;
        if !worthwhile || !is_in_time(wait) {
            return Err(error);
        }
        tokio::time::sleep(wait).await;
        // A machine that is busy may wake whoever sleeps late.
        if is_in_time(Duration::ZERO) { Ok(()) } else { Err(error) }
    }
}

/// True for what changes nothing.
const fn only_reads(api: Api) -> bool {
    matches!(
        api,
        Api::Ping
            | Api::Metadata
            | Api::DescribeBroker
            | Api::DescribeTopics
            | Api::ListOffsets
            | Api::DescribeCluster
            | Api::DescribePartitions
            | Api::FindCoordinator
            | Api::OffsetFetch
            | Api::ListGroups
            | Api::DescribeGroup
            | Api::ListTransactions
            | Api::DescribeTransaction
    )
}
