//! A whole cluster in one thread: brokers, disks, network, controller and producers, driven by one queue of events and one seed. Knows
//! nothing of which faults to bring about; schedules and scripts do.

use std::collections::BTreeMap;

use fastrand::Rng;
use tidelog_protocol::messages::Acks;
use tidelog_protocol::{BrokerId, Monotonic, Offset};

use super::control_plane::ControlPlane;
use super::disk::Disk;
use super::host::Host;
use super::invariants::{Invariant, Invariants};
use super::message::{Message, Place};
use super::network::{Network, Weather};
use super::node::{Context, Out, Process};
use super::settings::{Settings, ShellFlaw};

/// Prints every event of a life: for one seed.
pub const TRACE_VARIABLE: &str = "SIMULATION_TRACE";

/// What happens at a time.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Deliver { from: Place, to: Place, life: u32, message: Box<Message> },
    Tick { broker: BrokerId, life: u32 },
    ControllerTick,
    Flushed { broker: BrokerId, life: u32, end: Offset, generation: u32 },
}

/// The cluster.
pub struct World {
    settings: Settings,
    now: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Event>,
    hosts: Vec<Host>,
    control: ControlPlane,
    /// The network between all of them.
    pub network: Network,
    /// What was found out so far.
    pub checks: Invariants,
    /// Chance.
    pub rng: Rng,
    pub(super) next_value: u64,
    /// What the network keeps back.
    held: Vec<Event>,
    /// Prints what happens.
    pub is_told: bool,
}

impl World {
    /// All brokers are just started.
    #[must_use]
    pub fn new(settings: Settings, weather: Weather, seed: u64) -> Self {
        let mut world = Self {
            settings,
            now: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            hosts: (0..settings.brokers).map(|_| Host::new(settings.flaws)).collect(),
            control: ControlPlane::new(settings, Monotonic(0)),
            network: Network::new(weather),
            checks: Invariants::default(),
            rng: Rng::with_seed(seed),
            next_value: 1,
            held: Vec::new(),
            is_told: std::env::var_os(TRACE_VARIABLE).is_some(),
        };
        world.schedule(settings.tick_ms, Event::ControllerTick);
        for broker in world.brokers() {
            world.start(broker);
        }
        world
    }

    /// Every broker.
    #[must_use]
    pub fn brokers(&self) -> Vec<BrokerId> {
        (1..=self.settings.brokers).map(BrokerId).collect()
    }

    /// What it is made of.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Milliseconds since the beginning.
    #[must_use]
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// The control plane.
    #[must_use]
    pub const fn control(&self) -> &ControlPlane {
        &self.control
    }

    /// A broker's process, if it runs.
    #[must_use]
    pub fn process(&self, broker: BrokerId) -> Option<&Process> {
        self.host(broker).process.as_ref()
    }

    /// Does its process stand still?
    #[must_use]
    pub fn is_paused(&self, broker: BrokerId) -> bool {
        self.host(broker).paused.is_some()
    }

    /// A broker's disk.
    #[must_use]
    pub fn disk(&self, broker: BrokerId) -> &Disk {
        &self.host(broker).disk
    }

    /// Who leads, as the controller has it.
    #[must_use]
    pub fn leader(&self) -> Option<BrokerId> {
        self.control.partition().leader
    }

    /// Is every broker up and registered, every replica in sync, as the controller has it, and does the leader know that it leads?
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let state = self.control.partition();
        let up = |broker: &BrokerId| {
            let registered = self.control.image().broker(*broker).map(|broker| broker.epoch);
            let lives = self.process(*broker).is_some_and(|process| process.broker_epoch() == registered);
            lives && !self.is_paused(*broker)
        };
        let leads = |leader: BrokerId| self.process(leader).and_then(Process::leads) == Some(state.leader_epoch);
        state.leader.is_some_and(leads) && state.in_sync.len() == self.hosts.len() && self.brokers().iter().all(up)
    }

    /// Lets time pass.
    pub fn run_for(&mut self, ms: u64) {
        let until = self.now + ms;
        while let Some(at) = self.queue.first_key_value().map(|((at, _), _)| *at).filter(|at| *at <= until) {
            self.now = at;
            self.step();
        }
        self.now = until;
    }

    /// Lets time pass until `is_so`, at most `ms`. Says whether it came to be.
    pub fn run_until(&mut self, ms: u64, is_so: impl Fn(&Self) -> bool) -> bool {
        let until = self.now + ms;
        while !is_so(self) {
            let Some(at) = self.queue.first_key_value().map(|((at, _), _)| *at).filter(|at| *at <= until) else {
                return false;
            };
            self.now = at;
            self.step();
        }
        true
    }

    /// A producer sends a batch of `records` fresh values to `broker`. True where the broker took it.
    pub fn produce(&mut self, broker: BrokerId, records: u64, acks: Acks) -> bool {
        let values = self.fresh_values(records);
        if self.is_paused(broker) {
            return false;
        }
        self.with_process(broker, |process, disk, cx| process.produce(&values, acks, disk, cx)).unwrap_or(false)
    }

    /// Starts a broker that is down.
    pub fn start(&mut self, broker: BrokerId) {
        let now = self.clock(broker);
        let host = self.host_mut(broker);
        if host.process.is_some() {
            return;
        }
        host.life += 1;
        host.copy = Some(host.disk.clone());
        host.process = Some(Process::start((broker, host.life), &mut host.disk, now));
        let life = host.life;
        let believes = self.settings.shell_flaw == Some(ShellFlaw::OldMetadataBelieved);
        if believes {
            let image = Message::Image(self.control.image().clone());
            self.deliver(Place::Controller, broker, image);
        }
        self.schedule(0, Event::Tick { broker, life });
    }

    /// Kills a broker's process. What it wrote stays.
    pub fn kill(&mut self, broker: BrokerId) {
        let host = self.host_mut(broker);
        host.paused = None;
        if host.process.take().is_some() {
            self.checks.events.crashes += 1;
        }
    }

    /// Cuts the power of a broker's machine: `kept` of the batches that were not flushed stay by luck.
    pub fn cut_power(&mut self, broker: BrokerId, kept: impl FnOnce(usize) -> usize) {
        self.kill(broker);
        if self.host_mut(broker).disk.lose_power(kept) > 0 {
            self.checks.events.tails_lost += 1;
        }
    }

    /// Kills a broker and replaces its disk by an empty one.
    pub fn wipe(&mut self, broker: BrokerId) {
        self.kill(broker);
        self.host_mut(broker).disk.wipe();
        self.checks.events.wipes += 1;
    }

    /// Kills a broker and sets its disk back to what it was before the last start.
    pub fn set_back(&mut self, broker: BrokerId) {
        self.kill(broker);
        let believes = self.settings.shell_flaw == Some(ShellFlaw::OlderCopyBelieved);
        let host = self.host_mut(broker);
        let Some(mut copy) = host.copy.clone() else { return };
        let is_older = copy.end() < host.disk.end();
        if believes {
            copy.stamps.clone_from(&host.disk.stamps);
        }
        host.disk = copy;
        self.checks.events.set_back += u64::from(is_older);
    }

    /// A broker's process stands still.
    pub fn pause(&mut self, broker: BrokerId) {
        let host = self.host_mut(broker);
        if host.process.is_some() && host.paused.is_none() {
            host.paused = Some(Vec::new());
            self.checks.events.pauses += 1;
        }
    }

    /// It goes on, and finds what arrived meanwhile.
    pub fn resume(&mut self, broker: BrokerId) {
        for event in self.host_mut(broker).paused.take().unwrap_or_default() {
            self.dispatch(event);
        }
    }

    /// How long a flush takes from now on.
    pub fn flush_takes(&mut self, broker: BrokerId, ms: u64) {
        self.host_mut(broker).flush_ms = ms;
    }

    /// The next flush that ends fails.
    pub fn fail_next_flush(&mut self, broker: BrokerId) {
        self.host_mut(broker).next_flush_fails = true;
    }

    /// The disk is well again: no flush fails but those that did.
    pub fn mend_disk(&mut self, broker: BrokerId) {
        let host = self.host_mut(broker);
        (host.next_flush_fails, host.flush_ms) = (false, 2);
    }

    /// A clock that shows something else, and goes at another rate (in thousandths).
    pub fn set_clock(&mut self, broker: BrokerId, offset: u64, rate: u64) {
        self.host_mut(broker).clock = (offset, rate);
    }

    /// The controller decides nothing.
    pub const fn controller_leaves(&mut self) {
        self.control.leave();
    }

    /// Another one takes office.
    pub fn controller_returns(&mut self) {
        self.control.take_office(Monotonic(self.now));
    }

    /// Everything that was kept back arrives now, in the order it was sent.
    pub fn release(&mut self) {
        for event in std::mem::take(&mut self.held) {
            self.dispatch(event);
        }
    }

    /// Another replica that is in sync leads from here on, as a preferred election would have it.
    pub fn hand_over(&mut self, broker: BrokerId) {
        self.control.hand_over(broker, Monotonic(self.now));
        self.tell_everybody();
    }

    /// An operator orders an unclean election.
    pub fn elect_unclean(&mut self, broker: BrokerId) {
        self.control.elect_unclean(broker, Monotonic(self.now));
        self.tell_everybody();
    }

    /// Cuts a broker off from all others, both ways.
    pub fn isolate(&mut self, broker: BrokerId) {
        let others: Vec<Place> = self.brokers().into_iter().map(Place::Broker).chain([Place::Controller]).collect();
        for other in others {
            self.network.cut(Place::Broker(broker), other);
            self.network.cut(other, Place::Broker(broker));
        }
    }

    /// Checks what can be checked of the disks as they stand.
    pub fn check_disks(&mut self, acked: Invariant) {
        let Self { checks, hosts, control, .. } = self;
        checks.check_replicas(hosts.iter().enumerate().map(|(at, host)| (BrokerId(at as u32 + 1), &host.disk)));
        if let Some(leader) = control.partition().leader {
            checks.check_acked(acked, leader, &hosts[leader.0 as usize - 1].disk);
        }
    }

    fn host(&self, broker: BrokerId) -> &Host {
        &self.hosts[broker.0 as usize - 1]
    }

    fn host_mut(&mut self, broker: BrokerId) -> &mut Host {
        &mut self.hosts[broker.0 as usize - 1]
    }

    fn clock(&self, broker: BrokerId) -> Monotonic {
        let (offset, rate) = self.host(broker).clock;
        Monotonic(offset + self.now * rate / 1_000)
    }

    fn schedule(&mut self, after: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), event);
    }

    fn step(&mut self) {
        if let Some((_, event)) = self.queue.pop_first() {
            self.dispatch(event);
        }
    }

    fn dispatch(&mut self, event: Event) {
        if let Some(broker) = event.broker()
            && let Some(backlog) = &mut self.host_mut(broker).paused
        {
            backlog.push(event);
            return;
        }
        if self.is_told && !matches!(event, Event::Tick { .. } | Event::ControllerTick) {
            let quiet =
                |message: &Message| matches!(message, Message::Heartbeat { .. } | Message::HeartbeatAnswer { .. });
            match &event {
                Event::Deliver { message, .. } if quiet(message) => {}
                Event::Deliver { from, to, message, .. } if matches!(**message, Message::Image(_)) => {
                    println!("{} {from:?} tells {to:?} the metadata; {:?}", self.now, self.control.partition());
                }
                event => println!("{} {event:?}", self.now),
            }
        }
        match event {
            Event::Deliver { from, to: Place::Controller, message, .. } => self.tell_the_controller(from, *message),
            Event::Deliver { from, to: Place::Broker(broker), life, message } => {
                if self.host(broker).life == life {
                    self.deliver(from, broker, *message);
                } else {
                    self.checks.events.lost_messages += 1;
                }
            }
            Event::Tick { broker, life } => self.tick(broker, life),
            Event::ControllerTick => {
                let as_of = self.control.image().as_of();
                self.control.tick(Monotonic(self.now), &mut self.checks);
                if self.control.image().as_of() != as_of {
                    self.tell_everybody();
                }
                self.schedule(self.settings.tick_ms, Event::ControllerTick);
            }
            Event::Flushed { broker, life, end, generation } => {
                if self.host(broker).life == life && self.host(broker).process.is_some() {
                    self.flushed(broker, (end, generation));
                }
            }
        }
    }

    fn tick(&mut self, broker: BrokerId, life: u32) {
        if self.host(broker).life != life || self.host(broker).process.is_none() {
            return;
        }
        self.with_process(broker, Process::tick);
        // A broker whose log failed gives up its partitions; here that is all it has.
        if self.process(broker).is_some_and(Process::is_poisoned) {
            return self.kill(broker);
        }
        self.schedule(self.settings.tick_ms, Event::Tick { broker, life });
    }

    fn flushed(&mut self, broker: BrokerId, (end, generation): (Offset, u32)) {
        let believes = self.settings.shell_flaw == Some(ShellFlaw::StaleFlushBelieved);
        let host = self.host_mut(broker);
        let outcome = if host.next_flush_fails {
            host.next_flush_fails = false;
            host.disk.flush_failed();
            Err(())
        } else {
            let flushed_end = host.disk.flush(end, generation);
            let written_end = host.disk.end();
            Ok(if believes { flushed_end.max(end.min(written_end)) } else { flushed_end })
        };
        self.checks.events.failed_flushes += u64::from(outcome.is_err());
        self.with_process(broker, |process, disk, cx| process.flushed(outcome, disk, cx));
    }

    fn deliver(&mut self, from: Place, broker: BrokerId, message: Message) {
        self.with_process(broker, |process, disk, cx| process.receive(from, message, disk, cx));
    }

    fn tell_the_controller(&mut self, from: Place, message: Message) {
        let Place::Broker(broker) = from else { return };
        let as_of = self.control.image().as_of();
        let behind = matches!(&message, Message::Heartbeat { applied, .. } if *applied < as_of);
        if let Some(answer) = self.control.receive(broker, message, Monotonic(self.now)) {
            self.send(Place::Controller, from, answer);
        }
        if self.control.image().as_of() != as_of {
            self.tell_everybody();
        } else if behind && !self.control.is_away() {
            self.send(Place::Controller, from, Message::Image(self.control.image().clone()));
        }
    }

    fn tell_everybody(&mut self) {
        for broker in self.brokers() {
            self.send(Place::Controller, Place::Broker(broker), Message::Image(self.control.image().clone()));
        }
    }

    /// Runs an input of a broker's process and does what came of it.
    pub(super) fn with_process<R>(
        &mut self,
        broker: BrokerId,
        input: impl FnOnce(&mut Process, &mut Disk, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let now = self.clock(broker);
        let Self { hosts, settings, checks, .. } = self;
        let host = &mut hosts[broker.0 as usize - 1];
        let process = host.process.as_mut()?;
        let (life, flush_ms) = (host.life, host.flush_ms);
        let mut out = Vec::new();
        let result = input(process, &mut host.disk, &mut Context { now, settings, checks, out: &mut out });
        for wanted in out {
            match wanted {
                Out::Send(to, message) => self.send(Place::Broker(broker), to, message),
                Out::Flush { end, generation } => {
                    self.schedule(flush_ms, Event::Flushed { broker, life, end, generation });
                }
            }
        }
        Some(result)
    }

    fn send(&mut self, from: Place, to: Place, message: Message) {
        // A connection is to one life of a process.
        let life = match to {
            Place::Broker(broker) if self.host(broker).process.is_some() => self.host(broker).life,
            Place::Broker(_) => return,
            Place::Controller => 0,
        };
        if self.network.is_held(from, to) {
            self.held.push(Event::Deliver { from, to, life, message: Box::new(message) });
            return;
        }
        let (once, twice) = self.network.journey(from, to, &mut self.rng);
        if once.is_none() {
            self.checks.events.lost_messages += 1;
        }
        if let Some(after) = twice {
            self.schedule(after, Event::Deliver { from, to, life, message: Box::new(message.clone()) });
        }
        if let Some(after) = once {
            self.schedule(after, Event::Deliver { from, to, life, message: Box::new(message) });
        }
    }
}

impl Event {
    /// Whose process it needs.
    const fn broker(&self) -> Option<BrokerId> {
        match self {
            Self::Deliver { to: Place::Broker(broker), .. }
            | Self::Tick { broker, .. }
            | Self::Flushed { broker, .. } => Some(*broker),
            Self::Deliver { to: Place::Controller, .. } | Self::ControllerTick => None,
        }
    }
}
