//! The whole world of transactional producers for the simulation: a coordinator whose log may lose its tail, partitions and groups, a network
//! that loses, doubles and delays, and producers of which some are zombies. Knows nothing of which faults a run has; the seed decides.

pub mod coordinator;
pub mod oracle;
pub mod place;
pub mod producer;

use coordinator::Coordinator;
use oracle::Oracle;
use place::{Batch, Name, Place, Rule, Taken};
use producer::{Producer, Sent};
use tidelog_coordination::Command;
use tidelog_coordination::transactions::records::{RecordedProducer, TransactionKey, TransactionValue};
use tidelog_coordination::transactions::{
    FateVerdict, Inquiry, TransactionCommand, TransactionFlaw, TransactionFlaws, TransactionRecord, TransactionReply,
    marker_of,
};
use tidelog_protocol::codec::Entropy;
use tidelog_protocol::messages::{
    AbortTransactionRequest, AddToTransactionRequest, ProducerIdentity, TopicPartitions, TransactionFate,
    TransactionMarkers, TransactionState,
};
use tidelog_protocol::{ErrorCode, PartitionId, ProducerEpoch, ProducerId, Timestamp};

use crate::cluster::Cluster;
use crate::seeds::tally;

/// A transaction: each has an epoch of its own.
pub type TransactionId = (ProducerId, ProducerEpoch);

const IDS: [&str; 3] = ["payments", "shipping", "billing"];
const STEPS: u32 = 150;
const TICK_MS: u64 = 50;
/// Longer than anything is on its way, and than every timeout.
const CALM_MS: u64 = 45_000;
/// Twice that is less than a coordinator remembers an id that does nothing.
const SOON_MS: u64 = 8_000;

pub fn identity(wire: &ProducerIdentity) -> TransactionId {
    (wire.producer_id, wire.epoch)
}

pub fn add_request(id: &str, by: TransactionId, place: &Name) -> AddToTransactionRequest {
    let (mut partitions, mut groups) = (Vec::new(), Vec::new());
    match place {
        Name::Partition((topic_id, partition)) => {
            partitions.push(TopicPartitions { topic_id: *topic_id, partitions: vec![*partition] });
        }
        Name::Group(group) => groups.push(group.clone()),
    }
    AddToTransactionRequest {
        transactional_id: id.into(),
        identity: Place::wire_identity(by),
        partitions,
        groups,
        only_asks: false,
    }
}

/// What the coordinator says.
#[derive(Clone, Debug)]
pub enum Answer {
    Reply(TransactionReply),
    Refused(ErrorCode),
}

/// Who asks the coordinator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asker {
    Producer(usize),
    Place(usize),
    Nobody,
}

/// What is on its way.
#[derive(Clone)]
enum Content {
    Command(Asker, u64, TransactionCommand),
    Answer(Asker, u64, Answer),
    Batch(usize, usize, Batch),
    BatchAnswer(usize, usize, Batch, Result<(), ErrorCode>),
    Markers(usize, &'static str, TransactionMarkers),
    /// A place asks what became of what is open there.
    Inquiry(usize, TransactionId),
    Fate(usize, TransactionId, TransactionFate),
}

struct Parcel {
    arrives: u64,
    is_late: bool,
    content: Content,
}

tally! {
    commits aborts fenced fenced_on_places concurrent aborted_first commits_too_late forgotten lost doubled late moves tails_lost compacted
    stalls stalls_past_timeout successors operator_aborts topics_deleted leaders_moved ended_by_markers markers_again answers_overtaken
    epochs_used_up markers_lost markers_restored given_up
}

/// What everyone is part of.
pub struct Scene {
    pub now: u64,
    pub chance: Entropy,
    pub oracle: Oracle,
    pub tally: Tally,
    pub numbers: u64,
    pub places: Vec<Place>,
    /// No trouble any more.
    pub is_calm: bool,
}

impl Scene {
    /// Those that are not deleted.
    pub fn places_there(&self) -> Vec<usize> {
        (0..self.places.len()).filter(|at| !self.places[*at].is_deleted).collect()
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.chance.below(chances) == 0
    }
}

pub struct World {
    pub seed: u64,
    pub scene: Scene,
    cluster: Cluster,
    coordinator: Coordinator,
    producers: Vec<Producer>,
    parcels: Vec<Parcel>,
    /// What leaves once so much of the coordinator's log is stored.
    waiting: Vec<(usize, Content)>,
    rule: Rule,
}

impl World {
    pub fn new(seed: u64, flaws: TransactionFlaws) -> Self {
        let unbumped = flaws.has(TransactionFlaw::MarkersUnbumped);
        let rule = if unbumped { Rule::EarlierAndItsOwn } else { Rule::Earlier };
        let scene = Scene {
            now: 1_000,
            chance: Entropy::new(seed),
            oracle: Oracle::default(),
            tally: Tally::default(),
            numbers: 0,
            places: Vec::new(),
            is_calm: false,
        };
        let mut world = Self {
            seed,
            scene,
            cluster: Cluster::of(3),
            coordinator: Coordinator::new(flaws),
            producers: Vec::new(),
            parcels: Vec::new(),
            waiting: Vec::new(),
            rule,
        };
        world.create_topic("orders", 2);
        world.create_topic("gone", 1);
        world.scene.places.push(Place::new(Name::Group("readers".into()), world.rule));
        if world.scene.one_in(2) {
            world.use_up_epochs(IDS[0]);
        }
        for id in IDS {
            world.start_producer(id);
        }
        world
    }

    /// A whole life: trouble, then calm, then somebody new.
    pub fn run(&mut self) {
        for _ in 0..STEPS {
            self.trouble();
            let ms = 20 + self.scene.chance.below(400);
            self.pass(ms);
        }
        self.scene.is_calm = true;
        self.producers.iter_mut().for_each(Producer::stop);
        self.pass(SOON_MS);
        // Nobody writes any more, so only asking brings back what is lost now, and the coordinator has not forgotten yet.
        self.lose_last_markers();
        self.pass(SOON_MS);
        self.scene.oracle.check_restored(&self.scene.places);
        self.pass(CALM_MS);
        self.scene.oracle.check_quiet(&self.scene.places, &self.coordinator);
        // EventuallyAvailable.
        for id in IDS {
            self.start_producer(id);
        }
        // Each try that meets markers under way costs a patience of some seconds, and one end in four is an abort.
        self.pass(60_000);
        for producer in &self.producers[self.producers.len() - IDS.len()..] {
            assert!(producer.commits > 0, "seed {}: EventuallyAvailable: {}", self.seed, producer.id);
        }
        self.producers.iter_mut().for_each(Producer::stop);
        self.pass(CALM_MS);
        self.scene.oracle.check_quiet(&self.scene.places, &self.coordinator);
    }

    fn create_topic(&mut self, name: &str, partitions: u32) {
        self.cluster.create(name, |topic| topic.partitions = partitions).expect("a topic");
        let topic_id = self.cluster.controller.image().topic_named(name).expect("it was made").id;
        for partition in 0..partitions {
            self.scene.places.push(Place::new(Name::Partition((topic_id, PartitionId(partition))), self.rule));
        }
    }

    /// A producer that wrote nearly as many transactions as there are epochs.
    fn use_up_epochs(&mut self, id: &str) {
        let value = TransactionValue {
            producer: RecordedProducer { producer_id: ProducerId(7), epoch: ProducerEpoch(i16::MAX - 4) },
            previous: None,
            timeout_ms: 3_000,
            state: TransactionState::Empty,
            began_at: None,
            changed_at: Timestamp(1_700_000_000_000),
            partitions: Vec::new(),
            groups: Vec::new(),
            ended: None,
        };
        let record = TransactionRecord { key: TransactionKey { transactional_id: id.into() }, value: Some(value) };
        self.coordinator.write(vec![record], &mut self.scene.oracle);
        self.coordinator.store(&mut self.scene.oracle);
    }

    fn start_producer(&mut self, id: &'static str) {
        self.scene.numbers += 1;
        let timeout_ms = [1_000, 3_000, 6_000][self.scene.chance.below(3) as usize];
        self.producers.push(Producer::new(id, self.scene.numbers, timeout_ms));
    }

    fn any_running(&mut self) -> Option<usize> {
        let running: Vec<usize> = (0..self.producers.len()).filter(|at| self.producers[*at].is_running()).collect();
        (!running.is_empty()).then(|| running[self.scene.chance.below(running.len() as u64) as usize])
    }

    fn trouble(&mut self) {
        let id = IDS[self.scene.chance.below(IDS.len() as u64) as usize];
        match self.scene.chance.below(40) {
            0..=2 => {
                if let Some(at) = self.any_running() {
                    let ms = self.scene.chance.below(12_000);
                    self.scene.tally.stalls += 1;
                    self.scene.tally.stalls_past_timeout += u64::from(ms > 6_000);
                    self.producers[at].stalled_until = self.scene.now + ms;
                }
            }
            3 => {
                if let Some(at) = self.any_running() {
                    self.producers[at].stop();
                }
            }
            4 => {
                self.scene.tally.successors += 1;
                self.start_producer(id);
            }
            5..=8 => self.move_coordinator(),
            9 => {
                self.scene.tally.operator_aborts += 1;
                let request = AbortTransactionRequest { transactional_id: id.into() };
                self.send(Content::Command(Asker::Nobody, 0, TransactionCommand::Abort(request)));
            }
            10 => self.replace_topic(),
            11 => {
                // Another leads the place: what it was asked for is forgotten, what stands in its log is not.
                let at = self.scene.chance.below(self.scene.places.len() as u64) as usize;
                self.scene.tally.leaders_moved += 1;
                self.scene.places[at].waiting.clear();
            }
            12 | 13 => {
                let at = self.scene.chance.below(self.scene.places.len() as u64) as usize;
                self.lose_marker(at);
            }
            _ => {}
        }
        for id in IDS {
            if !self.producers.iter().any(|producer| producer.id == id && producer.is_running()) {
                self.start_producer(id);
            }
        }
    }

    /// Damage, or an unclean election.
    fn lose_marker(&mut self, at: usize) {
        if self.rule == Rule::Earlier {
            self.scene.tally.markers_lost += u64::from(self.scene.places[at].lose_marker());
        }
    }

    fn lose_last_markers(&mut self) {
        for at in self.scene.places_there() {
            self.lose_marker(at);
        }
    }

    fn replace_topic(&mut self) {
        let topic_id = self.cluster.controller.image().topic_named("gone").expect("it is there").id;
        self.cluster.ask(&Command::DeleteTopic { name: "gone".into() }).expect("it goes");
        self.scene.tally.topics_deleted += 1;
        for place in &mut self.scene.places {
            place.is_deleted |= matches!(place.name, Name::Partition((of, _)) if of == topic_id);
        }
        self.create_topic("gone", 1);
    }

    fn move_coordinator(&mut self) {
        let Scene { chance, oracle, tally, now, .. } = &mut self.scene;
        self.coordinator.away_until = *now + chance.below(1_500);
        let (lost, compacted) = self.coordinator.move_elsewhere(chance, *now, oracle);
        // What waited to leave never does.
        self.waiting.clear();
        tally.moves += 1;
        tally.tails_lost += u64::from(lost);
        tally.compacted += u64::from(compacted);
    }

    fn pass(&mut self, ms: u64) {
        let until = self.scene.now + ms;
        while self.scene.now < until {
            self.scene.now += TICK_MS;
            self.tick();
            self.scene.oracle.check_known(&self.scene.places, &self.coordinator, self.scene.now);
        }
    }

    fn tick(&mut self) {
        for at in 0..self.producers.len() {
            for sent in self.producers[at].tick(&mut self.scene) {
                self.send(match sent {
                    Sent::Command(number, command) => Content::Command(Asker::Producer(at), number, command),
                    Sent::Batch(place, batch) => Content::Batch(place, at, batch),
                });
            }
        }
        if self.scene.now >= self.coordinator.away_until {
            self.coordinator.expire(self.cluster.controller.image(), self.scene.now, &mut self.scene.oracle);
            if self.scene.one_in(4) {
                self.write_markers();
            }
        }
        self.ask_about_open();
        if self.scene.chance.below(3) > 0 {
            self.coordinator.store(&mut self.scene.oracle);
        }
        let stored = self.coordinator.stored();
        let free: Vec<_> = self.waiting.extract_if(.., |(needs, _)| *needs <= stored).collect();
        free.into_iter().for_each(|(_, content)| self.send(content));
        let due: Vec<Parcel> = self.parcels.extract_if(.., |parcel| parcel.arrives <= self.scene.now).collect();
        for parcel in due {
            self.scene.tally.late += u64::from(parcel.is_late);
            self.deliver(parcel.content);
        }
    }

    /// Now and then a place asks about what is open there, however long it has been.
    fn ask_about_open(&mut self) {
        if self.rule != Rule::Earlier {
            return;
        }
        for at in self.scene.places_there() {
            if self.scene.is_calm || self.scene.one_in(20) {
                for (by, _) in self.scene.places[at].open() {
                    self.send(Content::Inquiry(at, by));
                }
            }
        }
    }

    /// A place hears what became of something that is, or was, open there.
    fn hear_fate(&mut self, at: usize, by: TransactionId, fate: TransactionFate) {
        let mut inquiry = Inquiry::new(1);
        inquiry.hear(&[PartitionId(0)], fate);
        let FateVerdict::Ends { commit } = inquiry.verdict() else { return };
        let place = &mut self.scene.places[at];
        if place.is_deleted {
            return;
        }
        let marked = marker_of(&Place::wire_identity(by));
        let marker = TransactionMarkers {
            identity: marked,
            commit,
            partitions: Vec::new(),
            groups: Vec::new(),
            own_epoch: false,
        };
        let Some(ended) = place.mark(&marker) else { return };
        self.scene.tally.markers_restored += 1;
        match fate {
            TransactionFate::Committed | TransactionFate::Aborted => {
                self.scene.oracle.is_ended(ended, identity(&marker.identity), commit, self.rule);
            }
            TransactionFate::Superseded | TransactionFate::Unknown | TransactionFate::Ongoing => {
                self.scene.tally.given_up += 1;
                place.given_up.insert(ended);
            }
        }
    }

    /// They leave once it is stored that they are due.
    fn write_markers(&mut self) {
        for pending in self.coordinator.pending_markers() {
            let id = IDS.into_iter().find(|id| *id == pending.transactional_id).expect("it is one of them");
            let markers = pending.markers;
            for at in self.scene.places_there() {
                let place = &self.scene.places[at].name;
                let is_for_it = match place {
                    Name::Group(group) => markers.groups.contains(group),
                    Name::Partition((topic_id, partition)) => {
                        let holds = |topic: &TopicPartitions| {
                            topic.topic_id == *topic_id && topic.partitions.contains(partition)
                        };
                        markers.partitions.iter().any(holds)
                    }
                };
                if is_for_it {
                    let AddToTransactionRequest { partitions, groups, .. } =
                        add_request(id, identity(&markers.identity), place);
                    let markers = TransactionMarkers { partitions, groups, ..markers.clone() };
                    self.waiting.push((self.coordinator.written(), Content::Markers(at, id, markers)));
                }
            }
        }
    }

    fn send(&mut self, content: Content) {
        if self.scene.is_calm {
            return self.put(content);
        }
        match self.scene.chance.below(10) {
            0 => self.scene.tally.lost += 1,
            1 => {
                self.scene.tally.doubled += 1;
                self.put(content.clone());
                self.put(content);
            }
            _ => self.put(content),
        }
    }

    fn put(&mut self, content: Content) {
        let is_late = !self.scene.is_calm && self.scene.one_in(12);
        let ms = if is_late { self.scene.chance.below(20_000) } else { self.scene.chance.below(150) };
        self.parcels.push(Parcel { arrives: self.scene.now + ms, is_late, content });
    }

    fn deliver(&mut self, content: Content) {
        match content {
            Content::Command(asker, number, command) => self.command(asker, number, &command),
            Content::Answer(Asker::Producer(at), number, answer) => {
                self.producers[at].hear(number, answer, &mut self.scene);
            }
            Content::Answer(Asker::Place(at), number, answer) => self.answer_place(at, number, &answer),
            Content::Answer(Asker::Nobody, ..) => {}
            Content::Batch(at, producer, batch) => self.batch(at, producer, batch),
            Content::BatchAnswer(at, producer, batch, answer) => {
                self.producers[producer].hear_of_batch(&batch, at, answer, &mut self.scene);
            }
            Content::Markers(at, id, markers) => self.mark(at, id, markers),
            Content::Inquiry(at, by) => {
                if self.scene.now >= self.coordinator.away_until {
                    let fate = self.coordinator.fate(&Place::wire_identity(by));
                    self.waiting.push((self.coordinator.written(), Content::Fate(at, by, fate)));
                }
            }
            Content::Fate(at, by, fate) => self.hear_fate(at, by, fate),
        }
    }

    fn command(&mut self, asker: Asker, number: u64, command: &TransactionCommand) {
        if self.scene.now < self.coordinator.away_until {
            return;
        }
        let image = self.cluster.controller.image();
        let answer = match self.coordinator.handle(command, image, self.scene.now, &mut self.scene.oracle) {
            Ok(reply) => {
                if let (TransactionReply::Identity(told), TransactionCommand::End { request, .. }) = (&reply, command) {
                    let is_new = told.producer_id != request.identity.producer_id;
                    self.scene.tally.epochs_used_up += u64::from(is_new);
                }
                Answer::Reply(reply)
            }
            Err(refusal) => Answer::Refused(refusal.code),
        };
        self.waiting.push((self.coordinator.written(), Content::Answer(asker, number, answer)));
    }

    fn batch(&mut self, at: usize, producer: usize, batch: Batch) {
        let place = &mut self.scene.places[at];
        if place.is_deleted {
            return self.send(Content::BatchAnswer(at, producer, batch, Err(ErrorCode::UnknownTopic)));
        }
        match place.take(&batch) {
            Taken::Stands => self.send(Content::BatchAnswer(at, producer, batch, Ok(()))),
            Taken::Fenced => self.send(Content::BatchAnswer(at, producer, batch, Err(ErrorCode::ProducerFenced))),
            Taken::Asks => {
                self.scene.numbers += 1;
                let request = add_request(batch.id, batch.by, &place.name);
                place.waiting.insert(self.scene.numbers, (producer, batch));
                let number = self.scene.numbers;
                self.send(Content::Command(Asker::Place(at), number, TransactionCommand::Add(request)));
            }
        }
    }

    fn answer_place(&mut self, at: usize, number: u64, answer: &Answer) {
        let place = &mut self.scene.places[at];
        let Some((producer, batch)) = place.waiting.remove(&number).filter(|_| !place.is_deleted) else { return };
        let answer = match answer {
            Answer::Refused(code) => Err(*code),
            Answer::Reply(TransactionReply::Added) => match place.take_answered(&batch) {
                Taken::Fenced => {
                    self.scene.tally.answers_overtaken += 1;
                    Err(ErrorCode::ProducerFenced)
                }
                _ => Ok(()),
            },
            Answer::Reply(other) => panic!("{other:?} to a question of a place"),
        };
        self.send(Content::BatchAnswer(at, producer, batch, answer));
    }

    fn mark(&mut self, at: usize, id: &'static str, written: TransactionMarkers) {
        let place = &mut self.scene.places[at];
        if place.is_deleted {
            return;
        }
        match place.mark(&written) {
            Some(ended) => {
                self.scene.tally.ended_by_markers += 1;
                self.scene.oracle.is_ended(ended, identity(&written.identity), written.commit, self.rule);
            }
            None => self.scene.tally.markers_again += 1,
        }
        let command = TransactionCommand::MarkersWritten { transactional_id: id.into(), written };
        self.send(Content::Command(Asker::Nobody, 0, command));
    }
}
