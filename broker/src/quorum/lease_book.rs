//! The leases of all brokers, as the one that runs the controller keeps them: heartbeats come in, commands to fence and unfence come
//! out. Knows nothing of sockets; who is looked for over the network is somebody else's business.

use parking_lot::Mutex;
use tidelog_coordination::command::Registration;
use tidelog_coordination::confirmation::OWN_LEASE_MS;
use tidelog_coordination::leases::{Answer, HEARTBEAT_MS, Heartbeat, Intent, LEASE_MS, Leases};
use tidelog_coordination::{ClusterImage, Command};
use tidelog_protocol::messages::BrokerHeartbeatResponse;
use tidelog_protocol::{BrokerId, ControllerEpoch, ErrorCode, Monotonic, WireError};

use super::controllers::Controllers;
use super::role::Role;
use crate::clock;

/// A controller that was not there itself for so long cannot tell who was.
const ABSENT_MS: u64 = 500;

/// A broker that was not heard of for so long is looked for.
const SUSPICIOUS_MS: u64 = 2 * HEARTBEAT_MS;

/// The leases, while this broker runs the controller.
#[derive(Debug, Default)]
pub(super) struct LeaseBook {
    open: Mutex<Option<Open>>,
    handover: Mutex<Handover>,
}

/// What is known of the controller before this one.
#[derive(Debug, Default)]
struct Handover {
    /// The newest controller that is known to count the leases it gives from when it made sure that it leads. A release before this one did
    /// not, and what it gave may last longer.
    counts: ControllerEpoch,
    /// In which term this broker took over from whom.
    predecessor: Option<(u64, BrokerId)>,
}

#[derive(Debug)]
struct Open {
    term: u64,
    leases: Leases,
    /// When it last looked.
    looked: Monotonic,
}

/// Who was not heard of.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Silent {
    /// Their leases have ended.
    pub ended: Vec<Registration>,
    /// For a while, or never since this controller took office.
    pub suspects: Vec<Registration>,
}

impl Controllers {
    /// A broker is heard of.
    ///
    /// # Errors
    /// NotController elsewhere; NoQuorum where this controller cannot be sure that it is the only one; UnknownBroker or FencedBroker
    /// where the broker must register anew.
    pub async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<BrokerHeartbeatResponse, WireError> {
        self.take_office().await?;
        let (image, now) = (self.image(), clock::monotonic());
        let command = self.with_leases(now, |open| open.leases.heartbeat(&image, &heartbeat, now))??;
        if let Some(command) = command {
            let _ = self.submit(command).await?;
        }
        let image = self.image();
        let lease_ms = self.lease_ms(heartbeat.broker.broker_id)?;
        let Answer { fenced, may_shut_down } = Answer::to(&image, heartbeat.broker)?;
        Ok(BrokerHeartbeatResponse {
            controller_epoch: image.controller_epoch(),
            fenced,
            may_shut_down,
            lease_ms,
            // Whoever wants to go waits for the next step.
            heartbeat_ms: if heartbeat.intent == Intent::ShutDown { HEARTBEAT_MS / 4 } else { HEARTBEAT_MS } as u32,
            as_of: image.as_of(),
        })
    }

    /// Makes sure that this broker still runs the controller, and says who was not heard of. `here` is heard of by being
    /// asked; `None` where this broker cannot serve.
    pub async fn look_at_leases(&self, here: Option<BrokerId>) -> Silent {
        // Whoever is asked to confirm it has heard of it.
        if self.quorum().is_leaving() || self.take_office().await.is_err() || !self.quorum().confirm().await {
            return Silent::default();
        }
        let (image, now) = (self.image(), clock::monotonic());
        let looked = self.with_leases(now, |open| {
            if now.ms_since(open.looked) > ABSENT_MS {
                open.leases = Leases::new(&image, LEASE_MS, now);
            }
            open.looked = now;
            open.leases.follow(&image, now);
            here.into_iter().for_each(|own| open.leases.is_here(own, now));
            Silent {
                ended: open.leases.expired(now).collect(),
                suspects: open.leases.silent(now, SUSPICIOUS_MS).collect(),
            }
        });
        looked.unwrap_or_default()
    }

    /// What a broker has left of its lease; `None` for one that is fenced or unknown, and where another runs the controller.
    #[must_use]
    pub fn lease_left_ms(&self, broker: BrokerId) -> Option<u64> {
        let Role::Leader { term, .. } = self.role() else { return None };
        let open = self.leases().open.lock();
        open.as_ref().filter(|open| open.term == term)?.leases.left_ms(broker, clock::monotonic())
    }

    /// Fences a broker.
    ///
    /// # Errors
    /// As [`Controllers::submit`].
    pub async fn fence(&self, broker: Registration) -> Result<(), WireError> {
        self.submit(Command::FenceBroker(broker)).await.map(drop)
    }

    /// Does every broker know this feature level?
    ///
    /// # Errors
    /// As [`Leases::may_begin`]; NotController elsewhere.
    pub(super) fn check_level(&self, level: u16) -> Result<(), WireError> {
        let Role::Leader { broker: own, .. } = self.role() else { return Err(elsewhere()) };
        let (image, now) = (self.image(), clock::monotonic());
        let checked = self.with_leases(now, |open| {
            open.leases.follow(&image, now);
            open.leases.may_begin(level, own)
        });
        Ok(checked??)
    }

    fn with_leases<T>(&self, now: Monotonic, work: impl FnOnce(&mut Open) -> T) -> Result<T, WireError> {
        let Role::Leader { term, .. } = self.role() else {
            return Err(elsewhere());
        };
        let mut open = self.leases().open.lock();
        if open.as_ref().is_none_or(|open| open.term != term) {
            let mut leases = Leases::new(&self.image(), LEASE_MS, now);
            match self.leases().handover.lock().predecessor {
                Some((taken_over, predecessor)) if taken_over == term => leases.succeed(predecessor),
                _ => {}
            }
            *open = Some(Open { term, leases, looked: now });
        }
        let Some(open) = open.as_mut() else { unreachable!("it was opened above") };
        Ok(work(open))
    }

    /// How long a lease may be that this one is given now.
    fn lease_ms(&self, to: BrokerId) -> Result<u32, WireError> {
        let Role::Leader { broker, .. } = self.role() else { return Err(elsewhere()) };
        let due = if to == broker { OWN_LEASE_MS } else { LEASE_MS };
        let lease_ms = self.quorum().lease_ms(due).ok_or_else(|| {
            let sentence = "the controller here cannot tell whether another has taken its place; ask again";
            WireError::new(ErrorCode::NoQuorum, sentence)
        })?;
        Ok(u32::try_from(lease_ms).unwrap_or(u32::MAX))
    }

    /// A controller gave this broker a lease of so many milliseconds.
    pub fn was_given(&self, controller: ControllerEpoch, lease_ms: u32) {
        if u64::from(lease_ms) < LEASE_MS {
            let mut handover = self.leases().handover.lock();
            handover.counts = handover.counts.max(controller);
        }
    }

    /// This broker is about to take office in this term, where `image` is the newest.
    pub(super) fn take_over(&self, term: u64, image: &ClusterImage) {
        let mut handover = self.leases().handover.lock();
        let counts = handover.counts == image.controller_epoch();
        handover.predecessor = image.controller().filter(|_| counts).map(|predecessor| (term, predecessor));
    }
}

fn elsewhere() -> WireError {
    WireError::new(ErrorCode::NotController, "this broker does not run the controller")
}
