//! Members against the coordinator's own machine, in a world where requests and answers are lost, late or doubled, where the coordinator
//! moves, and members stop, hang and come back: no two ever work on one partition, what a member keeps is never touched, and when the
//! trouble is over everything is worked on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidelog_coordination::groups::{Bounds, GroupCommand, GroupLimits, GroupRecord, GroupReply, Groups};
use tidelog_coordination::records::{PartitionCreated, PartitionState, TopicCreated};
use tidelog_coordination::{ClusterImage, MetadataRecord};
use tidelog_protocol::messages::{GroupHeartbeatRequest, Subscription};
use tidelog_protocol::{BrokerId, ErrorCode, MetadataIndex, Monotonic, PartitionId, Timestamp, TopicId, TopicName};

use super::member::{Answer, Beat, Effect, Event, Failure, Member, Place, Rules};
use super::taking::by_topic;
use crate::{Backoff, ClientError};

const PARTITIONS: u32 = 5;
const STEP_MS: u64 = 25;
const SESSION_MS: u32 = 4_000;
const REBALANCE_MS: u32 = 5_000;

pub(super) fn topic() -> TopicId {
    TopicId([7; 16])
}

fn image() -> ClusterImage {
    let mut image = ClusterImage::default();
    let created = TopicCreated {
        topic_id: topic(),
        name: TopicName::new("orders").unwrap(),
        internal: false,
        created_at: Timestamp(0),
        overrides: Vec::new(),
    };
    image.apply(MetadataIndex(1), &MetadataRecord::from(created));
    for partition in 0..PARTITIONS {
        let state = PartitionState::first(vec![BrokerId(1)]);
        let created = PartitionCreated { topic_id: topic(), partition: PartitionId(partition), state };
        image.apply(MetadataIndex(u64::from(partition) + 2), &MetadataRecord::from(created));
    }
    image
}

/// A process with a member.
struct Process {
    id: String,
    lives: u32,
    member: Member,
    works_on: BTreeSet<Place>,
    /// When what is to be let go of will be.
    letting_go: Vec<(u64, Vec<Place>)>,
    /// The heartbeat that is waited for, and until when.
    asking: Option<(u64, u64)>,
    /// It does nothing until then: its machine stands still.
    hangs_until: u64,
    stopped: Option<Option<ClientError>>,
}

struct Asked {
    arrives: u64,
    process: usize,
    life: u32,
    number: u64,
    request: GroupHeartbeatRequest,
}

struct Answered {
    arrives: u64,
    process: usize,
    life: u32,
    number: u64,
    result: Result<Answer, Failure>,
}

#[derive(Default, Debug)]
struct Tally {
    lost: u64,
    moves: u64,
    hangs: u64,
    crashes: u64,
    losses: u64,
    fenced: u64,
    unknown: u64,
    handed_over: u64,
    late_answers: u64,
}

struct World {
    seed: u64,
    chance: fastrand::Rng,
    now: u64,
    image: ClusterImage,
    groups: Groups,
    log: Vec<GroupRecord>,
    processes: Vec<Process>,
    asked: Vec<Asked>,
    answered: Vec<Answered>,
    is_calm: bool,
    tally: Tally,
}

fn limits() -> GroupLimits {
    GroupLimits {
        session_ms: Bounds { min: 1_000, default: SESSION_MS, max: 20_000 },
        rebalance_ms: Bounds { min: 1_000, default: REBALANCE_MS, max: 60_000 },
        heartbeat_ms: 800,
        ..GroupLimits::default()
    }
}

pub(super) fn rules() -> Rules {
    Rules {
        is_static: false,
        backoff: Backoff::DEFAULT,
        patience: Duration::from_secs(30),
        rebalance_ms: REBALANCE_MS.into(),
        taken_patience_ms: SESSION_MS.into(),
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            seed,
            chance: fastrand::Rng::with_seed(seed),
            now: 1_000,
            image: image(),
            groups: Groups::new(limits()),
            log: Vec::new(),
            processes: Vec::new(),
            asked: Vec::new(),
            answered: Vec::new(),
            is_calm: false,
            tally: Tally::default(),
        };
        for process in 0..world.chance.usize(2..5) {
            let born = world.born(process, 0);
            world.processes.push(born);
        }
        world
    }

    fn born(&self, process: usize, lives: u32) -> Process {
        Process {
            id: format!("member-{process}-{lives}"),
            lives,
            member: Member::new(rules(), Monotonic(self.now)),
            works_on: BTreeSet::new(),
            letting_go: Vec::new(),
            asking: None,
            hangs_until: 0,
            stopped: None,
        }
    }

    fn run(&mut self) {
        for _ in 0..2_000 {
            self.trouble();
            self.step();
        }
        self.is_calm = true;
        for _ in 0..2_400 {
            self.step();
        }
        let all: BTreeSet<Place> = (0..PARTITIONS).map(|partition| (topic(), PartitionId(partition))).collect();
        let worked: BTreeSet<Place> = self.processes.iter().flat_map(|process| process.works_on.clone()).collect();
        assert_eq!(worked, all, "seed {}: after a minute of calm all is worked on", self.seed);
        for process in &self.processes {
            assert!(process.stopped.is_none(), "seed {}: {} stopped: {:?}", self.seed, process.id, process.stopped);
            let share = PARTITIONS as usize / self.processes.len();
            assert!(process.works_on.len() >= share, "seed {}: {} has its share", self.seed, process.id);
        }
    }

    fn trouble(&mut self) {
        match self.chance.u32(..400) {
            0 => {
                let process = self.chance.usize(..self.processes.len());
                let lives = self.processes[process].lives + 1;
                self.processes[process] = self.born(process, lives);
                self.tally.crashes += 1;
            }
            1 | 2 => {
                let (process, ms) = (self.chance.usize(..self.processes.len()), self.chance.u64(500..9_000));
                self.processes[process].hangs_until = self.now + ms;
                self.tally.hangs += 1;
            }
            3 => {
                // Another broker reads the log.
                let mut groups = Groups::new(limits());
                self.log.iter().for_each(|record| groups.replay(record));
                groups.loaded(Monotonic(self.now));
                self.groups = groups;
                self.tally.moves += 1;
            }
            _ => {}
        }
    }

    fn step(&mut self) {
        self.now += STEP_MS;
        let records = self.groups.expire(&self.image, Monotonic(self.now));
        if !records.is_empty() {
            println!("{} C expires {records:?}", self.now);
        }
        self.replay(records);
        let (arrived, under_way) =
            std::mem::take(&mut self.asked).into_iter().partition(|asked| asked.arrives <= self.now);
        self.asked = under_way;
        for asked in arrived {
            self.answer(asked);
        }
        for process in 0..self.processes.len() {
            if self.processes[process].hangs_until <= self.now || self.is_calm {
                self.live(process);
            }
        }
        self.check();
    }

    fn replay(&mut self, records: Vec<GroupRecord>) {
        records.iter().for_each(|record| self.groups.replay(record));
        self.log.extend(records);
    }

    fn delay(&mut self) -> u64 {
        let is_slow = !self.is_calm && self.chance.u32(..10) == 0;
        self.chance.u64(if is_slow { 500..6_000 } else { 0..60 })
    }

    fn is_lost(&mut self) -> bool {
        let lost = !self.is_calm && self.chance.u32(..8) == 0;
        self.tally.lost += u64::from(lost);
        lost
    }

    fn answer(&mut self, asked: Asked) {
        let now = Monotonic(self.now);
        let command = GroupCommand::Heartbeat(asked.request.clone());
        let result = match self.groups.handle(&command, &self.image, now, Timestamp(0)) {
            Ok(decision) => {
                self.replay(decision.records);
                let GroupReply::Heartbeat(answer) = decision.reply else { panic!("a heartbeat is answered as one") };
                let places = |of: Vec<tidelog_protocol::messages::TopicPartitions>| {
                    of.into_iter().flat_map(|of| of.partitions.into_iter().map(move |at| (of.topic_id, at))).collect()
                };
                Ok(Answer {
                    member_epoch: answer.member_epoch,
                    interval_ms: answer.heartbeat_interval_ms.into(),
                    session_ms: answer.session_timeout_ms.into(),
                    assignment: answer.assignment.map(places),
                })
            }
            Err(refusal) => Err(match refusal.code {
                ErrorCode::UnknownMember => Failure::Unknown,
                ErrorCode::FencedMember => Failure::Fenced,
                code => panic!("seed {}: {code}: {}", self.seed, refusal.message),
            }),
        };
        println!(
            "{} C answers P{} #{} epoch {} owned {:?}: {result:?}",
            self.now,
            asked.process,
            asked.number,
            asked.request.member_epoch,
            asked
                .request
                .owned
                .as_ref()
                .map(|o| o.iter().flat_map(|o| o.partitions.iter().map(|p| p.0)).collect::<Vec<_>>())
        );
        if self.is_lost() {
            return;
        }
        let arrives = self.now + self.delay();
        let Asked { process, life, number, .. } = asked;
        self.answered.push(Answered { arrives, process, life, number, result });
    }

    fn live(&mut self, process: usize) {
        let now = self.now;
        let mut events = Vec::new();
        let mut arrived = Vec::new();
        let life = self.processes[process].lives;
        self.answered.retain(|answered| {
            let is_here = answered.process == process && answered.arrives <= now;
            if is_here && answered.life == life {
                arrived.push((answered.number, answered.result.clone()));
            }
            !is_here
        });
        let of = &mut self.processes[process];
        for (number, result) in arrived {
            let is_awaited = of.asking.is_some_and(|(awaited, _)| awaited == number);
            if is_awaited {
                of.asking = None;
            } else {
                self.tally.late_answers += 1;
            }
            match &result {
                Err(Failure::Fenced) => self.tally.fenced += 1,
                Err(Failure::Unknown) => self.tally.unknown += 1,
                _ => {}
            }
            events.push(match result {
                Ok(answer) => Event::Answered { number, answer },
                Err(failure) => Event::Failed { number, failure },
            });
        }
        if let Some((number, _)) = of.asking.take_if(|(_, until)| *until <= now) {
            let failure = Failure::Passing { suggested_ms: 0, jitter: self.chance.f64() };
            events.push(Event::Failed { number, failure });
        }
        let (gone, held) = std::mem::take(&mut of.letting_go).into_iter().partition(|(at, _)| *at <= now);
        of.letting_go = held;
        events.extend(Vec::into_iter(gone).map(|(_, places)| Event::LetGo(places)));
        events.push(Event::Tick);
        for event in events {
            let effects = self.processes[process].member.handle(event, Monotonic(now));
            for effect in effects {
                self.carry_out(process, effect);
            }
        }
    }

    fn carry_out(&mut self, process: usize, effect: Effect) {
        let now = self.now;
        println!("{now} P{process} {effect:?}");
        match effect {
            Effect::Send(beat) => self.send(process, &beat),
            Effect::TakeNewId => {
                let of = &mut self.processes[process];
                of.id = format!("{}+", of.id);
            }
            Effect::Take(places) => {
                for place in places {
                    let is_new = self.processes[process].works_on.insert(place);
                    assert!(is_new, "seed {}: it was given what it has", self.seed);
                }
            }
            Effect::LetGo(places) => {
                let is_slow = !self.is_calm && self.chance.u32(..6) == 0;
                let at = now + self.chance.u64(if is_slow { 1_000..9_000 } else { 0..300 });
                let of = &mut self.processes[process];
                for place in &places {
                    assert!(of.works_on.remove(place), "seed {}: it lets go of what it has not", self.seed);
                }
                of.letting_go.push((at, places));
                self.tally.handed_over += 1;
            }
            Effect::Lose(places) => {
                let of = &mut self.processes[process];
                for place in &places {
                    of.works_on.remove(place);
                }
                // What was being let go of is lost, too: nothing is to be said of it.
                of.letting_go.clear();
                assert!(of.works_on.is_empty(), "seed {}: it loses all or nothing", self.seed);
                self.tally.losses += 1;
            }
            Effect::Stop(error) => self.processes[process].stopped = Some(error),
        }
    }

    fn send(&mut self, process: usize, beat: &Beat) {
        let of = &mut self.processes[process];
        let patience = beat.patience.as_millis() as u64;
        of.asking = Some((beat.number, self.now + patience + patience / 2));
        let request = GroupHeartbeatRequest {
            group: "billing".into(),
            member_id: of.id.clone(),
            member_epoch: beat.epoch,
            instance_id: None,
            rack: None,
            client_name: None,
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            subscription: beat.whole.then(|| Subscription { topics: vec!["orders".into()], pattern: None }),
            assignor: None,
            owned: beat.owned.clone().map(by_topic),
            busy_ms: None,
        };
        let life = of.lives;
        // Never twice at once on one connection, but a lost connection may have carried one that is repeated on the next.
        for _ in 0..=u32::from(!self.is_calm && self.chance.u32(..20) == 0) {
            if !self.is_lost() {
                let arrives = self.now + self.delay();
                let (number, request) = (beat.number, request.clone());
                self.asked.push(Asked { arrives, process, life, number, request });
            }
        }
    }

    /// No two processes work on one partition, as far as each of them knows.
    fn check(&self) {
        let mut owners: BTreeMap<Place, &str> = BTreeMap::new();
        for process in &self.processes {
            // Past that it hands out nothing, whether its task has noticed or not.
            if self.now >= process.member.valid_until().0 {
                continue;
            }
            for place in &process.works_on {
                let other = owners.insert(*place, &process.id);
                assert!(
                    other.is_none(),
                    "seed {} at {}: {place:?} is worked on by {other:?} and {}",
                    self.seed,
                    self.now,
                    process.id
                );
            }
        }
    }
}

#[test]
fn no_two_members_work_on_one_partition_whatever_is_lost_late_or_ends() {
    let first = fastrand::u64(..);
    println!("seeds from {first}");
    let mut all = Tally::default();
    for seed in (0..200).map(|nth| first.wrapping_add(nth)) {
        let mut world = World::new(seed);
        world.run();
        let tally = &world.tally;
        for (sum, one) in [
            (&mut all.lost, tally.lost),
            (&mut all.moves, tally.moves),
            (&mut all.hangs, tally.hangs),
            (&mut all.crashes, tally.crashes),
            (&mut all.losses, tally.losses),
            (&mut all.fenced, tally.fenced),
            (&mut all.unknown, tally.unknown),
            (&mut all.handed_over, tally.handed_over),
            (&mut all.late_answers, tally.late_answers),
        ] {
            *sum += one;
        }
    }
    println!("{all:?}");
    let Tally { lost, moves, hangs, crashes, losses, fenced, unknown, handed_over, late_answers } = all;
    for happened in [lost, moves, hangs, crashes, losses, fenced, unknown, handed_over, late_answers] {
        assert!(happened > 0, "some trouble never came: {all:?}");
    }
}
