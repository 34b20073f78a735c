//! Leases: which brokers were heard of lately. Soft state beside the image, held by the broker that runs the controller and made
//! afresh when another takes office. Knows nothing of messages or timers; the time is monotonic and comes as an argument.
//!
//! A broker counts its lease from when it *sent* the heartbeat, the controller from when it *arrived*: the broker stops
//! acknowledging before anybody else is elected, whatever the clocks say.

use alloc::collections::BTreeMap;
use alloc::format;

use tidelog_protocol::{BrokerId, ErrorCode, MetadataIndex, Monotonic, ProtocolVersion};

use crate::command::{Command, Refusal, Registration};
use crate::confirmation::{HANDOVER_MS, OWN_LEASE_MS};
use crate::image::{BrokerImage, ClusterImage};
use crate::records::FeatureLevel;
use crate::registration::registered;

/// How often a broker should be heard of, in milliseconds.
pub const HEARTBEAT_MS: u64 = 200;

/// How long a broker may be silent, in milliseconds.
pub const LEASE_MS: u64 = 1_500;

/// What a broker says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// Who it is.
    pub broker: Registration,
    /// How far it has applied the metadata.
    pub applied: MetadataIndex,
    /// What it wants.
    pub intent: Intent,
    /// The newest version of the protocol that it and this controller have in common: which release it is, as far as that matters here.
    pub speaks: ProtocolVersion,
}

/// What a broker wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Intent {
    /// To serve.
    Serve,
    /// To hand over what it leads and stop.
    ShutDown,
}

/// What a broker is told, once the command that its heartbeat led to is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// It has no lease.
    pub fenced: bool,
    /// Everything is handed over.
    pub may_shut_down: bool,
}

impl Answer {
    /// What the image says of this broker.
    ///
    /// # Errors
    /// UnknownBroker or FencedBroker: it must register again.
    pub fn to(image: &ClusterImage, broker: Registration) -> Result<Self, Refusal> {
        let BrokerImage { fenced, leaving, .. } = *registered(image, broker)?;
        Ok(Self { fenced, may_shut_down: fenced && leaving })
    }
}

/// When each broker was last heard of.
#[derive(Clone, Debug)]
pub struct Leases {
    lease_ms: u64,
    held: BTreeMap<BrokerId, Lease>,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    broker: Registration,
    fenced: bool,
    heard: Monotonic,
    ends: Monotonic,
    /// Only from then on does silence say something.
    was_heard: bool,
    /// While it is fenced: what it must have applied to serve again. It contains the record that fenced it, so a broker that was
    /// away knows what it lost before it serves.
    must_have_applied: MetadataIndex,
    /// The newest feature level that it knows; `None` until it was heard of.
    knows: Option<u16>,
}

impl Lease {
    fn hear(&mut self, now: Monotonic, lease_ms: u64) {
        (self.heard, self.was_heard) = (now, true);
        self.ends = self.ends.max(now.plus_ms(lease_ms));
    }
}

impl Leases {
    /// For a controller that takes office at `now`: it has heard of nobody yet, and gives everyone a whole lease.
    #[must_use]
    pub fn new(image: &ClusterImage, lease_ms: u64, now: Monotonic) -> Self {
        let mut leases = Self { lease_ms, held: BTreeMap::new() };
        leases.follow(image, now);
        leases
    }

    /// This one ran the controller before: nobody but itself can have given it a lease, and most of that has passed (see
    /// [`confirmation`](crate::confirmation)). Much of everybody's lease has; but the others could hardly know yet whom to tell that they
    /// are there, and are not to be fenced for that.
    pub fn succeed(&mut self, predecessor: BrokerId) {
        if let Some(lease) = self.held.get_mut(&predecessor).filter(|lease| !lease.was_heard) {
            lease.ends = lease.heard.plus_ms(OWN_LEASE_MS.saturating_sub(HANDOVER_MS).min(self.lease_ms));
        }
    }

    /// Takes in what changed in the image. To be called with every new one.
    pub fn follow(&mut self, image: &ClusterImage, now: Monotonic) {
        self.held.retain(|broker, _| image.broker(*broker).is_some());
        for broker in image.brokers() {
            let fresh = Lease {
                broker: Registration { broker_id: broker.broker_id, epoch: broker.epoch },
                fenced: broker.fenced,
                heard: now,
                ends: now.plus_ms(self.lease_ms),
                was_heard: false,
                must_have_applied: image.as_of(),
                knows: None,
            };
            let lease = self.held.entry(broker.broker_id).or_insert(fresh);
            if lease.broker != fresh.broker {
                *lease = fresh;
            } else if lease.fenced != broker.fenced {
                lease.fenced = broker.fenced;
                lease.must_have_applied = image.as_of();
            }
        }
    }

    /// A broker was heard of at `now`. Gives the command that follows from it, if one does; answer with [`Answer::to`] after it.
    ///
    /// # Errors
    /// UnknownBroker or FencedBroker: it must register again.
    pub fn heartbeat(
        &mut self,
        image: &ClusterImage,
        heartbeat: &Heartbeat,
        now: Monotonic,
    ) -> Result<Option<Command>, Refusal> {
        let broker = registered(image, heartbeat.broker)?;
        self.follow(image, now);
        let Some(lease) = self.held.get_mut(&broker.broker_id) else { return Ok(None) };
        lease.hear(now, self.lease_ms);
        lease.knows = Some(FeatureLevel::newest_of(heartbeat.speaks));
        let caught_up = heartbeat.applied >= lease.must_have_applied;
        Ok(match heartbeat.intent {
            Intent::ShutDown if !broker.fenced => Some(Command::ShutDownBroker(heartbeat.broker)),
            Intent::Serve if broker.fenced && !broker.leaving && caught_up => {
                Some(Command::UnfenceBroker(heartbeat.broker))
            }
            Intent::Serve | Intent::ShutDown => None,
        })
    }

    /// May records of this feature level follow? A broker that does not know it would stop at the first of them. `own` runs the
    /// controller. Of one that is fenced and has said nothing, nothing is known, and nobody waits for it, as it may be gone for good: but for a level
    /// that begins by itself.
    ///
    /// # Errors
    /// Unsupported where a broker runs a release that is too old; NoQuorum where one that serves has not been heard of yet.
    pub fn may_begin(&self, level: u16, own: BrokerId) -> Result<(), Refusal> {
        let others = || self.held.iter().filter(|(broker, _)| **broker != own);
        if let Some((broker, _)) = others().find(|(_, lease)| lease.knows.is_some_and(|knows| knows < level)) {
            let sentence = format!(
                "broker {broker} runs a release that does not know this (feature level {level}) and would stop; upgrade that \
                 broker, or remove it, then try again"
            );
            return Err(Refusal::new(ErrorCode::Unsupported, sentence));
        }
        let is_asked_for = level != FeatureLevel::BEGINS_BY_ITSELF;
        let is_unknown = |lease: &Lease| lease.knows.is_none() && !(lease.fenced && is_asked_for);
        if let Some((broker, _)) = others().find(|(_, lease)| is_unknown(lease)) {
            let sentence = format!(
                "the controller has not heard yet which release broker {broker} runs, so it cannot tell whether that knows feature level \
                 {level}; try again"
            );
            return Err(Refusal::new(ErrorCode::NoQuorum, sentence));
        }
        Ok(())
    }

    /// The brokers that serve and whose lease has ended at `now`: each is to be fenced.
    pub fn expired(&self, now: Monotonic) -> impl Iterator<Item = Registration> {
        let ended = move |lease: &&Lease| !lease.fenced && now >= lease.ends;
        self.held.values().filter(ended).map(|lease| lease.broker)
    }

    /// A broker is there at `now`, without having said so: it is asked in the process that runs the controller.
    pub fn is_here(&mut self, broker: BrokerId, now: Monotonic) {
        if let Some(lease) = self.held.get_mut(&broker).filter(|lease| !lease.fenced) {
            lease.hear(now, self.lease_ms);
        }
    }

    /// The brokers that serve and were not heard of for `silent_ms` at `now`, or never since these leases began: worth a look whether
    /// they are there at all.
    pub fn silent(&self, now: Monotonic, silent_ms: u64) -> impl Iterator<Item = Registration> {
        let silent =
            move |lease: &&Lease| !lease.fenced && (!lease.was_heard || now.ms_since(lease.heard) >= silent_ms);
        self.held.values().filter(silent).map(|lease| lease.broker)
    }

    /// When the next lease ends if nobody is heard of; `None` while nobody serves.
    #[must_use]
    pub fn next_end(&self) -> Option<Monotonic> {
        let serving = self.held.values().filter(|lease| !lease.fenced);
        serving.map(|lease| lease.ends).min()
    }

    /// Milliseconds of lease that a broker has left at `now`; `None` for one that is fenced or unknown.
    #[must_use]
    pub fn left_ms(&self, broker: BrokerId, now: Monotonic) -> Option<u64> {
        let lease = self.held.get(&broker).filter(|lease| !lease.fenced)?;
        Some(lease.ends.ms_since(now))
    }
}
