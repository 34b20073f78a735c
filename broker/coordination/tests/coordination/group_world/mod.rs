//! A group's whole world for the simulation: a coordinator whose log may lose its tail, a network that loses, doubles and delays, and
//! members that keep to the contract. Knows nothing of which faults a run has; the seed decides.
#![allow(dead_code, reason = "each test program uses a part")]

pub mod client;
pub mod compaction;
pub mod coordinator;
pub mod oracle;
pub mod producers;
mod transactions;

use std::collections::BTreeMap;

use client::{Client, Identity, Sent};
use coordinator::Coordinator;
use oracle::Oracle;
use producers::Producers;
use tidelog_coordination::Command;
use tidelog_coordination::groups::{GroupCommand, GroupFlaws, GroupReply};
use tidelog_protocol::codec::Entropy;
use tidelog_protocol::messages::{GroupState, OffsetCommitRequest, ProducerIdentity, Subscription};
use tidelog_protocol::{ErrorCode, Monotonic};

use crate::cluster::Cluster;
use crate::seeds::tally;
use transactions::Question;

pub const GROUP: &str = "payments";
pub const TOPICS: [&str; 4] = ["orders", "orders-eu", "logs", "clicks"];
const STEPS: u32 = 200;
const TICK_MS: u64 = 50;
const CLIENTS_MAX: usize = 6;

/// What comes back to a client.
pub enum Answer {
    Reply(GroupReply),
    Refused(ErrorCode),
}

/// Who waits until something is stored.
enum Waiting {
    /// A client, for an answer.
    Client(Answer, Option<OffsetCommitRequest>),
    /// The coordinator of transactions: the group knows of an end.
    End(ProducerIdentity),
}

/// Something on its way.
struct Parcel<T> {
    arrives: u64,
    client: usize,
    number: u64,
    content: T,
}

tally! {
    joins requests_lost requests_doubled answers_lost moves tails_lost compacted crashes leaves pauses fenced instance_taken
    commits commits_stale commits_of_no_member handed_over topics_changed
    transactions_committed transactions_undone offsets_noted overtaken ends_again refused_meanwhile
}

pub struct World {
    pub seed: u64,
    pub chance: Entropy,
    pub now: u64,
    pub cluster: Cluster,
    pub coordinator: Coordinator,
    pub clients: Vec<Client>,
    pub tally: Tally,
    oracle: Oracle,
    requests: Vec<Parcel<GroupCommand>>,
    answers: Vec<Parcel<Answer>>,
    waiting: Vec<(usize, Parcel<Waiting>)>,
    producers: Producers,
    /// With the life of the coordinator that asked.
    questions: Vec<Parcel<(u64, Question)>>,
    ends: Vec<Parcel<GroupCommand>>,
    calm: bool,
    checked: (usize, usize, u64),
    numbers: u64,
    names: u64,
    partitions: BTreeMap<&'static str, u32>,
}

impl World {
    pub fn new(seed: u64, flaws: GroupFlaws) -> Self {
        let mut chance = Entropy::new(seed);
        let racks = chance.below(2) == 0;
        let cluster = Cluster::with_racks(3, |broker| racks.then(|| format!("rack-{broker}")));
        let mut world = Self {
            seed,
            coordinator: Coordinator::new(flaws),
            chance,
            now: 1_000,
            cluster,
            clients: Vec::new(),
            tally: Tally::default(),
            oracle: Oracle::default(),
            requests: Vec::new(),
            answers: Vec::new(),
            waiting: Vec::new(),
            producers: Producers::default(),
            questions: Vec::new(),
            ends: Vec::new(),
            calm: false,
            checked: (0, 0, 0),
            numbers: 0,
            names: 0,
            partitions: BTreeMap::new(),
        };
        world.change_topics();
        world.change_topics();
        world
    }

    /// A whole life: trouble, then calm.
    pub fn run(&mut self) {
        for _ in 0..STEPS {
            self.trouble();
            let ms = 20 + self.chance.below(400);
            self.pass(ms);
        }
        self.calm = true;
        for round in 0..500 {
            self.pass(100);
            if round < 100 {
                // Whatever its members left open is over after its timeout.
                for client in 0..self.clients.len() {
                    self.producers.end(client, false);
                }
            }
        }
        self.assert_settled();
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.chance.below(chances) == 0
    }

    fn any_client(&mut self, pick: impl Fn(&Client) -> bool) -> Option<usize> {
        let all: Vec<usize> = (0..self.clients.len()).filter(|index| pick(&self.clients[*index])).collect();
        (!all.is_empty()).then(|| all[self.chance.below(all.len() as u64) as usize])
    }

    fn trouble(&mut self) {
        match self.chance.below(24) {
            0..=2 => self.start_client(),
            3 => {
                if let Some(client) = self.any_client(Client::is_running) {
                    self.tally.crashes += 1;
                    self.clients[client].crash();
                }
            }
            4 => {
                if let Some(client) = self.any_client(Client::is_running) {
                    self.tally.leaves += 1;
                    let sent = self.clients[client].leave(self.now);
                    self.send(client, sent);
                }
            }
            5 => {
                if let Some(client) = self.any_client(|client| client.is_running() && client.instance.is_some()) {
                    self.tally.pauses += 1;
                    let sent = self.clients[client].pause(self.now);
                    self.send(client, sent);
                }
            }
            6 => {
                if let Some(client) = self.any_client(Client::is_running) {
                    let until = self.now + self.chance.below(8_000);
                    self.clients[client].cut_off_until = until;
                }
            }
            7 => {
                if let Some(client) = self.any_client(Client::is_running) {
                    let until = self.now + self.chance.below(12_000);
                    self.clients[client].stalled_until = until;
                }
            }
            8 => {
                if let Some(client) = self.any_client(Client::is_running) {
                    let subscription = self.draw_subscription();
                    self.clients[client].subscribe(subscription, self.now);
                }
            }
            9..=10 => self.change_topics(),
            11..=12 => self.move_coordinator(),
            14..=16 => self.end_transaction(),
            13 => {
                if let Some(client) = self.any_client(Client::is_running) {
                    self.clients[client].is_slow = !self.clients[client].is_slow;
                }
            }
            _ => {}
        }
    }

    fn start_client(&mut self) {
        if self.clients.iter().filter(|client| client.is_running()).count() >= CLIENTS_MAX {
            return;
        }
        self.names += 1;
        // The higher number sorts anywhere, so that newcomers are not always last.
        let id = format!("m{:02}-{}", self.chance.below(100), self.names);
        let instance = self.one_in(2).then(|| format!("i{}", self.chance.below(3)));
        let rack = self.one_in(2).then(|| format!("rack-{}", 1 + self.chance.below(3)));
        let assignor = match self.chance.below(4) {
            0 => Some("range".to_owned()),
            1 => Some("uniform".to_owned()),
            _ => None,
        };
        let subscription = self.draw_subscription();
        let seed = self.chance.next();
        let identity = Identity { id, instance, rack, assignor };
        self.clients.push(Client::new(identity, subscription, self.now, seed));
        self.producers.start();
        if self.one_in(2) {
            self.learn_producer(self.clients.len() - 1);
        }
    }

    fn draw_subscription(&mut self) -> Subscription {
        let mut topics: Vec<String> = TOPICS.iter().map(|name| (*name).to_owned()).collect();
        topics.retain(|_| self.one_in(2));
        let pattern = self.one_in(3).then(|| "orders.*".to_owned());
        if self.one_in(2) {
            Subscription { topics: vec!["orders".into(), "logs".into()], pattern }
        } else {
            Subscription { topics, pattern }
        }
    }

    fn change_topics(&mut self) {
        self.tally.topics_changed += 1;
        let name = TOPICS[self.chance.below(TOPICS.len() as u64) as usize];
        match self.partitions.get(name).copied() {
            None => {
                let count = 1 + self.chance.below(6) as u32;
                self.cluster.create(name, |topic| topic.partitions = count).expect("a topic");
                self.partitions.insert(name, count);
            }
            Some(_) if self.one_in(4) => {
                self.cluster.ask(&Command::DeleteTopic { name: name.into() }).expect("it goes");
                self.partitions.remove(name);
            }
            Some(count) => {
                let total = count + 1 + self.chance.below(3) as u32;
                self.cluster.ask(&Command::CreatePartitions { name: name.into(), total }).expect("it grows");
                self.partitions.insert(name, total);
            }
        }
    }

    fn move_coordinator(&mut self) {
        self.tally.moves += 1;
        self.waiting.clear();
        let (lost, compacted) = self.coordinator.move_elsewhere(&mut self.chance, Monotonic(self.now));
        self.tally.tails_lost += u64::from(lost);
        self.tally.compacted += u64::from(compacted);
        self.oracle.forget(&self.coordinator);
        if self.one_in(3) {
            self.coordinator.away_until = self.now + self.chance.below(4_000);
        }
    }

    fn send(&mut self, client: usize, sent: Sent) {
        self.numbers += 1;
        let number = self.numbers;
        self.clients[client].has_sent(number, &sent);
        let lost = self.clients[client].cut_off_until > self.now || (!self.calm && self.one_in(12));
        if lost {
            self.tally.requests_lost += 1;
            return;
        }
        let doubled = !self.calm && self.one_in(12);
        self.tally.requests_doubled += u64::from(doubled);
        for _ in 0..=u32::from(doubled) {
            let arrives = self.now + self.delay();
            self.requests.push(Parcel { arrives, client, number, content: sent.command.clone() });
        }
    }

    fn delay(&mut self) -> u64 {
        match self.chance.below(10) {
            0 if !self.calm => self.chance.below(15_000),
            1..=3 => self.chance.below(300),
            _ => 1,
        }
    }

    /// Time passes.
    fn pass(&mut self, ms: u64) {
        let until = self.now + ms;
        while self.now < until {
            self.now += TICK_MS;
            self.tick();
        }
    }

    fn tick(&mut self) {
        let now = self.now;
        if now >= self.coordinator.away_until {
            for parcel in due(&mut self.requests, now) {
                self.arrive(parcel);
            }
            for parcel in due(&mut self.ends, now) {
                self.hear_end(parcel);
            }
            if now.is_multiple_of(100) {
                self.coordinator.expire(self.cluster.controller.image(), Monotonic(now), &mut self.oracle);
                // Nothing written and no topic changed: nothing to look at that was not looked at before.
                let seen = (self.coordinator.written(), self.cluster.log.len(), self.tally.moves);
                if self.checked != seen {
                    self.checked = seen;
                    self.oracle.check_targets(&mut self.coordinator, self.cluster.controller.image(), now);
                }
            }
        } else {
            drop(due(&mut self.requests, now));
            drop(due(&mut self.ends, now));
        }
        if self.calm || self.one_in(3) {
            self.coordinator.store();
        }
        let stored = self.coordinator.stored();
        for parcel in due(&mut self.questions, now) {
            self.take_in(parcel);
        }
        self.send_ends();
        for (_, parcel) in self.waiting.extract_if(.., |(needs, _)| *needs <= stored).collect::<Vec<_>>() {
            let Parcel { client, number, content, .. } = parcel;
            let content = match content {
                Waiting::Client(answer, noted) => {
                    self.acknowledge(noted);
                    answer
                }
                Waiting::End(identity) => {
                    self.confirm(&identity);
                    continue;
                }
            };
            let parcel = Parcel { arrives: now, client, number, content };
            if self.clients[parcel.client].cut_off_until > now || (!self.calm && self.one_in(12)) {
                self.tally.answers_lost += 1;
                continue;
            }
            let arrives = now + self.delay();
            self.answers.push(Parcel { arrives, ..parcel });
        }
        for Parcel { client, number, content, .. } in due(&mut self.answers, now) {
            self.clients[client].hear(number, content, now, &mut self.tally);
        }
        for client in 0..self.clients.len() {
            for sent in self.clients[client].tick(now) {
                self.send(client, sent);
            }
        }
        self.oracle.check_nobody_shares(&self.clients, now);
    }

    fn arrive(&mut self, Parcel { client, number, content, .. }: Parcel<GroupCommand>) {
        let image = self.cluster.controller.image();
        let is_commit = matches!(content, GroupCommand::Commit(_) | GroupCommand::CommitTakenIn(_));
        let before = if is_commit { self.oracle.tenures() } else { BTreeMap::new() };
        let result = self.coordinator.handle(&content, image, Monotonic(self.now), &mut self.oracle);
        let mut noted = None;
        if let GroupCommand::Commit(commit) | GroupCommand::CommitTakenIn(commit) = &content {
            match &result {
                Ok(GroupReply::TakeInFirst) => {
                    let question = (self.tally.moves, Question::Asked(commit.clone()));
                    let arrives = self.now + self.delay();
                    self.questions.push(Parcel { arrives, client, number, content: question });
                    return;
                }
                Ok(_) => {
                    self.tally.offsets_noted += u64::from(commit.transaction.is_some());
                    noted = commit.transaction.is_some().then(|| commit.clone());
                    self.tally.commits += 1;
                    self.oracle.check_commit(commit, &before, &self.clients, self.now);
                }
                Err(refusal) if refusal.code == ErrorCode::UnknownMember => self.tally.commits_of_no_member += 1,
                Err(refusal) if refusal.code == ErrorCode::StaleMember => self.tally.commits_stale += 1,
                Err(refusal) if refusal.code == ErrorCode::UnstableOffset => self.tally.refused_meanwhile += 1,
                Err(refusal) if refusal.code == ErrorCode::InvalidTransactionState => self.tally.overtaken += 1,
                Err(_) => {}
            }
        }
        if let (GroupCommand::Heartbeat(beat), Ok(_)) = (&content, &result) {
            self.tally.joins += u64::from(beat.member_epoch == 0);
        }
        let content = match result {
            Ok(reply) => Answer::Reply(reply),
            Err(refusal) => Answer::Refused(refusal.code),
        };
        let needs = self.coordinator.written();
        self.waiting.push((needs, Parcel { arrives: 0, client, number, content: Waiting::Client(content, noted) }));
    }

    /// Everyone owns what it should, and all there is to read is read.
    fn assert_settled(&mut self) {
        self.assert_nothing_open();
        let running: Vec<&Client> = self.clients.iter().filter(|client| client.is_running()).collect();
        let described = self.coordinator.describe(Monotonic(self.now));
        let Some(group) = described else {
            assert!(running.is_empty(), "seed {}: the group is gone and has members", self.seed);
            return;
        };
        let expected = if running.is_empty() { GroupState::Empty } else { GroupState::Stable };
        assert_eq!(group.state, expected, "seed {}: {group:#?}", self.seed);
        assert_eq!(group.members.len(), running.len(), "seed {}: {group:#?}", self.seed);
        for client in running {
            let member = group.members.iter().find(|member| member.member_id == client.id).expect("it is a member");
            assert_eq!(client.owned.to_wire(), member.target, "seed {}: {}", self.seed, client.id);
            assert_eq!(client.epoch, member.member_epoch, "seed {}: {}", self.seed, client.id);
        }
        self.oracle.check_targets(&mut self.coordinator, self.cluster.controller.image(), self.now);
        self.oracle.check_balance(&group, self.cluster.controller.image());
    }
}

fn due<T>(parcels: &mut Vec<Parcel<T>>, now: u64) -> Vec<Parcel<T>> {
    parcels.extract_if(.., |parcel| parcel.arrives <= now).collect()
}
