//! Random lives of a cluster: faults as a seed draws them, then peace, then the verdict. Knows nothing of how a fault works.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;
use tidelog_protocol::messages::Acks;
use tidelog_protocol::{BrokerId, Durability};

use super::invariants::{Events, Invariant, Violation};
use super::message::Place;
use super::network::Weather;
use super::producer::NumberingProducer;
use super::settings::Settings;
use super::transactional::TransactionalProducer;
use super::world::World;

/// How long faults happen, in milliseconds.
const TROUBLE_MS: u64 = 5_000;
/// How long a cluster may take to be whole again after the last of them.
const HEALING_MS: u64 = 10_000;

/// What came of a schedule.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What happened.
    pub events: Events,
    /// The first breach, if there is one.
    pub violation: Option<Violation>,
}

/// Lives one schedule. The seed decides everything that `settings` leaves open.
#[must_use]
pub fn live(seed: u64, settings: Settings) -> Outcome {
    let mut rng = Rng::with_seed(seed);
    let weather = weather(&mut rng);
    let mut world = World::new(settings, Weather::CALM, rng.u64(..));
    let producers = [NumberingProducer::new(1), NumberingProducer::new(2)];
    let transactional = TransactionalProducer::new(&mut world);
    let mut schedule = Schedule { rng, weather, producers, transactional, tail_at_risk: false };
    // A machine that asserts found the bug itself.
    let lived = catch_unwind(AssertUnwindSafe(|| schedule.run(&mut world)));
    if let Err(cause) = lived {
        let text = cause.downcast_ref::<String>().cloned();
        let evidence = text.or_else(|| cause.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
        world.checks.broken(Invariant::ContiguousOffsets, format!("an assertion failed: {evidence}"));
    }
    Outcome { events: world.checks.events, violation: world.checks.violations().first().cloned() }
}

/// What `seed` leaves open about a cluster.
#[must_use]
pub fn settings(seed: u64) -> Settings {
    let mut rng = Rng::with_seed(seed ^ 0x005e_7714);
    let brokers = if rng.u32(..4) == 0 { 2 } else { 3 };
    Settings {
        brokers,
        durability: if rng.u32(..3) == 0 { Durability::Written } else { Durability::Flushed },
        min_in_sync: rng.u16(1..=2),
        ..Settings::usual()
    }
}

fn weather(rng: &mut Rng) -> Weather {
    let bad = rng.u32(..4);
    Weather {
        dropped: bad * rng.u32(0..40),
        doubled: bad * rng.u32(0..30),
        delay_ms: rng.u64(1..20),
        late: bad * rng.u32(0..60),
        late_ms: rng.u64(10..800),
    }
}

struct Schedule {
    rng: Rng,
    weather: Weather,
    producers: [NumberingProducer; 2],
    transactional: TransactionalProducer,
    /// Under `written`: a broker lost power, and what it lost has not been copied back yet. Until then nobody else may lose anything.
    tail_at_risk: bool,
}

impl Schedule {
    fn run(&mut self, world: &mut World) {
        let whole = world.run_until(HEALING_MS, World::is_whole);
        if !whole {
            world.checks.broken(Invariant::EventuallyAvailable, "it never came up".into());
            return;
        }
        self.skew_clocks(world);
        world.network.weather = self.weather;
        while world.now() < TROUBLE_MS && world.checks.violations().is_empty() {
            world.run_for(self.rng.u64(1..60));
            self.produce(world);
            for producer in &mut self.producers {
                producer.act(world, &mut self.rng);
            }
            self.transactional.act(world, &mut self.rng);
            if self.rng.u32(..8) == 0 {
                self.fault(world);
            }
        }
        heal(world);
        expect_available(world);
        self.expect_producers_go_on(world);
        world.check_disks(Invariant::NoAckedRecordLost);
        if world.settings().durability == Durability::Flushed && world.checks.violations().is_empty() {
            self.lights_out(world);
        }
    }

    fn skew_clocks(&mut self, world: &mut World) {
        for broker in world.brokers() {
            let (offset, rate) = (self.rng.u64(0..100_000), self.rng.u64(900..=1_100));
            world.set_clock(broker, offset, rate);
        }
    }

    fn produce(&mut self, world: &mut World) {
        // To everybody who believes to lead, the controller's view aside.
        for broker in world.brokers() {
            if world.process(broker).is_some_and(|process| process.leads().is_some()) && self.rng.u32(..3) > 0 {
                let acks = if self.rng.u32(..4) == 0 { Acks::Leader } else { Acks::All };
                let records = self.rng.u64(1..4);
                world.produce(broker, records, acks);
            }
        }
    }

    /// Whatever became of their batches, idempotent producers get through with what they are to send.
    fn expect_producers_go_on(&mut self, world: &mut World) {
        if !world.checks.violations().is_empty() {
            return;
        }
        let mut done = false;
        for _ in 0..50 {
            let Some(leader) = world.leader() else { break };
            done = self.producers.iter_mut().all(|producer| producer.finish(world, leader));
            if done {
                break;
            }
            world.run_for(100);
        }
        self.expect_transactions_end(world);
        if !done {
            let waiting: Vec<_> = self.producers.iter().map(NumberingProducer::waiting).collect();
            world.checks.broken(Invariant::ProducersGoOn, format!("producers do not get through with {waiting:?}"));
        }
    }

    /// Every transaction ends, whatever became of its coordinator's words, and nothing is open then.
    fn expect_transactions_end(&mut self, world: &mut World) {
        let mut done = false;
        for _ in 0..100 {
            let Some(leader) = world.leader() else { break };
            done = self.transactional.finish(world, leader);
            world.run_for(100);
            if done {
                break;
            }
        }
        let open = world.leader().map(|leader| world.disk(leader).producers.open_transactions().count);
        if !done || open != Some(0) {
            let evidence = format!("{open:?} are open at the end; {:?}", self.transactional);
            world.checks.broken(Invariant::NoHangingTransaction, evidence);
        }
    }

    fn fault(&mut self, world: &mut World) {
        let brokers = world.brokers();
        let broker = brokers[self.rng.usize(..brokers.len())];
        // Half of the time whoever leads.
        let broker = if self.rng.bool() { world.leader().unwrap_or(broker) } else { broker };
        match self.rng.u32(..21) {
            0..3 => self.crash(broker, world),
            3..6 => self.cut_power(broker, world),
            6 => self.cut_everybodys_power(world),
            7 => self.wipe(broker, world),
            8..11 => world.start(broker),
            11 => world.pause(broker),
            12 | 13 => brokers.iter().for_each(|broker| world.resume(*broker)),
            14 => {
                let other = brokers[self.rng.usize(..brokers.len())];
                let other = if self.rng.bool() { Place::Broker(other) } else { Place::Controller };
                let (from, to) = (Place::Broker(broker), other);
                let (from, to) = if self.rng.bool() { (from, to) } else { (to, from) };
                world.network.cut(from, to);
            }
            15 => world.isolate(broker),
            16 | 17 => world.network.heal(),
            18 if world.control().is_away() => world.controller_returns(),
            18 => world.controller_leaves(),
            19 => self.set_back(broker, world),
            _ => match self.rng.u32(..3) {
                0 => world.flush_takes(broker, self.rng.u64(1..900)),
                1 => world.flush_takes(broker, 2),
                _ => self.fail_flush(broker, world),
            },
        }
    }

    fn crash(&mut self, broker: BrokerId, world: &mut World) {
        if self.may_stop(world) {
            world.kill(broker);
            if self.rng.bool() {
                world.run_for(self.rng.u64(1..400));
                world.start(broker);
            }
        }
    }

    fn cut_power(&mut self, broker: BrokerId, world: &mut World) {
        if self.may_lose_a_tail(world) {
            let luck = self.rng.usize(..);
            world.cut_power(broker, |unflushed| luck % (unflushed + 1));
            if self.rng.bool() {
                world.run_for(self.rng.u64(1..400));
                world.start(broker);
            }
        }
    }

    fn cut_everybodys_power(&mut self, world: &mut World) {
        if world.settings().durability == Durability::Flushed {
            self.all_lose_power(world);
        }
    }

    fn all_lose_power(&mut self, world: &mut World) {
        for broker in world.brokers() {
            let luck = self.rng.usize(..);
            world.cut_power(broker, |unflushed| luck % (unflushed + 1));
        }
        for broker in world.brokers() {
            world.run_for(self.rng.u64(0..100));
            world.start(broker);
        }
    }

    /// What is on one disk only is lost with it, so the others must have everything and keep it. With a minimum of one, a restart of the
    /// others before the loss is known leaves the lost disk the only one in sync.
    fn wipe(&mut self, broker: BrokerId, world: &mut World) {
        let survivable = world.settings().brokers > 2 && world.settings().min_in_sync > 1;
        if survivable && self.is_safe(world) {
            world.wipe(broker);
            self.tail_at_risk = true;
            world.run_for(self.rng.u64(1..400));
            world.start(broker);
        }
    }

    /// All lose power, and one comes up with an older copy of its folder. Survivable where a wiped disk is.
    fn set_back(&mut self, broker: BrokerId, world: &mut World) {
        let Settings { brokers, min_in_sync, durability, .. } = *world.settings();
        let survivable = brokers > 2 && min_in_sync > 1 && durability == Durability::Flushed;
        if survivable && self.is_safe(world) {
            world.set_back(broker);
            self.tail_at_risk = true;
            self.all_lose_power(world);
        }
    }

    /// Only under `flushed`: a broker that stops by itself may lose what it could not flush.
    fn fail_flush(&mut self, broker: BrokerId, world: &mut World) {
        if world.settings().durability == Durability::Flushed {
            world.fail_next_flush(broker);
        }
    }

    fn is_safe(&mut self, world: &World) -> bool {
        if world.is_whole() {
            self.tail_at_risk = false;
        }
        !self.tail_at_risk && world.is_whole()
    }

    fn may_stop(&mut self, world: &World) -> bool {
        let safe = self.is_safe(world);
        safe || !self.tail_at_risk || world.settings().durability == Durability::Flushed
    }

    /// Under `written` with a minimum of one, a broker cut off from the controller leaves the other alone in sync, and what that one loses is
    /// lost: the last replica standing of KIP-966.
    fn may_lose_a_tail(&mut self, world: &World) -> bool {
        if world.settings().durability == Durability::Flushed {
            return true;
        }
        if world.settings().min_in_sync < 2 {
            return false;
        }
        let safe = self.is_safe(world);
        self.tail_at_risk |= safe;
        safe
    }

    /// All lose power at once under load, long after the last fault.
    fn lights_out(&mut self, world: &mut World) {
        for _ in 0..10 {
            if let Some(leader) = world.leader() {
                world.produce(leader, 2, Acks::All);
            }
            world.run_for(self.rng.u64(0..4));
        }
        self.all_lose_power(world);
        expect_available(world);
        world.check_disks(Invariant::AckedIsDurable);
    }
}

/// Ends every fault.
pub fn heal(world: &mut World) {
    world.network.heal();
    world.network.weather = Weather::CALM;
    if world.control().is_away() {
        world.controller_returns();
    }
    for broker in world.brokers() {
        world.resume(broker);
        world.mend_disk(broker);
        world.start(broker);
    }
}

/// Waits until the cluster is whole and has acknowledged something, or notes that it never was.
pub fn expect_available(world: &mut World) {
    // A flush that failed just before the healing stops its broker after it.
    let mut whole = false;
    for _ in 0..HEALING_MS / 1_000 {
        whole = world.run_until(1_000, World::is_whole);
        if whole {
            break;
        }
        world.brokers().into_iter().for_each(|broker| world.start(broker));
    }
    let acked = world.checks.events.acked;
    let mut leads_on = false;
    if whole && let Some(leader) = world.leader() {
        for _ in 0..20 {
            world.run_for(100);
            world.brokers().into_iter().for_each(|broker| world.start(broker));
            let leader = world.leader().unwrap_or(leader);
            world.produce(leader, 1, Acks::All);
            leads_on = world.run_until(100, |world| world.checks.events.acked > acked);
            if leads_on {
                break;
            }
        }
        whole = world.run_until(HEALING_MS, World::is_whole);
    }
    world.run_for(500);
    if !whole || !leads_on {
        let evidence = format!("{:?} at {} ms", world.control().partition(), world.now());
        world.checks.broken(Invariant::EventuallyAvailable, evidence);
    }
}
