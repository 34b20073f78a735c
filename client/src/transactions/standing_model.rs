//! Producers against the coordinator's own machine, in a world where requests and answers are lost, late or doubled, where transactions time
//! out and successors take over: what a commit is said to be it is, for ever, and when the trouble is over a producer that is not fenced goes on.

use std::collections::BTreeMap;

use tidelog_coordination::ClusterImage;
use tidelog_coordination::transactions::{Init, TransactionCommand, TransactionLimits, TransactionReply, Transactions};
use tidelog_protocol::messages::{
    AddToTransactionRequest, DescribeTransactionRequest, EndTransactionRequest, EndTransactionResponse,
    InitProducerIdResponse, ProducerIdentity,
};
use tidelog_protocol::{ErrorCode, Monotonic, ProducerEpoch, ProducerId, Timestamp, WireError};

use super::standing::{Conclusion, Ended, Fenced, Initiated, Standing};
use crate::ClientError;

const ID: &str = "billing-1";
const SEEDS: u64 = 400;

/// The coordinator, whose records are stored at once.
struct Coordinator {
    machine: Transactions,
    image: ClusterImage,
    now: u64,
    ids: i64,
    /// How each transaction ended.
    ends: BTreeMap<(ProducerId, ProducerEpoch), bool>,
}

impl Coordinator {
    fn handle(&mut self, mut command: TransactionCommand) -> Result<TransactionReply, ClientError> {
        for _ in 0..2 {
            let (now, wall) = (Monotonic(self.now), Timestamp(self.now as i64));
            let refused = |refusal: tidelog_coordination::Refusal| WireError::new(refusal.code, refusal.message);
            let decision = self.machine.handle(&command, &self.image, now, wall).map_err(refused)?;
            if decision.reply != TransactionReply::FreshIdNeeded {
                decision.records.iter().for_each(|record| self.machine.replay(record));
                self.note();
                return Ok(decision.reply);
            }
            self.ids += 1;
            match &mut command {
                TransactionCommand::Init(init) => init.fresh_id = Some(ProducerId(self.ids)),
                TransactionCommand::End { fresh_id, .. } => *fresh_id = Some(ProducerId(self.ids)),
                other => panic!("{other:?} needs no id"),
            }
        }
        panic!("a fresh id did not help");
    }

    /// Time passes; markers are written, or not yet.
    fn pass(&mut self, ms: u64, markers: bool) {
        self.now += ms;
        let records = self.machine.expire(&self.image, Monotonic(self.now), Timestamp(self.now as i64));
        records.iter().for_each(|record| self.machine.replay(record));
        self.note();
        for pending in self.machine.pending_markers() {
            if markers {
                let (transactional_id, written) = (pending.transactional_id, pending.markers);
                self.handle(TransactionCommand::MarkersWritten { transactional_id, written }).unwrap();
            }
        }
    }

    /// A decision is for ever.
    fn note(&mut self) {
        let request = DescribeTransactionRequest { transactional_id: ID.into() };
        let command = TransactionCommand::Describe(request);
        let (now, wall) = (Monotonic(self.now), Timestamp(self.now as i64));
        let Ok(described) = self.machine.handle(&command, &self.image, now, wall) else { return };
        let TransactionReply::Described(described) = described.reply else { panic!("{described:?}") };
        if let Some(ended) = described.ended {
            let before = self.ends.insert((ended.identity.producer_id, ended.identity.epoch), ended.committed);
            assert!(before.is_none_or(|before| before == ended.committed), "a decision was taken back");
        }
    }
}

/// What a producer was told of a commit.
struct Told {
    identity: ProducerIdentity,
    committed: bool,
}

/// The way to the coordinator, and what is late on it.
struct World {
    chance: fastrand::Rng,
    calm: bool,
    coordinator: Coordinator,
    late: Vec<TransactionCommand>,
    told: Vec<Told>,
    tally: BTreeMap<&'static str, u64>,
}

impl World {
    fn new(seed: u64) -> Self {
        let coordinator = Coordinator {
            machine: Transactions::new(TransactionLimits::default()),
            image: ClusterImage::default(),
            now: 1_000,
            ids: 0,
            ends: BTreeMap::new(),
        };
        let (chance, calm, late, told) = (fastrand::Rng::with_seed(seed), false, Vec::new(), Vec::new());
        Self { chance, calm, coordinator, late, told, tally: BTreeMap::new() }
    }

    fn trouble(&mut self, one_in: u32) -> bool {
        !self.calm && self.chance.u32(..one_in) == 0
    }

    fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    /// Sends a command; it may be lost, late, doubled, or its answer lost.
    fn send(&mut self, command: &TransactionCommand) -> Result<TransactionReply, ClientError> {
        let lost = |what: &str| ClientError::Disconnected {
            address: crate::Address { host: "broker".into(), port: 9092 },
            reason: what.into(),
        };
        let markers = self.calm || self.chance.bool();
        if self.trouble(30) {
            // Nobody is there for so long that the id is forgotten.
            self.coordinator.pass(200_000, true);
            self.coordinator.pass(TransactionLimits::default().idle_ms, true);
            self.coordinator.pass(1, true);
        }
        let ms = if self.trouble(12) { self.chance.u64(..90_000) } else { self.chance.u64(..20) };
        self.coordinator.pass(ms, markers);
        if self.trouble(4) && !self.late.is_empty() {
            let at = self.chance.usize(..self.late.len());
            let late = self.late.swap_remove(at);
            self.count("late");
            drop(self.coordinator.handle(late));
        }
        if self.trouble(8) {
            self.late.push(command.clone());
            return Err(lost("the request is late"));
        }
        if self.trouble(8) {
            self.count("doubled");
            self.late.push(command.clone());
        }
        let answer = self.coordinator.handle(command.clone());
        if self.trouble(6) {
            self.count("answer lost");
            return Err(lost("the answer is lost"));
        }
        answer
    }

    /// As the shell asks: again until an answer means something, or patience is at its end.
    fn ask<T: Conclusion>(
        &mut self,
        command: &TransactionCommand,
        mut judge: impl FnMut(Result<TransactionReply, ClientError>) -> T,
    ) -> T {
        let patience = if self.calm { 50 } else { self.chance.u32(1..6) };
        for _ in 1..patience {
            let conclusion = judge(self.send(command));
            if conclusion.not_yet().is_none() {
                return conclusion;
            }
        }
        judge(self.send(command))
    }

    fn init(&mut self, current: Option<ProducerIdentity>) -> Initiated {
        let init = Init { transactional_id: ID.into(), timeout_ms: 0, current, fresh_id: None };
        self.ask(&TransactionCommand::Init(init), |answer| {
            Initiated::of(answer.and_then(|reply| match reply {
                TransactionReply::Identity(ProducerIdentity { producer_id, epoch }) => {
                    Ok(InitProducerIdResponse { producer_id, epoch })
                }
                TransactionReply::AbortedFirst => {
                    Err(WireError::new(ErrorCode::ConcurrentTransactions, "it is being ended").into())
                }
                other => panic!("{other:?} answers no Init"),
            }))
        })
    }

    fn end(&mut self, identity: &ProducerIdentity, commit: bool, mut tried: bool) -> Ended {
        let request = EndTransactionRequest { transactional_id: ID.into(), identity: identity.clone(), commit };
        self.ask(&TransactionCommand::End { request, fresh_id: None }, |answer| {
            let answer = answer.map(|reply| match reply {
                TransactionReply::Identity(identity) => EndTransactionResponse { identity },
                other => panic!("{other:?} answers no End"),
            });
            let ended = Ended::of(answer, tried);
            tried |= commit && ended.may_be_done();
            ended
        })
    }

    /// A commit that is concluded, with what it is said to be.
    fn conclude(&mut self, standing: &mut Standing, identity: &ProducerIdentity, tried: bool) {
        let ended = self.end(identity, true, tried);
        standing.ended(identity, true, &ended);
        let committed = match ended {
            Ended::AsAsked(_) => true,
            Ended::Undone(_) | Ended::Fenced(Fenced { in_doubt: false, .. }) => false,
            Ended::Fenced(_) => return self.count("fenced in doubt"),
            Ended::NotYet(_) => return self.count("in doubt"),
            // The coordinator has forgotten it all, whether it was committed or not; what is said is right either way.
            Ended::Unknowable(_) => {
                let end = self.coordinator.ends.get(&(identity.producer_id, identity.epoch));
                let was_committed = end.copied().unwrap_or(false);
                return self.count(if was_committed { "unknown and committed" } else { "unknown and undone" });
            }
            Ended::Never(error) => panic!("{error}"),
        };
        self.count(if committed { "committed" } else { "undone" });
        self.told.push(Told { identity: identity.clone(), committed });
    }

    /// One transaction of a producer, as far as it comes. True where it was committed.
    fn transaction(&mut self, standing: &mut Standing) -> bool {
        if let Standing::InDoubt(identity) = standing.clone()
            && (self.calm || self.chance.bool())
        {
            self.count("settled");
            self.conclude(standing, &identity, true);
        }
        if let Some(question) = standing.question() {
            let outcome = self.init(question);
            assert!(!matches!(outcome, Initiated::Never(_)), "{outcome:?}");
            standing.initiated(&outcome);
        }
        let Standing::Ready(identity) = standing.clone() else { return false };
        *standing = Standing::Unknown(Some(identity.clone()));
        // What a leader asks as it sees the first batch; it asks again until it is answered.
        let add = AddToTransactionRequest {
            transactional_id: ID.into(),
            identity: identity.clone(),
            partitions: Vec::new(),
            groups: vec!["readers".into()],
            only_asks: false,
        };
        for _ in 0..20 {
            self.coordinator.pass(1, true);
            match self.coordinator.handle(TransactionCommand::Add(add.clone())) {
                Ok(_) => break,
                Err(error) if error.is_retriable() => {}
                Err(_) => {
                    self.count("refused");
                    break;
                }
            }
        }
        match self.chance.u32(..6) {
            // Dropped, and the background did not come to it.
            0 if !self.calm => false,
            1 if !self.calm => {
                let ended = self.end(&identity, false, false);
                standing.ended(&identity, false, &ended);
                self.told.push(Told { identity, committed: false });
                false
            }
            _ => {
                let before = self.told.len();
                self.conclude(standing, &identity, false);
                self.told[before..].iter().any(|told| told.committed)
            }
        }
    }
}

#[test]
fn what_a_commit_is_said_to_be_it_is_for_ever() {
    let mut tally: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        let mut producers = vec![Standing::Unknown(None)];
        for _ in 0..40 {
            if world.trouble(15) {
                world.count("takeover");
                producers.push(Standing::Unknown(None));
            }
            let at = world.chance.usize(..producers.len());
            let mut standing = producers[at].clone();
            world.transaction(&mut standing);
            if matches!(standing, Standing::Fenced(_)) {
                world.count("fenced");
            }
            producers[at] = standing;
        }
        world.calm = true;
        let mut last = Standing::Unknown(None);
        let committed = (0..4).filter(|_| world.transaction(&mut last)).count();
        assert!(committed >= 3, "seed {seed}: when the trouble is over a producer goes on, but {last:?}");
        for late in std::mem::take(&mut world.late) {
            drop(world.coordinator.handle(late));
        }
        // The others are fenced by it, but for those that never came to be anybody.
        for standing in producers.iter_mut().filter(|standing| **standing != Standing::Unknown(None)) {
            assert!(!world.transaction(standing), "seed {seed}: a zombie committed");
        }
        for Told { identity, committed } in &world.told {
            let end = world.coordinator.ends.get(&(identity.producer_id, identity.epoch));
            assert_eq!(end.copied().unwrap_or(false), *committed, "seed {seed}: {identity:?}");
        }
        world.tally.into_iter().for_each(|(what, count)| *tally.entry(what).or_default() += count);
    }
    for what in [
        "late",
        "doubled",
        "answer lost",
        "in doubt",
        "settled",
        "committed",
        "undone",
        "takeover",
        "fenced",
        "refused",
        "fenced in doubt",
    ] {
        assert!(tally.get(what).is_some_and(|count| *count > 20), "{what} hardly ever happened: {tally:?}");
    }
    for what in ["unknown and committed", "unknown and undone"] {
        assert!(tally.contains_key(what), "{what} never happened: {tally:?}");
    }
}
