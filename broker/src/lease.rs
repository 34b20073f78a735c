//! The lease of this broker: it is heard of by the controller, again and again, and may acknowledge as long as that answers. Counted from
//! when the heartbeat was *sent*: whatever the clocks say, it ends here before anybody else is elected. Knows nothing of what a
//! partition does without it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_coordination::command::Registration;
use tidelog_coordination::leases::{Heartbeat, Intent, LEASE_MS};
use tidelog_protocol::messages::{BrokerHeartbeatRequest, BrokerHeartbeatResponse};
use tidelog_protocol::{ControllerEpoch, ErrorCode, ProtocolVersion, WireError};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::change::to_controller;
use crate::node::Node;
use crate::partition::Command;
use crate::quorum::Role;

/// How long one heartbeat may take: the next one may find another controller.
const PATIENCE: Duration = Duration::from_millis(LEASE_MS / 2);
/// A broker without a lease for so long is adrift: another may lead by now what it led, and it would not hear of it.
pub(crate) const ADRIFT: Duration = Duration::from_secs(2);
/// Pause after a heartbeat that nobody answered.
const PAUSE: Duration = Duration::from_millis(50);

/// What the controller last said, and what this broker wants of it.
#[derive(Debug)]
pub struct Lease {
    standing: watch::Sender<Standing>,
    intent: watch::Sender<Intent>,
}

/// How this broker stands to the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// It may acknowledge.
    pub holds: bool,
    /// Since when it does, or does not.
    pub since: Instant,
    /// Everything that it led is handed over.
    pub may_shut_down: bool,
}

impl Standing {
    /// Whether it has been without a lease for so long that others may lead by now what it led.
    #[must_use]
    pub fn is_adrift(self, now: Instant) -> bool {
        !self.holds && now.saturating_duration_since(self.since) >= ADRIFT
    }

    /// Says whether that is news.
    fn holds_from(&mut self, holds: bool, now: Instant) -> bool {
        let is_news = self.holds != holds;
        if is_news {
            (self.holds, self.since) = (holds, now);
        }
        is_news
    }
}

impl Default for Lease {
    fn default() -> Self {
        let standing = Standing { holds: false, since: Instant::now(), may_shut_down: false };
        Self { standing: watch::Sender::new(standing), intent: watch::Sender::new(Intent::Serve) }
    }
}

impl Lease {
    /// Of a broker whose lease is looked after elsewhere.
    #[must_use]
    pub fn for_ever() -> Self {
        let lease = Self::default();
        lease.standing.send_modify(|standing| standing.holds = true);
        lease
    }

    /// Whether this broker may acknowledge.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.standing.borrow().holds
    }

    /// Whether others may lead by now what this broker led.
    #[must_use]
    pub fn is_adrift(&self) -> bool {
        self.standing.borrow().is_adrift(Instant::now())
    }

    /// How this broker stands, and its changes.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Waits until this broker has been without a lease for so long.
    pub async fn missed_for(&self, long: Duration) {
        let mut standing = self.standing();
        while matches!(tokio::time::timeout(long, standing.wait_for(|standing| standing.holds)).await, Ok(Ok(_))) {
            // The sender lives as long as this.
            let _ = standing.wait_for(|standing| !standing.holds).await;
        }
    }

    /// Asks for others to take over what this broker leads.
    pub fn want_shutdown(&self) {
        self.intent.send_replace(Intent::ShutDown);
    }
}

/// What a heartbeat led to.
enum Heard {
    Answer(BrokerHeartbeatResponse),
    /// The lease ended before one came.
    LeaseEnded,
}

/// Keeps the lease until the broker's connections close.
pub(crate) async fn keep(node: Arc<Node>) {
    let ends = node.connections_close.clone();
    ends.run_until_cancelled(Keeper { node, until: None, epoch: ControllerEpoch(0), refused: false }.run()).await;
}

struct Keeper {
    node: Arc<Node>,
    /// When the lease ends; `None` without one.
    until: Option<Instant>,
    /// The newest controller that was heard of.
    epoch: ControllerEpoch,
    /// It was told that the controller does not know this broker.
    refused: bool,
}

impl Keeper {
    async fn run(&mut self) {
        let (mut intents, mut stalls) = (self.node.lease.intent.subscribe(), self.node.stalls.changes());
        loop {
            let sent = Instant::now();
            let intent = *intents.borrow_and_update();
            let hangs = stalls.borrow_and_update().is_some();
            let pause = match self.node.controllers.failure() {
                // Who leads what no longer reaches it, so it must not go on as if it still knew.
                Some(why) => {
                    self.end_lease(&format!("its metadata log failed, restart it: {why}"));
                    PAUSE
                }
                // Others can do what this broker cannot, as soon as it is not heard of any more.
                None if hangs && intent == Intent::Serve && self.node.is_one_of_several() => {
                    self.end_lease("its disk hangs");
                    PAUSE
                }
                None => self.renew(sent, intent).await,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = at(self.until) => self.end_lease("the controller was not heard of in time"),
                _ = intents.changed() => {}
                _ = stalls.changed() => {}
            }
        }
    }

    /// Says when to ask again.
    async fn renew(&mut self, sent: Instant, intent: Intent) -> Duration {
        match self.beat(intent).await {
            Ok(Heard::Answer(answer)) => {
                self.answered(sent, &answer);
                Duration::from_millis(answer.heartbeat_ms.into()).saturating_sub(sent.elapsed())
            }
            Ok(Heard::LeaseEnded) => {
                self.end_lease("the controller was not heard of in time");
                Duration::ZERO
            }
            Err(error) => {
                self.failed(&error);
                PAUSE
            }
        }
    }

    async fn beat(&self, intent: Intent) -> Result<Heard, WireError> {
        let asked = tokio::time::timeout(PATIENCE, heartbeat(&self.node, intent));
        tokio::select! {
            answer = asked => match answer {
                Ok(answer) => answer.map(Heard::Answer),
                Err(_) => Err(WireError::new(ErrorCode::DeadlineExceeded, "the controller does not answer")),
            },
            () = at(self.until) => Ok(Heard::LeaseEnded),
        }
    }

    fn answered(&mut self, sent: Instant, answer: &BrokerHeartbeatResponse) {
        // Another has taken office since: it counts leases anew.
        if answer.controller_epoch < self.epoch {
            return;
        }
        (self.epoch, self.refused) = (answer.controller_epoch, false);
        if answer.fenced {
            self.end_lease("the controller has fenced this broker");
            let may_shut_down = answer.may_shut_down;
            self.node.lease.standing.send_if_modified(|standing| {
                std::mem::replace(&mut standing.may_shut_down, may_shut_down) != may_shut_down
            });
            return;
        }
        self.node.controllers.was_given(answer.controller_epoch, answer.lease_ms);
        let until = sent + Duration::from_millis(answer.lease_ms.into());
        if until <= Instant::now() {
            return;
        }
        // A later answer may give less, where its controller has not been confirmed for longer.
        self.until = self.until.max(Some(until));
        let began = self.node.lease.standing.send_if_modified(|standing| standing.holds_from(true, Instant::now()));
        if began {
            info!("this broker has a lease");
            self.tell(|| Command::LeaseRenewed);
        }
    }

    fn failed(&mut self, error: &WireError) {
        let unknown = matches!(error.code, ErrorCode::UnknownBroker | ErrorCode::FencedBroker);
        if unknown && !std::mem::replace(&mut self.refused, true) {
            error!(%error, "the cluster does not know this broker any more: another life of it took its place, or it was removed; stop it");
        }
        tracing::debug!(%error, "no answer to a heartbeat");
    }

    fn end_lease(&mut self, why: &str) {
        self.until = None;
        if self.node.lease.standing.send_if_modified(|standing| standing.holds_from(false, Instant::now())) {
            warn!(why, "this broker has no lease: it acknowledges nothing until it has one again");
            self.tell(|| Command::LeaseEnded);
        }
    }

    /// A partition that no other broker holds has nobody who could lead it meanwhile.
    fn tell(&self, command: impl Fn() -> Command) {
        self.node.registry.replicated().iter().for_each(|partition| partition.submit(command()));
    }
}

async fn at(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

async fn heartbeat(node: &Arc<Node>, intent: Intent) -> Result<BrokerHeartbeatResponse, WireError> {
    let member = node.registry.member();
    let applied = node.registry.applied_index();
    if matches!(node.controllers.role(), Role::Leader { .. }) {
        let broker = Registration { broker_id: member.broker, epoch: member.epoch };
        let speaks = ProtocolVersion::CURRENT;
        return node.controllers.heartbeat(Heartbeat { broker, applied, intent, speaks }).await;
    }
    let request = BrokerHeartbeatRequest {
        broker_id: member.broker,
        broker_epoch: member.epoch,
        applied,
        wants_shutdown: intent == Intent::ShutDown,
    };
    // A little less than who waits for this has patience: that it took too long is noted there, which it would cut off.
    to_controller(node, request, Instant::now() + PATIENCE.mul_f32(0.9)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_adrift_once_it_was_without_a_lease_for_long_and_until_it_has_one() {
        let began = Instant::now();
        let mut standing = Standing { holds: true, since: began, may_shut_down: false };
        assert!(!standing.is_adrift(began + ADRIFT * 9), "it holds one");
        let lost = began + ADRIFT * 9;
        assert_eq!([standing.holds_from(false, lost), standing.holds_from(false, lost + ADRIFT)], [true, false]);
        assert!(!standing.is_adrift(lost + ADRIFT / 2) && standing.is_adrift(lost + ADRIFT));
        assert!(standing.holds_from(true, lost + ADRIFT) && !standing.is_adrift(lost + ADRIFT * 2));
    }
}
