//! Sagas under any interleaving of what can happen: workers that die between any two moments, several that believe that a saga is theirs, tries
//! that come twice, late, or never, answers that are lost, operators that have patience. Each saga ends, and what it leaves behind is right.
//!
//! The log refuses what was decided on another version, as the event store does; the services keep keys with their effects, as the module asks
//! of them. Everything is drawn from one seed, which is printed where it fails.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use tidelog_protocol::Timestamp;

use super::events::{Attempt, SagaEvent, Side};
use super::machine::{Input, Moment, Outcome, decide, resume, start};
use super::machine_rules::plan;
use super::plan::Plan;
use super::state::{Phase, Saga};

const WORKERS: usize = 3;
/// Until then anything happens; after that nothing bad does, so that every saga must end.
const TROUBLE: usize = 120;
const CALM: usize = 2_000;

/// What a service has of one step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Effect {
    /// The key of the action is known: it happened, or was undone before it could.
    is_known: bool,
    is_there: bool,
    /// How often it came about and went.
    made: u32,
    undone: u32,
}

/// A worker and what it knows.
#[derive(Clone, Debug, Default)]
struct Worker {
    /// Drawn anew with each life.
    name: String,
    saga: Saga,
    version: usize,
    inputs: Vec<Input>,
    /// Tries that it waits for.
    runs: Vec<Attempt>,
}

struct World {
    rng: fastrand::Rng,
    plan: Plan,
    log: Vec<SagaEvent>,
    now: i64,
    workers: Vec<Worker>,
    lives: u32,
    effects: Vec<Effect>,
    /// Calls that are on their way to a service, whoever still waits for them.
    calls: Vec<(Attempt, Option<usize>)>,
    /// Attempts that a service was ever called with.
    called: BTreeSet<(u16, Side, u32)>,
    /// The seed has the services refuse these actions.
    refusing: BTreeSet<u16>,
    is_troubled: bool,
    conflicts: u32,
    late: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let shapes: [&[&[&str]]; 5] = [
            &[&["a"]],
            &[&["a"], &["b"], &["c"]],
            &[&["a", "b"], &["c"]],
            &[&["a"], &["b", "!look", "c"], &["d"]],
            &[&["!look"], &["a", "b", "c"], &["d", "e"]],
        ];
        let deadline = rng.bool().then(|| Duration::from_millis(rng.u64(1..20_000)));
        let plan = Plan { deadline, ..plan(shapes[rng.usize(..shapes.len())]) };
        let log = vec![start(&plan, Bytes::new(), Timestamp(0))];
        let steps = plan.steps.len();
        let refusing = (0..steps as u16).filter(|_| rng.u8(..5) == 0).collect();
        let mut world = Self {
            rng,
            plan,
            log,
            now: 0,
            workers: vec![Worker::default(); WORKERS],
            lives: 0,
            effects: vec![Effect::default(); steps],
            calls: Vec::new(),
            called: BTreeSet::new(),
            refusing,
            is_troubled: true,
            conflicts: 0,
            late: 0,
        };
        (0..WORKERS).for_each(|worker| world.begin_life(worker));
        world
    }

    /// What the log says.
    fn stored(&self) -> Saga {
        let mut saga = Saga::default();
        self.log.iter().for_each(|event| saga.apply(event));
        saga
    }

    fn begin_life(&mut self, worker: usize) {
        self.lives += 1;
        // Answers to who lived here before find nobody.
        for (_, waiting) in &mut self.calls {
            *waiting = waiting.filter(|waiting| *waiting != worker);
        }
        self.workers[worker] = Worker { name: self.lives.to_string(), ..Worker::default() };
        self.look(worker);
    }

    /// A worker reads the log; what it waits for goes on.
    fn look(&mut self, worker: usize) {
        let (saga, version) = (self.stored(), self.log.len());
        let worker = &mut self.workers[worker];
        let ended = worker.inputs.iter().filter_map(|input| match input {
            Input::Ended { attempt, .. } => Some(attempt.clone()),
            _ => None,
        });
        let own = worker.runs.iter().cloned().chain(ended).collect();
        worker.inputs.retain(|input| matches!(input, Input::Ended { .. }));
        worker.inputs.insert(0, Input::TakenUp { own });
        (worker.saga, worker.version) = (saga, version);
    }

    /// A worker decides on what has come. `survives` says what it lives to see of that.
    fn act(&mut self, at: usize, survives: bool) {
        let worker = &mut self.workers[at];
        let input = if worker.inputs.is_empty() { Input::Wake } else { worker.inputs.remove(0) };
        let name = worker.name.clone();
        let moment =
            Moment { now: Timestamp(self.now), jitter: self.rng.f64(), worker: &name, may_begin: self.rng.u8(..4) > 0 };
        let commands = decide(&self.plan, &worker.saga, input.clone(), &moment);
        if !commands.events.is_empty() && worker.version != self.log.len() {
            self.conflicts += 1;
            self.workers[at].inputs.insert(0, input);
            return self.look(at);
        }
        self.log.extend(commands.events.iter().cloned());
        if !survives {
            // Stored, and nobody heard of it.
            return self.begin_life(at);
        }
        let worker = &mut self.workers[at];
        worker.version += commands.events.len();
        commands.events.iter().for_each(|event| worker.saga.apply(event));
        for run in commands.runs {
            worker.runs.push(run.attempt.clone());
            self.calls.push((run.attempt, Some(at)));
        }
    }

    /// A call arrives. `is_heard` says whether its answer does; where it is kept it arrives once more.
    fn arrive(&mut self, is_heard: bool, is_kept: bool) {
        if self.calls.is_empty() {
            return;
        }
        let at = self.rng.usize(..self.calls.len());
        let (attempt, waiting) = if is_kept {
            let call = self.calls[at].clone();
            self.calls[at].1 = None;
            call
        } else {
            self.calls.swap_remove(at)
        };
        self.called.insert((attempt.step, attempt.side, attempt.number));
        let outcome = self.serve(&attempt);
        let Some(waiting) = waiting.filter(|_| is_heard) else { return };
        let worker = &mut self.workers[waiting];
        if let Some(place) = worker.runs.iter().position(|run| *run == attempt) {
            worker.runs.remove(place);
            worker.inputs.push(Input::Ended { attempt, outcome });
        }
    }

    /// A service, which keeps keys with effects.
    fn serve(&mut self, attempt: &Attempt) -> Outcome {
        let effect = &mut self.effects[usize::from(attempt.step)];
        match attempt.side {
            Side::Action if effect.is_known => {
                self.late += u32::from(!effect.is_there);
            }
            Side::Action if self.refusing.contains(&attempt.step) => return Outcome::Refused("no".into()),
            Side::Action => *effect = Effect { is_known: true, is_there: true, made: effect.made + 1, ..*effect },
            Side::Compensation if self.is_troubled && self.rng.u8(..3) == 0 => {
                return if self.rng.u8(..4) == 0 {
                    Outcome::Refused("not now".into())
                } else {
                    Outcome::Failed("not now".into())
                };
            }
            Side::Compensation => {
                effect.undone += u32::from(effect.is_there);
                (effect.is_known, effect.is_there) = (true, false);
            }
        }
        Outcome::Succeeded(Bytes::new())
    }

    /// A worker gives up waiting for a try, which goes on.
    fn time_out(&mut self) {
        let worker = &mut self.workers[self.rng.usize(..WORKERS)];
        if let Some(attempt) = worker.runs.pop() {
            worker.inputs.push(Input::Ended { attempt, outcome: Outcome::Failed("no answer".into()) });
        }
    }

    fn trouble(&mut self) {
        let worker = self.rng.usize(..WORKERS);
        match self.rng.u8(..20) {
            0 => self.begin_life(worker),
            1 => self.act(worker, false),
            2 => self.look(worker),
            3..=4 => self.time_out(),
            5 => self.arrive(false, false),
            6 => self.arrive(true, true),
            7..=11 => self.arrive(true, false),
            12..=13 => self.now += self.rng.i64(0..3_000),
            _ => self.act(worker, true),
        }
    }

    /// One worker is left, nothing is lost, time passes, and an operator has parked sagas tried again.
    fn calm(&mut self) {
        if self.workers[0].version != self.log.len() {
            self.look(0);
        }
        let saga = self.stored();
        if saga.parked.is_some()
            && let Ok(resumed) = resume(&saga, Timestamp(self.now))
        {
            self.log.push(resumed);
            self.look(0);
        }
        self.act(0, true);
        self.arrive(true, false);
        // What was called by workers that are gone never answers; what this one waits for and was lost, it gives up.
        let lost = |attempt: &Attempt, calls: &[(Attempt, Option<usize>)]| {
            !calls.iter().any(|(call, waiting)| call == attempt && *waiting == Some(0))
        };
        if let Some(place) = self.workers[0].runs.iter().position(|run| lost(run, &self.calls)) {
            let attempt = self.workers[0].runs.remove(place);
            self.workers[0].inputs.push(Input::Ended { attempt, outcome: Outcome::Failed("no answer".into()) });
        }
        self.now += 500;
    }

    fn check(&mut self, seed: u64) {
        let saga = self.stored();
        assert!(saga.phase.is_end(), "seed {seed}: it never ended: {saga:?}");
        assert_ne!(saga.phase, Phase::Abandoned, "seed {seed}");
        // Everything that is still on its way arrives in the end.
        while !self.calls.is_empty() {
            self.arrive(false, false);
        }
        let began: BTreeSet<(u16, Side, u32)> = self.began().into_iter().collect();
        for call in &self.called {
            assert!(began.contains(call), "seed {seed}: a call that nobody stored: {call:?}");
        }
        let numbers: BTreeMap<(u16, Side), u32> =
            began.iter().map(|(step, side, number)| ((*step, *side), *number)).collect();
        assert_eq!(self.began().len(), began.len(), "seed {seed}: one try began twice, {numbers:?}");
        for (at, effect) in self.effects.iter().enumerate() {
            let name = &self.plan.steps[at].name;
            assert!(effect.made <= 1, "seed {seed}: {name} was done {} times", effect.made);
            let is_undone = self.plan.steps[at].compensation.is_some();
            let is_there = saga.phase == Phase::Done || (effect.made == 1 && !is_undone);
            assert_eq!(effect.is_there, is_there, "seed {seed}: {name} is {effect:?} with {:?}", saga.phase);
        }
        self.check_compensations(seed, &saga);
    }

    fn began(&self) -> Vec<(u16, Side, u32)> {
        let began = self.log.iter().filter_map(|event| match event {
            SagaEvent::Began(began) => Some((began.attempt.step, began.attempt.side, began.attempt.number)),
            _ => None,
        });
        began.collect()
    }

    /// Exactly what may have happened is undone, the latest first, and after everything that is done.
    fn check_compensations(&self, seed: u64, saga: &Saga) {
        let mut doubtful = BTreeSet::new();
        let mut undone = BTreeSet::new();
        let mut stage = u16::MAX;
        for event in &self.log {
            match event {
                SagaEvent::Succeeded(it) if it.attempt.side == Side::Action => {
                    doubtful.insert(it.attempt.step);
                }
                SagaEvent::Failed(it) if it.attempt.side == Side::Action && it.is_doubtful => {
                    doubtful.insert(it.attempt.step);
                }
                SagaEvent::Interrupted(it) if it.attempt.side == Side::Action => {
                    doubtful.insert(it.attempt.step);
                }
                SagaEvent::Began(it) if it.attempt.side == Side::Compensation => {
                    let step = &self.plan.steps[usize::from(it.attempt.step)];
                    assert!(doubtful.contains(&it.attempt.step), "seed {seed}: {} never happened", step.name);
                    assert!(step.stage <= stage, "seed {seed}: {} is undone after what came before it", step.name);
                    stage = step.stage;
                    undone.insert(it.attempt.step);
                }
                SagaEvent::Began(it) => assert!(undone.is_empty(), "seed {seed}: {:?} is done while it goes back", it),
                _ => {}
            }
        }
        let expected: BTreeSet<u16> = match saga.phase {
            Phase::Compensated => {
                let is_undone = |step: &u16| self.plan.steps[usize::from(*step)].compensation.is_some();
                doubtful.into_iter().filter(is_undone).collect()
            }
            _ => BTreeSet::new(),
        };
        assert_eq!(undone, expected, "seed {seed}: {:?}", saga.phase);
    }
}

#[test]
fn every_saga_ends_and_leaves_behind_what_it_should_whatever_happens() {
    let from = std::env::var("TEST_SEED").ok().map(|seed| seed.parse::<u64>().expect("a seed is a number"));
    let count = if from.is_some() { 1 } else { 10_000 };
    let first = from.unwrap_or_else(|| fastrand::u64(..u64::MAX / 2));
    println!("every_saga_ends_and_leaves_behind_what_it_should_whatever_happens: TEST_SEED={first}");
    let (mut done, mut compensated, mut parked, mut conflicts, mut late) = (0, 0, 0, 0, 0);
    for seed in (first..).take(count) {
        let mut world = World::new(seed);
        (0..TROUBLE).for_each(|_| world.trouble());
        world.is_troubled = false;
        let mut left = CALM;
        while !world.stored().phase.is_end() && left > 0 {
            world.calm();
            left -= 1;
        }
        world.check(seed);
        done += usize::from(world.stored().phase == Phase::Done);
        compensated += usize::from(world.stored().phase == Phase::Compensated);
        parked += usize::from(world.log.iter().any(|event| matches!(event, SagaEvent::Parked(_))));
        conflicts += world.conflicts;
        late += world.late;
    }
    println!(
        "{done} done, {compensated} compensated, {parked} of them parked before; {conflicts} conflicts, {late} late actions"
    );
    if from.is_none() {
        assert!(done > 500 && compensated > 500 && parked > 200, "not everything happened");
        assert!(conflicts > 1_000 && late > 100, "not everything happened");
    }
}
