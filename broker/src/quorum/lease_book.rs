//! The leases of all brokers, as the one that runs the controller keeps them: heartbeats come in, commands to fence and unfence come
//! out. Knows nothing of sockets; who is looked for over the network is somebody else's business.

use parking_lot::Mutex;
use tidelog_coordination::Command;
use tidelog_coordination::command::Registration;
use tidelog_coordination::leases::{Answer, HEARTBEAT_MS, Heartbeat, Intent, LEASE_MS, Leases};
use tidelog_protocol::messages::BrokerHeartbeatResponse;
use tidelog_protocol::{BrokerId, ErrorCode, Monotonic, WireError};

use super::consensus::Role;
use super::controllers::Controllers;
use crate::clock;

/// A controller that has not made sure for so long that it still is one gives no leases. Shorter than the time in which no other can be
/// elected: whoever is, gives everyone a whole lease, which outlasts those that were given before.
const CONFIRMED_MS_MAX: u64 = 500;

/// A controller that was not there itself for so long cannot tell who was.
const ABSENT_MS: u64 = 500;

/// A broker that was not heard of for so long is looked for.
const SUSPICIOUS_MS: u64 = 2 * HEARTBEAT_MS;

/// The leases, while this broker runs the controller.
#[derive(Debug, Default)]
pub(super) struct LeaseBook {
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    term: u64,
    leases: Leases,
    /// When it began to make sure, successfully, that it still runs the controller.
    confirmed: Option<Monotonic>,
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
        self.check_confirmed(clock::monotonic())?;
        let Answer { fenced, may_shut_down } = Answer::to(&image, heartbeat.broker)?;
        Ok(BrokerHeartbeatResponse {
            controller_epoch: image.controller_epoch(),
            fenced,
            may_shut_down,
            lease_ms: LEASE_MS as u32,
            // Whoever wants to go waits for the next step.
            heartbeat_ms: if heartbeat.intent == Intent::ShutDown { HEARTBEAT_MS / 4 } else { HEARTBEAT_MS } as u32,
            as_of: image.as_of(),
        })
    }

    /// Makes sure that this broker still runs the controller, and says who was not heard of. `own` is heard of by being asked.
    pub async fn look_at_leases(&self, own: BrokerId) -> Silent {
        let began = clock::monotonic();
        if self.take_office().await.is_err() || !self.quorum().confirm().await {
            return Silent::default();
        }
        let (image, now) = (self.image(), clock::monotonic());
        let looked = self.with_leases(now, |open| {
            open.confirmed = Some(began);
            if now.ms_since(open.looked) > ABSENT_MS {
                open.leases = Leases::new(&image, LEASE_MS, now);
            }
            open.looked = now;
            open.leases.follow(&image, now);
            open.leases.is_here(own, now);
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

    fn with_leases<T>(&self, now: Monotonic, work: impl FnOnce(&mut Open) -> T) -> Result<T, WireError> {
        let Role::Leader { term, .. } = self.role() else {
            return Err(WireError::new(ErrorCode::NotController, "this broker does not run the controller"));
        };
        let mut open = self.leases().open.lock();
        if open.as_ref().is_none_or(|open| open.term != term) {
            let leases = Leases::new(&self.image(), LEASE_MS, now);
            *open = Some(Open { term, leases, confirmed: None, looked: now });
        }
        let Some(open) = open.as_mut() else { unreachable!("it was opened above") };
        Ok(work(open))
    }

    fn check_confirmed(&self, now: Monotonic) -> Result<(), WireError> {
        let confirmed = self.with_leases(now, |open| open.confirmed)?;
        match confirmed {
            Some(confirmed) if now.ms_since(confirmed) <= CONFIRMED_MS_MAX => Ok(()),
            _ => {
                let sentence = "the controller here cannot tell whether another has taken its place; ask again";
                Err(WireError::new(ErrorCode::NoQuorum, sentence))
            }
        }
    }
}
