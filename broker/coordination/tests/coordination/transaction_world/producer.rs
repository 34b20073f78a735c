//! A transactional producer of the simulation, which keeps to the contract of a client: it commits only what was taken, does not change its
//! mind once it asked for a commit, and stops when another has its place. Paused, it is a zombie that goes on where it was. Knows nothing of the
//! coordinator but what it is told.

use std::collections::BTreeSet;

use tidelog_coordination::transactions::{Init, TransactionCommand, TransactionReply};
use tidelog_protocol::messages::EndTransactionRequest;
use tidelog_protocol::{ErrorCode, ProducerEpoch};

use super::oracle::Oracle;
use super::place::{Batch, Place};
use super::{Answer, Scene, TransactionId, identity};

/// What it does.
#[derive(Clone, Debug)]
enum Phase {
    /// Asks who it is.
    Asking { current: Option<TransactionId> },
    /// Between transactions.
    Idle { until: u64 },
    /// Writes; these are not taken yet.
    Writing { missing: BTreeSet<(usize, u64)>, gives_up_at: u64 },
    /// Ends.
    Ending { commit: bool },
    /// Another has its place, or it crashed.
    Stopped,
}

/// Something that leaves.
pub enum Sent {
    Command(u64, TransactionCommand),
    Batch(usize, Batch),
}

pub struct Producer {
    pub id: &'static str,
    pub stalled_until: u64,
    pub commits: u64,
    phase: Phase,
    /// What the present phase is asked under: answers to what was asked before it say nothing.
    question: u64,
    identity: TransactionId,
    retry_at: u64,
    timeout_ms: u32,
    was_stalled: bool,
}

impl Producer {
    pub fn new(id: &'static str, number: u64, timeout_ms: u32) -> Self {
        Self {
            id,
            stalled_until: 0,
            commits: 0,
            phase: Phase::Asking { current: None },
            question: number,
            identity: (tidelog_protocol::ProducerId(-1), ProducerEpoch(-1)),
            retry_at: 0,
            timeout_ms,
            was_stalled: false,
        }
    }

    pub const fn is_running(&self) -> bool {
        !matches!(self.phase, Phase::Stopped)
    }

    pub fn stop(&mut self) {
        self.phase = Phase::Stopped;
    }

    pub fn tick(&mut self, scene: &mut Scene) -> Vec<Sent> {
        if scene.now < self.stalled_until || !self.is_running() {
            self.was_stalled = self.is_running();
            return Vec::new();
        }
        let mut sent = Vec::new();
        if std::mem::take(&mut self.was_stalled) && self.identity.1.0 >= 0 {
            // A zombie: it goes on where it was, and says once more what it may have said.
            self.retry_at = 0;
            let places = scene.places_there();
            let place = &scene.places[places[scene.chance.below(places.len() as u64) as usize]];
            let request = super::add_request(self.id, self.identity, &place.name);
            sent.push(Sent::Command(u64::MAX, TransactionCommand::Add(request)));
        }
        if let Phase::Idle { until } = self.phase
            && scene.now >= until
        {
            self.begin(scene);
        }
        if let Phase::Writing { missing, gives_up_at } = &self.phase {
            if missing.is_empty() {
                let commit = scene.chance.below(4) > 0;
                self.end(commit, scene);
            } else if scene.now >= *gives_up_at {
                self.give_up(scene);
            }
        }
        if scene.now >= self.retry_at {
            // A new producer that asks twice who it is takes its own place: when all is well, nobody asks twice.
            let patience_ms = if scene.is_calm { 5_000 } else { 300 };
            self.retry_at = scene.now + patience_ms + scene.chance.below(700);
            sent.extend(self.ask(&mut scene.oracle));
        }
        sent
    }

    /// What is unanswered.
    fn ask(&self, oracle: &mut Oracle) -> Vec<Sent> {
        match &self.phase {
            Phase::Asking { current } => {
                if let Some(current) = current {
                    oracle.asks(*current, false);
                }
                let init = Init {
                    transactional_id: self.id.into(),
                    timeout_ms: self.timeout_ms,
                    current: current.map(Place::wire_identity),
                    fresh_id: None,
                };
                vec![Sent::Command(self.question, TransactionCommand::Init(init))]
            }
            Phase::Writing { missing, .. } => {
                let batch = |(at, number): &(usize, u64)| {
                    Sent::Batch(*at, Batch { id: self.id, by: self.identity, number: *number })
                };
                missing.iter().map(batch).collect()
            }
            Phase::Ending { commit } => {
                oracle.asks(self.identity, *commit);
                let request = EndTransactionRequest {
                    transactional_id: self.id.into(),
                    identity: Place::wire_identity(self.identity),
                    commit: *commit,
                };
                vec![Sent::Command(self.question, TransactionCommand::End { request, fresh_id: None })]
            }
            Phase::Idle { .. } | Phase::Stopped => Vec::new(),
        }
    }

    fn begin(&mut self, scene: &mut Scene) {
        let places = scene.places_there();
        let mut missing = BTreeSet::new();
        for _ in 0..scene.chance.below(6) {
            scene.numbers += 1;
            missing.insert((places[scene.chance.below(places.len() as u64) as usize], scene.numbers));
        }
        scene.oracle.means(self.identity, missing.iter().copied());
        self.phase = Phase::Writing { missing, gives_up_at: scene.now + 2_000 + scene.chance.below(3_000) };
        self.retry_at = 0;
    }

    fn end(&mut self, commit: bool, scene: &mut Scene) {
        self.enter(Phase::Ending { commit }, scene);
        scene.oracle.asks(self.identity, commit);
    }

    fn give_up(&mut self, scene: &mut Scene) {
        if scene.chance.below(3) == 0 {
            self.enter(Phase::Asking { current: Some(self.identity) }, scene);
        } else {
            self.end(false, scene);
        }
    }

    fn enter(&mut self, phase: Phase, scene: &mut Scene) {
        scene.numbers += 1;
        (self.phase, self.question, self.retry_at) = (phase, scene.numbers, 0);
    }

    fn is_now(&mut self, identity: TransactionId, scene: &mut Scene) {
        self.identity = identity;
        let wait = if scene.chance.below(30) == 0 && !scene.is_calm { 25_000 } else { scene.chance.below(300) };
        self.phase = Phase::Idle { until: scene.now + wait };
    }

    /// What became of a batch.
    pub fn hear_of_batch(&mut self, batch: &Batch, at: usize, answer: Result<(), ErrorCode>, scene: &mut Scene) {
        if scene.now < self.stalled_until || batch.by != self.identity {
            return;
        }
        let Phase::Writing { missing, .. } = &mut self.phase else { return };
        match answer {
            Ok(()) => drop(missing.remove(&(at, batch.number))),
            Err(ErrorCode::TransactionFenced) => {
                scene.tally.fenced += 1;
                self.stop();
            }
            Err(ErrorCode::ProducerFenced) => {
                scene.tally.fenced_on_places += 1;
                self.give_up(scene);
            }
            Err(ErrorCode::ConcurrentTransactions) => scene.tally.concurrent += 1,
            Err(ErrorCode::InvalidTransactionState | ErrorCode::UnknownTransaction | ErrorCode::UnknownTopic) => {
                self.give_up(scene);
            }
            Err(other) => panic!("{other} for a batch"),
        }
    }

    pub fn hear(&mut self, question: u64, answer: Answer, scene: &mut Scene) {
        if scene.now < self.stalled_until || question != self.question {
            return;
        }
        match (self.phase.clone(), answer) {
            (Phase::Asking { .. }, Answer::Reply(TransactionReply::Identity(told))) => {
                self.is_now(identity(&told), scene);
            }
            (Phase::Ending { commit }, Answer::Reply(TransactionReply::Identity(told))) => {
                scene.oracle.is_answered(self.identity, commit);
                if commit {
                    self.commits += 1;
                    scene.tally.commits += 1;
                } else {
                    scene.tally.aborts += 1;
                }
                self.is_now(identity(&told), scene);
            }
            (_, Answer::Reply(TransactionReply::AbortedFirst)) => scene.tally.aborted_first += 1,
            (_, Answer::Refused(ErrorCode::ConcurrentTransactions)) => scene.tally.concurrent += 1,
            (_, Answer::Refused(ErrorCode::TransactionFenced)) => {
                scene.tally.fenced += 1;
                self.stop();
            }
            (Phase::Ending { commit: true }, Answer::Refused(ErrorCode::InvalidTransactionState)) => {
                scene.tally.commits_too_late += 1;
                scene.oracle.is_answered(self.identity, false);
                self.end(false, scene);
            }
            (Phase::Ending { .. }, Answer::Refused(ErrorCode::UnknownTransaction)) => {
                scene.tally.forgotten += 1;
                self.enter(Phase::Asking { current: Some(self.identity) }, scene);
            }
            (Phase::Idle { .. } | Phase::Writing { .. } | Phase::Stopped, _) => {}
            (phase, answer) => panic!("{answer:?} to {phase:?}"),
        }
    }
}
