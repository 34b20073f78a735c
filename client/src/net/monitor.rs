//! Deadlines and keepalive of one connection. Knows when an answer is overdue, not what it was for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_protocol::api::Api;
use tidelog_protocol::messages::PingRequest;

use super::connection::{Pending, Ticket, Wire};
use super::quiet;

/// The broker is told the timeout and answers by it; this much later its silence means that it, or the way to it, is gone.
const GRACE: Duration = Duration::from_millis(500);
/// How long a probe may stay unanswered at the most; with a shorter keepalive, that long.
const PROBE_TIMEOUT_MAX: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(250);

pub(super) async fn run(wire: Arc<Wire>) {
    let keepalive = wire.keepalive;
    let mut ticks = tokio::time::interval(TICK.min(keepalive));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = wire.ended.cancelled() => return,
        }
        let now = Instant::now();
        let heard = quiet::heard(&wire);
        if let Some(overdue) = overdue(&wire, now) {
            // Order is kept by giving up all that is under way together; so an overdue produce ends the connection, as does any
            // overdue request since which nothing at all was heard.
            if overdue.api == Api::Produce || heard <= overdue.sent_at {
                let reason = format!("no answer to {} within {:?}", overdue.api.name(), overdue.timeout);
                wire.close(wire.disconnected(reason));
                (overdue.handler)(Err(wire.timed_out(overdue.api, overdue.timeout)));
                return;
            }
            (overdue.handler)(Err(wire.timed_out(overdue.api, overdue.timeout)));
        }
        // Nothing else would tell that streams have stopped.
        let has_streams = !wire.state.lock().streams.is_empty();
        let quiet_for = if has_streams { keepalive / 2 } else { keepalive };
        if now.saturating_duration_since(heard) >= quiet_for {
            probe(&wire);
        }
    }
}

/// Takes one overdue request off the table.
fn overdue(wire: &Wire, now: Instant) -> Option<Pending> {
    let mut state = wire.state.lock();
    let late = |pending: &Pending| now > pending.sent_at + pending.timeout + GRACE;
    let correlation =
        state.pending.iter().filter(|(_, pending)| late(pending)).map(|(correlation, _)| *correlation).min()?;
    state.pending.remove(&correlation)
}

/// Asks for a sign of life, unless that is under way.
pub(super) fn probe(wire: &Arc<Wire>) {
    let timeout = wire.keepalive.min(PROBE_TIMEOUT_MAX);
    let under_way = wire.state.lock().pending.values().any(|pending| pending.api == Api::Ping);
    if !under_way {
        wire.submit(
            &PingRequest {},
            bytes::Bytes::new(),
            timeout,
            // That an answer came is all that matters, and the reader notes it.
            Ticket::Answered(Box::new(|_| {})),
            None,
        );
    }
}
